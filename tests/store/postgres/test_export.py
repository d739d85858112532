from __future__ import annotations

from typing import Any

import psycopg
import pytest
from flagledger.store import shaping
from flagledger.store.postgres import ranges as postgres_ranges
from flagledger.store.postgres.store import PostgresStore
from flagledger.store.questions import EXPORT, Filter
from store import naive
from store.filled import ENTRIES, ROWS_EACH, against_time
from store.recorded import Recorded
from support.records import START

DAY = 86_400_000_000


@pytest.fixture
def ledger(store: PostgresStore) -> Recorded:
    """Return a store of entries of some kilobytes, whose features and times go against the order of receipt."""
    return against_time(store)


@pytest.mark.parametrize("range_bytes", [1, 20_000, 1 << 20])
@pytest.mark.parametrize("batch_bytes", [1, 3_000, 1 << 20])
@pytest.mark.parametrize("max_rows", [1, 50, 1_000])
def test_batches_are_in_the_order_of_receipt(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, range_bytes: int, batch_bytes: int, max_rows: int
) -> None:
    """However ranges and batches are cut, each row is in one, and each batch lies behind the one before."""
    monkeypatch.setattr(postgres_ranges, "RANGE_BYTES", range_bytes)
    monkeypatch.setattr(postgres_ranges, "MAX_ROWS", max_rows)
    monkeypatch.setattr(shaping, "BATCH_BYTES", batch_bytes)
    asked = Filter(environment=ledger.environment("production"))
    batches = list(ledger.store.export(asked, 0).batches)

    assert {EXPORT} == {batch.schema for batch in batches}
    positions = [position for batch in batches for position in sorted(batch.column("position").to_pylist())]
    assert [row.position for row in naive.export(ledger.rows, asked, 0)] == positions
    whole = range_bytes == batch_bytes == 1 << 20 and max_rows == 1_000
    assert whole is (len(batches) == 1)


def test_no_transaction_is_open_between_two_batches(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, administrator: psycopg.Connection[Any]
) -> None:
    """While somebody reads slowly, the server may clear up, and a day may be dropped: what is left comes."""
    monkeypatch.setattr(postgres_ranges, "RANGE_BYTES", 20_000)
    asked = Filter(environment=ledger.environment("production"))
    batches = ledger.store.export(asked, 0).batches
    first = next(batches)

    open_ones = administrator.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'flagledger%' AND xact_start IS NOT NULL"
    ).fetchall()
    assert [(0,)] == open_ones
    assert ENTRIES // 3 * ROWS_EACH == ledger.store.drop_before((START // DAY + 1) * DAY)
    left = [position for batch in batches for position in batch.column("position").to_pylist()]
    beyond = max(first.column("position").to_pylist())
    kept = [row.position for row in ledger.rows if row.receive_time >= START + DAY and row.position > beyond]
    assert kept == sorted(left)
