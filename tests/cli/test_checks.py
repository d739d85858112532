from __future__ import annotations

from typing import Any

import pytest
from support.command import Peer, run


def arm(name: str, identities: Any, expected: float = 0, weight: Any = 0) -> dict[str, Any]:
    """Return an ExperimentArm as the API writes it."""
    return {"arm": name, "weight": weight, "identity_count": identities, "expected_count": expected}


def check(**fields: Any) -> dict[str, Any]:
    """Return a SampleRatioCheck as the API writes it."""
    arms = [arm("control", 500, 505.5, 1), arm("treatment", 511, 505.5, 1.0)]
    return {"feature_name": "f", "arms": arms, "multiple_arm_identity_count": 0} | fields


def shown(peer: Peer, *checks: dict[str, Any]) -> list[str]:
    """Return the lines that people see of checks."""
    peer.answer({"checks": list(checks)})
    return run("exposures", "--check", "--url", peer.url, "--token", "t").output.splitlines()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"p_value": 0.001}, "Chance alone makes shares as uneven as these (p = 0.001)"),
        (
            {"p_value": 0.00099},
            "The shares are not those that were meant (p = 0.00099): the assignment or its recording is",
        ),
        ({"p_value": 0}, "The shares are not those that were meant (p = 0): the assignment or its recording is"),
        (
            {"p_value": 0, "arms": [arm("a", 40, 40, 1), arm("b\x1b", "2")]},
            "The shares are not those that were meant (p = 0): b\\x1b has no weight, and was seen.",
        ),
        (
            {"p_value": 0, "arms": [arm("a", 0, 3, 1), arm("b", 2), arm("c", 1)]},
            "The shares are not those that were meant (p = 0): b, c have no weight, and were seen.",
        ),
        ({"p_value": 0.3, "arms": [arm("a", 10, 9.5), arm("b", 9, 9.5)]}, "19 identities are too few to tell (p = 0.3)."),
        ({"p_value": 0.32, "arms": [arm("a", 1, 0.5), arm("b", 0, 0.5)]}, "1 identity is too few to tell (p = 0.32)."),
        ({"p_value": 1, "arms": [arm("a", 10, 10), arm("b", 10, 10)]}, "Chance alone makes shares as uneven"),
    ],
)  # fmt: skip
def test_a_check_says_what_it_means(peer: Peer, fields: dict[str, Any], expected: str) -> None:
    """The figure is turned into a sentence, on the side of the line that the contract draws; few say nothing."""
    lines = shown(peer, check(p_value=1), check(**fields))

    assert lines[-1].startswith(expected)
    assert lines.count("Shares of f") == 2


@pytest.mark.parametrize(
    ("arms", "several", "expected"),
    [
        ([], 0, "there are fewer than two arms."),
        ([arm("a", 30)], 0, "there are fewer than two arms."),
        ([arm("a", 30)], 1, "there are fewer than two arms that an identity saw alone."),
        ([arm(f"a{number}", 3) for number in range(50)], 1, "there are more than 50 arms."),
        ([], 40, "all identities saw several arms."),
        ([arm("a", 0, weight=1), arm("b", 0, weight=1)], 40, "all identities saw several arms."),
        ([arm("a", 0, weight=1), arm("b", 0, weight=1)], 0, "no identity saw one of these arms."),
    ],
)
def test_without_a_figure_the_cause_is_said(
    peer: Peer, arms: list[dict[str, Any]], several: int, expected: str
) -> None:
    """Why there is nothing to compare is told apart, and what was not compared has no expected figure."""
    lines = shown(peer, check(arms=arms, multiple_arm_identity_count=several))

    assert lines[-1] == f"There is nothing to compare: {expected}"
    assert all(line.endswith("\N{EN DASH}") for line in lines[3 : 3 + len(arms)])


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        (0, ["Chance alone makes shares as uneven as these (p = 0.6): nothing speaks against the assignment."]),
        (
            5,
            [
                "Left out: 5 of 100 (5.0 %) that saw more than one arm.",
                "Chance alone makes shares as uneven as these (p = 0.6): nothing speaks against the assignment.",
            ],
        ),
        (
            "19",
            [
                "Left out: 19 of 114 (16.7 %) that saw more than one arm.",
                "So many are moved from arm to arm by a rollout rather than by an experiment.",
                "The shares of the others say little of the assignment then (p = 0.6).",
            ],
        ),
    ],
)
def test_many_that_saw_several_arms_are_a_rollout(peer: Peer, several: Any, expected: list[str]) -> None:
    """Who is left out is counted; from more than 5 % on it is said what that looks like."""
    arms = [arm("a", 50, 47.5), arm("b", 45, 47.5)]
    lines = shown(peer, check(p_value=0.6, arms=arms, multiple_arm_identity_count=several))

    assert lines[5:] == expected


def test_without_weights_equal_shares_are_meant(peer: Peer) -> None:
    """Where nobody gave weights each arm has the same; beside weights one without stays without."""
    [*_, first, second, _said] = shown(peer, check(p_value=1, arms=[arm("a", 20, 20), arm("b", 20, 20)]))
    [*_, third, fourth, _said] = shown(peer, check(p_value=0, arms=[arm("a", 20, 20, "2.5"), arm("b", 20)]))

    assert [line.split() for line in (first, second)] == [["a", "1", "20", "20.0"], ["b", "1", "20", "20.0"]]
    assert [line.split() for line in (third, fourth)] == [
        ["a", "2.5", "20", "20.0"],
        ["b", "\N{EN DASH}", "20", "0.0"],
    ]
