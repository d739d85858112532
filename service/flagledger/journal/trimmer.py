"""
The trimmer: forgets what the store holds, a slice at a time, and keeps ids, the write-ahead log and the reserve in bounds.

Trimming frees pages and leaves their bytes. Erasing overwrites them too: what it trims at once, and what was trimmed before
by filling every free page with zeros and freeing it again. 1 GiB of free pages takes about 6 s, in slices of 35 ms at most;
rewriting the file (VACUUM) would keep appends waiting for as long as it takes.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.group import ENTRY_OVERHEAD
from flagledger.journal.reserve import Reserve
from flagledger.journal.schema import (
    PAGE_BYTES,
    WAL_KEEP_BYTES,
    begin,
    connect,
    is_busy,
    roll_back,
    shorten_wal,
    wal_bytes,
)
from flagledger.telemetry.logging import get_logger

_SLICE_ENTRIES: Final = 200
_SLICE_IDS: Final = 2000
_SLICE_PAUSE: Final = 0.001
_ID_SLICES: Final = 20
_LOCK_SECONDS: Final = 10.0
_SHORTEN_SECONDS: Final = 0.5
# How long an erasure tries to empty the write-ahead log between the commits of others.
_EMPTY_SECONDS: Final = 5.0
# Pages that one slice of an erasure fills, what each holds of a long value, behind the number of the next, and what is kept
# in the row itself. It has to be so much that the last page is full: SQLite does not clear what a value leaves of its last.
_FILL_PAGES: Final = 1024
_FILL_BYTES: Final = PAGE_BYTES - 4
_FILL_ROW_BYTES: Final = 600
# Made where it is missing, and empty between erasures. Older versions do not know it and do not mind it.
_FILLER: Final = "CREATE TABLE IF NOT EXISTS filler (number INTEGER PRIMARY KEY, zeros BLOB NOT NULL)"
_SMALLEST_KEY: Final = -(2**63)
_LARGEST_KEY: Final = 2**63 - 1


class Trimmer:
    """
    What trims, one caller at a time.

    Args:
        path: The journal's file, prepared.
        reserve: Given up when there is no room to trim in.
    """

    def __init__(self, path: Path, reserve: Reserve) -> None:
        self._path = path
        self._reserve = reserve
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        # Where the sweep through the batch ids stands, and what it clears away; None between sweeps.
        self._sweep: tuple[int, int] | None = None
        # Whether free pages may hold what was trimmed, and whether they may be taken up by filler: by one killed, at first.
        self._unclean = True
        self._filled = True

    def trim(self, up_to: int) -> None:
        """
        Forget entries up to position *up_to*, some batch ids that are out of their window, and bound the write-ahead log.

        Raises:
            FlagledgerError: DISK_FAILING, and slices that were done stay done; DRAINING once closed.
        """
        with self._working():
            self._make_room(lambda: self._trim(up_to))

    def erase(self, up_to: int) -> None:
        """
        Forget entries up to position *up_to*, and leave nothing in the files of any entry that was ever forgotten.

        Raises:
            FlagledgerError: DISK_FAILING, also where the log could not be emptied for all that others commit: entries are
                forgotten then, and their bytes may be left until this succeeds; DRAINING once closed.
        """
        with self._working():
            self._make_room(lambda: self._erase(up_to))

    def close(self) -> None:
        """Close the connection; trimming does nothing from then on. A trim under way is waited for."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise FlagledgerError(Reason.DRAINING, "The journal is closed.")
            try:
                yield
            except sqlite3.Error as error:
                raise FlagledgerError(Reason.DISK_FAILING, f"The journal could not be trimmed: {error}.") from error

    def _make_room(self, work: Callable[[], None]) -> None:
        try:
            work()
        except sqlite3.Error as error:
            if not _lacks_room(error) or not self._reserve.release():
                raise
            get_logger().warning("the disk is full: the journal is trimmed on its reserve", path=str(self._path))
            try:
                work()
            finally:
                # What the log took of the reserve goes back first.
                self._shorten_wal()
                self._reserve.make()
        else:
            self._reserve.make()

    def _erase(self, up_to: int) -> None:
        unclean = self._unclean
        self._connected().execute("PRAGMA secure_delete = ON").fetchall()
        try:
            self._trim(up_to)
        finally:
            self._connected().execute("PRAGMA secure_delete = FAST").fetchall()
        if unclean:
            while self._fill_slice():
                time.sleep(_SLICE_PAUSE)
            self._remove_filler()
        self._unclean = False
        if not shorten_wal(self._connected(), _EMPTY_SECONDS):
            raise FlagledgerError(
                Reason.DISK_FAILING, "The journal's log could not be emptied: others write without a pause. Try again."
            )

    def _trim(self, up_to: int) -> None:
        if self._filled:
            self._remove_filler()
        while self._slice(up_to):
            time.sleep(_SLICE_PAUSE)
        for _ in range(_ID_SLICES):
            if not self._sweep_slice():
                break
            time.sleep(_SLICE_PAUSE)
        log_bytes = wal_bytes(self._path)
        # On a tight disk the log's own room is what appends wait for.
        if log_bytes > WAL_KEEP_BYTES or not self._reserve.admits(log_bytes):
            self._shorten_wal()

    def _slice(self, up_to: int) -> bool:
        """Forget one slice; return whether there may be more."""
        with self._transaction() as connection:
            last, count, size = connection.execute(
                "SELECT max(position), count(*), sum(length(payload)) FROM"
                " (SELECT position, payload FROM entries WHERE position <= ? ORDER BY position LIMIT ?)",
                (up_to, _SLICE_ENTRIES),
            ).fetchall()[0]
            if not count:
                return False
            self._unclean = True
            connection.execute("DELETE FROM entries WHERE position <= ?", (last,))
            connection.execute(
                "UPDATE state SET outstanding_bytes = outstanding_bytes - ?, outstanding_entries = outstanding_entries - ?",
                (size + count * ENTRY_OVERHEAD, count),
            )
        return bool(count == _SLICE_ENTRIES)

    def _fill_slice(self) -> bool:
        """Fill some free pages with zeros; return whether there were any."""
        self._filled = True
        with self._transaction() as connection:
            (free,) = connection.execute("PRAGMA freelist_count").fetchall()[0]
            if free:
                zeros = min(free, _FILL_PAGES) * _FILL_BYTES + _FILL_ROW_BYTES
                connection.execute("INSERT INTO filler (zeros) VALUES (zeroblob(?))", (zeros,))
        return bool(free)

    def _remove_filler(self) -> None:
        with self._transaction() as connection:
            connection.execute(_FILLER)
        removed = 1
        while removed:
            with self._transaction() as connection:
                removed = connection.execute(
                    "DELETE FROM filler WHERE number = (SELECT max(number) FROM filler)"
                ).rowcount
            time.sleep(_SLICE_PAUSE)
        self._filled = False

    def _sweep_slice(self) -> bool:
        """Clear one stretch of the batch ids of what is out of its window; return whether there may be more."""
        with self._transaction() as connection:
            if self._sweep is None:
                (oldest,) = connection.execute("SELECT oldest_generation FROM state").fetchall()[0]
                if not connection.execute("SELECT 1 FROM generations WHERE number < ?", (oldest,)).fetchall():
                    return False
                self._sweep = (_SMALLEST_KEY, oldest)
            start, oldest = self._sweep
            ends = connection.execute(
                "SELECT key FROM batch_ids WHERE key >= ? ORDER BY key LIMIT 1 OFFSET ?", (start, _SLICE_IDS)
            ).fetchall()
            end = ends[0][0] if ends else _LARGEST_KEY
            connection.execute(
                "DELETE FROM batch_ids WHERE key BETWEEN ? AND ? AND generation < ?", (start, end, oldest)
            )
            if not ends:
                connection.execute("DELETE FROM generations WHERE number < ?", (oldest,))
        self._sweep = (end, oldest) if ends else None
        return bool(ends)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        begin(connection, _LOCK_SECONDS)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            roll_back(connection)
            raise

    def _shorten_wal(self) -> None:
        # Where it does not succeed, the log is longer than it need be and all else holds.
        with contextlib.suppress(sqlite3.Error):
            shorten_wal(self._connected(), _SHORTEN_SECONDS)

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = connect(self._path)
        return self._connection


def _lacks_room(error: sqlite3.Error) -> bool:
    if is_busy(error):
        return False
    # A quota or a file size limit shows as a failed write, not as a full disk.
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
