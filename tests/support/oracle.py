"""The outside oracle of `faults/oracle.py`, and what a service holds of what it sent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.reading import evaluations, wait_for_total
from support.server import RunningServer

CLIENT_KEY = "demo-client-key"
ENVIRONMENTS = f"""
[[environments]]
name = "demo"
keys = ["{CLIENT_KEY}"]
features = ["new_dashboard"]

[[tokens]]
token = "an-admin-token"
role = "admin"
"""
ADMIN_TOKEN = "an-admin-token"
NOTHING_WRONG = {"lost": 0, "duplicated": 0, "invented": 0, "altered": 0}

_SCRIPT = Path(__file__).parents[1] / "faults" / "oracle.py"
_CATCH_UP_SECONDS = 60.0


class Oracle:
    """Sends to a service, over both protocols, from a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, server: RunningServer) -> None:
        """Say where the service is now; the first time it begins to send."""
        self._tell(server.ready)

    def finish(self) -> dict[str, Any]:
        """Let it get acknowledged what is open, and return what it sent and what was acknowledged."""
        self._tell({})
        assert self._process.stdout is not None
        result: dict[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def _tell(self, told: dict[str, str]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()


@contextmanager
def oracle() -> Iterator[Oracle]:
    """Yield an oracle, which is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, str(_SCRIPT), CLIENT_KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Oracle(process)
    finally:
        process.kill()
        process.communicate()


def environments_file(folder: Path) -> Path:
    """Return an environments file with the oracle's key and one feature."""
    path = folder / "environments.toml"
    path.write_text(ENVIRONMENTS)
    return path


def compared(server: RunningServer, result: dict[str, Any]) -> dict[str, int]:
    """Return how much of what an oracle was acknowledged is lost, there twice, invented or altered, once all is applied."""
    count = result["evaluations"]
    expected = {f"{batch_id}/{index}" for batch_id in result["acknowledged"] for index in range(count)}
    sent = {f"{batch_id}/{index}" for batch_id in result["sent"] for index in range(count)}
    wait_for_total(server, len(expected), seconds=_CATCH_UP_SECONDS)
    found: Counter[str] = Counter()
    altered = 0
    for evaluation in evaluations(server):
        found[evaluation["identity_identifier"]] += 1
        altered += evaluation["value"] != evaluation["identity_identifier"]
    return {
        "lost": len(expected - found.keys()),
        "duplicated": sum(times > 1 for times in found.values()),
        "invented": len(found.keys() - sent),
        "altered": altered,
    }
