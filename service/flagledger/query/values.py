"""Rows of the store as messages of the contract."""

from __future__ import annotations

import json
from typing import Any

import orjson
from google.protobuf import struct_pb2, timestamp_pb2

from flagledger.store.base import FeatureTotals, RecordedRow
from flagledger.v1.query_service_pb2 import FeatureSummary, Origin, RecordedEvaluation

_MICROSECONDS = 1_000_000


def recorded_evaluation(row: RecordedRow) -> RecordedEvaluation:
    """Return *row* as it was recorded."""
    message = RecordedEvaluation(
        feature_name=row.feature_name,
        enabled=row.enabled,
        evaluation_timestamp=timestamp(row.evaluation_time),
        identity_identifier=row.identity_identifier,
        segment_names=row.segment_names,
        variant=row.variant,
        reason=row.reason,
        count=row.count,
        environment=row.environment,
        batch_id=row.batch_id,
        receive_time=timestamp(row.receive_time),
        position=row.position,
        origin=Origin.ValueType(row.origin),
        sdk_name=row.sdk_name,
        sdk_version=row.sdk_version,
    )
    if row.value is not None:
        fill_value(message.value, orjson.loads(row.value))
    if row.traits is not None:
        # A key may stand twice, which only pairs keep.
        for key, trait in json.loads(row.traits, object_pairs_hook=_Pairs):
            fill_value(message.identity_traits.add(trait_key=key).trait_value, trait)
    if row.metadata is not None:
        fill_struct(message.metadata, orjson.loads(row.metadata))
    return message


def feature_summary(totals: FeatureTotals, *, in_catalog: bool) -> FeatureSummary:
    """Return *totals* as they stand in an answer."""
    message = FeatureSummary(
        feature_name=totals.feature_name,
        in_catalog=in_catalog,
        evaluation_count=totals.evaluation_count,
        enabled_count=totals.enabled_count,
        identity_count=totals.identity_count,
        first_evaluation_time=timestamp(totals.first_evaluation_time),
        last_evaluation_time=timestamp(totals.last_evaluation_time),
    )
    if totals.last_value is not None:
        fill_value(message.last_value, orjson.loads(totals.last_value))
    return message


def timestamp(microseconds: int) -> timestamp_pb2.Timestamp:
    """Return *microseconds* since the epoch as a Timestamp."""
    seconds, rest = divmod(microseconds, _MICROSECONDS)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1000)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its members in order."""


def fill_value(value: struct_pb2.Value, plain: Any) -> None:
    """Set *value* to the plain Python value that a JSON parser made."""
    match plain:
        case str():
            value.string_value = plain
        case bool():
            value.bool_value = plain
        case int() | float():
            value.number_value = plain
        case None:
            value.null_value = struct_pb2.NULL_VALUE
        case dict() | _Pairs():
            fill_struct(value.struct_value, plain)
        case _:
            value.list_value.SetInParent()
            for item in plain:
                fill_value(value.list_value.values.add(), item)


def fill_struct(struct: struct_pb2.Struct, plain: dict[str, Any] | _Pairs) -> None:
    """Set *struct* to the members of *plain*."""
    struct.SetInParent()
    for key, item in plain.items() if isinstance(plain, dict) else plain:
        fill_value(struct.fields[key], item)
