from __future__ import annotations

from collections.abc import Iterator

import pytest
from flagledger.store.clickhouse import export as clickhouse_export
from flagledger.store.clickhouse import ranges as clickhouse_ranges
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.questions import EXPORT, Filter
from store import naive
from store.recorded import Recorded
from support.chdb import fresh_url
from support.records import START, add_evaluation, record_of, value_of

ENTRIES = 30
ROWS_EACH = 4
DAY = 86_400_000_000


@pytest.fixture
def ledger() -> Iterator[Recorded]:
    """Return a store of entries of some kilobytes, whose features and times go against the order of receipt."""
    ledger = Recorded(ClickHouseStore(fresh_url()))
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
        ledger.apply([record])
    yield ledger
    ledger.store.close()


@pytest.mark.parametrize("range_bytes", [1, 20_000, 1 << 20])
@pytest.mark.parametrize("batch_bytes", [1, 3_000, 1 << 20])
def test_batches_are_in_the_order_of_receipt(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, range_bytes: int, batch_bytes: int
) -> None:
    """However ranges and batches are cut, each row is in one, and each batch lies behind the one before."""
    monkeypatch.setattr(clickhouse_ranges, "RANGE_BYTES", range_bytes)
    monkeypatch.setattr(clickhouse_export, "BATCH_BYTES", batch_bytes)
    asked = Filter(environment=ledger.environment("production"))
    batches = list(ledger.store.export(asked, 0).batches)

    assert {EXPORT} == {batch.schema for batch in batches}
    positions = [position for batch in batches for position in sorted(batch.column("position").to_pylist())]
    assert [row.position for row in naive.export(ledger.rows, asked, 0)] == positions
    assert (range_bytes == batch_bytes == 1 << 20) is (len(batches) == 1)


@pytest.mark.parametrize("behind", [0, 1, ROWS_EACH - 1, ROWS_EACH, 5 * ROWS_EACH + 2, ENTRIES * ROWS_EACH])
def test_it_begins_behind_any_row(ledger: Recorded, behind: int) -> None:
    """It begins behind a row in the middle of an entry as well, and its last position ends it."""
    asked = Filter(environment=ledger.environment("production"))
    after = ledger.rows[behind - 1].position if behind else 0
    export = ledger.store.export(asked, after)

    assert [row.position for row in ledger.rows[behind:]] == [
        position for batch in export.batches for position in batch.column("position").to_pylist()
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
