"""What was applied to a ClickHouse store, read back by the positions of journal entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from flagledger.store.applied import TALLY, Applied, SetAside, at_most, in_columns
from flagledger.store.clickhouse.client import Reader
from flagledger.store.clickhouse.ranges import BETWEEN, ENTRY, MOST_ENTRIES, ROW_BYTES, Reading, ranges
from flagledger.store.clickhouse.sql import microseconds
from flagledger.store.columns import DISCARDS, INDEX_BITS, ROWS
from flagledger.store.positions import end_of

_VISIBLE: Final = f"{BETWEEN} AND position <= {{visible:Int64}}"
_ASIDE: Final = "position > {after_entry:Int64} AND position <= {last_entry:Int64}"

_BEHIND: Final = """
    SELECT (SELECT count() FROM evaluations WHERE position > {after:Int64} AND position <= {visible:Int64})
        + (SELECT count() FROM discards WHERE position > {after:Int64} AND position <= {visible:Int64})
"""
_SIZES: Final = f"""
    SELECT entry, sum(size) FROM (
        SELECT {ENTRY} AS entry, {ROW_BYTES} AS size FROM evaluations WHERE {_VISIBLE}
        UNION ALL SELECT {ENTRY} AS entry, 200 + length(name) AS size FROM discards WHERE {_VISIBLE}
        UNION ALL SELECT position AS entry, 200 + length(payload) AS size FROM quarantine WHERE {_ASIDE}
    ) GROUP BY entry ORDER BY entry LIMIT {MOST_ENTRIES}
"""  # noqa: S608  # ours
_SET_ASIDE: Final = f"SELECT position, payload, description FROM quarantine WHERE {_ASIDE} ORDER BY position"  # noqa: S608  # ours

# Down to the second, before 1970 too: a division would round towards it.
_SECOND: Final = (
    f"intDiv({microseconds('evaluation_time')} - positiveModulo({microseconds('evaluation_time')}, 1000000), 1000000)"
)
_TALLY: Final = f"""
    SELECT environment, feature_name, enabled, variant, {_SECOND} AS second, toInt64(sum(count)) AS evaluation_count
    FROM evaluations WHERE {_VISIBLE} GROUP BY environment, feature_name, enabled, variant, second
"""  # noqa: S608  # ours


def applied(reading: Reading, after: int) -> Iterator[Applied]:
    """
    Return what the entries behind position *after* became, in ranges.

    Args:
        reading: Opens a reader of one's own.
        after: Position of the entry behind which they begin.
    """
    begin = end_of(after)
    with reading() as reader:
        last = reader.visible
        ((rows,),) = reader.query(_BEHIND, {"after": begin, "visible": last})

    def sizes(behind: int, up_to: int) -> list[tuple[int, int]]:
        with reading() as reader:
            return [(entry, size) for entry, size in reader.query(_SIZES, _bounds(reader, behind, up_to))]

    spans = ranges(sizes, after=begin, last=last, rows=rows)
    return (_range(reading, behind, up_to) for behind, up_to in spans)


def tally(reader: Reader, after: int, last: int, limit: int | None) -> pa.Table:
    """Return what entries behind position *after* up to *last* came to, or some *limit* rows of that."""
    return reader.arrow(_TALLY + at_most(limit), _bounds(reader, end_of(after), end_of(last))).cast(TALLY)


def _range(reading: Reading, behind: int, up_to: int) -> Applied:
    with reading() as reader:
        bounds = _bounds(reader, behind, up_to)
        rows = _table(reader, "evaluations", ROWS, bounds)
        discards = _table(reader, "discards", DISCARDS, bounds)
        aside = reader.arrow(_SET_ASIDE, bounds)
    # A payload is no text, whatever the engine takes it for.
    columns = [aside.column("payload").cast(pa.binary()), aside.column("description")]
    return Applied(
        first=(behind >> INDEX_BITS) + 1,
        last=up_to >> INDEX_BITS,
        rows=in_columns(rows, ROWS),
        discards=in_columns(discards, DISCARDS),
        set_aside=tuple(
            SetAside(position=position, payload=payload, description=description)
            for position, payload, description in zip(
                aside.column("position").to_pylist(), *(column.to_pylist() for column in columns), strict=True
            )
        ),
    )


def _table(reader: Reader, name: str, schema: pa.Schema, bounds: dict[str, int]) -> pa.Table:
    """Return the rows of a range of the table *name*, in the columns of *schema*, times without a zone."""
    columns = ", ".join(
        f"{microseconds(field.name)} AS micros_{field.name}" if pa.types.is_timestamp(field.type) else field.name
        for field in schema
    )
    found = reader.arrow(f"SELECT {columns} FROM {name} WHERE {_VISIBLE}", bounds).rename_columns(schema.names)  # noqa: S608  # ours
    for index, field in enumerate(schema):
        if pa.types.is_timestamp(field.type):
            found = found.set_column(index, field.name, found.column(index).cast(field.type))
    return found


def _bounds(reader: Reader, behind: int, up_to: int) -> dict[str, int]:
    return {
        "after": behind,
        "up_to": up_to,
        "visible": reader.visible,
        "after_entry": behind >> INDEX_BITS,
        "last_entry": up_to >> INDEX_BITS,
    }
