from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable
from pathlib import Path

import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.journal import committer
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal
from journal.processes import Appender, file_size_limit

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


async def refusal(waiting: Awaitable[None]) -> str:
    """Return the message of the refusal that *waiting* ends with, which is for the disk."""
    with pytest.raises(FlagledgerError) as caught:
        await waiting
    assert Reason.DISK_FAILING == caught.value.reason
    return caught.value.message


async def test_keeps_nobody_waiting_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a commit hangs, what is queued or comes is refused; what it holds is answered once it returns, and all goes on."""
    monkeypatch.setattr(committer, "HANG_SECONDS", 0.3)
    monkeypatch.setattr(committer, "_WATCH_SECONDS", 0.1)
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    await append(journal, "before")
    outsider = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    under_way = asyncio.create_task(append(journal, "under way"))
    await asyncio.sleep(0.1)
    assert journal.writable()
    # More than the queue has room for.
    queued = [asyncio.create_task(append(journal, f"queued {number}")) for number in range(5000)]
    messages = {await refusal(one) for one in queued}
    assert {"The batch could not be recorded: the disk does not answer. Send it again later."} == messages
    assert not journal.writable()
    assert not under_way.done()
    async with asyncio.timeout(0.05):
        await refusal(append(journal, "late"))
    outsider.execute("COMMIT")
    outsider.close()
    await under_way

    await until_writable(journal, 5)
    await append(journal, "queued 0")
    assert [1, 2, 3] == [entry.position for entry in journal.read(0, EVERYTHING)]
    await asyncio.to_thread(journal.close)


async def test_notices_a_disk_that_hangs_where_nobody_appends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs while it is asked whether it works again refuses what comes meanwhile."""
    monkeypatch.setattr(committer, "HANG_SECONDS", 0.2)
    monkeypatch.setattr(committer, "_PROBE_SECONDS", 0.1)
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    outsider = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    with file_size_limit(50_000):
        await refusal(append(journal, "large", 1 << 20))
        outsider.execute("BEGIN IMMEDIATE")
    await asyncio.sleep(0.6)

    assert "does not answer" in await refusal(append(journal, "late"))
    outsider.execute("COMMIT")
    outsider.close()
    await until_writable(journal, 5)
    await asyncio.to_thread(journal.close)


async def test_outlives_what_nobody_foresaw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error outside of every commit refuses the group that met it; the journal comes back by itself."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)

    def fail(_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(journal._committer, "_answers", fail)
        await refusal(append(journal, "1"))
        assert not journal.writable()
    await until_writable(journal, 5)
    await append(journal, "1")

    assert [1] == [entry.position for entry in journal.read(0, EVERYTHING)]
    await asyncio.to_thread(journal.close)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_refuses_all_once_its_thread_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the thread end, then those who wait and those who come are refused, the journal is not writable, and it closes."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)

    def end(_: object) -> None:
        time.sleep(0.2)
        raise SystemExit

    monkeypatch.setattr(journal._committer, "_answers", end)
    under_way = asyncio.create_task(append(journal, "under way"))
    await asyncio.sleep(0.1)
    queued = asyncio.create_task(append(journal, "queued"))
    async with asyncio.timeout(5):
        for waiting in (under_way, queued, append(journal, "late")):
            await refusal(waiting)

    assert not journal.writable()
    assert [] == journal.read(0, EVERYTHING)
    await asyncio.to_thread(journal.close)
    with pytest.raises(FlagledgerError) as caught:
        await append(journal, "later still")
    assert Reason.DRAINING == caught.value.reason


async def test_answers_whatever_its_logger_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that fails changes no answer, neither when writing begins to fail nor when it succeeds again."""

    def fail() -> None:
        raise OSError("no log")

    monkeypatch.setattr(committer, "get_logger", fail)
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    with file_size_limit(50_000):
        await refusal(append(journal, "large", 1 << 20))
    await asyncio.sleep(0.3)
    await append(journal, "large", 1 << 20)

    assert journal.writable()
    await asyncio.to_thread(journal.close)


@pytest.mark.parametrize("number", [1, 2, 5, 47, 511, 512, 513, 1300])
async def test_records_groups_of_every_size(tmp_path: Path, number: int) -> None:
    """However many come together, each is recorded once, with and without ids, and known when it comes again."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=EVERYTHING, reserve_bytes=0)
    batches = [(f"{one}" if one % 3 else "", b"%d" % one) for one in range(number)]

    async def send() -> list[bool]:
        appends = (journal.append("env", name, b"d" * 16, OUTCOME, payload) for name, payload in batches)
        return [answer.duplicate for answer in await asyncio.gather(*appends)]

    assert [False] * number == await send()
    assert [bool(name) for name, _ in batches] == await send()
    recorded = [payload for _, payload in batches] + [payload for name, payload in batches if not name]
    entries = journal.read(0, EVERYTHING)
    assert recorded == [entry.payload for entry in entries]
    assert list(range(1, len(recorded) + 1)) == [entry.position for entry in entries]
    await asyncio.to_thread(journal.close)


def test_answers_where_the_log_cannot_be_written_either(tmp_path: Path) -> None:
    """With stderr on a full disk too, appends are refused while theirs is full, and go on when it is not."""
    with (
        Path("/dev/full").open("wb") as full,
        Appender(tmp_path / "journal.db", "full", pause=0.001, fsize=3 << 20, stderr=full) as appender,
    ):
        appender.hear("DISK_FAILING", 100)
        appender.say()
        appender.hear("lifted")
        appender.hear("ok", 100)
        appender.kill()

    assert ["False"] == appender.words["writable"]
