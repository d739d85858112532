"""A store beside a plain list of what was applied to it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from store.naive_rows import Discard, Row, discards_of, rows_of
from support.records import entries_of

_T = TypeVar("_T")


class Recorded:
    """
    Applies records and remembers them.

    One store serves many examples: each has environments of its own, so that it begins with nothing.

    Args:
        store: Empty, or with what other examples recorded.
    """

    _numbers = itertools.count()

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows: list[Row] = []
        self.discards: list[Discard] = []
        self._suffix = f"-{next(self._numbers)}"

    def apply(self, records: Sequence[JournalRecord]) -> None:
        """Apply *records*, in the environments of this example."""
        if not records:
            return
        first = self.store.position("journal") + 1
        mine = [self._mine(record) for record in records]
        self.store.apply("journal", first, first + len(mine) - 1, *to_columns(entries_of(mine, first)))
        for position, record in enumerate(mine, first):
            self.rows += rows_of(record, position)
            self.discards += discards_of(record)

    def environment(self, name: str) -> str:
        """Return what *name* is called in this example."""
        return name + self._suffix

    def asked(self, question: _T) -> _T:
        """Return *question*, asked of the environments of this example."""
        return replace(question, environment=self.environment(question.environment))  # type: ignore[type-var,attr-defined]

    def _mine(self, record: JournalRecord) -> JournalRecord:
        mine = JournalRecord()
        mine.CopyFrom(record)
        mine.envelope.environment = self.environment(record.envelope.environment)
        return mine


def pages(ask: Any) -> list[Any]:
    """Return the rows of all pages, each of which *ask* returns for the cursor of the one before."""
    found: list[Any] = []
    cursor = None
    while True:
        page = ask(cursor)
        found += page.rows
        cursor = page.next
        if cursor is None:
            return found
