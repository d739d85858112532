"""
Rows out of PostgreSQL as Arrow columns.

The server writes each column as one value: numbers in their binary form one behind the other, texts too, and their lengths beside
them. Here Arrow takes those over as they are, so that no value of a row becomes one of Python's.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.adapt import Buffer, Loader
from psycopg.pq import Format

from flagledger.store.postgres.sql import EPOCH, Reader, fetch

_NUMBERS: Final = "string_agg({0}({1}), '')"
_FLAGS: Final = r"string_agg(CASE {0} WHEN true THEN '\x01'::bytea WHEN false THEN '\x00' ELSE '\x02' END, '')"
_LENGTHS: Final = "string_agg(int4send(coalesce(octet_length({0}), -1)), '')"
_TEXTS: Final = "string_agg({0}, '')"

_ZERO: Final = pa.scalar(0, pa.int32())
_TRUE, _NULL = (pa.scalar(number, pa.int8()) for number in (1, 2))
_EPOCH: Final = pa.scalar(EPOCH, pa.int64())


class _BytesLoader(Loader):
    """Loads texts and bytes as bytes."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


def table_of(reader: Reader, select: str, parameters: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """
    Return the rows that *select* finds, in any order, as a table of *schema*, in which dictionaries are plain.

    Args:
        reader: Of one's own.
        select: SQL whose columns are called as those of *schema*, and have the types that the store's tables have.
        parameters: Of *select*.
        schema: Of 64-bit and smaller integers, doubles, booleans, times, texts and lists of texts.
    """
    values = ", ".join(value for field in schema for value in _values(quoted(field.name), field.type))
    (found,) = fetch(
        reader,
        f"SELECT count(*), {values} FROM ({select}) AS rows",  # noqa: S608  # our names
        parameters,
        {"text": _BytesLoader, "bytea": _BytesLoader},
    )
    rows, parts = found[0], iter([part or b"" for part in found[1:]])
    columns = [_column(rows, parts, field.type) for field in schema]
    return pa.table(columns, names=schema.names)


def quoted(column: str) -> str:
    """Return the name of a *column* of ours as SQL: some are words of the language."""
    return f'"{column}"'


def _values(column: str, kind: pa.DataType) -> tuple[str, ...]:
    """Return SQL for what is to be fetched of a column."""
    if pa.types.is_boolean(kind):
        return (_FLAGS.format(column),)
    if pa.types.is_timestamp(kind):
        return (_NUMBERS.format("timestamptz_send", column),)
    if pa.types.is_floating(kind):
        return (_NUMBERS.format("float8send", column),)
    if pa.types.is_integer(kind):
        return (_NUMBERS.format("int8send", column),)
    text = f"array_to_json({column})::text" if pa.types.is_list(kind) else column
    return _LENGTHS.format(text), _TEXTS.format(text)


def _column(rows: int, parts: Iterator[bytes], kind: pa.DataType) -> pa.Array:
    """Return a column of *rows* out of the next of *parts*."""
    if pa.types.is_boolean(kind):
        flags = pa.Array.from_buffers(pa.int8(), rows, [None, pa.py_buffer(next(parts))])
        return pc.if_else(pc.equal(flags, _NULL), pa.scalar(None, pa.bool_()), pc.equal(flags, _TRUE))
    if pa.types.is_timestamp(kind):
        return pc.add(_numbers(rows, next(parts), "q"), _EPOCH).view(kind)
    if pa.types.is_floating(kind):
        return _numbers(rows, next(parts), "d")
    if pa.types.is_integer(kind):
        return _numbers(rows, next(parts), "q").cast(kind)
    texts = _texts(rows, next(parts), next(parts))
    return _lists(texts, kind) if pa.types.is_list(kind) else texts


_KINDS: Final = {"i": pa.int32(), "q": pa.int64(), "d": pa.float64()}


def _numbers(rows: int, sent: bytes, code: str) -> pa.Array:
    """Return *rows* numbers of the type *code* of the module `array`, as they are sent: the first byte is the highest."""
    numbers = array(code, sent)
    if sys.byteorder == "little":
        numbers.byteswap()
    return pa.Array.from_buffers(_KINDS[code], rows, [None, pa.py_buffer(numbers)])


def _texts(rows: int, lengths: bytes, data: bytes) -> pa.Array:
    """Return *rows* texts of so many bytes each; NULL where that is -1."""
    sizes = _numbers(rows, lengths, "i")
    there = pc.greater_equal(sizes, _ZERO)
    ends = pc.cumulative_sum(pc.max_element_wise(sizes, _ZERO))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    validity = None if pc.all(there).as_py() else there.buffers()[1]
    return pa.Array.from_buffers(pa.string(), rows, [validity, offsets.buffers()[1], pa.py_buffer(data)])


def _lists(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the JSON *texts* of lists as such; of those that are the same, of which there are many, each is read once."""
    distinct = texts.dictionary_encode()
    lists = pa.array([orjson.loads(text) for text in distinct.dictionary.to_pylist()], kind)
    return lists.take(distinct.indices)
