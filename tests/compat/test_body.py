from __future__ import annotations

import gzip

import pytest
from compat.conftest import EVENTS, MAX_BODY_BYTES, ROUTES, V1, V2, Service
from flagledger.compat import body as bodies_of_calls


def detail(path: str, sentence: str) -> bytes:
    """Return *sentence* as the route at *path* says it."""
    return b'{"detail":"%b"}' % sentence.encode() if path in {V1, V2} else sentence.encode()


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("encoded", [False, True])
async def test_too_large(service: Service, path: str, encoded: bool) -> None:  # noqa: FBT001
    """A body past the limit, as sent or inflated, is 413."""
    body = b" " * (MAX_BODY_BYTES + 1)
    headers = {"content-encoding": "gzip"} if encoded else {}
    got = await service.send(path, gzip.compress(body) if encoded else body, headers=headers)
    sentence = f"The body is larger than {MAX_BODY_BYTES} bytes, as sent or decompressed. Send less at once."

    assert (413, detail(path, sentence)) == (got.status, got.body)
    assert ["HTTP_413"] == service.counted.refusals
    assert 0 == service.in_flight.bytes


@pytest.mark.parametrize("path", ROUTES)
async def test_largest(service: Service, path: str) -> None:
    """A body at the limit is read."""
    got = await service.send(path, b"{" + b" " * (MAX_BODY_BYTES - 1))

    assert 400 == got.status


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("headers", "status", "sentence"),
    [
        ({"content-encoding": "br"}, 415, "The Content-Encoding has to be gzip or identity."),
        ({"content-encoding": "gzip"}, 400, "The body is not gzip as a whole, though its Content-Encoding says so."),
        ({"content-length": "many"}, 400, "The Content-Length is not a number."),
    ],
)
async def test_headers(service: Service, path: str, headers: dict[str, str], status: int, sentence: str) -> None:
    """A body that is not what its headers say is refused with a sentence that says so."""
    got = await service.send(path, b"{}", headers=headers)

    assert (status, detail(path, sentence)) == (got.status, got.body)
    assert ["HTTP_415" if status == 415 else "MALFORMED"] == service.counted.refusals


async def test_encodings(service: Service) -> None:
    """Gzip and identity are taken, in any case."""
    packed = await service.send(V1, gzip.compress(b'{"checkout": 1}'), headers={"content-encoding": "GZIP"})
    plain = await service.send(V1, b'{"checkout": 1}', headers={"content-encoding": "identity"})

    assert (200, 200, 2) == (packed.status, plain.status, len(service.evaluations))


async def test_pieces(service: Service) -> None:
    """A body may come in pieces, without its length being told."""
    pieces = [b'{"check', b'out": ', b"3}"]
    got = await service.send(V1, pieces=pieces, headers={"content-length": ""})

    assert (200, [3]) == (got.status, [evaluation.count for evaluation in service.evaluations])


async def test_too_slow(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that stops coming is 408."""
    monkeypatch.setattr(bodies_of_calls, "_SLACK_SECONDS", 0.05)
    got = await service.send(EVENTS, pieces=[b"{"], stalls=True)

    assert (408, b"The body came too slowly.") == (got.status, got.body)
    assert ["HTTP_408"] == service.counted.refusals


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, False),
        ({b"content-length": b"65536"}, False),
        ({b"content-length": b"65537"}, True),
        ({b"content-length": b"9" * 30}, True),
        ({b"content-length": b"many"}, True),
        ({b"transfer-encoding": b"chunked"}, True),
    ],
)
def test_may_be_large(headers: dict[bytes, bytes], expected: bool) -> None:  # noqa: FBT001
    """Only a body that is known to be small is left to the server."""
    assert expected == bodies_of_calls.may_be_large(headers)


async def test_refused_before_a_large_body(service: Service) -> None:
    """A refusal that leaves a large body unread closes the connection, after it has read on for a while."""
    large = await service.send(V1, b"x" * (128 * 1024), key=None)
    small = await service.send(V1, b"x", key=None)

    assert ("close", None) == (large.headers.get("connection"), small.headers.get("connection"))
