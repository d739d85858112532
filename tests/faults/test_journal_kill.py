from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from flagledger.journal.sqlite import SqliteJournal
from journal.appender import payload_of
from journal.processes import Appender

ROUNDS = 12
EVERYTHING = 1 << 40

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("processes", [1, 2])
def test_kill_under_load_loses_and_repeats_nothing(tmp_path: Path, processes: int) -> None:
    """
    SIGKILL at any moment, round after round: every acknowledged batch is there once, with the bytes that were sent.

    Each round begins by sending the end of the round before again, as a client does that never got its answers, while another
    process reads and trims.
    """
    path = tmp_path / "journal.db"
    reader = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=0)
    identity = reader.identity
    recorded: Counter[str] = Counter()
    acknowledged: set[str] = set()
    position = 0
    firsts = [0] * processes

    def take_in() -> None:
        nonlocal position
        while entries := reader.read(position, 4_000_000):
            for entry in entries:
                position += 1
                assert position == entry.position
                name = entry.payload.split(b"\n", 1)[0].decode()
                assert payload_of(name, 3000) == entry.payload
                recorded[name] += 1

    for number in range(ROUNDS):
        appenders = [
            Appender(path, f"process{index}", first=max(0, firsts[index] - 50), breath=0.0003 if processes > 1 else 0)
            for index in range(processes)
        ]
        for index, appender in enumerate(appenders):
            with appender:
                appender.hear("ok", random.Random(number).randint(1, 400))
                take_in()
                reader.trim(position)
                appender.kill()
            answered = appender.words["ok"] + appender.words.get("duplicate", [])
            acknowledged.update(answered)
            firsts[index] = 1 + max(int(name.split("-")[1]) for name in answered)
            assert identity == appender.words["open"][0]
        take_in()

    assert set() == acknowledged - set(recorded)
    assert {1} == set(recorded.values())
    assert len(acknowledged) > ROUNDS * processes
    reader.close()


def test_kill_of_whoever_trims_loses_nothing(tmp_path: Path) -> None:
    """A process that is killed while it trims leaves a journal whose count of what waits is what waits."""
    path = tmp_path / "journal.db"
    trimming = (
        "import sys; from pathlib import Path; from flagledger.journal.sqlite import SqliteJournal\n"
        "journal = SqliteJournal.open(Path(sys.argv[1]), max_bytes=1 << 40, reserve_bytes=0)\n"
        "print('trimming', flush=True)\n"
        "while True: journal.trim(journal.last_position() - 20)\n"
    )

    with Appender(path, "kept") as appender:
        for number in range(8):
            appender.hear("ok", 300)
            process = subprocess.Popen([sys.executable, "-c", trimming, str(path)], stdout=subprocess.PIPE)
            assert process.stdout
            process.stdout.readline()
            time.sleep(random.Random(number).random() / 20)
            process.kill()
            process.communicate()
        appender.kill()

    journal = SqliteJournal.open(path, max_bytes=1 << 40, reserve_bytes=0)
    entries = journal.read(0, EVERYTHING)
    first, last = entries[0].position, journal.last_position()
    assert list(range(first, last + 1)) == [entry.position for entry in entries]
    assert last >= len(appender.words["ok"])
    assert (len(entries), sum(len(entry.payload) + 128 for entry in entries)) == (
        journal.lag().entries,
        journal.lag().bytes,
    )
    journal.trim(last)
    assert (journal.lag().entries, journal.lag().bytes) == (0, 0)
    journal.close()
