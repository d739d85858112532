"""Sample-ratio checks: whether the arms of an experiment have the shares that they were meant to have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from flagledger.store.questions import MAX_ARMS, ArmTotals
from flagledger.v1.query_service_pb2 import ExperimentArm, SampleRatioCheck

_MIN_ARMS: Final = 2
# Half a chi-squared beyond which the probability is 0 for any double: e^-746 is, whatever 50 arms multiply it by.
_IMPROBABLE: Final = 1e6


def sample_ratio_check(totals: ArmTotals, weights: Mapping[str, float]) -> SampleRatioCheck:
    """
    Return the check of *totals* against *weights*.

    Args:
        totals: The arms that were seen.
        weights: Positive weights by arm; empty for equal ones of all that were seen.
    """
    seen = dict(totals.arms)
    # The most frequent come first, so that of too many the rarest are left out.
    others = sorted(arm for arm in list(seen)[:MAX_ARMS] if arm not in weights)
    names = [*weights, *others]
    check = SampleRatioCheck(
        feature_name=totals.feature_name, multiple_arm_identity_count=totals.multiple_arm_identity_count
    )
    comparable = len(weights.keys() | seen.keys()) <= MAX_ARMS
    observed = [seen.get(name, 0) for name in names]
    shares = _shares(names, weights)
    expected = [sum(observed) * share if comparable else 0.0 for share in shares]
    for name, count, expectation in list(zip(names, observed, expected, strict=True))[:MAX_ARMS]:
        check.arms.append(
            ExperimentArm(arm=name, weight=weights.get(name, 0.0), identity_count=count, expected_count=expectation)
        )
    if comparable and len(names) >= _MIN_ARMS and any(observed):
        _compare(check, observed, expected)
    return check


def chi_squared_probability(chi_squared: float, degrees_of_freedom: int) -> float:
    """Return how likely a chi-squared of so many degrees of freedom, 1 at least, is at least *chi_squared*."""
    half = chi_squared / 2
    if half <= 0:
        return 1.0
    if half > _IMPROBABLE:
        return 0.0
    # The regularised upper incomplete gamma function of a multiple of 1/2, by its recurrence in that: a finite sum of
    # positive terms, which loses no digits. Each is made of the one before; e^-half comes last, so that nothing overflows.
    odd = degrees_of_freedom % 2 == 1
    order = 0.5 if odd else 0.0
    term = math.sqrt(half / math.pi) * 2 if odd else 1.0
    total = 0.0
    for _ in range(degrees_of_freedom // 2):
        total += term
        order += 1
        term *= half / order
    tail = math.exp(math.log(total) - half) if total else 0.0
    return min(tail + math.erfc(math.sqrt(half)), 1.0) if odd else min(tail, 1.0)


def _shares(names: list[str], weights: Mapping[str, float]) -> list[float]:
    if not weights:
        return [1 / len(names) for _ in names]
    # Weights may be so large that their sum is infinite.
    largest = max(weights.values())
    total = math.fsum(weight / largest for weight in weights.values())
    return [weights.get(name, 0.0) / largest / total for name in names]


def _compare(check: SampleRatioCheck, observed: list[int], expected: list[float]) -> None:
    check.degrees_of_freedom = len(observed) - 1
    if any(count and not expectation for count, expectation in zip(observed, expected, strict=True)):
        # What cannot happen has happened: chi-squared is infinite.
        check.p_value = 0.0
        return
    chi_squared = math.fsum(
        (count - expectation) ** 2 / expectation
        for count, expectation in zip(observed, expected, strict=True)
        if expectation
    )
    if math.isfinite(chi_squared):
        check.chi_squared = chi_squared
    check.p_value = chi_squared_probability(chi_squared, check.degrees_of_freedom)
