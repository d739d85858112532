from __future__ import annotations

from collections.abc import Iterator

import pytest
from flagledger.store.clickhouse import sql as clickhouse_sql
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.intake import IntakeQuestion
from flagledger.store.questions import (
    MAX_TIME,
    MIN_TIME,
    CountQuestion,
    ExposureQuestion,
    Filter,
)
from store import naive
from store.filled import many_rows
from store.naive_rows import Row
from store.recorded import Recorded
from support.askable import moment
from support.chdb import fresh_url
from support.records import add_evaluation, record_of


@pytest.fixture(scope="module")
def ledger() -> Iterator[Recorded]:
    """Return a store of many rows of two large features and a small one, and the rows."""
    ledger = many_rows(ClickHouseStore(fresh_url()))
    yield ledger
    ledger.store.close()


def test_a_period_may_reach_beyond_what_is_kept(ledger: Recorded) -> None:
    """A start in the year 1 and an end in the year 9999 are no bounds, and beyond each other they leave nothing."""
    environment = ledger.environment("production")
    everything = naive.list_features(ledger.rows, Filter(environment=environment))
    store = ledger.store

    assert everything == store.list_features(environment, MIN_TIME, MAX_TIME)
    assert () == store.list_features(environment, MAX_TIME, None).totals
    assert () == store.list_features(environment, None, MIN_TIME).totals
    intake = IntakeQuestion(environment=environment, start=MIN_TIME, end=MAX_TIME, now=MIN_TIME)
    assert naive.intake(ledger.rows, ledger.discards, intake) == store.intake(intake)


@pytest.mark.parametrize("before", [600, 0], ids=["many", "few"])
def test_months_may_be_many(ledger: Recorded, before: int) -> None:
    """Buckets of uneven width, more than a hundred years of them, hold what they are to, at their very bounds too."""
    months = [moment(f"{1970 + number // 12}-{number % 12 + 1:02}-01T00:00") for number in range(700)]
    record = record_of(environment="production")
    for number in (600, 601, 650, 699):
        for time in (months[number] - 1, months[number]):
            add_evaluation(record, time=time, count=number)
    other = Recorded(ledger.store)
    other.apply([record])
    asked = Filter(environment=other.environment("production"), start=months[600 - before], end=months[699] + 1)

    counts = other.store.count_evaluations(CountQuestion(filter=asked, bucket="month"))

    assert tuple(months[600 - before :]) == counts.bucket_starts
    expected = {
        number: sum(row.count for row in other.rows if bounds(months, number, row)) for number in range(599, 700)
    }
    (series,) = counts.series
    found = {600 - before + index: point.evaluation_count for index, point in enumerate(series.points)}
    assert {number: count for number, count in expected.items() if count and number in found} == {
        number: count for number, count in found.items() if count
    }


def bounds(months: list[int], number: int, row: Row) -> bool:
    """Return whether *row* lies in the month *number*."""
    return months[number] <= row.evaluation_time and (number == 699 or row.evaluation_time < months[number + 1])


def test_a_list_may_be_longer_than_a_parameter(ledger: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked in parts is answered as a whole, in order."""
    monkeypatch.setattr(clickhouse_sql, "_PARAMETER_BYTES", 70)
    environment, store = ledger.environment("production"), ledger.store
    asked, exposures = Filter(environment=environment), ExposureQuestion(environment=environment)
    expected = naive.list_features(ledger.rows, asked)
    times = {totals.feature_name: totals.last_evaluation_time for totals in expected.totals}

    assert expected == store.list_features(environment, None, None)
    assert times == store.last_seen(environment, [*times, "other", "others"], None)
    assert naive.list_evaluations(ledger.rows, asked)[:20] == list(store.list_evaluations(asked, 20, None).rows)
    found = list(store.list_exposures(exposures, 20, None).rows)
    monkeypatch.undo()
    assert list(store.list_exposures(exposures, 20, None).rows) == found
    assert 20 == len(found)


def test_parts_hold_as_much_as_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out, and a part is small enough or holds one thing alone."""
    monkeypatch.setattr(clickhouse_sql, "_PARAMETER_BYTES", 100)
    names = ["é" * length for length in (0, 10, 10, 60, 3, 3, 3, 3)]

    parts = list(clickhouse_sql.at_once(names, str))

    assert names == [name for part in parts for name in part]
    assert [2, 1, 1, 3, 1] == list(map(len, parts))
    assert [] == list(clickhouse_sql.at_once([], str))


def test_names_that_are_known_may_be_many(ledger: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names are known, none of them is unknown."""
    record = record_of(environment="production")
    for number in range(9):
        record.envelope.discards.add(reason="unknown_feature", name=f"name-{number}", entry_count=1 + number)
    other = Recorded(ledger.store)
    other.apply([record])
    monkeypatch.setattr(clickhouse_sql, "_PARAMETER_BYTES", 70)
    for count in (0, 1, 7, 9):
        known = frozenset(f"name-{number}" for number in range(count))
        period = (other.environment("production"), None, None, known, 100)

        assert naive.list_unknown_features(other.discards, *period) == ledger.store.list_unknown_features(*period)
