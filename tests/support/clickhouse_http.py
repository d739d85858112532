"""
ClickHouse's HTTP interface, as far as the store uses it, in front of chDB.

It is no server: it has no users but one, no replicas, and one process. It shows that what the store sends over HTTP is what
ClickHouse's engine understands, and what the store makes of connections that break off.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

USER: Final = "ann"
PASSWORD: Final = "s3cret/&?"
LONGEST_FIELD: Final = 131_072
"""Bytes that a value of the URL or of a form may have: what ClickHouse's `http_max_field_value_size` is by itself."""

_OF_HTTP: Final = frozenset(
    {
        "client_protocol_version",
        "compress",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "query_id",
        "send_progress_in_http_headers",
        "wait_end_of_query",
    }
)


class ClickHouseHTTP(ThreadingHTTPServer):
    """
    Answers statements on a free port of loopback.

    Attributes:
        statements: Each that arrived, with its settings, in order.
        forms: How many of them came in a form, as those do whose parameters are too long for a URL.
        breaks_off: Texts in statements of which the connection breaks off: before they are carried out, or afterwards.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.statements: list[tuple[str, dict[str, str]]] = []
        self.forms = 0
        self.breaks_off: dict[str, str] = {}

    def breaks(self, statement: str, when: str) -> bool:
        """Return whether the connection of *statement* breaks off now."""
        return any(text in statement for text, moment in self.breaks_off.items() if moment == when)


class _Handler(BaseHTTPRequestHandler):
    server: ClickHouseHTTP
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Carry out a statement that is in the URL, in the body, in a form, or in URL and body: then this holds its data."""
        arguments = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or self._chunks()
        if self.headers.get_content_type() == "multipart/form-data":
            arguments |= self._form(body)
            self.server.forms += 1
            body = b""
        for name, value in arguments.items():
            if len(value.encode()) > LONGEST_FIELD:
                text = f"Code: 1000. DB::Exception: HTML Form Exception: Field value of {name} too long"
                self._answer(500, text.encode(), {"X-ClickHouse-Exception-Code": "1000"})
                return
        statement = arguments.pop("query", "")
        data = b""
        if statement:
            data = body
        else:
            statement = body.decode()
        settings = {name: value for name, value in arguments.items() if not name.startswith("param_")}
        self.server.statements.append((statement, settings))
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self._answer(
                403, b"Code: 516. DB::Exception: Authentication failed.", {"X-ClickHouse-Exception-Code": "516"}
            )
            return
        if self.server.breaks(statement, "before"):
            self.close_connection = True
            return
        parameters = {name[6:]: value for name, value in arguments.items() if name.startswith("param_")}
        try:
            answer = self._carry_out(statement, data, settings, parameters)
        except RuntimeError as error:
            text = str(error)
            code = text.partition("Code: ")[2].partition(".")[0]
            self._answer(500, text.encode(), {"X-ClickHouse-Exception-Code": code})
            return
        if self.server.breaks(statement, "afterwards"):
            self.close_connection = True
            return
        self._answer(200, answer, {})

    do_GET = do_POST  # noqa: N815  # the library's own name

    def log_message(self, *_: object) -> None:
        """Keep silent."""

    def _carry_out(self, statement: str, data: bytes, settings: dict[str, str], parameters: dict[str, str]) -> bytes:
        import chdb

        connection = chdb.connect(str(self.server.folder))
        try:
            if database := settings.get("database"):
                connection.query(f"USE {database}", "TabSeparated")
            for name, value in settings.items():
                if name != "database" and name not in _OF_HTTP:
                    connection.query(f"SET {name} = '{value}'", "TabSeparated")
            if not data:
                return bytes(connection.query(statement, "TabSeparated", params=parameters).bytes() or b"")
            assert "Content-Encoding" not in self.headers
            head, _, kind = statement.rpartition(" FORMAT ")
            with NamedTemporaryFile(suffix=".data") as file:
                file.write(data)
                file.flush()
                connection.query(f"{head} FROM INFILE '{file.name}' FORMAT {kind}", "TabSeparated")
            return b""
        finally:
            connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, Any]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def _form(self, body: bytes) -> dict[str, str]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        found: dict[str, str] = {}
        for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
            text = part.get_payload(decode=True)
            assert isinstance(text, bytes)
            found[str(part.get_param("name", header="Content-Disposition"))] = text.decode()
        return found

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = bytearray()
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(found)


@contextmanager
def clickhouse_http(folder: Path) -> Iterator[ClickHouseHTTP]:
    """Yield what answers over HTTP for the chDB in *folder*."""
    server = ClickHouseHTTP(folder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
