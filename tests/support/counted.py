"""Counts for tests of sinks: tables of the schema TALLY, and a store that holds nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from flagledger.store.applied import TALLY, Stream
from flagledger.store.errors import Interrupt, StoreError

SECOND = 1_790_000_000

Row = tuple[str, str, bool | None, str, int, int]
"""Environment, feature, enabled, variant, second, count."""


def row(
    *,
    environment: str = "production",
    feature: str = "checkout",
    enabled: bool | None = True,
    variant: str = "",
    second: int = SECOND,
    count: int = 1,
) -> Row:
    """Return a row; what is not said is the same for all."""
    return (environment, feature, enabled, variant, second, count)


def table(*rows: Row) -> pa.Table:
    """Return *rows* as a table."""
    return pa.Table.from_pylist([dict(zip(TALLY.names, one, strict=True)) for one in rows], TALLY)


def sums_of(rows: Iterable[Row]) -> Counter[tuple[tuple[str, str], ...]]:
    """Return the sum of counts by the tags that *rows* have, whose texts need no other form."""
    sums: Counter[tuple[tuple[str, str], ...]] = Counter()
    for environment, feature, enabled, variant, _, count in rows:
        tags = (
            ("environment", environment),
            ("feature", feature),
            ("enabled", {True: "true", False: "false", None: "unknown"}[enabled]),
            ("variant", variant),
        )
        sums[tuple(tag for tag in tags if tag[1])] += count
    return sums


@dataclass
class CountsStore:
    """
    Entries by position from 1 on, each with the rows of it, as `stream` and `tally` of a store show them.

    Attributes:
        entries: The rows of each entry.
        identity: Of the journal; None where the store knows none yet.
        position: How far it says to be; None for as far as there are entries.
        failing: What each call raises; None for nothing.
        asked: Ranges that were asked for.
        limits: How many rows of each, at most.
    """

    entries: list[Sequence[Row]] = field(default_factory=list)
    identity: str | None = "journal"
    position: int | None = None
    failing: StoreError | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)
    limits: list[int | None] = field(default_factory=list)

    def stream(self) -> Stream | None:
        """Return how far it is."""
        if self.failing is not None:
            raise self.failing
        if self.identity is None:
            return None
        position = len(self.entries) if self.position is None else self.position
        return Stream(identity=self.identity, position=position)

    def tally(self, after: int, last: int, interrupt: Interrupt | None = None, limit: int | None = None) -> pa.Table:
        """Return what the entries behind *after* up to *last* came to, *limit* rows of it at most."""
        if self.failing is not None:
            raise self.failing
        self.asked.append((after, last))
        self.limits.append(limit)
        sums: Counter[Any] = Counter()
        for entry in self.entries[after:last]:
            for *key, count in entry:
                sums[tuple(key)] += count
        found = table(*((*key, count) for key, count in sums.items()))
        return found if limit is None else found.slice(0, limit)
