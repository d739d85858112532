"""A writer that is killed anywhere while it applies, and what the next one finds and makes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from store.clickhouse import killed
from support.chdb import require_chdb

ENTRIES = killed.LAST - killed.KNOWN
SEEN_BEFORE = killed.KNOWN * killed.ROWS
SEEN_AFTER = killed.LAST * killed.ROWS
NOTHING_BEGUN: dict[str, Any] = {
    "position": killed.KNOWN,
    "begun": None,
    "seen": SEEN_BEFORE,
    "features": [SEEN_BEFORE],
}
BEGUN = NOTHING_BEGUN | {"begun": killed.LAST}
EVERYTHING: dict[str, Any] = {"position": killed.LAST, "begun": None, "seen": SEEN_AFTER, "features": [SEEN_AFTER]}
STEPS = {
    "before boundary": NOTHING_BEGUN,
    "after boundary": BEGUN,
    "after evaluations": BEGUN,
    "after discards": BEGUN,
    "after quarantine": BEGUN,
    "before commit": BEGUN,
    "after commit": EVERYTHING,
}
"""What the next one finds, by where the one before was killed."""


def run(*arguments: str) -> subprocess.Popen[str]:
    """Start a process that applies, or looks and applies again."""
    tests = Path(killed.__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, killed.__file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )


def begin(folder: Path, point: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that applies and dies at *point*; return it before it does, and the folder that rows come into."""
    process = run("apply", str(folder), point)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def go_on(process: subprocess.Popen[str]) -> None:
    """Let *process* apply what it dies of."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def died(process: subprocess.Popen[str]) -> None:
    """Wait until *process* was killed."""
    process.communicate(timeout=60)
    assert process.returncode == -9


def resent(folder: Path) -> dict[str, Any]:
    """Return what the next one finds, and what there is once it has applied again what was begun."""
    process = run("resend", str(folder))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return dict(json.loads(output))


def parts(data: Path) -> int:
    """Return how many parts of a day each are in the folder *data*, whole."""
    return sum(entry.name[:8].isdigit() for entry in os.scandir(data))


def check_after(after: dict[str, Any]) -> None:
    """Check that everything is there, once."""
    counts = after.pop("counts")
    assert EVERYTHING == after
    assert {
        "evaluations": [SEEN_AFTER, SEEN_AFTER],
        "discards": [killed.LAST, killed.LAST],
        "quarantine": [2, 2],
    } == counts


@pytest.mark.slow
@pytest.mark.parametrize("point", STEPS)
def test_killed_between_two_steps(tmp_path: Path, point: str) -> None:
    """Killed between any two steps, what was begun is known by its ends and seen by nobody; sent again, it is there once."""
    require_chdb()
    process, _ = begin(tmp_path / "chdb", point)
    go_on(process)
    died(process)

    found = resent(tmp_path / "chdb")

    found["before"].pop("counts")
    assert STEPS[point] == found["before"]
    check_after(found["after"])


@pytest.mark.slow
@pytest.mark.parametrize("days", [1, 8, 16, 30])
def test_killed_within_the_insert(tmp_path: Path, days: int) -> None:
    """Killed when some days of the range are there and others are not, the rest is recorded by sending the same again."""
    require_chdb()
    process, data = begin(tmp_path / "chdb", "after evaluations")
    before = parts(data)
    go_on(process)
    deadline = time.monotonic() + 30
    while parts(data) < before + days and process.poll() is None:
        assert time.monotonic() < deadline
    process.kill()
    died(process)

    found = resent(tmp_path / "chdb")

    partly = found["before"].pop("counts")["evaluations"][0]
    assert BEGUN == found["before"]
    assert SEEN_BEFORE + days * killed.ROWS <= partly < SEEN_AFTER, "it was killed too late"
    check_after(found["after"])
