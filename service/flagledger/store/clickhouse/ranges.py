"""
What lies behind a position, in ranges of positions that take little memory and little time each.

How much the entries of a longer range come to is asked before they are read, so that no range is read in vain. Nothing is held
between two statements. What lies before the last position does not change meanwhile, but for what is erased: rows are never
altered, and later ones have higher positions. Blocks of rows that hold none of a range are known by their least and highest
position (`INDEX positions`), most of them, since a day's rows lie apart from those of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from flagledger.store.applied import RANGE_BYTES
from flagledger.store.clickhouse.client import Reader
from flagledger.store.columns import INDEX_BITS
from flagledger.store.positions import end_of, of_entries

Reading = Callable[[], AbstractContextManager[Reader]]
"""Opens a reader of one's own."""


ENTRY: Final = f"bitShiftRight(position, {INDEX_BITS})"
"""The position of the entry that a row belongs to, as SQL."""
ROW_BYTES: Final = "200 + ifNull(length(value), 0) + ifNull(length(identity_traits), 0) + ifNull(length(metadata), 0)"
"""What a row comes to in memory, more or less, as SQL."""
BETWEEN: Final = "position > {after:Int64} AND position <= {up_to:Int64}"
"""Rows of a range, as SQL."""

MOST_ENTRIES: Final = 50_000
"""Entries whose sizes are asked for at once, at most."""
# Rows whose sizes are asked for at once, more or less: at first, and when few of those that are looked at are asked for.
_FIRST_ROWS: Final = 500_000
_MOST_ROWS: Final = 5_000_000


def ranges(
    sizes: Callable[[int, int], list[tuple[int, int]]], *, after: int, last: int, rows: int
) -> Iterator[tuple[int, int]]:
    """
    Yield ranges from *after* to *last*, one behind the other, each of `RANGE_BYTES` at most or of a single entry.

    Args:
        sizes: Returns the first `MOST_ENTRIES` entries that lie behind one position up to another, ascending, and what each comes
            to in bytes.
        after: Position of a row behind which the first range begins.
        last: That with which the last one ends; each ends with an entry if *after* and *last* do.
        rows: How many lie between, more or less.
    """
    width, widest = (of_entries((last - after) // (1 + rows // some)) for some in (_FIRST_ROWS, _MOST_ROWS))
    while after < last:
        up_to = min(after + width, last)
        found = sizes(after, up_to)
        if len(found) == MOST_ENTRIES:
            up_to = min(end_of(found[-1][0]), up_to)
        width = min(of_entries(2 * (up_to - after)), widest)
        total = 0
        for entry, size in found:
            if total and total + size > RANGE_BYTES:
                yield after, end_of(entry - 1)
                after, total = end_of(entry - 1), 0
            total += size
        yield after, up_to
        after = up_to
