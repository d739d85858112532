"""The `flagledger` command: in this process, or on a terminal; and a server for it to ask."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from click.testing import CliRunner, Result
from flagledger.cli.commands import root

DEADLINE_SECONDS = 30.0


@dataclass(frozen=True)
class Asked:
    """A request as it came: its path is not decoded."""

    method: str
    path: str
    fields: list[tuple[str, str]]
    authorization: str | None

    @property
    def query(self) -> dict[str, str]:
        """The fields, where none is repeated."""
        assert len(dict(self.fields)) == len(self.fields)
        return dict(self.fields)


@dataclass(frozen=True)
class Reply:
    """What is answered. The headers say how long the content is, unless `bounded` is off or they already do."""

    content: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    bounded: bool = True


@dataclass
class Peer:
    """A server that answers what it is told to, the last answer again and again, and keeps what it was asked."""

    url: str
    replies: list[Reply] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    _last: Reply = field(default_factory=lambda: Reply(b"{}"))

    def next_reply(self) -> Reply:
        """Return what is to be answered now."""
        if self.replies:
            self._last = self.replies.pop(0)
        return self._last

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        """Answer the next request with *value* as JSON."""
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.replies.append(Reply(content, status, {name.replace("_", "-"): text for name, text in headers.items()}))

    def stream(self, *pieces: bytes, whole: bool = True, **headers: str) -> None:
        """Answer the next request with chunks, and without the last one where it is not *whole*."""
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        self.replies.append(
            Reply(chunks + (b"0\r\n\r\n" if whole else b""), headers={"Transfer-Encoding": "chunked", **named})
        )


@contextlib.contextmanager
def listening() -> Iterator[Peer]:
    """Serve HTTP on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            fields = parse_qsl(parts.query, keep_blank_values=True)
            peer.asked.append(Asked(self.command, parts.path, fields, self.headers.get("Authorization")))
            reply = peer.next_reply()
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            if reply.bounded and not {"Content-Length", "Transfer-Encoding"} & set(reply.headers):
                self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            # Who asks may have gone.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(reply.content)

        do_DELETE = do_GET  # noqa: N815 - the base class names it

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer = Peer(url=f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def evaluation(number: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a RecordedEvaluation as the API writes it."""
    return {
        "feature_name": "new_dashboard",
        "enabled": True,
        "value": "variant_a",
        "evaluation_timestamp": "2026-02-10T11:00:00.123456Z",
        "identity_identifier": "user_123",
        "segment_names": ["premium_users", "beta"],
        "variant": "a",
        "position": number,
    } | fields


def run(*arguments: str) -> Result:
    """Run the command in this process, without a terminal."""
    return CliRunner().invoke(root, arguments, prog_name="flagledger", catch_exceptions=False)


class Terminal:
    """The command in a process of its own, on a terminal."""

    def __init__(self, *arguments: str, stdout_to: int | None = None) -> None:
        self._screen, inside = pty.openpty()
        command = [sys.executable, "-m", "flagledger.cli", *arguments]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
        self.process = subprocess.Popen(
            command, stdin=inside, stdout=inside if stdout_to is None else stdout_to, stderr=inside, env=environment
        )
        os.close(inside)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until *text* was shown."""
        while text not in self.shown:
            assert self._read(), f"it ended without {text!r}:\n{self.shown}"

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._screen, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        os.close(self._screen)
        return self.process.wait(DEADLINE_SECONDS)

    def _read(self) -> bool:
        deadline = time.monotonic() + DEADLINE_SECONDS
        readable = _readable(self._screen, deadline - time.monotonic())
        if not readable:
            self.process.kill()
            message = f"nothing was shown for {DEADLINE_SECONDS:.0f} s, after:\n{self.shown}"
            raise AssertionError(message)
        try:
            content = os.read(self._screen, 65536)
        except OSError:
            # How Linux says that nobody is at the other side any more.
            return False
        self.shown += content.decode(errors="replace")
        return bool(content)


def _readable(stream: Any, seconds: float) -> bool:
    """Wait for something to read. Not by select, which knows 1,024 files: engines that run in this process hold some."""
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(max(seconds, 0.0) * 1000))
