from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flagledger.store import sampling
from flagledger.store.clickhouse import queries as clickhouse_queries
from flagledger.store.clickhouse import sql as clickhouse_sql
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.intake import IntakeQuestion
from flagledger.store.questions import (
    MAX_TIME,
    MIN_TIME,
    CountQuestion,
    Counts,
    ExposureQuestion,
    FeatureTotals,
    Filter,
    Group,
    Tally,
)
from flagledger.v1.evaluation_pb2 import IdentityTrait
from store import naive
from store.naive_rows import Row
from store.recorded import Recorded
from support.askable import moment
from support.chdb import fresh_url
from support.records import START, add_evaluation, record_of, value_of

ROWS = 20_000
IDENTITIES = 3_000


@pytest.fixture(scope="module")
def ledger() -> Iterator[Recorded]:
    """Return a store of many rows of two large features and a small one, and the rows."""
    chance = random.Random(4)
    ledger = Recorded(ClickHouseStore(fresh_url()))
    record = record_of(environment="production")
    for number in range(ROWS):
        add_evaluation(
            record,
            feature_name="small" if number % 40 == 0 else chance.choice(["large", "larger", "larger"]),
            time=START + number * 1_000_000,
            identity_identifier=f"user_{chance.randrange(IDENTITIES)}",
            enabled=chance.random() < 0.5,
            count=chance.randint(1, 3),
            value=value_of(chance.choice(["on", "off"])),
            identity_traits=[IdentityTrait(trait_key="plan", trait_value=value_of("pro"))],
        )
    ledger.apply([record])
    yield ledger
    ledger.store.close()


@pytest.fixture
def _sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let identities be sampled where rows are many, and many be few."""
    for module in (sampling, clickhouse_queries):
        monkeypatch.setattr(module, "EXACT_ROWS", 4_000)
        monkeypatch.setattr(module, "SAMPLE_ROWS", 4_000)
    monkeypatch.setattr(clickhouse_queries, "SMALL_ROWS", 1_000)


def counts_of(ledger: Recorded, **fields: object) -> tuple[Counts, Counts]:
    """Return the right answer to a question with *fields*, and the store's."""
    asked = Filter(environment=ledger.environment("production"), **fields)  # type: ignore[arg-type]
    question = CountQuestion(filter=asked, group_by=(Group(kind="enabled"),), bucket="hour")
    expected = naive.count_evaluations(ledger.rows, question)
    assert expected is not None
    return expected, ledger.store.count_evaluations(question)


def without_identities(tally: Tally) -> Tally:
    """Return *tally* without what may be an estimate."""
    return replace(tally, identity_count=0)


@pytest.mark.usefixtures("_sampled")
@pytest.mark.parametrize("fields", [{}, {"trait_key": "plan", "trait_value": '"pro"'}], ids=["all", "by a trait"])
def test_counts_of_many_rows_estimate_identities_alone(ledger: Recorded, fields: dict[str, object]) -> None:
    """Over many rows identities are estimates near the truth, and said to be; evaluations are counted one by one."""
    expected, found = counts_of(ledger, **fields)

    assert found.identities_approximate
    assert expected.bucket_starts == found.bucket_starts
    for right, series in zip(expected.series, found.series, strict=True):
        assert right.groups == series.groups
        assert without_identities(right.total) == without_identities(series.total)
        assert list(map(without_identities, right.points)) == list(map(without_identities, series.points))
        assert pytest.approx(right.total.identity_count, rel=0.15) == series.total.identity_count
        assert series.total.identity_count != right.total.identity_count


@pytest.mark.usefixtures("_sampled")
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"identity_identifier": "user_7"}, id="one identity"),
        pytest.param({"feature_name": "small"}, id="few rows"),
        pytest.param({"start": START + 15_000 * 1_000_000 + 1_000_000_000}, id="a short period"),
    ],
)
def test_counts_of_few_rows_are_exact(ledger: Recorded, fields: dict[str, object]) -> None:
    """Where few rows are asked about, identities are told apart one by one, however many there are beside them."""
    expected, found = counts_of(ledger, **fields)

    assert expected == found


def test_counts_below_the_threshold_are_exact(ledger: Recorded) -> None:
    """Some thousand rows are few."""
    expected, found = counts_of(ledger)

    assert expected == found


@pytest.mark.usefixtures("_sampled")
def test_one_identity_of_many_rows_is_no_estimate(ledger: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows an identity has, it is one."""
    monkeypatch.setattr(sampling, "EXACT_ROWS", 1)
    monkeypatch.setattr(sampling, "SAMPLE_ROWS", 1)
    expected, found = counts_of(ledger, identity_identifier="user_7")

    assert expected == found


@pytest.mark.usefixtures("_sampled")
def test_features_of_many_rows_estimate_identities_alone(ledger: Recorded) -> None:
    """Identities of large features are estimates near the truth, and said to be; all other numbers are exact."""
    environment = ledger.environment("production")
    expected = naive.list_features(ledger.rows, Filter(environment=environment))
    found = ledger.store.list_features(environment, None, None)

    assert {"large": True, "larger": True, "small": False} == {
        totals.feature_name: totals.identities_approximate for totals in found.totals
    }
    for right, totals in zip(expected.totals, found.totals, strict=True):
        assert without_estimates(right) == without_estimates(totals)
        if not totals.identities_approximate:
            assert right == totals
        for name in ("identity_count", "multiple_value_identity_count"):
            assert pytest.approx(getattr(right, name), rel=0.15) == getattr(totals, name)


def without_estimates(totals: FeatureTotals) -> FeatureTotals:
    """Return *totals* without what may be an estimate."""
    return replace(totals, identity_count=0, multiple_value_identity_count=0, identities_approximate=False)


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
