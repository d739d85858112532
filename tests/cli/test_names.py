from __future__ import annotations

from typing import Any

import pytest
from support.command import Peer, run

PREFIX = "/api/v2/analytics/"
DAY = ("--start", "2026-02-10", "--end", "2026-02-11")
DAY_FIELDS = {"start_time": "2026-02-10T00:00:00Z", "end_time": "2026-02-11T00:00:00Z"}
FEATURES = [
    {"feature_name": "Button_Colour", "evaluation_count": 7},
    {"feature_name": "checkout_v2", "evaluation_count": "3"},
    {"feature_name": "quiet", "evaluation_count": 0},
]


@pytest.mark.parametrize(
    ("command", "empty"),
    [
        ("features", {"features": []}),
        ("counts", {"series": [{"evaluation_count": 0, "identity_count": 0}]}),
        ("counts --bucket day --by variant", {"series": []}),
        ("evaluations", {"evaluations": []}),
        ("exposures", {"exposures": []}),
        ("exposures --check", {"checks": []}),
    ],
)
@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("checkout_v3", "; the environment has no such feature. Did you mean checkout_v2?"),
        ("button_colour", "; the environment has no such feature. Did you mean Button_Colour?"),
        ("else\x1b", "; the environment has no such feature."),
        ("quiet", " in the period."),
        ("checkout_v2", " match."),
    ],
)
def test_a_name_without_evaluations_is_told_from_a_wrong_one(
    peer: Peer, command: str, empty: dict[str, Any], feature: str, expected: str
) -> None:
    """It is said whether the environment has the feature, and which one was likely meant; one request more tells."""
    peer.answer(empty)
    peer.answer({"features": FEATURES})
    result = run(*command.split(), "--feature", feature, *DAY, "--url", peer.url, "--token", "t", "--environment", "e")
    of = "exposures" if "exposures" in command else "evaluations"

    assert (result.exit_code, result.stdout) == (0, f"No {of} of {feature}{expected}\n".replace("\x1b", "\\x1b"))
    assert len(peer.asked) == 2
    assert peer.asked[1].path == PREFIX + "features"
    assert peer.asked[1].query == {"environment": "e", "page_size": "10000", **DAY_FIELDS}


def test_of_all_time_there_is_no_period(peer: Peer) -> None:
    """Where nobody named a period none is spoken of."""
    peer.answer({"evaluations": []})
    peer.answer({"features": FEATURES})
    result = run("evaluations", "--feature", "quiet", "--url", peer.url, "--token", "t")

    assert result.stdout == "No evaluations of quiet.\n"


def test_other_filters_may_be_what_finds_nothing(peer: Peer) -> None:
    """With further filters nothing is said of the feature, as long as there is one of that name."""
    for _ in range(2):
        peer.answer({"evaluations": []})
        peer.answer({"features": FEATURES})
    known, unknown = (
        run("evaluations", "--feature", name, "--identity", "u", "--url", peer.url, "--token", "t").stdout
        for name in ("quiet", "quite")
    )

    assert known == "No evaluations of quiet match.\n"
    assert unknown == "No evaluations of quite; the environment has no such feature. Did you mean quiet?\n"


def test_of_a_long_list_only_the_beginning_is_known(peer: Peer) -> None:
    """Where there are more features than one request lists, none is said not to exist."""
    peer.answer({"evaluations": []})
    peer.answer({"features": FEATURES, "next_page_token": "p"})
    result = run("evaluations", "--feature", "quite", "--url", peer.url, "--token", "t")

    assert result.stdout == "No evaluations of quite. Did you mean quiet?\n"
    assert len(peer.asked) == 2


def test_help_that_cannot_be_had_is_no_fault(peer: Peer) -> None:
    """Where features cannot be listed the answer is an empty one still."""
    peer.answer({"evaluations": []})
    peer.answer({"code": 14, "message": "Not now."}, status=503)
    result = run("evaluations", "--feature", "f", "--url", peer.url, "--token", "t")

    assert (result.exit_code, result.output) == (0, "No evaluations of f match.\n")


def test_nobody_is_asked_for_a_program(peer: Peer) -> None:
    """--json prints nothing of nothing, and asks no further."""
    peer.answer({"evaluations": []})
    result = run("evaluations", "--feature", "f", "--json", "--url", peer.url, "--token", "t")

    assert (result.exit_code, result.output, len(peer.asked)) == (0, "", 1)
