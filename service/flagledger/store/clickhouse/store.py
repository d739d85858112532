"""
The ClickHouse store: a server's database, or that of an engine within the process.

Invariants:
* A range of entries is applied in three steps, each on the disk before the next (module `chunks`); a range that was begun is
  applied as it was, or its rows are erased before another one is begun.
* No question sees a row behind the position that was committed when it was asked.
* One process writes (module `lease`). Any may ask.
* Times are DateTime64 of microseconds in UTC; what that cannot hold is refused, since ClickHouse would record another time.
* Rows are kept by the UTC day of their receipt, and dropped by days.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.exceptions import ClickHouseError

from flagledger.store import gaps
from flagledger.store.applied import SetAside, Stream
from flagledger.store.clickhouse import chunks, engine, erase, inserting, schema
from flagledger.store.clickhouse.address import parse
from flagledger.store.clickhouse.chunks import Begun, Progress
from flagledger.store.clickhouse.client import Clients, Marked, Reader, meant
from flagledger.store.clickhouse.lease import LEASE_SECONDS, SETTLE_SECONDS, Lease
from flagledger.store.errors import (
    Interrupt,
    OtherJournalError,
    OverlapError,
    RowsRefusedError,
    StoreError,
)
from flagledger.store.questioning import Questions

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR
_FIRST_DAY: Final = inserting.MIN_TIME


class ClickHouseStore(Questions[Reader]):
    """
    A `Store` in a ClickHouse database.

    Args:
        url: Where it is (module `address`).
        accept_gap: Name of a gap (see `BehindJournalError`) whose entries are known to be lost.
        retention_days: Days after which ClickHouse drops by itself what was received; 0 for never, None for what the tables say.
        read_only: Whether it is opened for questions alone, beside the one that writes. Nothing is asked of the server until a
            question is.
        lease_seconds: Silence after which a writer is taken to be gone.
        settle_seconds: What a row may take until all who ask the server see it.

    Raises:
        AddressError: The URL is not understood.
        NewerFormatError: The tables were made by a newer version.
        UnreadableError: The database is somebody else's, or its directory is held by another process.
        HeldError: Another one writes.
        StoreError: Anything else.
    """

    engine = engine

    def __init__(
        self,
        url: str,
        *,
        accept_gap: str | None = None,
        retention_days: int | None = None,
        read_only: bool = False,
        lease_seconds: float = LEASE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._address = parse(url)
        self._accept_gap = accept_gap
        self._retention_days = retention_days
        self._read_only = read_only
        self._clients = Clients(self._address)
        self._lease = Lease(self._address, seconds=lease_seconds, settle_seconds=settle_seconds)
        self._writing: Marked | None = None
        # What the tables say; None where that has to be read again.
        self._progress: Progress | None = None
        self._closed = False
        # Whether the tables were found to be of a form that this version reads.
        self._readable = threading.Event()
        if not read_only:
            try:
                with self._errors():
                    self._open()
            except BaseException:
                self.close()
                raise

    def position(self, stream: str) -> int:
        """Return the position up to which entries of *stream* have been applied; 0 where none was."""
        with self._errors():
            self._own()
            return self._known(stream).position

    def stream(self) -> Stream | None:
        """Return the journal that the store knows, and how far its entries have been applied."""
        with self._reading(None) as reader:
            known = reader.query("SELECT any(stream), max(position) FROM chunks HAVING count() > 0")
        return Stream(identity=known[0][0], position=known[0][1]) if known else None

    def begun(self, stream: str) -> int | None:
        """Return where a range of *stream* ends that was begun and may have been recorded in part; None where there is none."""
        with self._errors():
            self._own()
            begun = self._known(stream).begun
            return begun.last if begun else None

    def withdraw(self, stream: str) -> None:
        """Take back a range that was begun: what is there of it is erased."""
        with self._errors():
            client = self._own()
            self._known(stream)
            self._settle(client)

    def check_reach(self, stream: str, first: int) -> None:
        """Refuse a journal whose oldest entry, or next one where it holds none, is *first*, if entries before it are missing."""
        with self._errors():
            self._own()
            self._accepted_gap(self._known(stream).position, first)

    def apply(
        self,
        stream: str,
        first: int,
        last: int,
        rows: pa.RecordBatch,
        discards: pa.RecordBatch,
        set_aside: Sequence[SetAside] = (),
    ) -> None:
        """Record what entries *first* to *last* became, and move the position to *last*, in three steps."""
        with self._errors():
            client = self._own()
            known = self._known(stream)
            if last <= known.position:
                return
            try:
                inserting.check_times(rows)
                inserting.check_times(discards)
            except RowsRefusedError:
                # An older version may have begun them: taken back, they can be told apart.
                self._settle(client)
                raise
            sent_before = known.begun is not None and (known.begun.first, known.begun.last) == (first, last)
            if not sent_before:
                self._begin(client, known, first, last)
            self._insert(client, rows, discards, set_aside)
            if sent_before and not self._is_complete(client, rows, discards, set_aside):
                # What remembers tokens and what holds rows may be out of step after a crash: nothing is left to chance.
                self._abandon(client)
                self._begin(client, self._known(stream), first, last)
                self._insert(client, rows, discards, set_aside)
            self._keep(client)
            self._step(client, self._known(stream).committed(last))

    def trimmable(self, stream: str) -> int:
        """Return the position: what was applied is on the disk."""
        return self.position(stream)

    def checkpoint(self) -> None:
        """Do nothing: what was applied is trimmable."""
        with self._errors():
            self._own()

    def maintain(self) -> None:
        """Say that this store still writes, if that is due."""
        with self._errors():
            self._own()

    def erase_identity(self, environment: str, identity_identifier: str) -> int:
        """Erase what was recorded of an identity; when this returns, nothing that is read holds it any more (module `erase`)."""
        with self._errors():
            client = self._own()
            self._settle(client)
            return erase.erase_identity(client, self._address, environment, identity_identifier)

    def drop_before(self, received: int) -> int:
        """Drop the days of receipt that ended at or before *received*; return how many rows went."""
        with self._errors():
            client = self._own()
            self._settle(client)
            return erase.drop_before(client, self._address, received)

    def close(self) -> None:
        """Let the next one write, and let go of everything."""
        self._closed = True
        writing, self._writing = self._writing, None
        if writing is not None:
            self._lease.give_back(writing.client)
            with suppress(ClickHouseError):
                writing.client.close()
        self._clients.close()

    def _open(self) -> None:
        first = self._clients.open(database=False)
        try:
            schema.ensure_database(first.client, self._address)
        finally:
            first.client.close()
        self._writing = self._clients.open()
        client = self._writing.client
        # Before the lease too: it must be understood what the tables say.
        schema.version(client, self._address)
        self._lease.take(client)
        schema.migrate(client, self._address)
        if self._retention_days is None:
            self._retention_days = schema.retention_of(client, self._address, "evaluations")
        else:
            schema.ensure_retention(client, self._address, self._retention_days)
        self._progress = chunks.load(client) or _beginning()
        self._readable.set()

    def _own(self) -> Client:
        """Return the client of the one thread that applies, which is the one that writes, and knows what the tables say."""
        if self._read_only:
            raise StoreError("The store was opened for questions alone.")
        if self._closed or self._writing is None:
            raise StoreError("The store is closed.")
        client = self._writing.client
        if not self._lease.keep(client):
            self._progress = None
            self._lease.take(client)
        if self._progress is None:
            # A step whose answer was lost may still be on its way, and would be taken for the last one.
            self._clients.kill(self._writing.mark, wait=True)
            self._progress = chunks.load(client) or _beginning()
        return client

    def _keep(self, client: Client) -> None:
        """Refuse to go on where another one may have written since `_own`."""
        if self._lease.keep(client):
            return
        # Slow, and perhaps alone: where nobody else has come in between, nothing has changed.
        self._lease.take(client)
        if (chunks.load(client) or _beginning()) != self._progress:
            raise StoreError(f"Recording into {self._address.name} took so long that another one may write.")

    def _known(self, stream: str) -> Progress:
        progress = self._progress
        if progress is None:
            raise StoreError("What was recorded last is not known.")
        if progress.sequence and progress.stream != stream:
            raise OtherJournalError(
                f"{self._address.name} belongs to the journal {progress.stream}, and not to {stream}. Name the database of this "
                "journal, or one that does not exist yet."
            )
        return progress if progress.sequence else Progress(stream=stream, sequence=0, position=0)

    def _accepted_gap(self, known: int, first: int) -> tuple[int, int] | None:
        return gaps.accepted(self._address.name, known, first, self._accept_gap)

    def _begin(self, client: Client, known: Progress, first: int, last: int) -> None:
        """Take the first step of applying entries *first* to *last*."""
        if first <= known.position:
            raise OverlapError(f"Entries {first} to {last} overlap with what was applied, up to {known.position}.")
        begun, gap = known.begun, self._accepted_gap(known.position, first)
        if begun is not None and gap is None and first == begun.first:
            raise OverlapError(
                f"Entries {first} to {last} overlap with {begun.first} to {begun.last}, which were begun and are applied first."
            )
        if begun is not None:
            # Entries of it are lost, and that is accepted; or those before it, which were taken for lost, are back.
            known = self._abandon(client)
        self._step(client, known.beginning(first, last, time.time_ns() // 1000))

    def _insert(
        self, client: Client, rows: pa.RecordBatch, discards: pa.RecordBatch, set_aside: Sequence[SetAside]
    ) -> None:
        """Take the second step: record what belongs to the range that was begun."""
        progress, begun = self._under_way()
        try:
            inserting.insert_rows(client, begun, rows)
            inserting.insert(client, "discards", discards, begun)
            inserting.insert_set_aside(client, begun, progress.stream, set_aside)
            if begun.first > progress.position + 1:
                inserting.insert_gap(client, begun, progress.stream, (progress.position + 1, begun.first - 1))
        except ClickHouseError as error:
            refusal = inserting.REFUSALS.get(getattr(error, "code", None))
            if refusal is None:
                raise
            self._abandon(client)
            # What else ClickHouse says may quote the rows.
            raise RowsRefusedError(f"The rows cannot be stored: {self._address.name} says {refusal} of them.") from None

    def _is_complete(
        self, client: Client, rows: pa.RecordBatch, discards: pa.RecordBatch, set_aside: Sequence[SetAside]
    ) -> bool:
        """Return whether the range that was begun is there once, as a whole, but for what is old enough to be dropped."""
        _, begun = self._under_way()
        since = time.time_ns() // 1000 - self._retention_days * _DAY + _HOUR if self._retention_days else _FIRST_DAY
        expected = {"evaluations": _received(rows, since), "discards": _received(discards, since)}
        if begun.begin_time >= since:
            expected["quarantine"] = len(set_aside)
        return all(erase.count_range(client, table, begun, since) == count for table, count in expected.items())

    def _abandon(self, client: Client) -> Progress:
        """Erase what is there of the range that was begun, and take it back."""
        progress, begun = self._under_way()
        # What was sent by one that is gone may still be on its way.
        self._clients.kill(begun.token, wait=True)
        erase.erase_range(client, self._address, begun)
        return self._step(client, progress.withdrawn())

    def _settle(self, client: Client) -> None:
        """Take back a range that was begun, so that what is erased now is not found missing when it is sent again."""
        if self._progress is not None and self._progress.begun is not None:
            self._abandon(client)

    def _under_way(self) -> tuple[Progress, Begun]:
        progress = self._progress
        if progress is None or progress.begun is None:
            raise StoreError("Nothing was begun.")
        return progress, progress.begun

    def _step(self, client: Client, progress: Progress) -> Progress:
        chunks.save(client, progress, self._lease.writer)
        self._progress = progress
        return progress

    @contextmanager
    def _reading(self, interrupt: Interrupt | None) -> Iterator[Reader]:
        """Yield a reader of one's own: it sees what was committed when it was opened, and waits for nobody."""
        with self._errors(writing=False), self._clients.lent(interrupt) as (marked, ended):
            if not self._readable.is_set():
                schema.version(marked.client, self._address)
                self._readable.set()
            yield Reader(marked.client, ended)

    @contextmanager
    def _errors(self, *, writing: bool = True) -> Iterator[None]:
        try:
            with meant(self._address):
                yield
        except BaseException:
            if writing:
                # A step may have been taken although it failed.
                self._progress = None
            raise


def _beginning() -> Progress:
    """Return what there is where nothing was ever begun."""
    return Progress(stream="", sequence=0, position=0)


def _received(batch: pa.RecordBatch, since: int) -> int:
    """Return how many rows of *batch* were received at or after *since*."""
    times = batch.column("receive_time").cast(pa.int64())
    return int(pc.sum(pc.greater_equal(times, pa.scalar(since, pa.int64()))).as_py() or 0)
