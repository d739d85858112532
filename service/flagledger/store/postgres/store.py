"""
The store that is a schema of a PostgreSQL: one process writes, any number of them ask.

Rows and the position of their journal entries are committed in one transaction, which is what makes each entry apply exactly
once; `synchronous_commit` is on in it, so that what was committed is durable, and the journal trimmed by it.

Invariants:
* A committed transaction holds the rows of entries first..last and the position last, or neither.
* The connection that applies holds the writer's lock (module `lock`), and moves the position from where it knows it to be.
* A row lies in the partition of the UTC day of its receipt; retention drops whole partitions.

A connection that was lost is made again at the next call, takes the lock again, and asks how far the store has come: a commit
may have been made although nobody was told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final

import psycopg
import pyarrow as pa
from psycopg import errors, sql

from flagledger.store.applied import SetAside
from flagledger.store.errors import (
    Interrupt,
    OtherJournalError,
    RowsRefusedError,
    StoreError,
)
from flagledger.store.postgres import binary_copy, engine, erase, lock, partitions
from flagledger.store.postgres.connection import WRITER, address_of, connect, meaning
from flagledger.store.postgres.reading import Readers
from flagledger.store.postgres.schema import Connection, migrate
from flagledger.store.transactional import Transactional
from flagledger.store.value_keys import long_keys

# What is made into one piece of a stream, as it is in memory: several of these exist at a time.
PIECE_BYTES: Final = 8 << 20
PARTITIONS_SECONDS: Final = 3_600.0
"""Seconds between two looks whether the partitions of today and tomorrow are there."""


class PostgresStore(Transactional[Connection]):
    """
    A `Store` in one schema of a PostgreSQL.

    Args:
        url: `postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE?schema=SCHEMA`, with the parameters of libpq.
        accept_gap: Name of a gap (see `BehindJournalError`) whose entries are known to be lost.
        read_only: Whether it is only asked: then it is opened wherever the server is, and whatever the schema holds.

    Raises:
        AddressError: *url* is no such URL.
        NewerFormatError: A newer version made the tables.
        StoreError: The server is away, the role lacks a right, or another writer has the schema.
    """

    engine = engine

    def __init__(self, url: str, *, accept_gap: str | None = None, read_only: bool = False) -> None:
        self._address = address_of(url)
        self.name = f"The schema {self._address.schema} in {self._address.place}"
        self.accept_gap = accept_gap
        self._read_only = read_only
        self._readers = Readers(self._address)
        self._connection: Connection | None = None
        self._closed = False
        self._stream: str | None = None
        self._position = 0
        self._days: dict[str, set[int]] = {}
        self._partitions_due = 0.0
        if not read_only:
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
            try:
                self._make_partitions(connection, rows, discards)
                with connection.transaction():
                    self._move(connection, stream, last, gap)
                    with self._refusals():
                        _copy(
                            connection, "evaluations", rows.append_column("value_key", long_keys(rows.column("value")))
                        )
                        _copy(connection, "discards", discards)
                    _keep(connection, stream, set_aside)
            except BaseException:
                self._recover(connection)
                raise
            self._stream, self._position = stream, last

    def trimmable(self, stream: str) -> int:
        """Return the position: what was committed is durable."""
        return self.position(stream)

    def checkpoint(self) -> None:
        """Do nothing: everything that was applied is trimmable."""
        with self._errors():
            self._own()

    def maintain(self) -> None:
        """Make the partitions of today and tomorrow, now and then, so that midnight holds up no batch."""
        with self._errors():
            connection = self._own()
            if time.monotonic() >= self._partitions_due:
                today = time.time_ns() // 1_000 // partitions.DAY_MICROSECONDS
                for table in partitions.TABLES:
                    self._make_missing(connection, table, {today, today + 1})
                self._partitions_due = time.monotonic() + PARTITIONS_SECONDS

    def erase_identity(self, environment: str, identity_identifier: str) -> int:
        """Erase what was recorded of an identity, and have its space cleared."""
        with self._errors():
            return erase.erase_identity(self._own(), environment, identity_identifier)

    def drop_before(self, received: int) -> int:
        """Erase the oldest day that ended at or before *received*; return how much went, 0 where no more is left or can go."""
        with self._errors():
            connection = self._own()
            # Whatever is dropped, or is not in the end.
            self._days.clear()
            apart = connection.execute(
                "DELETE FROM quarantine WHERE set_aside_time < timestamptz 'epoch' + %s * interval '1 microsecond'",
                (received,),
            ).rowcount
            return apart + partitions.drop_before(connection, received)

    def close(self) -> None:
        """Let go of the connections, and with them of the writer's lock."""
        self._closed = True
        self._readers.close()
        self._disconnect()

    def _reading(self, interrupt: Interrupt | None) -> AbstractContextManager[Connection]:
        """Yield a connection of one's own: a question sees one moment, and waits for nobody."""
        return self._readers.reading(interrupt)

    def _open(self) -> None:
        connection = connect(self._address, "writer", WRITER)
        try:
            # Before anything is migrated, so that nothing is altered under a writer that is at work.
            lock.take(connection, self._address)
            migrate(connection, self._address.schema)
            self._load(connection)
        except BaseException:
            connection.close()
            raise
        self._days.clear()
        self._connection = connection

    def _load(self, connection: Connection) -> None:
        streams = connection.execute("SELECT stream, position FROM streams").fetchall()
        self._stream, self._position = streams[0] if streams else (None, 0)

    def _own(self) -> Connection:
        """Return the connection of the one thread that applies, made again where it was lost."""
        if self._closed:
            raise StoreError("The store is closed.")
        if self._read_only:
            raise StoreError("The store was opened for questions alone.")
        if self._connection is None or self._connection.closed:
            self._disconnect()
            self._open()
        if self._connection is None:
            raise StoreError("The store is closed.")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _known(self, stream: str) -> int:
        if self._stream is not None and self._stream != stream:
            raise OtherJournalError(
                f"{self.name} belongs to the journal {self._stream}, and not to "
                f"{stream}. Bring the journal's directory and the schema together again that belong together, or name a schema "
                "that is empty."
            )
        return self._position

    def _make_partitions(self, connection: Connection, rows: pa.RecordBatch, discards: pa.RecordBatch) -> None:
        for table, batch in (("evaluations", rows), ("discards", discards)):
            if batch.num_rows:
                self._make_missing(connection, table, partitions.days_of(batch))

    def _make_missing(self, connection: Connection, table: str, days: set[int]) -> None:
        if days <= self._days.get(table, set()):
            return
        existing = partitions.existing(connection, table)
        partitions.make(connection, table, days - existing)
        self._days[table] = existing | days

    def _move(self, connection: Connection, stream: str, last: int, gap: tuple[int, int] | None) -> None:
        """Move the position from where it is known to be; first of all, so that nobody else does meanwhile."""
        if self._stream is None:
            moved = connection.execute(
                "INSERT INTO streams VALUES (%s, %s) ON CONFLICT DO NOTHING", (stream, last)
            ).rowcount
        else:
            moved = connection.execute(
                "UPDATE streams SET position = %s WHERE stream = %s AND position = %s", (last, stream, self._position)
            ).rowcount
        if moved != 1:
            raise StoreError(
                f"The position in the schema {self._address.schema} is no longer {self._position}: somebody else has moved it."
            )
        if gap is not None:
            connection.execute("INSERT INTO gaps VALUES (%s, %s, %s, clock_timestamp())", (stream, *gap))

    def _recover(self, connection: Connection) -> None:
        """Ask the server how far it came: a commit may fail after it was made."""
        self._days.clear()
        try:
            self._load(connection)
        except psycopg.Error:
            self._disconnect()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Tell errors that are about the rows in the block from those that are not."""
        try:
            yield
        except (errors.DataError, errors.IntegrityError, errors.ProgramLimitExceeded) as error:
            said = meaning(self._address, error)
            if isinstance(error, errors.CheckViolation) and not error.diag.constraint_name:
                raise StoreError(f"A partition is missing that was there; it is made again. ({said})") from error
            raise RowsRefusedError(f"The rows cannot be stored: {said}") from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise meaning(self._address, error) from error


def _copy(connection: Connection, table: str, batch: pa.RecordBatch) -> None:
    if not batch.num_rows:
        return
    columns = sql.SQL(", ").join(map(sql.Identifier, batch.schema.names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table), columns)
    step = max(1, batch.num_rows * PIECE_BYTES // max(batch.nbytes, 1))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(binary_copy.HEADER)
        for start in range(0, batch.num_rows, step):
            piece = binary_copy.rows(batch.slice(start, step).columns)
            if piece is not None:
                copy.write(memoryview(piece))
        copy.write(binary_copy.TRAILER)


def _keep(connection: Connection, stream: str, set_aside: Sequence[SetAside]) -> None:
    for entry in set_aside:
        # Of what went wrong with an entry, nothing must keep it from being set aside.
        description = entry.description.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        connection.execute(
            "INSERT INTO quarantine VALUES (%s, %s, %s, %s, clock_timestamp())",
            (stream, entry.position, entry.payload, description),
        )
