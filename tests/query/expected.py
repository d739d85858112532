"""What the rpcs are to answer: messages out of what a naive computation found, and out of the messages that were recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flagledger.store.intake import Intake, UnknownFeatures
from flagledger.store.questions import (
    ArmTotals,
    CountQuestion,
    Counts,
    Exposure,
    Features,
    FeatureTotals,
    Group,
    GroupValue,
    SdkUse,
    Series,
    Tally,
)
from flagledger.v1 import query_service_pb2
from flagledger.v1.query_service_pb2 import (
    CountEvaluationsResponse,
    CountGroup,
    CountPoint,
    CountSeries,
    ExperimentArm,
    FeatureSummary,
    GetIntakeResponse,
    IntakePoint,
    ListUnknownFeaturesResponse,
    Origin,
    RecordedEvaluation,
    RejectionCount,
    SampleRatioCheck,
)
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from store.naive_rows import Row
from support.querying import time_of
from support.records import value_of


def json_value(text: str) -> Value:
    """Return the JSON *text* as a message."""
    return json_format.Parse(text, Value())


def recorded_evaluation(row: Row) -> RecordedEvaluation:
    """Return the answer about *row*: mostly what was sent."""
    sent = row.evaluation
    optional = {
        name: getattr(sent, name)
        for name in ("enabled", "value", "identity_identifier", "metadata")
        if sent.HasField(name)
    }
    return RecordedEvaluation(
        feature_name=sent.feature_name,
        evaluation_timestamp=time_of(row.evaluation_time),
        identity_traits=sent.identity_traits,
        segment_names=sent.segment_names,
        variant=sent.variant,
        reason=sent.reason,
        count=sent.count or 1,
        environment=row.environment,
        batch_id=row.batch_id,
        receive_time=time_of(row.receive_time),
        position=row.position,
        origin=Origin.ValueType(row.origin),
        sdk_name=row.sdk_name,
        sdk_version=row.sdk_version,
        sample_rate=row.sample_rate,
        **optional,
    )


def feature_summaries(
    features: Features, listed: frozenset[str] | None, asked: str | None, before: Features
) -> list[FeatureSummary]:
    """
    Return the features that were evaluated, and those *listed* that were not, as far as they are *asked* for.

    *before* is of the same period without a beginning.
    """
    seen = {totals.feature_name: time_of(totals.last_evaluation_time) for totals in before.totals}
    summaries = [
        feature_summary(totals, in_catalog=listed is None or totals.feature_name in listed)
        for totals in features.totals
    ]
    evaluated = {totals.feature_name for totals in features.totals}
    summaries += [
        FeatureSummary(feature_name=name, in_catalog=True, last_seen_time=seen.get(name))
        for name in (listed or frozenset()) - evaluated
        if asked in (None, name)
    ]
    return sorted(summaries, key=lambda summary: summary.feature_name)


def feature_summary(totals: FeatureTotals, *, in_catalog: bool) -> FeatureSummary:
    """Return *totals* as a message."""
    return FeatureSummary(
        feature_name=totals.feature_name,
        in_catalog=in_catalog,
        evaluation_count=totals.evaluation_count,
        enabled_count=totals.enabled_count,
        enabled_known_count=totals.enabled_known_count,
        identity_count=totals.identity_count,
        multiple_value_identity_count=totals.multiple_value_identity_count,
        identities_lower_bound=totals.identities_lower_bound,
        first_evaluation_time=time_of(totals.first_evaluation_time),
        last_evaluation_time=time_of(totals.last_evaluation_time),
        last_seen_time=time_of(totals.last_evaluation_time),
        last_value=None if totals.last_value is None else json_value(totals.last_value),
        sdks=sdk_uses(totals.sdks),
    )


def sdk_uses(uses: Sequence[SdkUse]) -> list[query_service_pb2.SdkUse]:
    """Return *uses* as messages."""
    return [
        query_service_pb2.SdkUse(
            sdk_name=use.sdk_name,
            sdk_version=use.sdk_version,
            evaluation_count=use.evaluation_count,
            last_time=time_of(use.last_time),
        )
        for use in uses
    ]


def counts_response(counts: Counts, question: CountQuestion) -> CountEvaluationsResponse:
    """Return *counts* as a message."""
    return CountEvaluationsResponse(
        series=[count_series(series, question.group_by, counts.bucket_starts) for series in counts.series],
        identities_lower_bound=counts.identities_lower_bound,
    )


def count_series(series: Series, groups: Sequence[Group], starts: Sequence[int]) -> CountSeries:
    """Return *series* as a message."""
    return CountSeries(
        groups=[
            CountGroup(name=group_name(group), value=group_value(group, value))
            for group, value in zip(groups, series.groups, strict=not series.is_rest)
        ],
        is_rest=series.is_rest,
        points=[
            CountPoint(start_time=time_of(start), **tally(point))
            for start, point in zip(starts, series.points, strict=True)
        ],
        **tally(series.total),
    )


def tally(counted: Tally) -> dict[str, int]:
    """Return the fields of a message that *counted* stands in."""
    return {
        "evaluation_count": counted.evaluation_count,
        "enabled_count": counted.enabled_count,
        "enabled_known_count": counted.enabled_known_count,
        "identity_count": counted.identity_count,
    }


def group_name(group: Group) -> str:
    """Return what a request calls *group*."""
    return f"trait:{group.trait_key}" if group.kind == "trait" else group.kind


def group_value(group: Group, value: GroupValue) -> Value:
    """Return *value* of a *group* as JSON."""
    if isinstance(value, str) and group.kind in ("value", "trait"):
        return json_value(value)
    plain: Any = Origin.Name(Origin.ValueType(int(value))) if group.kind == "origin" and value is not None else value
    return value_of(plain)


def exposure(row: Exposure) -> query_service_pb2.Exposure:
    """Return *row* as a message."""
    return query_service_pb2.Exposure(
        feature_name=row.feature_name,
        identity_identifier=row.identity_identifier,
        exposure_time=time_of(row.exposure_time),
        arm=row.arm,
        variant=row.variant,
        value=None if row.value is None else json_value(row.value),
        multiple_arms=row.multiple_arms,
        evaluation_count=row.evaluation_count,
    )


def sample_ratio_check(totals: ArmTotals, weights: Mapping[str, float]) -> SampleRatioCheck:
    """Return the check of *totals*, but for its probability."""
    seen = dict(totals.arms)
    names = [*weights, *sorted(seen.keys() - weights.keys())]
    shares = [weights.get(name, 0) / sum(weights.values()) if weights else 1 / len(names) for name in names]
    expected = [share * sum(seen.values()) for share in shares]
    observed = [seen.get(name, 0) for name in names]
    check = SampleRatioCheck(
        feature_name=totals.feature_name,
        multiple_arm_identity_count=totals.multiple_arm_identity_count,
        arms=[
            ExperimentArm(arm=name, weight=weights.get(name, 0), identity_count=count, expected_count=expectation)
            for name, count, expectation in zip(names, observed, expected, strict=True)
        ],
    )
    if len(names) > 1 and sum(observed):
        check.degrees_of_freedom = len(names) - 1
        if all(expected):
            check.chi_squared = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    return check


def unknown_features(unknown: UnknownFeatures, likely: Mapping[str, str]) -> ListUnknownFeaturesResponse:
    """Return *unknown* as a message; *likely* says which feature was meant by a name."""
    return ListUnknownFeaturesResponse(
        unknown_features=[
            query_service_pb2.UnknownFeature(
                feature_name=row.feature_name,
                likely_match=likely.get(row.feature_name, ""),
                evaluation_count=row.evaluation_count,
                first_seen_time=time_of(row.first_seen_time),
                last_seen_time=time_of(row.last_seen_time),
                sdks=sdk_uses(row.sdks),
            )
            for row in unknown.names
        ],
        other_evaluation_count=unknown.other_evaluation_count,
    )


def intake_response(intake: Intake) -> GetIntakeResponse:
    """Return *intake* as a message, where nothing is known of a journal."""
    return GetIntakeResponse(
        recorded_count=intake.total.recorded_count,
        filtered_count=intake.total.filtered_count,
        rejected_count=intake.total.rejected_count,
        sampled_out_count=intake.sampled_out_count,
        foreign_event_count=intake.foreign_event_count,
        rejections=[RejectionCount(field=field, evaluation_count=count) for field, count in intake.rejections],
        evaluations_per_second=intake.recent_count / 60,
        points=[
            IntakePoint(
                start_time=time_of(start),
                recorded_count=point.recorded_count,
                filtered_count=point.filtered_count,
                rejected_count=point.rejected_count,
            )
            for start, point in zip(intake.bucket_starts, intake.points, strict=True)
        ],
    )
