"""Rows of the store as messages of the contract."""

from __future__ import annotations

import json
from typing import Any

import orjson
from google.protobuf import struct_pb2, timestamp_pb2

from flagledger.store.intake import UnknownFeature
from flagledger.store.questions import Exposure, FeatureTotals, Group, GroupValue, RecordedRow, SdkUse
from flagledger.v1 import query_service_pb2
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
        sample_rate=row.sample_rate,
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
        last_seen_time=timestamp(totals.last_evaluation_time),
        enabled_known_count=totals.enabled_known_count,
        multiple_value_identity_count=totals.multiple_value_identity_count,
        sdks=[sdk_use(use) for use in totals.sdks],
        identities_approximate=totals.identities_approximate,
        identities_lower_bound=totals.identities_lower_bound,
    )
    if totals.last_value is not None:
        fill_value(message.last_value, orjson.loads(totals.last_value))
    return message


def sdk_use(use: SdkUse) -> query_service_pb2.SdkUse:
    """Return *use* as it stands in an answer."""
    return query_service_pb2.SdkUse(
        sdk_name=use.sdk_name,
        sdk_version=use.sdk_version,
        evaluation_count=use.evaluation_count,
        last_time=timestamp(use.last_time),
    )


def count_group(name: str, group: Group, value: GroupValue) -> query_service_pb2.CountGroup:
    """Return that a series has *value* in common, *group* being called *name*."""
    message = query_service_pb2.CountGroup(name=name)
    match group.kind, value:
        case (("value" | "trait"), str()):
            fill_value(message.value, orjson.loads(value))
        case "origin", int():
            # Of one that a newer version wrote, the number.
            known = value in Origin.values()
            fill_value(message.value, Origin.Name(Origin.ValueType(value)) if known else str(value))
        case _:
            fill_value(message.value, value)
    return message


def exposure(row: Exposure) -> query_service_pb2.Exposure:
    """Return *row* as it stands in an answer."""
    message = query_service_pb2.Exposure(
        feature_name=row.feature_name,
        identity_identifier=row.identity_identifier,
        exposure_time=timestamp(row.exposure_time),
        arm=row.arm,
        variant=row.variant,
        multiple_arms=row.multiple_arms,
        evaluation_count=row.evaluation_count,
    )
    if row.value is not None:
        fill_value(message.value, orjson.loads(row.value))
    return message


def unknown_feature(row: UnknownFeature, likely_match: str | None) -> query_service_pb2.UnknownFeature:
    """Return *row* as it stands in an answer, *likely_match* being the feature that was meant."""
    return query_service_pb2.UnknownFeature(
        feature_name=row.feature_name,
        likely_match=likely_match or "",
        evaluation_count=row.evaluation_count,
        first_seen_time=timestamp(row.first_seen_time),
        last_seen_time=timestamp(row.last_seen_time),
        sdks=[sdk_use(use) for use in row.sdks],
    )


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
