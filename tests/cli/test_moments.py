from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flagledger.cli.moments import MomentType
from support.command import Peer, run


@pytest.mark.parametrize(
    ("given", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
        ("2w", timedelta(weeks=2)),
        ("0m", timedelta()),
    ],
)
@pytest.mark.parametrize(("option", "field"), [("--start", "start_time"), ("--end", "end_time")])
def test_a_time_may_be_an_age(peer: Peer, given: str, ago: timedelta, option: str, field: str) -> None:
    """How long ago something was stands for the time that it was."""
    before = datetime.now(UTC)
    run("features", "--url", peer.url, "--token", "t", option, given)
    after = datetime.now(UTC)
    [asked] = peer.asked

    assert asked.query[field].endswith("Z")
    assert before - ago <= datetime.fromisoformat(asked.query[field]) <= after - ago


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-02-10T11:00:00Z", "2026-02-10T11:00:00Z"),
        ("2026-02-10T11:00:00.5+01:00", "2026-02-10T11:00:00.500000+01:00"),
        ("2026-02-10T11:00:00", "2026-02-10T11:00:00Z"),
        ("2026-02-10T11:00", "2026-02-10T11:00:00Z"),
        ("2026-02-10 11:00", "2026-02-10T11:00:00Z"),
        ("2026-02-10", "2026-02-10T00:00:00Z"),
        ("today", "2026-03-01T00:00:00Z"),
        ("yesterday", "2026-02-28T00:00:00Z"),
        ("1d", "2026-02-28T14:30:05.000006Z"),
    ],
)
def test_a_time_is_of_utc(given: str, expected: str) -> None:
    """Without an offset a time, a day and its name are of UTC, and a day is its midnight."""
    now = datetime(2026, 3, 1, 14, 30, 5, 6, tzinfo=UTC)

    moment = MomentType().convert(given, None, None)

    assert expected == moment.text(now)
    assert MomentType().convert(moment, None, None) is moment


@pytest.mark.parametrize("given", ["24", "-24h", "٣h", "999999w", "1.5h", "tomorrow", "2026-02-30", "Today", ""])
def test_what_is_no_time_is_refused(given: str) -> None:
    """What may be given is said, with exit code 2."""
    result = run("evaluations", "--token", "t", "--start", given)

    assert result.exit_code == 2
    assert "it must be one of: 2026-02-10, 2026-02-10T11:00 (UTC unless" in " ".join(result.stderr.split())


def test_help_says_what_a_time_may_be() -> None:
    """Everything that is accepted stands there, and that REST takes less."""
    text = " ".join(run("counts", "--help").output.split())

    assert "today, yesterday, or an age: 90s, 30m, 24h, 7d, 2w." in text
    assert "over REST a time is RFC 3339, with an offset." in text
