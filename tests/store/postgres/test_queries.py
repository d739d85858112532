from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from flagledger.store.postgres import exposures as postgres_exposures
from flagledger.store.postgres import queries as postgres_queries
from flagledger.store.postgres.sql import Reader, ask
from flagledger.store.postgres.store import PostgresStore
from flagledger.store.questions import (
    LAST_VALUES_BYTES,
    PAGE_BYTES,
    CountQuestion,
    ExposureQuestion,
    Filter,
    Group,
)
from flagledger.v1.evaluation_pb2 import IdentityTrait
from store import naive
from store.recorded import Recorded, pages
from support.records import START, add_evaluation, record_of, value_of

LONG = 5_000
ROWS = 12


@pytest.fixture
def ledger(store: PostgresStore) -> Recorded:
    """Return a store of rows with long values, traits and metadata, each of a feature and an identity of its own."""
    return filled(store, ROWS, LONG)


def filled(store: PostgresStore, rows: int, size: int) -> Recorded:
    """Return *store* with so many *rows*, of which values, traits and metadata have some *size*."""
    ledger = Recorded(store)
    record = record_of(environment="production")
    for number in range(rows):
        add_evaluation(
            record,
            feature_name=f"feature-{number:03}",
            time=START + number,
            identity_identifier=f"user-{number}",
            value=value_of(f"{number % 10}" * size),
            identity_traits=[IdentityTrait(trait_key="k", trait_value=value_of("é" * size))],
        )
        record.evaluations[-1].metadata["k"] = "m" * size
    ledger.apply([record])
    return ledger


@pytest.mark.parametrize(("size", "expected"), [(1, 1), (3 * 5 * LONG, 3), (1 << 20, ROWS)])
def test_a_page_has_room_for_some_long_texts(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, size: int, expected: int
) -> None:
    """A page ends where its texts come to a limit, holds one row at least, and the next ones have the others, whole."""
    # Values, traits of two bytes a character, metadata: a little more than four times LONG.
    monkeypatch.setattr(postgres_queries, "PAGE_BYTES", size)
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
    monkeypatch.setattr(postgres_exposures, "PAGE_BYTES", size)
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
    monkeypatch.setattr(postgres_queries, "LAST_VALUES_BYTES", size)
    environment = ledger.environment("production")
    right = naive.list_features(ledger.rows, Filter(environment=environment)).totals
    found = ledger.store.list_features(environment, None, None).totals

    assert [totals.last_value for totals in right[:expected]] + [None] * (ROWS - expected) == [
        totals.last_value for totals in found
    ]
    assert [totals.evaluation_count for totals in right] == [totals.evaluation_count for totals in found]


def test_no_question_fetches_texts_that_its_answer_has_no_room_for(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows that come to many times a page, the server sends one page's texts."""
    sent: list[int] = []

    def counting(reader: Reader, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        rows = ask(reader, statement, parameters)
        sent.append(sum(len(value) for row in rows for value in row if isinstance(value, str)))
        return rows

    for module in (postgres_queries, postgres_exposures):
        monkeypatch.setattr(module, "ask", counting)
    ledger = filled(store, 200, 120 << 10)
    environment = ledger.environment("production")
    asked = {
        "evaluations": (PAGE_BYTES, lambda: store.list_evaluations(Filter(environment=environment), 1_000, None)),
        "exposures": (
            PAGE_BYTES,
            lambda: store.list_exposures(ExposureQuestion(environment=environment), 1_000, None),
        ),
        "features": (LAST_VALUES_BYTES, lambda: store.list_features(environment, None, None)),
    }

    for name, (room, question) in asked.items():
        sent.clear()
        question()
        assert room // 2 < sum(sent) < room + (64 << 10), name


def test_the_rest_counts_each_identity_once(store: PostgresStore) -> None:
    """An identity that is in several of the series that are not kept is one of the rest, in each bucket and in all."""
    ledger = Recorded(store)
    record = record_of(environment="production")
    for number in range(40):
        add_evaluation(
            record,
            time=START + number % 3 * 3_600_000_000,
            variant=f"v{number % 8}",
            identity_identifier=f"user-{number % 5}",
            segment_names=["a", "b", "a"][: number % 4],
        )
    ledger.apply([record])
    for kinds in (("variant",), ("segment", "variant"), ()):
        question = CountQuestion(
            filter=Filter(environment=ledger.environment("production")),
            group_by=tuple(Group(kind=kind) for kind in kinds),
            bucket="hour",
            series_limit=2,
        )
        assert naive.count_evaluations(ledger.rows, question) == store.count_evaluations(question)
