"""What a store was given, entry by entry, and what it gives back by position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.applied import Applied, SetAside
from flagledger.store.base import Store
from flagledger.store.columns import DISCARDS, ROWS, to_columns
from flagledger.store.questions import CountQuestion, Filter
from hypothesis import strategies as st
from support import askable
from support.records import entries_of

Item = JournalRecord | bytes
"""An entry: a record, or a payload that is set aside."""


EVERYTHING: Final = CountQuestion(filter=Filter(environment="production"))
"""How many evaluations there are."""


@dataclass(frozen=True, slots=True)
class Content:
    """Rows and discards as dictionaries, times as integers, in their order; and what was set aside."""

    rows: list[dict[str, Any]]
    discards: list[dict[str, Any]]
    set_aside: list[SetAside]


_payloads = st.binary(min_size=1, max_size=30)


@st.composite
def items(draw: st.DrawFn, min_size: int = 1, max_size: int = 8) -> list[Item]:
    """Draw entries: some with long texts, some with discards, some that are set aside."""
    scene = draw(askable.scenes)
    drawn = draw(st.lists(askable.drawn_records | _payloads, min_size=min_size, max_size=max_size))
    return [each if isinstance(each, bytes) else askable.record_in(scene, each) for each in drawn]


def apply(store: Store, given: Sequence[Item], first: int = 1, *, at_once: int = 3, stream: str = "journal") -> None:
    """Apply *given* to *store* as the entries from *first* on, *at_once* of them in each range."""
    for start in range(0, len(given), at_once):
        found = applied(given[start : start + at_once], first + start)
        store.apply(stream, found.first, found.last, found.rows, found.discards, found.set_aside)


def applied(given: Sequence[Item], first: int = 1) -> Applied:
    """Return *given* as the entries from *first* on, as a store gives them back."""
    rows, discards = to_columns(entries_of(list(map(_record, given)), first))
    set_aside = tuple(_apart(each, first + index) for index, each in enumerate(given) if isinstance(each, bytes))
    return Applied(first=first, last=first + len(given) - 1, rows=rows, discards=discards, set_aside=set_aside)


def expected(given: Sequence[Item], first: int = 1) -> Content:
    """Return what *given* came to as the entries from *first* on."""
    found = applied(given, first)
    return Content(plain(found.rows), plain(found.discards), list(found.set_aside))


def read_back(ranges: Iterable[Applied], first: int, last: int) -> Content:
    """Return what *ranges* hold, which go from *first* to *last* without a gap, each sorted."""
    content, begin = Content([], [], []), first
    for found in ranges:
        assert (begin, ROWS, DISCARDS) == (found.first, found.rows.schema, found.discards.schema)
        assert found.last >= found.first
        rows, discards = plain(found.rows), plain(found.discards)
        assert sorted(rows, key=_order) == rows
        assert sorted(discards, key=lambda row: row["position"]) == discards
        positions = [each["position"] >> 16 for each in (*rows, *discards)]
        positions += [entry.position for entry in found.set_aside]
        assert all(found.first <= position <= found.last for position in positions)
        content.rows.extend(rows)
        content.discards.extend(discards)
        content.set_aside.extend(found.set_aside)
        begin = found.last + 1
    assert last == begin - 1
    return Content(sorted(content.rows, key=_order), content.discards, content.set_aside)


def content_of(store: Store, after: int = 0) -> Content:
    """Return all that *store* holds behind the entry *after*."""
    known = store.stream()
    return read_back(store.applied(after), after + 1, max(after, known.position if known else 0))


def plain(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of *batch*, times as integers."""
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()


def records_of(given: Sequence[Item]) -> Iterator[JournalRecord]:
    """Yield those of *given* that are records."""
    return (each for each in given if not isinstance(each, bytes))


def _record(item: Item) -> JournalRecord:
    if isinstance(item, bytes):
        # It has neither rows nor discards.
        empty = JournalRecord()
        empty.envelope.receive_time.FromMicroseconds(0)
        return empty
    return item


def _apart(payload: bytes, position: int) -> SetAside:
    return SetAside(position=position, payload=payload, description=f"entry {position} is broken")


def _order(row: dict[str, Any]) -> tuple[str, str, int, int]:
    return row["environment"], row["feature_name"], row["evaluation_time"], row["position"]
