from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flagledger.store import questions
from flagledger.store.base import Store
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.intake import IntakeQuestion
from flagledger.store.questions import CountQuestion, ExposureQuestion, Filter, Group
from store import naive
from store.filled import long_texts
from store.recorded import Recorded
from support.chdb import fresh_url, sql
from support.records import START, add_evaluation, record_of

ROWS = 12
DAY = 86_400_000_000

# How what a chunk has brought so far may lie: behind what is there, and before it.
EARLIER = "receive_time - toIntervalDay(3)"
LATER = "receive_time + toIntervalDay(3)"


@pytest.fixture
def url() -> str:
    """Return where a store is that does not exist yet."""
    return fresh_url()


@pytest.fixture
def ledger(url: str) -> Iterator[Recorded]:
    """Return a store of rows with long values, traits and metadata, each of a feature and an identity of its own."""
    ledger = long_texts(ClickHouseStore(url), ROWS)
    yield ledger
    ledger.store.close()


def asked_of(environment: str) -> dict[str, Callable[[Store], object]]:
    """Return every question there is."""
    everything = Filter(environment=environment)
    exposures = ExposureQuestion(environment=environment)
    groups = (Group(kind="feature"), Group(kind="trait", trait_key="k"))
    return {
        "list_features": lambda store: store.list_features(environment, None, None),
        "environments": lambda store: store.environments(),
        "last_seen": lambda store: store.last_seen(environment, ["feature-001"], None),
        "count_evaluations": lambda store: store.count_evaluations(
            CountQuestion(filter=everything, group_by=groups, bucket="day")
        ),
        "list_evaluations": lambda store: store.list_evaluations(everything, 100, None),
        "list_exposures": lambda store: store.list_exposures(exposures, 100, None),
        "count_arms": lambda store: store.count_arms(exposures, 100),
        "list_unknown_features": lambda store: store.list_unknown_features(environment, None, None, frozenset(), 10),
        "intake": lambda store: store.intake(IntakeQuestion(environment=environment, now=START + 3 * DAY)),
        "export": lambda store: [batch.to_pylist() for batch in store.export(everything, 0).batches],
        "last_position": lambda store: store.export(everything, 0).last_position,
        "applied": lambda store: [(each.rows, each.discards, each.set_aside, each.last) for each in store.applied(0)],
        "tally": lambda store: store.tally(0, 1 << 40).sort_by("feature_name"),
    }


@pytest.mark.parametrize("question", asked_of("production"))
def test_what_is_not_committed_is_in_no_answer(ledger: Recorded, url: str, question: str) -> None:
    """Rows of a range that is there in part, received earlier, later or of another environment, are not seen by any question."""
    asked = asked_of(ledger.environment("production"))[question]
    before = asked(ledger.store)

    for changed in (f"{EARLIER} AS receive_time", f"{LATER} AS receive_time", "'other' AS environment"):
        for table in ("evaluations", "discards"):
            sql(url, f"INSERT INTO {table} SELECT * REPLACE (position + 65536 AS position, {changed}) FROM {table}")
    sql(url, "INSERT INTO quarantine SELECT 'journal', max(position) + 1, 'payload', 'wrong', now64(6) FROM chunks")
    after = asked(ledger.store)

    assert before == after
    ((rows,),) = sql(url, "SELECT count() FROM evaluations")
    assert 8 * ROWS == rows


def test_what_is_committed_since_is_in_the_next_answer(ledger: Recorded) -> None:
    """Each question sees what was committed when it was asked."""
    environment = ledger.environment("production")
    record = record_of(environment="production", receive_time=START - 5 * DAY)
    add_evaluation(record, feature_name="feature-01", time=START + 100)
    ledger.apply([record])

    assert naive.list_features(ledger.rows, Filter(environment=environment)) == ledger.store.list_features(
        environment, None, None
    )
    assert questions.MAX_ARMS > len(ledger.store.count_arms(ExposureQuestion(environment=environment), 100)) > 0
