"""The trimmer: forgets what the store holds, a slice at a time, and keeps ids, the write-ahead log and the reserve in bounds."""

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
from flagledger.journal.schema import WAL_KEEP_BYTES, begin, connect, is_busy, roll_back, shorten_wal, wal_bytes
from flagledger.telemetry.logging import get_logger

_SLICE_ENTRIES: Final = 200
_SLICE_IDS: Final = 2000
_SLICE_PAUSE: Final = 0.001
_ID_SLICES: Final = 20
_LOCK_SECONDS: Final = 10.0
_SHORTEN_SECONDS: Final = 0.5
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

    def trim(self, up_to: int) -> None:
        """
        Forget entries up to position *up_to*, some batch ids that are out of their window, and bound the write-ahead log.

        Raises:
            FlagledgerError: DISK_FAILING, and slices that were done stay done; DRAINING once closed.
        """
        with self._lock:
            if self._closed:
                raise FlagledgerError(Reason.DRAINING, "The journal is closed.")
            try:
                self._make_room(lambda: self._trim(up_to))
            except sqlite3.Error as error:
                raise FlagledgerError(Reason.DISK_FAILING, f"The journal could not be trimmed: {error}.") from error

    def close(self) -> None:
        """Close the connection; trimming does nothing from then on. A trim under way is waited for."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()

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

    def _trim(self, up_to: int) -> None:
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
            connection.execute("DELETE FROM entries WHERE position <= ?", (last,))
            connection.execute(
                "UPDATE state SET outstanding_bytes = outstanding_bytes - ?, outstanding_entries = outstanding_entries - ?",
                (size + count * ENTRY_OVERHEAD, count),
            )
        return bool(count == _SLICE_ENTRIES)

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
