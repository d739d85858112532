from __future__ import annotations

from datetime import timedelta
from typing import get_args

import pytest
from flagledger.store.buckets import index_runs, starts
from flagledger.store.errors import TooManyBucketsError
from flagledger.store.questions import MAX_BUCKETS, Bucket
from hypothesis import given, settings
from hypothesis import strategies as st
from store.naive_buckets import DAY, EPOCH, HOUR, MINUTE, bucket_of, bucket_starts
from support.askable import JUMPS, ZONES, moment


def shown(found: tuple[int, ...]) -> list[str]:
    """Return moments as people write them, without the zone."""
    return [(EPOCH + timedelta(microseconds=start)).strftime("%Y-%m-%dT%H:%M") for start in found]


def ask(bucket: Bucket, zone: str, first: str, last: str) -> list[str]:
    """Return the beginnings of the buckets that hold the moments from *first* to *last*, in UTC."""
    return shown(starts(bucket, zone, moment(first), moment(last)))


@pytest.mark.parametrize(
    ("bucket", "zone", "first", "last", "expected"),
    [
        pytest.param(
            "minute", "UTC", "2026-01-01T23:59", "2026-01-02T00:01",
            ["2026-01-01T23:59", "2026-01-02T00:00", "2026-01-02T00:01"],
            id="minutes",
        ),
        pytest.param(
            "hour", "Asia/Kathmandu", "2026-01-01T00:00", "2026-01-01T01:30",
            ["2025-12-31T23:15", "2026-01-01T00:15", "2026-01-01T01:15"],
            id="hours of a zone that lies three quarters off",
        ),
        pytest.param(
            "hour", "Europe/Zurich", "2026-10-24T23:30", "2026-10-25T02:30",
            ["2026-10-24T23:00", "2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00"],
            id="an hour that comes twice is two",
        ),
        pytest.param(
            "hour", "Australia/Lord_Howe", "2026-04-04T14:10", "2026-04-04T16:00",
            ["2026-04-04T14:00", "2026-04-04T15:00", "2026-04-04T15:30"],
            id="clocks go back by half an hour",
        ),
        pytest.param(
            "hour", "Australia/Lord_Howe", "2026-04-04T15:10", "2026-04-04T15:20",
            ["2026-04-04T15:00"],
            id="the half hour that comes twice is where it begins",
        ),
        pytest.param(
            "hour", "Australia/Lord_Howe", "2026-10-03T14:40", "2026-10-03T16:10",
            ["2026-10-03T14:30", "2026-10-03T15:30", "2026-10-03T16:00"],
            id="clocks go forth by half an hour",
        ),
        pytest.param(
            "day", "Europe/Zurich", "2026-10-24T12:00", "2026-10-26T12:00",
            ["2026-10-23T22:00", "2026-10-24T22:00", "2026-10-25T23:00"],
            id="a day of 25 hours",
        ),
        pytest.param(
            "day", "America/Sao_Paulo", "2018-11-03T12:00", "2018-11-05T12:00",
            ["2018-11-03T03:00", "2018-11-04T03:00", "2018-11-05T02:00"],
            id="a day without midnight",
        ),
        pytest.param(
            "day", "America/St_Johns", "2006-10-29T02:40", "2006-10-29T12:00",
            ["2006-10-29T02:30"],
            id="a midnight that comes twice counts once",
        ),
        pytest.param(
            "day", "Pacific/Apia", "2011-12-30T05:00", "2011-12-31T12:00",
            ["2011-12-29T10:00", "2011-12-30T10:00", "2011-12-31T10:00"],
            id="a day that the calendar left out",
        ),
        pytest.param(
            "week", "Europe/Zurich", "2026-03-29T12:00", "2026-03-30T12:00",
            ["2026-03-22T23:00", "2026-03-29T22:00"],
            id="weeks begin on Monday",
        ),
        pytest.param(
            "month", "America/Sao_Paulo", "2018-10-31T23:00", "2018-12-01T02:00",
            ["2018-10-01T03:00", "2018-11-01T03:00", "2018-12-01T02:00"],
            id="months",
        ),
        pytest.param(
            "month", "UTC", "9999-11-01T00:00", "9999-12-31T23:59", ["9999-11-01T00:00", "9999-12-01T00:00"],
            id="the last months",
        ),
        pytest.param("month", "Asia/Kathmandu", "9999-12-31T23:00", "9999-12-31T23:59", [], id="behind the calendar"),
        pytest.param("week", "America/Sao_Paulo", "0001-01-01T00:00", "0001-01-01T01:00", [], id="before the calendar"),
        pytest.param("day", "UTC", "2026-01-02T00:00", "2026-01-01T00:00", [], id="no moment"),
    ],
)  # fmt: skip
def test_buckets_begin_where_the_clock_says(
    bucket: Bucket, zone: str, first: str, last: str, expected: list[str]
) -> None:
    """Buckets begin by the clocks of their zone, whatever those do."""
    assert expected == ask(bucket, zone, first, last)


middles = st.sampled_from(JUMPS)
WIDTHS = {"minute": MINUTE, "hour": HOUR, "day": DAY, "week": 7 * DAY, "month": 30 * DAY}


@settings(max_examples=60, deadline=None)
@given(
    bucket=st.sampled_from(get_args(Bucket)),
    zone=st.sampled_from(ZONES),
    middle=middles,
    before=st.integers(0, 6 * 60),
    after=st.integers(0, 6 * 60),
)
def test_buckets_equal_a_walk_over_the_clock(bucket: Bucket, zone: str, middle: int, before: int, after: int) -> None:
    """Wherever a period begins and ends around a jump, its buckets are those that somebody finds who watches the clock."""
    sixtieth = WIDTHS[bucket] // 60
    first, last = middle - before * sixtieth, middle + after * sixtieth

    assert bucket_starts(bucket, zone, first, last + 1, []) == starts(bucket, zone, first, last)


def test_too_many_buckets_are_refused() -> None:
    """As many as an answer may hold are found; with one more the period is refused, in words that help."""
    last = (MAX_BUCKETS - 1) * MINUTE
    assert MAX_BUCKETS == len(starts("minute", "UTC", 0, last))
    with pytest.raises(TooManyBucketsError, match="1,500 buckets of a minute"):
        starts("minute", "UTC", 0, last + MINUTE)
    with pytest.raises(TooManyBucketsError, match="1,500 buckets of a month"):
        starts("month", "UTC", -62_135_596_800_000_000, 253_402_300_799_999_999)


@settings(max_examples=60, deadline=None)
@given(
    bucket=st.sampled_from(get_args(Bucket)),
    zone=st.sampled_from(ZONES),
    middle=middles,
    count=st.integers(1, 40),
    offset=st.integers(-(2**40), 2**40),
)
def test_runs_find_the_bucket_of_a_moment(bucket: Bucket, zone: str, middle: int, count: int, offset: int) -> None:
    """Runs of equal width say of any moment which bucket it lies in, with a division."""
    found = starts(bucket, zone, middle - count * WIDTHS[bucket], middle)
    time = max(found[0], middle + offset)
    index, start, width = [run for run in index_runs(found) if run[1] <= time][-1]

    assert bucket_of(time, found) == found[index + ((time - start) // width if width else 0)]


def test_no_buckets_have_no_runs() -> None:
    """Where there are no buckets there are no runs."""
    assert [] == index_runs(())
