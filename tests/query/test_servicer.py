from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from flagledger.catalog.base import Environment
from flagledger.errors import FlagledgerError, Reason
from flagledger.front import grpc as grpc_front
from flagledger.front.forward import ForwardedError, Forwarder
from flagledger.front.limits import InFlight
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.query.servicer import QueryServicer
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import Interrupt, StoreError
from flagledger.store.questions import Features
from flagledger.v1 import query_service_pb2
from flagledger.v1.evaluation_pb2 import IdentityTrait
from flagledger.v1.query_service_pb2 import (
    ORIGIN_SERVER,
    FeatureSummary,
    ListEvaluationsRequest,
    ListEvaluationsResponse,
    ListFeaturesRequest,
    RecordedEvaluation,
    SdkUse,
)
from google.protobuf import json_format, struct_pb2, timestamp_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from support.querying import (
    PRODUCTION,
    READER,
    STAGING,
    Call,
    FakeStore,
    TableCatalog,
    call_of,
    refusal,
    time_of,
)
from support.records import START, add_evaluation, entries_of, json_values, record_of, texts, value_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBStore]:
    """Return an empty store."""
    store = DuckDBStore(tmp_path / "store")
    yield store
    store.close()


Serve = Callable[..., QueryServicer]

RPCS = [method.name for method in query_service_pb2.DESCRIPTOR.services_by_name["QueryService"].methods]
READING = [rpc for rpc in RPCS if rpc not in {"ListEnvironments", "DeleteIdentity"}]
REQUESTS: dict[str, type[Message]] = {rpc: getattr(query_service_pb2, f"{rpc}Request") for rpc in RPCS}


async def answer_of(servicer: QueryServicer, rpc: str, request: Any, context: Any = READER) -> Any:
    """Return what *rpc* answers, pieces as a list."""
    answer = getattr(servicer, rpc)(request, context)
    return [piece async for piece in answer] if rpc == "ExportEvaluations" else await answer


@pytest.fixture
def serve(store: DuckDBStore) -> Iterator[Serve]:
    """Make servicers over the store, with the environments named."""
    servicers: list[QueryServicer] = []

    def serve_(
        *environments: Environment, provider: Callable[[], Any] = lambda: store, **options: Any
    ) -> QueryServicer:
        servicers.append(QueryServicer(TableCatalog(*environments or (PRODUCTION, STAGING)), provider, **options))
        return servicers[-1]

    yield serve_
    for servicer in servicers:
        servicer.close()


def put(store: Store, *records: JournalRecord) -> None:
    """Apply *records* as the next entries."""
    first = store.position("journal") + 1
    store.apply("journal", first, first + len(records) - 1, *to_columns(entries_of(records, first)))


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(Call(), id="nothing"),
        pytest.param(Call(("x-environment-key", "production-key")), id="an environment key"),
        pytest.param(Call(("authorization", "Bearer nobody"), ("x-environment-key", "production-key")), id="unknown"),
        pytest.param(Call(("authorization", "reader")), id="no scheme"),
        pytest.param(Call(("authorization", "Basic reader")), id="another scheme"),
        pytest.param(Call(("authorization", "Bearer ")), id="empty"),
        pytest.param(Call(("authorization", "Bearer reader"), ("authorization", "Bearer admin")), id="two"),
        pytest.param(Call(("authorization", b"Bearer reader")), id="bytes"),
    ],
)
async def test_reading_needs_a_token(serve: Serve, context: Call) -> None:
    """Without one token that is known every call is refused before anything else is looked at."""
    servicer = serve()
    assert (Reason.TOKEN_INVALID, []) == await refusal(servicer.authenticate(context))
    for rpc in RPCS:
        request = REQUESTS[rpc]() if rpc == "ListEnvironments" else REQUESTS[rpc](environment="nowhere")
        assert (Reason.TOKEN_INVALID, []) == await refusal(answer_of(servicer, rpc, request, context))


@pytest.mark.parametrize("value", ["Bearer reader", "bearer reader", "BEARER  reader ", "Bearer admin"])
async def test_a_token_reads(serve: Serve, value: str) -> None:
    """A token of the role read or admin reads; the scheme is written in any case."""
    answer = await serve(STAGING).ListEvaluations(ListEvaluationsRequest(), Call(("authorization", value)))

    assert ListEvaluationsResponse() == answer


@pytest.mark.parametrize("rpc", READING)
async def test_who_may_read_what(serve: Serve, rpc: str) -> None:
    """A role or an environment that the token lacks is told from an environment that does not exist."""
    servicer = serve(provider=FakeStore)

    async def ask(environment: str, token: str) -> Any:
        return await answer_of(servicer, rpc, REQUESTS[rpc](environment=environment), call_of(token))

    assert Reason.TOKEN_LACKS == (await refusal(ask("staging", "writer")))[0]
    assert Reason.TOKEN_LACKS == (await refusal(ask("production", "staging")))[0]
    assert Reason.ENVIRONMENT_UNKNOWN == (await refusal(ask("Staging", "reader")))[0]
    assert await ask("staging", "staging") is not None
    assert await ask("production", "admin") is not None


async def test_the_only_environment_need_not_be_named(serve: Serve, store: DuckDBStore) -> None:
    """An empty environment is the one that there is; where there are none or several it has to be named."""
    record = record_of(environment="staging")
    add_evaluation(record)
    put(store, record)

    answer = await serve(STAGING).ListEvaluations(ListEvaluationsRequest(), READER)

    assert 1 == len(answer.evaluations)
    expected = (Reason.QUERY_INVALID, ["environment"])
    for rpc in READING:
        assert expected == await refusal(answer_of(serve(), rpc, REQUESTS[rpc]()))
    nobody = QueryServicer(TableCatalog(), lambda: store)
    assert expected == await refusal(nobody.ListFeatures(ListFeaturesRequest(), READER))
    nobody.close()


BAD_TIMES = [
    timestamp_pb2.Timestamp(seconds=253_402_300_800),
    timestamp_pb2.Timestamp(seconds=-62_135_596_801),
    timestamp_pb2.Timestamp(seconds=1, nanos=-1),
    timestamp_pb2.Timestamp(seconds=1, nanos=1_000_000_000),
]


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({"page_size": -1}, ["page_size"]),
        ({"page_token": "no token"}, ["page_token"]),
        ({"start_time": time_of(START + 1), "end_time": time_of(START)}, ["end_time"]),
        *(({"start_time": time}, ["start_time"]) for time in BAD_TIMES),
        *(({"end_time": time}, ["end_time"]) for time in BAD_TIMES),
        (
            {"page_size": -1, "start_time": BAD_TIMES[0], "end_time": BAD_TIMES[1]},
            ["start_time", "end_time", "page_size"],
        ),
    ],
)
async def test_bad_questions_name_their_fields(serve: Serve, fields: dict[str, Any], violations: list[str]) -> None:
    """A question that makes no sense is refused with every field that is wrong."""
    request = ListEvaluationsRequest(environment="production", **fields)

    assert (Reason.QUERY_INVALID, violations) == await refusal(serve().ListEvaluations(request, READER))
    if "page_size" not in fields and "page_token" not in fields:
        features = ListFeaturesRequest(environment="production", **fields)
        assert (Reason.QUERY_INVALID, violations) == await refusal(serve().ListFeatures(features, READER))


async def test_an_evaluation_comes_back_as_it_was_sent(serve: Serve, store: DuckDBStore) -> None:
    """Every field of an evaluation, and what the server knows of its batch, is in the answer."""
    record = record_of(batch_id="batch-1", receive_time=START + 5)
    record.envelope.origin = ORIGIN_SERVER
    record.envelope.sdk_name, record.envelope.sdk_version = "flagsmith-python-sdk", "5.0.0"
    record.envelope.sample_rate = 0.25
    traits = [
        IdentityTrait(trait_key="plan", trait_value=value_of("pro")),
        IdentityTrait(trait_key="age", trait_value=value_of(42.0)),
        IdentityTrait(trait_key="plan", trait_value=value_of({"a": [1.0, {"b": None}]})),
    ]
    sent: dict[str, Any] = {
        "feature_name": "checkout",
        "enabled": False,
        "value": value_of({"colour": "blue", "sizes": [1.5, True, None, {}]}),
        "identity_identifier": "user_123",
        "identity_traits": traits,
        "segment_names": ["premium", "beta", "premium"],
        "variant": "b",
        "reason": "SPLIT",
        "metadata": struct_pb2.Struct(fields={"k": value_of([])}),
        "count": 3,
    }
    add_evaluation(record, time=START - 1, **sent)
    put(store, record)

    answer = await serve().ListEvaluations(ListEvaluationsRequest(environment="production"), READER)

    expected = RecordedEvaluation(
        **sent,
        evaluation_timestamp=time_of(START - 1),
        environment="production",
        batch_id="batch-1",
        receive_time=time_of(START + 5),
        position=1 << 16,
        origin=ORIGIN_SERVER,
        sdk_name="flagsmith-python-sdk",
        sdk_version="5.0.0",
        sample_rate=0.25,
    )
    assert [expected] == list(answer.evaluations)


async def test_absence_comes_back_as_absence(serve: Serve, store: DuckDBStore) -> None:
    """What was not sent is not there; null and empty metadata, which were sent, are; a count and a rate come back as 1."""
    record = record_of()
    add_evaluation(record, time=START + 1)
    add_evaluation(record, time=START, value=value_of(None), metadata=struct_pb2.Struct())
    put(store, record)

    bare, null = (await serve().ListEvaluations(ListEvaluationsRequest(environment="production"), READER)).evaluations

    absent = ("enabled", "value", "identity_identifier", "metadata")
    assert [False] * 4 == [bare.HasField(name) for name in absent]
    assert (0, 1, 1.0) == (len(bare.identity_traits), bare.count, bare.sample_rate)
    assert ("null_value", True) == (null.value.WhichOneof("kind"), null.HasField("metadata"))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(json_values, json_values, st.dictionaries(texts, json_values, max_size=3)), min_size=1, max_size=8
    )
)
async def test_json_comes_back(
    tmp_path_factory: pytest.TempPathFactory, sent: list[tuple[Any, Any, dict[str, Any]]]
) -> None:
    """Whatever JSON was sent as value, trait or metadata comes back as the same JSON."""
    record = record_of(environment="staging")
    for value, trait, metadata in sent:
        add_evaluation(
            record,
            value=value_of(value),
            identity_traits=[IdentityTrait(trait_key="k", trait_value=value_of(trait))],
            metadata=value_of(metadata).struct_value if metadata else struct_pb2.Struct(),
        )
    store = DuckDBStore(tmp_path_factory.mktemp("store") / "store")
    put(store, record)
    servicer = QueryServicer(TableCatalog(STAGING), lambda: store)

    answer = await servicer.ListEvaluations(ListEvaluationsRequest(page_size=1000), READER)

    servicer.close()
    store.close()
    found = [(e.value, e.identity_traits[0].trait_value, e.metadata) for e in reversed(answer.evaluations)]
    assert [(e.value, e.identity_traits[0].trait_value, e.metadata) for e in record.evaluations] == found
    assert [sent_[2] for sent_ in sent] == [json_format.MessageToDict(metadata) for _, _, metadata in found]


async def test_pages_follow_each_other(serve: Serve, store: DuckDBStore) -> None:
    """Pages of any size hold every evaluation once, the newest first, and the last one has no token."""
    record = record_of()
    for i in range(25):
        add_evaluation(record, time=START + i // 3, identity_identifier=str(i))
    put(store, record)
    servicer, found, token = serve(), [], ""
    for size in (4, 1, 10, 1000):
        answer = await servicer.ListEvaluations(
            ListEvaluationsRequest(environment="production", page_size=size, page_token=token), READER
        )
        found += [evaluation.identity_identifier for evaluation in answer.evaluations]
        token = answer.next_page_token

    assert [str(i) for i in range(24, -1, -1)] == found
    assert "" == token


async def test_page_sizes(serve: Serve, store: DuckDBStore) -> None:
    """A page holds 100 evaluations unless asked otherwise, and 1,000 at most."""
    record = record_of()
    for i in range(1_200):
        add_evaluation(record, time=START + i)
    put(store, record)
    servicer = serve()
    sizes = [
        len(
            (
                await servicer.ListEvaluations(ListEvaluationsRequest(environment="production", page_size=n), READER)
            ).evaluations
        )
        for n in (0, 1, 1_000, 2**31 - 1)
    ]

    assert [100, 1, 1_000, 1_000] == sizes


@pytest.mark.parametrize(
    "changed",
    [
        {"feature_name": "checkout"},
        {"identity_identifier": "u"},
        {"segment_name": "s"},
        {"start_time": time_of(1)},
        {"end_time": time_of(START * 2)},
        {"environment": "staging"},
        {"value": "1"},
        {"variant": "v"},
        {"reason": "r"},
        {"enabled": False},
        {"trait_key": "k"},
        {"sdk_name": "n"},
        {"sdk_version": "1"},
        {"origin": ORIGIN_SERVER},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_token_goes_with_its_question(serve: Serve, store: DuckDBStore, changed: dict[str, Any]) -> None:
    """A token that is sent with other filters is refused; with another page size it is not."""
    record = record_of()
    add_evaluation(record)
    add_evaluation(record)
    put(store, record)
    servicer = serve()
    first = await servicer.ListEvaluations(ListEvaluationsRequest(environment="production", page_size=1), READER)
    asked = {"environment": "production", "page_token": first.next_page_token, "page_size": 5}

    assert 1 == len((await servicer.ListEvaluations(ListEvaluationsRequest(**asked), READER)).evaluations)
    other = ListEvaluationsRequest(**(asked | changed))
    assert (Reason.QUERY_INVALID, ["page_token"]) == await refusal(servicer.ListEvaluations(other, READER))


async def test_filters(serve: Serve, store: DuckDBStore) -> None:
    """Filters that are set must all hold; the period includes its start and not its end."""
    record = record_of()
    add_evaluation(record, feature_name="a", time=START, identity_identifier="u1", segment_names=["x", "y"])
    add_evaluation(record, feature_name="a", time=START + 1, identity_identifier="u2", segment_names=["y"])
    add_evaluation(record, feature_name="b", time=START + 2, identity_identifier="u1")
    put(store, record)
    servicer = serve()

    async def ask(**fields: Any) -> list[int]:
        answer = await servicer.ListEvaluations(ListEvaluationsRequest(environment="production", **fields), READER)
        return [evaluation.evaluation_timestamp.ToMicroseconds() - START for evaluation in answer.evaluations]

    assert [2, 1, 0] == await ask()
    assert [1, 0] == await ask(feature_name="a")
    assert [2, 0] == await ask(identity_identifier="u1")
    assert [1, 0] == await ask(segment_name="y")
    assert [0] == await ask(segment_name="y", identity_identifier="u1")
    assert [1] == await ask(start_time=time_of(START + 1), end_time=time_of(START + 2))
    assert [] == await ask(start_time=time_of(START), end_time=time_of(START))
    assert [] == await ask(feature_name="A")


async def test_features_are_those_evaluated_and_those_listed(serve: Serve, store: DuckDBStore) -> None:
    """Every feature of the catalog and every one evaluated is listed by name, with the totals of the period."""
    record = record_of(receive_time=START + 9)
    add_evaluation(record, feature_name="checkout", time=START, enabled=True, count=5, identity_identifier="u1")
    add_evaluation(
        record, feature_name="checkout", time=START + 1, enabled=False, identity_identifier="u2", value=value_of("x")
    )
    add_evaluation(record, feature_name="gone", time=START + 50, value=value_of(None))
    put(store, record)

    answer = await serve().ListFeatures(ListFeaturesRequest(environment="production"), READER)

    assert time_of(START + 9) == answer.data_since
    assert [
        FeatureSummary(
            feature_name="checkout",
            in_catalog=True,
            evaluation_count=6,
            enabled_count=5,
            enabled_known_count=6,
            identity_count=2,
            first_evaluation_time=time_of(START),
            last_evaluation_time=time_of(START + 1),
            last_seen_time=time_of(START + 1),
            last_value=value_of("x"),
            sdks=[SdkUse(evaluation_count=6, last_time=time_of(START + 1))],
        ),
        FeatureSummary(
            feature_name="gone",
            in_catalog=False,
            evaluation_count=1,
            first_evaluation_time=time_of(START + 50),
            last_evaluation_time=time_of(START + 50),
            last_seen_time=time_of(START + 50),
            last_value=value_of(None),
            sdks=[SdkUse(evaluation_count=1, last_time=time_of(START + 50))],
        ),
        FeatureSummary(feature_name="never_asked", in_catalog=True),
    ] == list(answer.features)


async def test_where_any_name_goes_every_feature_is_in_the_catalog(serve: Serve, store: DuckDBStore) -> None:
    """An environment that takes any name lists what was evaluated, as in its catalog; one without data says so."""
    servicer, request = serve(), ListFeaturesRequest(environment="staging")
    empty = await servicer.ListFeatures(request, READER)
    assert (0, False) == (len(empty.features), empty.HasField("data_since"))
    record = record_of(environment="staging")
    add_evaluation(record, feature_name="anything")
    put(store, record)

    answer = await servicer.ListFeatures(request, READER)

    assert [("anything", True)] == [(feature.feature_name, feature.in_catalog) for feature in answer.features]


async def test_a_store_that_is_not_there_is_a_clear_answer(serve: Serve) -> None:
    """While the store cannot be read, questions are answered with a delay to ask again after, and without its path."""

    def provider() -> Store:
        raise StoreError("/secret/path cannot be read")

    servicer = serve(provider=provider)
    for rpc in READING:
        with pytest.raises(FlagledgerError) as caught:
            await answer_of(servicer, rpc, REQUESTS[rpc](environment="production"))

        assert Reason.STORE_UNAVAILABLE == caught.value.reason
        assert caught.value.retry_after is not None
        assert "/secret" not in caught.value.message


async def test_a_store_that_is_not_there_is_said_once(serve: Serve) -> None:
    """However many questions a store does not answer, the log says so in one line, with the reason."""

    def provider() -> Store:
        raise StoreError("The server is away.")

    servicer = serve(provider=provider)
    with structlog.testing.capture_logs() as logs:
        for _ in range(20):
            with pytest.raises(FlagledgerError):
                await answer_of(servicer, "ListFeatures", REQUESTS["ListFeatures"](environment="production"))

    assert [("a question could not be answered", "The server is away.")] == [
        (log["event"], log["error"]) for log in logs
    ]


async def test_the_store_is_asked_in_threads(serve: Serve, store: DuckDBStore) -> None:
    """The event loop never waits for the store."""
    threads: set[str] = set()

    def provider() -> Store:
        threads.add(threading.current_thread().name.rsplit("_", 1)[0])
        return store

    await serve(provider=provider).ListFeatures(ListFeaturesRequest(environment="production"), READER)

    assert {"query"} == threads


LONG = 128 << 10


def long_records(rows: int, plain: Any, *, features: int = 10) -> Iterator[JournalRecord]:
    """Yield records of 25 evaluations with *plain* as their value, so many rows in all."""
    value = value_of(plain)
    for start in range(0, rows, 25):
        record = record_of(batch_id=f"b{start}")
        for i in range(start, min(start + 25, rows)):
            add_evaluation(
                record, feature_name=f"f{i % features:02}", time=START + i, value=value, identity_identifier=str(i)
            )
        yield record


async def pages(servicer: QueryServicer, size: int) -> list[ListEvaluationsResponse]:
    """Return every page of that size."""
    found = [await servicer.ListEvaluations(ListEvaluationsRequest(environment="production", page_size=size), READER)]
    while found[-1].next_page_token:
        request = ListEvaluationsRequest(environment="production", page_size=size, page_token=found[-1].next_page_token)
        found.append(await servicer.ListEvaluations(request, READER))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1_000])
async def test_long_values_can_be_read_by_any_client(serve: Serve, tmp_path: Path, size: int) -> None:
    """Rows as long as a public key may send them fit into the store's memory and a client's, and come once each."""
    store = DuckDBStore(tmp_path / "long", memory_limit="256MB")
    for record in long_records(600, "x" * (LONG - 10)):
        put(store, record)
        store.maintain()
    servicer = serve(PRODUCTION, provider=lambda: store)

    found = await pages(servicer, size)
    features = await servicer.ListFeatures(ListFeaturesRequest(environment="production"), READER)

    assert [str(i) for i in range(599, -1, -1)] == [
        evaluation.identity_identifier for page in found for evaluation in page.evaluations
    ]
    assert all(page.ByteSize() < 4 << 20 for page in found)
    assert {LONG - 10} == {len(evaluation.value.string_value) for page in found for evaluation in page.evaluations}
    assert features.ByteSize() < 4 << 20
    store.close()


async def test_a_page_is_measured_as_it_is_sent(serve: Serve, store: DuckDBStore) -> None:
    """Values that are short as texts and long as messages end a page too, and no evaluation is lost at its end."""
    put(store, *long_records(60, [1.0] * (LONG // 11)))

    found = await pages(serve(), 1_000)

    assert [str(i) for i in range(59, -1, -1)] == [
        evaluation.identity_identifier for page in found for evaluation in page.evaluations
    ]
    assert [True] * len(found) == [page.ByteSize() < 4 << 20 for page in found]
    assert len(found) > 1


@pytest.mark.parametrize("plain", ["x" * (LONG - 10), [1.0] * (LONG // 11)], ids=["text", "numbers"])
async def test_last_values_have_a_limit(serve: Serve, store: DuckDBStore, plain: Any) -> None:
    """The first features keep their last value; those behind the limit lack it, and nothing else."""
    put(store, *long_records(40, plain, features=40))

    answer = await serve().ListFeatures(ListFeaturesRequest(environment="production"), READER)

    listed = [feature for feature in answer.features if feature.evaluation_count]
    kept = [feature.HasField("last_value") for feature in listed]
    fitting = (2 << 20) // value_of(plain).ByteSize()
    assert [f"f{i:02}" for i in range(40)] == [feature.feature_name for feature in listed]
    assert [True] * fitting + [False] * (40 - fitting) == kept


class SlowStore(DuckDBStore):
    """A store that takes hours over the question for features."""

    def list_features(
        self,
        environment: str,
        start: int | None,
        end: int | None,
        interrupt: Interrupt | None = None,
        feature_name: str | None = None,
    ) -> Features:
        """Answer some day."""
        with self._reading(interrupt) as connection:
            connection.execute(
                "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE hash(a.range + b.range) = 0"
            ).fetchall()
        raise AssertionError("hours have passed")


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowStore]:
    """Return an empty store that is slow."""
    store = SlowStore(tmp_path / "slow")
    yield store
    store.close()


async def free_again(servicer: QueryServicer) -> bool:
    """Return whether the servicer, of one thread, answers."""
    async with asyncio.timeout(10):
        await servicer.ListEvaluations(ListEvaluationsRequest(environment="production"), READER)
    return True


async def test_a_question_that_takes_too_long_is_ended(slow: SlowStore) -> None:
    """Its caller is told so and what to change, and the thread is there for others."""
    servicer = QueryServicer(TableCatalog(PRODUCTION), lambda: slow, threads=1, seconds=0.3)

    with pytest.raises(FlagledgerError, match=r"longer than 0\.3 s") as caught:
        await servicer.ListFeatures(ListFeaturesRequest(), READER)

    assert Reason.QUESTION_TOO_LONG == caught.value.reason
    await asyncio.sleep(0.3)
    assert await free_again(servicer)
    servicer.close()


async def test_a_question_ends_with_its_call(slow: SlowStore) -> None:
    """A call that is cancelled frees the thread that worked for it, and a checkpoint need not wait."""
    servicer = QueryServicer(TableCatalog(PRODUCTION), lambda: slow, threads=1)
    calls = [asyncio.create_task(servicer.ListFeatures(ListFeaturesRequest(), READER)) for _ in range(3)]
    await asyncio.sleep(0.3)
    for call in calls:
        call.cancel()

    assert [True] * 3 == [
        isinstance(result, asyncio.CancelledError) for result in await asyncio.gather(*calls, return_exceptions=True)
    ]
    assert await free_again(servicer)
    record = record_of()
    add_evaluation(record)
    put(slow, record)
    async with asyncio.timeout(10):
        await asyncio.to_thread(slow.checkpoint)
    servicer.close()


async def test_closing_ends_questions(slow: SlowStore) -> None:
    """A servicer that is closed does not wait for answers."""
    servicer = QueryServicer(TableCatalog(PRODUCTION), lambda: slow, threads=1)
    calls = [asyncio.create_task(servicer.ListFeatures(ListFeaturesRequest(), READER)) for _ in range(2)]
    await asyncio.sleep(0.3)
    async with asyncio.timeout(10):
        await asyncio.to_thread(servicer.close)

    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], FlagledgerError)
    assert isinstance(results[1], asyncio.CancelledError)


async def test_a_deadline_of_the_callers_own_goes_through(slow: SlowStore, tmp_path: Path) -> None:
    """Through the front, the caller hears DEADLINE_EXCEEDED, and the thread behind it is free again."""
    service = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
    servicer = QueryServicer(TableCatalog(PRODUCTION), lambda: slow, threads=1)
    server = grpc.aio.server()
    in_flight = InFlight(max_bytes=1 << 20, max_calls=10)
    server.add_generic_rpc_handlers(
        [grpc_front.handlers(service, servicer, in_flight=in_flight, to_status=_status, metrics=NoMetrics())]
    )
    target = f"unix:{tmp_path}/q"
    server.add_insecure_port(target)
    await server.start()
    forwarder = Forwarder(service, target, servicer.authenticate)
    context = Call(("authorization", "Bearer reader"))
    context.time_remaining = lambda: 0.5  # type: ignore[attr-defined]

    with pytest.raises(ForwardedError) as caught:
        await forwarder.ListFeatures(ListFeaturesRequest(), context)  # type: ignore[attr-defined]

    assert code_pb2.DEADLINE_EXCEEDED == caught.value.status.code
    assert await free_again(servicer)
    await forwarder.close()
    await server.stop(0)
    servicer.close()


class NoMetrics:
    """Metrics that nobody looks at."""

    def call(self, *_: object) -> None:
        """Count nothing."""


def _status(error: Exception) -> status_pb2.Status:
    raise AssertionError from error
