from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flagledger.catalog.base import Environment
from flagledger.catalog.policy import PLAIN, Policy, pseudonym
from flagledger.query.identities import Identities
from flagledger.query.servicer import QueryServicer
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.questions import ExposureQuestion, Filter
from flagledger.v1 import query_service_pb2 as contract
from support.querying import READER, TableCatalog, call_of
from support.records import START, add_evaluation, entries_of, record_of

SECRET = b"a secret of 32 bytes, as it seems"
ENVIRONMENT = "production"
SENT = "user_1"
KEPT = pseudonym(SECRET, ENVIRONMENT, SENT)

Serve = Callable[..., QueryServicer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Make servicers of an environment with rows of `user_1` in plain, four of its pseudonym, and some of others."""
    store = DuckDBStore(tmp_path / "store")
    record = record_of(environment=ENVIRONMENT)
    for number, identity in enumerate([SENT] * 2 + [KEPT] * 4 + [pseudonym(SECRET, ENVIRONMENT, "user_2"), "user_3"]):
        add_evaluation(record, time=START + number, identity_identifier=identity)
    store.apply("journal", 1, 1, *to_columns(entries_of([record])))
    servicers: list[QueryServicer] = []

    def serve_(policy: Policy, secret: bytes = SECRET) -> QueryServicer:
        environment = Environment(name=ENVIRONMENT, features=None, display_name="Shop", policy=policy)
        servicers.append(
            QueryServicer(TableCatalog(environment), lambda: store, erase=store.erase_identity, secret=secret)
        )
        return servicers[-1]

    yield serve_
    for servicer in servicers:
        servicer.close()
    store.close()


async def totals(servicer: QueryServicer, identity: str) -> list[int]:
    """Return how many evaluations of *identity* every question finds that can be asked about one."""
    fields = {"environment": "Shop", "identity_identifier": identity}
    counts = await servicer.CountEvaluations(contract.CountEvaluationsRequest(**fields), READER)
    evaluations = await servicer.ListEvaluations(contract.ListEvaluationsRequest(**fields), READER)
    exposures = await servicer.ListExposures(contract.ListExposuresRequest(**fields), READER)
    export = contract.ExportEvaluationsRequest(**fields)
    lines = b"".join([piece.data async for piece in servicer.ExportEvaluations(export, READER)]).splitlines()
    return [
        counts.series[0].evaluation_count,
        len(evaluations.evaluations),
        sum(exposure.evaluation_count for exposure in exposures.exposures),
        len(lines),
    ]


@pytest.mark.parametrize(
    ("policy", "identity", "found"),
    [
        (Policy(identity="hash"), SENT, 4),
        (Policy(identity="hash"), KEPT, 4),
        (Policy(identity="hash"), "user_3", 0),
        (PLAIN, SENT, 2),
        (PLAIN, KEPT, 4),
        (Policy(identity="drop"), SENT, 2),
    ],
)
async def test_an_identity_is_found_as_it_is_kept(serve: Serve, policy: Policy, identity: str, found: int) -> None:
    """Where pseudonyms are kept, every question finds those of an identity that is given in plain, and a pseudonym as it is."""
    assert [found] * 4 == await totals(serve(policy), identity)


async def test_pages_of_a_pseudonym_follow_each_other(serve: Serve) -> None:
    """A token of a page goes with the identity however it is given."""
    servicer = serve(Policy(identity="hash"))
    asked = {"environment": ENVIRONMENT, "page_size": 3}
    first = await servicer.ListEvaluations(contract.ListEvaluationsRequest(identity_identifier=SENT, **asked), READER)
    second = await servicer.ListEvaluations(
        contract.ListEvaluationsRequest(identity_identifier=KEPT, page_token=first.next_page_token, **asked), READER
    )

    assert (3, 1) == (len(first.evaluations), len(second.evaluations))
    assert {KEPT} == {row.identity_identifier for page in (first, second) for row in page.evaluations}


@pytest.mark.parametrize("policy", [PLAIN, Policy(identity="hash"), Policy(identity="drop")], ids=lambda p: p.identity)
async def test_erasing_reaches_whatever_was_kept(serve: Serve, policy: Policy) -> None:
    """Under any policy of today what was kept in plain goes and what was kept under the pseudonym, and both are counted."""
    servicer = serve(policy)
    request = contract.DeleteIdentityRequest(environment="Shop", identity_identifier=SENT)

    assert 6 == (await servicer.DeleteIdentity(request, call_of("admin"))).deleted_evaluation_count
    assert 0 == (await servicer.DeleteIdentity(request, call_of("admin"))).deleted_evaluation_count
    everything = contract.ListEvaluationsRequest(environment="Shop")
    left = (await servicer.ListEvaluations(everything, READER)).evaluations
    assert ["user_3", pseudonym(SECRET, ENVIRONMENT, "user_2")] == [row.identity_identifier for row in left]


async def test_a_pseudonym_is_erased_as_it_is(serve: Serve) -> None:
    """A pseudonym that is given goes, and what was kept in plain of whom it stands for stays: nobody reads it back."""
    servicer = serve(Policy(identity="hash"))
    request = contract.DeleteIdentityRequest(environment=ENVIRONMENT, identity_identifier=KEPT)

    assert 4 == (await servicer.DeleteIdentity(request, call_of("admin"))).deleted_evaluation_count
    assert [2] * 4 == await totals(serve(PLAIN), SENT)


def test_without_a_secret_there_are_no_pseudonyms() -> None:
    """Where no secret is known, an identity is kept under itself alone."""
    environment = Environment(name=ENVIRONMENT, features=None)

    assert (SENT,) == Identities(b"").forms(environment, SENT)
    assert (SENT, KEPT) == Identities(SECRET).forms(environment, SENT)


def test_a_question_without_an_identity_stays() -> None:
    """What names no identity is asked as it is."""
    environment = Environment(name=ENVIRONMENT, features=None, policy=Policy(identity="hash"))
    for question in (Filter(environment=ENVIRONMENT), ExposureQuestion(environment=ENVIRONMENT)):
        assert question is Identities(SECRET).as_kept(environment, question)
