from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from flagledger.transcoding import Transcoder
from transcoding.conversation import Conversation
from transcoding.kitchen import HttpBody, Labelled, call, service
from transcoding.test_messages import RelayServicer


def mount(servicer: Any, **options: Any) -> Transcoder:
    """Return an application around *servicer*."""
    return Transcoder([(service("Relay"), servicer)], **options)


@pytest.mark.parametrize("content_type", ["image/png", "application/json", "text/plain; charset=latin-1", ""])
async def test_raw_body(content_type: str) -> None:
    """A body that is an HttpBody is taken as it is, under whatever type, and goes out as it is."""
    servicer = RelayServicer()
    data = b"\x89PNG\r\n\x00\xff {"
    headers = {"content-type": content_type} if content_type else {}
    answer = await call(mount(servicer), "POST", "/v1/raw/bytes", data, headers)

    assert [HttpBody(content_type=content_type, data=data)] == servicer.requests
    assert (200, data) == (answer.status, answer.body)
    assert (content_type or "application/octet-stream") == answer.headers["content-type"]


async def test_raw_body_of_a_field() -> None:
    """A raw body may be one field; path and query set the others, and nothing of the body."""
    servicer = RelayServicer()
    app = mount(servicer)
    await call(app, "POST", "/v1/notes/a%20b?size=3&tags=x&tags=y", b"<>", {"content-type": "text/html"})
    await call(app, "POST", "/v1/notes/empty")
    refused = [await call(app, "POST", f"/v1/notes/a?{query}", b"") for query in ("size=x", "file.content_type=y")]

    file = HttpBody(content_type="text/html", data=b"<>")
    expected = [Labelled(label="a b", file=file, size=3, tags=["x", "y"]), Labelled(label="empty", file=HttpBody())]
    assert expected == servicer.requests
    assert servicer.requests[1].HasField("file")
    assert [(400, "size"), (400, "file.content_type")] == [(each.status, each.violations[0][0]) for each in refused]


async def test_raw_body_leaves_nothing_to_the_query() -> None:
    """A raw body that is the whole request leaves nothing to the query."""
    refused = await call(mount(RelayServicer()), "POST", "/v1/raw/bytes?content_type=x", b"y")

    assert (400, "content_type") == (refused.status, refused.violations[0][0])


async def test_raw_body_gzip_and_size() -> None:
    """A raw body is decompressed, and bounded as any."""
    servicer = RelayServicer()
    app = mount(servicer, max_body_bytes=1_000)
    await call(app, "POST", "/v1/raw/bytes", gzip.compress(b"x" * 1_000), {"content-encoding": "gzip"})
    refused = [
        await call(app, "POST", "/v1/raw/bytes", gzip.compress(b"x" * 1_001), {"content-encoding": "gzip"}),
        await call(app, "POST", "/v1/raw/bytes", b"x" * 1_001),
        await call(app, "POST", "/v1/raw/bytes", b"x", {"content-encoding": "br"}),
        await call(app, "POST", "/v1/raw/bytes", b"x", {"content-encoding": "gzip"}),
    ]

    assert b"x" * 1_000 == servicer.requests[0].data
    assert [413, 413, 415, 400] == [answer.status for answer in refused]


async def test_deadline_of_the_body() -> None:
    """`Grpc-Timeout` bounds the time in which the body comes, and the connection of one that is unread closes."""
    servicer = RelayServicer()
    async with Conversation(mount(servicer), "/v1/raw/bytes", {"grpc-timeout": "50m"}) as conversation:
        conversation.say(b"x")
        await conversation.hear()
        conversation.finish()
        answer = await conversation.answer()

    assert (504, 4, "close", None) == (
        answer.status,
        answer.json["code"],
        answer.headers["connection"],
        servicer.context,
    )


async def test_deadline_behind_the_body() -> None:
    """The connection of a body that has been read is left as it is when the call runs out of time."""

    class Slow(RelayServicer):
        async def Raw(self, request: Any, context: Any) -> Any:
            await asyncio.sleep(10)

    async with Conversation(mount(Slow()), "/v1/raw/bytes", {"grpc-timeout": "50m"}) as conversation:
        conversation.say(b"x" * 100_000, last=True)
        answer = await conversation.answer()

    assert (504, False) == (answer.status, "connection" in answer.headers)


async def test_deadline_of_authorize() -> None:
    """`Grpc-Timeout` bounds the time that `authorize` takes, too."""

    async def authorize(method: str, context: Any) -> None:
        await asyncio.sleep(10)

    answer = await call(
        mount(RelayServicer(), authorize=authorize), "POST", "/v1/raw/bytes", b"", {"grpc-timeout": "50m"}
    )

    assert 504 == answer.status


async def test_cancellation_of_the_servicer_itself() -> None:
    """A CancelledError that is none of the call's, of a task of the servicer's own, is a failure like others."""

    async def cancelled() -> None:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task

    class Careless(RelayServicer):
        async def Raw(self, request: Any, context: Any) -> Any:
            await cancelled()

    async def authorize(method: str, context: Any) -> None:
        await cancelled()

    for options in ({}, {"authorize": authorize}):
        for headers in ({}, {"grpc-timeout": "5S"}):
            answer = await call(mount(Careless(), **options), "POST", "/v1/raw/bytes", b"", headers)
            assert (500, 2) == (answer.status, answer.json["code"])


@pytest.mark.parametrize("metadata", [(("a", 5),), (("x-http-code", 202),), ((b"a", "b"),), (("a", None),)])
async def test_metadata_of_another_kind(metadata: Any) -> None:
    """Metadata that is no text is the servicer's failure, and an answer all the same."""

    class Careless(RelayServicer):
        async def Raw(self, request: Any, context: Any) -> Any:
            await context.send_initial_metadata(metadata)

    class CarelessAtTheEnd(RelayServicer):
        async def Raw(self, request: Any, context: Any) -> Any:
            context.set_trailing_metadata(metadata)

    for servicer in (Careless(), CarelessAtTheEnd()):
        answer = await call(mount(servicer), "POST", "/v1/raw/bytes", b"")
        assert (500, 2) == (answer.status, answer.json["code"])


async def test_timeout_of_the_servicer_itself() -> None:
    """A TimeoutError of the servicer's own is none of the call's, with a deadline and without."""

    class Late(RelayServicer):
        async def Raw(self, request: Any, context: Any) -> Any:
            raise TimeoutError

    for headers in ({}, {"grpc-timeout": "5S"}):
        answer = await call(mount(Late()), "POST", "/v1/raw/bytes", b"", headers)
        assert (500, 2) == (answer.status, answer.json["code"])
