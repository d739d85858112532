from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flagledger.store import sampling
from flagledger.store.duckdb import queries as duckdb_queries
from flagledger.store.duckdb import sql as duckdb_sql
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.questions import CountQuestion, Counts, FeatureTotals, Filter, Group, Tally
from flagledger.store.sampling import EXACT_ROWS, MAX_SAMPLING, SAMPLE_ROWS, mask_for
from flagledger.v1.evaluation_pb2 import IdentityTrait
from store import naive
from store.recorded import Recorded
from support.records import START, add_evaluation, record_of, value_of

ROWS = 20_000
IDENTITIES = 3_000


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Return a store of many rows of two large features and a small one, and the rows."""
    chance = random.Random(4)
    ledger = Recorded(DuckDBStore(tmp_path_factory.mktemp("store") / "store"))
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
    # One row in a hundred says enough where there are millions, and of these all do.
    monkeypatch.setattr(duckdb_sql, "_SAMPLED", "evaluations")
    monkeypatch.setattr(duckdb_sql, "_ESTIMATE_PERCENT", 100)
    monkeypatch.setattr(duckdb_queries, "SMALL_ROWS", 1_000)


def limit_rows(monkeypatch: pytest.MonkeyPatch, *, exact: int, sample: int) -> None:
    """Let identities of more than *exact* rows be sampled, and of *sample* rows at least."""
    for module in (sampling, duckdb_sql, duckdb_queries):
        monkeypatch.setattr(module, "EXACT_ROWS", exact)
    for module in (sampling, duckdb_queries):
        monkeypatch.setattr(module, "SAMPLE_ROWS", sample)


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


@pytest.mark.parametrize(("share", "percent"), [(0.5, 40), (1.5, 300)])
def test_an_estimate_near_the_limit_is_made_sure_of(
    ledger: Recorded, monkeypatch: pytest.MonkeyPatch, share: float, percent: int
) -> None:
    """What a sample of blocks says within a factor of the limit is not believed: identities are exact up to the limit."""
    rows = sum(row.environment == ledger.environment("production") for row in ledger.rows)
    limit_rows(monkeypatch, exact=int(rows / share), sample=rows // 4)
    monkeypatch.setattr(duckdb_sql, "_DOUBT", (int(rows / share) // 4, int(rows / share) * 3 // 2))
    # Blocks that hold more than their share, or a third of it.
    monkeypatch.setattr(duckdb_sql, "_SAMPLED", "evaluations")
    monkeypatch.setattr(duckdb_sql, "_ESTIMATE_PERCENT", percent)

    assert (share > 1) is counts_of(ledger)[1].identities_approximate
