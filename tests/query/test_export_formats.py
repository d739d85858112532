from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flagledger.query import export_formats
from flagledger.query.export_formats import FORMATS
from flagledger.store.json_texts import json_text
from flagledger.store.questions import EXPORT, MAX_TIME, MIN_TIME
from flagledger.v1.query_service_pb2 import Origin
from hypothesis import given, settings
from hypothesis import strategies as st
from support.querying import batches_of, export_batch
from support.records import json_values, texts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Row = dict[str, Any]

times = st.one_of(st.integers(MIN_TIME, MAX_TIME), st.sampled_from([MIN_TIME, -1, 0, 999_999, 1_000_000, MAX_TIME]))
rows = st.fixed_dictionaries(
    {
        "position": st.integers(1, 2**63 - 1),
        "feature_name": texts,
        "enabled": st.sampled_from([None, True, False]),
        "value": st.one_of(st.none(), json_values.map(json_text)),
        "evaluation_timestamp": times,
        "identity_identifier": st.one_of(st.none(), texts),
        "identity_traits": st.one_of(
            st.none(), st.dictionaries(texts, json_values, min_size=1, max_size=2).map(json_text)
        ),
        "segment_names": st.lists(texts, max_size=2),
        "variant": texts,
        "reason": texts,
        "metadata": st.one_of(st.none(), st.dictionaries(texts, json_values, max_size=2).map(json_text)),
        "count": st.integers(0, 2**32 - 1),
        "environment": st.sampled_from(["production", 'a"b']),
        "batch_id": st.sampled_from(["", "b1", "é\n"]),
        "receive_time": st.sampled_from([0, 1, MAX_TIME]),
        "origin": st.sampled_from([0, 1, 2, 7]),
        "sdk_name": st.sampled_from(["", "sdk"]),
        "sdk_version": st.sampled_from(["", "1", "2"]),
        "sample_rate": st.sampled_from([1.0, 0.5, 0.1, 1 / 3, 0.001]),
    }
)
files = st.lists(st.lists(rows, max_size=5), max_size=3)


def file_of(name: str, batches: list[list[Row]]) -> bytes:
    """Return *batches* as a file of that format."""
    return b"".join(FORMATS[name].encode(batches_of(*(export_batch(*batch) for batch in batches))))


def in_order(batches: list[list[Row]]) -> list[Row]:
    """Return the rows as they should stand in a file."""
    return [row for batch in batches for row in sorted(batch, key=lambda row: row["position"])]


def origin(number: int) -> str:
    """Return the name of an origin."""
    return Origin.Name(Origin.ValueType(number)) if number in Origin.values() else str(number)


def moment(microseconds: int) -> datetime:
    """Return *microseconds* since the epoch as Python has it."""
    return EPOCH + timedelta(microseconds=microseconds)


def written(microseconds: int) -> str:
    """Return *microseconds* since the epoch as text."""
    return moment(microseconds).strftime("%4Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def typed(row: Row) -> Row:
    """Return *row* as it stands in a file that has types."""
    return row | {
        "evaluation_timestamp": moment(row["evaluation_timestamp"]),
        "receive_time": moment(row["receive_time"]),
        "origin": origin(row["origin"]),
    }


def member(name: str, value: Any) -> Any:
    """Return *value* as it stands in a JSON object."""
    match name:
        case "value" | "identity_traits" | "metadata":
            return orjson.loads(value)
        case "evaluation_timestamp" | "receive_time":
            return written(value)
        case "origin":
            return origin(value)
        case _:
            return value


SENT_EMPTY = {"identity_identifier", "enabled", "count", "position", "evaluation_timestamp", "receive_time"}


def as_object(row: Row) -> Row:
    """Return *row* as the JSON object of its line."""
    return {
        name: member(name, value) for name, value in row.items() if value is not None and (value or name in SENT_EMPTY)
    }


def as_fields(row: Row) -> list[str]:
    """Return *row* as the fields of its line of CSV, as a reader without types has them."""
    plain = {
        "enabled": {True: "true", False: "false", None: ""}[row["enabled"]],
        "evaluation_timestamp": written(row["evaluation_timestamp"]),
        "receive_time": written(row["receive_time"]),
        "segment_names": orjson.dumps(row["segment_names"]).decode(),
        "origin": origin(row["origin"]),
        "sample_rate": f"{row['sample_rate']:.16g}",
    }
    texts_ = row | plain
    return ["" if texts_[name] is None else str(texts_[name]) for name in EXPORT.names]


@settings(deadline=None)
@given(files)
def test_ndjson_reads_back(batches: list[list[Row]]) -> None:
    """Each line is an object with what was sent, numbers and JSON as such, and without what was not sent."""
    lines = file_of("ndjson", batches).split(b"\n")

    assert b"" == lines.pop()
    assert [as_object(row) for row in in_order(batches)] == [orjson.loads(line) for line in lines]


@settings(deadline=None)
@given(files)
def test_csv_reads_back(batches: list[list[Row]]) -> None:
    """A header, then every row, texts with quotes and line ends in them too."""
    header, *found = csv.reader(io.StringIO(file_of("csv", batches).decode(), newline=""))

    assert EXPORT.names == header
    assert [as_fields(row) for row in chain(*batches)] == found


@settings(deadline=None)
@given(files)
def test_parquet_reads_back(batches: list[list[Row]]) -> None:
    """A Parquet file has the rows with their types."""
    table = pq.read_table(io.BytesIO(file_of("parquet", batches)))

    assert [typed(row) for row in chain(*batches)] == table.to_pylist()
    assert EXPORT.names == table.schema.names


@settings(deadline=None)
@given(files)
def test_arrow_reads_back(batches: list[list[Row]]) -> None:
    """An Arrow stream has the rows with their types."""
    with pa.ipc.open_stream(file_of("arrow", batches)) as reader:
        table = reader.read_all()

    assert [typed(row) for row in chain(*batches)] == table.to_pylist()


def test_absent_differs_from_empty_in_csv() -> None:
    """What is absent is nothing between two commas, and what is empty is a pair of quotes."""
    rows_ = [{"position": 1, "identity_identifier": None}, {"position": 2, "identity_identifier": ""}]
    _, absent, empty = file_of("csv", [[rows_[0], rows_[1]]]).decode().splitlines()

    assert absent == (
        '1,"checkout",,,"1970-01-01T00:00:00.000000Z",,,"[]","","",,1,"production","",'
        '"1970-01-01T00:00:00.000000Z","ORIGIN_CLIENT","","",1'
    )
    assert empty == absent.replace("1,", "2,", 1).replace('Z",,,', 'Z","",,')


def test_a_line_of_ndjson() -> None:
    """Members stand in the order of the contract, without white space, and embedded JSON as it is kept."""
    row = {
        "position": 65536,
        "enabled": True,
        "value": '{"b":1,"a":[]}',
        "evaluation_timestamp": 1_790_000_000_123_456,
        "identity_identifier": "u",
        "identity_traits": '{"k":1,"k":2}',
        "segment_names": ["x", 'y"'],
        "count": 3,
    }

    assert (
        b'{"position":65536,"feature_name":"checkout","enabled":true,"value":{"b":1,"a":[]},'
        b'"evaluation_timestamp":"2026-09-21T14:13:20.123456Z","identity_identifier":"u","identity_traits":{"k":1,"k":2},'
        b'"segment_names":["x","y\\""],"count":3,"environment":"production","receive_time":"1970-01-01T00:00:00.000000Z",'
        b'"origin":"ORIGIN_CLIENT","sample_rate":1}\n' == file_of("ndjson", [[row]])
    )


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_file_is_one(name: str) -> None:
    """Without a row a file has what every file has: readers find the columns, and no row."""
    content = file_of(name, [[]])
    readers: dict[str, Callable[[], list[Any]]] = {
        "ndjson": content.splitlines,
        "csv": lambda: list(csv.reader(io.StringIO(content.decode())))[1:],
        "parquet": lambda: pq.read_table(io.BytesIO(content)).to_pylist(),
        "arrow": lambda: pa.ipc.open_stream(content).read_all().to_pylist(),
    }

    assert [] == readers[name]()


def test_the_types_of_a_file() -> None:
    """Times have the zone UTC, so that no reader takes them for local ones; JSON is text."""
    schema = pq.read_table(io.BytesIO(file_of("parquet", [[{"position": 1}]]))).schema

    assert [pa.timestamp("us", "UTC")] * 2 == [
        schema.field(name).type for name in ("evaluation_timestamp", "receive_time")
    ]
    assert [pa.string()] * 4 == [schema.field(name).type for name in ("value", "identity_traits", "metadata", "origin")]


def test_row_groups_are_neither_tiny_nor_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches share a row group; one ends with its rows, or with its bytes."""
    monkeypatch.setattr(export_formats, "ROW_GROUP_ROWS", 10)
    monkeypatch.setattr(export_formats, "ROW_GROUP_BYTES", 100_000)
    short = [{"position": i} for i in range(4)]
    long = [{"position": 9, "value": '"' + "x" * 100_000 + '"'}]
    found = pq.ParquetFile(io.BytesIO(file_of("parquet", [short, short, short, short, long, short]))).metadata

    assert [12, 5, 4] == [found.row_group(i).num_rows for i in range(found.num_row_groups)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_comes_while_it_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch became is given away before the next is read."""
    monkeypatch.setattr(export_formats, "ROW_GROUP_ROWS", 1)
    read: list[int] = []

    def batches() -> Any:
        for i in range(5):
            read.append(i)
            yield export_batch({"position": i})

    pieces = FORMATS[name].encode(batches())
    while not read:
        next(pieces)
    for _ in range(2):
        next(pieces)

    assert [0, 1, 2] == read
    pieces.close()
