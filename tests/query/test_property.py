"""Every rpc, compared with a naive computation over the records of the journal."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from flagledger.catalog.base import Environment
from flagledger.errors import Reason
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.query import servicer as servicer_module
from flagledger.query.servicer import QueryServicer
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.intake import IntakeQuestion
from flagledger.store.questions import CountQuestion, ExposureQuestion, Filter, Group, RecordedRow
from flagledger.v1.query_service_pb2 import (
    CountEvaluationsRequest,
    DeleteIdentityRequest,
    ExportEvaluationsRequest,
    GetIntakeRequest,
    ListEnvironmentsRequest,
    ListEvaluationsRequest,
    ListExposuresRequest,
    ListFeaturesRequest,
    ListUnknownFeaturesRequest,
    Origin,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from query import expected
from store import naive, naive_buckets
from store.recorded import Recorded
from support import askable
from support.askable import Example
from support.querying import READER, Call, TableCatalog, call_of, refusal, time_of

LISTED = frozenset({"checkout", "new_dashboard", "never_asked"})
LIKELY = {"Checkout": "checkout", "chekcout": "checkout", "new-dashboard": "new_dashboard"}
WEIGHTS = {"off": 3.0, "on": 1.0}

# One store serves all examples of a test.
quick = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
long = settings(quick, max_examples=60)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    """Return an empty store."""
    store = DuckDBStore(tmp_path / "store")
    yield store
    store.close()


@contextmanager
def serving(store: DuckDBStore, records: Sequence[JournalRecord]) -> Iterator[tuple[Recorded, QueryServicer]]:
    """Apply *records*; yield them, and a servicer that knows their environments: one of a few features, one of any."""
    ledger = Recorded(store)
    ledger.apply(records)
    servicer = QueryServicer(
        TableCatalog(
            Environment(name=ledger.environment("production"), features=LISTED),
            Environment(name=ledger.environment("staging"), features=None),
        ),
        lambda: store,
        erase=store.erase_identity,
    )
    yield ledger, servicer
    servicer.close()


def listed(environment: str) -> frozenset[str] | None:
    """Return the features of *environment*."""
    return LISTED if environment.startswith("production") else None


def askable_filter(asked: Filter) -> Filter:
    """Return *asked* without what no request can say: a trait whose key is empty."""
    return replace(asked, trait_key=asked.trait_key or None, trait_value=asked.trait_value if asked.trait_key else None)


def period_fields(asked: Any) -> dict[str, Any]:
    """Return the fields of a request for the environment and the period that are asked about."""
    times = {"start_time": asked.start, "end_time": asked.end}
    return {"environment": asked.environment} | {
        name: time_of(time) for name, time in times.items() if time is not None
    }


def filter_fields(asked: Filter) -> dict[str, Any]:
    """Return the fields of a request for *asked*."""
    names = ("feature_name", "identity_identifier", "segment_name", "value", "variant", "reason", "enabled")
    names += ("trait_key", "trait_value", "sdk_name", "sdk_version", "origin")
    return period_fields(asked) | {name: getattr(asked, name) for name in names if getattr(asked, name) is not None}


def of_features(asked: Filter) -> Filter:
    """Return what of *asked* can be asked about features."""
    return Filter(environment=asked.environment, feature_name=asked.feature_name, start=asked.start, end=asked.end)


async def all_pages(call: Callable[[Any, Call], Awaitable[Any]], request: Any) -> list[Any]:
    """Return the answers for every page of *request*."""
    found = []
    while True:
        found.append(await call(request, READER))
        request.page_token = found[-1].next_page_token
        if not request.page_token:
            return found


async def check_features(store: DuckDBStore, example: Example, page_size: int) -> None:
    """Compare ListFeatures."""
    with serving(store, example.records) as (ledger, servicer):
        for question in map(ledger.asked, example.questions):
            asked = of_features(question)
            features = naive.list_features(ledger.rows, asked)
            request = ListFeaturesRequest(
                feature_name=asked.feature_name or "", page_size=page_size, **period_fields(asked)
            )
            pages = await all_pages(servicer.ListFeatures, request)

            in_catalog = listed(asked.environment)
            before = naive.list_features(ledger.rows, replace(asked, start=None))
            assert expected.feature_summaries(features, in_catalog, asked.feature_name, before) == [
                summary for page in pages for summary in page.features
            ]
            since = None if features.data_since is None else time_of(features.data_since)
            assert [since] * len(pages) == [page.data_since if page.HasField("data_since") else None for page in pages]


async def check_counts(store: DuckDBStore, example: Example) -> None:
    """Compare CountEvaluations."""
    with serving(store, example.records) as (ledger, servicer):
        for question in example.questions:
            asked: CountQuestion = replace(
                question,
                filter=askable_filter(ledger.asked(question.filter)),
                group_by=tuple(group for group in question.group_by if group != Group(kind="trait")),
            )
            request = CountEvaluationsRequest(
                bucket=asked.bucket or "",
                time_zone=asked.time_zone,
                group_by=map(expected.group_name, asked.group_by),
                series_limit=asked.series_limit,
                **filter_fields(asked.filter),
            )
            counts = naive.count_evaluations(ledger.rows, asked)
            if counts is None:
                assert (Reason.QUERY_INVALID, ["bucket"]) == await refusal(servicer.CountEvaluations(request, READER))
            else:
                assert expected.counts_response(counts, asked) == await servicer.CountEvaluations(request, READER)


async def check_evaluations(store: DuckDBStore, example: Example, page_size: int) -> None:
    """Compare ListEvaluations."""
    with serving(store, example.records) as (ledger, servicer):
        for asked in map(askable_filter, map(ledger.asked, example.questions)):
            request = ListEvaluationsRequest(page_size=page_size, **filter_fields(asked))
            pages = await all_pages(servicer.ListEvaluations, request)

            rows = naive.newest_first(ledger.rows, asked)
            assert list(map(expected.recorded_evaluation, rows)) == [row for page in pages for row in page.evaluations]


async def check_exposures(store: DuckDBStore, example: Example, page_size: int) -> None:
    """Compare ListExposures."""
    with serving(store, example.records) as (ledger, servicer):
        for number, question in enumerate(example.questions):
            asked: ExposureQuestion = ledger.asked(question)
            weights = WEIGHTS if asked.feature_name and number % 2 else {}
            request = ListExposuresRequest(
                feature_name=asked.feature_name or "",
                identity_identifier=asked.identity_identifier or "",
                weights=[f"{arm}={weight}" for arm, weight in weights.items()],
                page_size=page_size,
                **period_fields(asked),
            )
            first, *others = await all_pages(servicer.ListExposures, request)

            sampled = naive.exposures_sampled(ledger.rows, asked)
            assert {sampled} == {page.identities_lower_bound for page in (first, *others)}
            found = [row for page in (first, *others) for row in page.exposures]
            by_name = sorted(found, key=lambda row: (row.feature_name, row.identity_identifier))
            assert list(map(expected.exposure, naive.list_exposures(ledger.rows, asked))) == by_name
            arms = naive.count_arms(ledger.rows, asked, 100)
            check_checks([expected.sample_ratio_check(totals, weights) for totals in arms], first.checks)
            assert [] == [check for page in others for check in page.checks]


def check_checks(computed: Any, found: Any) -> None:
    """Compare sample-ratio checks, whose numbers may differ in their last digits; how probable they are is tested elsewhere."""
    for check in found:
        assert check.HasField("p_value") == check.HasField("degrees_of_freedom")
        check.ClearField("p_value")
        for message in (check, *check.arms):
            round_numbers(message)
    for check in computed:
        for message in (check, *check.arms):
            round_numbers(message)
    assert list(computed) == list(found)


def round_numbers(message: Any) -> None:
    """Round every double that is set in *message*."""
    for field, number in message.ListFields():
        if isinstance(number, float):
            setattr(message, field.name, round(number, 9))


async def check_intake(store: DuckDBStore, example: Example) -> None:
    """Compare GetIntake and ListUnknownFeatures."""
    with serving(store, example.records) as (ledger, servicer), pytest.MonkeyPatch.context() as patch:
        for question in example.questions:
            asked: IntakeQuestion = ledger.asked(question)
            patch.setattr(servicer_module, "time", SimpleNamespace(time_ns=lambda now=asked.now: now * 1000))
            fields = period_fields(asked)
            request = GetIntakeRequest(bucket=asked.bucket or "", time_zone=asked.time_zone, **fields)
            intake = naive.intake(ledger.rows, ledger.discards, asked)
            if intake is None:
                assert (Reason.QUERY_INVALID, ["bucket"]) == await refusal(servicer.GetIntake(request, READER))
            else:
                assert expected.intake_response(intake) == await servicer.GetIntake(request, READER)

            # Where any name is taken, none is unknown.
            discards = ledger.discards if listed(asked.environment) else []
            unknown = naive.list_unknown_features(discards, asked.environment, asked.start, asked.end, LISTED, 1_000)
            found = await servicer.ListUnknownFeatures(ListUnknownFeaturesRequest(**fields), READER)
            assert expected.unknown_features(unknown, LIKELY) == found


async def check_export(store: DuckDBStore, example: Example, cut: int) -> None:
    """Compare ExportEvaluations, from the beginning and behind a position."""
    with serving(store, example.records[:cut]) as (ledger, servicer):
        before = [await exported(servicer, ledger, asked, 0) for asked in example.questions]
        ledger.apply(example.records[cut:])
        for asked, (last_position, found) in zip(example.questions, before, strict=True):
            _, more = await exported(servicer, ledger, asked, last_position)
            assert naive.export(ledger.rows, askable_filter(ledger.asked(asked)), 0) == found + more


async def exported(
    servicer: QueryServicer, ledger: Recorded, asked: Filter, after_position: int
) -> tuple[int, list[RecordedRow]]:
    """Return how far an export goes, and its rows, which are compared."""
    asked = askable_filter(ledger.asked(asked))
    request = ExportEvaluationsRequest(format="arrow", after_position=after_position, **filter_fields(asked))
    call = call_of("reader")
    file = b"".join([piece.data async for piece in servicer.ExportEvaluations(request, call)])
    table = pa.ipc.open_stream(io.BytesIO(file)).read_all()
    # In pieces, those received earlier first; within one in the server's own order.
    rows = sorted(map(exported_row, table.to_pylist()), key=lambda row: row.position)
    assert naive.export(ledger.rows, asked, after_position) == rows
    (((name, position),),) = call.sent
    assert "x-last-position" == name
    return int(position), rows


def exported_row(fields: dict[str, Any]) -> RecordedRow:
    """Return a row of a file as the naive computation has it."""
    times = {
        name: (fields.pop(column) - naive_buckets.EPOCH) // naive_buckets.MICROSECOND
        for name, column in (("evaluation_time", "evaluation_timestamp"), ("receive_time", "receive_time"))
    }
    fields["origin"] = Origin.Value(fields["origin"])
    return RecordedRow(traits=fields.pop("identity_traits"), **times, **fields)


async def check_erasure(store: DuckDBStore, example: Example, identity: str) -> None:
    """Compare DeleteIdentity, and what is listed afterwards."""
    with serving(store, example.records) as (ledger, servicer):
        environment = ledger.environment("production")
        request = DeleteIdentityRequest(environment=environment, identity_identifier=identity)
        gone = [row for row in ledger.rows if (row.environment, row.identity_identifier) == (environment, identity)]
        answer = await servicer.DeleteIdentity(request, call_of("admin"))

        assert len(gone) == answer.deleted_evaluation_count
        left = [row for row in ledger.rows if row not in gone]
        for name in map(ledger.environment, askable.ENVIRONMENTS):
            (page,) = await all_pages(servicer.ListEvaluations, ListEvaluationsRequest(environment=name))
            rows = naive.newest_first(left, Filter(environment=name))
            assert list(map(expected.recorded_evaluation, rows)) == list(page.evaluations)
        names = [
            each.name for each in (await servicer.ListEnvironments(ListEnvironmentsRequest(), READER)).environments
        ]
        assert list(map(ledger.environment, askable.ENVIRONMENTS)) == names


CHECKS: dict[str, tuple[Callable[..., Awaitable[None]], dict[str, st.SearchStrategy[Any]]]] = {
    "ListFeatures": (
        check_features,
        {"example": askable.examples(askable.filters), "page_size": st.sampled_from([1, 2, 3, 0])},
    ),
    "CountEvaluations": (check_counts, {"example": askable.examples(askable.count_questions)}),
    "ListEvaluations": (
        check_evaluations,
        {"example": askable.examples(askable.filters), "page_size": st.sampled_from([1, 2, 5, 0])},
    ),
    "ListExposures": (
        check_exposures,
        {"example": askable.examples(askable.exposure_questions), "page_size": st.sampled_from([1, 2, 0])},
    ),
    "GetIntake, ListUnknownFeatures": (check_intake, {"example": askable.examples(askable.intake_questions)}),
    "ExportEvaluations": (
        check_export,
        {"example": askable.examples(askable.filters), "cut": st.integers(0, 3)},
    ),
    "DeleteIdentity, ListEnvironments": (
        check_erasure,
        {"example": askable.examples(askable.filters), "identity": st.sampled_from(askable.IDENTITIES)},
    ),
}


# Some seconds, unless an example fails and is made smaller.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("rpc", CHECKS)
def test_every_answer_equals_a_naive_computation(store: DuckDBStore, rpc: str) -> None:
    """Whatever was recorded, an rpc answers any request as a loop over the records of the journal does."""
    compare(store, rpc, quick)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("rpc", CHECKS)
def test_every_one_of_many_answers_equals_a_naive_computation(store: DuckDBStore, rpc: str) -> None:
    """The same over many more records."""
    compare(store, rpc, long)


def compare(store: DuckDBStore, rpc: str, extent: settings) -> None:
    """Compare answers of *rpc* over as many examples as *extent* says."""
    check, drawn = CHECKS[rpc]

    @extent
    @given(**drawn)
    def compared(**arguments: Any) -> None:
        asyncio.run(check(store, **arguments))

    compared()
