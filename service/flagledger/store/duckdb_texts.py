"""
Long texts, kept in pieces beside the rows.

DuckDB reads, and compresses, 2,048 values of a column at once. So many values of 128 KiB, six times as long where JSON
escapes each byte, are more than it may hold; a public key may send them, and from then on neither a question nor a
checkpoint would succeed. A column of short pieces takes little memory, whatever they are pieces of.

In its row, the place of such a text is taken by `APART`, which is no JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS: Final = ("value", "identity_traits", "metadata")
"""Columns of JSON texts; what others hold is short enough."""

APART: Final = ""
"""What stands in a row in the place of a long text."""

TABLE: Final = """
    CREATE TABLE IF NOT EXISTS long_texts (
        position BIGINT NOT NULL,
        name VARCHAR NOT NULL,
        piece INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        text VARCHAR NOT NULL
    )
"""

# Longer ones are kept in pieces of so many characters.
_LONGEST: Final = pa.scalar(4096, pa.int32())
_PIECE: Final = 4096
_APART: Final = pa.scalar(APART, pa.string())
_NO: Final = pa.scalar(False, pa.bool_())  # noqa: FBT003  # a kernel's operand

_PIECES: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("piece", pa.int32(), nullable=False),
        pa.field("bytes", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

_WANTED: Final = "FROM long_texts WHERE position IN (SELECT unnest($positions::BIGINT[])) AND name IN $names"
_SIZES: Final = f"SELECT position, sum(bytes)::BIGINT {_WANTED} GROUP BY position"
_TEXTS: Final = f"SELECT position, name, text {_WANTED} ORDER BY position, name, piece"


def split(rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Return *rows* with no long text in them, and the pieces of those that they held."""
    pieces: list[tuple[int, str, int, int, str]] = []
    for name in COLUMNS:
        index = rows.schema.get_field_index(name)
        texts = rows.column(index)
        long = pc.fill_null(pc.greater(pc.binary_length(texts), _LONGEST), _NO)
        if not pc.any(long).as_py():
            continue
        positions = rows.column("position").filter(long).to_pylist()
        for position, text in zip(positions, texts.filter(long).to_pylist(), strict=True):
            for number, start in enumerate(range(0, len(text), _PIECE)):
                piece = text[start : start + _PIECE]
                pieces.append((position, name, number, len(piece.encode()), piece))
        rows = rows.set_column(index, rows.schema.field(index), pc.if_else(long, _APART, texts))
    columns: Sequence[Sequence[Any]] = list(zip(*pieces, strict=True)) or [()] * len(_PIECES)
    return rows, pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, _PIECES, strict=True)], schema=_PIECES
    )


def sizes(
    connection: duckdb.DuckDBPyConnection, positions: Sequence[int], names: Sequence[str] = COLUMNS
) -> dict[int, int]:
    """Return how many bytes the long texts of the rows at *positions* have, where they have any."""
    if not positions:
        return {}
    return dict(connection.execute(_SIZES, {"positions": positions, "names": names}).fetchall())


def read(
    connection: duckdb.DuckDBPyConnection, positions: Sequence[int], names: Sequence[str] = COLUMNS
) -> dict[tuple[int, str], str]:
    """Return the long texts of the rows at *positions*, by position and column."""
    if not positions:
        return {}
    pieces: dict[tuple[int, str], list[str]] = {}
    for position, name, text in connection.execute(_TEXTS, {"positions": positions, "names": names}).fetchall():
        pieces.setdefault((position, name), []).append(text)
    return {place: "".join(texts) for place, texts in pieces.items()}
