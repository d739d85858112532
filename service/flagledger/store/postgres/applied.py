"""What was applied to a PostgreSQL, read back by the positions of journal entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from flagledger.store.applied import TALLY, Applied, SetAside, at_most, in_columns
from flagledger.store.columns import DISCARDS, INDEX_BITS, ROWS
from flagledger.store.positions import end_of
from flagledger.store.postgres.columnar import quoted, table_of
from flagledger.store.postgres.ranges import BETWEEN, ROW_BYTES, Reading, walk
from flagledger.store.postgres.sql import Reader, ask, room

_ROWS: Final = f"SELECT {', '.join(map(quoted, ROWS.names))} FROM evaluations WHERE {BETWEEN}"  # noqa: S608  # our names
_DISCARDS: Final = f"SELECT {', '.join(map(quoted, DISCARDS.names))} FROM discards WHERE {BETWEEN}"  # noqa: S608  # our names
_ASIDE_BETWEEN: Final = f"position > %(after)s >> {INDEX_BITS} AND position <= %(up_to)s >> {INDEX_BITS}"
_SET_ASIDE: Final = f"SELECT position, payload, description FROM quarantine WHERE {_ASIDE_BETWEEN} ORDER BY position"  # noqa: S608
_DISCARD_BYTES: Final = room(100, "environment", "reason", "name", "batch_id", "sdk_name", "sdk_version")
_SIZED: Final = f"""
    SELECT position, {ROW_BYTES} AS bytes FROM evaluations WHERE {BETWEEN}
    UNION ALL SELECT position, {_DISCARD_BYTES} FROM discards WHERE {BETWEEN}
    UNION ALL SELECT position << {INDEX_BITS}, octet_length(payload) FROM quarantine WHERE {_ASIDE_BETWEEN}
"""  # noqa: S608  # our names
_TALLY: Final = f"""
    SELECT environment, feature_name, enabled, variant, extract(epoch FROM moment)::bigint AS second, evaluation_count FROM (
        SELECT environment, feature_name, enabled, variant, date_trunc('second', evaluation_time) AS moment,
            sum("count")::bigint AS evaluation_count
        FROM evaluations WHERE {BETWEEN} GROUP BY 1, 2, 3, 4, 5
    ) AS tallies
"""  # noqa: S608  # our names


def applied(reading: Reading, after: int) -> Iterator[Applied]:
    """
    Return what the entries behind position *after* became, in ranges.

    Args:
        reading: Opens a reader of one's own.
        after: Position of the entry behind which they begin.
    """
    with reading() as reader:
        streams = ask(reader, "SELECT position FROM streams")
    last = end_of(streams[0][0]) if streams else 0
    return walk(reading, _range, looked=_SIZED, sized=_SIZED, parameters={}, after=end_of(after), last=last)


def tally(reader: Reader, after: int, last: int, limit: int | None) -> pa.Table:
    """Return what entries behind position *after* up to *last* came to, or some *limit* rows of that."""
    return table_of(reader, _TALLY + at_most(limit), {"after": end_of(after), "up_to": end_of(last)}, TALLY).cast(TALLY)


def _range(reader: Reader, after: int, up_to: int) -> Applied:
    between = {"after": after, "up_to": up_to}
    return Applied(
        first=(after >> INDEX_BITS) + 1,
        last=up_to >> INDEX_BITS,
        rows=in_columns(table_of(reader, _ROWS, between, ROWS), ROWS),
        discards=in_columns(table_of(reader, _DISCARDS, between, DISCARDS), DISCARDS),
        set_aside=tuple(
            SetAside(position=position, payload=payload, description=description)
            for position, payload, description in ask(reader, _SET_ASIDE, between)
        ),
    )
