"""Streams of messages inward, and both ways at once, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from flagledger.transcoding import Transcoder
from transcoding.kitchen import Everything, GetRequest, HttpBody, service
from transcoding.test_messages import RelayServicer, settled
from transcoding.test_uvicorn import Client, connected, serving


@pytest.fixture(params=["httptools", "h11"])
def http(request: pytest.FixtureRequest) -> str:
    """Return the HTTP implementation under uvicorn."""
    return str(request.param)


def mount(servicer: Any, **options: Any) -> Transcoder:
    """Return an application around *servicer*."""
    return Transcoder([(service("Relay"), servicer)], **options)


class Upload:
    """A request whose body is sent in chunks, on a connection of its own."""

    def __init__(self, client: Client, path: str, *headers: str) -> None:
        self._client = client
        lines = [f"POST {path} HTTP/1.1", "host: x", "transfer-encoding: chunked", *headers]
        client.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, data: bytes) -> None:
        """Send a chunk."""
        self._client.send(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        """End the body."""
        self._client.send(b"0\r\n\r\n")

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of an answer in chunks."""
        async with asyncio.timeout(10):
            raw = await self._client.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode().split("\r\n")[:-2]
        return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def chunk(self) -> bytes:
        """Return the next chunk of the answer; the last is empty."""
        async with asyncio.timeout(10):
            size = int(await self._client.reader.readuntil(b"\r\n"), 16)
            return (await self._client.reader.readexactly(size + 2))[:-2]


@asynccontextmanager
async def uploading(port: int, path: str, *headers: str) -> AsyncIterator[tuple[Client, Upload]]:
    """Yield a connection, and a request that has begun on it."""
    async with connected(port) as client:
        yield client, Upload(client, path, *headers)


async def test_gather(http: str) -> None:
    """A body of lines in any pieces becomes messages, and its connection goes on."""
    servicer = RelayServicer()
    body = b"".join(b'{"name":"%d"}\n' % number for number in range(5_000))
    async with serving(mount(servicer), http) as port, uploading(port, "/v1/relay") as (client, upload):
        for at in range(0, len(body), 7_777):
            upload.send(body[at : at + 7_777])
        upload.finish()
        first = await client.answer()
        client.request("POST", "/v1/relay", gzip.compress(body), content_encoding="gzip")
        second = await client.answer()

    assert (200, {"int32Field": 5_000}) == (first[0], json.loads(first[2]))
    assert (200, {"int32Field": 10_000}) == (second[0], json.loads(second[2]))
    assert [str(number) for number in range(5_000)] * 2 == [request.name for request in servicer.requests]


@pytest.mark.parametrize("written", [False, True])
async def test_both_ways_at_once(http: str, written: object) -> None:
    """Answers come while the body goes on, to a servicer of either style, and the connection serves the next request."""

    class Writes(RelayServicer):
        async def Talk(self, requests: Any, context: Any) -> None:
            while (request := await context.read()) is not grpc.aio.EOF:
                await context.write(request)

    app = mount(Writes() if written else RelayServicer())
    async with serving(app, http) as port, uploading(port, "/v1/talk") as (client, upload):
        heard = []
        for number in range(20):
            upload.send(b'{"name":"%d"}\n' % number)
            if number == 0:
                status, headers = await upload.head()
            heard.append(await upload.chunk())
        upload.finish()
        last = await upload.chunk()
        client.request("POST", "/v1/relay", b"{}\n")
        after = await client.answer()

    assert (200, "application/x-ndjson", b"") == (status, headers["content-type"], last)
    assert [b'{"name":"%d"}\n' % number for number in range(20)] == heard
    assert 200 == after[0]


async def test_compressed_both_ways_at_once(http: str) -> None:
    """A compressed body that is flushed is heard as it is sent."""
    packer = zlib.compressobj(wbits=31)
    async with (
        serving(mount(RelayServicer()), http) as port,
        uploading(port, "/v1/talk", "content-encoding: gzip") as (_, upload),
    ):
        heard = []
        for number in range(3):
            upload.send(packer.compress(b'{"name":"%d"}\n' % number) + packer.flush(zlib.Z_SYNC_FLUSH))
            if number == 0:
                await upload.head()
            heard.append(await upload.chunk())
        upload.send(packer.flush())
        upload.finish()
        last = await upload.chunk()

    assert [b'{"name":"0"}\n', b'{"name":"1"}\n', b'{"name":"2"}\n', b""] == [*heard, last]


async def test_events_both_ways_at_once(http: str) -> None:
    """A client that prefers events hears each message as one, and a bad message in the last event."""
    async with (
        serving(mount(RelayServicer()), http) as port,
        uploading(port, "/v1/talk", "accept: text/event-stream") as (client, upload),
    ):
        upload.send(b'{"name":"a"}\n')
        _, headers = await upload.head()
        first = await upload.chunk()
        upload.send(b'{"name":5}\n')
        error = await upload.chunk()
        closed = await client.closed()

    assert ("text/event-stream", b'data: {"name":"a"}\n\n') == (headers["content-type"], first)
    assert error.startswith(b'event: status\ndata: {"code":3,"message":"[1].name has to be a string')
    assert closed


async def test_servicer_that_speaks_first(http: str) -> None:
    """An answer may begin before anything of the body has come, and end before the body does."""

    class First(RelayServicer):
        async def Talk(self, requests: Any, context: Any) -> AsyncIterator[Any]:
            yield GetRequest(name="first")

    async with serving(mount(First()), http) as port, uploading(port, "/v1/talk") as (client, upload):
        status, _ = await upload.head()
        pieces = [await upload.chunk(), await upload.chunk()]
        upload.send(b"{}\n")
        upload.finish()
        client.request("POST", "/v1/relay", b"{}\n")
        after = await client.answer()

    assert (200, [b'{"name":"first"}\n', b""], 200) == (status, pieces, after[0])


async def test_expect_continue(http: str) -> None:
    """A client that waits for 100-continue gets it where messages are wanted."""
    async with (
        serving(mount(RelayServicer()), http) as port,
        uploading(port, "/v1/relay", "expect: 100-continue") as (client, upload),
    ):
        async with asyncio.timeout(10):
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == await client.reader.readuntil(b"\r\n\r\n")
        upload.send(b"{}\n")
        upload.finish()
        assert 200 == (await client.answer())[0]


async def test_bad_line(http: str) -> None:
    """A bad line is answered at once, before the body has ended, and the connection closes."""
    servicer = RelayServicer()
    async with serving(mount(servicer), http) as port, uploading(port, "/v1/relay") as (client, upload):
        upload.send(b"{}\n{}\nnonsense\n")
        status, headers, body = await client.answer()
        upload.send(b"{}\n")
        closed = await client.closed()

    assert (400, "close", True) == (status, headers["connection"], closed)
    assert "[2] is not JSON" in json.loads(body)["message"]
    assert [GetRequest(), GetRequest(), None] == servicer.requests


async def test_back_pressure(http: str) -> None:
    """A servicer that does not read holds its client up, and memory stays what it is; all arrives once it reads on."""
    gate = asyncio.Event()

    class Careful(RelayServicer):
        async def Store(self, requests: Any, context: Any) -> Any:
            size = len((await context.read()).file.data)
            await gate.wait()
            async for request in requests:
                size += len(request.file.data)
            return Everything(int64_field=size)

    async with serving(mount(Careful()), http) as port, connected(port) as client:
        total = 64 << 20
        client.send(b"POST /v1/store/a HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % total)
        sent = 0

        async def send() -> None:
            nonlocal sent
            while sent < total:
                client.send(b"x" * 65_536)
                await client.writer.drain()
                sent += 65_536

        sending = asyncio.create_task(send())
        before = -1
        # What fits into the buffers of both ends is on its way; then nothing moves.
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
        gate.set()
        status, _, body = await client.answer()
        await sending

    assert 0 < before < 32 << 20
    assert (200, {"int64Field": str(total)}) == (status, json.loads(body))


@pytest.mark.parametrize("path", ["/v1/relay", "/v1/talk"])
async def test_client_goes(http: str, path: str) -> None:
    """A client that goes between two messages cancels the call, whose context says so."""
    servicer = RelayServicer()
    async with serving(mount(servicer), http) as port:
        async with uploading(port, path) as (_, upload):
            upload.send(b'{}\n{"name"')
            await settled(lambda: len(servicer.requests) == 1)
        async with asyncio.timeout(10):
            await servicer.closed.wait()

    assert servicer.cancelled
    assert servicer.context.cancelled()


async def test_client_goes_while_the_servicer_is_busy(http: str) -> None:
    """A client that goes is noticed though the servicer reads nothing."""

    class Busy(RelayServicer):
        async def Gather(self, requests: Any, context: Any) -> Any:
            self.begin(context)
            await context.read()
            await asyncio.sleep(30)

    servicer = Busy()
    async with serving(mount(servicer), http) as port:
        async with uploading(port, "/v1/relay") as (_, upload):
            upload.send(b"{}\n")
            await settled(lambda: servicer.context is not None)
            await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await servicer.closed.wait()

    assert servicer.context.cancelled()


async def test_idle_and_slow(http: str) -> None:
    """A client may be silent between two messages, and may not in the midst of one."""
    async with (
        serving(mount(RelayServicer(), body_timeout=0.2), http) as port,
        uploading(port, "/v1/relay") as (client, upload),
    ):
        upload.send(b"{}\n")
        await asyncio.sleep(0.5)
        upload.send(b"{}\n{")
        status, headers, body = await client.answer()

    assert (408, "close") == (status, headers["connection"])
    assert "[2]" in json.loads(body)["message"]


async def test_deadline(http: str) -> None:
    """`Grpc-Timeout` ends a conversation that neither side ends."""
    async with (
        serving(mount(RelayServicer()), http) as port,
        uploading(port, "/v1/talk", "grpc-timeout: 200m") as (client, upload),
    ):
        upload.send(b"{}\n")
        await upload.head()
        first = await upload.chunk()
        closed = await client.closed()

    assert (b"{}\n", True) == (first, closed)


async def test_raw_both_ways_at_once(http: str) -> None:
    """Pieces of a raw body go out as they come in."""
    async with (
        serving(mount(RelayServicer()), http) as port,
        uploading(port, "/v1/copy", "content-type: text/csv") as (_, upload),
    ):
        upload.send(b"a,b\n")
        _, headers = await upload.head()
        heard = [await upload.chunk()]
        upload.send(b"c,d")
        heard.append(await upload.chunk())
        upload.finish()
        heard.append(await upload.chunk())

    assert ("text/csv", [b"a,b\n", b"c,d", b""]) == (headers["content-type"], heard)


async def test_raw_body(http: str) -> None:
    """A raw body that is one message arrives and goes out byte for byte."""
    data = bytes(range(256)) * 1_000
    servicer = RelayServicer()
    async with serving(mount(servicer), http) as port, connected(port) as client:
        client.request("POST", "/v1/raw/bytes", data, content_type="image/png")
        status, headers, body = await client.answer()

    assert (200, "image/png", data) == (status, headers["content-type"], body)
    assert [HttpBody(content_type="image/png", data=data)] == servicer.requests
