from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import get_args

import pytest
from flagledger.store import sampling
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from flagledger.store.conditions import Conditions
from flagledger.store.postgres import queries as postgres_queries
from flagledger.store.postgres import sql as postgres_sql
from flagledger.store.postgres.counts import _group
from flagledger.store.postgres.sql import ARM, Moment, ask, conditions
from flagledger.store.postgres.store import PostgresStore
from flagledger.store.questions import (
    MAX_TIME,
    MIN_TIME,
    CountQuestion,
    Counts,
    ExposureQuestion,
    Features,
    FeatureTotals,
    Filter,
    Group,
    GroupKind,
    Page,
    Tally,
)
from flagledger.v1.evaluation_pb2 import IdentityTrait
from store import naive
from store.recorded import Recorded
from support.postgres import fresh_store_url
from support.records import START, add_evaluation, entries_of, record_of, value_of

ROWS = 20_000
IDENTITIES = 3_000


@pytest.fixture(scope="module")
def many() -> Iterator[Recorded]:
    """Return a store of many rows of two large features and a small one, and the rows."""
    chance = random.Random(4)
    ledger = Recorded(PostgresStore(fresh_store_url()))
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
    limit_rows(monkeypatch, exact=4_000, sample=4_000)
    # One page in a hundred says enough where there are many, and of these all do.
    estimate(monkeypatch, percent=100)
    monkeypatch.setattr(postgres_queries, "SMALL_ROWS", 1_000)


def limit_rows(monkeypatch: pytest.MonkeyPatch, *, exact: int, sample: int) -> None:
    """Let identities of more than *exact* rows be sampled, and of *sample* rows at least."""
    for module in (sampling, postgres_sql, postgres_queries):
        monkeypatch.setattr(module, "EXACT_ROWS", exact)
    for module in (sampling, postgres_queries):
        monkeypatch.setattr(module, "SAMPLE_ROWS", sample)


def estimate(monkeypatch: pytest.MonkeyPatch, *, percent: int) -> None:
    """Let all rows be looked at to estimate their number, and be taken for so many per cent of them."""
    monkeypatch.setattr(postgres_sql, "_SAMPLE", "evaluations")
    monkeypatch.setattr(postgres_sql, "_ESTIMATE_PERCENT", percent)


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
def test_counts_of_many_rows_estimate_identities_alone(many: Recorded, fields: dict[str, object]) -> None:
    """Over many rows identities are estimates near the truth, and said to be; evaluations are counted one by one."""
    expected, found = counts_of(many, **fields)

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
def test_counts_of_few_rows_are_exact(many: Recorded, fields: dict[str, object]) -> None:
    """Where few rows are asked about, identities are told apart one by one, however many there are beside them."""
    expected, found = counts_of(many, **fields)

    assert expected == found


def test_counts_below_the_threshold_are_exact(many: Recorded) -> None:
    """Some thousand rows are few."""
    expected, found = counts_of(many)

    assert expected == found


@pytest.mark.usefixtures("_sampled")
def test_features_of_many_rows_estimate_identities_alone(many: Recorded) -> None:
    """Identities of large features are estimates near the truth, and said to be; all other numbers are exact."""
    environment = many.environment("production")
    expected = naive.list_features(many.rows, Filter(environment=environment))
    found = many.store.list_features(environment, None, None)

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


@pytest.mark.parametrize(("share", "percent"), [(0.5, 40), (1.5, 300)])
def test_an_estimate_near_the_limit_is_made_sure_of(
    many: Recorded, monkeypatch: pytest.MonkeyPatch, share: float, percent: int
) -> None:
    """What a sample of pages says within a factor of the limit is not believed: identities are exact up to the limit."""
    rows = sum(row.environment == many.environment("production") for row in many.rows)
    limit_rows(monkeypatch, exact=int(rows / share), sample=rows // 4)
    monkeypatch.setattr(postgres_sql, "_DOUBT", (int(rows / share) // 4, int(rows / share) * 3 // 2))
    # Pages that hold more than their share, or a third of it.
    estimate(monkeypatch, percent=percent)

    assert (share > 1) is counts_of(many)[1].identities_approximate


def test_an_estimate_looks_at_few_pages(many: Recorded) -> None:
    """What a question is estimated by is a small part of the rows."""
    looked = f"SELECT count(*) FROM {postgres_sql._SAMPLE}"
    with many.store._reading(None) as reader:  # type: ignore[attr-defined]
        ((rows,),) = ask(reader, looked)

    assert rows < ROWS // 20


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
