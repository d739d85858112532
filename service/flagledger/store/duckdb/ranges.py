"""
What lies behind a position, read in ranges of positions that take little memory and little time each.

Nothing is held between two ranges. A transaction that stays open while somebody reads slowly would keep checkpoints from being
made, and so the journal from being trimmed. What lies before the last position does not change meanwhile, but for what is erased:
rows are never altered, and later ones have higher positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from flagledger.store.applied import RANGE_BYTES
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.positions import ONE_ENTRY, of_entries

T = TypeVar("T")
Reading = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
"""Opens a connection of one's own."""

# What a range may come to: beyond this a smaller one is read instead. Less than it is meant to come to costs time for each, since
# rows are unpacked with their neighbours.
MAX_RANGE_BYTES: Final = 2 * RANGE_BYTES

_FIRST_ROWS: Final = 50_000
_ROWS_AT_A_TIME: Final = 20_000
_MAX_GROWTH: Final = 8
# Of those that are looked at in a range, however few of them are asked for: it must not take long.
_MAX_ROWS: Final = 5_000_000
_APART: Final = pa.scalar(duckdb_texts.APART, pa.string())

_LARGE: Final = """
    SELECT coalesce((SELECT sum(bytes) FROM long_texts WHERE position > $after AND position <= $up_to), 0)::BIGINT
"""


class TooMuchError(Exception):
    """A range of several entries comes to more than may be in memory: a smaller one is to be read."""


def walk(
    read: Callable[[int, int], T], size: Callable[[T], int], *, after: int, last: int, rows: int
) -> Iterator[tuple[int, T]]:
    """
    Yield what *read* makes of each range between *after* and *last*, with the position that the range ends with.

    Args:
        read: Reads what lies behind one position up to another; raises `TooMuchError`. Of a single entry it takes all there is: a
            request's size bounds it.
        size: Returns how many bytes that came to.
        after: Position of a row behind which the first range begins,
        last: that with which the last one ends; each ends with an entry if *after* and *last* do.
        rows: How many lie between.
    """
    width, widest = (of_entries((last - after) // (1 + rows // some)) for some in (_FIRST_ROWS, _MAX_ROWS))
    while after < last:
        up_to = min(after + width, last)
        try:
            found = read(after, up_to)
        except TooMuchError:
            width = of_entries(width // 4)
            continue
        after = up_to
        width = of_entries(min(width * _MAX_GROWTH, width * RANGE_BYTES // max(size(found), 1), widest))
        yield up_to, found
        # It is not held while the next one is read.
        del found


def table_of(
    connection: duckdb.DuckDBPyConnection, select: str, parameters: Mapping[str, object], *, between: tuple[int, int]
) -> pa.Table:
    """
    Return what *select* finds of rows behind a position up to another, long texts included.

    Args:
        connection: Within a transaction.
        select: SQL with a column `position`; it asks for positions > $after and <= $up_to.
        parameters: What else it asks for.
        between: The two positions.

    Raises:
        TooMuchError: It is more than `MAX_RANGE_BYTES`, and belongs to more than one entry.
    """
    after, up_to = between
    may_be_large = up_to - after <= ONE_ENTRY
    bounds = {"after": after, "up_to": up_to}
    ((long_bytes,),) = connection.execute(_LARGE, bounds).fetchall()
    if long_bytes > RANGE_BYTES and not may_be_large:
        raise TooMuchError
    reader = connection.execute(select, {**parameters, **bounds}).to_arrow_reader(_ROWS_AT_A_TIME)
    found: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        found.append(batch)
        size += batch.nbytes
        if size > MAX_RANGE_BYTES and not may_be_large:
            reader.close()
            raise TooMuchError
    table = pa.Table.from_batches(found, reader.schema)
    return _whole(connection, table) if long_bytes else table


def _whole(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> pa.Table:
    """Return *table* with its long texts in it."""
    for name in duckdb_texts.COLUMNS:
        index = table.schema.get_field_index(name)
        if index < 0:
            continue
        apart = pc.fill_null(pc.equal(table.column(index), _APART), fill_value=False)
        positions = table.column("position").filter(apart).to_pylist()
        if not positions:
            continue
        texts = duckdb_texts.read(connection, positions, (name,))
        replacements = pa.chunked_array([[texts[position, name] for position in positions]], pa.string())
        whole = pc.replace_with_mask(
            table.column(index).combine_chunks(), apart.combine_chunks(), replacements.combine_chunks()
        )
        table = table.set_column(index, table.schema.field(index), whole)
    return table
