"""How many identities are told apart one by one, and beyond that, which share of them."""

from __future__ import annotations

from typing import Final

EXACT_ROWS: Final = 1_000_000
"""Rows up to which identities are told apart one by one."""
SAMPLE_ROWS: Final = 200_000
"""Rows of which, beyond that, identities are sampled: as many at least."""
MAX_SAMPLING: Final = 64
"""One in so many identities is in a sample at least: where more rows are read than that leaves, a larger one costs little."""


def mask_for(rows: int) -> int:
    """Return the mask that leaves so many of *rows* as can be told apart in time; 0 where all can."""
    if rows <= EXACT_ROWS:
        return 0
    return min(1 << (rows // SAMPLE_ROWS).bit_length() - 1, MAX_SAMPLING) - 1
