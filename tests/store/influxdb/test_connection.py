from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from importlib import metadata
from pathlib import Path

import pytest
from flagledger.store.influxdb.address import parse_address
from flagledger.store.influxdb.connection import MAX_RETRY_AFTER_SECONDS, Answer, Connection
from flagledger.store.sinks import SinkError
from support.influxdb_stub import InfluxStub, Reply, influxdb_stub, refusal

LINE = "flag_evaluations,feature=é count=1i 1790000000000000000\n"


def connection(stub: InfluxStub, url: str = "influxdb://127.0.0.1:{port}/flags", **options: float) -> Connection:
    """Return a connection to *stub*."""
    return Connection(parse_address(url.format(port=stub.port)), **options)


def test_version_1_as_it_is_sent(stub: InfluxStub) -> None:
    """A post goes to `/write` with database and precision, compressed, with Basic authorization."""
    answer = connection(stub, "influxdb://user:word@127.0.0.1:{port}/flags").post(LINE.encode())

    (request,) = stub.requests
    assert Answer(status=204, error=None, retry_after=None) == answer
    assert ("POST", "/write?db=flags&precision=ns", LINE) == (request.method, request.target, request.body)
    assert {
        "authorization": "Basic dXNlcjp3b3Jk",
        "content-encoding": "gzip",
        "content-type": "text/plain; charset=utf-8",
        "user-agent": f"flagledger/{metadata.version('flagledger')}",
    }.items() <= request.headers.items()


def test_version_2_as_it_is_sent(stub: InfluxStub) -> None:
    """A post goes to `/api/v2/write` with organisation, bucket and precision, with the token; a stub takes it, no InfluxDB 2."""
    answer = connection(stub, "influxdb://:t0ken==@127.0.0.1:{port}?org=acme&bucket=my%20flags").post(LINE.encode())

    (request,) = stub.requests
    assert 204 == answer.status
    assert "/api/v2/write?org=acme&bucket=my+flags&precision=ns" == request.target
    assert ("Token t0ken==", LINE) == (request.headers["authorization"], request.body)


def test_without_authorization(stub: InfluxStub) -> None:
    """Without a user there is no header."""
    connection(stub).post(b"")

    assert "authorization" not in stub.requests[0].headers


def test_connection_is_kept(stub: InfluxStub) -> None:
    """Posts share a connection, those that were refused too; what breaks it off is replaced."""
    posting = connection(stub)
    stub.replies += [None, refusal(500, "x" * 10_000), Reply(status=503), None]
    for _ in range(4):
        posting.post(LINE.encode())

    assert 1 == len({request.port for request in stub.requests})


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":"partial write"}', "partial write"),
        (b'{"code":"invalid","message":"unable to parse"}', "unable to parse"),
        (b'{"error":7}', None),
        (b'["error"]', None),
        (b"{}", None),
        (b"<html>Bad Request</html>", None),
        (b"Client sent an HTTP request to an HTTPS server.\n", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_errors(stub: InfluxStub, body: bytes, error: str | None) -> None:
    """What an InfluxDB says is wrong is read in either version's words; of anybody else nothing is."""
    stub.replies.append(Reply(status=400, body=body))

    assert Answer(status=400, error=error, retry_after=None) == connection(stub).post(b"")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), (" 0 ", 0.0), ("86400", MAX_RETRY_AFTER_SECONDS), ("-1", None), ("soon", None), ("1.5", None)],
)
def test_retry_after(stub: InfluxStub, header: str, seconds: float | None) -> None:
    """Seconds to wait are read, and bounded; anything else is as if nothing was said."""
    stub.replies.append(refusal(503, "busy", Retry_After=header))

    assert seconds == connection(stub).post(b"").retry_after


def test_redirects_are_not_followed(stub: InfluxStub) -> None:
    """Where somebody else leads, no password is sent."""
    stub.replies.append(Reply(status=307, headers={"Location": f"http://127.0.0.1:{stub.port}/elsewhere"}))

    assert (307, 1) == (connection(stub).post(b"").status, len(stub.requests))


def test_nobody_there() -> None:
    """Where nothing listens, a sentence says so without a password."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(SinkError) as caught:
        Connection(parse_address(f"influxdb://user:word@127.0.0.1:{port}/flags")).post(b"")

    assert f"InfluxDB at 127.0.0.1:{port}/flags does not answer: it cannot be reached." == str(caught.value)
    assert (False, None) == (caught.value.lasting, caught.value.retry_after)


def test_unknown_host() -> None:
    """A name that nobody knows is said to be one."""
    with pytest.raises(SinkError, match=r"does not answer: its name is not known\."):
        Connection(parse_address("influxdb://nobody.invalid/flags")).post(b"")


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "%20"])
def test_impossible_host(host: str) -> None:
    """A host that cannot be one fails as any that is away."""
    with pytest.raises(SinkError, match="does not answer"):
        Connection(parse_address(f"influxdb://{host}/flags")).post(b"")


def test_no_answer(stub: InfluxStub) -> None:
    """An answer that does not come in time is given up."""
    stub.replies.append(Reply(status=204, pause=3))

    with pytest.raises(SinkError, match=r"does not answer: it takes too long\."):
        connection(stub, read_seconds=0.2).post(b"")


def test_an_answer_that_drips(stub: InfluxStub) -> None:
    """An answer that comes in many small pieces is waited for no longer than one that does not come."""
    stub.replies.append(Reply(status=400, body=b"x" * 100, pause=0.1, pieces=100))
    began = time.monotonic()

    with pytest.raises(SinkError, match=r"does not answer: the answer does not end\."):
        connection(stub, read_seconds=0.5).post(b"")

    assert time.monotonic() - began < 5


def test_an_endless_answer(stub: InfluxStub) -> None:
    """Of a long answer only the beginning is read; the next post has a connection of its own."""
    stub.replies += [Reply(status=500, body=b"x" * (8 << 20), pieces=2), None]
    posting = connection(stub)

    assert [500, 204] == [posting.post(b"").status, posting.post(b"").status]
    assert 2 == len({request.port for request in stub.requests})


def test_no_tls_there(stub: InfluxStub) -> None:
    """A server that does not speak TLS is not trusted, which waiting does not mend."""
    with pytest.raises(SinkError, match="cannot be trusted, or does not speak TLS") as caught:
        connection(stub, "influxdbs://user:word@127.0.0.1:{port}/flags").post(b"")

    assert caught.value.lasting
    assert [] == stub.requests


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS, nothing is sent to who has a certificate that the machine does not trust; to who has one that it does, it is."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which makes certificates: apt-get install openssl")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=stub",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with influxdb_stub(tls) as stub:
        url = "influxdbs://user:s3cret@127.0.0.1:{port}/flags"
        with pytest.raises(SinkError, match="cannot be trusted") as caught:
            connection(stub, url).post(LINE.encode())
        assert [] == stub.requests

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert 204 == connection(stub, url).post(LINE.encode()).status

    assert [LINE] == [request.body for request in stub.requests]
    assert caught.value.lasting
    assert "s3cret" not in str(caught.value)


def test_closed(stub: InfluxStub) -> None:
    """After it was closed, nothing is sent."""
    posting = connection(stub)
    posting.post(b"")
    posting.close()

    with pytest.raises(SinkError):
        posting.post(b"")
    assert 1 == len(stub.requests)
