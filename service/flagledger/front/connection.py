"""One HTTP connection: uvicorn's protocol over httptools, with bounds on headers, which it leaves out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from google.rpc import code_pb2
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from flagledger.transcoding import status as statuses

# Target and headers of one request; the same for metadata over gRPC. Stated for SDK authors in docs/sdk.md.
MAX_HEADER_BYTES: Final = 16 * 1024
HEADER_SECONDS: Final = 10.0
# Between name and value, and behind.
_SEPARATORS: Final = 4
# Bytes as they come hold what the sum of the headers does not: method, version, white space.
_MAX_RAW_BYTES: Final = MAX_HEADER_BYTES + 1024
# A refused connection is read on for a while: one that closes on unread bytes takes its answer back.
_LINGER_SECONDS: Final = 2.0

_REFUSALS: Final[dict[int, tuple[int, str]]] = {
    400: (code_pb2.INVALID_ARGUMENT, "This is no HTTP request."),
    408: (code_pb2.DEADLINE_EXCEEDED, f"The headers did not arrive within {HEADER_SECONDS:.0f} seconds."),
    431: (code_pb2.RESOURCE_EXHAUSTED, f"The headers are together larger than {MAX_HEADER_BYTES} bytes. Send fewer."),
}


class _HeadersTooLargeError(Exception):
    """Raised to the parser, which reads no further then."""


class BoundedProtocol(HttpToolsProtocol):
    """
    Bounds the headers of a request in size and in time, and the time before the first request.

    What is no HTTP, too, is refused with a google.rpc.Status. A request whose headers come in one piece, as nearly all
    do, costs no timer.

    Args:
        refused: Called with the HTTP status of each connection that is refused: 400, 408, 431.
        named: What uvicorn hands over.
    """

    def __init__(self, *, refused: Callable[[int], None], **named: Any) -> None:
        super().__init__(**named)
        self._count_refused = refused
        self._refused = False
        self._in_headers = False
        self._too_large = False
        self._progress = False
        self._begun = 0
        self._raw_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and look at what was left unfinished."""
        if self._refused:
            return
        cycle = self.cycle
        between = cycle is None or not cycle.more_body
        self._begun = 0
        self._progress = False
        super().data_received(data)
        if self._refused:
            return
        if self._in_headers:
            if self._begun:
                # What came before the headers in the same piece is not theirs.
                self._raw_bytes = len(data) if between and self._begun == 1 else 0
                self._stop_timer()
                self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)
            else:
                self._raw_bytes += len(data)
        elif self.cycle is not None:
            if self._timer is not None:
                self._stop_timer()
            self._behind_headers(self.cycle, len(data))
        if self._raw_bytes > _MAX_RAW_BYTES:
            self._refuse(431)

    def _behind_headers(self, cycle: RequestResponseCycle, size: int) -> None:
        if self._progress or self._begun:
            self._raw_bytes = 0
        elif cycle.more_body:
            # Trailers, or the size of a chunk with all its extensions, are bounded like headers.
            self._raw_bytes += size
        if cycle.response_complete and not self.pipeline and self.timeout_keep_alive_task is None:
            # The rest of a body that nobody waited for, or an empty line; uvicorn has stopped its clock for it.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_message_begin(self) -> None:
        """Note that headers come."""
        self._in_headers = True
        self._begun += 1
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the request, where its headers are within bounds."""
        headers = self.headers
        size = len(self.url) + sum(map(len, chain.from_iterable(headers))) + _SEPARATORS * len(headers)
        if size > MAX_HEADER_BYTES:
            self._too_large = True
            raise _HeadersTooLargeError
        self._in_headers = False
        self._raw_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on."""
        self._progress = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser would not read: uvicorn calls this for an exception of a callback, too."""
        del msg
        self._refuse(431 if self._too_large else 400)

    def _too_slow(self) -> None:
        self._timer = None
        if self._is_busy():
            # The headers of the next request already; reading may even be paused.
            self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)
        elif self._in_headers:
            self._refuse(408)
        else:
            self.transport.close()

    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, http_status: int) -> None:
        self._refused = True
        self._stop_timer()
        self._count_refused(http_status)
        if self._is_busy():
            # An answer here would be taken for that of the request before.
            self.transport.close()
            return
        code, message = _REFUSALS[http_status]
        payload = statuses.body(statuses.make(code, message))
        self.transport.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[http_status], len(payload), payload)
        )
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
