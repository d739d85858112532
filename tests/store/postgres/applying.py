"""Simple entries into a store, and what it then holds."""

from __future__ import annotations

from typing import Any

import psycopg
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from support.records import simple_entry

EVALUATIONS = 3
"""Evaluations of a simple entry."""


def apply(store: Store, first: int, last: int) -> None:
    """Apply simple entries *first* to *last*."""
    store.apply("journal", first, last, *to_columns([simple_entry(position) for position in range(first, last + 1)]))


def identities(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the identities of every row, in the order of the rows' positions."""
    return [name for (name,) in connection.execute("SELECT identity_identifier FROM evaluations ORDER BY position")]


def expected_identities(last: int) -> list[str]:
    """Return the identities of simple entries up to *last*."""
    return [f"{position}/{i}" for position in range(1, last + 1) for i in range(EVALUATIONS)]
