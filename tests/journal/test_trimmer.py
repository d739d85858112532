from __future__ import annotations

import asyncio
import random
import re
import sqlite3
import time
from pathlib import Path

import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.journal import trimmer
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal
from journal.appender import payload_of
from journal.processes import Appender

OUTCOME = Outcome(accepted=1, filtered=0, rejected=0)
EVERYTHING = 1 << 40
# Some fit many to a page, some take many pages.
SIZES = {"small": (20, 300), "pages": (300, 3_000), "long": (3_000, 60_000), "mixed": (20, 60_000)}


def open_it(path: Path, **options: object) -> SqliteJournal:
    """Open the journal with room for everything."""
    return SqliteJournal.open(path, **({"max_bytes": 1 << 40, "reserve_bytes": 1 << 20} | options))  # type: ignore[arg-type]


def marked(position: int, size: int) -> bytes:
    """Return a payload that shows in every piece of it whose it is."""
    return b"<#%08d#>" % position * (size // 12 + 1)


def left_in(directory: Path) -> set[int]:
    """Return the positions of whose payloads any bytes are left in any file of *directory*."""
    found = set()
    for path in directory.iterdir():
        found |= {int(number) for number in re.findall(rb"<#(\d{8})#>", path.read_bytes())}
    return found


async def append(journal: SqliteJournal, payloads: list[bytes]) -> None:
    """Append *payloads* without ids, in their order."""
    await asyncio.gather(*(journal.append("env", "", b"d" * 16, OUTCOME, payload) for payload in payloads))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kept", [0, 1, 7])
async def test_an_erasure_leaves_no_byte_of_what_was_trimmed(tmp_path: Path, sizes: str, kept: int) -> None:
    """Whatever was appended and trimmed before, after an erasure no file holds a byte of it, and what is kept is whole."""
    chance = random.Random(f"{sizes} {kept}")
    journal = open_it(tmp_path / "journal.db")
    last = 0
    trimmed_left = set()
    for _ in range(60):
        count = chance.randint(1, 12)
        await append(journal, [marked(last + 1 + i, chance.randint(*SIZES[sizes])) for i in range(count)])
        last += count
        if chance.random() < 0.3:
            up_to = chance.randint(0, last)
            journal.trim(up_to)
            trimmed_left |= left_in(tmp_path) & set(range(1, up_to + 1))
    # Short ones: of what lies behind the end of a long one nothing is promised.
    await append(journal, [marked(last + 1 + i, 400) for i in range(kept)])
    last += kept
    entries = journal.read(last - kept, EVERYTHING)

    journal.erase(last - kept)

    assert trimmed_left, "trimming alone left nothing, so that erasing shows nothing"
    assert set(range(last - kept + 1, last + 1)) == left_in(tmp_path)
    assert entries == journal.read(0, EVERYTHING)
    assert kept == journal.lag().entries
    journal.close()


async def test_an_erasure_after_another_reaches_what_was_trimmed_between(tmp_path: Path) -> None:
    """A second erasure overwrites what ordinary trims have left since the first, and what it trims itself."""
    journal = open_it(tmp_path / "journal.db")
    await append(journal, [marked(i, 20_000) for i in range(1, 31)])
    journal.erase(10)
    assert set(range(11, 31)) == left_in(tmp_path)
    journal.erase(15)
    assert set(range(16, 31)) == left_in(tmp_path)
    journal.trim(20)
    assert left_in(tmp_path) & set(range(16, 21))

    journal.erase(25)

    assert set(range(26, 31)) == left_in(tmp_path)
    journal.close()


async def test_an_erasure_with_nothing_to_trim_reaches_what_was_trimmed(tmp_path: Path) -> None:
    """What was trimmed before the process began is overwritten too, where nothing is left to trim."""
    journal = open_it(tmp_path / "journal.db")
    await append(journal, [marked(i, 20_000) for i in range(1, 11)])
    journal.trim(10)
    journal.close()
    assert left_in(tmp_path)
    journal = open_it(tmp_path / "journal.db")

    journal.erase(10)

    assert set() == left_in(tmp_path)
    journal.close()


async def test_an_erasure_gives_the_pages_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What free pages were filled with is freed again: the file is no larger than before, and takes as much anew."""
    monkeypatch.setattr(trimmer, "_FILL_PAGES", 50)
    path = tmp_path / "journal.db"
    journal = open_it(path)
    payloads = [marked(i, 20_000) for i in range(1, 201)]
    await append(journal, payloads)
    journal.erase(200)
    size = path.stat().st_size

    await append(journal, payloads)
    journal.erase(400)

    with sqlite3.connect(path) as connection:
        assert [(0,)] == connection.execute("SELECT count(*) FROM filler").fetchall()
    connection.close()
    # Its own table and the last pages of a slice are all that it may add.
    assert path.stat().st_size <= size + 16 * 4096
    journal.close()


async def test_filler_of_a_killed_process_is_freed(tmp_path: Path) -> None:
    """Where a process died with free pages filled, the next trim frees them."""
    path = tmp_path / "journal.db"
    journal = open_it(path)
    await append(journal, [marked(i, 20_000) for i in range(1, 101)])
    journal.trim(100)
    assert journal._trimmer._fill_slice()
    journal.close()

    journal = open_it(path)
    journal.trim(100)

    with sqlite3.connect(path) as connection:
        assert [(0,)] == connection.execute("SELECT count(*) FROM filler").fetchall()
        assert connection.execute("PRAGMA freelist_count").fetchall()[0][0] > 400
    connection.close()
    journal.close()


def test_others_append_while_erasures_go_on(tmp_path: Path) -> None:
    """Two processes append while a third erases again and again: everything arrives, in order, and is gone at the end."""
    path = tmp_path / "journal.db"
    journal = open_it(path)
    seen: list[str] = []
    position = erasures = 0
    with Appender(path, "left", 2_000, breath=0.0003) as left, Appender(path, "right", 2_000, breath=0.0003) as right:
        while len(seen) < 4_000:
            entries = journal.read(position, 400_000)
            time.sleep(0 if entries else 0.02)
            for entry in entries:
                position += 1
                assert position == entry.position
                name = entry.payload.split(b"\n", 1)[0].decode()
                assert payload_of(name, 3000) == entry.payload
                seen.append(name)
            if erasures * 200 <= position:
                journal.erase(position)
                erasures += 1
            else:
                journal.trim(position)
        assert 0 == left.join() == right.join()
    journal.erase(position)

    assert erasures > 10
    assert sorted(seen) == sorted(left.words["ok"] + right.words["ok"])
    content = path.read_bytes() + path.with_name("journal.db-wal").read_bytes()
    assert [] == [name for name in seen if payload_of(name, 3000)[:40] in content]
    journal.close()


async def test_a_log_that_cannot_be_emptied_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody keeps the log from being emptied, an erasure is refused; once it can be, it succeeds."""
    monkeypatch.setattr(trimmer, "_EMPTY_SECONDS", 0.1)
    path = tmp_path / "journal.db"
    journal = open_it(path)
    await append(journal, [marked(1, 5_000)])
    outsider = sqlite3.connect(path, isolation_level=None)
    outsider.execute("BEGIN")
    outsider.execute("SELECT count(*) FROM entries").fetchall()

    with pytest.raises(FlagledgerError, match="could not be emptied") as raised:
        journal.erase(1)
    outsider.execute("COMMIT")
    outsider.close()

    assert Reason.DISK_FAILING == raised.value.reason
    assert [] == journal.read(0, EVERYTHING)
    journal.erase(1)
    assert set() == left_in(tmp_path)
    journal.close()


def test_a_closed_journal_erases_nothing(tmp_path: Path) -> None:
    """After closing, an erasure is refused, and not passed over."""
    journal = open_it(tmp_path / "journal.db")
    journal.close()

    with pytest.raises(FlagledgerError) as raised:
        journal.erase(1)

    assert Reason.DRAINING == raised.value.reason
