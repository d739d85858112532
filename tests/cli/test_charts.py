from __future__ import annotations

from typing import Any

import pytest
from flagledger.cli.charts import Bar, Sparkline
from hypothesis import given
from hypothesis import strategies as st
from support.command import Peer, run


def points(*counts: int, **fields: Any) -> list[dict[str, Any]]:
    """Return one point for each hour."""
    return [
        {"start_time": f"2026-02-10T{hour:02}:00:00Z", "evaluation_count": count, **fields}
        for hour, count in enumerate(counts)
    ]


def test_a_line_has_the_height_of_its_numbers() -> None:
    """Zero is a dot, the least is the lowest block, the peak the highest."""
    assert Sparkline([0, 1, 2, 4, 8]).text(10) == "·▁▂▄█"
    assert Sparkline([0, 1, 1_000_000]).text(10) == "·▁█"
    assert Sparkline([0, 0]).text(10) == "··"
    assert Sparkline([]).text(10) == ""


def test_a_line_that_is_too_long_keeps_its_peaks() -> None:
    """Where there is less room than there are numbers, a column shows the largest of its own."""
    assert Sparkline([0, 8, 0, 0, 2, 0]).text(3) == "█·▂"
    assert Sparkline([1, 2]).text(0) == ""


@given(st.lists(st.integers(0, 10**12), max_size=200), st.integers(1, 100))
def test_a_line_is_never_wider_than_its_room(numbers: list[int], width: int) -> None:
    """It has a column for each number while there is room, the peak is in it, and nothing is shown as something."""
    line = Sparkline(numbers).text(width)

    assert len(line) == min(width, len(numbers))
    assert ("█" in line) == any(numbers)
    assert (set(line) <= {"·"}) == (not any(numbers))


def test_a_bar_has_the_length_of_its_share() -> None:
    """The whole fills it, what is little is an eighth, nothing is nothing, and more than the whole is said to be."""
    assert Bar(8, 8).text(4) == "████"
    assert Bar(1, 2).text(4) == "██"
    assert Bar(1, 8).text(4) == "▌"
    assert Bar(1, 10**9).text(4) == "▏"
    assert Bar(9, 8).text(4) == "███…"
    assert (Bar(0, 8).text(4), Bar(1, 0).text(4)) == ("", "")


def test_counts_are_bars(peer: Peer) -> None:
    """Without a bucket each series is a bar beside its figures; what has no group, and the rest, are told apart."""
    peer.answer(
        {
            "series": [
                {"groups": [{"name": "value", "value": "true"}, {"name": "origin", "value": "ORIGIN_CLIENT"}],
                 "evaluation_count": 1000, "enabled_count": 30, "enabled_known_count": 40, "identity_count": 7},
                {"groups": [{"name": "value", "value": True}, {"name": "origin", "value": None}],
                 "evaluation_count": "500", "identity_count": 3},
                {"groups": [{"name": "value", "value": None}, {"name": "origin", "value": "ORIGIN_SERVER"}],
                 "evaluation_count": 10},
                {"is_rest": True, "evaluation_count": 5},
            ],
            "identities_approximate": True,
        }
    )  # fmt: skip
    result = run("counts", "--url", peer.url, "--token", "t", "--by", "value", "--by", "origin")
    lines = [line.split() for line in result.output.splitlines()]

    assert lines[0] == ["value", "origin", "evaluations", "enabled", "identities", "bar"]
    assert lines[2] == ['"true"', "CLIENT", "1,000", "75.0", "%", "≈7", "█" * 20]
    assert lines[3] == ["true", "\N{EN DASH}", "500", "≈3", "█" * 10]
    assert lines[4] == ["\N{EN DASH}", "SERVER", "10", "≈0", "▏"]
    assert lines[5] == ["the", "rest", "5", "≈0", "▏"]


def test_the_rest_does_not_set_the_scale(peer: Peer) -> None:
    """What was asked for stays large beside a rest of any size; alone, it has nothing to be large beside."""
    group = [{"name": "value", "value": 1}]
    peer.answer({"series": [{"groups": group, "evaluation_count": 10}, {"is_rest": True, "evaluation_count": 999}]})
    peer.answer({"series": [{"groups": group, "evaluation_count": 0}, {"is_rest": True, "evaluation_count": 0}]})
    lines = run("counts", "--url", peer.url, "--token", "t", "--by", "value").output.splitlines()
    empty = run("counts", "--url", peer.url, "--token", "t", "--by", "value").output.splitlines()

    assert [line.split()[-1] for line in lines[2:]] == ["█" * 20, "█" * 19 + "…"]
    assert [line.split() for line in empty[2:]] == [["1", "0", "0"], ["the", "rest", "0", "0"]]


def test_totals_have_no_bar(peer: Peer) -> None:
    """Where there is nothing to compare with there is no bar, which would be full whatever it stood for."""
    peer.answer(
        {"series": [{"evaluation_count": 10, "enabled_count": 1, "enabled_known_count": 4, "identity_count": 3}]}
    )
    lines = run("counts", "--url", peer.url, "--token", "t").output.splitlines()

    assert [lines[0].split(), lines[2].split()] == [["evaluations", "enabled", "identities"], ["10", "25.0", "%", "3"]]


def test_counts_over_time_are_lines(peer: Peer) -> None:
    """With a bucket each series is a line, and below them stands what they reach over."""
    groups = [{"name": "variant", "value": "a"}]
    peer.answer(
        {
            "series": [
                {"groups": groups, "evaluation_count": 15, "enabled_count": 3, "enabled_known_count": 4,
                 "identity_count": 2, "points": points(0, 1, 2, 4, 8)},
                {"is_rest": True, "evaluation_count": 2, "identity_count": 1, "points": points(0, 1, 1, 0, 0)},
            ]
        }
    )  # fmt: skip
    result = run("counts", "--url", peer.url, "--token", "t", "--by", "variant", "--bucket", "hour")
    lines = [line.split() for line in result.output.splitlines()]

    assert lines[0] == ["variant", "evaluations", "enabled", "identities", "peak", "over", "time"]
    assert lines[2] == ["a", "15", "75.0", "%", "2", "8", "·▁▂▄█"]
    assert lines[3] == ["the", "rest", "2", "1", "1", "·██··"]
    assert result.output.splitlines()[4] == (
        "5 hours, from 2026-02-10T00:00:00Z to that of 2026-02-10T04:00:00Z. "
        "Each line has a scale of its own, up to its peak."
    )


def test_by_enabled_there_is_no_share_of_it(peer: Peer) -> None:
    """Evaluations that are told apart by it are all enabled, or none of them is."""
    groups = [{"name": "enabled", "value": True}]
    peer.answer(
        {"series": [{"groups": groups, "evaluation_count": 15, "enabled_count": 15, "enabled_known_count": 15}]}
    )
    lines = run("counts", "--url", peer.url, "--token", "t", "--by", "enabled").output.splitlines()

    assert lines[0].split() == ["enabled", "evaluations", "identities", "bar"]
    assert lines[2].split() == ["true", "15", "0", "█" * 20]


def test_one_series_over_time_is_a_table(peer: Peer) -> None:
    """Each bucket has a line with its figures and a bar; the last line is of all, for identities do not add up."""
    known = {"enabled_count": 1, "enabled_known_count": 4, "identity_count": 2}
    series = {"evaluation_count": 9, "enabled_count": 2, "enabled_known_count": 8, "identity_count": 3}
    peer.answer(
        {"series": [{**series, "points": [*points(8, 1, **known), {"start_time": "2026-02-10T02:00:00Z"}]}],
         "identities_approximate": True}
    )  # fmt: skip
    result = run("counts", "--url", peer.url, "--token", "t", "--bucket", "hour")

    assert [line.split() for line in result.output.splitlines() if "─" not in line] == [
        ["hour", "evaluations", "enabled", "identities", "bar"],
        ["2026-02-10T00:00:00Z", "8", "25.0", "%", "≈2", "█" * 20],
        ["2026-02-10T01:00:00Z", "1", "25.0", "%", "≈2", "██▌"],
        ["2026-02-10T02:00:00Z", "0", "\N{EN DASH}", "≈0"],
        ["all", "9", "25.0", "%", "≈3"],
    ]


@pytest.mark.parametrize(
    "options", [(), ("--bucket", "hour"), ("--by", "variant"), ("--by", "variant", "--bucket", "hour")]
)
def test_identities_out_of_a_sample_are_marked(peer: Peer, options: tuple[str, ...]) -> None:
    """Whatever form the counts have, identities are marked as a lower bound, and the mark is explained below."""
    groups = [{"name": "variant", "value": "a"}] if "--by" in options else []
    peer.answer(
        {"series": [{"groups": groups, "evaluation_count": 90, "identity_count": 3, "points": points(90, identity_count=3)}],
         "identities_lower_bound": True}
    )  # fmt: skip
    lines = run("counts", "--url", peer.url, "--token", "t", *options).output.splitlines()

    assert "≥3" in lines[2].split()
    assert lines[-1] == "≥ is a lower bound: of identities that were left out of a sample nothing is known."


@pytest.mark.parametrize(
    ("bucket", "zone", "expected"),
    [
        ("hour", None, "2026-02-09T23:00:00Z"),
        ("hour", "Europe/Zurich", "2026-02-10T00:00:00+01:00"),
        ("minute", "UTC", "2026-02-09T23:00:00Z"),
        ("day", "Europe/Zurich", "2026-02-10"),
        ("week", None, "2026-02-09"),
        ("month", "nowhere/at_all", "2026-02-09"),
        ("day", "../etc", "2026-02-09"),
    ],
)
@pytest.mark.parametrize("grouped", [False, True])
def test_buckets_begin_by_the_clock_of_their_zone(
    peer: Peer, bucket: str, zone: str | None, expected: str, *, grouped: bool
) -> None:
    """A bucket of a day or more is named by its date, a shorter one by its time, in the zone that was given."""
    groups = [{"name": "variant", "value": "a"}] if grouped else []
    start = {"start_time": "2026-02-09T23:00:00Z", "evaluation_count": 1}
    peer.answer({"series": [{"groups": groups, "evaluation_count": 1, "points": [start]}]})
    result = run(
        "counts", "--url", peer.url, "--token", "t", "--bucket", bucket, *(["--time-zone", zone] if zone else [])
    )
    lines = result.output.splitlines()

    assert lines[2].split()[0] == ("a" if grouped else expected)
    assert lines[3:] == (
        [f"One {bucket}, from {expected}. Each line has a scale of its own, up to its peak."] if grouped else []
    )


@pytest.mark.parametrize(("buckets", "rows"), [(100, 103), (101, 4)])
def test_many_buckets_are_a_line(peer: Peer, buckets: int, rows: int) -> None:
    """Nobody reads more than a hundred lines: beyond that they are one."""
    peer.answer({"series": [{"evaluation_count": 9, "points": points(*range(buckets))}]})

    assert len(run("counts", "--url", peer.url, "--token", "t", "--bucket", "hour").output.splitlines()) == rows


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_charts_keep_to_the_width_of_the_terminal(peer: Peer, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """However many buckets there are, a series is one line of the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    peer.answer({"series": [{"evaluation_count": 9, "identity_count": 1, "points": points(*range(1500))}]})
    lines = run("counts", "--url", peer.url, "--token", "t", "--bucket", "hour").output.splitlines()

    assert max(len(line) for line in lines) <= columns
    assert lines[2].endswith("█")


def test_outside_of_a_terminal_a_chart_stays_short(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing bounds the width, a line of many buckets is bounded all the same."""
    monkeypatch.delenv("COLUMNS")
    peer.answer({"series": [{"evaluation_count": 9, "identity_count": 1, "points": points(*range(1500))}]})
    lines = run("counts", "--url", peer.url, "--token", "t", "--bucket", "hour").output.splitlines()

    assert 60 < len(lines[2].rstrip()) < 160


def test_nothing_counted_is_said(peer: Peer) -> None:
    """No series is a sentence; one that holds nothing is a zero; buckets without any say nothing of a period."""
    assert run("counts", "--url", peer.url, "--token", "t").output == "No evaluations match.\n"
    peer.answer({"series": [{"evaluation_count": 0, "identity_count": 0}]})
    lines = run("counts", "--url", peer.url, "--token", "t", "--bucket", "day").output.splitlines()
    assert (lines[2].split(), len(lines)) == (["0", "0", "0"], 3)


def test_intake_is_a_panel(peer: Peer) -> None:
    """It says what came in, at which rate, why something was not recorded, and how the journal is."""
    peer.answer(
        {
            "recorded_count": 1_234_567, "filtered_count": "3", "rejected_count": 0, "evaluations_per_second": 1234.5,
            "rejections": [{"field": "evaluations[].count", "evaluation_count": 2}, {"field": "", "evaluation_count": 1}],
            "points": [{"start_time": "2026-02-10T00:00:00Z", "recorded_count": 1, "filtered_count": 0}],
            "journal": {"bytes": 3 << 20, "max_bytes": 4 << 30, "waiting_batch_count": 2, "lag": "61.5s"},
            "retention_days": 90,
        }
    )  # fmt: skip
    result = run("intake", "--url", peer.url, "--token", "t", "--bucket", "day")
    said = [" ".join(line.strip("│ ").split()) for line in result.output.splitlines()]

    assert said[0].startswith("╭─ Intake, in entries ─")
    assert said[1:6] == [
        "recorded 1,234,567 >99.9 %",
        "filtered 3 <0.1 %",
        "rejected 0 0.0 %",
        "rate 1,234.5 entries a second, over the last minute",
        "journal 3.0 MiB of 4.0 GiB <0.1 %",
    ]
    assert said[6:8] == ["waiting 2 batches, the oldest for 61.5 s", "kept for 90 days"]
    assert said[9] == "Batches that were refused as a whole are not among the rejected; /metrics counts them."
    assert "rejected for entries" in said
    assert "evaluations[].count 2" in said
    assert "something that is not known 1" in said
    assert "recorded 1 █" in said
    assert "filtered 0 ·" in said
    assert said[-1].startswith("One day, from 2026-02-10. ")


def test_what_is_neither_recorded_nor_refused_is_told(peer: Peer) -> None:
    """What was left out of a sample has its share of what came in; events of other kinds have none, and are said to be others."""
    peer.answer(
        {"recorded_count": 100, "rejected_count": 100, "sampled_out_count": "800", "foreign_event_count": 1_234}
    )
    result = run("intake", "--url", peer.url, "--token", "t")
    said = [" ".join(line.strip("│ ").split()) for line in result.output.splitlines()]

    assert said[1:6] == [
        "recorded 100 10.0 %",
        "filtered 0 0.0 %",
        "rejected 100 10.0 %",
        "left out 800 80.0 %",
        "beside 1,234 events of other kinds, which are not kept",
    ]
    assert said[-1] == "What was left out of a sample was accepted, and what was recorded stands for it."


def test_an_idle_intake_is_a_panel_too(peer: Peer) -> None:
    """Zeros, and what the API leaves out, are shown as nothing."""
    result = run("intake", "--url", peer.url, "--token", "t")
    said = [" ".join(line.strip("│ ").split()) for line in result.output.splitlines()]

    assert said[1:7] == [
        "recorded 0", "filtered 0", "rejected 0", "rate 0.0 entries a second, over the last minute", "journal 0 bytes of 0 bytes",
        "waiting 0 batches",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "expected"),
    [({"retention_days": 0}, ["for ever"]), ({"retention_days": 1}, ["for 1 day"]), ({}, [])],
)
def test_how_long_it_is_kept_is_said(peer: Peer, answer: dict[str, Any], expected: list[str]) -> None:
    """Days, or for ever; where a server does not say, nothing is said."""
    peer.answer(answer)
    lines = [line.strip("│ ") for line in run("intake", "--url", peer.url, "--token", "t").output.splitlines()]

    assert expected == [line.removeprefix("kept").strip() for line in lines if line.startswith("kept")]
