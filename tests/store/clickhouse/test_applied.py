from __future__ import annotations

from collections.abc import Iterator

import pytest
from flagledger.store.applied import SetAside
from flagledger.store.clickhouse import ranges as clickhouse_ranges
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import DISCARDS, ROWS, to_columns
from support.chdb import fresh_url
from support.records import START, add_evaluation, entries_of, record_of

ENTRIES = 40
DAY = 86_400_000_000
# No text, and what a text could not hold.
PAYLOADS = {3: b"\xff\xfe\x00\x80", 17: b"", 18: b"\x00" * 3_000}


@pytest.fixture
def store() -> Iterator[ClickHouseStore]:
    """Return a store of entries of two rows and a discard, some of which were set aside instead."""
    store = ClickHouseStore(fresh_url())
    for first in range(1, ENTRIES + 1, 4):
        records = []
        for position in range(first, first + 4):
            record = record_of(receive_time=START + position * DAY)
            if position not in PAYLOADS:
                record.envelope.discards.add(reason="invalid", name="name", entry_count=position)
                for index in range(2):
                    add_evaluation(record, feature_name=f"feature-{9 - index}", time=START - position)
            records.append(record)
        aside = tuple(
            SetAside(position=position, payload=payload, description=f"wrong: {position}")
            for position, payload in PAYLOADS.items()
            if first <= position < first + 4
        )
        store.apply("journal", first, first + 3, *to_columns(entries_of(records, first)), aside)
    yield store
    store.close()


@pytest.mark.parametrize("range_bytes", [1, 2_000, 1 << 20])
@pytest.mark.parametrize("after", [0, 2, 17, ENTRIES - 1, ENTRIES])
def test_ranges_hold_everything_once(
    store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch, range_bytes: int, after: int
) -> None:
    """Ranges follow one another whatever they may come to, and hold each row, discard and set-aside entry, bytes as they were."""
    monkeypatch.setattr(clickhouse_ranges, "RANGE_BYTES", range_bytes)
    found = list(store.applied(after))

    ends = [after, *(each.last for each in found)]
    assert ends[:-1] == [each.first - 1 for each in found]
    assert ENTRIES == ends[-1]
    wanted = [position for position in range(after + 1, ENTRIES + 1) if position not in PAYLOADS]
    assert [2 * (position << 16) + 1 for position in wanted] == sums(found, "rows")
    assert [position << 16 for position in wanted] == sums(found, "discards")
    assert {(ROWS, DISCARDS)} | {(each.rows.schema, each.discards.schema) for each in found} == {(ROWS, DISCARDS)}
    aside = [entry for each in found for entry in each.set_aside]
    assert [(position, payload) for position, payload in PAYLOADS.items() if position > after] == [
        (entry.position, entry.payload) for entry in aside
    ]
    assert range_bytes > 1 or all(each.first == each.last or each.rows.num_rows <= 2 for each in found)


def sums(found: list[object], name: str) -> list[int]:
    """Return for each entry, in order, the sum of the positions of what it became in batches *name*."""
    entries: dict[int, int] = {}
    for each in found:
        for position in getattr(each, name).column("position").to_pylist():
            entries[position >> 16] = entries.get(position >> 16, 0) + position
    return [entries[entry] for entry in sorted(entries)]


def test_a_tally_is_of_its_range_alone(store: ClickHouseStore) -> None:
    """Bounds are those of entries, the first excluded and the last included, and what lies behind the last one adds nothing."""
    assert 2 * 2 == sum(store.tally(3, 5).column("evaluation_count").to_pylist())
    assert 0 == store.tally(5, 5).num_rows
    assert 2 == sum(store.tally(ENTRIES - 1, ENTRIES + 100).column("evaluation_count").to_pylist())
