from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.front import grpc as grpc_front
from flagledger.front.limits import InFlight
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2, evaluation_service_pb2_grpc, query_service_pb2
from front.conftest import MAX_BODY_BYTES, SERVICE, Counted, Fronts, status_of
from google.api import httpbody_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from support.intake import CLIENT_KEY, CallContext, valid_evaluation

METADATA = [("x-environment-key", CLIENT_KEY)]
PATH = "/flagledger.v1.EvaluationService/RecordEvaluations"


def batch(
    *evaluations: evaluation_pb2.Evaluation, batch_id: str = ""
) -> evaluation_service_pb2.RecordEvaluationsRequest:
    """Return a request of these evaluations."""
    return evaluation_service_pb2.RecordEvaluationsRequest(
        batch=evaluation_pb2.EvaluationBatch(evaluations=evaluations, batch_id=batch_id)
    )


class Unasked:
    """A servicer of questions that nobody asks."""

    async def authenticate(self, context: object) -> None:
        """Let everybody in."""

    def __getattr__(self, name: str) -> object:
        return self.authenticate


class Exporter(Unasked):
    """A servicer that exports what the test says."""

    def __init__(self) -> None:
        self.then: Callable[[Any], Awaitable[None]] = self.authenticate
        self.pieces = [b"a", b"b"]
        self.request: Any = None
        self.sent = 0
        self.held: list[tuple[int, int]] = []
        self.in_flight = InFlight(max_bytes=256 * 1024, max_calls=2)

    async def authenticate(self, context: Any) -> None:
        """Let in who says please."""
        if ("authorization", "please") not in tuple(context.invocation_metadata()):
            raise FlagledgerError(Reason.TOKEN_INVALID, "Who are you?")

    async def ExportEvaluations(self, request: Any, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """Send the pieces, and do what the test says then."""
        self.request = request
        try:
            for piece in self.pieces:
                self.held.append((self.in_flight.calls, self.in_flight.bytes))
                self.sent += 1
                yield httpbody_pb2.HttpBody(data=piece)
            await self.then(context)
        finally:
            # What it holds must be counted for as long as it closes.
            await asyncio.sleep(0)
            self.held.append((self.in_flight.calls, self.in_flight.bytes))


@dataclass
class Exporting:
    """A server of exports, and what it counted."""

    servicer: Exporter
    counted: Counted
    channel: grpc.aio.Channel

    def start(
        self, request: query_service_pb2.ExportEvaluationsRequest | bytes = b"", authorization: str = "please"
    ) -> grpc.aio.UnaryStreamCall[Any, bytes]:
        """Ask for an export."""
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        path = "/flagledger.v1.QueryService/ExportEvaluations"
        return self.channel.unary_stream(path)(raw, metadata=[("authorization", authorization)])

    async def over(self, code: int) -> bool:
        """Wait until an export is counted with *code*, and nothing is held any more."""
        call = ("grpc", "flagledger.v1.QueryService.ExportEvaluations", code)
        in_flight = self.servicer.in_flight
        return await settled(lambda: [call] == self.counted.calls and (in_flight.calls, in_flight.bytes) == (0, 0))


@pytest.fixture
async def exporting() -> AsyncIterator[Exporting]:
    """Yield a server of exports."""
    servicer = Exporter()
    counted = Counted()
    server = grpc_front.Server(
        [(query_service_pb2.DESCRIPTOR.services_by_name["QueryService"], servicer)],
        in_flight=InFlight(max_bytes=0, max_calls=0),
        asking=servicer.in_flight,
        to_status=status_of,
        metrics=counted,
        max_message_bytes=MAX_BODY_BYTES,
    )
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Exporting(servicer, counted, channel)
    await server.stop(0)


async def stream_refusal(
    call: grpc.aio.UnaryStreamCall[Any, bytes],
) -> tuple[list[bytes], grpc.StatusCode, status_pb2.Status | None]:
    """Return what came before a stream failed, the code and the rich status."""
    found: list[bytes] = []
    try:
        async for raw in call:
            found.append(httpbody_pb2.HttpBody.FromString(raw).data)  # noqa: PERF401 - what came until it failed counts
    except grpc.aio.AioRpcError as error:
        return found, error.code(), rpc_status.from_call(error)
    raise AssertionError("The stream did not fail.")


async def settled(holds: Callable[[], bool]) -> bool:
    """Wait until it holds; an answer arrives before the server has put everything away."""
    for _ in range(400):
        if holds():
            return True
        await asyncio.sleep(0.01)
    return False


@asynccontextmanager
async def serving(
    fronts: Fronts, **options: float
) -> AsyncIterator[tuple[evaluation_service_pb2_grpc.EvaluationServiceAsyncStub, InFlight]]:
    """Yield the stub of another server around the same servicer, and its budget."""
    in_flight = InFlight(max_bytes=256 * 1024, max_calls=8)
    server = grpc_front.Server(
        [(SERVICE, fronts.servicer)],
        in_flight=in_flight,
        asking=InFlight(max_bytes=1, max_calls=1),
        to_status=status_of,
        metrics=fronts.counted,
        max_message_bytes=MAX_BODY_BYTES,
        **options,
    )
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield evaluation_service_pb2_grpc.EvaluationServiceStub(channel), in_flight
    await server.stop(0)


async def refusal(call: grpc.aio.UnaryUnaryCall[object, object]) -> tuple[grpc.StatusCode, status_pb2.Status | None]:
    """Return the code and the rich status that a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return failed.value.code(), rpc_status.from_call(failed.value)


def detail(status: status_pb2.Status | None, kind: type) -> object | None:
    """Return the detail of *kind*, or None."""
    for packed in status.details if status else ():
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None


async def test_malformed(fronts: Fronts) -> None:
    """A message that is no protobuf answers INVALID_ARGUMENT with a status, not UNKNOWN."""
    code, status = await refusal(fronts.channel.unary_unary(PATH)(b"\xff\xff\xff", metadata=METADATA))

    assert grpc.StatusCode.INVALID_ARGUMENT is code
    assert "MALFORMED" == detail(status, error_details_pb2.ErrorInfo).reason


async def test_key_first(fronts: Fronts) -> None:
    """Without a key nothing is said of the message, malformed or not."""
    answers = [await refusal(fronts.channel.unary_unary(PATH)(raw)) for raw in (b"\xff\xff\xff", b"")]

    assert grpc.StatusCode.UNAUTHENTICATED is answers[0][0]
    assert answers[0] == answers[1]


async def test_too_large(fronts: Fronts) -> None:
    """A message past the limit is RESOURCE_EXHAUSTED without a delay: the same one is never to be sent again."""
    code, status = await refusal(
        fronts.stub.RecordEvaluations(batch(valid_evaluation(variant="x" * MAX_BODY_BYTES)), metadata=METADATA)
    )

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
    assert None is detail(status, error_details_pb2.RetryInfo)
    assert [] == fronts.journal.payloads


@pytest.mark.parametrize("inflated", [0, 16 << 20])
async def test_gzip(fronts: Fronts, inflated: int) -> None:
    """Gzip is taken, and a message that inflates past the limit is refused."""
    call = fronts.stub.RecordEvaluations(
        batch(valid_evaluation(variant="x" * inflated)), metadata=METADATA, compression=grpc.Compression.Gzip
    )

    if inflated:
        assert grpc.StatusCode.RESOURCE_EXHAUSTED is (await refusal(call))[0]
    else:
        assert 1 == (await call).accepted_count


async def test_details_fit(fronts: Fronts) -> None:
    """The details of many long violations stay within the trailers: the code arrives, every time."""
    broken = [evaluation_pb2.Evaluation(feature_name="x" * 100, variant="é" * 300) for _ in range(60)]
    for _ in range(50):
        code, status = await refusal(fronts.stub.RecordEvaluations(batch(*broken), metadata=METADATA))

        assert grpc.StatusCode.INVALID_ARGUMENT is code
        assert status is not None
        assert status.ByteSize() <= 4096
        assert 20 >= len(detail(status, error_details_pb2.BadRequest).field_violations) > 0


async def test_calls_in_flight(fronts: Fronts) -> None:
    """Past the limit of calls the answer is RESOURCE_EXHAUSTED with a delay, and the calls within it are answered."""
    fronts.journal.open.clear()
    held = [fronts.stub.RecordEvaluations(batch(valid_evaluation()), metadata=METADATA) for _ in range(8)]
    while fronts.journal.waiting < 8:
        await asyncio.sleep(0.005)

    code, status = await refusal(fronts.stub.RecordEvaluations(batch(valid_evaluation()), metadata=METADATA))
    fronts.journal.open.set()
    answers = await asyncio.gather(*held)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED is code
    assert detail(status, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert [1] * 8 == [answer.accepted_count for answer in answers]
    assert (0, 0) == (fronts.in_flight.calls, fronts.in_flight.bytes)


async def test_bytes_in_flight(fronts: Fronts) -> None:
    """Past the budget of bytes the answer is RESOURCE_EXHAUSTED with a delay."""
    fronts.journal.open.clear()
    large = [valid_evaluation(variant="x" * 1900) for _ in range(30)]
    held = [fronts.stub.RecordEvaluations(batch(*large), metadata=METADATA) for _ in range(4)]
    while fronts.journal.waiting < 4:
        await asyncio.sleep(0.005)

    code, status = await refusal(fronts.stub.RecordEvaluations(batch(*large), metadata=METADATA))
    fronts.journal.open.set()
    await asyncio.gather(*held)

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "BYTES_IN_FLIGHT") == (
        code,
        detail(status, error_details_pb2.ErrorInfo).reason,
    )
    assert 0 == fronts.in_flight.bytes


async def test_unforeseen(fronts: Fronts) -> None:
    """A failure that nobody foresaw is INTERNAL, and tells the caller nothing of itself."""
    fronts.servicer.failure = ZeroDivisionError("secret")

    code, status = await refusal(fronts.stub.RecordEvaluations(batch(), metadata=METADATA))

    assert grpc.StatusCode.INTERNAL is code
    assert "secret" not in str(status)
    assert await settled(
        lambda: ("grpc", "flagledger.v1.EvaluationService.RecordEvaluations", 13) in fronts.counted.calls
    )


async def test_retry_info(fronts: Fronts) -> None:
    """A refusal that passes says when to come back."""
    fronts.journal.refusal = FlagledgerError(Reason.DISK_FAILING, "The disk is full.")

    code, status = await refusal(fronts.stub.RecordEvaluations(batch(valid_evaluation()), metadata=METADATA))

    assert grpc.StatusCode.UNAVAILABLE is code
    assert 5000 == detail(status, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()


async def test_stream(fronts: Fronts) -> None:
    """On a stream each batch has its answer, in order; a malformed or refused one ends nothing."""
    good = batch(valid_evaluation()).SerializeToString()
    sent = [good, b"\xff\xff\xff", batch(evaluation_pb2.Evaluation()).SerializeToString(), good]

    async def requests() -> AsyncIterator[bytes]:
        for raw in sent:
            yield raw

    stream = fronts.channel.stream_stream("/flagledger.v1.EvaluationService/StreamEvaluations")
    answers = [
        evaluation_service_pb2.StreamEvaluationsResponse.FromString(raw)
        async for raw in stream(requests(), metadata=METADATA)
    ]

    assert ["result", "error", "error", "result"] == [answer.WhichOneof("outcome") for answer in answers]
    assert ["MALFORMED", "NOTHING_VALID"] == [
        detail(answer.error, error_details_pb2.ErrorInfo).reason for answer in answers[1:3]
    ]
    assert (0, 0) == (fronts.in_flight.calls, fronts.in_flight.bytes)


async def test_stream_abandoned(fronts: Fronts) -> None:
    """A stream whose client goes away gives back what it held."""
    fronts.journal.open.clear()
    stream = fronts.stub.StreamEvaluations(metadata=METADATA)
    await stream.write(evaluation_service_pb2.StreamEvaluationsRequest(batch=batch(valid_evaluation()).batch))
    while not fronts.journal.waiting:
        await asyncio.sleep(0.005)

    stream.cancel()
    fronts.journal.open.set()

    assert await settled(lambda: (0, 0) == (fronts.in_flight.streams, fronts.in_flight.bytes))


async def test_held_until_closed(fronts: Fronts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a stream that is abandoned stay counted until the servicer has let go of its batches."""
    held: list[int] = []

    async def answers(items: AsyncIterator[object], context: object) -> AsyncIterator[object]:
        try:
            await anext(items)
            await anext(items)
            yield evaluation_service_pb2.StreamEvaluationsResponse()
        finally:
            await asyncio.sleep(0)
            held.append(fronts.in_flight.bytes)

    async def requests() -> AsyncIterator[bytes]:
        yield batch().SerializeToString()
        yield batch().SerializeToString()

    monkeypatch.setattr(fronts.servicer, "StreamEvaluations", answers)
    front = grpc_front.handlers(
        SERVICE, fronts.servicer, in_flight=fronts.in_flight, to_status=status_of, metrics=fronts.counted
    )
    details = SimpleNamespace(method="/flagledger.v1.EvaluationService/StreamEvaluations", invocation_metadata=())
    stream = front.service(details).stream_stream(requests(), CallContext())
    await anext(stream)
    await stream.aclose()

    assert [4096] == held
    assert (0, 0) == (fronts.in_flight.bytes, fronts.in_flight.streams)


@pytest.mark.parametrize("pieces", [[], [b"a", b"b"]])
async def test_server_stream(exporting: Exporting, pieces: list[bytes]) -> None:
    """An rpc that answers with a stream gets its request, and its messages arrive in order; it is counted at its end."""
    exporting.servicer.pieces = pieces
    request = query_service_pb2.ExportEvaluationsRequest(format="csv")
    found = [httpbody_pb2.HttpBody.FromString(raw).data async for raw in exporting.start(request)]

    assert (pieces, request) == (found, exporting.servicer.request)
    assert await exporting.over(0)


async def test_server_stream_holds(exporting: Exporting) -> None:
    """A stream that answers counts as one call, with the bytes of its request, until it is closed."""
    request = query_service_pb2.ExportEvaluationsRequest(format="csv")
    async for _ in exporting.start(request):
        pass

    assert [(1, request.ByteSize())] * 3 == exporting.servicer.held
    assert await exporting.over(0)


async def test_server_stream_key_first(exporting: Exporting) -> None:
    """Without a token nothing is said of the request, malformed or not, and nothing is run."""
    answers = [await stream_refusal(exporting.start(raw, "now")) for raw in (b"\xff\xff\xff", b"")]

    assert ([], grpc.StatusCode.UNAUTHENTICATED) == answers[0][:2]
    assert answers[0] == answers[1]
    assert (None, []) == (exporting.servicer.request, exporting.counted.refusals)


async def test_server_stream_malformed(exporting: Exporting) -> None:
    """A request that is no protobuf answers INVALID_ARGUMENT with a status, and is counted as the front's own refusal."""
    found, code, status = await stream_refusal(exporting.start(b"\xff\xff\xff"))

    assert ([], grpc.StatusCode.INVALID_ARGUMENT) == (found, code)
    assert "MALFORMED" == detail(status, error_details_pb2.ErrorInfo).reason
    assert ["MALFORMED"] == exporting.counted.refusals
    assert await exporting.over(3)


@pytest.mark.parametrize("pieces", [[], [b"a", b"b"]])
async def test_server_stream_fails(exporting: Exporting, pieces: list[bytes]) -> None:
    """A stream that fails, at once or in its middle, ends with the status of the failure, behind what came before."""

    async def fail(context: object) -> None:
        raise FlagledgerError(Reason.STORE_UNAVAILABLE, "Wait.")

    exporting.servicer.pieces = pieces
    exporting.servicer.then = fail
    found, code, status = await stream_refusal(exporting.start())

    assert (pieces, grpc.StatusCode.UNAVAILABLE) == (found, code)
    assert "STORE_UNAVAILABLE" == detail(status, error_details_pb2.ErrorInfo).reason
    assert [] == exporting.counted.refusals
    assert await exporting.over(14)


async def test_server_stream_unforeseen(exporting: Exporting) -> None:
    """A failure that nobody foresaw tells the caller nothing of itself."""

    async def fail(context: object) -> None:
        raise ZeroDivisionError("secret")

    exporting.servicer.then = fail
    _, code, status = await stream_refusal(exporting.start())

    assert grpc.StatusCode.INTERNAL is code
    assert "secret" not in str(status)
    assert await exporting.over(13)


async def test_server_stream_abandoned(exporting: Exporting) -> None:
    """A stream whose client goes while it waits is closed, and counted as cancelled."""

    async def wait(context: object) -> None:
        await asyncio.sleep(60)

    exporting.servicer.then = wait
    call = exporting.start()
    await call.read()
    call.cancel()

    assert await exporting.over(1)


async def test_server_stream_slow_reader(exporting: Exporting, caplog: pytest.LogCaptureFixture) -> None:
    """A client that does not read holds the stream up; when it goes, the stream is closed, and nothing is logged."""
    exporting.servicer.pieces = [bytes(1 << 20)] * 200
    call = exporting.start()
    await call.read()
    before = -1
    # What fits into the windows of the connection is on its way; then nothing moves.
    while exporting.servicer.sent != before:
        before = exporting.servicer.sent
        await asyncio.sleep(0.3)
    call.cancel()

    assert await exporting.over(1)
    assert 0 < exporting.servicer.sent < 100
    assert ((1, 0), []) == (exporting.servicer.held[-1], caplog.records)


async def test_server_stream_idle_reader(exporting: Exporting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that reads nothing for a while holds nothing any more, and is told so once it reads again."""
    monkeypatch.setattr(grpc_front, "READER_SECONDS", 0.3)
    exporting.servicer.pieces = [bytes(1 << 20)] * 200
    call = exporting.start()

    assert await exporting.over(grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    _, code, _ = await stream_refusal(call)
    assert grpc.StatusCode.DEADLINE_EXCEEDED is code


async def test_server_stream_abandoned_in_haste(exporting: Exporting, caplog: pytest.LogCaptureFixture) -> None:
    """A stream whose client goes while it writes is closed before its place is given back, and nothing is logged."""
    exporting.servicer.pieces = [bytes(100_000)] * 100_000
    call = exporting.start()
    for _ in range(5):
        await call.read()
    call.cancel()

    assert await exporting.over(1)
    assert ((1, 0), []) == (exporting.servicer.held[-1], caplog.records)


async def test_server_stream_that_cannot_be_written(exporting: Exporting) -> None:
    """A message that gRPC cannot send any more ends the call as the cancellation that it is the first sign of."""

    class Gone(CallContext):
        async def write(self, raw: bytes) -> None:
            raise grpc.aio.InternalError("Failed.")

    servicer = exporting.servicer
    service = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
    front = grpc_front.handlers(
        service, servicer, in_flight=servicer.in_flight, to_status=status_of, metrics=exporting.counted
    )
    details = SimpleNamespace(method=f"/{service.full_name}/ExportEvaluations", invocation_metadata=())
    with pytest.raises(asyncio.CancelledError):
        await front.service(details).unary_stream(b"", Gone(("authorization", "please")))

    assert await exporting.over(1)
    assert [(1, 0)] * 2 == servicer.held


async def test_server_streams_are_calls(exporting: Exporting) -> None:
    """Past the limit of calls a stream is refused with a delay, and counted."""
    for _ in range(2):
        exporting.servicer.in_flight.enter()
    found, code, status = await stream_refusal(exporting.start())

    assert ([], grpc.StatusCode.RESOURCE_EXHAUSTED) == (found, code)
    assert detail(status, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert (["CALLS_IN_FLIGHT"], 2) == (exporting.counted.refusals, exporting.servicer.in_flight.calls)


async def test_idle_streams(fronts: Fronts) -> None:
    """Streams on which nothing happens take no call's place; past a bound of their own they are refused, and counted."""
    streams = [fronts.stub.StreamEvaluations(metadata=METADATA) for _ in range(16)]
    assert await settled(lambda: fronts.in_flight.streams == 16)

    answer = await fronts.stub.RecordEvaluations(batch(valid_evaluation()), metadata=METADATA)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await fronts.stub.StreamEvaluations(metadata=METADATA).read()
    for stream in streams:
        stream.cancel()

    assert 1 == answer.accepted_count
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.value.code()
    assert ["CALLS_IN_FLIGHT"] == fronts.counted.refusals
    assert await settled(lambda: fronts.in_flight.streams == 0)


@pytest.mark.parametrize("batches", [0, 1])
async def test_old_stream(fronts: Fronts, batches: int) -> None:
    """A stream ends by itself when it is old, with OK and every answer, though nothing comes on it any more."""
    async with serving(fronts, stream_age_seconds=0.3) as (stub, in_flight):
        stream = stub.StreamEvaluations(metadata=METADATA)
        for _ in range(batches):
            await stream.write(evaluation_service_pb2.StreamEvaluationsRequest(batch=batch(valid_evaluation()).batch))
        async with asyncio.timeout(10):
            answers = [answer.result.accepted_count async for answer in stream]
            code = await stream.code()

        assert ([1] * batches, grpc.StatusCode.OK) == (answers, code)
        assert await settled(lambda: (0, 0) == (in_flight.streams, in_flight.bytes))


async def test_small_batches_count(fronts: Fronts) -> None:
    """Batches of a stream have a least size in the budget: many empty ones are not for nothing."""
    fronts.journal.open.clear()
    stream = fronts.stub.StreamEvaluations(metadata=METADATA)
    for _ in range(10):
        await stream.write(evaluation_service_pb2.StreamEvaluationsRequest(batch=batch(valid_evaluation()).batch))

    assert await settled(lambda: fronts.in_flight.bytes == 10 * 4096)
    stream.cancel()


async def test_refusals_are_counted(fronts: Fronts) -> None:
    """What the front refuses by itself is counted by its reason; what the servicer refuses it leaves to the servicer."""
    await refusal(fronts.channel.unary_unary(PATH)(b"\xff\xff\xff", metadata=METADATA))
    await refusal(fronts.channel.unary_unary(PATH)(b""))
    await refusal(fronts.stub.RecordEvaluations(batch(evaluation_pb2.Evaluation()), metadata=METADATA))
    fronts.in_flight.acquire(256 * 1024)
    await refusal(fronts.stub.RecordEvaluations(batch(valid_evaluation()), metadata=METADATA))
    for _ in range(8):
        fronts.in_flight.enter()
    await refusal(fronts.stub.RecordEvaluations(batch(valid_evaluation()), metadata=METADATA))

    assert ["MALFORMED", "BYTES_IN_FLIGHT", "CALLS_IN_FLIGHT"] == fronts.counted.refusals


async def test_large_metadata(fronts: Fronts) -> None:
    """Metadata of 15 KiB is taken, and of 17 KiB refused, each time."""
    for _ in range(20):
        answer = await fronts.stub.RecordEvaluations(batch(), metadata=[*METADATA, ("x-a", "a" * 15 * 1024)])
        code, _ = await refusal(fronts.stub.RecordEvaluations(batch(), metadata=[*METADATA, ("x-a", "a" * 17 * 1024)]))

        assert (0, grpc.StatusCode.RESOURCE_EXHAUSTED) == (answer.accepted_count, code)


async def test_health(fronts: Fronts) -> None:
    """Standard health answers for the server and for each service, and turns at the drain."""
    stub = health_pb2_grpc.HealthStub(fronts.channel)

    async def statuses() -> list[int]:
        names = ("", "flagledger.v1.EvaluationService")
        return [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names]

    before = await statuses()
    await fronts.server.report(intake=False, queries=False)
    after = await statuses()
    await fronts.server.report(intake=True, queries=False)
    without_queries = await statuses()

    assert [health_pb2.HealthCheckResponse.SERVING] * 2 == before
    assert [health_pb2.HealthCheckResponse.NOT_SERVING] * 2 == after
    assert before == without_queries


async def test_health_of_queries(fronts: Fronts) -> None:
    """The health of QueryService is its own: intake goes on where no question is answered."""
    server = grpc_front.Server(
        [(SERVICE, fronts.servicer), (query_service_pb2.DESCRIPTOR.services_by_name["QueryService"], Unasked())],
        in_flight=fronts.in_flight,
        asking=InFlight(max_bytes=1, max_calls=1),
        to_status=status_of,
        metrics=fronts.counted,
        max_message_bytes=MAX_BODY_BYTES,
    )
    port = await server.start("127.0.0.1:0")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        await server.report(intake=True, queries=False)
        found = [
            (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status
            for name in ("", "flagledger.v1.EvaluationService", "flagledger.v1.QueryService")
        ]
    await server.stop(0)

    serving_, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert [serving_, serving_, not_serving] == found


async def test_reflection(fronts: Fronts) -> None:
    """Reflection lists the services, so that a client needs no file."""
    stub = reflection_pb2_grpc.ServerReflectionStub(fronts.channel)

    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    [answer] = [answer async for answer in stub.ServerReflectionInfo(requests())]

    assert {"flagledger.v1.EvaluationService", "grpc.health.v1.Health"} <= {
        service.name for service in answer.list_services_response.service
    }
