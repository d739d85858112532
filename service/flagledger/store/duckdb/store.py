"""
The embedded store: one DuckDB file, owned by one process.

Rows and the position of their journal entries are committed in one transaction, which is what makes each entry apply
exactly once.

```text
store.duckdb                        what the last checkpoint wrote; blocks carry checksums
store.duckdb.wal                    transactions committed since then
store.duckdb.wal.<time>.set-aside   a log that could not be replayed; kept for a person to look at
```

Invariants:
* A committed transaction holds the rows of entries first..last and the position last, or neither.
* Whatever `trimmable` returns lies in the file itself, so that losing the log loses nothing that the journal does not
  still hold.
* Times are TIMESTAMP in UTC.
* No row holds a long text: those are kept in pieces (module `texts`).

What can go wrong with the log at opening (a torn tail: DuckDB replays up to it; anything else: it refuses) costs the
log alone: it is set aside, the file opened at its last checkpoint, and the journal read again from there. A damaged
file is refused, never replaced.

A transaction of 122,880 rows or more writes them compressed into the file at once; smaller ones go through the log,
and every checkpoint compresses the last, unfilled row group again. Large transactions cost half as much for each row,
and checkpoints are better few: hence the figures below.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from flagledger.store.applied import SetAside
from flagledger.store.duckdb import engine, erase, hashes
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.duckdb.file import Settings, log_of, meaning, open_file
from flagledger.store.errors import (
    Interrupt,
    OtherJournalError,
    QuestionEndedError,
    RowsRefusedError,
    StoreError,
)
from flagledger.store.transactional import Transactional

CHECKPOINT_BYTES: Final = 32 << 20
CHECKPOINT_ROWS: Final = 500_000
CHECKPOINT_SECONDS: Final = 30.0
# Checkpoints that gave way to questions in a row, after which one waits for them instead; so it does once the log has
# grown to so many times its length, since what it holds takes memory.
MAX_REFUSED_CHECKPOINTS: Final = 20
MAX_LOG_FACTOR: Final = 2
MEMORY_LIMIT: Final = "256MB"
MAX_SPILLED: Final = "8GiB"
# Each caller works in its own thread already; more of them here cost memory and a third of the rows per core.
THREADS: Final = 1


class DuckDBStore(Transactional[duckdb.DuckDBPyConnection]):
    """
    A `Store` in one DuckDB file.

    Args:
        path: The file; made where it is missing.
        accept_gap: Name of a gap (see `BehindJournalError`) whose entries are known to be lost.
        threads: Threads that one question, or the intake, may spread over.
        memory_limit: What DuckDB may hold, as it writes sizes (`256MB`); beyond it, it spills to `<path>.tmp`.
        checkpoint_bytes: Bytes of log after which `maintain` makes a checkpoint,
        checkpoint_rows: or rows,
        checkpoint_seconds: or seconds, whichever comes first.

    Attributes:
        logs_set_aside: Write-ahead logs that could not be replayed and were set aside, in this object's life.

    Raises:
        NewerFormatError: The file was written by a newer version, of this program or of DuckDB.
        UnreadableError: The file cannot be opened: damaged, or not a store.
        HeldError: Another process has it open.
    """

    engine = engine

    def __init__(
        self,
        path: Path,
        *,
        accept_gap: str | None = None,
        threads: int = THREADS,
        memory_limit: str = MEMORY_LIMIT,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
        checkpoint_rows: int = CHECKPOINT_ROWS,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self.logs_set_aside = 0
        self._path = path
        self._log = log_of(path)
        self.name = str(path)
        self.accept_gap = accept_gap
        self._settings: Settings = {
            "threads": threads,
            "memory_limit": memory_limit,
            # Questions must not take the room that intake needs; one that would is refused.
            "max_temp_directory_size": MAX_SPILLED,
            # Checkpoints are ours to time: trimming follows them, and a commit that hides one has a long tail.
            "checkpoint_threshold": "1TB",
            # The first that compresses long texts well; named, so that a newer DuckDB goes on writing what this reads.
            "storage_compatibility_version": "v1.5.0",
            # Nothing is ever fetched from the network.
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self._checkpoint_bytes = checkpoint_bytes
        self._checkpoint_rows = checkpoint_rows
        self._checkpoint_seconds = checkpoint_seconds
        # Held while the connection is replaced, closed, or asked for a cursor.
        self._guard = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._broken = False
        self._closed = False
        self._stream: str | None = None
        self._position = 0
        self._checkpointed = 0
        self._uncovered_rows = 0
        self._uncovered_since: float | None = None
        self._checkpoints_refused = 0
        with self._errors():
            self._open()

    def apply(
        self,
        stream: str,
        first: int,
        last: int,
        rows: pa.RecordBatch,
        discards: pa.RecordBatch,
        set_aside: Sequence[SetAside] = (),
    ) -> None:
        """Record what entries *first* to *last* became, and move the position to *last*, in one transaction."""
        with self._errors():
            connection = self._own()
            known = self._known(stream)
            if last <= known:
                return
            gap = self._gap_before(known, first, last)
            short, pieces = duckdb_texts.split(rows)
            try:
                connection.execute("BEGIN TRANSACTION").fetchall()
                _insert(connection, "evaluations", short, hashes.COLUMNS)
                _insert(connection, "long_texts", pieces)
                _insert(connection, "discards", discards)
                _keep(connection, stream, set_aside)
                self._move(connection, stream, last, gap)
                connection.execute("COMMIT").fetchall()
            except BaseException:
                self._recover(connection)
                raise
            self._stream, self._position = stream, last
            self._uncovered_rows += rows.num_rows
            if self._uncovered_since is None:
                self._uncovered_since = time.monotonic()

    def trimmable(self, stream: str) -> int:
        """Return the position that the last checkpoint covered."""
        with self._errors():
            self._own()
            self._known(stream)
            return self._checkpointed

    def checkpoint(self) -> None:
        """Write everything that was applied into the file itself, and empty the log."""
        with self._errors():
            self._checkpoint(self._own())

    def maintain(self) -> None:
        """Make a checkpoint once the log has grown long or old enough."""
        with self._errors():
            connection = self._own()
            if self._uncovered_since is not None and (
                self._uncovered_rows >= self._checkpoint_rows
                or time.monotonic() - self._uncovered_since >= self._checkpoint_seconds
                or self._log_bytes() >= self._checkpoint_bytes
            ):
                self._checkpoint_politely(connection)

    def erase_identity(self, environment: str, identity_identifier: str) -> int:
        """Erase what was recorded of an identity, for good: the file itself says so when this returns."""
        with self._errors():
            connection = self._own()
            erased = erase.erase_identity(connection, environment, identity_identifier)
            # Also where nothing was found: the call before may have got no further than the log.
            self._checkpoint(connection)
            return erased

    def drop_before(self, received: int) -> int:
        """Erase the oldest of what was received before *received*; return how much that was, 0 where none is left."""
        with self._errors():
            dropped = erase.drop_before(self._own(), received)
            if dropped and self._uncovered_since is None:
                self._uncovered_since = time.monotonic()
            return dropped

    def close(self) -> None:
        """Make a checkpoint as far as possible and let go of the file."""
        with self._guard:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(duckdb.Error):
                connection.execute("CHECKPOINT").fetchall()
            with suppress(duckdb.Error):
                connection.close()

    def _open(self) -> None:
        connection, set_aside = open_file(self._path, self._settings)
        self.logs_set_aside += set_aside
        try:
            self._load(connection)
            self._checkpointed = 0
            self._uncovered_since = time.monotonic()
            # What the log held is in memory now; from here on the file holds it. Without room it stays in the log.
            with suppress(duckdb.IOException, duckdb.TransactionException):
                self._checkpoint(connection)
        except BaseException:
            connection.close()
            raise
        with self._guard:
            self._connection, self._broken = connection, False

    def _load(self, connection: duckdb.DuckDBPyConnection) -> None:
        streams = connection.execute("SELECT stream, position FROM streams").fetchall()
        self._stream, self._position = streams[0] if streams else (None, 0)

    def _own(self) -> duckdb.DuckDBPyConnection:
        """Return the connection of the one thread that applies, opened again where a failure has spoilt it."""
        if self._closed:
            raise StoreError("The store is closed.")
        if self._broken:
            with self._guard:
                connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(duckdb.Error):
                    connection.close()
            self._open()
        if self._connection is None:
            raise StoreError("The store is closed.")
        return self._connection

    def _known(self, stream: str) -> int:
        if self._stream is not None and self._stream != stream:
            raise OtherJournalError(
                f"{self._path} belongs to the journal {self._stream}, and not to {stream}. Put the two files of one "
                "data directory together again, or start with an empty directory."
            )
        return self._position

    def _move(self, connection: duckdb.DuckDBPyConnection, stream: str, last: int, gap: tuple[int, int] | None) -> None:
        if self._stream is None:
            connection.execute("INSERT INTO streams VALUES (?, ?)", [stream, last]).fetchall()
        else:
            connection.execute("UPDATE streams SET position = ? WHERE stream = ?", [last, stream]).fetchall()
        if gap is not None:
            connection.execute(
                "INSERT INTO gaps VALUES (?, ?, ?, make_timestamp(?))", [stream, *gap, _now()]
            ).fetchall()

    def _recover(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Leave the transaction that failed, and ask the file how far it came: a commit may fail after it was made."""
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK").fetchall()
        try:
            self._load(connection)
        except duckdb.Error:
            self._broken = True

    def _checkpoint_politely(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make a checkpoint now or, where a question that is being answered stands in the way, at one of the next calls."""
        wait = (
            self._checkpoints_refused >= MAX_REFUSED_CHECKPOINTS
            or self._log_bytes() >= self._checkpoint_bytes * MAX_LOG_FACTOR
        )
        try:
            self._checkpoint(connection, wait=wait)
        except duckdb.TransactionException:
            self._checkpoints_refused += 1

    def _checkpoint(self, connection: duckdb.DuckDBPyConnection, *, wait: bool = True) -> None:
        # FORCE waits for the questions that began before the last commit; it ends none.
        connection.execute("FORCE CHECKPOINT" if wait else "CHECKPOINT").fetchall()
        self._checkpointed = self._position
        self._checkpoints_refused = 0
        self._uncovered_rows = 0
        self._uncovered_since = None

    def _log_bytes(self) -> int:
        try:
            return self._log.stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def _reading(self, interrupt: Interrupt | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection of one's own: a question sees one moment, and waits for nobody."""
        with self._errors():
            with self._guard:
                if self._connection is None or self._broken:
                    raise StoreError("The store is closed, or about to be opened again.")
                connection = self._connection.cursor()
            try:
                with nullcontext() if interrupt is None else interrupt.ending(connection.interrupt):
                    yield connection
            finally:
                with suppress(duckdb.Error):
                    connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.DataError, duckdb.IntegrityError) as error:
            raise RowsRefusedError(f"The rows cannot be stored: {error}") from error
        except duckdb.InterruptException as error:
            raise QuestionEndedError("The question was ended before it was answered.") from error
        except duckdb.Error as error:
            # After these DuckDB refuses everything; only opening the file again helps, which is for its owner to do.
            self._broken |= isinstance(error, duckdb.FatalException | duckdb.InternalException)
            raise meaning(self._path, error) from error


def _insert(connection: duckdb.DuckDBPyConnection, table: str, batch: pa.RecordBatch, more: str = "") -> None:
    """Insert *batch*, and *more* columns that SQL makes out of its own."""
    if not batch.num_rows:
        return
    columns = f"*, {more}" if more else "*"
    connection.register("arriving", batch)
    try:
        connection.execute(f"INSERT INTO {table} BY NAME SELECT {columns} FROM arriving").fetchall()  # noqa: S608  # our names
    finally:
        connection.unregister("arriving")


def _keep(connection: duckdb.DuckDBPyConnection, stream: str, set_aside: Sequence[SetAside]) -> None:
    for entry in set_aside:
        connection.execute(
            "INSERT INTO quarantine VALUES (?, ?, ?, ?, make_timestamp(?))",
            [stream, entry.position, entry.payload, entry.description, _now()],
        ).fetchall()


def _now() -> int:
    return time.time_ns() // 1000
