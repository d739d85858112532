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
from store import naive
from store.filled import long_texts
from store.recorded import Recorded
from support.records import START, add_evaluation, record_of


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
    ledger = long_texts(store, 200, 120 << 10)
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
