from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.front.forward import ForwardedError, Forwarder
from flagledger.v1 import query_service_pb2
from google.rpc import code_pb2

SERVICE = query_service_pb2.DESCRIPTOR.services_by_name["QueryService"]
METHOD = "ListFeatures"
REQUEST = query_service_pb2.ListFeaturesRequest()


class Context:
    """The context of a call, as far as a forwarder asks."""

    def __init__(self, remaining: float | None = None) -> None:
        self._remaining = remaining

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

    async def _empty(self, context: Any) -> bytes:
        return b""

    async def handle(self, raw: bytes, context: Any) -> bytes:
        """Answer as the test wants it."""
        self.asked.append(dict(context.invocation_metadata()))
        return await self.answer(context)

    async def listen(self, target: str) -> grpc.aio.Server:
        """Return it as a server."""
        server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
        handlers = {METHOD: grpc.unary_unary_rpc_method_handler(self.handle)}
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
