"""What is asked: each question as the service gets it, as DuckDB alone does, and what both answers come to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import batches
import query_bare as bare
from flagledger.v1 import query_service_pb2 as contract
from google.protobuf import json_format, timestamp_pb2
from query_bare import Rows
from query_client import Client
from query_data import DAY, Data

FEATURE: Final = batches.FEATURES[7]
IDENTITY: Final = "user_4711"
PAGE: Final = 100

# What the questions are built to reach with a hundred million rows.
FIRST_VIEW_MS: Final = 300
ONE_FEATURE_MS: Final = 500
OVERHEAD_MS: Final = 20

_VIEW_PAGE: Final = 1_000
_VIEW_ROWS: Final = 25
_MINUTE: Final = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    What an answer comes to, so that two can be compared.

    Attributes:
        exact: What must be the same.
        identities: Distinct identities, by what they are of; they may be estimates.
        estimated: Whether they are.
    """

    exact: object
    identities: Mapping[object, int] = field(default_factory=dict)
    estimated: bool = False

    def agrees(self, other: Answer) -> bool:
        """Return whether the two are the same, as far as neither is estimated."""
        if self.estimated or other.estimated:
            return self.exact == other.exact
        return (self.exact, self.identities) == (other.exact, other.identities)

    def off(self, exact: Answer) -> float:
        """Return how far the estimates are off those that are *exact*: the largest share by which one is."""
        return max(
            (abs(self.identities.get(key, 0) - count) / count for key, count in exact.identities.items() if count),
            default=0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """
    Something that is asked over and over.

    Attributes:
        name: For people.
        ask: Asks the service.
        said: What its answer comes to.
        statements: What DuckDB is asked instead, with identities by those that a mask leaves; None where there is nothing to ask.
        found: What its rows come to.
        rows: How many evaluations are looked at, out of what the service said; decides how large a sample is.
        aim_ms: What the median is meant to be at most; None where nothing is said.
    """

    name: str
    ask: Callable[[Client], Any]
    said: Callable[[Any], Answer]
    statements: Callable[[int], tuple[str, ...]] | None = None
    found: Callable[[list[Rows]], Answer] = lambda _: Answer(exact=None)
    rows: Callable[[Answer], int] = lambda _: 0
    aim_ms: float | None = None


def questions(data: Data) -> list[Question]:
    """Return what is asked of *data*. Periods end with it: what arrives meanwhile makes no answer larger."""
    day, month = data.end - DAY, data.start
    return [
        _first_view(day, data.end),
        _feature_view(day, data.end),
        _features("ListFeatures, 24 h", day, data.end),
        _features("ListFeatures, 30 d", month, data.end),
        _counts("CountEvaluations, 30 d by day and value", (month, data.end), "value", "value"),
        _counts("CountEvaluations, 30 d by day", (month, data.end)),
        _counts(
            "CountEvaluations, 30 d by day and segment",
            (month, data.end),
            "segment",
            "unnest(list_distinct(segment_names))",
        ),
        _counts(
            "CountEvaluations, 30 d by day and trait", (month, data.end), "trait:plan", "(identity_traits -> '$.plan')"
        ),
        _evaluations("ListEvaluations, newest 100"),
        _evaluations("ListEvaluations, of a feature", bare.where(feature=FEATURE), feature_name=FEATURE),
        _evaluations("ListEvaluations, of an identity", bare.where(identity=IDENTITY), identity_identifier=IDENTITY),
        _evaluations(
            "ListEvaluations, by a trait",
            f"{bare.where()} AND (identity_traits -> '$.plan') = '\"pro\"'",
            trait_key="plan",
            trait_value="pro",
        ),
        _exposures(month, data.end),
        _unknown_features(month, data.end),
        _intake(day, data.end),
        Question(
            name="ListEnvironments",
            ask=lambda client: client.stub.ListEnvironments(contract.ListEnvironmentsRequest()),
            said=lambda answer: Answer(exact=[environment.name for environment in answer.environments]),
        ),
    ]


def _first_view(start: int, end: int) -> Question:
    """The page's two questions, one after the other: which environments there are, and the features of the first."""
    bounds = {"environment": batches.ENVIRONMENT, "start_time": time_text(start), "end_time": time_text(end)}

    def ask(client: Client) -> Any:
        client.get("environments")
        return client.get("features", **bounds, page_size=_VIEW_PAGE)

    def said(answer: Any) -> Answer:
        return _features_answer(json_format.ParseDict(answer, contract.ListFeaturesResponse()))

    return Question(
        name="dashboard, first view, 24 h",
        ask=ask,
        said=said,
        statements=lambda mask: bare.features(bare.where(start, end), mask),
        found=_features_found,
        rows=_all_rows,
        aim_ms=FIRST_VIEW_MS,
    )


def _feature_view(start: int, end: int) -> Question:
    """The page of one feature: five questions at once, after that for the environments."""
    bounds = {"environment": batches.ENVIRONMENT, "start_time": time_text(start), "end_time": time_text(end)}
    one = bounds | {"feature_name": FEATURE}
    asked: list[tuple[str, dict[str, object]]] = [
        ("features", {**bounds, "page_size": _VIEW_PAGE}),
        ("counts", {**one, "bucket": "hour"}),
        ("counts", {**one, "bucket": "hour", "group_by": "value", "series_limit": 7}),
        ("counts", {**one, "group_by": "segment", "series_limit": 20}),
        ("evaluations", {**one, "page_size": _VIEW_ROWS}),
    ]

    def ask(client: Client) -> Any:
        client.get("environments")
        return client.at_once(asked)[0]

    def statements(mask: int) -> tuple[str, ...]:
        condition = bare.where(start, end, feature=FEATURE)
        return (
            *bare.features(bare.where(start, end), mask),
            *bare.counts(condition, 0, bucket="hour"),
            *bare.counts(condition, 0, bucket="hour", key="value"),
            *bare.counts(condition, 0, bucket=None, key="unnest(list_distinct(segment_names))"),
            *bare.newest(condition, _VIEW_ROWS),
        )

    first = _first_view(start, end)
    return Question(
        name="dashboard, one feature, 24 h",
        ask=ask,
        said=first.said,
        statements=statements,
        found=_features_found,
        rows=_all_rows,
    )


def _features(name: str, start: int, end: int) -> Question:
    request = contract.ListFeaturesRequest(
        environment=batches.ENVIRONMENT, start_time=_time(start), end_time=_time(end)
    )
    return Question(
        name=name,
        ask=lambda client: client.stub.ListFeatures(request),
        said=_features_answer,
        statements=lambda mask: bare.features(bare.where(start, end), mask),
        found=_features_found,
        rows=_all_rows,
    )


def _features_answer(answer: contract.ListFeaturesResponse) -> Answer:
    evaluated = [each for each in answer.features if each.evaluation_count]
    identities: dict[object, int] = {}
    for each in evaluated:
        identities[each.feature_name, "all"] = each.identity_count
        identities[each.feature_name, "several"] = each.multiple_value_identity_count
    return Answer(
        exact={
            each.feature_name: (each.evaluation_count, each.enabled_count, each.enabled_known_count)
            for each in evaluated
        },
        identities=identities,
        estimated=any(each.identities_approximate for each in evaluated),
    )


def _features_found(found: list[Rows]) -> Answer:
    tallies: dict[str, list[int]] = {}
    for name, _, _, *row in found[0]:
        before = tallies.setdefault(name, [0, 0, 0])
        tallies[name] = [total + more for total, more in zip(before, row[:3], strict=True)]
    identities: dict[object, int] = {}
    for name, count, several in found[1]:
        identities |= {(name, "all"): count, (name, "several"): several}
    return Answer(exact={name: tuple(tally) for name, tally in tallies.items()}, identities=identities)


def _all_rows(answer: Answer) -> int:
    assert isinstance(answer.exact, dict)
    return sum(tally[0] for tally in answer.exact.values())


def _counts(name: str, period: tuple[int, int], group: str | None = None, key: str = "NULL") -> Question:
    start, end = period
    request = contract.CountEvaluationsRequest(
        environment=batches.ENVIRONMENT,
        feature_name=FEATURE,
        start_time=_time(start),
        end_time=_time(end),
        bucket="day",
        group_by=[] if group is None else [group],
    )
    # As the contract has them: values and traits are JSON, the names of segments are not.
    read: Callable[[Any], Any] = json.loads if group in ("value", "trait:plan") else lambda text: text

    def found(rows: list[Rows]) -> Answer:
        return Answer(
            exact={(read(text), bucket): tuple(tally) for text, bucket, *tally, _ in rows[0]},
            identities={(read(text), bucket): identities for text, bucket, *_, identities in rows[0]},
        )

    return Question(
        name=name,
        ask=lambda client: client.stub.CountEvaluations(request),
        said=_counts_answer,
        statements=lambda mask: bare.counts(bare.where(start, end, feature=FEATURE), mask, bucket="day", key=key),
        found=found,
        rows=lambda answer: _all_rows(answer) // 2,
        aim_ms=ONE_FEATURE_MS,
    )


def _counts_answer(answer: contract.CountEvaluationsResponse) -> Answer:
    told: dict[object, Any] = {}
    for series in answer.series:
        key = json_format.MessageToDict(series.groups[0].value) if series.groups else None
        told[key, None] = series
        told |= {(key, point.start_time.ToMicroseconds()): point for point in series.points if point.evaluation_count}
    return Answer(
        exact={
            key: (each.evaluation_count, each.enabled_count, each.enabled_known_count) for key, each in told.items()
        },
        identities={key: each.identity_count for key, each in told.items()},
        estimated=answer.identities_approximate,
    )


def _evaluations(name: str, condition: str | None = None, **filters: Any) -> Question:
    request = contract.ListEvaluationsRequest(environment=batches.ENVIRONMENT, page_size=PAGE, **filters)
    return Question(
        name=name,
        ask=lambda client: client.stub.ListEvaluations(request),
        said=lambda answer: Answer(exact=[each.position for each in answer.evaluations]),
        statements=lambda _: bare.newest(condition or bare.where(), PAGE),
        found=lambda found: Answer(exact=[row[0] for row in found[0]]),
    )


def _exposures(start: int, end: int) -> Question:
    request = contract.ListExposuresRequest(
        environment=batches.ENVIRONMENT,
        feature_name=FEATURE,
        start_time=_time(start),
        end_time=_time(end),
        page_size=PAGE,
    )

    def said(answer: contract.ListExposuresResponse) -> Answer:
        (check,) = answer.checks
        arms = {arm.arm: arm.identity_count for arm in check.arms} | {None: check.multiple_arm_identity_count}
        # Which identities come first is the server's own choice.
        return Answer(exact=(len(answer.exposures), arms))

    return Question(
        name="ListExposures, 30 d of a feature",
        ask=lambda client: client.stub.ListExposures(request),
        said=said,
        statements=lambda _: bare.exposures(bare.where(start, end, feature=FEATURE), PAGE),
        found=lambda found: Answer(exact=(len(found[0]), {None: 0} | dict(found[1]))),
    )


def _unknown_features(start: int, end: int) -> Question:
    request = contract.ListUnknownFeaturesRequest(
        environment=batches.ENVIRONMENT, start_time=_time(start), end_time=_time(end)
    )

    def found(rows: list[Rows]) -> Answer:
        names: Counter[str] = Counter()
        for name, entries, *_ in rows[0]:
            names[name] += entries
        return Answer(exact=dict(names))

    return Question(
        name="ListUnknownFeatures, 30 d",
        ask=lambda client: client.stub.ListUnknownFeatures(request),
        said=lambda answer: Answer(
            exact={each.feature_name: each.evaluation_count for each in answer.unknown_features}
        ),
        statements=lambda _: bare.unknown_features(bare.where(start, end, column="receive_time")),
        found=found,
    )


def _intake(start: int, end: int) -> Question:
    request = contract.GetIntakeRequest(
        environment=batches.ENVIRONMENT, start_time=_time(start), end_time=_time(end), bucket="hour"
    )

    def said(answer: contract.GetIntakeResponse) -> Answer:
        points = {
            point.start_time.ToMicroseconds(): (point.recorded_count, point.filtered_count, point.rejected_count)
            for point in answer.points
        }
        return Answer(exact={hour: counts for hour, counts in points.items() if any(counts)})

    def found(rows: list[Rows]) -> Answer:
        points: dict[int, Counter[str]] = {}
        for hour, entries in rows[0]:
            points.setdefault(hour, Counter())["recorded"] += entries
        for hour, reason, _, entries in rows[1]:
            points.setdefault(hour, Counter())[reason] += entries
        return Answer(
            exact={hour: (of["recorded"], of["unknown_feature"], of["invalid"]) for hour, of in points.items()}
        )

    return Question(
        name="GetIntake, 24 h by hour",
        ask=lambda client: client.stub.GetIntake(request),
        said=said,
        statements=lambda _: bare.intake(
            bare.where(start, end, column="receive_time"), bare.where(end - _MINUTE, end, column="receive_time")
        ),
        found=found,
    )


def _time(moment: int) -> timestamp_pb2.Timestamp:
    time = timestamp_pb2.Timestamp()
    time.FromMicroseconds(moment)
    return time


def time_text(moment: int) -> str:
    """Return *moment*, in microseconds since the epoch, as JSON and addresses have it."""
    return str(_time(moment).ToJsonString())
