"""
Forwarding: what readers ask and order, passed on to the process that owns the store.

An embedded store can be opened by one process alone, the writer; of any other the writer alone may change what it holds. Fronts
check the token themselves, so that nobody without one reaches the writer, and pass the rest over a Unix socket.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from flagledger.errors import FlagledgerError, Reason
from flagledger.front.grpc import Servicer

_DEFAULT_SECONDS: Final = 30.0
_FORWARDED_METADATA: Final = frozenset({"authorization"})
# The way back, of a stream: what its caller has to know before the first message.
_ANSWERED_METADATA: Final = frozenset({"x-last-position"})
_CHANNEL_OPTIONS: Final = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # A writer that was killed is back within seconds; the default back-off would go on for minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The writer's socket is nobody's default proxy's business.
    ("grpc.enable_http_proxy", 0),
]


class ForwardedError(Exception):
    """A refusal that came from the writer, as the google.rpc.Status that it sent."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


class Forwarder:
    """
    A servicer that answers every rpc of a service by asking a peer; none of them takes a stream.

    Args:
        service: Descriptor of the service.
        target: gRPC target of the peer, `unix:/…`.
        authenticate: Checks the caller before anything is forwarded.
        unhurried: Names of unary rpcs that may take as long as they need; the others get 30 s unless a caller has a deadline.
    """

    def __init__(
        self,
        service: ServiceDescriptor,
        target: str,
        authenticate: Callable[[Any], Coroutine[Any, Any, object]],
        *,
        unhurried: Collection[str] = (),
    ) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        self.authenticate = authenticate
        for method in service.methods:
            if method.server_streaming:
                setattr(self, method.name, self._forward_stream(method))
            else:
                seconds = None if method.name in unhurried else _DEFAULT_SECONDS
                setattr(self, method.name, self._forward(method, seconds))

    def connected(self) -> bool:
        """Tell whether the peer is there to be asked; where it is not, look for it again."""
        return self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    def _forward(self, method: MethodDescriptor, seconds: float | None) -> Callable[[Message, Any], Awaitable[Message]]:
        stub: grpc.aio.UnaryUnaryMultiCallable[Message, Message] = self._channel.unary_unary(**_stub_arguments(method))

        async def forward(request: Message, context: Any) -> Message:
            await self.authenticate(context)
            try:
                remaining = context.time_remaining()
                answer: Message = await stub(
                    request,
                    metadata=_metadata(context),
                    timeout=seconds if remaining is None else remaining,
                )
            except grpc.aio.AioRpcError as error:
                raise _of(error) from None
            return answer

        return forward

    def _forward_stream(self, method: MethodDescriptor) -> Callable[[Message, Any], AsyncGenerator[Message, None]]:
        stub: grpc.aio.UnaryStreamMultiCallable[Message, Message] = self._channel.unary_stream(
            **_stub_arguments(method)
        )

        async def forward(request: Message, context: Any) -> AsyncGenerator[Message, None]:
            await self.authenticate(context)
            # A file takes as long as it takes: only the caller may set a time.
            call = stub(request, metadata=_metadata(context), timeout=context.time_remaining())
            try:
                answered = [pair for pair in await call.initial_metadata() if pair[0] in _ANSWERED_METADATA]
                if answered:
                    await context.send_initial_metadata(answered)
                async for message in call:
                    yield message
            except grpc.aio.AioRpcError as error:
                raise _of(error) from None
            finally:
                # Of one that is over nothing; otherwise the consumer has gone, and the peer need not go on.
                call.cancel()

        return forward


class Divided:
    """
    A servicer that has a servicer answer every rpc of a service, but for some that are another's.

    Args:
        service: Descriptor of the service.
        most: Answers, and checks callers.
        others: What answers instead, by the name of the rpc.
    """

    def __init__(self, service: ServiceDescriptor, most: Servicer, others: Mapping[str, Servicer]) -> None:
        self.authenticate = most.authenticate
        for method in service.methods:
            setattr(self, method.name, getattr(others.get(method.name, most), method.name))


def _stub_arguments(method: MethodDescriptor) -> dict[str, Any]:
    return {
        "method": f"/{method.containing_service.full_name}/{method.name}",
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": GetMessageClass(method.output_type).FromString,
    }


def _metadata(context: Any) -> list[tuple[str, str]]:
    return [pair for pair in context.invocation_metadata() or () if pair[0] in _FORWARDED_METADATA]


def _of(error: grpc.aio.AioRpcError) -> Exception:
    status = rpc_status.from_call(error)
    if status is not None:
        return ForwardedError(status)
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return FlagledgerError(
            Reason.STORE_UNAVAILABLE, "The store is not there to be asked right now; recording goes on meanwhile."
        )
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # The channel's own limit, and nothing that passes: as it is, it would tell the caller to come back.
        return ForwardedError(
            status_pb2.Status(
                code=code_pb2.INTERNAL,
                message="The answer is larger than what can be passed on. Ask for smaller pages or a shorter time.",
            )
        )
    return ForwardedError(status_pb2.Status(code=error.code().value[0], message=error.details() or ""))
