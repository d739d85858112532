from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from flagledger.store.sink_progress import ProgressFile
from support import fed
from support.influxd import influxd
from support.influxdb_stub import InfluxStub, influxdb_stub

PROCESS = Path(__file__).with_name("feeder_process.py")
TESTS = Path(__file__).parents[1]


def feed(url: str, folder: Path, entries: int, *, steps: int | None = None, seconds: float | None = None) -> bool:
    """Feed until all was sent, or it is killed: by itself behind *steps*, by us after *seconds*; return whether all was."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    arguments = [url, str(folder), str(entries), *([] if steps is None else [str(steps)])]
    with subprocess.Popen(
        [sys.executable, str(PROCESS), *arguments], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        killer = threading.Timer(seconds or 0.0, process.send_signal, [signal.SIGKILL])
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if said == ["feeding"] and seconds is not None:
                killer.start()
        killer.cancel()
        code = process.wait()
    assert code in ((0, -signal.SIGKILL) if steps is not None or seconds is not None else (0,)), said
    return code == 0


def sums_of(stub: InfluxStub) -> Counter[fed.Key]:
    """Return the sums by tags of what *stub* was sent, as a real one shows them."""
    sums: Counter[fed.Key] = Counter()
    for tags, total in stub.sums().items():
        named = dict(tags)
        sums[named["environment"], named["feature"], named["enabled"], named.get("variant", "")] += total
    return sums


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_every_step(tmp_path: Path) -> None:
    """Killed with SIGKILL behind each of its steps and started again, what was begun is sent as it was: sums are exact."""
    for steps in itertools.count():
        folder = tmp_path / str(steps)
        folder.mkdir()
        with influxdb_stub() as stub:
            url = f"influxdb://127.0.0.1:{stub.port}/flags"
            whole = feed(url, folder, 8, steps=steps)
            # The store has grown meanwhile: what is read again must not end elsewhere.
            feed(url, folder, 11)

            assert fed.expected(11) == sums_of(stub), steps
        if whole:
            break
    # Two ranges of two saves and a post each.
    assert 2 * (2 * 3 * 2 + 2) == steps


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Killed over and over while it feeds a real InfluxDB, and started again: sums are exact, nothing missing or doubled."""
    chance, entries = random.Random(6), 400
    folder = tmp_path / "influxdb"
    folder.mkdir()
    with influxd(folder) as server:
        server.ask("CREATE DATABASE flags")
        url = f"influxdb://127.0.0.1:{server.port}/flags"
        kills = 0
        while kills < 10 and not feed(url, tmp_path, entries, seconds=chance.uniform(0.0, 0.7)):
            kills += 1
        began = ProgressFile(tmp_path / "sink.json", fed.STREAM, f"127.0.0.1:{server.port}/flags").load().position
        feed(url, tmp_path, entries)

        assert fed.expected(entries) == server.sums("flags")
    assert kills >= 5
    assert 0 < began
