from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from pathlib import Path

from flagledger.journal.base import Outcome, Waiting
from flagledger.journal.sqlite import SqliteJournal
from journal.appender import payload_of
from journal.processes import Appender

OUTCOME = Outcome(accepted=1, filtered=0, rejected=0)
EVERYTHING = 1 << 40


def open_it(path: Path, **options: object) -> SqliteJournal:
    """Open the journal with room for everything."""
    return SqliteJournal.open(path, **({"max_bytes": 1 << 40, "reserve_bytes": 0} | options))  # type: ignore[arg-type]


def test_serves_two_that_append_while_a_third_reads_and_trims(tmp_path: Path) -> None:
    """Two processes append while a third reads and trims: positions have no gap and no repeat, and nothing is lost."""
    path = tmp_path / "journal.db"
    reader = open_it(path)
    seen: list[str] = []
    position = 0
    with Appender(path, "left", 3000, breath=0.0003) as left, Appender(path, "right", 3000, breath=0.0003) as right:
        while len(seen) < 6000:
            entries = reader.read(position, 400_000)
            time.sleep(0 if entries else 0.02)
            for entry in entries:
                position += 1
                assert position == entry.position
                name = entry.payload.split(b"\n", 1)[0].decode()
                assert payload_of(name, 3000) == entry.payload
                seen.append(name)
            reader.trim(position)
        assert 0 == left.join() == right.join()

    assert sorted(seen) == sorted(left.words["ok"] + right.words["ok"])
    assert len(set(seen)) == 6000
    assert (reader.lag().bytes, reader.lag().entries) == (0, 0)
    reader.close()


def test_takes_a_batch_sent_to_two_processes_once(tmp_path: Path) -> None:
    """Of batches sent to two processes at once, each is recorded by one of them and a duplicate to the other."""
    path = tmp_path / "journal.db"
    with Appender(path, "same", 500) as left, Appender(path, "same", 500) as right:
        assert 0 == left.join() == right.join()

    recorded = left.words.get("ok", []) + right.words.get("ok", [])
    duplicates = left.words.get("duplicate", []) + right.words.get("duplicate", [])
    assert sorted(f"same-{number}" for number in range(500)) == sorted(recorded) == sorted(duplicates)


def test_opens_whatever_a_torn_log_left(tmp_path: Path) -> None:
    """Wherever the write-ahead log is cut, the journal opens with a prefix of the entries: all that lie before the cut."""
    path = tmp_path / "journal.db"
    with Appender(path, "torn", pause=0.001) as appender:
        appender.hear("ok", 200)
        appender.kill()
    wal = path.with_name("journal.db-wal").read_bytes()
    assert len(wal) > 100_000

    counts = []
    for number in range(41):
        copy = tmp_path / f"copy-{number}" / "journal.db"
        copy.parent.mkdir()
        shutil.copy(path, copy)
        # A stride that falls into headers as well as pages.
        cut = wal[: len(wal) * number // 40 - (number * 7 if number < 40 else 0)]
        copy.with_name("journal.db-wal").write_bytes(cut)
        journal = open_it(copy)
        entries = journal.read(0, EVERYTHING)
        assert list(range(1, len(entries) + 1)) == [entry.position for entry in entries]
        for entry in entries:
            assert payload_of(entry.payload.split(b"\n", 1)[0].decode(), 3000) == entry.payload
        assert len(entries) == journal.lag().entries
        counts.append(len(entries))
        assert asyncio.run(journal.append("env", "after", b"d" * 16, OUTCOME, b"x")).outcome == OUTCOME
        assert len(entries) + 1 == journal.read(len(entries), EVERYTHING)[0].position
        journal.close()
        shutil.rmtree(copy.parent)

    assert counts == sorted(counts)
    assert counts[-1] >= len(appender.words["ok"])


def test_opening_moves_what_a_kill_left_in_the_log_into_the_file(tmp_path: Path) -> None:
    """Before it answers, a journal that was killed has everything in its file, so that duplicates are told nothing untrue."""
    path = tmp_path / "journal.db"
    with Appender(path, "left", pause=0.001) as appender:
        appender.hear("ok", 100)
        appender.kill()
    # The last to close a file moves the log too; here somebody else keeps it open.
    outsider = sqlite3.connect(path)
    outsider.execute("SELECT count(*) FROM entries").fetchall()
    journal = open_it(path)
    (tmp_path / "file-alone").mkdir()
    shutil.copy(path, tmp_path / "file-alone" / "journal.db")
    copy = open_it(tmp_path / "file-alone" / "journal.db")

    assert journal.read(0, EVERYTHING) == copy.read(0, EVERYTHING)
    assert copy.lag().entries >= 100
    outsider.close()
    journal.close()
    copy.close()


def test_flipped_bytes_in_the_log_cost_what_lies_behind_them_only(tmp_path: Path) -> None:
    """A damaged byte in the write-ahead log hides what lies behind it, and everything before it is there."""
    path = tmp_path / "journal.db"
    with Appender(path, "flip", pause=0.001) as appender:
        appender.hear("ok", 100)
        appender.kill()
    log_path = path.with_name("journal.db-wal")
    log = bytearray(log_path.read_bytes())
    whole = _count(path, tmp_path / "whole", bytes(log))
    log[len(log) * 3 // 4] ^= 0xFF
    damaged = _count(path, tmp_path / "damaged", bytes(log))

    assert 0 < damaged < whole
    assert whole >= len(appender.words["ok"])


def _count(path: Path, directory: Path, log: bytes) -> int:
    directory.mkdir()
    shutil.copy(path, directory / "journal.db")
    (directory / "journal.db-wal").write_bytes(log)
    journal = open_it(directory / "journal.db")
    entries = journal.read(0, EVERYTHING)
    journal.close()
    assert list(range(1, len(entries) + 1)) == [entry.position for entry in entries]
    return len(entries)


async def test_leaves_no_cursor_open(tmp_path: Path) -> None:
    """After reading, also in part, nothing keeps the write-ahead log from being emptied."""
    path = tmp_path / "journal.db"
    journal = open_it(path)
    for number in range(50):
        await journal.append("env", f"{number}", b"d" * 16, OUTCOME, b"x" * 5000)
    journal.read(0, 20_000)
    journal.read(0, EVERYTHING)
    journal.lag()
    with sqlite3.connect(path) as outsider:
        busy, _, _ = outsider.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
    outsider.close()

    assert busy == 0
    assert path.with_name("journal.db-wal").stat().st_size == 0
    journal.close()


async def test_cuts_the_log_short_when_it_has_grown(tmp_path: Path) -> None:
    """A write-ahead log that grew while somebody read is cut short by the next trim."""
    path = tmp_path / "journal.db"
    journal = open_it(path)
    outsider = sqlite3.connect(path, isolation_level=None)
    outsider.execute("BEGIN")
    outsider.execute("SELECT count(*) FROM entries").fetchall()
    await asyncio.gather(
        *(journal.append("env", f"{number}", b"d" * 16, OUTCOME, bytes(1 << 20)) for number in range(40))
    )
    grown = path.with_name("journal.db-wal").stat().st_size
    outsider.execute("COMMIT")
    outsider.close()
    journal.trim(40)

    assert grown > 40 << 20
    assert path.with_name("journal.db-wal").stat().st_size <= 32 << 20
    journal.close()


async def test_does_not_block_the_event_loop(tmp_path: Path) -> None:
    """While another process holds the file, appends wait and the event loop goes on; they are answered afterwards."""
    path = tmp_path / "journal.db"
    journal = open_it(path)
    await journal.append("env", "0", b"d" * 16, OUTCOME, b"x")
    outsider = sqlite3.connect(path, isolation_level=None)
    outsider.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(journal.append("env", "1", b"d" * 16, OUTCOME, b"x"))
    ticks = 0
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        await asyncio.sleep(0.005)
        ticks += 1

    assert not waiting.done()
    assert ticks > 5
    outsider.execute("COMMIT")
    outsider.close()
    assert not (await waiting).duplicate
    journal.close()


async def test_lets_no_more_wait_than_its_queue_holds(tmp_path: Path) -> None:
    """More appends than the queue holds wait their turn, and all are answered."""
    journal = open_it(tmp_path / "journal.db")
    appends = [
        asyncio.create_task(journal.append("env", f"{number}", b"d" * 16, OUTCOME, b"x")) for number in range(9000)
    ]
    await asyncio.sleep(0)
    assert journal._committer._queued_entries <= 4096
    answers = await asyncio.gather(*appends)

    assert sum(not answer.duplicate for answer in answers) == 9000
    assert journal.lag().entries == 9000
    journal.close()


async def test_says_what_waits_behind_a_position(tmp_path: Path) -> None:
    """Entries behind a position, trimmed or not before it, are counted, and the oldest of them has its age."""
    now = 1_000.0
    journal = open_it(tmp_path / "journal.db", clock=lambda: now)
    assert Waiting(entries=0, oldest_age=0.0) == journal.waiting(0)
    for _ in range(5):
        await journal.append("env", "", b"d" * 16, OUTCOME, b"x")
        now += 10.0

    assert Waiting(entries=5, oldest_age=50.0) == journal.waiting(0)
    assert Waiting(entries=2, oldest_age=20.0) == journal.waiting(3)
    journal.trim(4)
    assert Waiting(entries=1, oldest_age=10.0) == journal.waiting(4)
    assert Waiting(entries=0, oldest_age=0.0) == journal.waiting(5)
    journal.close()
