"""
The gRPC front: servicers on grpc.aio, with the checks that generated handlers leave out.

Handlers take raw bytes, for three reasons: the caller is authenticated before the message is looked at, a message that is no
protobuf answers INVALID_ARGUMENT (a generated handler answers UNKNOWN), and the bytes in flight are known.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

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
# Between our own processes: what a front has let through, the writer takes.
INTERNAL_OPTIONS: Final = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
]


class Servicer(Protocol):
    """What a servicer has beside one coroutine function an rpc."""

    async def authenticate(self, context: Any) -> object:
        """Check the caller's credentials; raise where they do not do."""


class Metrics(Protocol):
    """What the front counts."""

    def call(self, protocol: str, method: str, code: int, seconds: float) -> None:
        """Count a call that was answered with *code* (google.rpc.Code) after *seconds*."""


_CANCELLED: Final = 1

ToStatus = Callable[[Exception], status_pb2.Status]


def options(*, max_message_bytes: int) -> list[tuple[str, int]]:
    """Return the channel arguments of the public gRPC server."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_concurrent_streams", 1000),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.so_reuseport", 1),
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_PING_INTERVAL_SECONDS * 1000),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_SECONDS * 1000),
        ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_GRACE_SECONDS * 1000),
    ]


def handlers(
    service: ServiceDescriptor, servicer: Servicer, *, in_flight: InFlight, to_status: ToStatus, metrics: Metrics
) -> grpc.GenericRpcHandler:
    """
    Return handlers that serve every rpc of *service* out of *servicer*.

    Args:
        service: Descriptor of the service; unary and bidirectional rpcs.
        servicer: Has one method an rpc, `authenticate`, and raises what *to_status* knows.
        in_flight: The budget of bytes and calls, shared with the HTTP front.
        to_status: Turns an exception into what the caller is told.
        metrics: Where calls are counted.
    """
    front = _Front(servicer, in_flight, to_status, metrics)
    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: front.handler(method) for method in service.methods}
    )


class Server:
    """
    The public gRPC server: the services, standard health for each of them, and reflection.

    Args:
        services: Descriptors with the servicers that answer for them.
        in_flight: The budget of bytes and calls, shared with the HTTP front.
        to_status: Turns an exception into what the caller is told.
        metrics: Where calls are counted.
        max_message_bytes: Limit of a message, after decompression too.
    """

    def __init__(
        self,
        services: Sequence[tuple[ServiceDescriptor, Servicer]],
        *,
        in_flight: InFlight,
        to_status: ToStatus,
        metrics: Metrics,
        max_message_bytes: int,
    ) -> None:
        self._server = grpc.aio.server(options=options(max_message_bytes=max_message_bytes))
        self._names = [descriptor.full_name for descriptor, _ in services]
        self._server.add_generic_rpc_handlers(
            [
                handlers(descriptor, servicer, in_flight=in_flight, to_status=to_status, metrics=metrics)
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

    async def report(self, *, serving: bool) -> None:
        """Say through the health service whether calls are taken."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, seconds: float) -> None:
        """Take no more calls, report NOT_SERVING for good, and give those under way *seconds* to finish."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(seconds)


class _Front:
    def __init__(self, servicer: Servicer, in_flight: InFlight, to_status: ToStatus, metrics: Metrics) -> None:
        self._servicer = servicer
        self._in_flight = in_flight
        self._to_status = to_status
        self._metrics = metrics

    def handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[bytes, bytes]:
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._bidirectional(method))
        if method.client_streaming or method.server_streaming:
            raise NotImplementedError(f"{method.full_name}: only unary and bidirectional rpcs are served.")
        return grpc.unary_unary_rpc_method_handler(self._unary(method))

    def _unary(self, method: MethodDescriptor) -> Callable[[bytes, Any], Awaitable[bytes]]:
        parse: Callable[[bytes], Message] = GetMessageClass(method.input_type).FromString
        call = getattr(self._servicer, method.name)
        authenticate = self._servicer.authenticate
        in_flight = self._in_flight
        name = method.full_name

        async def unary(raw: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            started = time.perf_counter()
            code = 0
            size = entered = 0
            try:
                in_flight.enter()
                entered = 1
                await authenticate(context)
                in_flight.acquire(len(raw))
                size = len(raw)
                answer: bytes = (await call(_parse(parse, raw), context)).SerializeToString()
            except asyncio.CancelledError:
                code = _CANCELLED
                raise
            except Exception as error:  # noqa: BLE001 - to_status decides what each becomes
                status = self._to_status(error)
                code = status.code
                await context.abort_with_status(rpc_status.to_status(status))
            else:
                return answer
            finally:
                in_flight.release(size)
                if entered:
                    in_flight.leave()
                self._metrics.call("grpc", name, code, time.perf_counter() - started)

        return unary

    def _bidirectional(self, method: MethodDescriptor) -> Callable[[AsyncIterator[bytes], Any], AsyncIterator[bytes]]:
        parse: Callable[[bytes], Message] = GetMessageClass(method.input_type).FromString
        call = getattr(self._servicer, method.name)
        name = method.full_name

        async def bidirectional(
            raw_messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
        ) -> AsyncIterator[bytes]:
            started = time.perf_counter()
            code = 0
            entered = False
            held: deque[int] = deque()
            try:
                self._in_flight.enter()
                entered = True
                await self._servicer.authenticate(context)
                async for answer in call(self._read(raw_messages, parse, held), context):
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
                if entered:
                    self._in_flight.leave()
                self._metrics.call("grpc", name, code, time.perf_counter() - started)

        return bidirectional

    async def _read(
        self, raw_messages: AsyncIterator[bytes], parse: Callable[[bytes], Message], held: deque[int]
    ) -> AsyncIterator[Message | FlagledgerError]:
        """Yield messages, or in its place what is wrong with one; *held* keeps the bytes of each until it is answered."""
        deadline = time.monotonic() + STREAM_AGE_SECONDS
        async for raw in raw_messages:
            item: Message | FlagledgerError
            size = len(raw)
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
            if time.monotonic() > deadline:
                return


def _parse(parse: Callable[[bytes], Message], raw: bytes) -> Message:
    try:
        return parse(raw)
    except DecodeError:
        raise FlagledgerError(
            Reason.MALFORMED, "The message is not the protobuf that this rpc takes; nothing of it was recorded."
        ) from None
