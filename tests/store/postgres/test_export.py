from __future__ import annotations

from typing import Any

import psycopg
import pytest
from flagledger.store.postgres import export as postgres_export
from flagledger.store.postgres import ranges as postgres_ranges
from flagledger.store.postgres.store import PostgresStore
from flagledger.store.questions import EXPORT, Filter
from store import naive
from store.recorded import Recorded
from support.records import START, add_evaluation, record_of, value_of

ENTRIES = 30
ROWS_EACH = 4
DAY = 86_400_000_000


@pytest.fixture
def ledger(store: PostgresStore) -> Recorded:
    """Return a store of entries of some kilobytes, whose features and times go against the order of receipt."""
    ledger = Recorded(store)
    records = []
    for number in range(ENTRIES):
        record = record_of(environment="production", receive_time=START + number % 3 * DAY)
        for row in range(ROWS_EACH):
            add_evaluation(
                record,
                feature_name=f"feature-{9 - row}",
                time=START - number * DAY,
                identity_identifier=f"user-{number}",
                value=value_of("v" * (10_000 if number % 7 == 0 else 100)),
            )
        records.append(record)
    ledger.apply(records)
    return ledger


@pytest.mark.parametrize("range_bytes", [1, 20_000, 1 << 20])
@pytest.mark.parametrize("batch_bytes", [1, 3_000, 1 << 20])
@pytest.mark.parametrize("max_rows", [1, 50, 1_000])
def test_batches_are_in_the_order_of_receipt(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, range_bytes: int, batch_bytes: int, max_rows: int
) -> None:
    """However ranges and batches are cut, each row is in one, and each batch lies behind the one before."""
    monkeypatch.setattr(postgres_ranges, "RANGE_BYTES", range_bytes)
    monkeypatch.setattr(postgres_ranges, "MAX_ROWS", max_rows)
    monkeypatch.setattr(postgres_export, "BATCH_BYTES", batch_bytes)
    asked = Filter(environment=ledger.environment("production"))
    batches = list(ledger.store.export(asked, 0).batches)

    assert {EXPORT} == {batch.schema for batch in batches}
    positions = [position for batch in batches for position in sorted(batch.column("position").to_pylist())]
    assert [row.position for row in naive.export(ledger.rows, asked, 0)] == positions
    whole = range_bytes == batch_bytes == 1 << 20 and max_rows == 1_000
    assert whole is (len(batches) == 1)


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
