"""The call as a servicer sees it: what grpc.aio would give it, for a call that came over HTTP."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import quote

import grpc
from google.rpc import status_pb2

from flagledger.transcoding import status as statuses
from flagledger.transcoding.codec import CodecError, ElementError

_logger = logging.getLogger(__name__)

HTTP_CODE_KEY: Final = "x-http-code"
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_SECONDS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_HEADER_NAME: Final = re.compile(r"[a-z0-9_.-]+")
HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
# These belong to the answer itself, not to the servicer.
_RESERVED_HEADERS: Final = frozenset(
    {
        HTTP_CODE_KEY,
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Metadatum(NamedTuple):
    """One pair of metadata; the value is bytes where the key ends in `-bin`."""

    key: str
    value: str | bytes


Metadata = Sequence[tuple[str, str | bytes]]


class TranscodedContext(grpc.aio.ServicerContext[Any, Any]):
    """
    A grpc.aio.ServicerContext over one HTTP request.

    Attributes:
        full_method_name: `/package.Service/Method`.
        element_errors: Elements of the request that could not be decoded and stand in it as empty placeholders.
        ignored_fields: Distinct paths of JSON fields that were ignored, indices left out (`evaluations[].name`), at
            most 20.
        http_method: Method of the HTTP request, in capitals.
        http_path: Its path as it came, percent-encoded, without the query.
        fault: What is wrong with the request's headers, or None.
        http_status: HTTP status of the answer, once it is known; 0 before.
    """

    __slots__ = (
        "_aborted",
        "_cancelled",
        "_client",
        "_code",
        "_deadline",
        "_details",
        "_done",
        "_done_callbacks",
        "_initial",
        "_initial_sent",
        "_invocation",
        "_read",
        "_status",
        "_trailing",
        "_write",
        "element_errors",
        "fault",
        "full_method_name",
        "http_method",
        "http_path",
        "http_status",
        "ignored_fields",
    )

    def __init__(
        self,
        *,
        full_method_name: str,
        http_method: str,
        http_path: str,
        invocation_metadata: tuple[Metadatum, ...],
        client: tuple[str, int | None] | None,
        deadline: float | None = None,
        fault: CodecError | None = None,
    ) -> None:
        self.full_method_name = full_method_name
        self.http_method = http_method
        self.http_path = http_path
        self.http_status = 0
        self.fault = fault
        self.element_errors: list[ElementError] = []
        self.ignored_fields: tuple[str, ...] = ()
        self._invocation = invocation_metadata
        self._client = client
        self._deadline = deadline
        self._initial: Metadata = ()
        self._initial_sent = False
        self._trailing: Metadata = ()
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._status: status_pb2.Status | None = None
        self._aborted: grpc.aio.AbortError | None = None
        self._cancelled = False
        self._done = False
        self._read: Callable[[], Awaitable[Any]] | None = None
        self._write: Callable[[Any], Awaitable[None]] | None = None
        self._done_callbacks: list[Callable[[Any], Any]] = []

    async def read(self) -> Any:
        """
        Return the next message of an rpc that takes a stream of them, or grpc.aio.EOF after the last.

        Of any other rpc the argument was all there is.
        """
        self.raise_for_termination()
        return grpc.aio.EOF if self._read is None else await self._read()

    async def write(self, message: Any) -> None:
        """Send a message of an rpc that answers with a stream of them, once the one before has been taken."""
        self.raise_for_termination()
        if self._write is None:
            raise grpc.aio.UsageError("write() is for rpcs that answer with a stream: this one returns its message.")
        await self._write(message)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Keep metadata that goes out as headers of the answer; that of a stream goes with its first message."""
        self.raise_for_termination()
        if self._initial_sent or self.http_status:
            raise grpc.aio.UsageError("Initial metadata was sent before.")
        self._initial = _checked(initial_metadata)
        self._initial_sent = True

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Any = (),
    ) -> NoReturn:
        """End the call with *code*; raises grpc.aio.AbortError. Details and metadata that were set before stand for none."""
        if self._aborted is not None:
            raise grpc.aio.UsageError("The call was aborted before.")
        code = _status_code(code)
        if code is grpc.StatusCode.OK:
            raise ValueError("A call cannot be aborted with OK.")
        self._aborted = grpc.aio.AbortError("Locally aborted.")
        self._code = code
        self._details = details or self._details
        self._trailing = _checked(trailing_metadata) or self._trailing
        self._status = statuses.from_trailing_metadata(code.value[0], self._details, self._trailing)
        raise self._aborted

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with *status*, its details included; raises grpc.aio.AbortError."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Keep metadata that goes out as headers of the answer; that of a stream goes nowhere."""
        self._trailing = _checked(trailing_metadata)

    def invocation_metadata(self) -> tuple[Metadatum, ...]:  # type: ignore[override]  # named pairs
        """Return the metadata that the allow-list made of the request's headers."""
        return self._invocation

    def metadata(self, key: str) -> str | bytes | None:
        """Return the first value of *key* in the invocation metadata, or None."""
        for name, value in self._invocation:
            if name == key:
                return value
        return None

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the code that the call ends with unless it is aborted."""
        self._code = _status_code(code)

    def set_details(self, details: str) -> None:
        """Set the message that goes with the code."""
        self._details = details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Do nothing: compressing answers is the business of whatever stands in front."""

    def disable_next_message_compression(self) -> None:
        """Do nothing: answers are not compressed here."""

    def peer(self) -> str:
        """Return the client as gRPC writes it: `ipv4:127.0.0.1:50312`."""
        if self._client is None:
            return "unknown"
        host, port = self._client
        if ":" in host:
            return f"ipv6:{quote(f'[{host}]')}:{port}"
        return f"ipv4:{host}:{port}"

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return None: HTTP clients are not authenticated by their connection."""
        return None

    def peer_identity_key(self) -> str | None:
        """Return None, as `peer_identities` does."""
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return nothing, as `peer_identities` does."""
        return {}

    def time_remaining(self) -> float | None:  # type: ignore[override]  # None without a deadline, as its docs say
        """Return the seconds left until the deadline of `Grpc-Timeout`, or None."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    def trailing_metadata(self) -> Any:
        """Return the trailing metadata as it stands."""
        return self._trailing

    def code(self) -> grpc.StatusCode:
        """Return the code as it stands: OK until something else was set."""
        return self._code or grpc.StatusCode.OK

    def details(self) -> str:
        """Return the message as it stands."""
        return self._details

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call *callback* with this context when the call has ended, at once where it has."""
        if self._done:
            callback(self)
        else:
            self._done_callbacks.append(callback)

    def cancelled(self) -> bool:
        """Tell whether the client went away, or the call ends as cancelled."""
        return self._cancelled or self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Tell whether the call has ended; an abort ends it."""
        return self._done or self._aborted is not None

    # What the transcoder does with it.

    def attach(
        self,
        *,
        read: Callable[[], Awaitable[Any]] | None = None,
        write: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        """Say where messages come from and go to, of an rpc with streams."""
        self._read = read or self._read
        self._write = write or self._write

    def raise_for_termination(self) -> None:
        """
        Raise where nothing may follow: a servicer may have swallowed what ended the call.

        Raises:
            grpc.aio.AbortError: The call was aborted.
            grpc.aio.UsageError: It has ended.
        """
        if self._aborted is not None:
            raise self._aborted
        if self._done:
            raise grpc.aio.UsageError("The call has ended already.")

    @property
    def deadline(self) -> float | None:
        """The deadline on the clock of the event loop, or None."""
        return self._deadline

    def cancel(self) -> None:
        """Note that the client went away."""
        self._cancelled = True
        self._code = grpc.StatusCode.CANCELLED

    def fail(self, status: status_pb2.Status) -> None:
        """Note that the call ends with *status*."""
        self._status = status
        self._code = statuses.grpc_code(status.code)
        self._details = status.message

    def failure(self) -> status_pb2.Status | None:
        """Return the status that was set where it is not OK: by an abort, or by `set_code`."""
        if self._code is None or self._code is grpc.StatusCode.OK:
            return None
        if self._status is None or self._status.code != self._code.value[0]:
            self._status = statuses.from_trailing_metadata(self._code.value[0], self._details, self._trailing)
        return self._status

    def begin(self, http_status: int) -> None:
        """Note that an answer begins that goes on for a while."""
        self.http_status = http_status

    def finish(self, http_status: int) -> None:
        """Note the answer, unless it had begun already, and call the done callbacks."""
        self.http_status = self.http_status or http_status
        self._done = True
        callbacks, self._done_callbacks = self._done_callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                _logger.exception("A done callback of %s failed.", self.full_method_name)

    def success_status(self, *, initial_only: bool = False) -> int:
        """Return the HTTP status that `x-http-code` in the metadata asks for, where it is a 2xx; else 200."""
        if not self._initial and not self._trailing:
            return 200
        for key, value in self._outgoing(initial_only=initial_only):
            if key == HTTP_CODE_KEY:
                text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
                if re.fullmatch("2[0-9][0-9]", text):
                    return int(text)
                _logger.warning(
                    "%s set %s to something that is no 2xx; it was ignored.", self.full_method_name, HTTP_CODE_KEY
                )
        return 200

    def _outgoing(self, *, initial_only: bool) -> Metadata:
        return self._initial if initial_only else (*self._initial, *self._trailing)

    def response_headers(self, *, initial_only: bool = False) -> list[tuple[bytes, bytes]]:
        """Return initial and trailing metadata as headers; what no header can hold is left out and logged."""
        if not self._initial and not self._trailing:
            return []
        found: list[tuple[bytes, bytes]] = []
        for key, value in self._outgoing(initial_only=initial_only):
            if key in _RESERVED_HEADERS or key.startswith("grpc-"):
                continue
            text = base64.b64encode(value).decode() if isinstance(value, bytes) else value
            if not _HEADER_NAME.fullmatch(key) or not HEADER_VALUE.fullmatch(text):
                _logger.warning("Metadata of %s was left out: no header can hold it.", self.full_method_name)
                continue
            found.append((key.encode(), text.encode()))
        return found


def _status_code(code: grpc.StatusCode | int) -> grpc.StatusCode:
    """Return a code that may have been given as its number, which grpc.aio takes too."""
    return statuses.grpc_code(code) if isinstance(code, int) else code


def _checked(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """Return *metadata* as pairs; TypeError, which the servicer sees, where it is something else, as under grpc.aio."""
    pairs = tuple(metadata)
    for pair in pairs:
        key, value = pair
        if not isinstance(key, str) or not isinstance(value, str | bytes):
            raise TypeError(f"Metadata is pairs of a text and a text or bytes, and not {pair!r}.")
    return pairs


def metadata_value(key: str, raw: bytes) -> str | bytes:
    """
    Return a header's value as metadata; a key that ends in `-bin` holds base64.

    Raises:
        CodecError: A `-bin` header is not base64.
    """
    if not key.endswith("-bin"):
        return raw.decode("latin-1")
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except binascii.Error:
        raise CodecError(f"The header {key} is not base64.") from None


def timeout_seconds(text: str) -> float:
    """
    Return the seconds that a `Grpc-Timeout` header spells.

    Raises:
        CodecError: It is not up to eight digits and one of H, M, S, m, u, n.
    """
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise CodecError("The header grpc-timeout is not up to eight digits and a unit, such as 5S.")
    return int(match.group(1)) * _UNIT_SECONDS[match.group(2)]
