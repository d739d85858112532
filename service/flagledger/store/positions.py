"""Positions of rows: each is its entry's position, and in the low bits its index in the entry."""

from __future__ import annotations

from typing import Final

from flagledger.store.columns import INDEX_BITS

ONE_ENTRY: Final = 1 << INDEX_BITS
"""Positions of rows that belong to one entry."""


def end_of(entry: int) -> int:
    """Return the highest position that a row of *entry* may have."""
    return ((entry + 1) << INDEX_BITS) - 1


def of_entries(width: int) -> int:
    """Return *width* as whole entries, one at least."""
    return max(1, width // ONE_ENTRY) * ONE_ENTRY
