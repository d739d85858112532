from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flagledger.journal.sqlite import SqliteJournal
from journal.appender import payload_of
from journal.processes import Appender

EVERYTHING = 1 << 40
MEBIBYTE = 1 << 20
RESERVE = 16 * MEBIBYTE

pytestmark = pytest.mark.slow


def names_in(journal: SqliteJournal, after: int = 0) -> list[str]:
    """Return the names of the batches behind a position, having compared their payloads and positions."""
    names = []
    for entry in journal.read(after, EVERYTHING):
        after += 1
        assert after == entry.position
        name = entry.payload.split(b"\n", 1)[0].decode()
        assert payload_of(name, len(entry.payload) - len(name) - 1) == entry.payload
        names.append(name)
    return names


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """Mount a disk of *size* bytes, or skip where that is not permitted."""
    directory.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(directory)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk is not permitted here; the file size limit tests run instead")
    try:
        yield directory
    finally:
        # Lazily: a test that fails may have left the journal open.
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_full_disk_refuses_and_comes_back_by_trimming(tmp_path: Path) -> None:
    """On a full disk appends are refused and reading goes on; trimming, on its reserve, makes room without a restart."""
    with small_disk(tmp_path / "disk", 96 * MEBIBYTE) as disk:
        path = disk / "journal.db"
        trimmer = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=RESERVE)
        with Appender(path, "full", pause=0.0005, size=13000, reserve=RESERVE) as appender:
            recorded: list[str] = []
            for _ in range(3):
                appender.hear("DISK_FAILING", 50)
                recorded += names_in(trimmer, len(recorded))
                trimmer.trim(len(recorded))
                emptied = time.monotonic()
                appender.hear("ok")
                assert time.monotonic() - emptied < 5
                assert path.with_name("journal.db.reserve").exists()
            appender.kill()
        recorded += names_in(trimmer, len(recorded))
        trimmer.close()

    assert set() == set(appender.words["ok"]) - set(recorded)
    assert len(recorded) == len(set(recorded))
    assert len(recorded) > 3 * 1000


def test_disk_filled_by_others_refuses_and_comes_back(tmp_path: Path) -> None:
    """Where something else fills the disk appends are refused, and go on within 5 seconds of its being gone."""
    with small_disk(tmp_path / "disk", 96 * MEBIBYTE) as disk:
        path = disk / "journal.db"
        with Appender(path, "full", pause=0.01, size=13000, reserve=RESERVE) as appender:
            appender.hear("ok", 100)
            ballast = os.open(disk / "ballast", os.O_CREAT | os.O_WRONLY)
            with contextlib.suppress(OSError):
                while os.write(ballast, bytes(4096)):
                    pass
            os.close(ballast)
            appender.hear("DISK_FAILING", 50)
            (disk / "ballast").unlink()
            gone = time.monotonic()
            appender.hear("ok")
            assert time.monotonic() - gone < 5
            appender.hear("ok", 100)
            appender.kill()
        journal = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=0)
        recorded = names_in(journal)
        journal.close()

    assert set() == set(appender.words["ok"]) - set(recorded)
    assert len(recorded) == len(set(recorded))


def test_trimming_works_on_the_last_block(tmp_path: Path) -> None:
    """With the disk filled to its last block, trimming gives up the reserve, does its work, and takes a reserve back."""
    with small_disk(tmp_path / "disk", 96 * MEBIBYTE) as disk:
        path = disk / "journal.db"
        with Appender(path, "first", 1000, size=13000, reserve=RESERVE) as appender:
            assert appender.join() == 0
        journal = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=RESERVE)
        ballast = os.open(disk / "ballast", os.O_CREAT | os.O_WRONLY)
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while os.write(ballast, bytes(size)):
                    pass
        os.close(ballast)
        assert os.statvfs(disk).f_bavail == 0
        reserve = path.with_name("journal.db.reserve")
        before = reserve.stat().st_ino
        journal.trim(1000)

        assert (journal.lag().entries, journal.lag().bytes) == (0, 0)
        assert before != reserve.stat().st_ino
        journal.close()


def test_file_size_limit_refuses_and_comes_back(tmp_path: Path) -> None:
    """Where no file may grow appends are refused; once they may again appends go on, and nothing acknowledged is lost."""
    path = tmp_path / "journal.db"
    with Appender(path, "limit", pause=0.001, fsize=3 * MEBIBYTE) as appender:
        appender.hear("DISK_FAILING", 200)
        appender.say()
        appender.hear("lifted")
        lifted = time.monotonic()
        appender.hear("ok")
        assert time.monotonic() - lifted < 5
        appender.hear("ok", 500)
        appender.kill()
    journal = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=0)
    recorded = names_in(journal)
    journal.close()

    assert appender.words["writable"] == ["False"]
    assert set() == set(appender.words["ok"]) - set(recorded)
    assert set() == set(appender.words["DISK_FAILING"]) & set(recorded)
    assert len(recorded) == len(set(recorded))


def test_fsync_that_hangs_refuses_and_comes_back(tmp_path: Path) -> None:
    """While an fsync hangs, appends behind it are refused, and what it was to sync is answered once it returns."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace, which makes fsync hang, is not installed")
    path = tmp_path / "journal.db"
    hang = "inject=fdatasync,fsync:delay_enter=12s:when=60"
    wrapper = [strace, "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=fdatasync,fsync", "-e", hang]
    # More than a group holds.
    with Appender(path, "hang", pause=0.05, clients=1000, wrapper=wrapper) as appender:
        appender.hear("DISK_FAILING", 1000)
        heard = len(appender.words["ok"])
        appender.hear("ok", 2000)
        appender.kill()
    journal = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=0)
    recorded = names_in(journal)
    journal.close()

    assert 0 < heard
    assert set() == set(appender.words["ok"]) - set(recorded)
    assert set() == set(appender.words["DISK_FAILING"]) & set(recorded)
    assert len(recorded) == len(set(recorded))


def test_failed_fsync_is_never_taken_for_done(tmp_path: Path) -> None:
    """Where fsync fails, not one batch is acknowledged until it succeeds again, and what was refused is not there."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace, which makes fsync fail, is not installed")
    path = tmp_path / "journal.db"
    fail = "inject=fdatasync,fsync:error=EIO:when=60..90"
    wrapper = [strace, "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "trace=fdatasync,fsync", "-e", fail]
    with Appender(path, "eio", pause=0.001, wrapper=wrapper) as appender:
        appender.hear("ok", 100)
        appender.hear("DISK_FAILING")
        heard = len(appender.words["ok"])
        appender.hear("DISK_FAILING", 100)
        assert heard == len(appender.words["ok"])
        appender.hear("ok", 200)
        appender.kill()
    journal = SqliteJournal.open(path, max_bytes=EVERYTHING, reserve_bytes=0)
    recorded = names_in(journal)
    journal.close()

    assert set() == set(appender.words["ok"]) - set(recorded)
    assert set() == set(appender.words["DISK_FAILING"]) & set(recorded)
    assert len(recorded) == len(set(recorded))
