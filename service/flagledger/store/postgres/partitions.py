"""
Partitions: one of each table for each UTC day of receipt, made before its first row, dropped whole.

A partition is made beside its table and then attached, which disturbs no question: making it in its place would wait for all of
them, and make all others wait behind it. Dropping one cannot but wait, so it is given up after a moment and tried again later.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import date
from typing import Final

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from flagledger.store.postgres.schema import WITHOUT_STATISTICS, Connection

TABLES: Final = ("evaluations", "discards")
DAY_MICROSECONDS: Final = 86_400_000_000
LOCK_MILLISECONDS: Final = 500
"""What dropping a partition waits for questions, and makes later ones wait."""

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()

_PARTITIONS: Final = """
    SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = to_regclass(%s) ORDER BY relname COLLATE "C"
"""


def days_of(batch: pa.RecordBatch) -> set[int]:
    """Return the days since the epoch on which the rows of *batch* were received."""
    starts = pc.unique(pc.floor_temporal(batch.column("receive_time"), unit="day"))
    return {start // DAY_MICROSECONDS for start in starts.cast(pa.int64()).to_pylist()}


def existing(connection: Connection, table: str) -> set[int]:
    """Return the days that *table* has partitions for."""
    # Whatever else somebody has attached is not for a day of ours.
    ours = re.compile(rf"{table}_[0-9]{{8}}")
    return {_day_of(name) for name in _names(connection, table) if ours.fullmatch(name)}


def make(connection: Connection, table: str, days: Collection[int]) -> None:
    """Make the partitions of *table* for *days*, which it has none for yet."""
    for day in sorted(days):
        names = {"table": sql.Identifier(table), "partition": sql.Identifier(_name(table, day))}
        with connection.transaction():
            connection.execute(sql.SQL("CREATE TABLE {partition} (LIKE {table} INCLUDING ALL)").format(**names))
            # It has everything of its table but this.
            for column in WITHOUT_STATISTICS if table == "evaluations" else ():
                connection.execute(
                    sql.SQL("ALTER TABLE {partition} ALTER {column} SET STATISTICS 0").format(
                        column=sql.Identifier(column), **names
                    )
                )
            connection.execute(
                sql.SQL(
                    "ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES "
                    "FROM (timestamptz 'epoch' + {day} * interval '1 day') TO (timestamptz 'epoch' + {next} * interval '1 day')"
                ).format(day=sql.Literal(day), next=sql.Literal(day + 1), **names)
            )


def drop_before(connection: Connection, received: int) -> int:
    """
    Drop partitions of days that ended at or before *received*, the oldest first, until rows went; return how many went.

    It stops, and returns 0, where questions keep one from being dropped.
    """
    last = received // DAY_MICROSECONDS
    old = sorted((day, table) for table in TABLES for day in existing(connection, table) if day < last)
    for day, table in old:
        rows = _drop(connection, _name(table, day))
        if rows != 0:
            return max(rows, 0)
    return 0


def _drop(connection: Connection, name: str) -> int:
    """Drop the partition called *name*; return how many rows it had, -1 where it could not be dropped for now."""
    partition = sql.Identifier(name)
    # Before anybody has to wait; nobody else writes.
    ((rows,),) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(partition)).fetchall()
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
            connection.execute(sql.SQL("DROP TABLE {}").format(partition))
            connection.execute("DELETE FROM unvacuumed WHERE name = %s", (name,))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return -1
    return int(rows)


def _names(connection: Connection, table: str) -> Iterator[str]:
    for (name,) in connection.execute(_PARTITIONS, (table,)).fetchall():
        yield name


def _name(table: str, day: int) -> str:
    return f"{table}_{date.fromordinal(_EPOCH_ORDINAL + day).isoformat().replace('-', '')}"


def _day_of(name: str) -> int:
    return date.fromisoformat(name.rpartition("_")[2]).toordinal() - _EPOCH_ORDINAL
