"""Exports of every store, however their ranges and batches are cut."""

from __future__ import annotations

import importlib

import pytest
from flagledger.store import shaping
from flagledger.store.base import Store
from flagledger.store.questions import EXPORT, Filter
from store import naive
from store.filled import ENTRIES, ROWS_EACH, against_time
from store.recorded import Recorded
from support.records import add_evaluation, record_of


@pytest.fixture
def ledger(store: Store) -> Recorded:
    """Return a store of entries of some kilobytes, whose features and times go against the order of receipt."""
    return against_time(store)


@pytest.mark.parametrize("range_bytes", [1, 20_000, 1 << 20])
@pytest.mark.parametrize("batch_bytes", [1, 3_000, 1 << 20])
def test_batches_are_in_the_order_of_receipt(
    ledger: Recorded, kind: str, monkeypatch: pytest.MonkeyPatch, range_bytes: int, batch_bytes: int
) -> None:
    """However ranges and batches are cut, each row is in one, and each batch lies behind the one before."""
    monkeypatch.setattr(importlib.import_module(f"flagledger.store.{kind}.ranges"), "RANGE_BYTES", range_bytes)
    monkeypatch.setattr(shaping, "BATCH_BYTES", batch_bytes)
    asked = Filter(environment=ledger.environment("production"))
    batches = list(ledger.store.export(asked, 0).batches)

    assert {EXPORT} == {batch.schema for batch in batches}
    positions = [position for batch in batches for position in sorted(batch.column("position").to_pylist())]
    assert [row.position for row in naive.export(ledger.rows, asked, 0)] == positions
    assert batch_bytes > 1 or len(batches) == ENTRIES * ROWS_EACH


@pytest.mark.parametrize("behind", [0, 1, ROWS_EACH - 1, ROWS_EACH, 5 * ROWS_EACH + 2, ENTRIES * ROWS_EACH])
def test_it_begins_behind_any_row(ledger: Recorded, behind: int) -> None:
    """It begins behind a row in the middle of an entry as well, and its last position ends it."""
    asked = Filter(environment=ledger.environment("production"))
    after = ledger.rows[behind - 1].position if behind else 0
    export = ledger.store.export(asked, after)

    assert [row.position for row in ledger.rows[behind:]] == [
        position for batch in export.batches for position in sorted(batch.column("position").to_pylist())
    ]
    assert [] == list(ledger.store.export(asked, export.last_position).batches)


def test_what_is_recorded_while_it_is_read_comes_later(ledger: Recorded) -> None:
    """An export ends where the store was when it began; the one behind it has the rest."""
    asked = Filter(environment=ledger.environment("production"))
    export = ledger.store.export(asked, 0)
    record = record_of(environment="production")
    add_evaluation(record, feature_name="later")
    ledger.apply([record])

    assert ENTRIES * ROWS_EACH == sum(batch.num_rows for batch in export.batches)
    (more,) = ledger.store.export(asked, export.last_position).batches
    assert ["later"] == more.column("feature_name").to_pylist()
