"""
The writer: moves what is in the journal into the store, in order, each entry exactly once.

```text
journal.read(behind the store's position) ─▶ to_columns ─▶ store.apply (rows and position in one step) ─▶
journal.trim(what a checkpoint covers)
```

It holds no state of its own that matters: killed anywhere and started again, it reads on from the store's position. Few
entries are waited for a moment so that they share a commit; many are taken together, which costs the store less for
each row. An entry that cannot be stored is found by halving, set aside in the store as it is, and counted; the others
go on.

A store that cannot record rows and position in one step may have begun a helping before it was killed. That one is applied before
anything else, from the same entries, and is not halved unless the store has taken it back.

Between helpings it carries out orders to erase an identity, and drops what has outlived its retention (module `upkeep`).
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import pyarrow as pa

from flagledger.errors import FlagledgerError
from flagledger.journal.base import Entry, Journal
from flagledger.store import history
from flagledger.store.applied import SetAside
from flagledger.store.base import Store
from flagledger.store.columns import DISCARDS, ROWS, ConversionError, to_columns
from flagledger.store.errors import AheadOfJournalError, RowsRefusedError, StoreError
from flagledger.store.plain import to_columns_plainly
from flagledger.telemetry.counting import NullWriterMetrics, WriterMetrics
from flagledger.telemetry.logging import Sparing, get_logger
from flagledger.upkeep import ErasableJournal, Orders, Retention

# Well over 122,880 rows of the usual size: from there DuckDB writes row groups straight into its file, past its log.
READ_BYTES: Final = 24 << 20
# Less than this is waited for.
SMALL_BYTES: Final = 1 << 20
LINGER_SECONDS: Final = 0.2
IDLE_SECONDS: Final = 0.05
DRAIN_SECONDS: Final = 2.0
FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 10.0

_MAX_DESCRIPTION: Final = 1_000
_FAILED: Final = "applying to the store failed"


class WriterJournal(Journal, ErasableJournal, Protocol):
    """A journal that also says how far it has come, and that forgets for good."""

    def last_position(self) -> int:
        """Return the position given out last; 0 where there was none."""


_NULL_METRICS: Final = NullWriterMetrics()
_NO_ROWS: Final = pa.RecordBatch.from_pylist([], ROWS)
_NO_DISCARDS: Final = pa.RecordBatch.from_pylist([], DISCARDS)


class Writer:
    """
    The loop from journal to store, in a thread of its own.

    The store is opened by the loop and closed at its end. While it cannot be opened or fails, the loop tries again
    after a delay that doubles up to 10 s; the journal takes what arrives until it reaches its limit.

    Args:
        journal: Where entries come from; read and trimmed here alone.
        open_store: Opens the store; raises StoreError where that fails.
        metrics: What counts.
        retention: What drops rows, and when; None for never.
        read_bytes: Payload taken at a time.
        linger_seconds: Seconds that few entries are waited on for more.
        idle_seconds: Seconds between two looks at an empty journal.

    Attributes:
        applied_rows: Rows committed in this object's life.
        quarantined_entries: Entries set aside in it.
        failures: Attempts that failed in it.
        last_error: Sentence about the attempt that failed last; None once one has succeeded again.
        opened: Whether the store has been opened at some time.
        refused: What was wrong, where the last attempt failed in a way that no further one will mend; None otherwise.
        step_began: When what is being done at the moment began, in monotonic seconds; None in a pause.
    """

    def __init__(
        self,
        journal: WriterJournal,
        open_store: Callable[[], Store],
        *,
        metrics: WriterMetrics = _NULL_METRICS,
        retention: Retention | None = None,
        read_bytes: int = READ_BYTES,
        linger_seconds: float = LINGER_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.applied_rows = 0
        self.quarantined_entries = 0
        self.failures = 0
        self.last_error: str | None = None
        self.opened = False
        self.refused: StoreError | None = None
        self.step_began: float | None = None
        self._journal = journal
        self._open_store = open_store
        self._metrics = metrics
        self._retention = retention or Retention(0)
        self._read_bytes = read_bytes
        self._linger_seconds = linger_seconds
        self._idle_seconds = idle_seconds
        self._log = Sparing()
        self._failing_since: float | None = None
        self._store: Store | None = None
        self._position = 0
        self._trimmed = 0
        self._stopping = threading.Event()
        # Set whenever there is a reason not to wait.
        self._woken = threading.Event()
        self._orders = Orders()
        self._thread = threading.Thread(target=self.run, name="writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Apply what is there, for 2 s at most, end the loop and close the store. Blocks; may be called twice."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def store(self) -> Store:
        """
        Return the store, for questions.

        Raises:
            StoreError: It is not open, or what is open was refused; the message says why.
        """
        store, refused = self._store, self.refused
        if refused is not None:
            told = StoreError(str(refused))
            told.temporary = refused.temporary
            raise told
        if store is None:
            raise StoreError(self.last_error or "The store is being opened.")
        return store

    def position(self) -> int:
        """
        Return the position up to which entries have been applied.

        Raises:
            StoreError: The store is not open.
        """
        self.store()
        return self._position

    def unapplied(self, held: int) -> int:
        """Return how many of the *held* entries of the journal the store lacks, as far as is known. Blocks for a moment."""
        # Before the store was opened nobody knows how far it is; what the journal has trimmed was applied.
        return min(held, max(self._journal.last_position() - self._position, 0))

    def erase(self, environment: str, identity_identifier: str) -> int:
        """
        Erase what was recorded of an identity, and what the journal holds of it; return how many rows of the store that were.

        Blocks until it is done, for any thread but the loop's. What is recorded after the call may be erased or not.

        Raises:
            StoreError: The store is not open, fails, or the writer stops. It may have been erased in part; order it again.
            FlagledgerError: The journal fails. As above.
        """
        self.store()
        answer = self._orders.give(environment, identity_identifier, self._journal.last_position())
        self._woken.set()
        return answer.result()

    def run(self) -> None:
        """Run the loop in the calling thread until `stop`; `start` runs it in its own."""
        # Arrow's own allocator keeps what a large batch took, and has new pages zeroed again and again on the way.
        pa.set_memory_pool(pa.system_memory_pool())
        backoff = FIRST_BACKOFF_SECONDS
        moved = False
        while not self._stopping.is_set():
            self.step_began = time.monotonic()
            try:
                had_moved, moved = moved, self._step()
            except Exception as error:  # noqa: BLE001  # the loop outlives whatever an attempt runs into
                self.step_began = None
                self._failed(error)
                self._pause(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
                continue
            self.step_began = None
            backoff = FIRST_BACKOFF_SECONDS
            if self._failing_since is not None:
                get_logger().info(
                    "applying to the store goes on again", after_seconds=round(time.monotonic() - self._failing_since)
                )
                self._log.renew(_FAILED)
            self._failing_since = None
            self.last_error = self.refused = None
            if not moved:
                if had_moved:
                    _give_back_memory()
                self._pause(self._idle_seconds)
        self._finish()

    def _pause(self, seconds: float) -> bool:
        """Wait; return whether there was a reason to wait no longer."""
        if self._stopping.is_set():
            return True
        woken = self._woken.wait(seconds)
        # Before what it was set for is looked at, so that nothing is missed.
        self._woken.clear()
        return woken

    def _step(self) -> bool:
        """Apply one helping of entries, and do what else is due; return whether there is more to do."""
        store = self._store or self._open()
        position = store.position(self._journal.identity)
        if position != self._position:
            # Somebody else has moved it: it may have been on a copy of this journal that went its own way.
            self._check_history(store, position)
        entries = self._read(store, position)
        if entries:
            self._apply(store, entries)
        self._orders.carry_out(store, self._journal)
        store.maintain()
        self._trim(store)
        self._position = store.position(self._journal.identity)
        # What is old is not what a stop waits for.
        dropped = 0 if self._stopping.is_set() else self._retention.drop(store)
        if dropped:
            self._metrics.dropped(dropped)
        return bool(entries or dropped)

    def _open(self) -> Store:
        store = self._open_store()
        try:
            position = store.position(self._journal.identity)
            last = self._journal.last_position()
            begun = store.begun(self._journal.identity)
            if max(position, begun or 0) > last:
                raise AheadOfJournalError(
                    f"The store has {'begun' if begun else 'applied'} entries up to {begun or position}, but the journal has "
                    f"come to {last} only, as after it was restored: what it records now would be taken for applied. Put back "
                    "a journal and a store of one moment."
                )
            # Now and not when the next entry comes: history must not seem to start anew in between.
            waiting = self._journal.read(position, 1)
            store.check_reach(self._journal.identity, waiting[0].position if waiting else last + 1)
            self._check_history(store, position)
        except BaseException:
            store.close()
            raise
        self._position = position
        self._store = store
        self.opened = True
        return store

    def _check_history(self, store: Store, position: int) -> None:
        entries = self._journal.read(max(position - history.LOOK_BACK, 0), self._read_bytes)
        history.check(store, [entry for entry in entries if entry.position <= position])

    def _read(self, store: Store, after: int) -> list[Entry]:
        begun = store.begun(self._journal.identity)
        if begun is not None:
            entries = self._read_up_to(after, begun)
            # Where some are gone that somebody has accepted as lost, what is there is a range like any other.
            if entries and entries[0].position == after + 1:
                return entries
        entries = self._journal.read(after, self._read_bytes)
        if (
            entries
            and sum(len(entry.payload) for entry in entries) < SMALL_BYTES
            and not self._orders.waiting()
            and not self._pause(self._linger_seconds)
        ):
            entries = self._journal.read(after, self._read_bytes)
        return entries

    def _read_up_to(self, after: int, last: int) -> list[Entry]:
        """Return all entries behind *after* up to *last*, however many helpings they are."""
        entries: list[Entry] = []
        while after < last:
            read = self._journal.read(after, self._read_bytes)
            if not read:
                raise StoreError(
                    f"The store has begun entries up to {last}, but the journal holds none behind {after}."
                )
            entries += (entry for entry in read if entry.position <= last)
            after = read[-1].position
        return entries

    def _apply(self, store: Store, entries: Sequence[Entry]) -> None:
        stream, first, last = self._journal.identity, entries[0].position, entries[-1].position
        try:
            rows, discards = to_columns(entries) if len(entries) > 1 else _one_to_columns(entries)
            store.apply(stream, first, last, rows, discards)
        except (ConversionError, RowsRefusedError) as error:
            if isinstance(error, ConversionError):
                # An older version may have begun what this one cannot convert.
                store.withdraw(stream)
            if len(entries) == 1:
                self._set_aside(store, entries[0], error)
                return
            if store.begun(stream) is not None:
                raise
            middle = len(entries) // 2
            self._apply(store, entries[:middle])
            self._apply(store, entries[middle:])
            return
        self.applied_rows += rows.num_rows
        self._metrics.applied(rows.num_rows)

    def _set_aside(self, store: Store, entry: Entry, error: Exception) -> None:
        apart = SetAside(position=entry.position, payload=entry.payload, description=str(error)[:_MAX_DESCRIPTION])
        store.apply(self._journal.identity, entry.position, entry.position, _NO_ROWS, _NO_DISCARDS, (apart,))
        self.quarantined_entries += 1
        self._metrics.quarantined(1)
        # The content stays out of the log: it may name people.
        get_logger().error(
            "a journal entry cannot be stored and was set aside", position=entry.position, error=type(error).__name__
        )

    def _trim(self, store: Store) -> None:
        trimmable = store.trimmable(self._journal.identity)
        if trimmable > self._trimmed:
            self._journal.trim(trimmable)
            self._trimmed = trimmable

    def _failed(self, error: Exception) -> None:
        self.last_error = str(error)
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        # Rows that are refused say nothing of the store: it is the one that belongs here, and can be read.
        if isinstance(error, StoreError) and not isinstance(error, RowsRefusedError) and not error.temporary:
            self.refused = error
        else:
            self.refused = None
        self._orders.refuse(error)
        # Last: whoever sees that an attempt has failed may ask at once what was wrong.
        self.failures += 1
        if self.refused is not None:
            # Whatever is put in its place is opened, and checked, anew.
            self._close_store()
        # The loop goes on even where nobody can be told.
        with contextlib.suppress(Exception):
            self._metrics.store_failed()
            known = isinstance(error, StoreError | FlagledgerError)
            self._log.error(_FAILED, error=str(error), exc_info=None if known else error)

    def _finish(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        try:
            while time.monotonic() < deadline and self._store is not None and self._step():
                pass
            if self._store is not None:
                self._store.checkpoint()
                self._trim(self._store)
        except Exception as error:  # noqa: BLE001  # what was not applied stays in the journal
            self._failed(error)
        self._orders.close()
        self._close_store()

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            # The loop goes on, or ends, whatever this runs into: what was applied is in the file or in its log.
            with contextlib.suppress(Exception):
                store.close()


def _give_back_memory() -> None:
    """Return to the system what a backlog took and nothing uses any more; a large part of it, with the GNU C library."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _one_to_columns(entries: Sequence[Entry]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Convert a single entry, in the slow way too before giving it up."""
    try:
        return to_columns(entries)
    except ConversionError:
        return to_columns_plainly(entries)
