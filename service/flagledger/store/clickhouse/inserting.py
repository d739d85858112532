"""Rows into ClickHouse: each insert one block under one token, so that it is recorded once however often it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from flagledger.store.errors import RowsRefusedError
from flagledger.store.value_keys import long_keys

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from flagledger.store.applied import SetAside
    from flagledger.store.clickhouse.chunks import Begun

MIN_TIME: Final = -2_208_988_800_000_000
"""The first moment of 1900, in microseconds since the epoch: a DateTime64 knows none before."""
MAX_TIME: Final = 10_413_791_999_999_999
"""The last microsecond of 2299."""

_MANY: Final = 1 << 40
_SETTINGS: Final[Mapping[str, str | int]] = {
    "insert_deduplicate": 1,
    # A chunk that was waited for may hold many days, and none of them may keep it from being recorded.
    "max_partitions_per_insert_block": 0,
    # One block, read by one thread: blocks that are cut differently the next time would not be known again.
    "max_insert_block_size": _MANY,
    "min_insert_block_size_rows": _MANY,
    "min_insert_block_size_bytes": _MANY,
    "max_insert_threads": 1,
    "input_format_parallel_parsing": 0,
}
_TIMES: Final = ("evaluation_time", "receive_time")

_QUARANTINE: Final = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
        pa.field("set_aside_time", pa.timestamp("us"), nullable=False),
    ]
)
_GAPS: Final = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("first", pa.int64(), nullable=False),
        pa.field("last", pa.int64(), nullable=False),
        pa.field("accept_time", pa.timestamp("us"), nullable=False),
    ]
)

# What ClickHouse says of rows that it will not take the next time either.
REFUSALS: Final[Mapping[int | None, str]] = {
    6: "CANNOT_PARSE_TEXT",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    44: "ILLEGAL_COLUMN",
    53: "TYPE_MISMATCH",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    128: "TOO_LARGE_ARRAY_SIZE",
    131: "TOO_LARGE_STRING_SIZE",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    407: "DECIMAL_OVERFLOW",
    469: "VIOLATED_CONSTRAINT",
}
"""Numbers of errors that are about the rows themselves, and what ClickHouse calls them."""


def check_times(batch: pa.RecordBatch) -> None:
    """
    Refuse what ClickHouse would record as another time without a word.

    Raises:
        RowsRefusedError: A time of *batch* lies outside of the years 1900 to 2299.
    """
    for name in _TIMES:
        if name not in batch.schema.names or not batch.num_rows:
            continue
        bounds = pc.min_max(batch.column(name).cast(pa.int64())).as_py()
        if bounds["min"] < MIN_TIME or bounds["max"] > MAX_TIME:
            raise RowsRefusedError(
                f"The rows hold a time ({name}) outside of the years 1900 to 2299, which ClickHouse cannot keep."
            )


def insert_rows(client: Client, begun: Begun, rows: pa.RecordBatch) -> None:
    """Insert evaluations, with the keys of their long values."""
    insert(client, "evaluations", rows.append_column("value_key", long_keys(rows.column("value"))), begun)


def insert_set_aside(client: Client, begun: Begun, stream: str, entries: Sequence[SetAside]) -> None:
    """Insert entries that could not be made into rows."""
    columns = [
        [stream] * len(entries),
        [entry.position for entry in entries],
        [entry.payload for entry in entries],
        [entry.description for entry in entries],
        # The same however often it is sent: another day would be another partition, which does not know it.
        [begun.begin_time] * len(entries),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _QUARANTINE, strict=True)]
    insert(client, "quarantine", pa.record_batch(arrays, schema=_QUARANTINE), begun)


def insert_gap(client: Client, begun: Begun, stream: str, gap: tuple[int, int]) -> None:
    """Insert a gap that was accepted."""
    columns = [[stream], [gap[0]], [gap[1]], [begun.begin_time]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _GAPS, strict=True)]
    insert(client, "gaps", pa.record_batch(arrays, schema=_GAPS), begun)


def insert(client: Client, table: str, batch: pa.RecordBatch, begun: Begun) -> None:
    """Insert *batch* into *table* as part of the range that was *begun*."""
    if batch.num_rows:
        # The mark too, so that it can be ended by one who knows what was begun.
        settings = {**_SETTINGS, "insert_deduplication_token": begun.token, "log_comment": begun.token}
        client.insert_arrow(table, pa.Table.from_batches([batch]), settings=settings)
