from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from flagledger.front import connection
from front.conftest import Fronts
from support.intake import CLIENT_KEY

BODY = b'{"evaluations":[]}'
KEY = f"x-environment-key: {CLIENT_KEY}\r\n".encode()
KIB = 1024


def head(*headers: bytes, length: int = len(BODY)) -> bytes:
    """Return the head of a request that is answered 202, with these headers too."""
    lines = b"".join(headers)
    return b"POST /api/v2/analytics/evaluations HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n%b\r\n" % (
        KEY,
        length,
        lines,
    )


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes, pause: float = 0.005) -> None:
        """Send each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await asyncio.sleep(pause)

    async def answer(self) -> tuple[int, bytes]:
        """Return status and body of the next answer."""
        async with asyncio.timeout(10):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
            return int(lines[0].split()[1]), await self.reader.readexactly(length)

    async def closed(self) -> bool:
        """Tell whether the server closes the connection without another word."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connected(fronts: Fronts) -> AsyncIterator[Client]:
    """Yield a connection."""
    reader, writer = await asyncio.open_connection(*fronts.http)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let headers come within a third of a second."""
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.3)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([b"x-a: " + b"a" * 17 * KIB + b"\r\n"], id="one"),
        pytest.param([b"x-%d: a\r\n" % n for n in range(2_000)], id="many"),
        pytest.param([b"x-a: " + b"a" * 200 * KIB + b"\r\n"], id="far over it"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
async def test_large_headers(fronts: Fronts, headers: list[bytes], pieces: int) -> None:
    """Headers of more than 16 KiB are 431 with a Status, counted, and nobody is asked; in how many pieces they come is one."""
    request = head(*headers) + BODY
    step = len(request) // pieces + 1
    async with connected(fronts) as client:
        await client.send(*(request[at : at + step] for at in range(0, len(request), step)))
        status, body = await client.answer()
        closed = await client.closed()

    assert (431, 8) == (status, json.loads(body)["code"])
    assert {"code", "message", "details"} == json.loads(body).keys()
    assert closed
    assert ["HTTP_431"] == fronts.counted.refusals
    assert [] == fronts.servicer.calls


async def test_endless_headers(fronts: Fronts) -> None:
    """Headers that do not end are refused at the limit, and not when they end."""
    async with connected(fronts) as client:
        await client.send(b"GET / HTTP/1.1\r\n", *[b"x-a: " + b"a" * KIB + b"\r\n"] * 20)

        assert 431 == (await client.answer())[0]


@pytest.mark.parametrize("pieces", [1, 7])
async def test_headers_within_the_limit(fronts: Fronts, pieces: int) -> None:
    """Headers of 15 KiB are taken, request after request on one connection."""
    request = head(b"x-a: " + b"a" * 15 * KIB + b"\r\n") + BODY
    step = len(request) // pieces + 1
    async with connected(fronts) as client:
        for _ in range(3):
            await client.send(*(request[at : at + step] for at in range(0, len(request), step)))
            assert 202 == (await client.answer())[0]


async def test_pipelined(fronts: Fronts) -> None:
    """Requests that come in one piece, the last of them cut in its headers, are all answered, however long they are together."""
    request = head(b"x-a: " + b"a" * 3 * KIB + b"\r\n") + BODY
    sent = request * 8
    async with connected(fronts) as client:
        await client.send(sent[:-200], sent[-200:], pause=0.05)

        assert [202] * 8 == [(await client.answer())[0] for _ in range(8)]


async def test_body_in_the_piece_of_the_headers(fronts: Fronts) -> None:
    """What is counted is headers, and never a body."""
    body = b'{"evaluations":[]' + b" " * 100 * KIB + b"}"
    request = head(length=len(body)) + body
    async with connected(fronts) as client:
        await client.send(request, request[: 60 * KIB], request[60 * KIB :], pause=0.05)

        assert [202, 202] == [(await client.answer())[0] for _ in range(2)]


async def test_large_trailers(fronts: Fronts) -> None:
    """Trailers behind a chunked body are bounded like headers."""
    start = b"POST /api/v2/analytics/evaluations HTTP/1.1\r\nhost: x\r\n" + KEY + b"transfer-encoding: chunked\r\n\r\n"
    async with connected(fronts) as client:
        await client.send(start, b"2\r\n{}\r\n0\r\n", *[b"x-a: " + b"a" * KIB + b"\r\n"] * 30)

        assert await client.closed()
    assert ["HTTP_431"] == fronts.counted.refusals


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("first", [b"", b"\r\n", b"\r\n\r\n"])
async def test_silence(fronts: Fronts, first: bytes) -> None:
    """A connection on which no request begins is closed."""
    async with connected(fronts) as client:
        await client.send(first)

        assert await client.closed()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("before", [0, 1])
async def test_slow_headers(fronts: Fronts, before: int) -> None:
    """Headers that trickle are 408 once the time is up, on the first request and on later ones."""
    async with connected(fronts) as client:
        for _ in range(before):
            await client.send(head() + BODY)
            assert 202 == (await client.answer())[0]
        trickle = asyncio.create_task(client.send(*[bytes([byte]) for byte in head() * 5], pause=0.02))
        status, body = await client.answer()
        trickle.cancel()

        assert (408, 4) == (status, json.loads(body)["code"])
    assert ["HTTP_408"] == fronts.counted.refusals


@pytest.mark.usefixtures("soon")
async def test_time_is_that_of_headers(fronts: Fronts) -> None:
    """A body, an answer, or the pause between two requests may take longer than headers may."""
    fronts.journal.open.clear()
    async with connected(fronts) as client:
        for _ in range(2):
            await client.send(head(), BODY, pause=0.5)
            assert 202 == (await client.answer())[0]
            await asyncio.sleep(0.5)


@pytest.mark.usefixtures("soon")
async def test_half_a_request_behind_a_slow_one(fronts: Fronts) -> None:
    """The answer that is under way goes out whole, though the headers behind it do not come."""
    fronts.journal.open.clear()
    evaluation = b'{"feature_name":"new_dashboard","enabled":true,"evaluation_timestamp":"2026-02-10T11:00:00Z"}'
    body = b'{"evaluations":[' + evaluation + b"]}"
    async with connected(fronts) as client:
        await client.send(head(length=len(body)) + body, b"POST /api", pause=0.8)
        fronts.journal.open.set()

        assert 202 == (await client.answer())[0]
        assert 408 == (await client.answer())[0]


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n"]
)
async def test_no_http(fronts: Fronts, sent: bytes) -> None:
    """What is no HTTP is 400 with a Status, counted."""
    async with connected(fronts) as client:
        await client.send(sent)
        status, body = await client.answer()

        assert (400, 3) == (status, json.loads(body)["code"])
        assert await client.closed()
    assert ["HTTP_400"] == fronts.counted.refusals
