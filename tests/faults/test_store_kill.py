from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flagledger.store.duckdb.file import log_of
from flagledger.store.duckdb.store import DuckDBStore
from store import stores
from support.records import START, add_evaluation, record_of, value_of

APPLIER = Path(__file__).with_name("store_applier.py")
COPIER = Path(__file__).with_name("store_copier.py")
TESTS = Path(__file__).parents[1]
LOOK_SECONDS = 120

pytestmark = pytest.mark.slow


@contextmanager
def started(script: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start *script* in a process of its own, which is gone in the end."""
    environment = stores.for_processes() | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    }
    with subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines(process: subprocess.Popen[str]) -> Iterator[list[str]]:
    """Yield the words of what *process* prints, as it comes; a line that a kill has cut has no end and is left out."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.endswith("\n") and not line.startswith(("{", "20")):
            yield line.split()


def kill_while_applying(kind: str, place: Path, evaluations: int, entries: int, seconds: float) -> tuple[int, int]:
    """Kill an applier *seconds* after its first range; return the positions it said were applied and trimmable."""
    said = {"applied": 0, "trimmable": 0}
    with started(APPLIER, kind, place, evaluations, entries) as applier:
        killer = threading.Timer(seconds, applier.send_signal, [signal.SIGKILL])
        for what, position in lines(applier):
            said[what] = int(position)
            if killer.ident is None:
                killer.start()
        killer.cancel()
        code = applier.wait()
    assert -signal.SIGKILL == code
    assert said["applied"] > 0
    return said["applied"], said["trimmable"]


def look(kind: str, place: Path, evaluations: int, entries: int) -> tuple[int, int, int]:
    """Return position, rows and distinct positions of rows, once what was begun is applied, and some of it again."""
    with started(APPLIER, kind, place, evaluations, entries, "look") as looker:
        output, _ = looker.communicate(timeout=LOOK_SECONDS)
    assert 0 == looker.returncode
    position, rows, positions = map(int, output.splitlines()[-1].split())
    return position, rows, positions


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", stores.kinds())
@pytest.mark.parametrize(
    ("evaluations", "entries", "rounds", "longest"),
    [
        pytest.param(7, 3, 10, 0.6, id="small ranges"),
        # In DuckDB more than a row group: these rows are in the file before they are committed.
        pytest.param(1_000, 130, 5, 1.5, id="large ranges"),
    ],
)
def test_a_killed_store_holds_whole_ranges(
    tmp_path: Path, kind: str, evaluations: int, entries: int, rounds: int, longest: float
) -> None:
    """Killed at any moment, over and over, the store holds what it said was applied, each entry whole and once."""
    stores.url_of(kind, tmp_path)
    place, chance = tmp_path / "store", random.Random(evaluations)
    for _ in range(rounds):
        applied, _ = kill_while_applying(kind, place, evaluations, entries, chance.uniform(0.0, longest))

        position, rows, positions = look(kind, place, evaluations, entries)

        assert position >= applied
        assert 0 == position % entries
        assert (position * evaluations, position * evaluations) == (rows, positions)


@pytest.mark.timeout(600)
def test_a_killed_store_without_its_log_holds_what_was_trimmable(tmp_path: Path) -> None:
    """Killed at any moment and robbed of its log, the store is no further back than what it had let the journal forget."""
    path, chance = tmp_path / "store.duckdb", random.Random(3)
    for _ in range(10):
        _, trimmable = kill_while_applying("duckdb", path, 7, 3, chance.uniform(0.0, 0.6))
        for log in path.parent.glob(f"{log_of(path).name}*"):
            log.unlink()

        position, rows, positions = look("duckdb", path, 7, 3)

        assert position >= trimmable
        assert (position * 7, position * 7) == (rows, positions)


ENTRIES = 120


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the place of a DuckDB with entries of several days, long texts and discards among them."""
    from store import moved

    place = tmp_path_factory.mktemp("source") / "store"
    items: list[moved.Item] = []
    for number in range(ENTRIES):
        record = record_of(receive_time=START + number % 4 * stores.DAY, batch_id=f"batch-{number}")
        record.envelope.discards.add(reason="unknown_feature", name="chekout", entry_count=1)
        for index in range(20):
            add_evaluation(
                record, time=START + index, identity_identifier=f"u{index}", value=value_of("x" * (index * 500))
            )
        items.append(record if number % 40 else b"broken")
    store = DuckDBStore(place)
    moved.apply(store, items, at_once=30)
    store.close()
    return place


def copying(source: Path, kind: str, place: Path, *, kill_at: int | None, seconds: float = 0.0) -> list[list[str]]:
    """Copy in ranges of 5 entries, and kill that *seconds* after it has said its *kill_at*th line; return what it said."""
    said: list[list[str]] = []
    with started(COPIER, "duckdb", source, kind, place, 5) as copier:
        killer = threading.Timer(seconds, copier.send_signal, [signal.SIGKILL])
        for words in lines(copier):
            said.append(words)
            if len(said) == kill_at:
                killer.start()
        killer.cancel()
        assert copier.wait() == (0 if kill_at is None else -signal.SIGKILL)
    return said


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", stores.kinds())
def test_a_killed_copy_goes_on(tmp_path: Path, source: Path, kind: str) -> None:
    """Killed at several points, a copy that is run again goes on behind what it had said, and in the end nothing is amiss."""
    stores.url_of(kind, tmp_path)
    place, chance = tmp_path / "target", random.Random(5)
    reached = 0
    for kill_at in (1, 4, 2, 1, 6):
        said = copying(source, kind, place, kill_at=kill_at, seconds=chance.uniform(0.0, 0.05))
        positions = [int(position) for phase, position in said if phase == "copying"]
        assert positions[0] > reached
        reached = positions[-1]
    assert 0 < reached < ENTRIES
    # Killed while both are compared.
    copying(source, kind, place, kill_at=(ENTRIES - reached) // 5 + 3)

    said = copying(source, kind, place, kill_at=None)

    evaluations = (ENTRIES - 3) * 20
    assert [] == [words for words in said if words[0] == "copying"]
    assert ["copied", str(evaluations)] == said[-1][:2]
    assert (ENTRIES, evaluations, evaluations) == tuple(map(int, looked_at(kind, place)))


def looked_at(kind: str, place: Path) -> list[str]:
    """Return position, rows and distinct positions of rows of the target."""
    with started(APPLIER, kind, place, 1, 1, "look") as looker:
        output, _ = looker.communicate(timeout=LOOK_SECONDS)
    assert 0 == looker.returncode
    return output.splitlines()[-1].split()
