from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flagledger.catalog.base import Environment
from flagledger.catalog.policy import Policy
from flagledger.errors import FlagledgerError, Reason
from flagledger.query.journal_state import JournalState
from flagledger.query.servicer import QueryServicer
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import StoreError, TooManyBucketsError
from flagledger.store.intake import IntakeQuestion, UnknownFeature, UnknownFeatures
from flagledger.store.questions import (
    ArmTotals,
    CountQuestion,
    Export,
    Exposure,
    ExposureCursor,
    ExposureQuestion,
    Filter,
    Group,
)
from flagledger.v1 import query_service_pb2 as contract
from google.protobuf import timestamp_pb2
from support.querying import (
    PRODUCTION,
    READER,
    STAGING,
    Call,
    FakeStore,
    TableCatalog,
    batches_of,
    call_of,
    export_batch,
    exposures_of,
    refusal,
    time_of,
)
from support.records import add_evaluation, entries_of, record_of

ADMIN = call_of("admin")
EVERYTHING = Filter(environment="production")

Serve = Callable[..., QueryServicer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Make servicers over a store."""
    servicers: list[QueryServicer] = []

    def serve_(store: Any, *environments: Environment, **options: Any) -> QueryServicer:
        catalog = TableCatalog(*environments or (PRODUCTION, STAGING))
        servicers.append(QueryServicer(catalog, lambda: store, **options))
        return servicers[-1]

    yield serve_
    for servicer in servicers:
        servicer.close()


async def test_environments_are_those_of_the_token(serve: Serve) -> None:
    """Environments are listed by name, with their features and what of evaluations they keep, as far as the token reaches."""
    policy = Policy(identity="hash", sample_every=4)
    servicer = serve(FakeStore(), STAGING, replace(PRODUCTION, display_name="Shop", policy=policy))
    production = contract.EnvironmentSummary(
        name="production", feature_count=2, display_name="Shop", identity_policy="hash", sample_rate=0.25
    )
    staging = contract.EnvironmentSummary(
        name="staging", takes_any_feature=True, identity_policy="plain", sample_rate=1
    )

    async def ask(token: str) -> list[contract.EnvironmentSummary]:
        answer = await servicer.ListEnvironments(contract.ListEnvironmentsRequest(), call_of(token))
        return list(answer.environments)

    assert [production, staging] == await ask("reader")
    assert [staging] == await ask("staging")
    assert Reason.TOKEN_LACKS == (await refusal(ask("writer")))[0]


LISTED = frozenset({"checkout", "never_asked"})


async def test_features_are_asked_for_by_page(serve: Serve) -> None:
    """A page of features goes on where its token says; a token of another period is refused."""
    store = FakeStore()
    servicer = serve(store)

    async def ask(**fields: Any) -> contract.ListFeaturesResponse:
        request = contract.ListFeaturesRequest(environment="production", start_time=time_of(5), **fields)
        return await servicer.ListFeatures(request, READER)

    first = await ask(page_size=1)
    second = await ask(page_size=9, page_token=first.next_page_token)

    assert (["checkout"], ["never_asked"], "") == (
        [feature.feature_name for feature in first.features],
        [feature.feature_name for feature in second.features],
        second.next_page_token,
    )
    asked_for = [("list_features", "production", 5, None, None), ("last_seen", "production", LISTED, None)]
    assert asked_for * 2 == store.asked
    (one,) = (await ask(feature_name="never_asked")).features
    assert "never_asked" == one.feature_name
    assert ("list_features", "production", 5, None, "never_asked") == store.asked[-2]
    assert (Reason.QUERY_INVALID, ["page_token"]) == await refusal(
        ask(end_time=time_of(9), page_token=first.next_page_token)
    )


async def test_counts_are_asked_for(serve: Serve) -> None:
    """The question reaches the store as it was asked."""
    store = FakeStore()
    request = contract.CountEvaluationsRequest(
        environment="production", feature_name="checkout", bucket="hour", group_by=["variant", "trait:plan"]
    )

    assert contract.CountEvaluationsResponse() == await serve(store).CountEvaluations(request, READER)
    assert [
        (
            "count_evaluations",
            CountQuestion(
                filter=Filter(environment="production", feature_name="checkout"),
                group_by=(Group(kind="variant"), Group(kind="trait", trait_key="plan")),
                bucket="hour",
            ),
        )
    ] == store.asked


async def test_too_many_buckets_are_the_callers_affair(serve: Serve) -> None:
    """A period of too many buckets is refused with the field and the store's own sentence, and no retry."""
    error = TooManyBucketsError("must be wider: the period has 5,000 of them")
    servicer = serve(FakeStore(count_evaluations=error, intake=error))
    for call in (
        servicer.CountEvaluations(contract.CountEvaluationsRequest(environment="production", bucket="day"), READER),
        servicer.GetIntake(contract.GetIntakeRequest(environment="production", bucket="day"), READER),
    ):
        with pytest.raises(FlagledgerError) as caught:
            await call

        assert (Reason.QUERY_INVALID, None) == (caught.value.reason, caught.value.retry_after)
        assert [("bucket", str(error))] == [(each.field, each.description) for each in caught.value.violations]


async def test_exposures_are_checked_on_the_first_page(serve: Serve) -> None:
    """The first page has the checks against the weights; those behind it, which go with the weights too, have none."""
    cursor = ExposureCursor(feature_name="checkout", identity_identifier="u")
    row = Exposure(
        feature_name="checkout",
        identity_identifier="u",
        exposure_time=1,
        arm="a",
        variant="a",
        value=None,
        multiple_arms=False,
        evaluation_count=1,
    )
    store = FakeStore(
        list_exposures=exposures_of(row, following=cursor),
        count_arms=(ArmTotals(feature_name="checkout", arms=(("a", 3), ("b", 1)), multiple_arm_identity_count=0),),
    )
    servicer = serve(store)

    async def ask(*weights: str, **fields: Any) -> contract.ListExposuresResponse:
        request = contract.ListExposuresRequest(
            environment="production", feature_name="checkout", weights=weights, **fields
        )
        return await servicer.ListExposures(request, READER)

    first = await ask("b=1", "a=3", page_size=1)
    second = await ask("b=1", "a=3", page_size=20_000, page_token=first.next_page_token)
    question = ExposureQuestion(environment="production", feature_name="checkout")

    assert [(["b", "a"], 0.0, 1.0)] == [
        ([arm.arm for arm in check.arms], check.chi_squared, check.p_value) for check in first.checks
    ]
    assert (1, 0) == (len(first.exposures), len(second.checks))
    assert [
        ("count_arms", question, 100),
        ("list_exposures", question, 1, None),
        ("list_exposures", question, 10_000, cursor),
    ] == store.asked
    assert (Reason.QUERY_INVALID, ["page_token"]) == await refusal(ask("b=1", page_token=first.next_page_token))


async def test_unknown_features_are_those_that_are_not_in_the_catalog(serve: Serve) -> None:
    """The store is told the names that are known, and the answer what was likely meant."""
    unknown = UnknownFeature(feature_name="Checkout", evaluation_count=1, first_seen_time=1, last_seen_time=1, sdks=())
    store = FakeStore(list_unknown_features=UnknownFeatures(names=(unknown,), other_evaluation_count=4))
    request = contract.ListUnknownFeaturesRequest(environment="production", start_time=time_of(1), end_time=time_of(2))
    answer = await serve(store).ListUnknownFeatures(request, READER)

    assert ("checkout", 4) == (answer.unknown_features[0].likely_match, answer.other_evaluation_count)
    assert [("list_unknown_features", "production", 1, 2, PRODUCTION.features, 1000)] == store.asked


async def test_where_any_name_goes_none_is_unknown(serve: Serve) -> None:
    """An environment that takes any name has no unknown one, and the store is not asked."""
    store = FakeStore()
    request = contract.ListUnknownFeaturesRequest(environment="staging")

    assert contract.ListUnknownFeaturesResponse() == await serve(store).ListUnknownFeatures(request, READER)
    assert [] == store.asked


async def test_intake_comes_with_the_journal(serve: Serve) -> None:
    """Intake is that of the store until now; the journal is asked in a thread, where it may block."""
    store = FakeStore()
    threads: list[str] = []

    def journal_state() -> JournalState:
        threads.append(threading.current_thread().name.rsplit("_", 1)[0])
        return JournalState(bytes=5, max_bytes=50, waiting_batches=2, lag_seconds=0.25)

    before = time.time_ns() // 1000
    request = contract.GetIntakeRequest(environment="production", bucket="day", time_zone="Europe/Zurich")
    answer = await serve(store, journal_state=journal_state).GetIntake(request, READER)
    ((_, question),) = store.asked

    assert ["query"] == threads
    assert (5, 50, 2, 250) == (
        answer.journal.bytes,
        answer.journal.max_bytes,
        answer.journal.waiting_batch_count,
        answer.journal.lag.ToMilliseconds(),
    )
    assert before <= question.now <= time.time_ns() // 1000
    assert (
        IntakeQuestion(environment="production", bucket="day", time_zone="Europe/Zurich", now=question.now) == question
    )


async def test_an_export_is_checked_before_it_begins(serve: Serve) -> None:
    """What is wrong with an export is told before anything is sent, and the store is not asked."""
    store = FakeStore()
    context = Call(*READER.invocation_metadata())
    request = contract.ExportEvaluationsRequest(environment="production", format="xlsx", value="x" * 5000, origin=9)
    pieces = serve(store).ExportEvaluations(request, context)

    assert (Reason.QUERY_INVALID, ["origin", "value", "format"]) == await refusal(anext(pieces))
    assert ([], []) == (store.asked, context.sent)


async def test_an_export_has_its_format(serve: Serve, tmp_path: Path) -> None:
    """An export has the filters and the format that were asked for, and goes on behind a position."""
    store = FakeStore(export=Export(last_position=8, batches=batches_of(export_batch({"position": 8}))))
    context = Call(*READER.invocation_metadata())
    request = contract.ExportEvaluationsRequest(
        environment="production", feature_name="checkout", enabled=True, format="csv", after_position=7
    )
    pieces = [piece async for piece in serve(store).ExportEvaluations(request, context)]

    assert {"text/csv; charset=utf-8"} == {piece.content_type for piece in pieces}
    assert b"".join(piece.data for piece in pieces).splitlines()[1].startswith(b'8,"checkout",')
    assert [("export", Filter(environment="production", feature_name="checkout", enabled=True), 7)] == store.asked
    assert [(("x-last-position", "8"),)] == context.sent


async def test_erasing_is_for_admins(serve: Serve) -> None:
    """A token that only reads, or that reaches other environments, erases nothing."""
    orders: list[tuple[str, str]] = []

    def erase(environment: str, identity: str) -> int:
        orders.append((environment, identity))
        return 12

    servicer = serve(FakeStore(), erase=erase)

    async def ask(token: str, environment: str, identity: str = "u") -> contract.DeleteIdentityResponse:
        request = contract.DeleteIdentityRequest(environment=environment, identity_identifier=identity)
        return await servicer.DeleteIdentity(request, call_of(token))

    for token, environment, reason in (
        ("nobody", "production", Reason.TOKEN_INVALID),
        ("reader", "production", Reason.TOKEN_LACKS),
        ("writer", "production", Reason.TOKEN_LACKS),
        ("staging-admin", "production", Reason.TOKEN_LACKS),
        ("admin", "nowhere", Reason.ENVIRONMENT_UNKNOWN),
    ):
        assert reason == (await refusal(ask(token, environment)))[0]
    assert (Reason.QUERY_INVALID, ["identity_identifier"]) == await refusal(ask("admin", "production", ""))
    assert (Reason.QUERY_INVALID, ["environment", "identity_identifier"]) == await refusal(ask("admin", "", ""))
    assert [] == orders
    assert 12 == (await ask("admin", "production")).deleted_evaluation_count
    assert 12 == (await ask("staging-admin", "staging", "v")).deleted_evaluation_count
    assert [("production", "u"), ("staging", "v")] == orders


async def test_erasing_takes_its_time(serve: Serve) -> None:
    """An order is not ended after the time of a question, takes no question's thread, and blocks no loop."""
    go_on = threading.Event()
    threads: list[str] = []

    def erase(environment: str, identity: str) -> int:
        threads.append(threading.current_thread().name.rsplit("_", 1)[0])
        assert go_on.wait(30)
        return 1

    servicer = serve(FakeStore(), threads=1, seconds=0.2, erase=erase)
    request = contract.DeleteIdentityRequest(environment="production", identity_identifier="u")
    order = asyncio.create_task(servicer.DeleteIdentity(request, ADMIN))
    await asyncio.sleep(0.4)
    await servicer.ListFeatures(contract.ListFeaturesRequest(environment="production"), READER)
    go_on.set()

    assert 1 == (await order).deleted_evaluation_count
    assert ["erase"] == threads


async def test_an_erasure_that_fails_is_to_be_ordered_again(serve: Serve) -> None:
    """Where the store fails, or nothing can be erased, the caller hears when to come back, and no path."""

    def erase(environment: str, identity: str) -> int:
        raise StoreError("/secret/path is full")

    request = contract.DeleteIdentityRequest(environment="production", identity_identifier="u")
    for servicer in (serve(FakeStore(), erase=erase), serve(FakeStore())):
        with pytest.raises(FlagledgerError) as caught:
            await servicer.DeleteIdentity(request, ADMIN)

        assert Reason.STORE_UNAVAILABLE == caught.value.reason
        assert caught.value.retry_after is not None
        assert "/secret" not in caught.value.message


PERIODICAL: list[tuple[str, dict[str, Any]]] = [
    ("ListFeatures", {"page_size": -1}),
    ("ListEvaluations", {"page_size": -1}),
    ("ListExposures", {"page_size": -1, "weights": ["x"], "feature_name": "f"}),
    ("CountEvaluations", {"series_limit": -1, "bucket": "x", "time_zone": "x", "group_by": ["x"]}),
    ("ListUnknownFeatures", {}),
    ("GetIntake", {"bucket": "x", "time_zone": "x"}),
    ("ExportEvaluations", {"format": "x"}),
]


@pytest.mark.parametrize(("rpc", "fields"), PERIODICAL)
async def test_all_that_is_wrong_is_told(serve: Serve, rpc: str, fields: dict[str, Any]) -> None:
    """Every rpc names every field that is wrong at once, the environment and the period too, and asks the store nothing."""
    store = FakeStore()
    request = getattr(contract, f"{rpc}Request")(start_time=timestamp_pb2.Timestamp(nanos=-1), **fields)
    answer = getattr(serve(store), rpc)(request, READER)
    reason, found = await refusal(anext(answer) if rpc == "ExportEvaluations" else answer)

    assert Reason.QUERY_INVALID == reason
    assert {"environment", "start_time", *fields} - {"feature_name"} == {field.partition("[")[0] for field in found}
    assert [] == store.asked


HOSTILE = ["'; DROP TABLE evaluations; --", "\x00", "a\x00b", "$1", "%", "\\", '"', "\u2028", "\U0010ffff", "x" * 3_000]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
async def test_no_text_is_more_than_text(serve: Serve, tmp_path: Path, text: str) -> None:
    """Whatever stands in a filter is compared, and neither carried out nor a fault; what was recorded is still there."""
    store = DuckDBStore(tmp_path / "store")
    record = record_of()
    add_evaluation(record, identity_identifier="u")
    store.apply("journal", 1, 1, *to_columns(entries_of([record])))
    servicer = serve(store)
    names = [
        "feature_name", "identity_identifier", "segment_name", "value", "variant", "reason", "trait_key", "sdk_name",
        "sdk_version",
    ]  # fmt: skip
    for name in names:
        fields = {"environment": "production", name: text}
        evaluations = await servicer.ListEvaluations(contract.ListEvaluationsRequest(**fields), READER)
        counts = await servicer.CountEvaluations(contract.CountEvaluationsRequest(**fields), READER)
        pieces = [
            piece async for piece in servicer.ExportEvaluations(contract.ExportEvaluationsRequest(**fields), READER)
        ]
        assert (0, 0, b"") == (
            len(evaluations.evaluations),
            counts.series[0].evaluation_count,
            b"".join(piece.data for piece in pieces),
        )
    trait = {"environment": "production", "trait_key": text, "trait_value": text}
    assert not (await servicer.ListEvaluations(contract.ListEvaluationsRequest(**trait), READER)).evaluations
    for name in ("feature_name", "identity_identifier"):
        request = contract.ListExposuresRequest(environment="production", **{name: text})
        assert not (await servicer.ListExposures(request, READER)).exposures
    grouped = contract.CountEvaluationsRequest(environment="production", group_by=[f"trait:{text[:200]}"])
    assert [None] == [
        each.groups[0].value.string_value or None for each in (await servicer.CountEvaluations(grouped, READER)).series
    ]
    answer = await servicer.ListEvaluations(contract.ListEvaluationsRequest(environment="production"), READER)
    assert ["u"] == [each.identity_identifier for each in answer.evaluations]
    servicer.close()
    store.close()
