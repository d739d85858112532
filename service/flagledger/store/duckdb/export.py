"""
Exports: everything behind a position, read in ranges of positions that take little memory and little time each.

Nothing is held between two ranges. A transaction that stays open while somebody downloads slowly would keep checkpoints from
being made, and so the journal from being trimmed. What lies within the export does not change meanwhile, but for what is erased:
rows are never altered, and later ones have higher positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from flagledger.store.columns import INDEX_BITS
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.duckdb.sql import filtered, one_moment
from flagledger.store.questions import EXPORT, Export, Filter

Reading = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]

# What a range is meant to come to in memory: less costs time for each, since rows are unpacked with their neighbours.
RANGE_BYTES: Final = 32 << 20
# What it may come to: beyond this a smaller one is read instead.
MAX_RANGE_BYTES: Final = 2 * RANGE_BYTES
BATCH_BYTES: Final = 8 << 20

_ONE_ENTRY: Final = 1 << INDEX_BITS
_FIRST_ROWS: Final = 50_000
_ROWS_AT_A_TIME: Final = 20_000
_MAX_GROWTH: Final = 8
# Of those that are looked at in a range, however few of them are asked for: it must not take long.
_MAX_ROWS: Final = 5_000_000
_APART: Final = pa.scalar(duckdb_texts.APART, pa.string())

_ROWS: Final = """
    SELECT position, feature_name, enabled, value, evaluation_time AS evaluation_timestamp, identity_identifier, identity_traits,
        segment_names, variant, reason, metadata, "count", environment, batch_id, receive_time, origin, sdk_name, sdk_version,
        sample_rate
    FROM {source} WHERE {where} AND position > $after AND position <= $up_to
"""


def export(reading: Reading, asked: Filter, after_position: int) -> Export:
    """
    Return the evaluations behind *after_position*.

    Args:
        reading: Opens a connection of one's own.
        asked: Which evaluations.
        after_position: Position behind which they begin.
    """
    with reading() as connection, one_moment(connection):
        applied = connection.execute("SELECT position FROM streams").fetchall()
        last = ((applied[0][0] + 1) << INDEX_BITS) - 1 if applied else 0
        ((rows, first),) = connection.execute(
            "SELECT count(*), min(position) FROM evaluations WHERE position > $after", {"after": after_position}
        ).fetchall()
    if not rows:
        return Export(last_position=last, batches=iter(()))
    widths = [max(_ONE_ENTRY, (last - first) // (1 + rows // some)) for some in (_FIRST_ROWS, _MAX_ROWS)]
    return Export(last_position=last, batches=_batches(reading, asked, first - 1, last, *widths))


def _batches(
    reading: Reading, asked: Filter, after: int, last: int, width: int, widest: int
) -> Iterator[pa.RecordBatch]:
    while after < last:
        up_to = min(after + width, last)
        with reading() as connection, one_moment(connection):
            table = _range(connection, asked, after, up_to)
        if table is None:
            # A single entry is read whatever it holds: a request's size bounds it.
            width = max(_ONE_ENTRY, width // 4)
            continue
        after = up_to
        width = max(_ONE_ENTRY, min(width * _MAX_GROWTH, width * RANGE_BYTES // max(table.nbytes, 1), widest))
        yield from _cut(table)
        del table


def _range(connection: duckdb.DuckDBPyConnection, asked: Filter, after: int, up_to: int) -> pa.Table | None:
    """Return the rows with positions behind *after* up to *up_to*, long texts included; None where they are too many."""
    may_be_large = up_to - after <= _ONE_ENTRY
    ((long_bytes,),) = connection.execute(
        "SELECT coalesce(sum(bytes), 0)::BIGINT FROM long_texts WHERE position > $after AND position <= $up_to",
        {"after": after, "up_to": up_to},
    ).fetchall()
    if long_bytes > RANGE_BYTES and not may_be_large:
        return None
    wanted = filtered(connection, asked, between=(after + 1, up_to))
    wanted.parameters |= {"after": after, "up_to": up_to}
    reader = connection.execute(
        _ROWS.format(source=wanted.source, where=wanted.where), wanted.parameters
    ).to_arrow_reader(_ROWS_AT_A_TIME)
    found: list[pa.RecordBatch] = []
    size = 0
    for batch in reader:
        found.append(batch)
        size += batch.nbytes
        if size > MAX_RANGE_BYTES and not may_be_large:
            reader.close()
            return None
    table = pa.Table.from_batches(found, reader.schema).cast(EXPORT)
    return _whole(connection, table) if long_bytes else table


def _whole(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> pa.Table:
    """Return *table* with its long texts in it."""
    for name in duckdb_texts.COLUMNS:
        index = EXPORT.get_field_index(name)
        apart = pc.fill_null(pc.equal(table.column(index), _APART), fill_value=False)
        positions = table.column("position").filter(apart).to_pylist()
        if not positions:
            continue
        texts = duckdb_texts.read(connection, positions, (name,))
        replacements = pa.chunked_array([[texts[position, name] for position in positions]], pa.string())
        whole = pc.replace_with_mask(
            table.column(index).combine_chunks(), apart.combine_chunks(), replacements.combine_chunks()
        )
        table = table.set_column(index, EXPORT.field(index), whole)
    return table


def _cut(table: pa.Table) -> Iterator[pa.RecordBatch]:
    rows = max(1, table.num_rows * BATCH_BYTES // max(table.nbytes, 1))
    yield from table.combine_chunks().to_batches(max_chunksize=rows)
