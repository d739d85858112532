"""
The journal's file: how it is made, recognised, migrated and connected to.

Everything here is synchronous and may block; none of it runs on an event loop.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flagledger.journal.base import JournalError

FORMAT: Final = 1
"""The format that this version reads and writes."""

# Batch ids fall on random pages, and each page touched is written whole: larger pages make those dearer than they make
# payloads cheaper.
PAGE_BYTES: Final = 4096
_CACHE_KIB: Final = 16 * 1024
CHECKPOINT_PAGES: Final = 2000
"""Pages in the write-ahead log from which a commit also moves them into the file: about 8 MiB."""
WAL_KEEP_BYTES: Final = 32 * 1024 * 1024
"""Size beyond which the write-ahead log is cut short."""

BUSY_PAUSE: Final = 0.0002
"""
Seconds between two tries for the write lock. SQLite's own waiting backs off up to 100 ms, so that of two processes the one
that waits starves.
"""
_CONNECT_SECONDS: Final = 5.0
_OPEN_SECONDS: Final = 5.0

_TABLES: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE state (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        last_position INTEGER NOT NULL,
        outstanding_bytes INTEGER NOT NULL,
        outstanding_entries INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        generation_started_at INTEGER NOT NULL,
        generation_batches INTEGER NOT NULL,
        oldest_generation INTEGER NOT NULL
    )
    """,
    "CREATE TABLE entries (position INTEGER PRIMARY KEY, appended_at INTEGER NOT NULL, payload BLOB NOT NULL)",
    """
    CREATE TABLE batch_ids (
        key INTEGER PRIMARY KEY,
        fingerprint BLOB NOT NULL,
        generation INTEGER NOT NULL,
        accepted INTEGER NOT NULL,
        filtered INTEGER NOT NULL,
        rejected INTEGER NOT NULL
    )
    """,
    "CREATE TABLE generations (number INTEGER PRIMARY KEY, started_at INTEGER NOT NULL, batches INTEGER NOT NULL)",
    "CREATE TABLE probe (one INTEGER PRIMARY KEY CHECK (one = 1), filler BLOB NOT NULL)",
)

# Steps that lead from a format to the next one, by the format they start from. Each runs in the transaction that also
# records the new format.
_MIGRATIONS: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {}


def connect(path: Path, *, busy_seconds: float = 0) -> sqlite3.Connection:
    """
    Return a connection in the journal's settings.

    Args:
        path: The journal's file, which exists.
        busy_seconds: How long statements wait for a lock by themselves. Writers leave it at 0 and `begin`.

    Raises:
        sqlite3.Error: The file cannot be opened.
    """
    connection = sqlite3.connect(path, timeout=_CONNECT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        # For trims too: the log is a chain. A link that is not on disk, and later fails to get there, would take every
        # acknowledged one behind it along.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEEP_BYTES}").fetchall()
        # What is deleted within a page that is written anyway is wiped, at no cost. Freed pages are not, which would make
        # trimming write each of them: they are overwritten by later entries, or by an erasure.
        connection.execute("PRAGMA secure_delete = FAST").fetchall()
        connection.execute(f"PRAGMA busy_timeout = {round(busy_seconds * 1000)}").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def begin(connection: sqlite3.Connection, seconds: float) -> None:
    """
    Begin a write transaction, asking for the lock at short intervals.

    Raises:
        sqlite3.Error: The lock was not to be had within *seconds* (SQLITE_BUSY), or the file fails.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(BUSY_PAUSE)
        else:
            return


def shorten_wal(connection: sqlite3.Connection, seconds: float) -> bool:
    """
    Move the whole write-ahead log into the file and cut it short. Left for another time, and False, where *seconds* do not do.

    Commits of several processes leave no moment in which the log has been moved as a whole and may begin anew by itself.

    Raises:
        sqlite3.Error: The file fails.
    """
    deadline = time.monotonic() + seconds
    # A try moves what it can without the write lock, so that the one that gets it has little left to do.
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]:
        if time.monotonic() >= deadline:
            return False
        time.sleep(BUSY_PAUSE)
    return True


def wal_bytes(path: Path) -> int:
    """Return the size of the write-ahead log of the journal at *path*."""
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except OSError:
        return 0


def roll_back(connection: sqlite3.Connection) -> None:
    """
    End whatever transaction *connection* is in, after an error.

    The connection stays open: what a failed commit left in the write-ahead log does not count as long as some process has
    the file open, and is overwritten by the next commit. Whoever opens the file after all have closed it would believe it.
    """
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether *error* only says that another connection holds a lock."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def prepare(path: Path) -> str:
    """
    Make the journal's file if there is none, migrate it if it is older, and return its identity.

    Any number of processes may do so at once: one of them makes it.

    Raises:
        JournalError: The file cannot be made or read, is no journal, or has a newer format.
    """
    try:
        _touch(path)
        connection = connect(path, busy_seconds=_CONNECT_SECONDS)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(f"The journal {path} cannot be opened: {error}.") from error
    try:
        identity = _retrying(lambda: _identity(connection, path))
        _settle(connection, path)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(f"The journal {path} cannot be used: {error}.") from error
    else:
        return identity
    finally:
        connection.close()


def _touch(path: Path) -> None:
    """Make an empty file that only its owner reads, its name on disk, where there is none."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _retrying(action: Callable[[], str]) -> str:
    deadline = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _settle(connection: sqlite3.Connection, path: Path) -> None:
    """
    Put on disk what a killed process left in the write-ahead log.

    It may have been killed between writing a group and its fsync, or after an fsync that failed. The group is in the log by
    then, and its batches would be answered as duplicates, which means that they are on disk. Copying them into the file
    writes them anew; an fsync of the log would not, where the one before has failed.
    """
    try:
        deadline = time.monotonic() + _OPEN_SECONDS
        while time.monotonic() < deadline:
            busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()[0]
            if not busy and moved == frames:
                break
            # Another process is in the midst of it, or of reading.
            time.sleep(0.01)
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise
        # No room for the file to grow: reading and trimming have to go on all the same.
        log = os.open(path.with_name(f"{path.name}-wal"), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(log)
        finally:
            os.close(log)


def _identity(connection: sqlite3.Connection, path: Path) -> str:
    identity, file_format = _meta(connection, path)
    if file_format == FORMAT:
        return identity
    if file_format > FORMAT:
        raise JournalError(
            f"The journal {path} has format {file_format}, which a newer Flagledger wrote; this one knows formats up to "
            f"{FORMAT}. Start that newer version, or point the data directory elsewhere."
        )
    if file_format == 0:
        # Neither takes effect inside a transaction. Both are harmless if another process was quicker.
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("BEGIN IMMEDIATE")
    try:
        identity, file_format = _meta(connection, path)
        if file_format == 0:
            identity, file_format = _create(connection), FORMAT
        while file_format < FORMAT:
            if file_format not in _MIGRATIONS:
                raise JournalError(
                    f"The journal {path} has format {file_format}, which this Flagledger cannot migrate."
                )
            _MIGRATIONS[file_format](connection)
            file_format += 1
            connection.execute("UPDATE meta SET value = ? WHERE name = 'format'", (str(file_format),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return identity


def _meta(connection: sqlite3.Connection, path: Path) -> tuple[str, int]:
    """Return identity and format; format 0 where the file is still empty."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema").fetchall()}
    if not tables:
        return "", 0
    if "meta" not in tables:
        raise JournalError(
            f"{path} is a database, but not a journal. Point the data directory elsewhere, or move it away."
        )
    meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
    return meta["identity"], int(meta["format"])


def _create(connection: sqlite3.Connection) -> str:
    identity = secrets.token_hex(16)
    for table in _TABLES:
        connection.execute(table)
    connection.executemany(
        "INSERT INTO meta (name, value) VALUES (?, ?)", [("identity", identity), ("format", str(FORMAT))]
    )
    connection.execute("INSERT INTO state VALUES (1, 0, 0, 0, 1, 0, 0, 1)")
    return identity
