"""
The store's seam: where evaluations come to rest, and what can be asked of them.

Plain values and Arrow batches only, nothing of SQL. Every time is an integer of microseconds since
1970-01-01T00:00:00Z.

A store takes the entries of one journal, called the stream, in order. Positions of entries grow by one; `apply` moves
the stream's position and records the rows in one step, so that every entry is applied exactly once whatever is killed
in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import pyarrow as pa

PAGE_BYTES: Final = 3 << 20
"""Texts of a page beyond which it holds no further row. A usual gRPC client takes 4 MiB."""
LAST_VALUES_BYTES: Final = 2 << 20
"""Last values of one answer; it may hold any number of features besides."""


class StoreError(Exception):
    """
    The store cannot do what was asked. The message is a sentence for an operator.

    Attributes:
        temporary: Whether the same may succeed later.
    """

    temporary = True


class UnreadableError(StoreError):
    """The store's file cannot be opened, or its content cannot be read."""


class NewerFormatError(StoreError):
    """The store was written by a newer version than this one."""

    temporary = False


class OtherJournalError(StoreError):
    """The store knows another journal than the one it is given."""

    temporary = False


class BehindJournalError(StoreError):
    """
    The journal no longer holds the entries that the store needs next, as after a restored backup.

    Attributes:
        gap: Name of the gap, `<first>-<last>` of the positions that are missing. Who accepts the loss opens the store
            with it.
    """

    temporary = False

    def __init__(self, message: str, *, gap: str) -> None:
        super().__init__(message)
        self.gap = gap


class AheadOfJournalError(StoreError):
    """The store has applied positions that the journal has yet to give out, as after a journal was restored."""

    temporary = False


class OverlapError(StoreError):
    """A range begins within what has been applied and ends beyond it. Read again from `position` and apply that."""


class RowsRefusedError(StoreError):
    """The rows themselves cannot be stored; the same rows will be refused again. Nothing of the range was applied."""

    temporary = False


class DiskFullError(StoreError):
    """The disk has no room for more. Nothing of the range was applied."""


class QuestionEndedError(StoreError):
    """The question was ended through its `Interrupt` before it was answered."""


class Interrupt:
    """
    Ends one question from another thread, so that nobody works on an answer that nobody waits for.

    Whoever asks for the end does so again and again until the question has returned: an interruption between two
    statements of an engine may be lost on it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._end: Callable[[], object] | None = None

    def ask(self) -> None:
        """End the question if it is being worked on, and keep it from beginning if it is not; never blocks."""
        with self._lock:
            self._asked = True
            if self._end is not None:
                self._end()

    @contextmanager
    def ending(self, end: Callable[[], object]) -> Iterator[None]:
        """
        Let *end*, which any thread may call, end what happens in the block; it is not called outside of it.

        Raises:
            QuestionEndedError: The end was asked for before.
        """
        with self._lock:
            if self._asked:
                raise QuestionEndedError("The question was ended before it began.")
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A journal entry that could not be made into rows: its position, its payload as it was, and what is wrong with it."""

    position: int
    payload: bytes
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTotals:
    """
    What was recorded of one feature in a period. Counts are sums of `count`.

    Attributes:
        feature_name: Exact name.
        evaluation_count: Evaluations.
        enabled_count: Evaluations that were enabled.
        identity_count: Distinct identities.
        first_evaluation_time: Earliest evaluation, in microseconds since the epoch.
        last_evaluation_time: Latest evaluation, in microseconds since the epoch.
        last_value: Value of the latest evaluation as JSON text (of equal times, of the highest position); None where it
            had none, or where those before it have used up `LAST_VALUES_BYTES`.
    """

    feature_name: str
    evaluation_count: int
    enabled_count: int
    identity_count: int
    first_evaluation_time: int
    last_evaluation_time: int
    last_value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Totals by ascending feature name, and the first receipt that the environment holds; None where it holds none."""

    totals: tuple[FeatureTotals, ...]
    data_since: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    Which evaluations are asked for; what is not None must hold.

    Attributes:
        environment: Name of the environment.
        feature_name: Exact name of a feature.
        identity_identifier: Exact identifier.
        segment_name: A segment among the evaluation's own.
        start: Earliest evaluation time, inclusive, in microseconds since the epoch.
        end: Latest evaluation time, exclusive, in microseconds since the epoch.
    """

    environment: str
    feature_name: str | None = None
    identity_identifier: str | None = None
    segment_name: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last evaluation of a page: the next page begins behind it. Evaluations that arrive later do not move it."""

    evaluation_time: int
    position: int


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """
    An evaluation as it was recorded: what flagledger.v1.RecordedEvaluation says.

    `value`, `traits` and `metadata` are JSON texts, or None for absent; `traits` is an object in the order as sent, in which
    a key that was sent twice stands twice. Times are in microseconds since the epoch.
    """

    position: int
    feature_name: str
    enabled: bool | None
    value: str | None
    evaluation_time: int
    identity_identifier: str | None
    traits: str | None
    segment_names: Sequence[str]
    variant: str
    reason: str
    metadata: str | None
    count: int
    environment: str
    batch_id: str
    receive_time: int
    origin: int
    sdk_name: str
    sdk_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Evaluations, the newest first, and where the next page begins; None on the last one."""

    rows: tuple[RecordedRow, ...]
    next: Cursor | None


class Store(Protocol):
    """
    Where evaluations come to rest.

    `position`, `apply`, `trimmable` and `checkpoint` belong to one thread; the questions may be asked from any, at the
    same time. Every method raises a `StoreError`.
    """

    def position(self, stream: str) -> int:
        """
        Return the position of *stream* up to which entries have been applied; 0 where none was.

        Raises:
            OtherJournalError: The store knows a stream by another name.
        """

    def check_reach(self, stream: str, first: int) -> None:
        """
        Check that nothing lies between what was applied and *first*, the journal's oldest entry or, where it has none, its next.

        Raises:
            BehindJournalError: Entries are missing, and the gap was not accepted by its name.
        """

    def apply(
        self,
        stream: str,
        first: int,
        last: int,
        rows: pa.RecordBatch,
        discards: pa.RecordBatch,
        set_aside: Sequence[SetAside] = (),
    ) -> None:
        """
        Record what entries *first* to *last*, both included, became, and move the position to *last*, in one step.

        A range that ends at or before the position has been applied already: nothing happens. When the call returns,
        the rows survive the death of the process.

        Args:
            stream: Identity of the journal.
            first: Position of the first entry; one more than `position`.
            last: Position of the last entry.
            rows: Of the schema `columns.ROWS`.
            discards: Of the schema `columns.DISCARDS`.
            set_aside: Entries of the range that could not be made into rows; kept as they are.

        Raises:
            OtherJournalError: The store knows a stream by another name.
            BehindJournalError: Entries between the position and *first* are missing, and that gap has not been accepted
                by name.
            OverlapError: The range begins at or before the position and ends behind it.
            RowsRefusedError: The rows cannot be stored, now or later.
            DiskFullError: No room.
            StoreError: Anything else; nothing was applied.
        """

    def trimmable(self, stream: str) -> int:
        """Return the position up to which the journal is not needed any more, even if the store loses its own log."""

    def checkpoint(self) -> None:
        """Make everything that was applied trimmable."""

    def maintain(self) -> None:
        """Do what is due, such as a checkpoint once enough bytes or time have passed. To be called often; mostly free."""

    def list_features(
        self, environment: str, start: int | None, end: int | None, interrupt: Interrupt | None = None
    ) -> Features:
        """
        Return the totals of every feature of *environment* evaluated in [start, end); None is unbounded.

        From the first value on that does not fit into `LAST_VALUES_BYTES` any more, the totals hold none.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def list_evaluations(
        self,
        filter: Filter,  # noqa: A002  # the field's own word
        page_size: int,
        cursor: Cursor | None,
        interrupt: Interrupt | None = None,
    ) -> Page:
        """
        Return at most *page_size* evaluations behind *cursor*: by evaluation time, then position, the newest first.

        A page whose texts come to `PAGE_BYTES` ends there; it holds one evaluation at least.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def close(self) -> None:
        """Checkpoint as far as possible and let go of everything. Calls after it raise StoreError."""
