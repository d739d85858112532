"""Exports: everything behind a position that is asked for, in the order of receipt from batch to batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from flagledger.store import shaping
from flagledger.store.clickhouse.client import Reader
from flagledger.store.clickhouse.ranges import BETWEEN, ENTRY, MOST_ENTRIES, ROW_BYTES, Reading, ranges
from flagledger.store.clickhouse.sql import conditions, microseconds
from flagledger.store.questions import EXPORT, Export, Filter

# Whatever else is asked for: how much there is of an environment is quickly known.
_BEHIND: Final = """
    SELECT count(), min(position) FROM evaluations
    WHERE environment = {environment:String} AND position > {after:Int64} AND position <= {visible:Int64}
"""
# Times as numbers: to make one without a zone out of one with it, Arrow needs a library of zones.
_COLUMNS: Final = ", ".join(
    {
        "evaluation_timestamp": f"{microseconds('evaluation_time')} AS evaluation_timestamp",
        "receive_time": f"{microseconds('receive_time')} AS received",
    }.get(name, name)
    for name in EXPORT.names
)


def export(reading: Reading, asked: Filter, after_position: int) -> Export:
    """
    Return the evaluations behind *after_position*.

    Args:
        reading: Opens a reader of one's own.
        asked: Which evaluations.
        after_position: Position behind which they begin.
    """
    with reading() as reader:
        last = reader.visible
        behind = {"environment": asked.environment, "after": after_position, "visible": last}
        ((rows, first),) = reader.query(_BEHIND, behind)
    if not rows:
        return Export(last_position=last, batches=iter(()))

    def sizes(after: int, up_to: int) -> list[tuple[int, int]]:
        with reading() as reader:
            where, parameters = _wanted(reader, asked, after, up_to)
            found = reader.query(
                f"SELECT {ENTRY} AS entry, sum({ROW_BYTES}) FROM evaluations WHERE {where} "  # noqa: S608  # ours
                f"GROUP BY entry ORDER BY entry LIMIT {MOST_ENTRIES}",
                parameters,
            )
        return [(entry, size) for entry, size in found]

    spans = ranges(sizes, after=first - 1, last=last, rows=rows)
    return Export(last_position=last, batches=_batches(reading, asked, spans))


def _batches(reading: Reading, asked: Filter, spans: Iterator[tuple[int, int]]) -> Iterator[pa.RecordBatch]:
    for after, up_to in spans:
        with reading() as reader:
            where, parameters = _wanted(reader, asked, after, up_to)
            found = reader.arrow(
                f"SELECT {_COLUMNS} FROM evaluations WHERE {where}",  # noqa: S608  # ours
                parameters,
            )
        table = found.rename_columns(EXPORT.names).cast(EXPORT)
        del found
        yield from shaping.batches(table)


def _wanted(reader: Reader, asked: Filter, after: int, up_to: int) -> tuple[str, dict[str, Any]]:
    """Return which rows of a range are asked for, as they follow WHERE, and the parameters of that."""
    wanted = conditions(reader, asked)
    return f"{wanted.where} AND {BETWEEN}", wanted.parameters | {"after": after, "up_to": up_to}
