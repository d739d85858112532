from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flagledger.store import questions, shaping
from flagledger.store.base import Store
from flagledger.store.clickhouse import queries as clickhouse_queries
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.intake import IntakeQuestion
from flagledger.store.questions import CountQuestion, ExposureQuestion, Filter, Group
from flagledger.v1.evaluation_pb2 import IdentityTrait
from store import naive
from store.recorded import Recorded, pages
from support.chdb import fresh_url, sql
from support.records import START, add_evaluation, record_of, value_of

LONG = 5_000
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
    ledger = Recorded(ClickHouseStore(url))
    record = record_of(environment="production")
    record.envelope.discards.add(reason="unknown_feature", name="chekcout", entry_count=2)
    record.envelope.discards.add(reason="invalid", name="evaluations[].value", entry_count=1)
    for number in range(ROWS):
        add_evaluation(
            record,
            feature_name=f"feature-{number:02}",
            time=START + number,
            identity_identifier=f"user-{number}",
            value=value_of(f"{number}" * LONG),
            identity_traits=[IdentityTrait(trait_key="k", trait_value=value_of("é" * LONG))],
        )
        record.evaluations[-1].metadata["k"] = "m" * LONG
    ledger.apply([record])
    yield ledger
    ledger.store.close()


def limit_page(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let a page have room for *size* bytes of texts."""
    monkeypatch.setattr(shaping, "PAGE_BYTES", size)


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (3 * 5 * LONG, 3), (1 << 20, ROWS)])
def test_a_page_has_room_for_some_long_texts(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    """A page ends where its texts come to a limit, holds one row at least, and the next ones have the others, whole."""
    # Values of one and of two digits, traits of two bytes a character, metadata: some four or five times LONG.
    limit_page(monkeypatch, size)
    asked = Filter(environment=ledger.environment("production"))
    page = ledger.store.list_evaluations(asked, 100, None)

    assert expected == len(page.rows)
    assert (expected < ROWS) is (page.next is not None)
    assert naive.list_evaluations(ledger.rows, asked) == pages(
        lambda cursor: ledger.store.list_evaluations(asked, 100, cursor)
    )


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (3 * LONG, 2), (1 << 20, ROWS)])
def test_a_page_of_exposures_has_room_for_some_long_texts(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    """The same of exposures."""
    limit_page(monkeypatch, size)
    asked = ExposureQuestion(environment=ledger.environment("production"))
    page = ledger.store.list_exposures(asked, 100, None)

    assert expected == len(page.rows)
    assert naive.list_exposures(ledger.rows, asked) == pages(
        lambda cursor: ledger.store.list_exposures(asked, 100, cursor)
    )


@pytest.mark.parametrize(("size", "expected"), [(1, 0), (3 * LONG + 100, 3), (1 << 20, ROWS)])
def test_last_values_are_left_out_once_there_is_no_room(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    """The first features by name have their last values, whole, as far as those fit; all others are as ever."""
    monkeypatch.setattr(clickhouse_queries, "LAST_VALUES_BYTES", size)
    environment = ledger.environment("production")
    right = naive.list_features(ledger.rows, Filter(environment=environment)).totals
    found = ledger.store.list_features(environment, None, None).totals

    assert [totals.last_value for totals in right[:expected]] + [None] * (ROWS - expected) == [
        totals.last_value for totals in found
    ]
    assert [totals.evaluation_count for totals in right] == [totals.evaluation_count for totals in found]


def asked_of(environment: str) -> dict[str, Callable[[Store], object]]:
    """Return every question there is."""
    everything = Filter(environment=environment)
    exposures = ExposureQuestion(environment=environment)
    groups = (Group(kind="feature"), Group(kind="trait", trait_key="k"))
    return {
        "list_features": lambda store: store.list_features(environment, None, None),
        "environments": lambda store: store.environments(),
        "last_seen": lambda store: store.last_seen(environment, ["feature-01"], None),
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
