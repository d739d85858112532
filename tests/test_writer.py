from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import duckdb
import pyarrow as pa
import pytest
import structlog
from flagledger import upkeep
from flagledger import writer as writer_module
from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.base import Appended, Entry, Lag, Outcome
from flagledger.journal.sqlite import SqliteJournal
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import BehindJournalError, OtherJournalError, OverlapError, RowsRefusedError, StoreError
from flagledger.store.questions import Filter
from flagledger.upkeep import Retention
from flagledger.writer import Writer
from support.records import MALFORMED, START, add_evaluation, record_of, simple_entry


class MemoryJournal:
    """A journal in memory: entries by position, the trimmed ones gone."""

    def __init__(self, identity: str = "journal") -> None:
        self.identity = identity
        self.entries: list[Entry] = []
        self.last = 0
        self.failing: FlagledgerError | None = None
        self._lock = threading.Lock()

    async def append(
        self, environment: str, batch_id: str, digest: bytes, outcome: Outcome, payload: bytes
    ) -> Appended:
        """Append *payload*, a duplicate or not."""
        self.add(payload)
        return Appended(duplicate=False, outcome=outcome)

    def add(self, payload: bytes | None = None) -> None:
        """Append *payload*, or a simple entry."""
        with self._lock:
            self.last += 1
            payload = simple_entry(self.last).payload if payload is None else payload
            self.entries.append(Entry(position=self.last, payload=payload))

    def read(self, after: int, max_bytes: int) -> list[Entry]:
        """Return entries behind *after*."""
        if self.failing is not None:
            raise self.failing
        with self._lock:
            found = [entry for entry in self.entries if entry.position > after]
        size = 0
        for i, entry in enumerate(found):
            size += len(entry.payload)
            if i and size > max_bytes:
                return found[:i]
        return found

    def trim(self, up_to: int) -> None:
        """Forget entries up to *up_to*."""
        with self._lock:
            self.entries = [entry for entry in self.entries if entry.position > up_to]

    def erase(self, up_to: int) -> None:
        """Forget entries up to *up_to*."""
        self.trim(up_to)

    def lag(self) -> Lag:
        """Return what is there."""
        with self._lock:
            size = sum(len(entry.payload) for entry in self.entries)
            return Lag(bytes=size, entries=len(self.entries), oldest_age=0.0)

    def last_position(self) -> int:
        """Return the last position."""
        return self.last


class Counting:
    """Metrics that can be looked at."""

    def __init__(self) -> None:
        self.rows = self.entries_set_aside = self.failures = self.rows_dropped = 0

    def applied(self, rows: int) -> None:
        """Count."""
        self.rows += rows

    def quarantined(self, entries: int) -> None:
        """Count."""
        self.entries_set_aside += entries

    def store_failed(self) -> None:
        """Count."""
        self.failures += 1

    def dropped(self, rows: int) -> None:
        """Count."""
        self.rows_dropped += rows


Start = Callable[..., Writer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start writers that end with the test."""
    writers: list[Writer] = []

    def start_(journal: MemoryJournal, open_store: Callable[[], Store], **options: object) -> Writer:
        writer = Writer(journal, open_store, **options)  # type: ignore[arg-type]
        writers.append(writer)
        writer.start()
        return writer

    yield start_
    for writer in writers:
        writer.stop()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for *condition*, and fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def recorded(store: Store) -> list[str | None]:
    """Return the identities of all rows, the newest first."""
    page = store.list_evaluations(Filter(environment="production"), 1_000_000, None)
    return [row.identity_identifier for row in page.rows]


def expected(*positions: int) -> list[str]:
    """Return the identities of simple entries at *positions*, the newest first."""
    return [f"{position}/{i}" for position in sorted(positions, reverse=True) for i in (2, 1, 0)]


def reopened(path: Path) -> list[str | None]:
    """Return the identities in the store at *path*, which nobody holds."""
    store = DuckDBStore(path)
    found = recorded(store)
    store.close()
    return found


def test_entries_become_rows(tmp_path: Path, start: Start) -> None:
    """What is in the journal, and what comes later, can be asked of the store; counters and metrics say how far it is."""
    journal, metrics = MemoryJournal(), Counting()
    journal.add()
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"), metrics=metrics)
    until(lambda: writer.unapplied(99) == 0)
    journal.add()
    journal.add()
    until(lambda: writer.position() == 3)

    assert expected(1, 2, 3) == recorded(writer.store())
    until(lambda: writer.applied_rows == 9)
    assert 9 == metrics.rows
    assert (0, 0, None) == (writer.quarantined_entries, writer.failures, writer.last_error)


def test_many_entries_are_applied_in_helpings(tmp_path: Path, start: Start) -> None:
    """A backlog larger than one helping is applied whole and in order."""
    journal = MemoryJournal()
    for _ in range(100):
        journal.add()
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"), read_bytes=1_000, linger_seconds=0.0)
    until(lambda: writer.applied_rows == 300)

    assert expected(*range(1, 101)) == recorded(writer.store())


def test_trimming_follows_checkpoints(tmp_path: Path, start: Start) -> None:
    """The journal keeps what no checkpoint has covered, and is trimmed when one has, without anything arriving."""
    journal = MemoryJournal()
    journal.add()
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store", checkpoint_seconds=3_600.0))
    until(lambda: writer.applied_rows == 3)
    time.sleep(0.2)
    assert 1 == len(journal.entries)
    writer.stop()
    journal.add()

    writer = start(journal, lambda: DuckDBStore(tmp_path / "store", checkpoint_seconds=0.3))

    until(lambda: not journal.entries)
    assert expected(1, 2) == recorded(writer.store())


def test_stopping_applies_what_is_there(tmp_path: Path, start: Start) -> None:
    """Stopping records and trims what the journal holds, and lets go of the store."""
    journal = MemoryJournal()
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"), linger_seconds=30.0)
    until(lambda: writer._store is not None)
    journal.add()
    time.sleep(0.2)
    began = time.monotonic()
    writer.stop()

    assert time.monotonic() - began < 10
    assert [] == journal.entries
    with pytest.raises(StoreError):
        writer.store()
    assert expected(1) == reopened(tmp_path / "store")


@pytest.mark.parametrize("bad", [{1}, {7}, {20}, {3, 4, 19}, set(range(1, 21))], ids=str)
def test_bad_entries_are_found_and_set_aside(tmp_path: Path, start: Start, bad: set[int]) -> None:
    """Entries that cannot be converted are kept as they are and counted; every other one is recorded."""
    journal, metrics = MemoryJournal(), Counting()
    for position in range(1, 21):
        journal.add(MALFORMED if position in bad else None)
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"), metrics=metrics)
    until(lambda: writer.unapplied(99) == 0)
    writer.stop()

    assert expected(*set(range(1, 21)) - bad) == reopened(tmp_path / "store")
    assert (len(bad), len(bad)) == (writer.quarantined_entries, metrics.entries_set_aside)
    with duckdb.connect(str(tmp_path / "store"), read_only=True) as connection:
        kept = connection.execute("SELECT position, payload FROM quarantine ORDER BY position").fetchall()
    assert [(position, MALFORMED) for position in sorted(bad)] == kept


class PickyStore(DuckDBStore):
    """A store that does not take rows of one entry, nor fails at anything else."""

    def apply(self, stream: str, first: int, last: int, rows, discards, set_aside=()) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Refuse rows of entry 5."""
        if first <= 5 <= last and rows.num_rows:
            raise RowsRefusedError("not these")
        super().apply(stream, first, last, rows, discards, set_aside)


def test_rows_that_the_store_refuses_are_set_aside(tmp_path: Path, start: Start) -> None:
    """An entry whose rows the store does not take is found and set aside like one that cannot be converted."""
    journal = MemoryJournal()
    for _ in range(9):
        journal.add()
    writer = start(journal, lambda: PickyStore(tmp_path / "store"))
    until(lambda: writer.quarantined_entries == 1 and writer.position() == 9)

    assert expected(1, 2, 3, 4, 6, 7, 8, 9) == recorded(writer.store())


class FailingStore(DuckDBStore):
    """A store that fails as often as it is told."""

    failures = 0

    def apply(self, *arguments: object) -> None:
        """Fail, or apply."""
        if FailingStore.failures:
            FailingStore.failures -= 1
            raise StoreError("no luck")
        super().apply(*arguments)  # type: ignore[arg-type]


def test_a_failing_store_is_tried_again(tmp_path: Path, start: Start) -> None:
    """Failures of the store lose nothing, are counted, told while they last, and end by themselves."""
    journal, metrics = MemoryJournal(), Counting()
    journal.add()
    FailingStore.failures = 2
    writer = start(journal, lambda: FailingStore(tmp_path / "store"), metrics=metrics)
    until(lambda: writer.last_error == "no luck")
    until(lambda: writer.applied_rows == 3)

    until(lambda: writer.last_error is None)
    assert expected(1) == recorded(writer.store())
    assert (2, 2) == (writer.failures, metrics.failures)


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path: Path, start: Start) -> None:
    """While the file is unreadable, questions get its reason; once it has been put right, everything is recorded."""
    path, journal = tmp_path / "store", MemoryJournal()
    path.write_bytes(b"this is no database" * 1_000)
    journal.add()
    writer = start(journal, lambda: DuckDBStore(path))
    until(lambda: writer.failures > 0)
    with pytest.raises(StoreError, match="cannot be read"):
        writer.store()
    path.unlink()
    until(lambda: writer.applied_rows == 3)

    assert expected(1) == recorded(writer.store())


def test_a_failing_journal_is_tried_again(tmp_path: Path, start: Start) -> None:
    """A journal that cannot be read for a while ends nothing; the log says so once each time, and that it can be read again."""
    journal = MemoryJournal()
    journal.failing = FlagledgerError(Reason.DISK_FAILING, "The journal could not be read.")
    journal.add()
    with structlog.testing.capture_logs() as logs:
        writer = start(journal, lambda: DuckDBStore(tmp_path / "store"))
        until(lambda: writer.failures > 2)
        journal.failing = None
        until(lambda: writer.applied_rows == 3)
        until(lambda: writer.last_error is None)
        failures, journal.failing = (
            writer.failures,
            FlagledgerError(Reason.DISK_FAILING, "The journal could not be read."),
        )
        until(lambda: writer.failures > failures)
        journal.failing = None
        until(lambda: writer.last_error is None)

    assert expected(1) == recorded(writer.store())
    events = [line["event"] for line in logs]
    assert ["applying to the store failed", "applying to the store goes on again"] * 2 == events
    assert "The journal could not be read." == logs[0]["error"]
    assert "after_seconds" in logs[1]


def test_a_store_that_is_ahead_is_refused(tmp_path: Path, start: Start) -> None:
    """A journal that was put back from a backup gives out positions again that the store would take for applied: refused."""
    journal = MemoryJournal()
    journal.add()
    journal.add()
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"))
    until(lambda: writer.applied_rows == 6)
    writer.stop()
    older = MemoryJournal()
    older.add()

    writer = start(older, lambda: DuckDBStore(tmp_path / "store"))

    until(lambda: writer.last_error is not None)
    assert "applied entries up to 2, but the journal has come to 1" in str(writer.last_error)
    assert 1 == len(older.entries)


def test_a_store_that_is_behind_is_refused(tmp_path: Path, start: Start) -> None:
    """A store that was put back from a backup, or begun anew, does not pass over what the journal has trimmed."""
    journal = MemoryJournal()
    for _ in range(3):
        journal.add()
    journal.trim(2)

    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"))
    until(lambda: writer.last_error is not None)

    assert "accept the loss of the gap 1-2" in str(writer.last_error)
    assert 1 == len(journal.entries)
    writer.stop()
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store", accept_gap="1-2"))
    until(lambda: writer.applied_rows == 3)
    assert expected(3) == recorded(writer.store())


class RefusingStore(DuckDBStore):
    """A store that refuses what it is given, once, in the middle of its life."""

    refusals: ClassVar[list[StoreError]] = []
    opened = 0
    closed = 0

    def __init__(self, path: Path) -> None:
        """Open it, and count that."""
        super().__init__(path)
        RefusingStore.opened += 1

    def apply(self, *arguments: object) -> None:
        """Refuse, or apply."""
        if RefusingStore.refusals:
            raise RefusingStore.refusals.pop()
        super().apply(*arguments)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close it, and count that."""
        RefusingStore.closed += 1
        super().close()


@pytest.mark.parametrize(
    "refusal",
    [BehindJournalError("entries 2-5 are missing", gap="2-5"), OtherJournalError("not this journal")],
    ids=repr,
)
def test_a_store_that_is_refused_later_is_not_read(tmp_path: Path, start: Start, refusal: StoreError) -> None:
    """A store found not to belong here is closed, and questions get the reason; what takes its place is opened and read."""
    RefusingStore.opened = RefusingStore.closed = 0
    journal = MemoryJournal()
    journal.add()
    gate = threading.Event()

    class Slow(RefusingStore):
        """One that, opened again, takes its time to find out what it thinks of an entry."""

        def apply(self, *arguments: object) -> None:
            """Wait, and apply."""
            if RefusingStore.opened > 1:
                gate.wait(20)
            super().apply(*arguments)

    writer = start(journal, lambda: Slow(tmp_path / "store"), linger_seconds=0.0)
    until(lambda: writer.applied_rows == 3)
    held = writer.store()
    RefusingStore.refusals = [refusal]
    journal.add()
    until(lambda: writer.failures == 1)
    with pytest.raises(StoreError, match=str(refusal)):
        writer.store()
    until(lambda: RefusingStore.closed == 1)
    with pytest.raises(StoreError, match="closed"):
        recorded(held)
    until(lambda: RefusingStore.opened == 2 and writer._store is not None)
    with pytest.raises(StoreError, match=str(refusal)):
        writer.store()
    gate.set()
    until(lambda: writer.applied_rows == 6)

    until(lambda: writer.refused is None)
    assert expected(1, 2) == recorded(writer.store())
    assert 2 == RefusingStore.opened


def test_who_sees_a_failure_sees_its_reason(tmp_path: Path) -> None:
    """Once a failure is counted, the reason and whether it lasts have been said."""
    seen: list[tuple[str | None, StoreError | None]] = []

    class Watched(Writer):
        """A writer that looks at itself whenever a failure is counted."""

        def __setattr__(self, name: str, value: object) -> None:
            """Look, and set it."""
            if name == "failures" and value:
                seen.append((self.last_error, self.refused))
            super().__setattr__(name, value)

    refusal = OtherJournalError("not this journal")

    def open_store() -> Store:
        raise refusal

    writer = Watched(MemoryJournal(), open_store)
    writer.start()
    until(lambda: writer.failures > 0)
    writer.stop()

    assert ("not this journal", refusal) == seen[0]


def test_rows_that_are_refused_do_not_hide_the_rest(tmp_path: Path, start: Start) -> None:
    """Where not even setting aside is possible, what was recorded before can be read."""
    journal = MemoryJournal()
    journal.add()
    writer = start(journal, lambda: RefusingStore(tmp_path / "store"))
    until(lambda: writer.applied_rows == 3)
    RefusingStore.refusals = [RowsRefusedError("neither these"), RowsRefusedError("not these")]
    journal.add()
    until(lambda: writer.failures == 1)

    assert None is writer.refused
    assert expected(1) == recorded(writer.store())[-3:]
    until(lambda: writer.applied_rows == 6)


class Disk:
    """What outlives a `BeginningStore`: the range that was begun, and every range that it was given."""

    def __init__(self) -> None:
        self.begun: tuple[int, int] | None = None
        self.rows: pa.RecordBatch | None = None
        self.given: list[tuple[int, int]] = []


class BeginningStore(DuckDBStore):
    """
    A store that first notes which range it begins, as one must that has no transactions.

    Args:
        path: Of the file.
        disk: Of the range.
        dying: Whether the process dies once a range was begun.
        refusing: Position of an entry whose rows are refused.
        patience: How many times a range with it must be given until it is taken back.
    """

    def __init__(
        self, path: Path, disk: Disk, *, dying: bool = False, refusing: int = 0, patience: int = 1, **options: int
    ) -> None:
        super().__init__(path, **options)  # type: ignore[arg-type]
        self._disk, self._dying, self._refusing, self._patience = disk, dying, refusing, patience
        self.dead = False

    def position(self, stream: str) -> int:
        """Return the position, while the process lives."""
        if self.dead:
            raise StoreError("killed")
        return super().position(stream)

    def begun(self, stream: str) -> int | None:
        """Return where the range ends that was begun."""
        return self._disk.begun[1] if self._disk.begun else None

    def withdraw(self, stream: str) -> None:
        """Forget what was begun."""
        self._disk.begun = None

    def apply(self, stream: str, first: int, last: int, rows, discards, set_aside=()) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Begin the range, or go on with it; another one is an overlap."""
        disk = self._disk
        disk.given.append((first, last))
        if disk.begun is None:
            disk.begun, disk.rows = (first, last), rows
        if disk.begun != (first, last) or not rows.equals(disk.rows):
            raise OverlapError(f"{disk.begun} was begun")
        if self._dying:
            self.dead = True
            raise StoreError("killed")
        if first <= self._refusing <= last and rows.num_rows:
            if disk.given.count((first, last)) >= self._patience:
                disk.begun = None
            raise RowsRefusedError("not these")
        super().apply(stream, first, last, rows, discards, set_aside)
        disk.begun = None


@pytest.mark.parametrize("read_bytes", [1_000, 1 << 20])
def test_what_was_begun_is_applied_as_it_was(tmp_path: Path, start: Start, read_bytes: int) -> None:
    """After a crash between begin and commit, the very range is applied first, whatever a helping would be by then."""
    journal, disk = MemoryJournal(), Disk()
    for _ in range(20):
        journal.add()
    dying = BeginningStore(tmp_path / "store", disk, dying=True)
    writer = start(journal, lambda: dying, read_bytes=2_000, linger_seconds=0.0)
    until(lambda: dying.dead)
    writer.stop()
    begun = disk.begun
    assert begun is not None
    assert 1 < begun[1] < 20
    assert disk.given == [begun]
    for _ in range(20):
        journal.add()

    writer = start(journal, lambda: BeginningStore(tmp_path / "store", disk), read_bytes=read_bytes, linger_seconds=0.0)

    until(lambda: writer.applied_rows == 120)
    assert [begun, begun] == disk.given[:2]
    assert begun[1] + 1 == disk.given[2][0]
    assert expected(*range(1, 41)) == recorded(writer.store())
    assert 0 == writer.failures


def test_what_was_begun_is_read_in_full(tmp_path: Path, start: Start) -> None:
    """A range that takes many helpings to read is applied in one piece, and what waits behind it is not part of it."""
    journal, disk = MemoryJournal(), Disk()
    for _ in range(30):
        journal.add()
    disk.begun = (1, 25)
    disk.rows = to_columns(journal.entries[:25])[0]

    writer = start(journal, lambda: BeginningStore(tmp_path / "store", disk), read_bytes=1, linger_seconds=0.0)

    until(lambda: writer.applied_rows == 90)
    assert [(1, 25), *((position, position) for position in range(26, 31))] == disk.given
    assert expected(*range(1, 31)) == recorded(writer.store())


def test_what_was_begun_is_not_halved(tmp_path: Path, start: Start) -> None:
    """A range whose rows are refused is given whole again and again, until the store has taken it back; only then in parts."""
    journal, disk = MemoryJournal(), Disk()
    for _ in range(4):
        journal.add()

    writer = start(journal, lambda: BeginningStore(tmp_path / "store", disk, refusing=3, patience=3))

    until(lambda: writer.quarantined_entries == 1 and writer.position() == 4)
    assert [(1, 4)] * 3 + [(1, 2), (3, 4)] == disk.given[:5]
    assert expected(1, 2, 4) == recorded(writer.store())


def test_what_was_begun_and_no_longer_converts_is_taken_back(tmp_path: Path, start: Start) -> None:
    """What an older version has begun and this one cannot convert is taken back, and the entry that is at fault set aside."""
    journal, disk = MemoryJournal(), Disk()
    for payload in (None, MALFORMED, None):
        journal.add(payload)
    disk.begun = (1, 3)

    writer = start(journal, lambda: BeginningStore(tmp_path / "store", disk))

    until(lambda: writer.quarantined_entries == 1 and writer.position() == 3)
    assert expected(1, 3) == recorded(writer.store())


def test_what_was_begun_and_is_lost_holds_nothing_up(tmp_path: Path, start: Start) -> None:
    """Where the journal begins behind what was begun, what it has is given to the store, which knows if that loss is accepted."""
    journal, disk = MemoryJournal(), Disk()
    for _ in range(6):
        journal.add()
    journal.trim(4)
    disk.begun = (1, 4)

    start(journal, lambda: BeginningStore(tmp_path / "store", disk, accept_gap="1-4"))

    until(lambda: bool(disk.given))
    assert (5, 6) == disk.given[0]


def copied(journal: MemoryJournal, *payloads: bytes) -> MemoryJournal:
    """Return a copy of *journal* that went on with *payloads*."""
    copy = MemoryJournal(journal.identity)
    copy.entries, copy.last = list(journal.entries), journal.last
    for payload in payloads:
        copy.add(payload)
    return copy


def test_a_copy_that_went_its_own_way_is_refused(tmp_path: Path, start: Start) -> None:
    """
    Two services on copies of one journal take different things in under the same positions: the second is refused, whichever way
    it comes to the store, and its journal keeps everything.
    """
    first = MemoryJournal()
    first.add()
    second = copied(first, simple_entry(52).payload, simple_entry(53).payload, simple_entry(54).payload)
    first.add()
    first.add()
    writer = start(first, lambda: DuckDBStore(tmp_path / "store"))
    until(lambda: writer.applied_rows == 9)
    writer.stop()

    other = start(second, lambda: DuckDBStore(tmp_path / "store"))

    until(lambda: other.refused is not None)
    assert isinstance(other.refused, OtherJournalError)
    assert "at position 2" in str(other.refused)
    assert (0, [1, 2, 3, 4]) == (other.applied_rows, [entry.position for entry in second.entries])


def test_a_copy_that_only_went_on_is_no_other_journal(tmp_path: Path, start: Start) -> None:
    """A journal that was moved, and goes on where it was, is the one that the store knows."""
    first = MemoryJournal()
    first.add()
    first.add()
    second = copied(first, simple_entry(3).payload)
    writer = start(first, lambda: DuckDBStore(tmp_path / "store"))
    until(lambda: writer.applied_rows == 6)
    writer.stop()

    other = start(second, lambda: DuckDBStore(tmp_path / "store"))

    until(lambda: other.applied_rows == 3)
    assert expected(1, 2, 3) == recorded(other.store())


def test_a_position_that_somebody_else_moved_is_looked_into(tmp_path: Path, start: Start) -> None:
    """A writer that lost its store for a while finds it moved on by another one, on a copy of its journal: it applies no more."""
    journal = MemoryJournal()
    journal.add()
    store = DuckDBStore(tmp_path / "store")
    writer = start(journal, lambda: store, linger_seconds=0.0)
    until(lambda: writer.applied_rows == 3)
    # Held up, so that the other one's is there first.
    journal.failing = FlagledgerError(Reason.DISK_FAILING, "away")
    until(lambda: writer.failures > 0)
    rows, discards = to_columns([Entry(position=2, payload=simple_entry(52).payload)])
    store.apply("journal", 2, 2, rows, discards)
    journal.add()
    journal.failing = None

    until(lambda: writer.refused is not None)
    assert isinstance(writer.refused, OtherJournalError)


def test_what_was_begun_beyond_the_journal_is_refused(tmp_path: Path, start: Start) -> None:
    """A journal that was put back from a backup does not reach to the end of what was begun: refused, and nothing is applied."""
    journal, disk = MemoryJournal(), Disk()
    journal.add()
    disk.begun = (1, 2)

    writer = start(journal, lambda: BeginningStore(tmp_path / "store", disk))

    until(lambda: writer.refused is not None)
    assert "begun entries up to 2, but the journal has come to 1" in str(writer.last_error)
    assert [] == disk.given


def test_a_store_that_another_one_writes_is_taken_over(tmp_path: Path, start: Start) -> None:
    """While another writer holds the store this one waits, which is no reason not to start; it goes on once that has gone."""
    held, journal = threading.Event(), MemoryJournal()
    held.set()
    journal.add()

    def open_store() -> Store:
        if held.is_set():
            raise StoreError("Another service writes into it.")
        return DuckDBStore(tmp_path / "store")

    writer = start(journal, open_store)
    until(lambda: writer.failures > 1)
    assert (None, False, "Another service writes into it.") == (writer.refused, writer.opened, writer.last_error)
    with pytest.raises(StoreError, match="Another service writes into it"):
        writer.store()
    held.clear()

    until(lambda: writer.applied_rows == 3)
    assert expected(1) == recorded(writer.store())


class Silenced(Counting):
    """Metrics that cannot be kept."""

    def store_failed(self) -> None:
        """Fail."""
        raise OSError("no room for metrics")


def test_failures_that_cannot_be_told_end_nothing(tmp_path: Path, start: Start) -> None:
    """The writer goes on where neither metrics nor logs take what it has to say."""
    journal = MemoryJournal()
    journal.add()
    FailingStore.failures = 2
    writer = start(journal, lambda: FailingStore(tmp_path / "store"), metrics=Silenced())
    until(lambda: writer.applied_rows == 3)

    assert 2 == writer.failures
    assert expected(1) == recorded(writer.store())


class Intake:
    """A journal on disk that batches are appended to from this thread."""

    def __init__(self, path: Path, **options: object) -> None:
        self.journal = SqliteJournal.open(path, **({"max_bytes": 1 << 30, "reserve_bytes": 0} | options))  # type: ignore[arg-type]
        self._loop = asyncio.new_event_loop()

    def record(self, identities: list[str], batch_id: str = "", *, receive_time: int = START) -> None:
        """Append a batch with an evaluation of each of *identities*."""
        record = record_of(batch_id=batch_id, receive_time=receive_time)
        for identity in identities:
            add_evaluation(record, identity_identifier=identity)
        outcome = Outcome(accepted=len(identities), filtered=0, rejected=0)
        payload = record.SerializeToString()
        self._loop.run_until_complete(self.journal.append("production", batch_id, b"d" * 16, outcome, payload))

    def close(self) -> None:
        """Close the journal."""
        self._loop.run_until_complete(asyncio.to_thread(self.journal.close))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    """Open a journal on disk."""
    intake = Intake(tmp_path / "journal.db")
    yield intake
    intake.close()


def files_of_journal(directory: Path) -> bytes:
    """Return what the journal's files hold."""
    return b"".join(path.read_bytes() for path in directory.glob("journal.db*"))


@pytest.fixture
def begin(intake: Intake, start: Start) -> Start:
    """Start writers of that journal, which end before it is closed."""
    return lambda open_store, **options: start(intake.journal, open_store, **options)


def test_an_order_reaches_what_waits_in_the_journal(tmp_path: Path, intake: Intake, begin: Start) -> None:
    """What was recorded before the order, applied or not, is gone from store and journal when it is answered."""
    intake.record(["ann", "bob"])
    writer = begin(lambda: DuckDBStore(tmp_path / "store"), linger_seconds=30.0)
    until(lambda: writer.opened)
    intake.record(["bob", "ann", "ann"])
    assert b"ann" in files_of_journal(tmp_path)

    assert 3 == writer.erase("production", "ann")

    assert ["bob", "bob"] == recorded(writer.store())
    assert b"ann" not in files_of_journal(tmp_path)
    assert [] == intake.journal.read(0, 1 << 20)
    intake.record(["ann"])
    assert 1 == writer.erase("production", "ann")
    assert 0 == writer.erase("production", "ann")


def test_orders_of_many_threads_are_carried_out(tmp_path: Path, intake: Intake, begin: Start) -> None:
    """Orders given at once, for one identity and others, are all answered, and each row is counted in one of them."""
    names = [f"user-{i}" for i in range(6)]
    writer = begin(lambda: DuckDBStore(tmp_path / "store"))
    until(lambda: writer.opened)
    for _ in range(20):
        intake.record([*names, "bob"])

    with ThreadPoolExecutor(12) as threads:
        erased = list(threads.map(lambda name: writer.erase("production", name), names * 2))

    assert [20] * 6 == [first + second for first, second in zip(erased[:6], erased[6:], strict=True)]
    assert ["bob"] * 20 == recorded(writer.store())
    assert b"user-" not in files_of_journal(tmp_path)


def test_nothing_acknowledged_before_an_order_outlives_it(tmp_path: Path, intake: Intake, begin: Start) -> None:
    """Orders are given while batches of that identity keep coming: none that was acknowledged before one is left after it."""
    writer = begin(lambda: DuckDBStore(tmp_path / "store"), linger_seconds=0.0)
    until(lambda: writer.opened)
    acknowledged, over = 0, threading.Event()
    survived: list[tuple[int, list[int]]] = []

    def order() -> None:
        while not over.is_set():
            before = acknowledged
            writer.erase("production", "ann")
            page = writer.store().list_evaluations(Filter(environment="production"), 1_000_000, None)
            numbers = [int(row.batch_id) for row in page.rows if row.identity_identifier == "ann"]
            survived.append((before, [number for number in numbers if number <= before]))

    ordering = threading.Thread(target=order)
    ordering.start()
    while len(survived) < 10 and ordering.is_alive():
        intake.record(["ann", "bob"], str(acknowledged + 1))
        acknowledged += 1
    over.set()
    ordering.join(30)

    assert len(survived) >= 10
    assert survived[-1][0] > survived[0][0]
    assert [] == [found for found in survived if found[1]]
    until(lambda: writer.position() == acknowledged)
    assert acknowledged == recorded(writer.store()).count("bob")


class Unerasable(DuckDBStore):
    """A store that fails at erasing, in ways that it is told."""

    errors: ClassVar[list[Exception]] = []

    def erase_identity(self, environment: str, identity_identifier: str) -> int:
        """Fail, or erase."""
        if Unerasable.errors:
            raise Unerasable.errors.pop()
        return super().erase_identity(environment, identity_identifier)


@pytest.mark.parametrize("error", [StoreError("no luck"), OtherJournalError("no luck"), OSError("no luck")], ids=repr)
def test_an_order_that_fails_is_told(tmp_path: Path, intake: Intake, begin: Start, error: Exception) -> None:
    """Whatever the store runs into, whoever gave the order hears it; afterwards it can be given again."""
    intake.record(["ann", "bob"])
    writer = begin(lambda: Unerasable(tmp_path / "store"))
    until(lambda: writer.applied_rows == 2)
    Unerasable.errors = [error]

    with pytest.raises(StoreError, match="no luck"):
        writer.erase("production", "ann")

    until(lambda: writer._store is not None and writer.refused is None)
    assert 1 == writer.erase("production", "ann")
    assert ["bob"] == recorded(writer.store())


def test_an_order_that_the_journal_fails_is_told(
    tmp_path: Path, intake: Intake, begin: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the journal cannot be overwritten the order fails, and given again it is finished, though no row is left."""
    intake.record(["ann", "bob"])
    writer = begin(lambda: DuckDBStore(tmp_path / "store"))
    until(lambda: writer.applied_rows == 2)

    def failing(up_to: int) -> None:
        raise FlagledgerError(Reason.DISK_FAILING, f"The journal could not be trimmed to {up_to}.")

    with monkeypatch.context() as patch:
        patch.setattr(intake.journal, "erase", failing)
        with pytest.raises(FlagledgerError, match="could not be trimmed to 1"):
            writer.erase("production", "ann")

    assert 0 == writer.erase("production", "ann")
    assert b"ann" not in files_of_journal(tmp_path)


def test_orders_to_a_store_that_is_down_are_refused_at_once(tmp_path: Path, intake: Intake, begin: Start) -> None:
    """While the store cannot be opened, or fails at what comes before the order, nobody waits for it."""
    path = tmp_path / "store"
    path.write_bytes(b"this is no database" * 1_000)
    writer = begin(lambda: FailingStore(path))
    until(lambda: writer.failures > 0)
    with pytest.raises(StoreError, match="cannot be read"):
        writer.erase("production", "ann")
    path.unlink()
    until(lambda: writer.opened)
    FailingStore.failures = 10**9
    intake.record(["ann"])

    with pytest.raises(StoreError, match="no luck"):
        writer.erase("production", "ann")
    # In the midst of the pauses, which have become long.
    until(lambda: writer.failures > 6)
    failures = writer.failures
    with pytest.raises(StoreError, match="no luck"):
        writer.erase("production", "ann")

    assert failures + 1 == writer.failures
    FailingStore.failures = 0


def test_orders_end_with_the_writer(
    tmp_path: Path, intake: Intake, begin: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that waits when the writer stops is refused, and so is one that comes later."""
    monkeypatch.setattr(writer_module, "DRAIN_SECONDS", 0.0)
    gate, applying = threading.Event(), threading.Event()

    class Slow(DuckDBStore):
        """A store that takes its time."""

        def apply(self, *arguments: object) -> None:
            """Wait, and apply."""
            applying.set()
            gate.wait(20)
            super().apply(*arguments)  # type: ignore[arg-type]

    writer = begin(lambda: Slow(tmp_path / "store"), read_bytes=1, linger_seconds=0.0)
    until(lambda: writer.opened)
    intake.record(["ann"])
    intake.record(["ann"])
    assert applying.wait(20)
    with ThreadPoolExecutor(2) as threads:
        order = threads.submit(writer.erase, "production", "ann")
        until(writer._orders.waiting)
        stopping = threads.submit(writer.stop)
        until(writer._stopping.is_set)
        gate.set()
        with pytest.raises(StoreError, match="being stopped"):
            order.result(20)
        stopping.result(20)

    with pytest.raises(StoreError):
        writer.erase("production", "ann")
    with pytest.raises(StoreError, match="being stopped"):
        writer._orders.give("production", "ann", 0)


DAY = 86_400_000_000


def test_what_outlives_its_retention_is_dropped(tmp_path: Path, start: Start) -> None:
    """At the start, and then again and again, what was received longer ago than the days is dropped and counted."""
    journal, metrics, now = MemoryJournal(), Counting(), START + 10 * DAY
    for days in (1, 2, 3, 9):
        record = record_of(receive_time=START + days * DAY)
        add_evaluation(record, identity_identifier=f"day {days}")
        journal.add(record.SerializeToString())
    store = DuckDBStore(tmp_path / "store")
    rows, discards = to_columns(journal.read(0, 1 << 20))
    store.apply(journal.identity, 1, 4, rows, discards)
    store.close()
    retention = Retention(7, seconds=0.05, clock=lambda: now / 1_000_000)
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"), metrics=metrics, retention=retention)
    until(lambda: metrics.rows_dropped == 2)

    # What lies at the very limit is kept.
    assert ["day 9", "day 3"] == recorded(writer.store())[:2]
    now += 1
    until(lambda: metrics.rows_dropped == 3)
    assert ["day 9"] == recorded(writer.store())


def test_intake_goes_on_while_much_is_dropped(tmp_path: Path, start: Start) -> None:
    """Between two slices of a drop entries are applied."""
    journal, order = MemoryJournal(), list[str]()

    class Watched(DuckDBStore):
        """A store that says what it does, with as much to drop as the test wants."""

        def apply(self, *arguments: object) -> None:
            """Say so."""
            super().apply(*arguments)  # type: ignore[arg-type]
            order.append("apply")

        def drop_before(self, received: int) -> int:
            """Say so; more comes in meanwhile."""
            order.append("drop")
            journal.add()
            return 5 if len(order) < 20 else 0

    writer = start(
        journal,
        lambda: Watched(tmp_path / "store"),
        retention=Retention(1, clock=lambda: START / 1e6),
        linger_seconds=0.0,
    )
    until(lambda: order.count("apply") >= 10 and writer.position() == journal.last)

    assert ["drop", "apply"] * (len(order) // 2) == order


def test_a_drop_is_logged_once(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says how much a drop of many slices was, and none comes where there was nothing to drop."""
    lines: list[dict[str, object]] = []

    class Logger:
        """Keeps what is logged."""

        def info(self, event: str, **fields: object) -> None:
            """Keep it."""
            lines.append({"event": event, **fields})

    monkeypatch.setattr(upkeep, "get_logger", Logger)
    slices = [3, 2, 1, 0, 0, 0, 4, 0]

    class Sliced(DuckDBStore):
        """A store with so much to drop."""

        def drop_before(self, received: int) -> int:
            """Drop a slice."""
            return slices.pop(0) if slices else 0

    start(MemoryJournal(), lambda: Sliced(tmp_path / "store"), retention=Retention(30, seconds=0.0))
    until(lambda: len(slices) == 0 and len(lines) == 2)

    assert [6, 4] == [line["rows"] for line in lines]


@pytest.mark.parametrize("retention", [None, Retention(0, seconds=0.0)], ids=["none", "0 days"])
def test_what_is_kept_for_ever_is_not_dropped(tmp_path: Path, start: Start, retention: Retention | None) -> None:
    """Without a retention, or with one of 0 days, nothing is ever dropped."""
    journal, metrics = MemoryJournal(), Counting()
    record = record_of(receive_time=1)
    add_evaluation(record, identity_identifier="ancient")
    journal.add(record.SerializeToString())
    writer = start(journal, lambda: DuckDBStore(tmp_path / "store"), metrics=metrics, retention=retention)
    until(lambda: writer.applied_rows == 1)
    time.sleep(0.3)

    assert ["ancient"] == recorded(writer.store())
    assert 0 == metrics.rows_dropped
