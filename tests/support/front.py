"""A reverse proxy in front of a Flagsmith and a Flagledger, which notes what passes and can break."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

# What SDKs report; everything else is Flagsmith's.
REPORTED = ("/api/v1/analytics/", "/api/v2/analytics/", "/v1/")
DEADLINE_SECONDS = 30.0

_OF_A_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
_UNAVAILABLE = 503


@dataclass(frozen=True, kw_only=True)
class Passed:
    """
    A request that came by.

    Attributes:
        method: Its method.
        path: Its path, with the query.
        headers: Its headers, by name in lower case.
        body: Its body.
        server: Whose it was: `flagledger`, `flagsmith`, or `front` where it went no further.
        status: What was answered.
        answer: The headers of the answer, by name in lower case.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    server: str
    status: int
    answer: dict[str, str]


@dataclass
class Front:
    """
    The proxy. Tests change it while it runs.

    Attributes:
        flagsmith: Address that flags come from.
        flagledger: Address that what is reported goes to.
        refuse: So many reports, from now on, get 503 and go no further.
        lose: So many reports, from now on, are passed on and get 503 all the same, as when an answer is lost.
        passed: What has come by.
        url: Where it is.
    """

    flagsmith: str
    flagledger: str
    refuse: int = 0
    lose: int = 0
    passed: list[Passed] = field(default_factory=list)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def reports(self, key: str, method: str = "POST") -> list[Passed]:
        """Return the reports under the environment key *key*."""
        return [
            one
            for one in list(self.passed)
            if one.method == method and one.path.startswith(REPORTED) and key == one.headers.get("x-environment-key")
        ]

    def wait_for_reports(self, key: str, number: int) -> list[Passed]:
        """Return the reports under *key* once there are so many."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(found := self.reports(key)) < number:
            assert time.monotonic() < deadline, f"{len(found)} of {number} reports in {DEADLINE_SECONDS:.0f} s"
            time.sleep(0.05)
        return found

    def carry(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[Passed, bytes]:
        """Carry one request to where it belongs, note it, and return it with the answer's body."""
        server = "flagledger" if path.startswith(REPORTED) else "flagsmith"
        fault = self._fault() if server == "flagledger" and method == "POST" else ""
        if fault == "refuse":
            server, status, answer, content = "front", _UNAVAILABLE, {}, b""
        else:
            status, answer, content = _ask(getattr(self, server), method, path, headers, body)
        if fault == "lose":
            status, answer, content = _UNAVAILABLE, {}, b""
        passed = Passed(
            method=method, path=path, headers=headers, body=body, server=server, status=status, answer=answer
        )
        return passed, content

    def _fault(self) -> str:
        with self._lock:
            for name in ("refuse", "lose"):
                if (left := getattr(self, name)) > 0:
                    setattr(self, name, left - 1)
                    return name
        return ""


def _ask(
    address: str, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=DEADLINE_SECONDS)
    try:
        kept = {name: text for name, text in headers.items() if name not in _OF_A_CONNECTION}
        connection.request(method, path, body if body or method == "POST" else None, kept)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, {name.lower(): text for name, text in response.getheaders()}, content


class _Server(ThreadingHTTPServer):
    """A thread for each connection, none of which keeps the tests from ending."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, front: Front) -> None:
        self.front = front
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client may go when it likes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): text for name, text in self.headers.items()}
        passed, content = self.server.front.carry(self.command, self.path, headers, body)
        self.send_response(passed.status)
        for name, text in passed.answer.items():
            if name not in _OF_A_CONNECTION:
                self.send_header(name, text)
        if passed.status not in {204, 304}:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.server.front.passed.append(passed)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - the base class names them

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        pass


@contextlib.contextmanager
def front_of(*, flagsmith: str, flagledger: str) -> Iterator[Front]:
    """Run a proxy before both, on a free port of this machine."""
    front = Front(flagsmith=flagsmith, flagledger=flagledger)
    server = _Server(front)
    front.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
