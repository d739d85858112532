"""
What lies behind a position, read in ranges of positions that take little memory and little time each.

Nothing is held between two ranges: a transaction that stays open while somebody reads slowly would keep the server from clearing
up after what is erased. What lies before the last position does not change meanwhile, but for that: rows are never altered, and
later ones have higher positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

from flagledger.store.applied import RANGE_BYTES
from flagledger.store.columns import INDEX_BITS
from flagledger.store.positions import ONE_ENTRY, of_entries
from flagledger.store.postgres.sql import Reader, ask, room

T = TypeVar("T")
Reading = Callable[[], AbstractContextManager[Reader]]
"""Opens a reader of one's own."""

MAX_ROWS: Final = 100_000
"""Rows that are looked at in a range of several entries, however few of them are asked for."""
BETWEEN: Final = "position > %(after)s AND position <= %(up_to)s"
"""Condition for the rows of a range."""
ROW_BYTES: Final = room(
    150,
    "environment",
    "feature_name",
    "value",
    "identity_identifier",
    "identity_traits",
    "array_to_string(segment_names, '')",
    "variant",
    "reason",
    "metadata",
    "batch_id",
    "sdk_name",
    "sdk_version",
)
"""SQL for what a row of evaluations comes to in memory."""

_FIRST_ENTRIES: Final = 256
_MAX_GROWTH: Final = 8

_LOOK: Final = "SELECT count(*) FROM (SELECT FROM ({looked}) AS looked LIMIT {most}) AS found"
_FIT: Final = """
    SELECT min(position) FROM (
        SELECT position, sum(bytes) OVER (ORDER BY position ROWS UNBOUNDED PRECEDING) AS total FROM ({sized}) AS sized
    ) AS summed WHERE total > {most}
"""


def walk(
    reading: Reading,
    read: Callable[[Reader, int, int], T],
    *,
    looked: str,
    sized: str,
    parameters: Mapping[str, Any],
    after: int,
    last: int,
) -> Iterator[T]:
    """
    Yield what *read* makes of each range between *after* and *last*.

    Args:
        reading: Opens a reader.
        read: Reads what lies behind one position up to another.
        looked: SQL for a row for each that is looked at where `BETWEEN` holds.
        sized: SQL for position and bytes of each that *read* reads there.
        parameters: Of *sized*, beside those of the range.
        after: Position of a row behind which the first range begins,
        last: that with which the last one ends. Every range ends with an entry. A single entry is read whatever it holds: a
            request's size bounds it.
    """
    width = _FIRST_ENTRIES * ONE_ENTRY
    while after < last:
        up_to = min(after + width, last) | (ONE_ENTRY - 1)
        with reading() as reader:
            between = {"after": after, "up_to": up_to}
            ((rows,),) = ask(reader, _LOOK.format(looked=looked, most=MAX_ROWS + 1), between)
            if rows > MAX_ROWS and width > ONE_ENTRY:
                width = of_entries(width // 4)
                continue
            if rows:
                up_to = _fit(reader, sized, {**parameters, **between})
            found = read(reader, after, up_to)
        after = up_to
        width = of_entries(width * min(_MAX_GROWTH * MAX_ROWS, MAX_ROWS * MAX_ROWS // max(rows, 1)) // (2 * MAX_ROWS))
        yield found
        # It is not held while the next one is read.
        del found


def _fit(reader: Reader, sized: str, parameters: Mapping[str, Any]) -> int:
    """Return where a range ends that comes to `RANGE_BYTES`, or consists of one entry."""
    ((beyond,),) = ask(reader, _FIT.format(sized=sized, most=RANGE_BYTES), parameters)
    if beyond is None:
        return int(parameters["up_to"])
    # What has no room any more begins the next one, unless it would begin this one.
    before = (int(beyond) >> INDEX_BITS << INDEX_BITS) - 1
    return before if before > parameters["after"] else before + ONE_ENTRY
