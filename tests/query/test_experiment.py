from __future__ import annotations

import math

import pytest
from flagledger.query.experiment import chi_squared_probability, sample_ratio_check
from flagledger.store.questions import ArmTotals
from flagledger.v1.query_service_pb2 import ExperimentArm, SampleRatioCheck
from hypothesis import given
from hypothesis import strategies as st


def totals(*arms: tuple[str, int], multiple: int = 0) -> ArmTotals:
    """Return the totals of a feature."""
    return ArmTotals(feature_name="checkout", arms=arms, multiple_arm_identity_count=multiple)


# Quantiles to sixteen digits, as tables of the distribution have them to three.
QUANTILES = [
    (3.841458820694124, 1, 0.05),
    (6.6348966010212145, 1, 0.01),
    (10.827566170662733, 1, 0.001),
    (5.991464547107979, 2, 0.05),
    (13.815510557964274, 2, 0.001),
    (7.814727903251179, 3, 0.05),
    (9.487729036781154, 4, 0.05),
    (16.918977604620448, 9, 0.05),
    (18.307038053275146, 10, 0.05),
    (66.33864886296881, 49, 0.05),
    (67.50480654954144, 50, 0.05),
]


@pytest.mark.parametrize(("chi_squared", "degrees", "probability"), QUANTILES)
def test_probabilities_are_those_of_the_tables(chi_squared: float, degrees: int, probability: float) -> None:
    """The probability is that of the chi-squared distribution."""
    assert probability == pytest.approx(chi_squared_probability(chi_squared, degrees), rel=1e-10)


@pytest.mark.parametrize("half", [0.01, 1.0, 30.0, 700.0])
def test_probabilities_have_their_digits_far_out(half: float) -> None:
    """Of one degree it is erfc, of two an exponential, of four a polynomial beside it, however small that is."""
    assert math.erfc(math.sqrt(half)) == pytest.approx(chi_squared_probability(2 * half, 1), rel=1e-12)
    assert math.exp(-half) == pytest.approx(chi_squared_probability(2 * half, 2), rel=1e-12)
    assert math.exp(-half) * (1 + half) == pytest.approx(chi_squared_probability(2 * half, 4), rel=1e-12)


@given(st.floats(min_value=0), st.integers(1, 49))
def test_a_probability_is_one(chi_squared: float, degrees: int) -> None:
    """Whatever was observed, the probability lies between 0 and 1, and does not fall with more degrees of freedom."""
    probability = chi_squared_probability(chi_squared, degrees)

    assert 0 <= probability <= 1
    assert probability <= chi_squared_probability(chi_squared, degrees + 1) * (1 + 1e-12)


def test_equal_shares_are_meant_where_none_are_given() -> None:
    """Without weights the arms that were seen should be equal; they stand by name."""
    check = sample_ratio_check(totals(("treatment", 60), ("control", 40), multiple=7), {})

    assert [
        ExperimentArm(arm="control", identity_count=40, expected_count=50),
        ExperimentArm(arm="treatment", identity_count=60, expected_count=50),
    ] == list(check.arms)
    assert ("checkout", 7, 4.0, 1) == (
        check.feature_name,
        check.multiple_arm_identity_count,
        check.chi_squared,
        check.degrees_of_freedom,
    )
    assert math.erfc(math.sqrt(2)) == pytest.approx(check.p_value, rel=1e-12)


def test_weights_say_what_shares_are_meant() -> None:
    """Arms of the weights come first and in their order, seen or not; an unseen one counts as nobody."""
    check = sample_ratio_check(totals(("b", 300), ("a", 60)), {"b": 3.0, "a": 0.5, "c": 0.5})

    assert [("b", 3.0, 300, 270.0), ("a", 0.5, 60, 45.0), ("c", 0.5, 0, 45.0)] == [
        (arm.arm, arm.weight, arm.identity_count, arm.expected_count) for arm in check.arms
    ]
    assert 30**2 / 270 + 15**2 / 45 + 45**2 / 45 == pytest.approx(check.chi_squared)
    assert 2 == check.degrees_of_freedom


def test_an_arm_without_weight_cannot_be() -> None:
    """Where an arm was seen that has no weight the probability is 0, and chi-squared, which is infinite, absent."""
    check = sample_ratio_check(totals(("b", 50), ("a", 50), ("stray", 1)), {"b": 1.0, "a": 1.0})

    assert ("stray", 0.0, 1, 0.0) == (
        check.arms[2].arm,
        check.arms[2].weight,
        check.arms[2].identity_count,
        check.arms[2].expected_count,
    )
    assert (False, 2, True, 0.0) == (
        check.HasField("chi_squared"),
        check.degrees_of_freedom,
        check.HasField("p_value"),
        check.p_value,
    )


MANY = tuple((f"arm{i:02}", 100 - i) for i in range(51))


@pytest.mark.parametrize(
    ("arms", "weights"),
    [
        pytest.param((), {}, id="no arm"),
        pytest.param((("a", 9),), {}, id="one arm"),
        pytest.param((("a", 9),), {"a": 1.0}, id="one weight"),
        pytest.param((), {"a": 1.0, "b": 1.0}, id="no identity"),
        pytest.param(MANY, {}, id="too many arms"),
        pytest.param(MANY, {"arm50": 1.0, "arm00": 2.0}, id="too many arms with weights"),
        pytest.param(MANY[:50], {"other": 1.0}, id="too many with the weights"),
    ],
)
def test_where_there_is_nothing_to_compare(arms: tuple[tuple[str, int], ...], weights: dict[str, float]) -> None:
    """With fewer than two arms, more than 50, or nobody in them, there is no chi-squared and no probability."""
    check = sample_ratio_check(totals(*arms), weights)

    assert [False] * 3 == [check.HasField(name) for name in ("chi_squared", "degrees_of_freedom", "p_value")]


def test_of_too_many_arms_the_most_frequent_are_named() -> None:
    """At most 50 arms are named, without what they should have; those of the weights are among them."""
    bare = sample_ratio_check(totals(*MANY), {})
    weighted = sample_ratio_check(totals(*MANY), {"arm50": 1.0})

    assert [name for name, _ in MANY[:50]] == [arm.arm for arm in bare.arms]
    assert ["arm50", *(name for name, _ in MANY[:49])] == [arm.arm for arm in weighted.arms]
    assert {0.0} == {arm.expected_count for arm in (*bare.arms, *weighted.arms)}


def test_fifty_arms_are_compared() -> None:
    """Fifty arms are not too many."""
    check = sample_ratio_check(totals(*MANY[:50]), {})

    assert (50, 49) == (len(check.arms), check.degrees_of_freedom)
    assert check.HasField("p_value")


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 10**12), max_size=4),
    st.dictionaries(
        st.sampled_from("abcd"),
        st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        max_size=4,
    ),
)
def test_any_counts_and_weights_have_a_check(seen: dict[str, int], weights: dict[str, float]) -> None:
    """However large or small they are, a check has no number that JSON lacks, and its expectations add up to what was seen."""
    check = sample_ratio_check(totals(*seen.items()), weights)
    numbers = [check.chi_squared, check.p_value, *(arm.expected_count for arm in check.arms)]

    assert [True] * len(numbers) == [math.isfinite(number) for number in numbers]
    assert SampleRatioCheck.FromString(check.SerializeToString()) == check
    if check.arms:
        assert sum(seen.values()) == pytest.approx(sum(arm.expected_count for arm in check.arms))
