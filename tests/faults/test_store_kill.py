from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest
from flagledger.store.duckdb.file import log_of
from flagledger.store.duckdb.store import DuckDBStore

APPLIER = Path(__file__).with_name("store_applier.py")
TESTS = Path(__file__).parents[1]


def kill_while_applying(path: Path, evaluations: int, entries: int, seconds: float) -> tuple[int, int]:
    """Kill an applier *seconds* after its first transaction; return the positions it said were applied and trimmable."""
    said = {"applied": 0, "trimmable": 0}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, str(APPLIER), str(path), str(evaluations), str(entries)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as applier:
        assert applier.stdout is not None
        killer = threading.Timer(seconds, applier.send_signal, [signal.SIGKILL])
        for line in applier.stdout:
            # A line that the kill has cut has no end.
            if line.endswith("\n"):
                what, position = line.split()
                said[what] = int(position)
            if not killer.is_alive() and killer.ident is None:
                killer.start()
        killer.cancel()
        code = applier.wait()
    assert -signal.SIGKILL == code
    assert said["applied"] > 0
    return said["applied"], said["trimmable"]


def recorded(path: Path) -> tuple[int, int]:
    """Return how many rows there are, and how many distinct positions they have."""
    with duckdb.connect(str(path), read_only=True) as connection:
        ((rows, positions),) = connection.execute(
            "SELECT count(*), count(DISTINCT position) FROM evaluations"
        ).fetchall()
    return rows, positions


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("evaluations", "entries", "rounds"),
    [
        pytest.param(7, 3, 12, id="through the log"),
        # More than a row group: these rows are in the file before they are committed.
        pytest.param(1_000, 130, 6, id="past the log"),
    ],
)
def test_a_killed_store_holds_whole_transactions(tmp_path: Path, evaluations: int, entries: int, rounds: int) -> None:
    """Killed at any moment, over and over, the store holds what it said was applied, each entry whole and once."""
    path, chance = tmp_path / "store.duckdb", random.Random(evaluations)
    for _ in range(rounds):
        applied, _ = kill_while_applying(path, evaluations, entries, chance.uniform(0.0, 0.6))

        store = DuckDBStore(path)
        position = store.position("journal")
        store.close()

        assert position >= applied
        assert (position * evaluations, position * evaluations) == recorded(path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_store_without_its_log_holds_what_was_trimmable(tmp_path: Path) -> None:
    """Killed at any moment and robbed of its log, the store is no further back than what it had let the journal forget."""
    path, chance = tmp_path / "store.duckdb", random.Random(3)
    for _ in range(10):
        _, trimmable = kill_while_applying(path, 7, 3, chance.uniform(0.0, 0.6))
        for log in path.parent.glob(f"{log_of(path).name}*"):
            log.unlink()

        store = DuckDBStore(path)
        position = store.position("journal")
        store.close()

        assert position >= trimmable
        assert (position * 7, position * 7) == recorded(path)
