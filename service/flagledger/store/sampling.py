"""How many identities are told apart one by one, and beyond that, which share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

EXACT_ROWS: Final = 1_000_000
"""Rows up to which identities are told apart one by one."""
SAMPLE_ROWS: Final = 200_000
"""Rows of which, beyond that, identities are sampled: as many at least."""
MAX_SAMPLING: Final = 64
"""One in so many identities is in a sample at least: where more rows are read than that leaves, a larger one costs little."""

SMALL_ROWS: Final = 10_000
"""Rows up to which the identities of a feature are told apart one by one, however many rows the others have."""

ToldApart = Callable[[int, list[str] | None], Iterable[tuple[str, int, int]]]
"""
Returns features, their identities, and how many of those saw several values: of the identities that a mask leaves, and of the
features of some names, or of all.
"""


def mask_for(rows: int) -> int:
    """Return the mask that leaves so many of *rows* as can be told apart in time; 0 where all can."""
    if rows <= EXACT_ROWS:
        return 0
    return min(1 << (rows // SAMPLE_ROWS).bit_length() - 1, MAX_SAMPLING) - 1


def identities(entries: Mapping[str, int], told_apart: ToldApart) -> dict[str, tuple[int, int, bool]]:
    """
    Return distinct identities of each feature, those that saw several values, and whether the two are estimates.

    Args:
        entries: Rows of each feature.
        told_apart: Asks the engine.
    """

    def found(mask: int, names: list[str] | None) -> dict[str, tuple[int, int, bool]]:
        weight = mask + 1
        return {
            name: (count * weight, several * weight, bool(mask)) for name, count, several in told_apart(mask, names)
        }

    none = dict.fromkeys(entries, (0, 0, False))
    left = sum(entries.values())
    if left <= EXACT_ROWS:
        return none | found(0, None)
    # The small ones exactly, of which a sample says little, as far as that is cheap; for the others it does.
    exact: list[str] = []
    for name in sorted(entries, key=lambda name: (entries[name], name)):
        if entries[name] > SMALL_ROWS or sum(entries.values()) - left + entries[name] > SAMPLE_ROWS:
            break
        exact.append(name)
        left -= entries[name]
    mask = mask_for(left)
    sampled = none | {name: (0, 0, bool(mask)) for name in entries} | found(mask, None)
    return sampled | dict.fromkeys(exact, (0, 0, False)) | (found(0, exact) if exact else {})
