"""
PostgreSQL's binary COPY format, made of whole Arrow columns: no row passes through Python.

The stream begins with a signature; each row is the number of its fields (16 bits) and, for each field, its length (32 bits, -1
for NULL) and that many bytes; it ends with -1 in place of a number of fields. Integers are in network byte order. An element's
form is that of its type's binary input: times are microseconds since 2000-01-01, an array has its number of dimensions, a flag,
the type of its elements, and of its one dimension the length and the index of the first.

Source: the documentation of PostgreSQL, COPY, "File Formats", "Binary Format".
"""

from __future__ import annotations

import array
import sys
from collections.abc import Iterable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
"""What a stream begins with."""
TRAILER: Final = b"\xff\xff"
"""What it ends with."""

_EPOCH_2000: Final = pa.scalar(946_684_800_000_000, pa.int64())
_TEXT_OID: Final = 25
_NOTHING: Final = pa.scalar(b"", pa.binary())
_NULL: Final = pa.scalar(b"\xff\xff\xff\xff", pa.binary())
_ZERO: Final = pa.scalar(0, pa.int32())
# One dimension, no NULL among its elements; then the dimension's length, then that it begins at 1.
_ARRAY: Final = pa.scalar(b"\x00\x00\x00\x01" + bytes(4) + _TEXT_OID.to_bytes(4, "big"), pa.binary())
_FIRST_INDEX: Final = pa.scalar(b"\x00\x00\x00\x01", pa.binary())
_EMPTY_ARRAY: Final = pa.scalar(bytes(8) + _TEXT_OID.to_bytes(4, "big"), pa.binary())
_TYPECODES: Final = {2: "h", 4: "i", 8: "q"}


def rows(columns: Iterable[pa.Array]) -> pa.Buffer | None:
    """
    Return the rows of *columns*, which are of one length, as they stand in a stream; None where there are none.

    Columns may be of integers, doubles, booleans, texts, dictionaries of texts, timestamps in microseconds (into `timestamptz`),
    and lists of texts without NULL. An unsigned integer is written with 64 bits, others with as many as they have.

    Raises:
        pyarrow.ArrowInvalid: They come to more than 2 GiB.
    """
    fields = [_field(column) for column in columns]
    count = pa.scalar(len(fields).to_bytes(2, "big"), pa.binary())
    joined = pc.binary_join_element_wise(count, *fields, _NOTHING)
    _, offsets, data = joined.buffers()
    if data is None or not len(joined):
        return None
    ends = memoryview(offsets)[4 * joined.offset :][: 4 * (len(joined) + 1)].cast("i")
    return data.slice(ends[0], ends[-1] - ends[0])


def _field(column: pa.Array) -> pa.Array:
    """Return each value of *column* with its length before it."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        # Few distinct ones, each made once.
        fields = _prefixed(column.dictionary.cast(pa.binary())).take(column.indices)
        return pc.fill_null(fields, _NULL) if column.null_count else fields
    if pa.types.is_string(kind):
        return _prefixed(column.cast(pa.binary()))
    if pa.types.is_list(kind):
        return _prefixed(_arrays(column))
    if pa.types.is_boolean(kind):
        return _with_length(column, _fixed(column.cast(pa.int8())))
    if pa.types.is_timestamp(kind):
        column = pc.subtract(column.cast(pa.int64()), _EPOCH_2000)
    elif pa.types.is_unsigned_integer(kind):
        column = column.cast(pa.int64())
    return _with_length(column, _fixed(column))


def _with_length(column: pa.Array, content: pa.Array) -> pa.Array:
    length = pa.scalar(content.type.byte_width.to_bytes(4, "big"), pa.binary())
    fields = pc.binary_join_element_wise(length, content.cast(pa.binary()), _NOTHING)
    return pc.if_else(column.is_valid(), fields, _NULL) if column.null_count else fields


def _prefixed(content: pa.Array) -> pa.Array:
    """Return each of *content* with its own length before it, NULL as such."""
    fields = pc.binary_join_element_wise(_big_endian(pc.binary_length(content)), content, _NOTHING)
    return pc.fill_null(fields, _NULL) if content.null_count else fields


def _arrays(lists: pa.ListArray) -> pa.Array:
    """Return each list of texts as the binary form of a `text[]`."""
    items = _prefixed(pc.list_flatten(lists).cast(pa.binary()))
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    content = pc.binary_join(pa.ListArray.from_arrays(offsets, items), _NOTHING)
    lengths = pc.list_value_length(lists)
    filled = pc.binary_join_element_wise(_ARRAY, _big_endian(lengths), _FIRST_INDEX, content, _NOTHING)
    return pc.if_else(pc.equal(lengths, _ZERO), _EMPTY_ARRAY, filled)


def _big_endian(lengths: pa.Array) -> pa.Array:
    """Return *lengths* as four bytes each, NULL as such."""
    content = _fixed(lengths.cast(pa.int32())).cast(pa.binary())
    return pc.if_else(lengths.is_valid(), content, pa.scalar(None, pa.binary())) if lengths.null_count else content


def _fixed(column: pa.Array) -> pa.Array:
    """Return numbers as bytes in network order, whatever it is where one is NULL."""
    width = column.type.bit_width // 8
    start = column.offset * width
    content = memoryview(column.buffers()[1])[start : start + len(column) * width]
    if width > 1 and sys.byteorder == "little":
        swapped = array.array(_TYPECODES[width])
        swapped.frombytes(content)
        swapped.byteswap()
        content = memoryview(swapped)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(column), [None, pa.py_buffer(content)])
