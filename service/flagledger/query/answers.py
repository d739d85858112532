"""
What the store answered, as the answer of an rpc.

The store measures its pages as texts; as messages they may be longer, so that each page is measured again here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from flagledger.query import page_token
from flagledger.query.experiment import sample_ratio_check
from flagledger.query.journal_state import JournalState
from flagledger.query.likely import LikelyMatches
from flagledger.query.values import (
    count_group,
    exposure,
    feature_summary,
    recorded_evaluation,
    timestamp,
    unknown_feature,
)
from flagledger.store.errors import TooManyBucketsError
from flagledger.store.intake import Intake, UnknownFeatures
from flagledger.store.questions import (
    LAST_VALUES_BYTES,
    PAGE_BYTES,
    ArmTotals,
    CountQuestion,
    Counts,
    Cursor,
    ExposureCursor,
    ExposurePage,
    Features,
    Page,
    Series,
)
from flagledger.v1 import query_service_pb2
from flagledger.v1.query_service_pb2 import (
    CountEvaluationsResponse,
    CountPoint,
    CountSeries,
    FeatureSummary,
    GetIntakeResponse,
    IntakePoint,
    ListEvaluationsResponse,
    ListExposuresResponse,
    ListFeaturesResponse,
    ListUnknownFeaturesResponse,
    RejectionCount,
    SampleRatioCheck,
)

CHECKS_BYTES: Final = 1 << 20
"""Sample-ratio checks of one answer; it may hold less exposures for them."""

_Row = TypeVar("_Row")

# Evaluations of the last minute, for each second of it.
_RECENT_SECONDS: Final = 60


def features_response(
    features: Features,
    listed: frozenset[str] | None,
    seen: Mapping[str, int],
    *,
    question: object,
    size: int,
    after: str | None,
) -> ListFeaturesResponse:
    """
    Return one page of the features that were evaluated and those of the catalog, by name.

    Args:
        features: What was evaluated.
        listed: Names of the catalog; None where it takes any.
        seen: When those were last evaluated that were not in the period, in microseconds since the epoch.
        question: What a token of the next page goes with.
        size: Features wanted at most.
        after: Name behind which the page begins; None for the first page.
    """
    totals = {each.feature_name: each for each in features.totals}
    names = sorted(name for name in totals.keys() | (listed or frozenset()) if after is None or name > after)
    response = ListFeaturesResponse(data_since=None if features.data_since is None else timestamp(features.data_since))
    used = used_by_values = 0
    for index, name in enumerate(names):
        if name in totals:
            summary = feature_summary(totals[name], in_catalog=listed is None or name in listed)
        else:
            last_seen = timestamp(seen[name]) if name in seen else None
            summary = FeatureSummary(feature_name=name, in_catalog=True, last_seen_time=last_seen)
        used_by_values += summary.last_value.ByteSize()
        if used_by_values > LAST_VALUES_BYTES:
            summary.ClearField("last_value")
        used += summary.ByteSize()
        if index == size or (index and used > PAGE_BYTES):
            response.next_page_token = page_token.encode(question, names[index - 1])
            break
        response.features.append(summary)
    return response


def evaluations_response(page: Page, question: object) -> ListEvaluationsResponse:
    """Return *page*; a token of the next one goes with *question*."""
    response, following = ListEvaluationsResponse(), page.next
    last = _fill(response.evaluations, page.rows, recorded_evaluation, PAGE_BYTES)
    if last is not None:
        following = Cursor(evaluation_time=last.evaluation_time, position=last.position)
    if following is not None:
        response.next_page_token = page_token.encode(question, following)
    return response


def counts_response(counts: Counts, question: CountQuestion, names: Sequence[str]) -> CountEvaluationsResponse:
    """
    Return *counts*; the groups of *question* are called *names*.

    Raises:
        TooManyBucketsError: The answer is larger than `PAGE_BYTES`, more than a usual gRPC client takes.
    """
    starts = [timestamp(start) for start in counts.bucket_starts]

    def series(each: Series) -> CountSeries:
        return CountSeries(
            # The rest has no groups.
            groups=[
                count_group(name, group, value)
                for name, group, value in zip(names, question.group_by, each.groups, strict=False)
            ],
            is_rest=each.is_rest,
            evaluation_count=each.total.evaluation_count,
            enabled_count=each.total.enabled_count,
            enabled_known_count=each.total.enabled_known_count,
            identity_count=each.total.identity_count,
            points=[
                CountPoint(
                    start_time=start,
                    evaluation_count=point.evaluation_count,
                    enabled_count=point.enabled_count,
                    enabled_known_count=point.enabled_known_count,
                    identity_count=point.identity_count,
                )
                for start, point in zip(starts, each.points, strict=True)
            ],
        )

    response = CountEvaluationsResponse(
        series=[series(each) for each in counts.series],
        identities_approximate=counts.identities_approximate,
        identities_lower_bound=counts.identities_lower_bound,
    )
    if response.ByteSize() > PAGE_BYTES and starts:
        raise TooManyBucketsError(
            f"{len(counts.bucket_starts):,} buckets of {len(counts.series)} series are more than fit into an answer: "
            "ask for wider buckets, a shorter period, or fewer series."
        )
    return response


def exposures_response(
    page: ExposurePage, arms: Iterable[ArmTotals], weights: Mapping[str, float], question: object
) -> ListExposuresResponse:
    """Return *page* with the checks of *arms*; a token of the next one goes with *question*."""
    response, following = ListExposuresResponse(checks=_checks(arms, weights)), page.next
    response.identities_lower_bound = page.identities_lower_bound
    last = _fill(response.exposures, page.rows, exposure, PAGE_BYTES - response.ByteSize())
    if last is not None:
        following = ExposureCursor(feature_name=last.feature_name, identity_identifier=last.identity_identifier)
    if following is not None:
        response.next_page_token = page_token.encode(question, following)
    return response


def unknown_features_response(unknown: UnknownFeatures, listed: frozenset[str]) -> ListUnknownFeaturesResponse:
    """Return *unknown*, each with the feature of *listed* that was likely meant."""
    likely = LikelyMatches(listed)
    response = ListUnknownFeaturesResponse(other_evaluation_count=unknown.other_evaluation_count)
    used = 0
    for row in unknown.names:
        found = unknown_feature(row, likely.match(row.feature_name))
        used += found.ByteSize()
        # Names are as long as senders made them.
        if used > PAGE_BYTES:
            response.other_evaluation_count += row.evaluation_count
        else:
            response.unknown_features.append(found)
    return response


def intake_response(intake: Intake, journal: JournalState | None, retention_days: int) -> GetIntakeResponse:
    """Return *intake*, how *journal* is where that is known, and for how long evaluations are kept."""
    response = GetIntakeResponse(
        recorded_count=intake.total.recorded_count,
        filtered_count=intake.total.filtered_count,
        rejected_count=intake.total.rejected_count,
        sampled_out_count=intake.sampled_out_count,
        foreign_event_count=intake.foreign_event_count,
        rejections=[RejectionCount(field=field, evaluation_count=count) for field, count in intake.rejections],
        evaluations_per_second=intake.recent_count / _RECENT_SECONDS,
        retention_days=retention_days,
        points=[
            IntakePoint(
                start_time=timestamp(start),
                recorded_count=point.recorded_count,
                filtered_count=point.filtered_count,
                rejected_count=point.rejected_count,
            )
            for start, point in zip(intake.bucket_starts, intake.points, strict=True)
        ],
    )
    if journal is not None:
        response.journal.CopyFrom(
            query_service_pb2.JournalState(
                bytes=journal.bytes, max_bytes=journal.max_bytes, waiting_batch_count=journal.waiting_batches
            )
        )
        response.journal.lag.FromMicroseconds(round(journal.lag_seconds * 1_000_000))
    return response


def _fill(field: Any, rows: Sequence[_Row], message_of: Callable[[_Row], Any], room: int) -> _Row | None:
    """Append what *rows* become to *field*, one at least, as many as *room* bytes take; return the last where some are left."""
    for index, row in enumerate(rows):
        message = message_of(row)
        room -= message.ByteSize()
        if index and room < 0:
            return rows[index - 1]
        field.append(message)
    return None


def _checks(arms: Iterable[ArmTotals], weights: Mapping[str, float]) -> list[SampleRatioCheck]:
    checks, used = [], 0
    for totals in arms:
        check = sample_ratio_check(totals, weights)
        used += check.ByteSize()
        if used > CHECKS_BYTES:
            break
        checks.append(check)
    return checks
