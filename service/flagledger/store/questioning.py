"""The questions of a store, each asked of its engine over a reader of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

import pyarrow as pa

from flagledger.store.applied import Applied
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

Reader = TypeVar("Reader")
R_contra = TypeVar("R_contra", contravariant=True)


class Engine(Protocol[R_contra]):
    """
    What an engine's package does for the questions, as its module `engine` has it.

    Each function takes a reader and answers the question of `store.base` by its name; all that one reader is asked is seen at one
    moment, or the function sees to that.
    """

    def list_features(self, reader: R_contra, question: Filter, /) -> Features:
        """Answer as in `Store`."""

    def environments(self, reader: R_contra, /) -> tuple[str, ...]:
        """Answer as in `Store`."""

    def last_seen(self, reader: R_contra, question: Filter, names: Collection[str], /) -> dict[str, int]:
        """Answer as in `Store`."""

    def count_evaluations(self, reader: R_contra, question: CountQuestion, /) -> Counts:
        """Answer as in `Store`."""

    def list_evaluations(self, reader: R_contra, asked: Filter, page_size: int, cursor: Cursor | None, /) -> Page:
        """Answer as in `Store`."""

    def list_exposures(
        self, reader: R_contra, question: ExposureQuestion, page_size: int, cursor: ExposureCursor | None, /
    ) -> ExposurePage:
        """Answer as in `Store`."""

    def count_arms(self, reader: R_contra, question: ExposureQuestion, feature_limit: int, /) -> tuple[ArmTotals, ...]:
        """Answer as in `Store`."""

    def list_unknown_features(
        self,
        reader: R_contra,
        environment: str,
        start: int | None,
        end: int | None,
        known: frozenset[str],
        limit: int,
        /,
    ) -> UnknownFeatures:
        """Answer as in `Store`."""

    def intake(self, reader: R_contra, question: IntakeQuestion, /) -> Intake:
        """Answer as in `Store`."""

    def export(
        self, reading: Callable[[], AbstractContextManager[R_contra]], asked: Filter, after_position: int, /
    ) -> Export:
        """Answer as in `Store`."""

    def applied(self, reading: Callable[[], AbstractContextManager[R_contra]], after: int, /) -> Iterator[Applied]:
        """Answer as in `Store`."""

    def tally(self, reader: R_contra, after: int, last: int, limit: int | None, /) -> pa.Table:
        """Answer as in `Store`."""


class Questions(ABC, Generic[Reader]):
    """
    The part of a `Store` that answers. What it is asked is said in `store.base`.

    Attributes:
        engine: Answers questions over a reader.
    """

    engine: Engine[Reader]

    @abstractmethod
    def _reading(self, interrupt: Interrupt | None) -> AbstractContextManager[Reader]:
        """Open a reader of one's own, which *interrupt* ends; what goes wrong with it is raised as a StoreError."""

    def list_features(
        self,
        environment: str,
        start: int | None,
        end: int | None,
        interrupt: Interrupt | None = None,
        feature_name: str | None = None,
    ) -> Features:
        """Return the totals of every feature of *environment* evaluated in [start, end), or of *feature_name* alone."""
        asked = Filter(environment=environment, feature_name=feature_name, start=start, end=end)
        with self._reading(interrupt) as reader:
            return self.engine.list_features(reader, asked)

    def environments(self, interrupt: Interrupt | None = None) -> tuple[str, ...]:
        """Return the names of the environments that hold evaluations, ascending."""
        with self._reading(interrupt) as reader:
            return self.engine.environments(reader)

    def last_seen(
        self, environment: str, names: Collection[str], end: int | None, interrupt: Interrupt | None = None
    ) -> dict[str, int]:
        """Return the time of the last evaluation before *end* of each of the features called *names* that has one."""
        with self._reading(interrupt) as reader:
            return self.engine.last_seen(reader, Filter(environment=environment, end=end), names)

    def count_evaluations(self, question: CountQuestion, interrupt: Interrupt | None = None) -> Counts:
        """Return counts over time and by groups."""
        with self._reading(interrupt) as reader:
            return self.engine.count_evaluations(reader, question)

    def list_evaluations(
        self,
        filter: Filter,  # noqa: A002  # the field's own word
        page_size: int,
        cursor: Cursor | None,
        interrupt: Interrupt | None = None,
    ) -> Page:
        """Return at most *page_size* evaluations behind *cursor*, the newest first."""
        with self._reading(interrupt) as reader:
            return self.engine.list_evaluations(reader, filter, page_size, cursor)

    def list_exposures(
        self,
        question: ExposureQuestion,
        page_size: int,
        cursor: ExposureCursor | None,
        interrupt: Interrupt | None = None,
    ) -> ExposurePage:
        """Return at most *page_size* exposures behind *cursor*."""
        with self._reading(interrupt) as reader:
            return self.engine.list_exposures(reader, question, page_size, cursor)

    def count_arms(
        self, question: ExposureQuestion, feature_limit: int, interrupt: Interrupt | None = None
    ) -> tuple[ArmTotals, ...]:
        """Return the arms of the first *feature_limit* features by name that have exposures."""
        with self._reading(interrupt) as reader:
            return self.engine.count_arms(reader, question, feature_limit)

    def list_unknown_features(
        self,
        environment: str,
        start: int | None,
        end: int | None,
        known: frozenset[str],
        limit: int,
        interrupt: Interrupt | None = None,
    ) -> UnknownFeatures:
        """Return at most *limit* names received in [start, end) that are not *known*."""
        with self._reading(interrupt) as reader:
            return self.engine.list_unknown_features(reader, environment, start, end, known, limit)

    def intake(self, question: IntakeQuestion, interrupt: Interrupt | None = None) -> Intake:
        """Return what came in."""
        with self._reading(interrupt) as reader:
            return self.engine.intake(reader, question)

    def export(
        self,
        filter: Filter,  # noqa: A002  # the field's own word
        after_position: int,
        interrupt: Interrupt | None = None,
    ) -> Export:
        """Return the evaluations behind *after_position*, those received earlier first from batch to batch."""
        return self.engine.export(lambda: self._reading(interrupt), filter, after_position)

    def applied(self, after: int, interrupt: Interrupt | None = None) -> Iterator[Applied]:
        """Yield what the entries behind position *after* became, up to the position at the time of the call."""
        return self.engine.applied(lambda: self._reading(interrupt), after)

    def tally(self, after: int, last: int, interrupt: Interrupt | None = None, limit: int | None = None) -> pa.Table:
        """Return what entries behind position *after* up to *last* came to, or some *limit* rows of that."""
        with self._reading(interrupt) as reader:
            return self.engine.tally(reader, after, last, limit)
