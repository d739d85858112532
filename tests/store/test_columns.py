from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.journal.base import Entry
from flagledger.store.columns import DISCARDS, MAX_EVALUATIONS, ROWS, ConversionError, to_columns
from flagledger.store.plain import to_columns_plainly
from google.protobuf import struct_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.records import (
    MALFORMED,
    START,
    add_evaluation,
    bits,
    entries_of,
    json_values,
    numbers,
    record_of,
    records,
    simple_entry,
    texts,
    value_of,
    varint_timestamp,
)


def decoded(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of *batch*, times as integers."""
    columns = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pylist()


def rows_of(record: JournalRecord) -> list[dict[str, Any]]:
    """Return the rows of *record* alone."""
    return decoded(to_columns(entries_of([record]))[0])


def assert_equal_ways(entries: list[Entry]) -> None:
    """Convert *entries* both ways and compare."""
    fast_rows, fast_discards = to_columns(entries)
    plain_rows, plain_discards = to_columns_plainly(entries)

    assert fast_rows.schema.equals(ROWS)
    assert fast_discards.schema.equals(DISCARDS)
    assert decoded(plain_rows) == decoded(fast_rows)
    assert decoded(plain_discards) == decoded(fast_discards)
    fast_rows.validate(full=True)
    fast_discards.validate(full=True)


@settings(deadline=None)
@given(st.lists(records(), max_size=4), st.integers(1, 2**46))
def test_fast_and_plain_agree(drawn: list[JournalRecord], first: int) -> None:
    """The columnar conversion makes the same rows and discards, text by text, as the loop over messages."""
    assert_equal_ways(entries_of(drawn, first))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fast_and_plain_agree_over_many_messages() -> None:
    """They agree over 10,000 random evaluations."""
    seen = 0

    @settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(records(max_evaluations=8), min_size=3, max_size=6))
    def agree(drawn: list[JournalRecord]) -> None:
        nonlocal seen
        seen += sum(len(record.evaluations) for record in drawn)
        assert_equal_ways(entries_of(drawn))

    agree()

    assert seen >= 10_000


@settings(deadline=None)
@given(json_values)
def test_json_comes_back(plain: Any) -> None:
    """Whatever JSON an evaluation carries as value, trait or metadata stands in the columns as the same JSON."""
    record = record_of()
    add_evaluation(record, value=value_of(plain))
    record.evaluations[0].identity_traits.add(trait_key="k").trait_value.CopyFrom(value_of(plain))
    record.evaluations[0].metadata.fields["k"].CopyFrom(value_of(plain))

    (row,) = rows_of(record)

    assert plain == json.loads(row["value"])
    assert {"k": plain} == json.loads(row["identity_traits"])
    assert {"k": plain} == json.loads(row["metadata"])


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=20))
def test_numbers_keep_every_bit(drawn: list[float]) -> None:
    """A number comes back with the bits that it was sent with, and integral ones up to 2^53 are written as integers."""
    record = record_of()
    for number in drawn:
        add_evaluation(record, value=struct_pb2.Value(number_value=number))

    found = [row["value"] for row in rows_of(record)]

    assert [bits(number) for number in drawn] == [bits(float(text)) for text in found]
    assert [number.is_integer() and abs(number) <= 2**53 and bits(number) != bits(-0.0) for number in drawn] == [
        text.lstrip("-").isdigit() for text in found
    ]


@settings(deadline=None)
@given(st.lists(texts, max_size=6), texts)
def test_traits_keep_order_and_repetition(keys: list[str], value: str) -> None:
    """Traits stand in the order as sent, a key that was sent twice twice."""
    record = record_of()
    add_evaluation(record)
    for key in keys:
        record.evaluations[0].identity_traits.add(trait_key=key).trait_value.string_value = value

    (row,) = rows_of(record)

    pairs = json.loads(row["identity_traits"], object_pairs_hook=list) if keys else row["identity_traits"]
    assert ([(key, value) for key in keys] if keys else None) == pairs


def test_null_is_not_absent() -> None:
    """JSON null is the text `null`; a value that was not sent, or is of no kind, is NULL."""
    record = record_of()
    add_evaluation(record, value=struct_pb2.Value(null_value=0))
    add_evaluation(record)
    add_evaluation(record, value=struct_pb2.Value())

    assert ["null", None, None] == [row["value"] for row in rows_of(record)]


def test_absent_fields() -> None:
    """What was not sent is NULL where absence means something, empty where it does not, and a count of 1."""
    record = record_of()
    add_evaluation(record)

    (row,) = rows_of(record)

    assert {
        "enabled": None,
        "value": None,
        "identity_identifier": None,
        "identity_traits": None,
        "segment_names": [],
        "variant": "",
        "reason": "",
        "metadata": None,
        "count": 1,
    }.items() <= row.items()


def test_rows_are_sorted_and_keep_their_positions() -> None:
    """Rows are sorted by environment, feature, time and position, and each carries its entry's position and index."""
    first, second = record_of(environment="b"), record_of(environment="a")
    add_evaluation(first, feature_name="y", time=START)
    add_evaluation(first, feature_name="x", time=START + 5)
    add_evaluation(first, feature_name="x", time=START)
    add_evaluation(first, feature_name="x", time=START)
    add_evaluation(second, feature_name="z", time=START + 9)

    rows = decoded(to_columns(entries_of([first, second], first=7))[0])

    assert [
        ("a", "z", START + 9, 8 << 16),
        ("b", "x", START, (7 << 16) + 2),
        ("b", "x", START, (7 << 16) + 3),
        ("b", "x", START + 5, (7 << 16) + 1),
        ("b", "y", START, 7 << 16),
    ] == [(row["environment"], row["feature_name"], row["evaluation_time"], row["position"]) for row in rows]


def test_times_are_kept_to_the_microsecond() -> None:
    """Nanoseconds below a microsecond are cut off, before 1970 too."""
    record = record_of()
    for seconds, nanos in ((5, 1_999), (-1, 999_999_999)):
        evaluation = record.evaluations.add(feature_name="x")
        evaluation.evaluation_timestamp.seconds, evaluation.evaluation_timestamp.nanos = seconds, nanos

    assert [-1, 5_000_001] == [row["evaluation_time"] for row in rows_of(record)]


def test_discards_carry_their_batch() -> None:
    """What was not recorded is told by reason and name, with the batch it came in, even where nothing else of it is left."""
    record = record_of(batch_id="b-1")
    record.envelope.discards.add(reason="unknown_feature", name="chekout", entry_count=3)

    rows, discards = to_columns(entries_of([record], first=4))

    assert 0 == rows.num_rows
    (found,) = decoded(discards)
    assert {
        "position": 4 << 16,
        "environment": "production",
        "reason": "unknown_feature",
        "name": "chekout",
        "entry_count": 3,
        "batch_id": "b-1",
        "receive_time": START,
    }.items() <= found.items()


def test_no_entries_are_no_rows() -> None:
    """No entries make empty batches of the right schemas."""
    rows, discards = to_columns([])

    assert (0, 0) == (rows.num_rows, discards.num_rows)
    assert (ROWS, DISCARDS) == (rows.schema, discards.schema)


def nan_record() -> bytes:
    """Return a payload with a NaN."""
    record = record_of()
    add_evaluation(record, value=struct_pb2.Value(number_value=float("nan")))
    return record.SerializeToString()


def nested_infinity_record() -> bytes:
    """Return a payload with an infinity in an array in its metadata."""
    record = record_of()
    add_evaluation(record)
    record.evaluations[0].metadata.fields["k"].list_value.values.add(number_value=float("inf"))
    return record.SerializeToString()


def timeless_record() -> bytes:
    """Return a payload whose evaluation has no time."""
    record = record_of()
    record.evaluations.add(feature_name="x")
    return record.SerializeToString()


def far_record(seconds: int) -> bytes:
    """Return a payload whose evaluation lies *seconds* from the epoch."""
    record = record_of()
    time = varint_timestamp(seconds)
    evaluation = b"\x0a\x01x\x22" + bytes([len(time)]) + time
    return b"\x0a" + bytes([len(evaluation)]) + evaluation + record.SerializeToString()


def long_record() -> bytes:
    """Return a payload of one evaluation more than an entry may hold."""
    record = record_of()
    add_evaluation(record)
    (one,) = record.evaluations
    serialised = one.SerializeToString()
    return (b"\x0a" + bytes([len(serialised)]) + serialised) * (MAX_EVALUATIONS + 1) + record_of().SerializeToString()


def envelopeless_record() -> bytes:
    """Return a payload without its envelope."""
    record = JournalRecord()
    add_evaluation(record)
    return record.SerializeToString()


@pytest.mark.parametrize("convert", [to_columns, to_columns_plainly])
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(MALFORMED, id="malformed"),
        pytest.param(nan_record(), id="nan"),
        pytest.param(nested_infinity_record(), id="nested infinity"),
        pytest.param(timeless_record(), id="no time"),
        pytest.param(far_record(2**62), id="time beyond what columns hold"),
        pytest.param(far_record(253_402_300_800), id="year 10000"),
        pytest.param(far_record(-62_135_596_801), id="year 0"),
        pytest.param(long_record(), id="more evaluations than positions"),
        pytest.param(envelopeless_record(), id="no envelope"),
        pytest.param(b"\x12\x01\xff" + record_of().SerializeToString(), id="not UTF-8"),
    ],
)
def test_what_cannot_be_rows_is_refused(convert: Any, payload: bytes) -> None:
    """A payload that cannot be told exactly in rows is refused by both ways, also among good ones."""
    with pytest.raises(ConversionError):
        convert([simple_entry(1), Entry(position=2, payload=payload), simple_entry(3)])
