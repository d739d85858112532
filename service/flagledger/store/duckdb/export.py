"""Exports: everything behind a position that is asked for, in the order of receipt from batch to batch."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from flagledger.store import shaping
from flagledger.store.duckdb.ranges import Reading, table_of, walk
from flagledger.store.duckdb.sql import filtered, one_moment
from flagledger.store.positions import end_of
from flagledger.store.questions import EXPORT, Export, Filter

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
        last = end_of(applied[0][0]) if applied else 0
        ((rows, first),) = connection.execute(
            "SELECT count(*), min(position) FROM evaluations WHERE position > $after", {"after": after_position}
        ).fetchall()
    if not rows:
        return Export(last_position=last, batches=iter(()))

    def read(after: int, up_to: int) -> pa.Table:
        with reading() as connection, one_moment(connection):
            wanted = filtered(connection, asked, between=(after + 1, up_to))
            select = _ROWS.format(source=wanted.source, where=wanted.where)
            return table_of(connection, select, wanted.parameters, between=(after, up_to)).cast(EXPORT)

    ranges = walk(read, lambda table: table.nbytes, after=first - 1, last=last, rows=rows)
    return Export(last_position=last, batches=(batch for _, table in ranges for batch in shaping.batches(table)))
