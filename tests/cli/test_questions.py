from __future__ import annotations

import json
from typing import Any

import pytest
from support.command import Peer, evaluation, run

PREFIX = "/api/v2/analytics/"

SERIES = {"groups": [{"name": "variant", "value": "a"}], "evaluation_count": 3, "identity_count": 2}
EXPOSURE = {"feature_name": "f", "identity_identifier": "u", "exposure_time": "2026-02-10T11:00:00Z", "arm": "a"}
UNKNOWN = {"feature_name": "chekout", "likely_match": "checkout", "evaluation_count": 3}
INTAKE = {"recorded_count": 3, "filtered_count": 1, "rejected_count": 0, "evaluations_per_second": 0.05}
CHECK = {"feature_name": "f", "arms": [{"arm": "a", "weight": 1}], "multiple_arm_identity_count": 0}


def test_the_question_is_the_one_of_the_api(peer: Peer) -> None:
    """Filters travel as the contract's fields, the token as a bearer token, and what is not asked is not sent."""
    run("evaluations", "--url", peer.url + "/", "--token", "t", "--environment", "prod & co", "--feature", "f",
        "--identity", "ü?#", "--segment", "s", "--start", "2026-02-10T11:00:00+01:00", "--end", "2026-02-11T00:00:00Z",
        "--limit", "7", "--json")  # fmt: skip
    run("evaluations", "--url", peer.url, "--token", "t")
    run("features", "--url", peer.url, "--token", "t", "--environment", "e", "--start", "2026-02-10T11:00:00Z")

    assert [(one.method, one.path, one.query, one.authorization) for one in peer.asked] == [
        (
            "GET",
            "/api/v2/analytics/evaluations",
            {
                "environment": "prod & co",
                "feature_name": "f",
                "identity_identifier": "ü?#",
                "segment_name": "s",
                "start_time": "2026-02-10T11:00:00+01:00",
                "end_time": "2026-02-11T00:00:00Z",
                "page_size": "7",
            },
            "Bearer t",
        ),
        ("GET", "/api/v2/analytics/evaluations", {"page_size": "100"}, "Bearer t"),
        ("GET", "/api/v2/analytics/features", {"environment": "e", "start_time": "2026-02-10T11:00:00Z"}, "Bearer t"),
    ]


START = ("--start", "2026-02-10T11:00:00Z")
START_FIELD = [("start_time", "2026-02-10T11:00:00Z")]


@pytest.mark.parametrize(
    ("arguments", "path", "fields"),
    [
        (("features", "--limit", "7"), "features", [("page_size", "7")]),
        (("features", "--feature", "f"), "features", [("feature_name", "f")]),
        (("features", "--limit", "70000"), "features", [("page_size", "10000")]),
        (("counts",), "counts", []),
        (
            ("counts", *START, "--by", "value", "--by", "trait:plan", "--bucket", "day", "--time-zone", "Europe/Zurich",
             "--limit", "5", "--feature", "f"),
            "counts",
            [("feature_name", "f"), ("bucket", "day"), ("time_zone", "Europe/Zurich"), ("group_by", "value"),
             ("group_by", "trait:plan"), ("series_limit", "5"), *START_FIELD],
        ),
        (("exposures",), "exposures", [("page_size", "100")]),
        (
            ("exposures", *START, "--feature", "f", "--identity", "u", "--weight", "a=b=1", "--weight", "c=0.5",
             "--limit", "9"),
            "exposures",
            [*START_FIELD, ("feature_name", "f"), ("identity_identifier", "u"), ("weights", "a=b=1"), ("weights", "c=0.5"),
             ("page_size", "9")],
        ),
        (("exposures", "--check"), "exposures", [("page_size", "1")]),
        (("unknown-features", *START, "--limit", "3"), "unknown-features", START_FIELD),
        (("intake", *START, "--bucket", "hour"), "intake", [*START_FIELD, ("bucket", "hour")]),
    ],
)  # fmt: skip
def test_each_command_asks_for_what_it_was_given(
    peer: Peer, arguments: tuple[str, ...], path: str, fields: list[tuple[str, str]]
) -> None:
    """Every option becomes its field of the request, a repeated one each time, and nothing else is sent."""
    result = run(*arguments, "--url", peer.url, "--token", "t", "--environment", "e", "--json")

    assert result.exit_code == 0
    assert [(one.method, one.path, one.fields) for one in peer.asked] == [
        ("GET", PREFIX + path, [("environment", "e"), *fields])
    ]


def test_json_is_one_message_a_line(peer: Peer) -> None:
    """A program gets each message as the API gave it, and nothing else."""
    rows = [evaluation(1, value={"a": [1, None, 2.5, "\x1b[31m\u202e€"]}), evaluation(2, position="9007199254740993")]
    peer.answer({"evaluations": rows, "next_page_token": "more"})
    result = run("evaluations", "--url", peer.url, "--token", "t", "--json", "--limit", "2")

    assert [json.loads(line) for line in result.output.splitlines()] == rows
    assert result.output.isascii()
    assert result.output.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "answer", "expected"),
    [
        (("features",), {"features": [{"feature_name": "f"}], "data_since": "x"}, [{"feature_name": "f"}]),
        (("counts",), {"series": [SERIES, SERIES], "identities_approximate": True}, [SERIES, SERIES]),
        (("exposures",), {"exposures": [EXPOSURE], "checks": [CHECK]}, [EXPOSURE]),
        (("exposures", "--check"), {"exposures": [EXPOSURE], "checks": [CHECK, CHECK]}, [CHECK, CHECK]),
        (("exposures", "--check"), {"checks": 3}, []),
        (("unknown-features",), {"unknown_features": [UNKNOWN], "other_evaluation_count": 3}, [UNKNOWN]),
        (("unknown-features", "--limit", "1"), {"unknown_features": [UNKNOWN, UNKNOWN]}, [UNKNOWN]),
        (("intake",), INTAKE, [INTAKE]),
    ],
)
def test_json_holds_the_messages_of_each_command(
    peer: Peer, arguments: tuple[str, ...], answer: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    """A program gets the rows, one a line; of intake the whole answer."""
    peer.answer(answer)
    result = run(*arguments, "--json", "--url", peer.url, "--token", "t")

    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == expected


@pytest.mark.parametrize("command", ["features", "exposures"])
def test_pages_are_followed(peer: Peer, command: str) -> None:
    """Features and exposures come page by page, up to the limit, and the checks are those of the first page."""
    peer.answer({command: [{"feature_name": "a"}] * 2, "next_page_token": "p1", "checks": [CHECK]})
    peer.answer({command: [{"feature_name": "b"}] * 2, "next_page_token": "p2"})
    result = run(command, "--url", peer.url, "--token", "t", "--limit", "3")
    rows = [line.split() for line in result.output.splitlines()]

    assert [one.query for one in peer.asked] == [{"page_size": "3"}, {"page_size": "1", "page_token": "p1"}]
    assert sum("a" in row for row in rows) - (command == "exposures") == 2
    assert sum("b" in row for row in rows) == 1
    assert "The first 3; --limit shows more." in result.output
    assert ("Shares of f" in result.output) == (command == "exposures")


def test_without_a_limit_every_feature_comes(peer: Peer) -> None:
    """Nothing is left out that nobody asked to leave out."""
    peer.answer({"features": [{"feature_name": "a"}], "next_page_token": "p1"})
    peer.answer({"features": [{"feature_name": "b"}], "next_page_token": ""})
    result = run("features", "--url", peer.url, "--token", "t", "--json")

    assert [json.loads(line)["feature_name"] for line in result.output.splitlines()] == ["a", "b"]
    assert [one.query for one in peer.asked] == [{}, {"page_token": "p1"}]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("counts", "--by", "nonsense"), "'nonsense' is none of feature, enabled, value, "),
        (("counts", "--by", "trait:"), "'trait:' is none of "),
        (("counts", "--by", "trait"), "'trait' is none of "),
        (("counts", "--by", "sdk", "--by", "sdk"), "each may be given once"),
        (("counts", *(word for key in "abcde" for word in ("--by", f"trait:{key}"))), "there may be 4 at most"),
        (("counts", "--bucket", "year"), "'year' is not one of"),
        (("counts", "--limit", "101"), "101 is not in the range"),
        (("exposures", "--weight", "a=1"), "--weight needs --feature"),
        (("exposures", "--feature", "f", "--weight", "a"), "'a' is not ARM=WEIGHT"),
        (("exposures", "--feature", "f", "--weight", "=1"), "'=1' is not ARM=WEIGHT"),
        (("exposures", "--feature", "f", "--weight", "a=0"), "'a=0' is not ARM=WEIGHT"),
        (("exposures", "--feature", "f", "--weight", "a=nan"), "'a=nan' is not ARM=WEIGHT"),
        (("exposures", "--feature", "f", "--weight", "a=inf"), "'a=inf' is not ARM=WEIGHT"),
        (("exposures", "--watch"), "No such option"),
    ],
)
def test_wrong_use_is_a_sentence(peer: Peer, arguments: tuple[str, ...], expected: str) -> None:
    """What no server would take is said before one is asked, with exit code 2."""
    result = run(*arguments, "--url", peer.url, "--token", "t")

    assert (result.exit_code, peer.asked) == (2, [])
    assert expected in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "command", ["features", "counts", "evaluations", "exposures", "unknown-features", "intake", "export"]
)
def test_every_command_shows_a_refusal(peer: Peer, command: str) -> None:
    """Whatever is asked, a refusal of the server is its sentence and exit code 1."""
    peer.answer({"code": 5, "message": "There is no environment nowhere."}, status=404)
    result = run(command, "--url", peer.url, "--token", "t", "--environment", "nowhere")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "flagledger: There is no environment nowhere.\n"


@pytest.mark.parametrize(("name", "shown"), [("a", ["a"]), ("Shop", ["a", "b"]), ("nowhere", [])])
def test_one_environment_is_asked_about(peer: Peer, name: str, shown: list[str]) -> None:
    """Of the environments --environment leaves the one of that name, or those that are called so; where none is, that is said."""
    peer.answer({"environments": [{"name": each, "display_name": "Shop"} for each in "ab"]})
    options = ("--url", peer.url, "--token", "t", "--environment", name)
    as_json = run("environments", *options, "--json").output
    table = run("environments", *options).output

    assert [json.loads(line)["name"] for line in as_json.splitlines()] == shown
    assert [line.split()[0] for line in table.splitlines()[2:]] == shown
    assert ("No environments.\n" == table) is (not shown)
