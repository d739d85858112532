from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.front import forward
from flagledger.front.forward import Divided, ForwardedError, Forwarder
from flagledger.transcoding import Transcoder
from flagledger.v1 import query_service_pb2
from google.api import httpbody_pb2
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

SERVICE = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
METHOD = "ListFeatures"
REQUEST = query_service_pb2.ListFeaturesRequest()
STREAM = "ExportEvaluations"
EXPORT = query_service_pb2.ExportEvaluationsRequest(format="csv")


class Context:
    """The context of a call, as far as a forwarder asks."""

    def __init__(self, remaining: float | None = None) -> None:
        self._remaining = remaining
        self.initial: list[list[tuple[str, str]]] = []

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Keep it."""
        self.initial.append([tuple(pair) for pair in metadata])

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return a token, and what is nobody else's business."""
        return (("authorization", "Bearer token"), ("cookie", "secret"))

    def time_remaining(self) -> float | None:
        """Return it."""
        return self._remaining


class Peer:
    """The process that owns the store."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: Callable[[Any], Awaitable[bytes]] = self._empty
        self.stream: Callable[[Any], AsyncIterator[bytes]] = self._pieces
        self.requests: list[bytes] = []
        self.sent = 0
        self.remaining: list[float | None] = []
        self.closed = asyncio.Event()

    async def _empty(self, context: Any) -> bytes:
        return b""

    async def handle(self, raw: bytes, context: Any) -> bytes:
        """Answer as the test wants it."""
        self.asked.append(dict(context.invocation_metadata()))
        return await self.answer(context)

    async def _pieces(self, context: Any) -> AsyncIterator[bytes]:
        await context.send_initial_metadata([("x-last-position", "7"), ("x-other", "1")])
        yield b"a"
        yield b"b"

    async def handle_stream(self, raw: bytes, context: Any) -> AsyncIterator[bytes]:
        """Answer with the pieces that the test wants."""
        self.asked.append(dict(context.invocation_metadata()))
        self.requests.append(raw)
        self.remaining.append(context.time_remaining())
        try:
            async for piece in self.stream(context):
                self.sent += 1
                yield httpbody_pb2.HttpBody(data=piece).SerializeToString()
        finally:
            self.closed.set()

    async def listen(self, target: str) -> grpc.aio.Server:
        """Return it as a server."""
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
        handlers = {
            METHOD: grpc.unary_unary_rpc_method_handler(self.handle),
            STREAM: grpc.unary_stream_rpc_method_handler(self.handle_stream),
        }
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)])
        server.add_insecure_port(target)
        await server.start()
        return server


async def anybody(context: Any) -> None:
    """Let everybody in."""


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[tuple[Peer, Any]]:
    """Yield a peer and a forwarder to it."""
    peer = Peer()
    target = f"unix:{tmp_path}/s"
    server = await peer.listen(target)
    forwarder = Forwarder(SERVICE, target, anybody)
    yield peer, forwarder
    await forwarder.close()
    await server.stop(0)


async def test_answer(peer: tuple[Peer, Any]) -> None:
    """A question is answered by the peer, which gets the token and nothing else of the caller."""
    answer = await peer[1].ListFeatures(REQUEST, Context())

    assert query_service_pb2.ListFeaturesResponse() == answer
    assert "Bearer token" == peer[0].asked[0]["authorization"]
    assert "cookie" not in peer[0].asked[0]


async def test_deadline_that_is_over(peer: tuple[Peer, Any]) -> None:
    """A caller without any time left is told so at once, and does not get the time of one without a deadline."""

    async def never(_: Any) -> bytes:
        await asyncio.sleep(20)
        return b""

    peer[0].answer = never
    async with asyncio.timeout(5):
        with pytest.raises(ForwardedError) as failed:
            await peer[1].ListFeatures(REQUEST, Context(0.0))

    assert code_pb2.DEADLINE_EXCEEDED == failed.value.status.code


async def test_unhurried_rpcs(peer: tuple[Peer, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An rpc that may take long is waited for; any other is given up when the time for an answer is over."""
    monkeypatch.setattr(forward, "_DEFAULT_SECONDS", 0.1)

    async def late(_: Any) -> bytes:
        await asyncio.sleep(0.5)
        return b""

    peer[0].answer = late
    unhurried: Any = Forwarder(SERVICE, f"unix:{tmp_path}/s", anybody, unhurried=("ListFeatures",))
    hurried: Any = Forwarder(SERVICE, f"unix:{tmp_path}/s", anybody)

    assert query_service_pb2.ListFeaturesResponse() == await unhurried.ListFeatures(REQUEST, Context())
    with pytest.raises(ForwardedError) as failed:
        await hurried.ListFeatures(REQUEST, Context())
    assert code_pb2.DEADLINE_EXCEEDED == failed.value.status.code
    await unhurried.close()
    await hurried.close()


async def test_answer_that_is_too_large(peer: tuple[Peer, Any]) -> None:
    """An answer past the channel's limit is no 429, which would tell the caller to come back for the same."""

    async def large(_: Any) -> bytes:
        return bytes((64 << 20) + 1)

    peer[0].answer = large
    with pytest.raises(ForwardedError) as failed:
        await peer[1].ListFeatures(REQUEST, Context())

    assert code_pb2.INTERNAL == failed.value.status.code
    assert "smaller" in failed.value.status.message


async def test_refusal_of_the_peer(peer: tuple[Peer, Any]) -> None:
    """What the peer refuses comes through with its code."""

    async def refuse(context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "No.")
        raise AssertionError

    peer[0].answer = refuse
    with pytest.raises(ForwardedError) as failed:
        await peer[1].ListFeatures(REQUEST, Context())

    assert (code_pb2.INVALID_ARGUMENT, "No.") == (failed.value.status.code, failed.value.status.message)


async def test_no_peer(tmp_path: Path) -> None:
    """Without the peer a question is refused with a delay; `connected` follows the peer as it comes and goes."""
    target = f"unix:{tmp_path}/s"
    forwarder: Any = Forwarder(SERVICE, target, anybody)

    async def turned(*, expected: bool) -> bool:
        for _ in range(400):
            if forwarder.connected() is expected:
                return True
            await asyncio.sleep(0.01)
        return False

    assert not forwarder.connected()
    with pytest.raises(FlagledgerError) as refused:
        await forwarder.ListFeatures(REQUEST, Context())
    server = await Peer().listen(target)
    found = await turned(expected=True)
    await server.stop(0)
    lost = await turned(expected=False)
    await forwarder.close()

    assert Reason.STORE_UNAVAILABLE is refused.value.reason
    assert (True, True) == (found, lost)


async def failing(stream: Any) -> tuple[list[bytes], Exception]:
    """Return what a stream yields, and what it fails with."""
    found: list[bytes] = []
    try:
        async for message in stream:
            found.append(message.data)  # noqa: PERF401 - what came until it failed counts
    except (ForwardedError, FlagledgerError) as error:
        return found, error
    raise AssertionError("The stream did not fail.")


async def test_stream(peer: tuple[Peer, Any]) -> None:
    """A stream comes through in order, and of its metadata what the caller has to know, before the first message."""
    context = Context()
    stream = peer[1].ExportEvaluations(EXPORT, context)
    seen = [(message.data, list(context.initial)) async for message in stream]

    position = [[("x-last-position", "7")]]
    assert [(b"a", position), (b"b", position)] == seen
    assert [EXPORT.SerializeToString()] == peer[0].requests
    assert "Bearer token" == peer[0].asked[0]["authorization"]
    assert "cookie" not in peer[0].asked[0]


async def test_stream_without_metadata(peer: tuple[Peer, Any]) -> None:
    """Where the peer has nothing to say before the first message, nothing is said."""

    async def pieces(context: Any) -> AsyncIterator[bytes]:
        yield b"a"

    peer[0].stream = pieces
    context = Context()

    assert [b"a"] == [message.data async for message in peer[1].ExportEvaluations(EXPORT, context)]
    assert [] == context.initial


async def test_stream_authenticates_first(tmp_path: Path) -> None:
    """Nobody without a token reaches the peer."""

    async def nobody(context: Any) -> None:
        raise FlagledgerError(Reason.TOKEN_INVALID, "Who are you?")

    peer = Peer()
    target = f"unix:{tmp_path}/s"
    server = await peer.listen(target)
    forwarder: Any = Forwarder(SERVICE, target, nobody)
    found, error = await failing(forwarder.ExportEvaluations(EXPORT, Context()))
    await forwarder.close()
    await server.stop(0)

    assert isinstance(error, FlagledgerError)
    assert ([], Reason.TOKEN_INVALID, []) == (found, error.reason, peer.asked)


@pytest.mark.parametrize("before", [[], [b"a"]])
async def test_stream_that_fails(peer: tuple[Peer, Any], before: list[bytes]) -> None:
    """What the peer fails with, at once or in the middle, comes through with its details, behind what came before."""
    status = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message="No.")
    status.details.add().Pack(EXPORT)

    async def fail(context: Any) -> AsyncIterator[bytes]:
        for piece in before:
            yield piece
        await context.abort_with_status(rpc_status.to_status(status))

    peer[0].stream = fail
    found, error = await failing(peer[1].ExportEvaluations(EXPORT, Context()))

    assert isinstance(error, ForwardedError)
    assert (before, status) == (found, error.status)


async def test_stream_without_the_peer(tmp_path: Path) -> None:
    """Without the peer a stream is refused with a delay, before anything of it."""
    forwarder: Any = Forwarder(SERVICE, f"unix:{tmp_path}/s", anybody)
    found, error = await failing(forwarder.ExportEvaluations(EXPORT, Context()))
    await forwarder.close()

    assert isinstance(error, FlagledgerError)
    assert ([], Reason.STORE_UNAVAILABLE) == (found, error.reason)


async def test_stream_whose_peer_dies(tmp_path: Path) -> None:
    """A stream whose peer goes away in the middle fails, and does not look whole."""
    peer = Peer()
    target = f"unix:{tmp_path}/s"

    async def wait(context: Any) -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(60)

    peer.stream = wait
    server = await peer.listen(target)
    forwarder: Any = Forwarder(SERVICE, target, anybody)
    stream = forwarder.ExportEvaluations(EXPORT, Context())
    first = await anext(stream)
    await server.stop(0)
    found, error = await failing(stream)
    await forwarder.close()

    assert (b"a", []) == (first.data, found)
    assert isinstance(error, FlagledgerError)
    assert Reason.STORE_UNAVAILABLE is error.reason


async def test_stream_deadline(peer: tuple[Peer, Any]) -> None:
    """A stream has the time that its caller has, and no other: without a deadline it takes as long as it takes."""

    async def wait(context: Any) -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(60)

    [_ async for _ in peer[1].ExportEvaluations(EXPORT, Context())]
    peer[0].stream = wait
    async with asyncio.timeout(10):
        found, error = await failing(peer[1].ExportEvaluations(EXPORT, Context(0.3)))

    assert peer[0].remaining[0] is None
    assert isinstance(error, ForwardedError)
    assert ([b"a"], code_pb2.DEADLINE_EXCEEDED) == (found, error.status.code)


async def test_stream_of_a_message_that_is_too_large(peer: tuple[Peer, Any]) -> None:
    """A message past the channel's limit is no 429."""

    async def large(context: Any) -> AsyncIterator[bytes]:
        yield bytes((64 << 20) + 1)

    peer[0].stream = large
    _, error = await failing(peer[1].ExportEvaluations(EXPORT, Context()))

    assert isinstance(error, ForwardedError)
    assert code_pb2.INTERNAL == error.status.code


@pytest.mark.parametrize("how", ["closed", "cancelled before", "cancelled behind"])
async def test_stream_whose_consumer_goes(peer: tuple[Peer, Any], how: str) -> None:
    """When the consumer goes, at a message or while it waits for one, the peer stops."""

    async def wait(context: Any) -> AsyncIterator[bytes]:
        if how != "cancelled before":
            yield b"a"
        await asyncio.sleep(60)

    async def consume() -> None:
        async with aclosing(peer[1].ExportEvaluations(EXPORT, Context())) as stream:
            async for _ in stream:
                if how == "closed":
                    return

    peer[0].stream = wait
    consuming = asyncio.create_task(consume())
    async with asyncio.timeout(10):
        while not peer[0].asked or (how != "cancelled before" and not peer[0].sent):
            await asyncio.sleep(0.005)
        if how != "closed":
            await asyncio.sleep(0.05)
            consuming.cancel()
        await asyncio.wait([consuming])
        await peer[0].closed.wait()

    assert (how != "closed") == consuming.cancelled()


async def test_stream_with_a_slow_consumer(peer: tuple[Peer, Any]) -> None:
    """A consumer that takes its time holds the peer up: what is on its way is bounded."""

    async def large(context: Any) -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(1 << 20)

    peer[0].stream = large
    async with aclosing(peer[1].ExportEvaluations(EXPORT, Context())) as stream:
        await anext(stream)
        before = -1
        while peer[0].sent != before:
            before = peer[0].sent
            await asyncio.sleep(0.3)

    assert 0 < peer[0].sent < 100


async def test_divided_between_two(peer: tuple[Peer, Any]) -> None:
    """Each rpc is answered by the one whose it is, and callers are checked by the one who has most."""
    other: Any = type("Other", (), {method.name: method.name for method in SERVICE.methods} | {"authenticate": anybody})
    both: Any = Divided(SERVICE, other, {METHOD: peer[1]})

    answers = {method.name: getattr(both, method.name) for method in SERVICE.methods}
    assert {method.name: method.name for method in SERVICE.methods} | {METHOD: peer[1].ListFeatures} == answers
    assert anybody is both.authenticate


async def test_forwarder_over_http(peer: tuple[Peer, Any]) -> None:
    """A forwarder is a servicer for HTTP too, streams included."""
    assert Transcoder([(SERVICE, peer[1])]).match("GET", "/api/v2/analytics/export")
