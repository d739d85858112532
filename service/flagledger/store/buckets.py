"""
Buckets of time: where they begin, in a zone whose clocks may jump.

Days, weeks and months begin at midnight by the zone's clocks; where a jump leaves that midnight out, at the jump, and where it
comes twice, at the first. Hours and minutes go by real time, so that an hour that comes twice is two buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from flagledger.store.errors import TooManyBucketsError
from flagledger.store.questions import MAX_BUCKETS, Bucket

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_STEPS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}
_MONTHS: Final = 12


def starts(bucket: Bucket, time_zone: str, first: int, last: int) -> tuple[int, ...]:
    """
    Return where the buckets begin that hold the moments from *first* to *last*, both included, in microseconds since the epoch.

    Args:
        bucket: Width of the buckets.
        time_zone: IANA name of the zone that they begin in.
        first: The earliest moment; not before the year 1.
        last: The latest moment; not after the year 9999.

    Raises:
        TooManyBucketsError: There are more than `MAX_BUCKETS`.
    """
    found: list[int] = []
    for start in _from(bucket, ZoneInfo(time_zone), first):
        if start > last:
            break
        if found and (start <= first or start == found[-1]):
            # Clocks that go back show a bucket again that has ended, and a calendar may leave a day out.
            found.pop()
        elif len(found) == MAX_BUCKETS:
            raise TooManyBucketsError(
                f"The period has more than {MAX_BUCKETS:,} buckets of a {bucket}: ask for a shorter one, or for wider buckets."
            )
        found.append(start)
    return tuple(found)


def _from(bucket: Bucket, zone: ZoneInfo, first: int) -> Iterator[int]:
    """Yield the beginnings of buckets from the one that holds *first* on, as far as the calendar goes."""
    try:
        start = _floor(bucket, (_EPOCH + first * _MICROSECOND).astimezone(zone))
        while True:
            yield _microseconds(start)
            start = _next(bucket, start)
    except OverflowError:
        return


def _floor(bucket: Bucket, moment: datetime) -> datetime:
    match bucket:
        case "minute":
            return moment.replace(second=0, microsecond=0)
        case "hour":
            return moment.replace(minute=0, second=0, microsecond=0)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match bucket:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)


def _next(bucket: Bucket, start: datetime) -> datetime:
    match bucket:
        case "minute" | "hour":
            after = (start.astimezone(UTC) + _STEPS[bucket]).astimezone(start.tzinfo)
            # Where clocks jumped by less than an hour, hours begin elsewhere from then on.
            floor = _floor(bucket, after)
            return floor if _microseconds(floor) > _microseconds(start) else after
        case "day":
            return start + timedelta(days=1)
        case "week":
            return start + timedelta(days=7)
        case "month":
            year, month = divmod(start.year * _MONTHS + start.month, _MONTHS)
            if year > MAXYEAR:
                raise OverflowError
            return start.replace(year=year, month=month + 1)


def _microseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND


def index_runs(bucket_starts: Sequence[int]) -> list[tuple[int, int, int]]:
    """
    Return *bucket_starts* as runs of equal width, each a tuple of its first bucket's index, its beginning, and the width.

    A moment in a run lies in the bucket `index + (moment - beginning) // width`.
    The last bucket, whose end is not known, is a run of its own, with a width of 0: everything behind its beginning is in it.
    """
    runs: list[tuple[int, int, int]] = []
    for index, start in enumerate(bucket_starts[:-1]):
        width = bucket_starts[index + 1] - start
        if not runs or runs[-1][2] != width:
            runs.append((index, start, width))
    if bucket_starts:
        runs.append((len(bucket_starts) - 1, bucket_starts[-1], 0))
    return runs


def index_sql(moment: str, bucket_starts: Sequence[int], divide: str) -> str:
    """
    Return SQL for the index of the bucket that a moment lies in; 0 where there is none.

    Args:
        moment: SQL for the moment, in microseconds since the epoch.
        bucket_starts: Beginnings of the buckets.
        divide: SQL for the integral part of `{0}` divided by `{1}`, both integers above 0.
    """

    def between(runs: Sequence[tuple[int, int, int]]) -> str:
        if len(runs) == 1:
            index, start, width = runs[0]
            return f"{index} + {divide.format(f'({moment} - {start})', width)}" if width else str(index)
        middle = len(runs) // 2
        return f"CASE WHEN {moment} < {runs[middle][1]} THEN {between(runs[:middle])} ELSE {between(runs[middle:])} END"

    return between(index_runs(bucket_starts) or [(0, 0, 0)])


def of_period(
    period: tuple[int | None, int | None],
    bucket: Bucket | None,
    time_zone: str,
    reach: Callable[[], tuple[int | None, int | None]],
) -> tuple[int, ...]:
    """
    Return where the buckets of a period begin; an open one reaches as far as there is something.

    Args:
        period: Start, inclusive, and end, exclusive, in microseconds since the epoch; either may be open.
        bucket: Width of the buckets; None for none.
        time_zone: IANA name of the zone that they begin in.
        reach: Returns the earliest and the latest moment that there is; None for both where there is none.

    Raises:
        TooManyBucketsError: There are more than `MAX_BUCKETS`.
    """
    if bucket is None:
        return ()
    start, end = period
    if start is None or end is None:
        first, last = reach()
        if first is None or last is None:
            return ()
        start = first if start is None else start
        end = last + 1 if end is None else end
    return starts(bucket, time_zone, start, end - 1) if start < end else ()
