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
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from flagledger.store.intake import Intake, IntakeQuestion, UnknownFeatures
from flagledger.store.questions import (
    ArmTotals,
    CountQuestion,
    Counts,
    Cursor,
    Export,
    ExposureCursor,
    ExposurePage,
    ExposureQuestion,
    Features,
    Filter,
    Page,
)


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


class TooManyBucketsError(StoreError):
    """The period has more buckets than an answer may hold. The message is a sentence about the field `bucket`."""

    temporary = False


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

    def erase_identity(self, environment: str, identity_identifier: str) -> int:
        """
        Erase what was recorded of an identity and return how many rows that were.

        When the call returns, nothing brings the rows back, not even the loss of the store's own log; entries that are applied
        later are another matter. What is set aside and holds the identifier is erased too. Belongs to the thread that applies.
        """

    def drop_before(self, received: int) -> int:
        """
        Erase rows, discards and set-aside entries received before *received* (microseconds since the epoch), some of them at
        least; return how many rows went. To be called until that is 0. Belongs to the thread that applies.
        """

    def list_features(
        self,
        environment: str,
        start: int | None,
        end: int | None,
        interrupt: Interrupt | None = None,
        feature_name: str | None = None,
    ) -> Features:
        """
        Return the totals of every feature of *environment* evaluated in [start, end), or of *feature_name* alone.

        None is unbounded.

        From the first value on that does not fit into `LAST_VALUES_BYTES` any more, the totals hold none.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def environments(self, interrupt: Interrupt | None = None) -> tuple[str, ...]:
        """
        Return the names of the environments that hold evaluations, ascending.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def last_seen(
        self, environment: str, names: Collection[str], end: int | None, interrupt: Interrupt | None = None
    ) -> dict[str, int]:
        """
        Return the time of the last evaluation before *end* of each of the features called *names* that has one.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def count_evaluations(self, question: CountQuestion, interrupt: Interrupt | None = None) -> Counts:
        """
        Return counts over time and by groups.

        Raises:
            TooManyBucketsError: The period has more than `MAX_BUCKETS`.
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

    def list_exposures(
        self,
        question: ExposureQuestion,
        page_size: int,
        cursor: ExposureCursor | None,
        interrupt: Interrupt | None = None,
    ) -> ExposurePage:
        """
        Return at most *page_size* exposures behind *cursor*; a page whose texts come to `PAGE_BYTES` ends there.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def count_arms(
        self, question: ExposureQuestion, feature_limit: int, interrupt: Interrupt | None = None
    ) -> tuple[ArmTotals, ...]:
        """
        Return the arms of the first *feature_limit* features by name that have exposures.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def list_unknown_features(
        self,
        environment: str,
        start: int | None,
        end: int | None,
        known: frozenset[str],
        limit: int,
        interrupt: Interrupt | None = None,
    ) -> UnknownFeatures:
        """
        Return at most *limit* names received in [start, end) that are not *known*.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def intake(self, question: IntakeQuestion, interrupt: Interrupt | None = None) -> Intake:
        """
        Return what came in.

        Raises:
            TooManyBucketsError: The period has more than `MAX_BUCKETS`.
            QuestionEndedError: *interrupt* was asked.
        """

    def export(
        self,
        filter: Filter,  # noqa: A002  # the field's own word
        after_position: int,
        interrupt: Interrupt | None = None,
    ) -> Export:
        """
        Return the evaluations behind *after_position*, those received earlier first from batch to batch.

        Raises:
            QuestionEndedError: *interrupt* was asked; also while batches are read.
        """

    def close(self) -> None:
        """Checkpoint as far as possible and let go of everything. Calls after it raise StoreError."""
