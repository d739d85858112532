"""
The embedded journal: one SQLite file that fronts append to and the writer reads and trims, each from a process of its own.

Tables::

    meta         name → value          `identity` and `format`
    state        one row               last_position; outstanding bytes and entries; the current generation, when it began
                                       and how many ids it has; the oldest generation still known
    entries      position → appended_at (ms), payload
    batch_ids    key → fingerprint, generation, accepted, filtered, rejected
    generations  number → started_at, batches     closed generations that still have rows in batch_ids
    probe        one row               written to find out whether a failing disk takes writes again
    filler       number → zeros        what free pages are overwritten with; empty between erasures

A batch id is hashed with its environment, keyed by the journal's identity, to 16 bytes: 8 are the key, 8 begin the
fingerprint, whose other 16 are the content digest. The key is the row's number, which makes the table a third cheaper than
one by a 16-byte key; that two ids share one within a window of 20 million happens to one batch in 10^12, and then the
fingerprint tells them apart and the later one takes the row.

The file is in WAL mode with `synchronous=FULL`, for trims too. Beside it lie `-wal`, `-shm` and `.reserve`.

Parts: `schema` (the file and its connections), `committer` (the thread that appends), `group` (what one transaction of it
does), `generations` (how long ids are known), `trimmer` (trimming, erasing, clearing ids, the log's length), `reserve` (disk
held back).

Invariants:

1. An append is answered after the commit that holds it returned, hence after its fsync; the same for the first of which it
   is a duplicate. What can be read is on disk.
2. Entry, batch id and `state` change in one transaction. `state` counts exactly the rows of `entries`, so the size limit
   holds across processes and restarts without looking at entries.
3. Positions come from `state.last_position`, which only grows, by one for each entry: they have no gap, and none is used
   twice, however much was trimmed. (AUTOINCREMENT would promise the second half for a write more per row.)
4. Trimming removes a prefix of `entries` and no batch id. A batch id leaves only when its whole generation lies outside the
   window; whether it is known is decided by its generation, not by whether its row has been cleared away yet.
5. An error in a commit refuses every waiter of its group with DISK_FAILING. Its pages are never written or fsynced again:
   the next group overwrites them. Only if every process ends before one does may the refused group turn out to be recorded
   after all, which a batch id makes harmless.
6. Opening moves what a killed process left in the log into the file, fsynced, before anything is answered from it.
7. No statement stays open between calls, so nothing keeps the log from beginning anew.
8. Nothing is appended unless the disk has room to move the log into the file, nor, while the reserve is given up, unless
   there is ample room: what trimming was given stays trimming's and is enough.
9. Nobody waits without end. A disk that has not answered for some seconds refuses what comes and what is queued; only those
   whose group it was given wait on, since they may have been recorded. Should the committer's thread end, all are refused.
10. After an erasure neither the file nor its log holds a byte of any payload trimmed until then: freed pages are filled with
   zeros, and the log is emptied. Within pages in use, whoever deletes or moves a payload wipes what it leaves
   (`secure_delete=FAST`, in every process). The reserve's blocks were never anything's. Two things are beyond reach: what file
   system and disk keep of blocks that are not the file's any more, and, seldom, a piece of less than a page behind the end of
   a long payload that is still waiting (SQLite does not clear the rest of a page that had listed free ones).

Crash points, by the names that tests use:

* `created_empty`: the file is there, its tables are not: the next opening makes them.
* `group_written`: a group is in the log without its fsync: recorded or not, never in part, and nobody was answered.
* `group_committed`: a group is on disk and nobody was answered: the batch sent again is a duplicate.
* `slice_trimmed`: part of a trim is done: the rest is trimmed next time.
* `sweep_begun`: part of a generation's ids are cleared: the sweep begins again.
* `free_filled`: free pages are taken up by filler: the next trim frees them.
* `log_torn`: the log ends in the middle of a group: everything before that group is there.
* `reserve_drafted`: the reserve has blocks and not yet its name: the draft becomes the next reserve.
* `reserve_given_up`: the reserve is gone: appends wait for room twice its size, or for the next trim, which makes it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, TypeVar

from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.base import Appended, Entry, Lag, Outcome, Waiting
from flagledger.journal.committer import Committer
from flagledger.journal.generations import Window
from flagledger.journal.reserve import Reserve
from flagledger.journal.schema import connect, prepare
from flagledger.journal.trimmer import Trimmer

RESERVE_BYTES: Final = 16 * 1024 * 1024
"""Disk held back for trimming: twice what the write-ahead log holds unmoved, which is what trimming may need."""

_MILLISECONDS_PER_HOUR: Final = 3_600_000
_BUSY_SECONDS: Final = 5.0

_T = TypeVar("_T")


class SqliteJournal:
    """
    A journal in one SQLite file, for any number of processes that append and one that reads and trims.

    Attributes:
        identity: Names the file's contents for as long as they live: 32 hexadecimal digits made with the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        identity: str,
        max_bytes: int,
        window: Window,
        reserve: Reserve,
        breath: float,
        clock: Callable[[], float],
    ) -> None:
        self.identity = identity
        self._path = path
        self._secret = bytes.fromhex(identity)
        self._clock = clock
        self._trimmer = Trimmer(path, reserve)
        self._read_lock = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._closed = threading.Event()
        self._committer = Committer(
            path, max_bytes=max_bytes, window=window, reserve=reserve, breath=breath, clock=clock
        )

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_bytes: int,
        dedup_hours: float = 24,
        dedup_max_batches: int = 20_000_000,
        reserve_bytes: int = RESERVE_BYTES,
        breath: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """
        Open the journal at *path*, making it where there is none. Blocks: call it before the event loop or in a thread.

        Args:
            path: The file; its directory exists. Beside it lie its write-ahead log and its reserve.
            max_bytes: Bytes of payload, and 128 an entry, that may wait for the store; beyond it appends are refused.
            dedup_hours: Hours for which a batch id is known at least,
            dedup_max_batches: or batches, whichever is less.
            reserve_bytes: Disk held back for trimming; 0 for none.
            breath: Seconds that this process leaves the file to others after each commit: about 0.0003 where several append.
            clock: Epoch seconds.

        Raises:
            JournalError: The file cannot be made or read, is no journal, or has a newer format.
        """
        identity = prepare(path)
        reserve = Reserve(path.with_name(f"{path.name}.reserve"), reserve_bytes)
        if reserve.is_ample():
            reserve.make()
        return cls(
            path,
            identity=identity,
            max_bytes=max_bytes,
            window=Window(milliseconds=round(dedup_hours * _MILLISECONDS_PER_HOUR), batches=dedup_max_batches),
            reserve=reserve,
            breath=breath,
            clock=clock,
        )

    async def append(
        self, environment: str, batch_id: str, digest: bytes, outcome: Outcome, payload: bytes
    ) -> Appended:
        """Append *payload* and return when it is on disk; see `Journal.append`. Call it from one event loop at a time."""
        if not batch_id:
            return await self._committer.submit(None, b"", outcome, payload)
        # The length keeps environment and id apart whatever they hold; the secret keeps anyone from choosing ids that collide.
        name = f"{len(environment)}:{environment}\0{batch_id}".encode("utf-8", "surrogatepass")
        name_hash = hashlib.blake2b(name, digest_size=16, key=self._secret).digest()
        key = int.from_bytes(name_hash[:8], "big", signed=True)
        return await self._committer.submit(key, name_hash[8:] + digest, outcome, payload)

    def read(self, after: int, max_bytes: int) -> list[Entry]:
        """
        Return entries behind position *after*, in order, up to *max_bytes* of payload but at least one where there is one.

        Raises:
            FlagledgerError: DISK_FAILING where the file cannot be read; DRAINING once closed.
        """
        return self._reading(lambda connection: _read(connection, after, max_bytes))

    def trim(self, up_to: int) -> None:
        """
        Forget the payloads of entries up to position *up_to*, in slices between which appends go on. Their batch ids stay known.

        Raises:
            FlagledgerError: DISK_FAILING where the file cannot be written; what was trimmed until then stays trimmed.
        """
        self._trimmer.trim(up_to)

    def erase(self, up_to: int) -> None:
        """
        Forget entries as `trim` does, and overwrite what they, and all that were trimmed before, have left in the files.

        Appends go on meanwhile. It takes about 6 s for each GiB that the journal has held at most since the last erasure.

        Raises:
            FlagledgerError: DISK_FAILING where the files cannot be written, or the log not be emptied for all that others
                commit: call it again.
        """
        self._trimmer.erase(up_to)

    def lag(self) -> Lag:
        """
        Return what has not been trimmed yet. Bytes count 128 for each entry beside its payload.

        Raises:
            FlagledgerError: DISK_FAILING where the file cannot be read; DRAINING once closed.
        """
        size, count, appended_at = self._reading(_lag)
        return Lag(bytes=size, entries=count, oldest_age=self._age(appended_at))

    def waiting(self, after: int) -> Waiting:
        """
        Return what lies behind position *after*. Cheap, however much that is.

        Raises:
            FlagledgerError: DISK_FAILING where the file cannot be read; DRAINING once closed.
        """
        last, appended_at = self._reading(lambda connection: _behind(connection, after))
        return Waiting(entries=max(0, last - after), oldest_age=self._age(appended_at))

    def first_position(self) -> int:
        """
        Return the position of the oldest entry that is held, or the one to be given out next where there is none.

        Raises:
            FlagledgerError: DISK_FAILING where the file cannot be read; DRAINING once closed.
        """
        return self._reading(_first_position)

    def last_position(self) -> int:
        """
        Return the position given out last; 0 where there was none.

        Raises:
            FlagledgerError: DISK_FAILING where the file cannot be read; DRAINING once closed.
        """
        return self._reading(_last_position)

    def writable(self) -> bool:
        """Return whether appends reach the disk, as far as the last try shows or one that hangs. A full journal is writable."""
        return self._committer.writable()

    def close(self) -> None:
        """
        Commit what is queued, refuse what comes later with DRAINING, and close the file. May be called twice.

        Blocks while the last group reaches the disk, so call it in a thread: the answers of that group need the event loop.
        """
        self._closed.set()
        self._committer.close()
        self._trimmer.close()
        with self._read_lock:
            if self._reader is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._reader.close()
                self._reader = None

    def _age(self, appended_at: int | None) -> float:
        return 0.0 if appended_at is None else max(0.0, self._clock() - appended_at / 1000)

    def _reading(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._read_lock:
            if self._closed.is_set():
                raise FlagledgerError(Reason.DRAINING, "The journal is closed.")
            try:
                if self._reader is None:
                    self._reader = connect(self._path, busy_seconds=_BUSY_SECONDS)
                return question(self._reader)
            except sqlite3.Error as error:
                raise FlagledgerError(Reason.DISK_FAILING, f"The journal could not be read: {error}.") from error


def _read(connection: sqlite3.Connection, after: int, max_bytes: int) -> list[Entry]:
    entries: list[Entry] = []
    size = 0
    rows = connection.execute("SELECT position, payload FROM entries WHERE position > ? ORDER BY position", (after,))
    # Closed before returning: an open cursor would keep the write-ahead log from being emptied.
    with contextlib.closing(rows):
        for position, payload in rows:
            size += len(payload)
            if entries and size > max_bytes:
                break
            entries.append(Entry(position=position, payload=payload))
    return entries


def _lag(connection: sqlite3.Connection) -> tuple[int, int, int | None]:
    row = connection.execute(
        "SELECT outstanding_bytes, outstanding_entries, (SELECT appended_at FROM entries ORDER BY position LIMIT 1) FROM state"
    ).fetchall()[0]
    return row[0], row[1], row[2]


def _behind(connection: sqlite3.Connection, after: int) -> tuple[int, int | None]:
    row = connection.execute(
        "SELECT last_position, (SELECT appended_at FROM entries WHERE position > ? ORDER BY position LIMIT 1) FROM state",
        (after,),
    ).fetchall()[0]
    return row[0], row[1]


def _first_position(connection: sqlite3.Connection) -> int:
    question = "SELECT coalesce((SELECT min(position) FROM entries), last_position + 1) FROM state"
    position: int = connection.execute(question).fetchall()[0][0]
    return position


def _last_position(connection: sqlite3.Connection) -> int:
    position: int = connection.execute("SELECT last_position FROM state").fetchall()[0][0]
    return position
