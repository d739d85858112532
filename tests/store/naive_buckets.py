"""Where buckets of time begin, found by walking over the clock of a zone."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from flagledger.store.questions import MAX_BUCKETS, Bucket

MINUTE: Final = 60_000_000
"""Microseconds of a minute."""
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

# Before a moment, by more than what its bucket may be wide.
_LOOK_BACK: Final = {"minute": 2 * MINUTE, "hour": 3 * HOUR, "day": 3 * DAY, "week": 10 * DAY, "month": 35 * DAY}
# The zones that are asked about change their clocks, and begin their days, at quarters of an hour.
_STEP: Final = {"minute": MINUTE, "hour": 15 * MINUTE, "day": 15 * MINUTE, "week": 15 * MINUTE, "month": 15 * MINUTE}


def bucket_starts(
    bucket: Bucket | None, time_zone: str, start: int | None, end: int | None, times: Sequence[int]
) -> tuple[int, ...] | None:
    """
    Return where the buckets of [start, end) begin; where it is open, *times* tell how far they reach.

    None where there are more than an answer may hold.
    """
    first = min(times, default=None) if start is None else start
    last = max(times, default=None) if end is None else end - 1
    if bucket is None or first is None or last is None:
        return ()
    found: list[int] = []
    for moment in _beginnings(bucket, time_zone, first - _LOOK_BACK[bucket], last):
        if found and found[-1] <= first and moment <= first:
            found.clear()
        found.append(moment)
        if len(found) > MAX_BUCKETS:
            return None
    return tuple(found) if first <= last else ()


def bucket_of(time: int, starts: Sequence[int]) -> int:
    """Return the beginning of the bucket that holds *time*."""
    return max(start for start in starts if start <= time)


def _beginnings(bucket: Bucket, time_zone: str, first: int, last: int) -> Iterator[int]:
    """Yield every moment after *first*, up to *last*, at which the clock shows another bucket than before."""
    step = _STEP[bucket]
    moment = first // step * step
    shown = _shown(bucket, time_zone, moment)
    while (moment := moment + step) <= last:
        now = _shown(bucket, time_zone, moment)
        # A day that clocks go back into has been there already; an hour has not, by its distance from UTC.
        if now > shown if bucket in ("day", "week", "month") else now != shown:
            yield moment
            shown = now


@functools.cache
def _shown(bucket: Bucket, time_zone: str, moment: int) -> Any:
    """Return the bucket that the clock of *time_zone* shows at *moment*."""
    local = (EPOCH + timedelta(microseconds=moment)).astimezone(ZoneInfo(time_zone))
    match bucket:
        case "minute":
            return local.date(), local.hour, local.minute, local.utcoffset()
        case "hour":
            return local.date(), local.hour, local.utcoffset()
        case "day":
            return local.date()
        case "week":
            return local.date() - timedelta(days=local.weekday())
        case "month":
            return local.year, local.month
