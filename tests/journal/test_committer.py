from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal
from journal.processes import file_size_limit

OUTCOME = Outcome(accepted=1, filtered=0, rejected=0)
EVERYTHING = 1 << 40


async def append(journal: SqliteJournal, batch_id: str, size: int = 10) -> None:
    """Append a batch of *size* bytes as a new one."""
    assert not (await journal.append("env", batch_id, b"d" * 16, OUTCOME, b"x" * size)).duplicate


async def until_writable(journal: SqliteJournal, seconds: float) -> None:
    """Wait until the journal says it is writable, sending it nothing."""
    deadline = time.monotonic() + seconds
    while not journal.writable():
        assert time.monotonic() < deadline, "not writable in time"
        await asyncio.sleep(0.02)


async def test_tells_every_waiter_of_a_group_that_the_disk_fails(tmp_path: Path) -> None:
    """Where a commit fails, all that were in it are refused, none is recorded, and all may come again."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    await append(journal, "before")
    with file_size_limit(1 << 20):
        answers = await asyncio.gather(*(append(journal, f"{n}", 400_000) for n in range(8)), return_exceptions=True)
        assert not journal.writable()

    refused = [n for n, answer in enumerate(answers) if answer is not None]
    assert {Reason.DISK_FAILING} == {answer.reason for answer in answers if isinstance(answer, FlagledgerError)}
    assert len(refused) >= 5
    await until_writable(journal, 5)
    for n in refused:
        await append(journal, f"{n}", 400_000)
    assert list(range(1, 10)) == [entry.position for entry in journal.read(0, EVERYTHING)]
    await asyncio.to_thread(journal.close)


async def test_comes_back_without_being_asked(tmp_path: Path) -> None:
    """Once there is room again the journal is writable within 5 seconds, although nobody appends meanwhile."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    with file_size_limit(50_000):
        with pytest.raises(FlagledgerError):
            await append(journal, "large", 1 << 20)
        await asyncio.sleep(1.5)
        assert not journal.writable()

    await until_writable(journal, 5)
    await append(journal, "large", 1 << 20)
    await asyncio.to_thread(journal.close)


async def test_goes_on_reading_while_it_cannot_write(tmp_path: Path) -> None:
    """Reading and lag go on while the disk takes nothing more."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    await append(journal, "before")
    with file_size_limit(50_000):
        with pytest.raises(FlagledgerError):
            await append(journal, "large", 1 << 20)
        assert [entry.position for entry in journal.read(0, EVERYTHING)] == [1]
        assert journal.lag().entries == 1
    await asyncio.to_thread(journal.close)


async def test_refuses_appends_while_the_reserve_is_given_up(tmp_path: Path) -> None:
    """While trimming uses the reserve and room is short, appends are refused; once it is back they go on."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=1 << 20)
    reserve = journal._committer._reserve
    reserve.release()
    reserve.size = 1 << 60
    with pytest.raises(FlagledgerError, match="the disk is full") as caught:
        await append(journal, "1")

    assert caught.value.reason == Reason.DISK_FAILING
    assert not journal.writable()
    reserve.size = 1 << 20
    await until_writable(journal, 5)
    assert reserve.path.exists()
    await append(journal, "1")
    await asyncio.to_thread(journal.close)


async def test_closes_while_the_disk_fails(tmp_path: Path) -> None:
    """Closing on a failing disk refuses what is queued and ends."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    with file_size_limit(50_000):
        appends = [asyncio.create_task(append(journal, f"{n}", 1 << 20)) for n in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(journal.close)
        answers = await asyncio.gather(*appends, return_exceptions=True)

    assert [answer.reason for answer in answers if isinstance(answer, FlagledgerError)] == [Reason.DISK_FAILING] * 3
