"""What was applied to the embedded store, read back by the positions of journal entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import duckdb
import pyarrow as pa

from flagledger.store.applied import RANGE_BYTES, TALLY, Applied, SetAside, at_most, in_columns
from flagledger.store.columns import DISCARDS, INDEX_BITS, ROWS
from flagledger.store.duckdb.ranges import Reading, TooMuchError, table_of, walk
from flagledger.store.duckdb.sql import one_moment
from flagledger.store.positions import ONE_ENTRY, end_of

_ROWS: Final = f"""
    SELECT {", ".join(f'"{name}"' for name in ROWS.names)} FROM evaluations WHERE position > $after AND position <= $up_to
"""  # noqa: S608  # our names
_DISCARDS: Final = f"""
    SELECT {", ".join(f'"{name}"' for name in DISCARDS.names)} FROM discards WHERE position > $after AND position <= $up_to
"""  # noqa: S608  # our names
_SET_ASIDE: Final = "FROM quarantine WHERE position > $after AND position <= $up_to"
_REACH: Final = """
    SELECT (SELECT position FROM streams),
        (SELECT count(*) FROM evaluations WHERE position > $after) + (SELECT count(*) FROM discards WHERE position > $after)
"""
_TALLY: Final = """
    SELECT environment, feature_name, enabled, variant, epoch_us(date_trunc('second', evaluation_time)) // 1000000 AS second,
        sum("count")::BIGINT AS evaluation_count
    FROM evaluations WHERE position > $after AND position <= $up_to GROUP BY ALL
"""


def applied(reading: Reading, after: int) -> Iterator[Applied]:
    """
    Return what the entries behind position *after* became, in ranges.

    Args:
        reading: Opens a connection of one's own.
        after: Position of the entry behind which they begin.
    """
    begin = end_of(after)
    with reading() as connection, one_moment(connection):
        ((position, rows),) = connection.execute(_REACH, {"after": begin}).fetchall()

    def read(behind: int, up_to: int) -> Applied:
        with reading() as connection, one_moment(connection):
            return _range(connection, behind, up_to)

    last = end_of(position or 0)
    return (found for _, found in walk(read, _size, after=begin, last=last, rows=rows))


def tally(connection: duckdb.DuckDBPyConnection, after: int, last: int, limit: int | None) -> pa.Table:
    """Return what entries behind position *after* up to *last* came to, or some *limit* rows of that."""
    bounds = {"after": end_of(after), "up_to": end_of(last)}
    return connection.execute(_TALLY + at_most(limit), bounds).to_arrow_table().cast(TALLY)


def _range(connection: duckdb.DuckDBPyConnection, behind: int, up_to: int) -> Applied:
    between = (behind, up_to)
    first, last = (behind >> INDEX_BITS) + 1, up_to >> INDEX_BITS
    rows = in_columns(table_of(connection, _ROWS, {}, between=between), ROWS)
    discards = in_columns(table_of(connection, _DISCARDS, {}, between=between), DISCARDS)
    entries = {"after": first - 1, "up_to": last}
    ((bytes_aside,),) = connection.execute(
        f"SELECT coalesce(sum(octet_length(payload)), 0)::BIGINT {_SET_ASIDE}", entries
    ).fetchall()
    if bytes_aside > RANGE_BYTES and up_to - behind > ONE_ENTRY:
        raise TooMuchError
    set_aside = connection.execute(
        f"SELECT position, payload, description {_SET_ASIDE} ORDER BY position", entries
    ).fetchall()
    return Applied(
        first=first,
        last=last,
        rows=rows,
        discards=discards,
        set_aside=tuple(
            SetAside(position=position, payload=payload, description=description)
            for position, payload, description in set_aside
        ),
    )


def _size(found: Applied) -> int:
    return int(found.rows.nbytes + found.discards.nbytes) + sum(len(entry.payload) for entry in found.set_aside)
