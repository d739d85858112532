"""Identities of many rows are estimated by a sample, in every store; all else is counted one by one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import pytest
from flagledger.store import sampling
from flagledger.store.questions import CountQuestion, Counts, FeatureTotals, Filter, Group, Tally
from flagledger.store.sampling import EXACT_ROWS, MAX_SAMPLING, SAMPLE_ROWS, mask_for
from store import filled, naive, stores
from store.recorded import Recorded
from support.records import START

# Stores that estimate how many rows there are before they sample, and what they look at for it.
ESTIMATING = {"duckdb": "_SAMPLED", "postgres": "_SAMPLE"}


@pytest.fixture(scope="module", params=stores.kinds())
def many_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Recorded]]:
    """Return a kind of store, and one of many rows of two large features and a small one with the rows."""
    ledger = filled.many_rows(stores.open_store(request.param, tmp_path_factory.mktemp("store") / "store"))
    yield request.param, ledger
    ledger.store.close()


@pytest.fixture
def many(many_of: tuple[str, Recorded]) -> Recorded:
    """Return the store of many rows, and the rows."""
    return many_of[1]


@pytest.fixture
def _sampled(many_of: tuple[str, Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let identities be sampled where rows are many, and many be few."""
    limit_rows(monkeypatch, many_of[0], exact=4_000, sample=4_000)
    # A small part of them says enough where there are millions, and of these all do.
    estimate(monkeypatch, many_of[0], percent=100)
    monkeypatch.setattr(sampling, "SMALL_ROWS", 1_000)


def sql_of(kind: str) -> ModuleType:
    """Return the module in which a store of *kind* estimates how many rows there are."""
    return importlib.import_module(f"flagledger.store.{kind}.sql")


def limit_rows(monkeypatch: pytest.MonkeyPatch, kind: str, *, exact: int, sample: int) -> None:
    """Let identities of more than *exact* rows be sampled, and of *sample* rows at least."""
    monkeypatch.setattr(sampling, "EXACT_ROWS", exact)
    monkeypatch.setattr(sampling, "SAMPLE_ROWS", sample)
    if kind == "duckdb":
        monkeypatch.setattr(sql_of(kind), "EXACT_ROWS", exact)


def estimate(monkeypatch: pytest.MonkeyPatch, kind: str, *, percent: int) -> None:
    """Let all rows be looked at to estimate their number, where it is, and be taken for so many per cent of them."""
    if kind in ESTIMATING:
        monkeypatch.setattr(sql_of(kind), ESTIMATING[kind], "evaluations")
        monkeypatch.setattr(sql_of(kind), "_ESTIMATE_PERCENT", percent)


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


def test_one_identity_of_many_rows_is_no_estimate(
    many_of: tuple[str, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many rows an identity has, it is one."""
    kind, many = many_of
    limit_rows(monkeypatch, kind, exact=1, sample=1)
    estimate(monkeypatch, kind, percent=100)
    expected, found = counts_of(many, identity_identifier="user_7")

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
    many_of: tuple[str, Recorded], monkeypatch: pytest.MonkeyPatch, share: float, percent: int
) -> None:
    """What a sample says within a factor of the limit is not believed: identities are exact up to the limit."""
    kind, many = many_of
    rows = sum(row.environment == many.environment("production") for row in many.rows)
    limit_rows(monkeypatch, kind, exact=int(rows / share), sample=rows // 4)
    if kind in ESTIMATING:
        monkeypatch.setattr(sql_of(kind), "_DOUBT", (int(rows / share) // 4, int(rows / share) * 3 // 2))
    # What is looked at holds more than its share, or a third of it.
    estimate(monkeypatch, kind, percent=percent)

    assert (share > 1) is counts_of(many)[1].identities_approximate


@pytest.mark.parametrize(
    ("rows", "mask"),
    [
        (0, 0),
        (EXACT_ROWS, 0),
        (EXACT_ROWS + 1, 3),
        (8 * SAMPLE_ROWS - 1, 3),
        (8 * SAMPLE_ROWS, 7),
        (MAX_SAMPLING * SAMPLE_ROWS, MAX_SAMPLING - 1),
        (1_000_000_000, MAX_SAMPLING - 1),
    ],
)
def test_a_sample_has_enough_rows(rows: int, mask: int) -> None:
    """The mask is the widest that leaves `SAMPLE_ROWS` at least, as far as it pays to leave out more."""
    assert mask == mask_for(rows)
    assert not mask or rows // (mask + 1) >= SAMPLE_ROWS
