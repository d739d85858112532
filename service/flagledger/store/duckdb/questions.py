"""The questions of a store, each asked of DuckDB over a connection of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager

import duckdb

from flagledger.store.base import Interrupt
from flagledger.store.duckdb import counts, export, exposures, intake, queries
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


class Questions(ABC):
    """The part of a `Store` that answers. What it is asked is said in `store.base`."""

    @abstractmethod
    def _reading(self, interrupt: Interrupt | None) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """Open a connection of one's own, which *interrupt* ends; what goes wrong with it is raised as a StoreError."""

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
        with self._reading(interrupt) as connection:
            return queries.list_features(connection, asked)

    def environments(self, interrupt: Interrupt | None = None) -> tuple[str, ...]:
        """Return the names of the environments that hold evaluations, ascending."""
        with self._reading(interrupt) as connection:
            return queries.environments(connection)

    def last_seen(
        self, environment: str, names: Collection[str], end: int | None, interrupt: Interrupt | None = None
    ) -> dict[str, int]:
        """Return the time of the last evaluation before *end* of each of the features called *names* that has one."""
        with self._reading(interrupt) as connection:
            return queries.last_seen(connection, Filter(environment=environment, end=end), names)

    def count_evaluations(self, question: CountQuestion, interrupt: Interrupt | None = None) -> Counts:
        """Return counts over time and by groups."""
        with self._reading(interrupt) as connection:
            return counts.count_evaluations(connection, question)

    def list_evaluations(
        self,
        filter: Filter,  # noqa: A002  # the field's own word
        page_size: int,
        cursor: Cursor | None,
        interrupt: Interrupt | None = None,
    ) -> Page:
        """Return at most *page_size* evaluations behind *cursor*, the newest first."""
        with self._reading(interrupt) as connection:
            return queries.list_evaluations(connection, filter, page_size, cursor)

    def list_exposures(
        self,
        question: ExposureQuestion,
        page_size: int,
        cursor: ExposureCursor | None,
        interrupt: Interrupt | None = None,
    ) -> ExposurePage:
        """Return at most *page_size* exposures behind *cursor*."""
        with self._reading(interrupt) as connection:
            return exposures.list_exposures(connection, question, page_size, cursor)

    def count_arms(
        self, question: ExposureQuestion, feature_limit: int, interrupt: Interrupt | None = None
    ) -> tuple[ArmTotals, ...]:
        """Return the arms of the first *feature_limit* features by name that have exposures."""
        with self._reading(interrupt) as connection:
            return exposures.count_arms(connection, question, feature_limit)

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
        with self._reading(interrupt) as connection:
            return intake.list_unknown_features(connection, environment, start, end, known, limit)

    def intake(self, question: IntakeQuestion, interrupt: Interrupt | None = None) -> Intake:
        """Return what came in."""
        with self._reading(interrupt) as connection:
            return intake.intake(connection, question)

    def export(
        self,
        filter: Filter,  # noqa: A002  # the field's own word
        after_position: int,
        interrupt: Interrupt | None = None,
    ) -> Export:
        """Return the evaluations behind *after_position*, those received earlier first from batch to batch."""
        return export.export(lambda: self._reading(interrupt), filter, after_position)
