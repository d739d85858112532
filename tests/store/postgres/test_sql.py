from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import get_args

import pytest
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from flagledger.store.conditions import Conditions
from flagledger.store.postgres import sql as postgres_sql
from flagledger.store.postgres.counts import _group
from flagledger.store.postgres.sql import ARM, Moment, ask, conditions
from flagledger.store.postgres.store import PostgresStore
from flagledger.store.questions import (
    MAX_TIME,
    MIN_TIME,
    ExposureQuestion,
    Features,
    Filter,
    Group,
    GroupKind,
    Page,
)
from flagledger.v1.evaluation_pb2 import IdentityTrait
from store import naive
from store.filled import MANY, many_rows
from store.recorded import Recorded
from support.postgres import fresh_store_url
from support.records import START, add_evaluation, entries_of, record_of, value_of


@pytest.fixture(scope="module")
def many() -> Iterator[Recorded]:
    """Return a store of many rows of two large features and a small one, and the rows."""
    ledger = many_rows(PostgresStore(fresh_store_url()))
    yield ledger
    ledger.store.close()


def test_an_estimate_looks_at_few_pages(many: Recorded) -> None:
    """What a question is estimated by is a small part of the rows."""
    looked = f"SELECT count(*) FROM {postgres_sql._SAMPLE}"
    with many.store._reading(None) as reader:  # type: ignore[attr-defined]
        ((rows,),) = ask(reader, looked)

    assert rows < MANY // 20


@pytest.mark.parametrize("time", [MIN_TIME, -1, 0, START + 1, MAX_TIME])
def test_times_come_and_go_exactly(store: PostgresStore, time: int) -> None:
    """A moment is the same microsecond as a parameter, in a list of them, and in an answer."""
    with store._reading(None) as reader:
        found = ask(
            reader,
            "SELECT %(time)s, (%(times)b)[1], extract(epoch FROM %(time)s)::numeric * 1000000 = %(number)s",
            {"time": Moment(time), "times": [Moment(time)], "number": time},
        )

    assert [(time, time, True)] == found


NOTHING: dict[str, tuple[Callable[[Store], object], object]] = {
    name: (
        lambda store, name=name: store.list_evaluations(Filter(**{"environment": "production", name: "a\0"}), 1, None),
        Page(rows=(), next=None),
    )
    for name in (
        "environment",
        "feature_name",
        "identity_identifier",
        "segment_name",
        "variant",
        "reason",
        "trait_key",
        "sdk_name",
        "sdk_version",
    )
} | {
    "features": (
        lambda store: store.list_features("a\0", None, None, None, "b\0"),
        Features(totals=(), data_since=None),
    ),
    "last seen": (lambda store: store.last_seen("production", ["a\0"], None), {}),
    "exposures": (lambda store: store.list_exposures(ExposureQuestion(environment="a\0"), 1, None).rows, ()),
    "unknown features": (
        lambda store: store.list_unknown_features("production", None, None, frozenset(["a\0"]), 1).names,
        (),
    ),
}


@pytest.mark.parametrize("question", NOTHING)
def test_what_no_row_can_hold_finds_nothing(store: PostgresStore, question: str) -> None:
    """A text with U+0000, which PostgreSQL does not take, is no error to ask for."""
    record = record_of(environment="production")
    add_evaluation(record, identity_traits=[IdentityTrait(trait_key="plan", trait_value=value_of("pro"))])
    store.apply("journal", 1, 1, *to_columns(entries_of([record])))
    asked, expected = NOTHING[question]

    assert expected == asked(store)


def test_a_null_character_spoils_no_other_row(store: PostgresStore) -> None:
    """JSON with U+0000, which PostgreSQL cannot decode, is kept, and the questions about traits and arms are answered."""
    ledger = Recorded(store)
    record = record_of(environment="production")
    for number, value in enumerate(("a\0b", "\\u0000", "plain")):
        add_evaluation(
            record,
            identity_identifier=f"{number}",
            value=value_of(value),
            identity_traits=[
                IdentityTrait(trait_key=key, trait_value=value_of(text))
                for key, text in (("\0", "x"), ("plan", "\\u0000 pro"), ("plan", "free"), ("once", "ch"))
            ],
        )
    ledger.apply([record])
    environment = ledger.environment("production")
    for key, text in (("plan", '"\\\\u0000 pro"'), ("once", '"ch"')):
        asked = Filter(environment=environment, trait_key=key, trait_value=text)
        page = store.list_evaluations(asked, 10, None)
        assert 3 == len(page.rows)
        assert naive.list_evaluations(ledger.rows, asked) == list(page.rows)
    (arms,) = store.count_arms(ExposureQuestion(environment=environment), 1)
    assert (("\\u0000", 1), ("a\ufffdb", 1), ("plain", 1)) == arms.arms


@pytest.mark.parametrize("kind", [kind for kind in get_args(GroupKind) if kind not in ("enabled", "origin")])
def test_groups_are_in_the_order_of_code_points(store: PostgresStore, kind: GroupKind) -> None:
    """Whatever order a database has by default, what series are called is in that of code points."""
    asked = conditions(Filter(environment="production"))
    columns, text = _group(asked, Group(kind=kind, trait_key="k"), 0)
    assert '"C"' == collation(store, text.format(*columns), asked)


def test_arms_are_in_the_order_of_code_points(store: PostgresStore) -> None:
    """So are arms."""
    assert '"C"' == collation(store, ARM, conditions(Filter(environment="production")))


def collation(store: PostgresStore, text: str, asked: Conditions) -> str:
    """Return what orders the *text* of a row."""
    record = record_of(environment="production")
    add_evaluation(record)
    store.apply("journal", 1, 1, *to_columns(entries_of([record])))
    with store._reading(None) as reader:
        ((found,),) = ask(
            reader, f"SELECT pg_collation_for({text}) FROM {asked.source} WHERE {asked.where}", asked.parameters
        )
    return str(found)
