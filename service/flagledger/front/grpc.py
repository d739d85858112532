"""
The gRPC front: servicers on grpc.aio, with the checks that generated handlers leave out.

Handlers take raw bytes, for three reasons: the caller is authenticated before the message is looked at, a message that is no
protobuf answers INVALID_ARGUMENT (a generated handler answers UNKNOWN), and the bytes in flight are known.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from flagledger.errors import FlagledgerError, Reason
from flagledger.front.limits import InFlight

# What a connection may do. Stated for SDK authors in docs/sdk.md.
MIN_PING_INTERVAL_SECONDS: Final = 30
CONNECTION_AGE_SECONDS: Final = 3600
CONNECTION_AGE_GRACE_SECONDS: Final = 60
# A stream ends by itself, every batch that was read answered, before its connection's age cuts it.
STREAM_AGE_SECONDS: Final = 3000
_MAX_METADATA_BYTES: Final = 16 * 1024
# What a batch of a stream counts at least: however small it is, it has a task and a message of its own.
_MIN_BATCH_BYTES: Final = 4096
# Between our own processes: what a front has let through, the writer takes.
INTERNAL_OPTIONS: Final = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
]


class Servicer(Protocol):
    """What a servicer has beside one coroutine function an rpc, or async generator function where it answers with a stream."""

    async def authenticate(self, context: Any, /) -> object:
        """Check the caller's credentials; raise where they do not do."""


class Metrics(Protocol):
    """What the front counts."""

    def call(self, protocol: str, method: str, code: int, seconds: float) -> None:
        """Count a call that was answered with *code* (google.rpc.Code) after *seconds*."""

    def refused(self, reason: Enum) -> None:
        """Count a call that the front refused by itself; a servicer counts its own refusals."""


_CANCELLED: Final = 1
QUERY_SERVICE: Final = "flagledger.v1.QueryService"
# A reader of a stream that takes nothing for so long is as good as gone.
READER_SECONDS: Final = 60.0
_PARTING_SECONDS: Final = 1.0

ToStatus = Callable[[Exception], status_pb2.Status]
_T = TypeVar("_T")


def options(*, max_message_bytes: int) -> list[tuple[str, int]]:
    """Return the channel arguments of the public gRPC server."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_concurrent_streams", 1000),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        # The same: between the two gRPC refuses at random.
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.so_reuseport", 1),
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_PING_INTERVAL_SECONDS * 1000),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_SECONDS * 1000),
        ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_GRACE_SECONDS * 1000),
    ]


def handlers(
    service: ServiceDescriptor,
    servicer: Servicer,
    *,
    in_flight: InFlight,
    to_status: ToStatus,
    metrics: Metrics,
    stream_age_seconds: float = STREAM_AGE_SECONDS,
) -> grpc.GenericRpcHandler:
    """
    Return handlers that serve every rpc of *service* out of *servicer*.

    Args:
        service: Descriptor of the service; every kind of rpc but those that take a stream and answer once.
        servicer: Has one method an rpc, `authenticate`, and raises what *to_status* knows.
        in_flight: The budget of bytes and calls, shared with the HTTP front.
        to_status: Turns an exception into what the caller is told.
        metrics: Where calls are counted.
        stream_age_seconds: Seconds after which a stream is read no further, and ends once what was read is answered.
    """
    front = _Front(servicer, in_flight, to_status, metrics, stream_age_seconds)
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: front.handler(method) for method in service.methods}
    )


class Server:
    """
    The public gRPC server: the services, standard health for each of them, and reflection.

    Args:
        services: Descriptors with the servicers that answer for them.
        in_flight: The budget of bytes and calls, shared with the HTTP front.
        asking: That of QueryService.
        to_status: Turns an exception into what the caller is told.
        metrics: Where calls are counted.
        max_message_bytes: Limit of a message, after decompression too.
        stream_age_seconds: See `handlers`.
    """

    def __init__(
        self,
        services: Sequence[tuple[ServiceDescriptor, Servicer]],
        *,
        in_flight: InFlight,
        asking: InFlight,
        to_status: ToStatus,
        metrics: Metrics,
        max_message_bytes: int,
        stream_age_seconds: float = STREAM_AGE_SECONDS,
    ) -> None:
        self._server = grpc.aio.server(options=options(max_message_bytes=max_message_bytes))
        self._names = [descriptor.full_name for descriptor, _ in services]
        self._server.add_generic_rpc_handlers(
            [
                handlers(
                    descriptor,
                    servicer,
                    in_flight=asking if descriptor.full_name == QUERY_SERVICE else in_flight,
                    to_status=to_status,
                    metrics=metrics,
                    stream_age_seconds=stream_age_seconds,
                )
                for descriptor, servicer in services
            ]
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def start(self, address: str) -> int:
        """Listen on *address* (`host:port`) and return the port."""
        port = self._server.add_insecure_port(address)
        await self._server.start()
        return port

    async def report(self, *, intake: bool, queries: bool) -> None:
        """
        Say through the health service what works.

        Args:
            intake: Whether evaluations are taken: the health of the server as a whole, and of every service but the next.
            queries: Whether questions are answered: that of QueryService.
        """
        for name in ("", *self._names):
            serving = queries if name == QUERY_SERVICE else intake
            await self._health.set(
                name, health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
            )

    async def stop(self, seconds: float) -> None:
        """Take no more calls, report NOT_SERVING for good, and give those under way *seconds* to finish."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(seconds)


class _Front:
    def __init__(
        self,
        servicer: Servicer,
        in_flight: InFlight,
        to_status: ToStatus,
        metrics: Metrics,
        stream_age_seconds: float,
    ) -> None:
        self._servicer = servicer
        self._in_flight = in_flight
        self._to_status = to_status
        self._metrics = metrics
        self._stream_age_seconds = stream_age_seconds

    def handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[bytes, bytes]:
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._bidirectional(method))
        if method.client_streaming:
            raise NotImplementedError(f"{method.full_name}: rpcs that take a stream and answer once are not served.")
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._server_streaming(method))
        return grpc.unary_unary_rpc_method_handler(self._unary(method))

    def _unary(self, method: MethodDescriptor) -> Callable[[bytes, Any], Awaitable[bytes]]:
        call = getattr(self._servicer, method.name)

        async def answer(request: Message, context: Any) -> bytes:
            answered: bytes = (await call(request, context)).SerializeToString()
            return answered

        return self._handler_of(method, answer, _refuse)

    def _server_streaming(self, method: MethodDescriptor) -> Callable[[bytes, Any], Awaitable[None]]:
        call = getattr(self._servicer, method.name)

        async def answer(request: Message, context: Any) -> None:
            # Written and not yielded, so that a call that ends while it writes is closed here, before what it held is
            # given back, and not by the collector.
            async with aclosing(call(request, context)) as answers:
                async for answer in answers:
                    await _write(context, answer.SerializeToString())

        return self._handler_of(method, answer, _refuse_in_the_middle)

    def _handler_of(
        self,
        method: MethodDescriptor,
        answer: Callable[[Message, Any], Awaitable[_T]],
        refuse: Callable[[Any, status_pb2.Status], Awaitable[None]],
    ) -> Callable[[bytes, Any], Awaitable[_T]]:
        """Return a handler of one request: let in, counted, and checked before it is answered."""
        parse: Callable[[bytes], Message] = GetMessageClass(method.input_type).FromString
        authenticate = self._servicer.authenticate
        in_flight = self._in_flight
        name = method.full_name

        async def handle(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> Any:
            started = time.perf_counter()
            code = 0
            size = 0
            entered = False
            ours = True
            try:
                in_flight.enter()
                entered = True
                ours = False
                await authenticate(context)
                ours = True
                in_flight.acquire(len(raw))
                size = len(raw)
                request = _parse(parse, raw)
                ours = False
                return await answer(request, context)
            except asyncio.CancelledError:
                code = _CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - to_status decides what each becomes
                if ours and isinstance(error, FlagledgerError):
                    self._metrics.refused(error.reason)
                status = self._to_status(error)
                code = status.code
                await refuse(context, status)
            finally:
                in_flight.release(size)
                if entered:
                    in_flight.leave()
                self._metrics.call("grpc", name, code, time.perf_counter() - started)

        return handle

    def _bidirectional(self, method: MethodDescriptor) -> Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]:
        parse: Callable[[bytes], Message] = GetMessageClass(method.input_type).FromString
        call = getattr(self._servicer, method.name)
        name = method.full_name

        async def bidirectional(
            raw_messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
        ) -> AsyncIterator[bytes]:
            started = time.perf_counter()
            code = 0
            opened = False
            held: deque[int] = deque()
            try:
                self._open_stream()
                opened = True
                await self._servicer.authenticate(context)
                # Closed here and not by the collector: what is held is held until nobody works on it any more.
                async with (
                    aclosing(self._read(raw_messages, parse, held)) as messages,
                    aclosing(call(messages, context)) as answers,
                ):
                    async for answer in answers:
                        # Answers come in the order of the batches, so that the oldest bytes are those just answered.
                        self._in_flight.release(held.popleft())
                        yield answer.SerializeToString()
            except (asyncio.CancelledError, GeneratorExit):
                code = _CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - to_status decides what each becomes
                status = self._to_status(error)
                code = status.code
                await context.abort_with_status(rpc_status.to_status(status))
            finally:
                self._in_flight.release(sum(held))
                if opened:
                    self._in_flight.close_stream()
                self._metrics.call("grpc", name, code, time.perf_counter() - started)

        return bidirectional

    def _open_stream(self) -> None:
        try:
            self._in_flight.open_stream()
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            raise

    async def _read(
        self, raw_messages: AsyncIterator[bytes], parse: Callable[[bytes], Message], held: deque[int]
    ) -> AsyncGenerator[Message | FlagledgerError, None]:
        """
        Yield messages until the stream is old, or in its place what is wrong with one, which the servicer counts.

        *held* keeps the bytes of each until it is answered.
        """
        deadline = asyncio.get_running_loop().time() + self._stream_age_seconds
        incoming = aiter(raw_messages)
        while True:
            try:
                # Around the wait, so that a stream on which nothing comes ends too; it has nothing unanswered then.
                async with asyncio.timeout_at(deadline):
                    raw = await anext(incoming)
            except (StopAsyncIteration, TimeoutError):
                return
            item: Message | FlagledgerError
            size = max(len(raw), _MIN_BATCH_BYTES)
            try:
                self._in_flight.acquire(size)
            except FlagledgerError as error:
                size, item = 0, error
            else:
                try:
                    item = _parse(parse, raw)
                except FlagledgerError as error:
                    item = error
            held.append(size)
            yield item


async def _refuse(context: grpc.aio.ServicerContext[bytes, bytes], status: status_pb2.Status) -> None:
    await context.abort_with_status(rpc_status.to_status(status))


async def _refuse_in_the_middle(context: grpc.aio.ServicerContext[bytes, bytes], status: status_pb2.Status) -> None:
    # A reader that reads nothing does not take this either.
    with suppress(TimeoutError):
        async with asyncio.timeout(_PARTING_SECONDS):
            await _refuse(context, status)


async def _write(context: grpc.aio.ServicerContext[bytes, bytes], raw: bytes) -> None:
    try:
        async with asyncio.timeout(READER_SECONDS):
            await context.write(raw)
    except TimeoutError:
        raise FlagledgerError(
            Reason.READER_TOO_SLOW, f"Nothing was read for {READER_SECONDS:g} s; what was sent is incomplete."
        ) from None
    except grpc.aio.InternalError:
        # The caller has gone, and the cancellation of the call is behind: gRPC would log the one, and not the other.
        raise asyncio.CancelledError from None


def _parse(parse: Callable[[bytes], Message], raw: bytes) -> Message:
    try:
        return parse(raw)
    except DecodeError:
        raise FlagledgerError(
            Reason.MALFORMED, "The message is not the protobuf that this rpc takes; nothing of it was recorded."
        ) from None
