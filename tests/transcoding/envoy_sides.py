"""The two sides that are compared: a servicer behind gRPC and Envoy, and the same one behind a Transcoder."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from flagledger.transcoding import Transcoder
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2
from grpc_status import rpc_status
from transcoding.envoy import described, envoy
from transcoding.envoy_comparison import PLAIN, SPELLED_OUT, Comparison, Outcome, Request
from transcoding.kitchen import service
from transcoding.test_uvicorn import serving

SECONDS = 20
SERVICES = (
    "Kitchen",
    "Pantry",
    "Streams",
    "Files",
    "ClientStreaming",
    "BidirectionalStreaming",
    "RawRequest",
    "RawRequestField",
)
# How either side is told to write JSON.
OPTIONS: dict[str, dict[str, bool]] = {
    PLAIN: {},
    SPELLED_OUT: {"preserving_proto_field_name": True, "always_print_primitive": True},
}
PRINT_OPTIONS: dict[str, dict[str, bool]] = {
    PLAIN: {"stream_newline_delimited": True},
    SPELLED_OUT: {"preserve_proto_field_names": True, "always_print_primitive_fields": True},
}

# By whether requests and responses are streams.
_HANDLERS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@dataclass
class Recorder:
    """The servicer of every rpc: keeps what it was called with, and answers as it was told."""

    answer: tuple[Message, ...] = ()
    calls: list[tuple[str, tuple[bytes, ...]]] = field(default_factory=list)

    def method(self, descriptor: MethodDescriptor) -> Callable[[Any, Any], Any]:
        """Return what serves one rpc."""
        response = message_factory.GetMessageClass(descriptor.output_type)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            received = [each async for each in request] if descriptor.client_streaming else [request]
            sent = tuple(each.SerializeToString(deterministic=True) for each in received)
            self.calls.append((descriptor.full_name, sent))
            echo = [each for each in received if isinstance(each, response)]
            if not descriptor.server_streaming:
                echo = echo[-1:] or [response()]
            elif not descriptor.client_streaming:
                echo = []
            for message in self.answer or echo:
                if isinstance(message, status_pb2.Status):
                    await context.abort_with_status(rpc_status.to_status(message))
                yield message

        async def single(request: Any, context: Any) -> Any:
            async with aclosing(stream(request, context)) as messages:
                return await anext(messages)

        return stream if descriptor.server_streaming else single

    def generic_handler(self, descriptor: ServiceDescriptor) -> grpc.GenericRpcHandler:
        """Return a whole service for a gRPC server."""
        handlers = {}
        for each in descriptor.methods:
            handlers[each.name] = _HANDLERS[each.client_streaming, each.server_streaming](
                self.method(each),
                request_deserializer=message_factory.GetMessageClass(each.input_type).FromString,
                response_serializer=message_factory.GetMessageClass(each.output_type).SerializeToString,
            )
        return grpc.method_handlers_generic_handler(descriptor.full_name, handlers)

    def servicer(self, descriptor: ServiceDescriptor) -> Any:
        """Return a whole service for a Transcoder."""
        return SimpleNamespace(**{each.name: self.method(each) for each in descriptor.methods})


class Side:
    """One of the two: an HTTP port, and the recorder behind it."""

    def __init__(self, port: int, recorder: Recorder) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self._recorder = recorder

    async def ask(self, request: Request) -> Outcome:
        """Send a request, and return what became of it."""
        self._recorder.answer = request.answer
        self._recorder.calls.clear()
        status, content_type, body = await asyncio.to_thread(self._exchange, request)
        called, messages = self._recorder.calls[-1] if self._recorder.calls else (None, None)
        if status == 400 and content_type == "text/plain" and not messages:
            # Envoy opens a call before it has looked at the body: whether what it then refuses has begun to run is chance.
            called = messages = None
        return Outcome(
            status=status,
            called=called,
            request=messages,
            content_type=content_type,
            answer=_parsed(content_type, body),
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _exchange(self, request: Request) -> tuple[int, str, bytes]:
        try:
            return self._exchange_once(request)
        except (BrokenPipeError, ConnectionResetError):
            # Closed behind the answer before, which had not said so.
            self._connection.close()
            return self._exchange_once(request)

    def _exchange_once(self, request: Request) -> tuple[int, str, bytes]:
        headers = {} if request.content_type is None else {"content-type": request.content_type}
        self._connection.request(request.method, request.target, request.body or None, headers)
        answer = self._connection.getresponse()
        content_type = answer.headers.get("content-type", "").partition(";")[0]
        try:
            body = answer.read()
        except http.client.IncompleteRead as broken:
            body = broken.partial
            self._connection.close()
        return answer.status, content_type, body


def _parsed(content_type: str, body: bytes) -> Any:
    if not body or content_type not in {"application/json", "application/x-ndjson"}:
        return body
    try:
        return json.loads(body)
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in body.splitlines()]
    except ValueError:
        return body


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both sides, by the options."""

    envoy: dict[str, Side]
    here: dict[str, Side]

    async def compare(self, requests: Iterable[Request]) -> list[Comparison]:
        """Return what Envoy and we make of each request."""
        return [
            Comparison(
                request=request,
                envoy=await self.envoy[request.options].ask(request),
                here=await self.here[request.options].ask(request),
            )
            for request in requests
        ]


@asynccontextmanager
async def both_sides(folder: Path) -> AsyncIterator[Sides]:
    """Start a gRPC server with an Envoy before it, and Transcoders of the same services on a server of their own."""
    services = [service(name) for name in SERVICES]
    async with AsyncExitStack() as stack:
        recorder = Recorder()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([recorder.generic_handler(each) for each in services])
        grpc_port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, None)
        names = [each.full_name for each in services]
        running = envoy(
            folder,
            files=described(response_body=False),
            grpc_port=grpc_port,
            services=names,
            print_options=PRINT_OPTIONS,
        )
        ports = stack.enter_context(running)
        sides = Sides(envoy={name: Side(port, recorder) for name, port in ports.items()}, here={})
        for name, options in OPTIONS.items():
            recorder = Recorder()
            app = Transcoder([(each, recorder.servicer(each)) for each in services], **options)
            sides.here[name] = Side(await stack.enter_async_context(serving(app)), recorder)
        for side in (*sides.envoy.values(), *sides.here.values()):
            stack.callback(side.close)
        yield sides
