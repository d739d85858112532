"""Journal entries for tests: made by hand, or drawn by hypothesis."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.journal.base import Entry
from google.protobuf import json_format, struct_pb2
from hypothesis import strategies as st

START = 1_790_000_000_000_000
"""A moment in September 2026, in microseconds."""

# Anything that UTF-8 holds, with what JSON escapes made likely.
texts = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from('"\\\n\t\x00\x1f\x7f\u2028é😀')), max_size=12)
names = st.sampled_from(["", "checkout", "new_dashboard", 'a"b', "é"])
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**54), 2**54).map(float),
    st.sampled_from([0.0, -0.0, 1.0, 2.0**53, -(2.0**53), 2.0**53 + 2, 1e16, 1e300, 5e-324, 0.1]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


def value_of(plain: Any) -> struct_pb2.Value:
    """Return *plain* as a Value, made by the reference implementation."""
    if isinstance(plain, float):
        return struct_pb2.Value(number_value=plain)
    return json_format.ParseDict(plain, struct_pb2.Value()) if plain is not None else struct_pb2.Value(null_value=0)


@st.composite
def values(draw: st.DrawFn) -> struct_pb2.Value:
    """Draw a Value, now and then of no kind."""
    return draw(st.one_of(json_values.map(value_of), st.just(struct_pb2.Value())))


@st.composite
def records(draw: st.DrawFn, max_evaluations: int = 4) -> JournalRecord:
    """Draw a JournalRecord as the server may write it, and a little beyond."""
    record = JournalRecord(batch_id=draw(texts))
    envelope = record.envelope
    envelope.environment = draw(names)
    envelope.receive_time.FromMicroseconds(START + draw(st.integers(0, 10**9)))
    envelope.origin = draw(st.sampled_from([0, 1, 2]))
    envelope.sdk_name = draw(names)
    envelope.sdk_version = draw(names)
    envelope.sample_rate = draw(st.sampled_from([0.0, 1.0, 0.5, 0.1]))
    for _ in range(draw(st.integers(0, 2))):
        envelope.discards.add(reason=draw(names), name=draw(texts), entry_count=draw(st.integers(0, 2**32 - 1)))
    for _ in range(draw(st.integers(0, max_evaluations))):
        _draw_evaluation(draw, record)
    return record


def _draw_evaluation(draw: st.DrawFn, record: JournalRecord) -> None:
    evaluation = record.evaluations.add(feature_name=draw(names), count=draw(st.sampled_from([0, 1, 7, 2**32 - 1])))
    evaluation.evaluation_timestamp.seconds = draw(st.one_of(st.integers(-10, 10), st.just(START // 10**6)))
    evaluation.evaluation_timestamp.nanos = draw(st.integers(0, 999_999_999))
    if draw(st.booleans()):
        evaluation.enabled = draw(st.booleans())
    if draw(st.booleans()):
        evaluation.value.CopyFrom(draw(values()))
    if draw(st.booleans()):
        evaluation.identity_identifier = draw(texts)
    for _ in range(draw(st.integers(0, 3))):
        trait = evaluation.identity_traits.add(trait_key=draw(texts))
        if draw(st.booleans()):
            trait.trait_value.CopyFrom(draw(values()))
    evaluation.segment_names.extend(draw(st.lists(texts, max_size=3)))
    evaluation.variant = draw(texts)
    evaluation.reason = draw(texts)
    if draw(st.booleans()):
        evaluation.metadata.SetInParent()
        for key, value in draw(st.dictionaries(texts, values(), max_size=2)).items():
            evaluation.metadata.fields[key].CopyFrom(value)


def record_of(*, environment: str = "production", receive_time: int = START, batch_id: str = "") -> JournalRecord:
    """Return a record without evaluations."""
    record = JournalRecord(batch_id=batch_id)
    record.envelope.environment = environment
    record.envelope.receive_time.FromMicroseconds(receive_time)
    record.envelope.origin = 1
    return record


def add_evaluation(record: JournalRecord, *, feature_name: str = "checkout", time: int = START, **fields: Any) -> None:
    """Add an evaluation of *feature_name* at *time* in microseconds, with *fields* of the message."""
    record.evaluations.add(feature_name=feature_name, **fields).evaluation_timestamp.FromMicroseconds(time)


def simple_entry(position: int, evaluations: int = 3) -> Entry:
    """Return an entry of so many evaluations that can be told apart from those of every other position."""
    record = record_of(batch_id=f"batch-{position}", receive_time=START + position)
    for i in range(evaluations):
        add_evaluation(record, time=START + position * 100 + i, identity_identifier=f"{position}/{i}", enabled=True)
    return Entry(position=position, payload=record.SerializeToString())


def entries_of(records_: Sequence[JournalRecord], first: int = 1) -> list[Entry]:
    """Return *records_* as entries from position *first* on."""
    return [Entry(position=first + i, payload=record.SerializeToString()) for i, record in enumerate(records_)]


MALFORMED = b"\x0a\xff"
"""A payload that is no protobuf message: a length without its bytes."""


def varint_timestamp(seconds: int) -> bytes:
    """Return a serialised Timestamp of any *seconds*, within range or not."""
    encoded, rest = bytearray(b"\x08"), seconds & 0xFFFFFFFFFFFFFFFF
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def bits(number: float) -> bytes:
    """Return the bits of *number*, by which -0.0 differs from 0.0."""
    return struct.pack(">d", number)
