from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from flagledger.store.postgres import binary_copy
from hypothesis import given, settings
from hypothesis import strategies as st
from support.postgres import PostgresServer, postgres_server

TEXTS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64()),
        pa.field("small", pa.int32()),
        pa.field("unsigned", pa.uint32()),
        pa.field("share", pa.float64()),
        pa.field("flag", pa.bool_()),
        pa.field("text", pa.string()),
        pa.field("name", TEXTS),
        pa.field("moment", pa.timestamp("us")),
        pa.field("names", pa.list_(pa.field("item", pa.string(), nullable=False))),
    ]
)
# Arrow's own are UTC without saying so.
EPOCH_2000 = datetime.fromisoformat("2000-01-01")
FIRST, LAST = map(datetime.fromisoformat, ("0001-01-01", "9999-12-31T23:59:59.999999"))
MICROSECOND = timedelta(microseconds=1)

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)
moments = st.datetimes(FIRST, LAST)
rows = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(-(2**31), 2**31 - 1),
    st.none() | st.integers(0, 2**32 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.booleans(),
    st.none() | texts,
    st.none() | st.sampled_from(("", "a", "é😀")),
    st.none() | moments,
    st.lists(texts, max_size=3),
)


def batch_of(values: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
    """Return *values* as a batch of the schema of these tests."""
    columns = list(zip(*values, strict=True)) or [()] * len(SCHEMA)
    arrays = [
        pa.array(column, pa.string()).dictionary_encode() if field.type == TEXTS else pa.array(column, field.type)
        for column, field in zip(columns, SCHEMA, strict=True)
    ]
    return pa.record_batch([each.cast(field.type) for each, field in zip(arrays, SCHEMA, strict=True)], schema=SCHEMA)


def decoded(content: bytes) -> Iterator[list[bytes | None]]:
    """Yield the fields of each row."""
    place = 0
    while place < len(content):
        (count,) = struct.unpack_from("!h", content, place)
        place += 2
        fields: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from("!i", content, place)
            place += 4
            fields.append(None if length < 0 else content[place : place + length])
            place += max(length, 0)
        yield fields


def value_of(kind: pa.DataType, field: bytes | None) -> Any:
    """Return what *field* says, by the type of its column."""
    if field is None:
        return None
    if pa.types.is_timestamp(kind):
        return EPOCH_2000 + struct.unpack("!q", field)[0] * MICROSECOND
    if pa.types.is_list(kind):
        return list_of(field)
    if kind in (pa.string(), TEXTS):
        return field.decode()
    forms = {pa.int64(): "!q", pa.uint32(): "!q", pa.int32(): "!i", pa.float64(): "!d", pa.bool_(): "!?"}
    return struct.unpack(forms[kind], field)[0]


def list_of(field: bytes) -> list[str]:
    """Return the texts of an array."""
    dimensions, nulls, oid = struct.unpack_from("!iii", field)
    assert (0, 25) == (nulls, oid)
    if dimensions == 0:
        assert 12 == len(field)
        return []
    length, first = struct.unpack_from("!ii", field, 12)
    assert (1, 1) == (dimensions, first)
    place, found = 20, []
    for _ in range(length):
        (size,) = struct.unpack_from("!i", field, place)
        found.append(field[place + 4 : place + 4 + size].decode())
        place += 4 + size
    assert place == len(field)
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(rows, max_size=6), st.integers(0, 3))
def test_bytes_are_the_rows(values: list[tuple[Any, ...]], start: int) -> None:
    """What is written reads back as the rows that went in, of a slice of a batch too."""
    batch = batch_of(values).slice(start)
    content = binary_copy.rows(batch.columns)
    fields = [] if content is None else list(decoded(content.to_pybytes()))

    assert values[start:] == [
        tuple(value_of(field.type, each) for field, each in zip(SCHEMA, row, strict=True)) for row in fields
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Return a PostgreSQL of this module's own."""
    with postgres_server() as server:
        yield server


def test_postgresql_reads_it(server: PostgresServer) -> None:
    """A real server takes the stream, and has the same values."""
    values = [
        (1, -2, 4_294_967_295, 0.1, True, "é😀", "a", FIRST, ["x", "", "é"]),
        (None, None, None, None, None, None, None, None, []),
        (-(2**63), 2**31 - 1, 0, -0.0, False, "", "", LAST, [""]),
    ]
    content = binary_copy.rows(batch_of(values).columns)
    assert content is not None
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        connection.execute(
            "CREATE TEMPORARY TABLE arrived (number bigint, small integer, unsigned bigint, share double precision, "
            "flag boolean, text text, name text, moment timestamptz, names text[])"
        )
        with connection.cursor().copy("COPY arrived FROM STDIN (FORMAT BINARY)") as copy:
            for part in (binary_copy.HEADER, content, binary_copy.TRAILER):
                copy.write(bytes(part))
        found = connection.execute("SELECT * FROM arrived").fetchall()

    expected = [
        tuple(value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for value in row) for row in values
    ]
    assert expected == found
