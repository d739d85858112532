from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from flagledger.journal.sqlite import SqliteJournal
from flagledger.store.duckdb.file import log_of
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.writer import Writer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ERASER = Path(__file__).with_name("eraser.py")
TESTS = Path(__file__).parents[1]

# Where the process dies: what it has just done, and how often.
POINTS = {
    "erased in the log": "flagledger.store.duckdb.erase:erase_identity",
    "erased in the file": "flagledger.store.duckdb.store:DuckDBStore.erase_identity",
    "trimmed in part": "flagledger.journal.trimmer:Trimmer._slice",
    "overwritten in part": "flagledger.journal.trimmer:Trimmer._fill_slice",
    "trimmed and overwritten": "flagledger.journal.trimmer:Trimmer.erase",
}


def live(directory: Path, *, point: str = "", seconds: float | None = None) -> list[str]:
    """Let a process record and erase until it is killed, at *point* or after *seconds*; return what it said."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(
        [sys.executable, str(ERASER), str(directory), point], stdout=subprocess.PIPE, text=True, env=environment
    ) as eraser:
        assert eraser.stdout is not None
        said = []
        killer = threading.Timer(seconds or 0.0, eraser.send_signal, [signal.SIGKILL])
        for line in eraser.stdout:
            # A line that the kill has cut has no end.
            if line.endswith("\n"):
                said.append(line.strip())
            if said and seconds is not None and killer.ident is None:
                killer.start()
        killer.cancel()
        code = eraser.wait()
    assert -signal.SIGKILL == code
    return said


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for *condition*, and fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def words(said: list[str], verb: str) -> list[str]:
    """Return what *verb* was said of, in order."""
    return [word for line in said for word in line.split()[1:] if line.split()[0] == verb]


def rows_of(path: Path) -> dict[str, int]:
    """Return how many rows each identity has in the store at *path*, which nobody holds."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return dict(connection.execute("SELECT identity_identifier, count(*) FROM evaluations GROUP BY 1").fetchall())


def check(directory: Path, said: list[str]) -> None:
    """Hold what is on disk against what was *said*; see eraser.py."""
    recorded, ordered, erased = words(said, "recorded"), set(words(said, "ordering")), set(words(said, "erased"))
    path = directory / "store.duckdb"
    for log in directory.glob(f"{log_of(path).name}*"):
        # An answer holds also where the store loses its log.
        log.unlink()
    journal = SqliteJournal.open(directory / "journal.db", max_bytes=1 << 30, reserve_bytes=0)
    writer = Writer(journal, lambda: DuckDBStore(path))
    writer.start()
    last = journal.last_position()
    until(lambda: writer.opened and writer.position() == last)
    writer.stop()
    found = rows_of(path)
    assert set() == erased & set(found)
    # Of the batch in flight it is not known which way it went.
    for name in set(recorded) - ordered:
        assert 0 <= found[name] - recorded.count(name) <= 1
    files = b"".join(file.read_bytes() for file in directory.glob("journal.db*"))
    assert [] == [name for name in erased if name.encode() in files]

    # Ordered again, it is finished.
    writer = Writer(journal, lambda: DuckDBStore(path))
    writer.start()
    until(lambda: writer.opened)
    for name in set(found) - {"bob"} | ordered:
        writer.erase("production", name)
    writer.stop()
    journal.close()
    assert {"bob"} == set(rows_of(path))
    files = b"".join(file.read_bytes() for file in directory.glob("journal.db*"))
    assert b"identity-" not in files


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_of_an_order(tmp_path: Path, point: str) -> None:
    """Wherever an order ends, what was answered stays erased, what was not is whole or gone, and ordered again is gone."""
    said = live(tmp_path, point=POINTS[point])

    assert any(line.startswith("recorded") for line in said)
    check(tmp_path, said)


@pytest.mark.parametrize("seed", range(8))
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    """The same at a moment of chance, among many orders and batches."""
    said = live(tmp_path, seconds=random.Random(seed).uniform(0.1, 1.5))

    check(tmp_path, said)
