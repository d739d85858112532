"""Exports: everything behind a position that is asked for, in the order of receipt from batch to batch."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from flagledger.store import shaping
from flagledger.store.positions import end_of
from flagledger.store.postgres.columnar import table_of
from flagledger.store.postgres.ranges import BETWEEN, ROW_BYTES, Reading, walk
from flagledger.store.postgres.sql import Reader, ask, conditions
from flagledger.store.questions import EXPORT, Export, Filter

_LOOKED: Final = f"SELECT FROM evaluations WHERE {BETWEEN}"  # our names
_ROWS: Final = """
    SELECT position, feature_name, enabled, value, evaluation_time AS evaluation_timestamp, identity_identifier, identity_traits,
        segment_names, variant, reason, metadata, "count", environment, batch_id, receive_time, origin, sdk_name, sdk_version,
        sample_rate
    FROM evaluations WHERE {where}
"""


def export(reading: Reading, asked: Filter, after_position: int) -> Export:
    """
    Return the evaluations behind *after_position*.

    Args:
        reading: Opens a reader of one's own.
        asked: Which evaluations.
        after_position: Position behind which they begin.
    """
    with reading() as reader:
        applied = ask(reader, "SELECT position FROM streams")
    last = end_of(applied[0][0]) if applied else 0
    wanted = conditions(asked)
    wanted.require(BETWEEN)
    select = _ROWS.format(where=wanted.where)

    def read(reader: Reader, after: int, up_to: int) -> pa.Table:
        bounds = {"after": after, "up_to": up_to}
        return table_of(reader, select, wanted.parameters | bounds, EXPORT).cast(EXPORT)

    tables = walk(
        reading,
        read,
        looked=_LOOKED,
        sized=f"SELECT position, {ROW_BYTES} AS bytes FROM evaluations WHERE {wanted.where}",  # noqa: S608  # our names
        parameters=wanted.parameters,
        after=after_position,
        last=last,
    )
    return Export(last_position=last, batches=(batch for table in tables for batch in shaping.batches(table)))
