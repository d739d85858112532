"""Answers of every store end where they have no more room for texts."""

from __future__ import annotations

import importlib

import pytest
from flagledger.store.base import Store
from flagledger.store.questions import ExposureQuestion, Filter
from store import naive
from store.filled import LONG, long_texts
from store.recorded import Recorded, pages

ROWS = 12


@pytest.fixture
def ledger(store: Store) -> Recorded:
    """Return a store of rows with long values, traits and metadata, each of a feature and an identity of its own."""
    return long_texts(store, ROWS)


def limit(monkeypatch: pytest.MonkeyPatch, kind: str, name: str, size: int) -> None:
    """Set the limit called *name* to *size*, wherever a store of *kind* looks at it."""
    for place in ("shaping", f"{kind}.queries", f"{kind}.exposures"):
        module = importlib.import_module(f"flagledger.store.{place}")
        if hasattr(module, name):
            monkeypatch.setattr(module, name, size)


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (3 * 5 * LONG, 3), (1 << 20, ROWS)])
def test_a_page_has_room_for_some_long_texts(
    ledger: Recorded, kind: str, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    """A page ends where its texts come to a limit, holds one row at least, and the next ones have the others, whole."""
    # Values, traits of two bytes a character, metadata: a little more than four times LONG.
    limit(monkeypatch, kind, "PAGE_BYTES", size)
    asked = Filter(environment=ledger.environment("production"))
    page = ledger.store.list_evaluations(asked, 100, None)

    assert expected == len(page.rows)
    assert (expected < ROWS) is (page.next is not None)
    assert naive.list_evaluations(ledger.rows, asked) == pages(
        lambda cursor: ledger.store.list_evaluations(asked, 100, cursor)
    )


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (3 * LONG, 2), (1 << 20, ROWS)])
def test_a_page_of_exposures_has_room_for_some_long_texts(
    ledger: Recorded, kind: str, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    """The same of exposures."""
    limit(monkeypatch, kind, "PAGE_BYTES", size)
    asked = ExposureQuestion(environment=ledger.environment("production"))
    page = ledger.store.list_exposures(asked, 100, None)

    assert expected == len(page.rows)
    assert naive.list_exposures(ledger.rows, asked) == sorted(
        pages(lambda cursor: ledger.store.list_exposures(asked, 100, cursor)), key=lambda row: row.feature_name
    )


@pytest.mark.parametrize(("size", "expected"), [(1, 0), (3 * LONG + 100, 3), (1 << 20, ROWS)])
def test_last_values_are_left_out_once_there_is_no_room(
    ledger: Recorded, kind: str, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    """The first features by name have their last values, whole, as far as those fit; all others are as ever."""
    limit(monkeypatch, kind, "LAST_VALUES_BYTES", size)
    environment = ledger.environment("production")
    right = naive.list_features(ledger.rows, Filter(environment=environment)).totals
    found = ledger.store.list_features(environment, None, None).totals

    assert [totals.last_value for totals in right[:expected]] + [None] * (ROWS - expected) == [
        totals.last_value for totals in found
    ]
    assert [totals.evaluation_count for totals in right] == [totals.evaluation_count for totals in found]
