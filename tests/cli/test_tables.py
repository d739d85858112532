from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from support.command import Peer, evaluation, run


def test_evaluations_are_a_table(peer: Peer) -> None:
    """People get one line for each evaluation, with what they look for first."""
    peer.answer({"evaluations": [evaluation(), evaluation(enabled=False, value=None), {"feature_name": "bare"}]})
    result = run("evaluations", "--url", peer.url, "--token", "t")
    lines = [line.split() for line in result.output.splitlines()]

    assert result.exit_code == 0
    assert lines[0] == ["time", "feature", "enabled", "value", "identity", "segments", "variant"]
    assert lines[2] == ["2026-02-10T11:00:00Z", "new_dashboard", "true", '"variant_a"', "user_123", "premium_users,",
                        "beta", "a"]  # fmt: skip
    assert lines[3][2:4] == ["false", "null"]
    assert lines[4] == ["bare"]


def test_features_are_a_table(peer: Peer) -> None:
    """Totals and the last value stand in it; names that the environment does not have, and stale ones, are marked."""
    peer.answer(
        {
            "features": [
                {"feature_name": "known", "in_catalog": True, "evaluation_count": 1_234_567, "enabled_count": 1_234_566,
                 "enabled_known_count": 1_234_567, "identity_count": "12",
                 "last_evaluation_time": "2026-02-10T11:00:00Z", "last_value": {"a": 1}},
                {"feature_name": "gone", "in_catalog": False, "evaluation_count": 3, "enabled_count": 1,
                 "enabled_known_count": 2},
                {"feature_name": "quiet", "in_catalog": True, "evaluation_count": 0, "enabled_count": 0},
            ],
            "data_since": "2026-02-01T00:00:00.5Z",
        }
    )  # fmt: skip
    result = run("features", "--url", peer.url, "--token", "t")
    lines = [line.split() for line in result.output.splitlines()]

    assert lines[2] == ["known", "1,234,567", ">99.9", "%", "12", "2026-02-10T11:00:00Z", '{"a":1}']
    assert lines[3] == ["!", "gone", "3", "50.0", "%", "0"]
    assert lines[4] == ["-", "quiet", "0", "0"]
    assert result.output.splitlines()[5:] == [
        "! is not in the catalog of the environment.",
        "- is in the catalog, and was not evaluated in the period.",
        "Recorded since 2026-02-01T00:00:00Z.",
    ]


def test_features_as_json_and_limited(peer: Peer) -> None:
    """--json gives the messages, --limit the first of them, and the table says what it left out."""
    answer = {"features": [{"feature_name": name, "in_catalog": True} for name in "abc"]}
    peer.answer(answer)
    peer.answer(answer)
    as_json = run("features", "--url", peer.url, "--token", "t", "--json", "--limit", "2").output
    table = run("features", "--url", peer.url, "--token", "t", "--limit", "2").output

    assert [json.loads(line) for line in as_json.splitlines()] == answer["features"][:2]
    assert "The first 2; --limit shows more." in table
    assert "! is not" not in table


def test_nothing_found_is_said(peer: Peer) -> None:
    """An empty answer is a sentence for people, and nothing for a program."""
    options = ("--url", peer.url, "--token", "t")

    assert run("evaluations", *options).output == "No evaluations match.\n"
    assert run("features", *options).output == "No features.\n"
    assert run("exposures", *options).output == "No exposures match.\n"
    assert run("exposures", *options, "--check").output == "No shares to check.\n"
    assert run("unknown-features", *options).output == "No unknown features.\n"
    assert run("evaluations", *options, "--json").output == ""


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\u202e\x9b31m\x00[bold]x[/bold]:smile:"


SDKS = [{"sdk_name": HOSTILE, "sdk_version": HOSTILE}]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (
            "evaluations",
            {"evaluations": [evaluation(feature_name=HOSTILE, value={HOSTILE: HOSTILE}, identity_identifier=HOSTILE,
                                        segment_names=[HOSTILE], variant=HOSTILE, evaluation_timestamp=HOSTILE,
                                        enabled=HOSTILE)]},
        ),
        (
            "features",
            {"features": [{"feature_name": HOSTILE, "last_value": HOSTILE, "last_evaluation_time": HOSTILE, "sdks": SDKS}],
             "data_since": HOSTILE},
        ),
        (
            "counts --bucket day",
            {"series": [{"groups": [{"name": HOSTILE, "value": HOSTILE}, {"name": "value", "value": {HOSTILE: HOSTILE}}],
                         "points": [{"start_time": HOSTILE, "evaluation_count": HOSTILE}]}]},
        ),
        (
            "exposures",
            {"exposures": [{"feature_name": HOSTILE, "identity_identifier": HOSTILE, "arm": HOSTILE,
                            "exposure_time": HOSTILE}],
             "checks": [{"feature_name": HOSTILE, "arms": [{"arm": HOSTILE, "weight": HOSTILE}], "p_value": HOSTILE}]},
        ),
        (
            "unknown-features",
            {"unknown_features": [{"feature_name": HOSTILE, "likely_match": HOSTILE, "first_seen_time": HOSTILE,
                                   "last_seen_time": HOSTILE, "sdks": SDKS}]},
        ),
        (
            "intake --bucket day",
            {"rejections": [{"field": HOSTILE, "evaluation_count": HOSTILE}], "journal": {"lag": HOSTILE},
             "points": [{"start_time": HOSTILE}]},
        ),
    ],
)  # fmt: skip
def test_no_control_character_reaches_the_terminal(peer: Peer, command: str, answer: dict[str, Any]) -> None:
    """Whatever was recorded is shown as escapes: it moves no cursor, and no markup is read into it."""
    peer.answer(answer)
    peer.answer({"code": 3, "message": HOSTILE}, status=400)
    shown, refused = (run(*command.split(), "--url", peer.url, "--token", "t").output for _ in range(2))

    for output in (shown, refused):
        assert output.replace("\n", "").isprintable()
        assert "owned" in output
    assert "[bold]" in refused


@pytest.mark.parametrize("columns", [20, 40, 80, 132])
def test_tables_keep_to_the_width_of_the_terminal(peer: Peer, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each evaluation is one line, clipped to the terminal, however long its values are."""
    monkeypatch.setenv("COLUMNS", str(columns))
    peer.answer({"evaluations": [evaluation(value="v" * 200_000, identity_identifier="i" * 2000)] * 3})
    lines = run("evaluations", "--url", peer.url, "--token", "t").output.splitlines()

    assert " ".join(lines[5:]) == "A wider terminal shows more."
    assert max(len(line) for line in lines) <= columns
    if columns >= 80:
        assert lines[2].startswith("2026-02-10T11:00:00Z ")


def test_features_with_all_there_is(peer: Peer) -> None:
    """Estimates are marked, identities that saw several values counted, and the SDKs named in short."""
    sdks = [{"sdk_name": "py", "sdk_version": "3.1"}, {"sdk_name": "", "sdk_version": ""}, {"sdk_name": "js"}]
    peer.answer(
        {
            "features": [
                {"feature_name": "f", "in_catalog": True, "evaluation_count": 3, "identity_count": 1_234,
                 "multiple_value_identity_count": 5, "identities_approximate": True, "sdks": sdks},
                {"feature_name": "g", "in_catalog": True, "evaluation_count": 3, "identity_count": 2, "sdks": sdks[2:]},
            ]
        }
    )  # fmt: skip
    lines = [line.split() for line in run("features", "--url", peer.url, "--token", "t").output.splitlines()]

    assert lines[0] == ["feature", "evaluations", "enabled", "identities", "several", "values", "last", "evaluated", "last",
                        "value", "SDKs"]  # fmt: skip
    assert lines[2] == ["f", "3", "≈1,234", "≈5", "py/3.1,", "\N{EN DASH},", "+1"]
    assert lines[3] == ["g", "3", "2", "0", "js"]


def test_a_narrow_terminal_shows_what_matters_most(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 80 columns no figure of a feature is cut; what has no room is not shown, and that is said."""
    monkeypatch.setenv("COLUMNS", "80")
    row = {"feature_name": "new_dashboard", "in_catalog": True, "evaluation_count": 1_234_567, "identity_count": 1_234,
           "multiple_value_identity_count": 5, "last_evaluation_time": "2026-02-10T11:00:00Z", "last_value": "on",
           "sdks": [{"sdk_name": "js"}]}  # fmt: skip
    peer.answer({"features": [row]})
    lines = run("features", "--url", peer.url, "--token", "t").output.splitlines()

    assert lines[2].split() == ["new_dashboard", "1,234,567", "1,234", "2026-02-10T11:00:00Z", '"on"']
    assert lines[3:] == ["A wider terminal shows more."]


def test_unknown_features_are_a_table(peer: Peer) -> None:
    """Each name stands beside the one that was likely meant; what is not listed is counted."""
    peer.answer(
        {
            "unknown_features": [
                {"feature_name": "chekout", "likely_match": "checkout", "evaluation_count": 1_234,
                 "first_seen_time": "2026-02-10T11:00:00.5Z", "last_seen_time": "2026-02-11T11:00:00Z",
                 "sdks": [{"sdk_name": "js", "sdk_version": "4"}]},
                {"feature_name": "other", "evaluation_count": 1},
            ],
            "other_evaluation_count": 77,
        }
    )  # fmt: skip
    result = run("unknown-features", "--url", peer.url, "--token", "t", "--limit", "1")
    lines = result.output.splitlines()

    assert lines[2].split() == ["chekout", "checkout", "1,234", "2026-02-10T11:00:00Z", "2026-02-11T11:00:00Z", "js/4"]
    assert lines[3:] == ["The first 1; --limit shows more.", "77 more evaluations, of names that are not listed."]


def test_exposures_are_a_table_with_a_check(peer: Peer) -> None:
    """Who saw what first stands above the arms and their shares; who saw several arms is marked."""
    peer.answer(
        {
            "exposures": [
                {"feature_name": "f", "identity_identifier": "u1", "exposure_time": "2026-02-10T11:00:00Z", "arm": "control",
                 "evaluation_count": 3, "multiple_arms": True},
                {"feature_name": "f", "identity_identifier": "u2", "arm": "treatment", "evaluation_count": 1},
            ],
            "checks": [
                {"feature_name": "f", "multiple_arm_identity_count": 1, "p_value": 0.7293, "arms": [
                    {"arm": "control", "weight": 1, "identity_count": 500, "expected_count": 505.5},
                    {"arm": "treatment", "weight": 1.0, "identity_count": 511, "expected_count": 505.5}]}],
        }
    )  # fmt: skip
    lines = run("exposures", "--url", peer.url, "--token", "t").output.splitlines()

    assert lines[3].startswith("   f ")
    assert [line.split() for line in lines[2:4]] == [
        ["!", "f", "u1", "2026-02-10T11:00:00Z", "control", "3"],
        ["f", "u2", "treatment", "1"],
    ]
    assert lines[4:7] == ["! saw more than one arm: leave it out of an experiment.", "", "Shares of f"]
    assert [line.split() for line in lines[9:11]] == [
        ["control", "1", "500", "505.5"],
        ["treatment", "1", "511", "505.5"],
    ]
    assert lines[11:] == [
        "Left out: 1 of 1,012 (<0.1 %) that saw more than one arm.",
        "Chance alone makes shares as uneven as these (p = 0.73): nothing speaks against the assignment.",
    ]


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        ("features", {"features": [{"feature_name": "f", "in_catalog": True, "evaluation_count": 1}]}),
        ("exposures", {"exposures": [{"feature_name": "f", "evaluation_count": 1}]}),
    ],
)
def test_without_marks_nothing_is_indented(peer: Peer, command: str, rows: dict[str, Any]) -> None:
    """There is no column of marks where nothing is marked."""
    peer.answer(rows)
    lines = run(command, "--url", peer.url, "--token", "t").output.splitlines()

    assert (lines[0][:8], lines[2][:2]) == ("feature ", "f ")


def test_a_stale_feature_shows_when_it_was_evaluated_last(peer: Peer) -> None:
    """Where there was nothing in the period, what was before it is shown, and said to be."""
    stale = {"feature_name": "f", "in_catalog": True, "evaluation_count": 0, "last_seen_time": "2026-01-10T11:00:00Z"}
    fresh = {"feature_name": "g", "in_catalog": True, "evaluation_count": 1, "last_seen_time": "2026-02-10T11:00:00Z",
             "last_evaluation_time": "2026-02-10T11:00:00Z"}  # fmt: skip
    peer.answer({"features": [stale, fresh]})
    lines = run("features", "--url", peer.url, "--token", "t").output.splitlines()

    assert [line.split()[-1] for line in lines[2:4]] == ["2026-01-10T11:00:00Z", "2026-02-10T11:00:00Z"]
    assert lines[4:] == ["- is in the catalog, and was not evaluated in the period: the last time was before."]


def test_entries_that_stand_for_several_show_how_many(peer: Peer) -> None:
    """There is a column of counts where any of them is more than 1."""
    peer.answer({"evaluations": [evaluation(count=1_200), evaluation(count=1), evaluation()]})
    peer.answer({"evaluations": [evaluation(count=1)]})
    several, ones = (
        [line.split() for line in run("evaluations", "--url", peer.url, "--token", "t").output.splitlines()]
        for _ in range(2)
    )

    assert several[0] == ["time", "feature", "enabled", "value", "count", "identity", "segments", "variant"]
    assert [line[4] for line in several[2:]] == ["1,200", "1", "1"]
    assert "count" not in ones[0]


def test_a_pipe_gets_no_blanks_at_the_end(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a terminal a line ends with what it says, and a long cell is cut; --json has all of it."""
    monkeypatch.delenv("COLUMNS")
    peer.answer({"evaluations": [evaluation(value="v" * 200, variant=""), evaluation(segment_names=[], variant="")]})
    lines = run("evaluations", "--url", peer.url, "--token", "t").output.splitlines()
    as_json = run("evaluations", "--url", peer.url, "--token", "t", "--json").output

    assert lines == [line.rstrip() for line in lines]
    assert f'  "{"v" * 118}…  user_123' in lines[2]
    assert "v" * 200 in as_json
    assert len(lines) == 4


@pytest.mark.parametrize("columns", [60, 80, 119, 120, 300])
def test_what_is_left_out_or_cut_is_said(peer: Peer, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a wider terminal would show more, that is said, and where it would not, it is not."""
    monkeypatch.setenv("COLUMNS", str(columns))
    unknown = {"feature_name": "chekout", "likely_match": "checkout", "first_seen_time": "2026-02-10T11:00:00Z"}
    peer.answer({"unknown_features": [unknown]})
    peer.answer({"evaluations": [evaluation(identity_identifier="i" * 60, variant="")]})
    peer.answer({"exposures": [{"identity_identifier": "i" * 60}]})
    peer.answer({"features": [{"feature_name": "f" * 100, "in_catalog": True, "evaluation_count": 1}]})
    said = [
        "A wider terminal shows more." in run(command, "--url", peer.url, "--token", "t").output
        for command in ("unknown-features", "evaluations", "exposures", "features")
    ]

    assert said == [columns < 120, columns < 300, columns < 119, columns < 300]


def test_a_terminal_of_another_encoding_gets_a_question_mark(peer: Peer) -> None:
    """What it cannot show is no traceback."""
    peer.answer({"features": [{"feature_name": "ü", "identity_count": 2, "identities_approximate": True}]})
    done = subprocess.run(
        [sys.executable, "-m", "flagledger.cli", "features", "--url", peer.url, "--token", "t"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert "?2" in done.stdout


def test_environments_are_a_table(peer: Peer) -> None:
    """Each has its name, what people call it, how many features it has, and what of evaluations it keeps."""
    rows = [
        {
            "name": "key-1",
            "display_name": "Shop",
            "feature_count": 1_234,
            "identity_policy": "hash",
            "sample_rate": 0.001,
        },
        {"name": "key-2", "takes_any_feature": True, "identity_policy": "drop", "sample_rate": 1},
        {"name": "key-3", "feature_count": 2, "identity_policy": "plain", "sample_rate": 1.0},
    ]
    peer.answer({"environments": rows})
    lines = [line.split() for line in run("environments", "--url", peer.url, "--token", "t").output.splitlines()]
    as_json = run("environments", "--url", peer.url, "--token", "t", "--json").output

    assert lines[0] == ["environment", "called", "features", "identities", "evaluations"]
    assert lines[2:] == [
        ["key-1", "Shop", "1,234", "pseudonyms", "1", "of", "1,000", "is", "kept"],
        ["key-2", "any", "none", "all", "are", "kept"],
        ["key-3", "2", "as", "sent", "all", "are", "kept"],
    ]
    assert [json.loads(line) for line in as_json.splitlines()] == rows
    assert ["/api/v2/analytics/environments"] * 2 == [one.path for one in peer.asked]


def test_what_is_out_of_a_sample_is_marked(peer: Peer) -> None:
    """Identities out of a sample are marked as a lower bound, one feature by one, and the mark is explained."""
    known = {"in_catalog": True, "evaluation_count": 90, "identity_count": 5, "multiple_value_identity_count": 1}
    peer.answer(
        {"features": [{"feature_name": "f", "identities_lower_bound": True, **known}, {"feature_name": "g", **known}]}
    )
    lines = run("features", "--url", peer.url, "--token", "t").output.splitlines()

    assert [line.split() for line in lines[2:4]] == [["f", "90", "≥5", "≥1"], ["g", "90", "5", "1"]]
    assert lines[4:] == ["≥ is a lower bound: of identities that were left out of a sample nothing is known."]


def test_evaluations_of_a_sample_are_told(peer: Peer) -> None:
    """Where some stand for others that were left out, that is said; where none does it is not."""
    said = "Some are a sample: their count stands for those that were left out, too."
    for rate in (0.1, 1):
        peer.answer({"evaluations": [evaluation(sample_rate=rate), evaluation(sample_rate=1.0)]})
    some, none = (run("evaluations", "--url", peer.url, "--token", "t").output.splitlines() for _ in range(2))

    assert [[said], []] == [some[4:], none[4:]]


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_exposures_out_of_a_sample_are_told(peer: Peer, options: tuple[str, ...]) -> None:
    """Exposures and shares that are out of a sample say what that means for them."""
    exposures = [{"feature_name": "f", "identity_identifier": "u", "evaluation_count": 1}]
    checks = [{"feature_name": "f", "arms": [{"arm": "a"}]}]
    for bound in (True, False):
        peer.answer({"exposures": exposures, "checks": checks, "identities_lower_bound": bound})
    said = "Some of the evaluations are a sample: identities may be missing, and first exposures be later ones."

    assert [True, False] == [
        said in run("exposures", "--url", peer.url, "--token", "t", *options).output.splitlines() for _ in range(2)
    ]


def test_pseudonyms_are_told(peer: Peer) -> None:
    """Where identities are pseudonyms, their mark is explained, and that a question needs none."""
    pseudonym = {"feature_name": "f", "identity_identifier": "hmac:2Jw0"}
    peer.answer({"evaluations": [evaluation(**pseudonym), evaluation(identity_identifier=None)]})
    peer.answer({"exposures": [pseudonym]})
    peer.answer({"evaluations": [evaluation()]})
    said = "hmac: marks pseudonyms; --identity takes the identity itself, too."

    assert [True, True, False] == [
        said in run(command, "--url", peer.url, "--token", "t").output.splitlines()
        for command in ("evaluations", "exposures", "evaluations")
    ]
