"""
The store's seam: where evaluations come to rest, and what can be asked of them.

Plain values and Arrow batches only, nothing of SQL. Every time is an integer of microseconds since
1970-01-01T00:00:00Z.

A store takes the entries of one journal, called the stream, in order. Positions of entries grow by one; `apply` moves
the stream's position and records the rows in one step, so that every entry is applied exactly once whatever is killed
in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from flagledger.store.applied import Applied, SetAside, Stream
from flagledger.store.errors import Interrupt
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


class Store(Protocol):
    """
    Where evaluations come to rest.

    What applies, erases and drops, and `position`, `begun`, `trimmable`, `checkpoint` and `maintain`, belong to one thread, the
    writer's; `stream`, `applied`, `tally` and the questions may be asked from any, at the same time. Every method raises a
    `StoreError`. Of a store that was opened for reading alone, the writer's methods do.
    """

    def position(self, stream: str) -> int:
        """
        Return the position of *stream* up to which entries have been applied; 0 where none was.

        Raises:
            OtherJournalError: The store knows a stream by another name.
        """

    def stream(self) -> Stream | None:
        """Return the journal that the store knows, and how far its entries have been applied; None where it knows none yet."""

    def begun(self, stream: str) -> int | None:
        """
        Return where a range of *stream* ends that was begun and may have been recorded in part; None where there is none.

        Such a range begins behind `position`, and must be applied as it was: from there to here, with the same rows. Only a
        store that cannot record rows and position in one step ever has one.

        Raises:
            OtherJournalError: The store knows a stream by another name.
        """

    def withdraw(self, stream: str) -> None:
        """
        Take back what `begun` tells of, if there is anything: nothing of that range is recorded then.

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
            OverlapError: The range begins at or before the position and ends behind it, or another one was begun (see `begun`).
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

        A store that keeps days apart (UTC, by receipt) drops whole days alone: those that ended at or before *received*.
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

    def applied(self, after: int, interrupt: Interrupt | None = None) -> Iterator[Applied]:
        """
        Yield what the entries behind position *after* became, up to the position at the time of the call.

        Ranges follow one another without a gap, from *after* + 1 to that position, each of some `RANGE_BYTES` at most but for
        single entries that are larger. Nothing is held between two of them.

        Raises:
            QuestionEndedError: *interrupt* was asked; also while ranges are read.
        """

    def tally(self, after: int, last: int, interrupt: Interrupt | None = None, limit: int | None = None) -> pa.Table:
        """
        Return what entries behind position *after* up to *last* came to, of the schema `applied.TALLY`, in any order.

        Of more rows than *limit* some so many are returned: enough to tell that there are more, and no answer.

        Raises:
            QuestionEndedError: *interrupt* was asked.
        """

    def close(self) -> None:
        """Checkpoint as far as possible and let go of everything. Calls after it raise StoreError."""
