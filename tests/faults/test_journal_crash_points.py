from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal

pytestmark = pytest.mark.slow

EVERYTHING = 1 << 40
DIGEST = b"d" * 16
OUTCOME = Outcome(accepted=1, filtered=0, rejected=0)

# Lives through all that can happen to a journal, and says what was acknowledged; {patch} makes it die on the way.
LIFE = """
import asyncio, os, signal, sys, time
from pathlib import Path
from flagledger.journal import schema, trimmer
from flagledger.journal.base import Outcome
from flagledger.journal.committer import Committer
from flagledger.journal.reserve import Reserve
from flagledger.journal.sqlite import SqliteJournal

def die_after(holder, name, calls):
    original, count = getattr(holder, name), 0
    def wrapped(*arguments):
        nonlocal count
        result = original(*arguments)
        count += 1
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(holder, name, wrapped)

shift = 0.0
trimmer._SLICE_ENTRIES = trimmer._SLICE_IDS = 10
{patch}

async def live():
    global shift
    journal = SqliteJournal.open(
        Path(sys.argv[1]), max_bytes=1 << 40, reserve_bytes=1 << 20, clock=lambda: time.time() + shift
    )
    for number in range(40):
        await journal.append("env", str(number), b"d" * 16, Outcome(accepted=1, filtered=0, rejected=0), b"%d" % number)
        print(number, flush=True)
    journal.trim(30)
    shift = 26 * 3600.0
    await journal.append("env", "40", b"d" * 16, Outcome(accepted=1, filtered=0, rejected=0), b"40")
    print(40, flush=True)
    journal.trim(30)
    journal._trimmer._reserve.release()

asyncio.run(live())
"""

POINTS = {
    "created_empty": "die_after(schema, '_touch', 1)",
    "group_written": "",
    "group_committed": "die_after(Committer, '_commit', 20)",
    "slice_trimmed": "die_after(trimmer.Trimmer, '_slice', 2)",
    "sweep_begun": "die_after(trimmer.Trimmer, '_sweep_slice', 3)",
    "reserve_drafted": "die_after(os, 'posix_fallocate', 1)",
    "reserve_given_up": "die_after(Reserve, 'release', 1)",
}


@pytest.mark.parametrize("point", POINTS)
def test_crash(tmp_path: Path, point: str) -> None:
    """Killed at a point that the journal's page names, it opens again with all that was acknowledged and goes on."""
    path = tmp_path / "journal.db"
    command = [sys.executable, "-c", LIFE.replace("{patch}", POINTS[point]), str(path)]
    if point == "group_written":
        strace = shutil.which("strace")
        if strace is None:
            pytest.skip("strace, which kills in the midst of an fsync, is not installed")
        kill = "inject=fdatasync:signal=SIGKILL:when=20"
        command = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", kill, *command]
    life = subprocess.run(command, check=False, capture_output=True, text=True)
    assert life.returncode == -signal.SIGKILL, life.stderr
    acknowledged = [int(line) for line in life.stdout.split()]

    journal = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=1 << 20)
    entries = journal.read(0, EVERYTHING)
    last = journal.last_position()
    trimmed = last - len(entries)
    assert [entry.position for entry in entries] == list(range(trimmed + 1, last + 1))
    assert [entry.payload for entry in entries] == [b"%d" % (entry.position - 1) for entry in entries]
    # Of one in flight it is not known which way it went.
    assert last - len(acknowledged) in (0, 1)
    assert journal.lag().entries == len(entries)
    assert path.with_name("journal.db.reserve").exists()
    assert not path.with_name("journal.db.reserve.draft").exists()

    answers = asyncio.run(send_again(journal, acknowledged))
    if point in ("sweep_begun", "reserve_given_up"):
        assert answers == [False] * 40 + [True]
    else:
        assert answers == [True] * len(acknowledged)
    for _ in range(3):
        journal.trim(journal.last_position())
    assert (journal.lag().entries, journal.lag().bytes) == (0, 0)
    journal.close()
    with sqlite3.connect(path) as connection:
        generations = connection.execute("SELECT count(DISTINCT generation) FROM batch_ids").fetchall()[0][0]
        oldest = connection.execute("SELECT min(generation) FROM batch_ids").fetchall()[0][0]
        assert generations <= 2
        assert oldest is None or oldest >= connection.execute("SELECT oldest_generation FROM state").fetchall()[0][0]
    connection.close()


async def send_again(journal: SqliteJournal, numbers: list[int]) -> list[bool]:
    """Send batches again and return which of them were duplicates."""
    return [(await journal.append("env", str(number), DIGEST, OUTCOME, b"%d" % number)).duplicate for number in numbers]
