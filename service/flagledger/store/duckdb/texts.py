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

_NO_EXTRACTS: Final = pa.table({"position": pa.array([], pa.int64()), "extract": pa.array([], pa.string())})
# Of texts that are put together at a time.
_SLICE_BYTES: Final = 16 << 20
_EVERYWHERE: Final = (0, (1 << 63) - 1)

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


def extract(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    expression: str,
    parameter: str,
    *,
    between: tuple[int, int] | None = None,
) -> pa.Table:
    """
    Return what *expression* makes of each long text of the column *name*, as `position` and `extract`; what is NULL is left out.

    The texts are put together a few at a time, and are never all in memory.

    Args:
        connection: Of one's own.
        name: One of `COLUMNS`.
        expression: SQL over `text`, the whole text, and `$parameter`.
        parameter: Value of `$parameter`.
        between: Positions, both included, that are looked at; all of them by default.
    """
    found: list[pa.Table] = []
    for first, last in _slices(connection, name, between or _EVERYWHERE):
        found.append(
            connection.execute(
                f"SELECT position, extract FROM (SELECT position, ({expression})::VARCHAR AS extract FROM "  # noqa: S608  # ours
                "(SELECT position, string_agg(text, '' ORDER BY piece) AS text FROM long_texts "
                "WHERE name = $name AND position BETWEEN $first AND $last GROUP BY position)) WHERE extract IS NOT NULL",
                {"name": name, "first": first, "last": last, "parameter": parameter},
            ).to_arrow_table()
        )
    return pa.concat_tables(found) if found else _NO_EXTRACTS


def digests(connection: duckdb.DuckDBPyConnection, name: str) -> pa.Table:
    """
    Return a JSON string for each long text of the column *name*, as `position` and `extract`: equal where the texts are.

    It is `#` and the MD5 of the MD5s, in hexadecimal digits one behind the other, of the text's pieces.
    """
    return connection.execute(
        "SELECT position, '\"#' || md5(string_agg(md5(text), '' ORDER BY piece)) || '\"' AS extract FROM long_texts "
        "WHERE name = $name GROUP BY position",
        {"name": name},
    ).to_arrow_table()


def _slices(connection: duckdb.DuckDBPyConnection, name: str, between: tuple[int, int]) -> list[tuple[int, int]]:
    """Return ranges of positions that hold all long texts of the column *name*, each `_SLICE_BYTES` of them or a single one."""
    sizes_ = connection.execute(
        "SELECT position, sum(bytes)::BIGINT FROM long_texts WHERE name = $name AND position BETWEEN $first AND $last "
        "GROUP BY position ORDER BY position",
        {"name": name, "first": between[0], "last": between[1]},
    ).fetchall()
    ranges: list[tuple[int, int]] = []
    taken = 0
    for position, size in sizes_:
        if ranges and taken + size <= _SLICE_BYTES:
            ranges[-1] = (ranges[-1][0], position)
            taken += size
        else:
            ranges.append((position, position))
            taken = size
    return ranges
