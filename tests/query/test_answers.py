from __future__ import annotations

from typing import Any

import pytest
from flagledger.query import answers, page_token
from flagledger.query.journal_state import JournalState
from flagledger.store.errors import TooManyBucketsError
from flagledger.store.intake import Intake, IntakeTally, UnknownFeature, UnknownFeatures
from flagledger.store.questions import (
    LAST_VALUES_BYTES,
    PAGE_BYTES,
    ArmTotals,
    CountQuestion,
    Exposure,
    ExposureCursor,
    Features,
    FeatureTotals,
    Filter,
    Group,
    GroupValue,
    SdkUse,
    Series,
    Tally,
)
from flagledger.v1 import query_service_pb2 as contract
from google.protobuf import json_format
from support.querying import counts_of, exposures_of, time_of
from support.records import value_of

SEEN = {"unseen": 7}
"""When features were evaluated that were not in the period."""


def totals(name: str, **fields: Any) -> FeatureTotals:
    """Return totals of a feature, one evaluation without anything unless *fields* say otherwise."""
    bare: dict[str, Any] = {
        "evaluation_count": 1,
        "enabled_count": 0,
        "enabled_known_count": 0,
        "identity_count": 0,
        "multiple_value_identity_count": 0,
        "identities_approximate": False,
        "identities_lower_bound": False,
        "first_evaluation_time": 0,
        "last_evaluation_time": 0,
        "last_value": None,
        "sdks": (),
    }
    return FeatureTotals(feature_name=name, **bare | fields)


def features(
    *found: FeatureTotals, listed: frozenset[str] | None = None, size: int = 1000, after: str | None = None
) -> contract.ListFeaturesResponse:
    """Return a page of features."""
    return answers.features_response(
        Features(totals=found, data_since=None), listed, SEEN, question="question", size=size, after=after
    )


def test_everything_known_of_a_feature_is_told() -> None:
    """Totals stand in the answer field by field."""
    found = totals(
        "a",
        evaluation_count=9,
        enabled_count=4,
        enabled_known_count=6,
        identity_count=3,
        multiple_value_identity_count=2,
        identities_approximate=True,
        identities_lower_bound=True,
        first_evaluation_time=5,
        last_evaluation_time=8,
        last_value="[1]",
        sdks=(SdkUse(sdk_name="sdk", sdk_version="1", evaluation_count=9, last_time=8),),
    )

    assert contract.ListFeaturesResponse(
        features=[
            contract.FeatureSummary(
                feature_name="a",
                in_catalog=True,
                evaluation_count=9,
                enabled_count=4,
                enabled_known_count=6,
                identity_count=3,
                multiple_value_identity_count=2,
                identities_approximate=True,
                identities_lower_bound=True,
                first_evaluation_time=time_of(5),
                last_evaluation_time=time_of(8),
                last_seen_time=time_of(8),
                last_value=value_of([1.0]),
                sdks=[contract.SdkUse(sdk_name="sdk", sdk_version="1", evaluation_count=9, last_time=time_of(8))],
            )
        ],
        data_since=time_of(3),
    ) == answers.features_response(
        Features(totals=(found,), data_since=3), None, {}, question="question", size=1, after=None
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 100])
def test_pages_of_features_follow_each_other(size: int) -> None:
    """Pages hold the features of catalog and store together, each once and by name, and the last one has no token."""
    found, names, after, pages = [totals(name) for name in "bdf"], [], None, 0
    while pages < 10:
        answer = features(*found, listed=frozenset("abce"), size=size, after=after)
        names += [(each.feature_name, each.in_catalog, each.evaluation_count) for each in answer.features]
        pages += 1
        if not answer.next_page_token:
            break
        after = page_token.decode(answer.next_page_token, "question", str)

    assert [("a", True, 0), ("b", True, 1), ("c", True, 0), ("d", False, 1), ("e", True, 0), ("f", False, 1)] == names
    assert -(-6 // size) == pages


def test_a_page_of_features_has_a_limit_in_bytes() -> None:
    """Names and SDKs that are long end a page, so that any client can receive it, and none is lost there."""
    sdks = tuple(SdkUse(sdk_name="n" * 2000, sdk_version=str(i), evaluation_count=1, last_time=0) for i in range(20))
    found, after, names = [totals(f"f{i:03}", sdks=sdks) for i in range(200)], None, []
    while after is None or after < "f199":
        answer = features(*found, size=10_000, after=after)
        assert answer.ByteSize() < PAGE_BYTES + (1 << 19)
        names += [each.feature_name for each in answer.features]
        after = names[-1]

    assert [each.feature_name for each in found] == names


def test_last_values_have_a_limit() -> None:
    """Values that are short as texts and long as messages are kept as far as they fit."""
    long = f"[{','.join(['1'] * 60_000)}]"
    answer = features(*(totals(f"f{i}", last_value=long) for i in range(9)))
    kept = [each.HasField("last_value") for each in answer.features]

    size = answer.features[0].last_value.ByteSize()
    assert [True] * (LAST_VALUES_BYTES // size) + [False] * (9 - LAST_VALUES_BYTES // size) == kept


def tally(evaluations: int) -> Tally:
    """Return a tally that can be told from others."""
    return Tally(
        evaluation_count=evaluations,
        enabled_count=evaluations + 1,
        enabled_known_count=evaluations + 2,
        identity_count=evaluations + 3,
    )


def series(*groups: GroupValue, is_rest: bool = False, points: int = 0) -> Series:
    """Return a series."""
    return Series(groups=groups, is_rest=is_rest, total=tally(10), points=tuple(tally(i) for i in range(points)))


def test_counts_stand_in_the_answer() -> None:
    """Series have their groups, totals and points; the rest has no groups."""
    question = CountQuestion(filter=Filter(environment="production"), group_by=(Group(kind="feature"),), bucket="day")
    counts = counts_of(series("checkout", points=2), series(is_rest=True, points=2), starts=(5, 7), doubtful=True)
    figures = {"evaluation_count": 10, "enabled_count": 11, "enabled_known_count": 12, "identity_count": 13}
    points = [
        contract.CountPoint(
            start_time=time_of(start),
            evaluation_count=i,
            enabled_count=i + 1,
            enabled_known_count=i + 2,
            identity_count=i + 3,
        )
        for i, start in enumerate((5, 7))
    ]

    assert contract.CountEvaluationsResponse(
        series=[
            contract.CountSeries(
                groups=[contract.CountGroup(name="feature", value=value_of("checkout"))], points=points, **figures
            ),
            contract.CountSeries(is_rest=True, points=points, **figures),
        ],
        identities_approximate=True,
        identities_lower_bound=True,
    ) == answers.counts_response(counts, question, ["feature"])


@pytest.mark.parametrize(
    ("group", "value", "shown"),
    [
        (Group(kind="feature"), "a", "a"),
        (Group(kind="enabled"), True, True),
        (Group(kind="enabled"), False, False),
        (Group(kind="enabled"), None, None),
        (Group(kind="value"), '{"a":[1,null]}', {"a": [1.0, None]}),
        (Group(kind="value"), '"on"', "on"),
        (Group(kind="value"), None, None),
        (Group(kind="variant"), "true", "true"),
        (Group(kind="segment"), None, None),
        (Group(kind="reason"), "SPLIT", "SPLIT"),
        (Group(kind="sdk"), "sdk/1", "sdk/1"),
        (Group(kind="origin"), 0, "ORIGIN_UNSPECIFIED"),
        (Group(kind="origin"), 1, "ORIGIN_CLIENT"),
        (Group(kind="origin"), 2, "ORIGIN_SERVER"),
        (Group(kind="origin"), 7, "7"),
        (Group(kind="trait", trait_key="k"), "12", 12.0),
        (Group(kind="trait", trait_key="k"), None, None),
    ],
)
def test_what_a_series_has_in_common(group: Group, value: GroupValue, shown: Any) -> None:
    """A boolean, JSON or a string by the kind of group, null where there is none, under the name that was asked for."""
    question = CountQuestion(filter=Filter(environment="production"), group_by=(group,))
    (found,) = answers.counts_response(counts_of(series(value)), question, ["the name"]).series[0].groups

    assert "the name" == found.name
    assert found.value.WhichOneof("kind") is not None
    assert (shown, type(shown)) == (plain := json_format.MessageToDict(found.value), type(plain))


def exposure(identity: str, **fields: Any) -> Exposure:
    """Return an exposure of an identity."""
    bare: dict[str, Any] = {
        "exposure_time": 4,
        "arm": "b",
        "variant": "",
        "value": None,
        "multiple_arms": False,
        "evaluation_count": 1,
    }
    return Exposure(feature_name="checkout", identity_identifier=identity, **bare | fields)


def test_exposures_stand_in_the_answer() -> None:
    """An exposure has its fields, its value as JSON; the next page begins behind the last."""
    cursor = ExposureCursor(feature_name="checkout", identity_identifier="u")
    row = exposure("u", variant="b", value='{"a":1}', multiple_arms=True, evaluation_count=5)
    page = exposures_of(row, following=cursor, sampled=True)
    answer = answers.exposures_response(page, (), {}, "question")

    assert [
        contract.Exposure(
            feature_name="checkout",
            identity_identifier="u",
            exposure_time=time_of(4),
            arm="b",
            variant="b",
            value=value_of({"a": 1.0}),
            multiple_arms=True,
            evaluation_count=5,
        )
    ] == list(answer.exposures)
    assert cursor == page_token.decode(answer.next_page_token, "question", ExposureCursor)
    assert answer.identities_lower_bound


def test_absent_values_of_exposures_are_absent() -> None:
    """An exposure without a value has none, and one that is null has that."""
    page = exposures_of(exposure("u"), exposure("v", value="null"))
    answer = answers.exposures_response(page, (), {}, "question")

    assert [False, True] == [each.HasField("value") for each in answer.exposures]
    assert ("", False) == (answer.next_page_token, answer.identities_lower_bound)


def test_exposures_and_checks_fit_into_a_message() -> None:
    """Long values and long names of arms end a page, and the checks, so that any client can receive both."""
    long = f"[{','.join(['1'] * 60_000)}]"
    page = exposures_of(*(exposure(f"u{i}", value=long) for i in range(20)))
    arms = [
        ArmTotals(
            feature_name=f"f{i}",
            arms=tuple((f"{k:02}" + "x" * 4000, 5) for k in range(50)),
            multiple_arm_identity_count=0,
        )
        for i in range(100)
    ]
    answer = answers.exposures_response(page, arms, {}, "question")
    cursor = page_token.decode(answer.next_page_token, "question", ExposureCursor)

    assert answer.ByteSize() < 4 << 20
    assert [each.feature_name for each in arms[: len(answer.checks)]] == [each.feature_name for each in answer.checks]
    assert 1 < len(answer.checks) < 100
    assert f"u{len(answer.exposures) - 1}" == cursor.identity_identifier
    assert 1 < len(answer.exposures) < 20


def test_unknown_features_have_their_likely_match() -> None:
    """A name has its figures, and the feature that was likely meant where there is one."""
    use = SdkUse(sdk_name="sdk", sdk_version="", evaluation_count=7, last_time=9)
    rows = tuple(
        UnknownFeature(feature_name=name, evaluation_count=7, first_seen_time=3, last_seen_time=9, sdks=(use,))
        for name in ("Checkout", "payments")
    )
    answer = answers.unknown_features_response(
        UnknownFeatures(names=rows, other_evaluation_count=5), frozenset({"checkout"})
    )

    assert (
        contract.ListUnknownFeaturesResponse(
            unknown_features=[
                contract.UnknownFeature(
                    feature_name=name,
                    likely_match=match,
                    evaluation_count=7,
                    first_seen_time=time_of(3),
                    last_seen_time=time_of(9),
                    sdks=[contract.SdkUse(sdk_name="sdk", evaluation_count=7, last_time=time_of(9))],
                )
                for name, match in (("Checkout", "checkout"), ("payments", ""))
            ],
            other_evaluation_count=5,
        )
        == answer
    )


def test_intake_stands_in_the_answer() -> None:
    """Intake has its totals, rejections, rate and points, and the journal's state."""
    intake = Intake(
        total=IntakeTally(recorded_count=5, filtered_count=6, rejected_count=7),
        sampled_out_count=8,
        foreign_event_count=9,
        rejections=(("value", 4), ("", 3)),
        recent_count=90,
        bucket_starts=(1, 2),
        points=tuple(IntakeTally(recorded_count=i, filtered_count=i + 1, rejected_count=i + 2) for i in (10, 20)),
    )
    journal = JournalState(bytes=100, max_bytes=1000, waiting_batches=3, lag_seconds=1.5)
    expected = contract.GetIntakeResponse(
        recorded_count=5,
        filtered_count=6,
        rejected_count=7,
        sampled_out_count=8,
        foreign_event_count=9,
        rejections=[
            contract.RejectionCount(field="value", evaluation_count=4),
            contract.RejectionCount(field="", evaluation_count=3),
        ],
        evaluations_per_second=1.5,
        retention_days=90,
        points=[
            contract.IntakePoint(start_time=time_of(1), recorded_count=10, filtered_count=11, rejected_count=12),
            contract.IntakePoint(start_time=time_of(2), recorded_count=20, filtered_count=21, rejected_count=22),
        ],
        journal=contract.JournalState(bytes=100, max_bytes=1000, waiting_batch_count=3),
    )
    expected.journal.lag.FromMilliseconds(1500)

    assert expected == answers.intake_response(intake, journal, 90)
    expected.ClearField("journal")
    expected.ClearField("retention_days")
    assert expected == answers.intake_response(intake, None, 0)


def test_when_a_feature_was_seen_before() -> None:
    """Of a feature that was not evaluated in the period it is told when it last was, if ever."""
    never, unseen = features(listed=frozenset({"unseen", "never"})).features

    assert contract.FeatureSummary(feature_name="never", in_catalog=True) == never
    assert contract.FeatureSummary(feature_name="unseen", in_catalog=True, last_seen_time=time_of(7)) == unseen


def test_counts_that_fit_into_no_answer_are_refused() -> None:
    """Series and buckets that come to more than a usual client takes are refused with what to ask for instead."""
    tally = Tally(evaluation_count=1 << 40, enabled_count=1 << 40, enabled_known_count=1 << 40, identity_count=1 << 40)
    one = Series(groups=("a",), is_rest=False, total=tally, points=(tally,) * 1500)
    question = CountQuestion(
        filter=Filter(environment="production"), group_by=(Group(kind="feature"),), bucket="minute"
    )
    with pytest.raises(TooManyBucketsError, match="1,500 buckets of 100 series"):
        answers.counts_response(counts_of(*[one] * 100, starts=tuple(range(1500))), question, ["feature"])


def test_unknown_names_have_a_limit_in_bytes() -> None:
    """Names as long as senders make them end where the answer is full; what is left out is counted."""
    rows = tuple(
        UnknownFeature(
            feature_name=f"{number}{chr(0x1F600) * 2000}",
            evaluation_count=2,
            first_seen_time=0,
            last_seen_time=0,
            sdks=(),
        )
        for number in range(600)
    )

    answer = answers.unknown_features_response(UnknownFeatures(names=rows, other_evaluation_count=1), frozenset())

    assert answer.ByteSize() <= PAGE_BYTES + 1000
    assert 300 < len(answer.unknown_features) < 600
    assert 1 + 2 * (600 - len(answer.unknown_features)) == answer.other_evaluation_count
