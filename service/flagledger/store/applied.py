"""What was applied, read back by position: for what moves on from one store to another, or into a sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from flagledger.store.columns import ROWS

RANGE_BYTES: Final = 32 << 20
"""What a range that is read back is meant to come to in memory."""

TALLY: Final = pa.schema(
    [
        pa.field("environment", pa.string(), nullable=False),
        pa.field("feature_name", pa.string(), nullable=False),
        pa.field("enabled", pa.bool_()),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("second", pa.int64(), nullable=False),
        pa.field("evaluation_count", pa.int64(), nullable=False),
    ]
)
"""Sums of `count` by environment, feature, whether it was enabled, variant, and the second of evaluation since the epoch."""


def at_most(limit: int | None) -> str:
    """Return what a statement ends with that finds so many rows at most."""
    return "" if limit is None else f" LIMIT {limit:d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A journal entry that could not be made into rows: its position, its payload as it was, and what is wrong with it."""

    position: int
    payload: bytes
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The journal that a store knows, by its identity, and the position up to which its entries have been applied."""

    identity: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """
    What a range of entries became, as far as a store still holds it: what was erased since then is missing.

    Attributes:
        first: Position of the first entry.
        last: Position of the last entry.
        rows: Of the schema `columns.ROWS`, sorted as that says.
        discards: Of the schema `columns.DISCARDS`, in the order of their positions.
        set_aside: Entries of the range that could not be made into rows, by position.
    """

    first: int
    last: int
    rows: pa.RecordBatch
    discards: pa.RecordBatch
    set_aside: tuple[SetAside, ...]


_ORDER: Final = ("environment", "feature_name", "evaluation_time", "position")


def in_columns(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """Return *table* as a batch of *schema*, which is `columns.ROWS` or `columns.DISCARDS`, in its order."""
    keys = _ORDER if schema is ROWS else ("position",)
    table = table.sort_by([(key, "ascending") for key in keys])
    return pa.record_batch([_column(table.column(field.name), field.type) for field in schema], schema=schema)


def _column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    whole = column.combine_chunks()
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(whole.type):
        return whole.dictionary_encode()
    return whole.cast(kind)
