from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from flagledger.errors import FlagledgerError
from flagledger.journal import trimmer
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal

OUTCOME = Outcome(accepted=1, filtered=0, rejected=0)
HOUR = 3600.0
START = 1_800_000_000.0


class Clock:
    """Epoch seconds that stand still until they are set."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock at the start."""
    return Clock()


@pytest.fixture
async def open_it(tmp_path: Path, clock: Clock) -> AsyncIterator[Callable[..., SqliteJournal]]:
    """Open this test's journal under its clock."""
    opened: list[SqliteJournal] = []

    def open_one(**options: object) -> SqliteJournal:
        arguments = {"max_bytes": 1 << 30, "reserve_bytes": 0, "clock": clock} | options
        opened.append(SqliteJournal.open(tmp_path / "journal.db", **arguments))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for journal in opened:
        await asyncio.to_thread(journal.close)


async def is_known(journal: SqliteJournal, batch_id: str) -> bool:
    """Append the batch and return whether it was a duplicate."""
    return (await journal.append("env", batch_id, b"d" * 16, OUTCOME, b"x")).duplicate


def ids_on_disk(path: Path) -> int:
    """Return how many batch ids the file holds."""
    with sqlite3.connect(path) as connection:
        count: int = connection.execute("SELECT count(*) FROM batch_ids").fetchall()[0][0]
    connection.close()
    return count


async def test_knows_a_batch_for_24_hours(open_it: Callable[..., SqliteJournal], clock: Clock) -> None:
    """A batch is known 24 hours later, however often others came in between, and forgotten at 26."""
    journal = open_it()
    assert not await is_known(journal, "id")
    for hours in range(1, 24):
        clock.now = START + hours * HOUR
        assert not await is_known(journal, f"other-{hours}")
    clock.now = START + 24 * HOUR
    assert await is_known(journal, "id")
    clock.now = START + 26 * HOUR

    assert not await is_known(journal, "id")
    assert await is_known(journal, "id")


async def test_forgets_over_a_quiet_time(open_it: Callable[..., SqliteJournal], clock: Clock) -> None:
    """A quiet day and two hours are enough to forget: no batch has to come in between, and another content is welcome then."""
    journal = open_it()
    await is_known(journal, "id")
    clock.now += 26 * HOUR

    assert not (await journal.append("env", "id", b"other content 16", OUTCOME, b"x")).duplicate


async def test_knows_ids_by_the_configured_hours(open_it: Callable[..., SqliteJournal], clock: Clock) -> None:
    """The duration is configurable."""
    journal = open_it(dedup_hours=1)
    await is_known(journal, "id")
    clock.now += HOUR
    assert await is_known(journal, "id")
    clock.now += 0.1 * HOUR

    assert not await is_known(journal, "id")


async def test_knows_as_many_batches_as_configured(open_it: Callable[..., SqliteJournal]) -> None:
    """A batch is known while no more than the configured number came after it, and forgotten an eighth beyond."""
    journal = open_it(dedup_max_batches=800)
    await is_known(journal, "id")
    for number in range(799):
        await is_known(journal, f"{number}")
    assert await is_known(journal, "id")
    for number in range(799, 1001):
        await is_known(journal, f"{number}")

    assert not await is_known(journal, "id")
    assert await is_known(journal, "999")


async def test_clock_that_jumps_back_forgets_nothing(open_it: Callable[..., SqliteJournal], clock: Clock) -> None:
    """A clock set back by a day neither stops appends nor makes a batch unknown."""
    journal = open_it()
    await is_known(journal, "id")
    clock.now -= 24 * HOUR

    assert not await is_known(journal, "other")
    assert await is_known(journal, "id")
    assert journal.lag().oldest_age == 0.0


async def test_clears_forgotten_ids_from_the_disk(
    open_it: Callable[..., SqliteJournal], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trimming clears forgotten ids away, over several slices and several trims, and leaves those that are known."""
    monkeypatch.setattr(trimmer, "_SLICE_IDS", 10)
    monkeypatch.setattr(trimmer, "_ID_SLICES", 7)
    journal = open_it()
    await asyncio.gather(*(is_known(journal, f"old-{number}") for number in range(300)))
    clock.now += 20 * HOUR
    await asyncio.gather(*(is_known(journal, f"new-{number}") for number in range(100)))
    clock.now += 6 * HOUR
    await is_known(journal, "now")
    path = tmp_path / "journal.db"
    assert ids_on_disk(path) == 401

    journal.trim(0)
    assert 101 < ids_on_disk(path) < 401
    for _ in range(10):
        journal.trim(0)
    assert ids_on_disk(path) == 101
    assert await asyncio.gather(*(is_known(journal, f"new-{number}") for number in range(100))) == [True] * 100
    assert not await is_known(journal, "old-0")


async def test_sweep_goes_on_after_reopening(
    open_it: Callable[..., SqliteJournal], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep cut short by the end of the process is done by the next one."""
    monkeypatch.setattr(trimmer, "_SLICE_IDS", 10)
    monkeypatch.setattr(trimmer, "_ID_SLICES", 2)
    journal = open_it()
    await asyncio.gather(*(is_known(journal, f"old-{number}") for number in range(100)))
    clock.now += 26 * HOUR
    await is_known(journal, "now")
    journal.trim(0)
    await asyncio.to_thread(journal.close)
    again = open_it()
    for _ in range(10):
        again.trim(0)

    assert ids_on_disk(tmp_path / "journal.db") == 1


async def test_ids_that_share_a_key_are_two(open_it: Callable[..., SqliteJournal]) -> None:
    """Two ids whose keys are equal by chance are two batches; the later one is known from then on."""
    committer = open_it()._committer
    one, other = b"1" * 8 + b"d" * 16, b"2" * 8 + b"d" * 16

    assert not (await committer.submit(7, one, OUTCOME, b"x")).duplicate
    assert not (await committer.submit(7, other, OUTCOME, b"x")).duplicate
    assert (await committer.submit(7, other, OUTCOME, b"x")).duplicate
    with pytest.raises(FlagledgerError):
        await committer.submit(7, b"2" * 8 + b"e" * 16, OUTCOME, b"x")
