"""What there is of a request beside its message: headers, query, path variables, and the channel that its body comes from."""

from __future__ import annotations

import re
from typing import Final

from google.rpc import code_pb2

from flagledger.transcoding import body as bodies
from flagledger.transcoding.refusals import by_http

_JSON_TYPE: Final = re.compile(rb"application/(?:[a-z0-9!#$&^_.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_LINES_TYPE: Final = re.compile(rb"application/(?:x-ndjson|jsonl)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)

NOT_GZIP: Final = "The body is not gzip as a whole, though its Content-Encoding says so."


class Incoming:
    """
    A request, as far as the server has it.

    Attributes:
        headers: By name in lower case; of several the last.
        query: The query string as it came.
        variables: What the path captured.
        receive: The ASGI channel.
        is_reading: Whether the body is being read and may still be on its way.
    """

    __slots__ = ("headers", "is_reading", "query", "receive", "variables")

    def __init__(
        self, headers: dict[bytes, bytes], query: bytes, variables: dict[str, str], receive: bodies.Receive
    ) -> None:
        self.headers = headers
        self.query = query
        self.variables = variables
        self.receive = receive
        self.is_reading = False


def check_type(headers: dict[bytes, bytes], *, lines: bool) -> None:
    """
    Look at the Content-Type of a body of JSON, or of lines of it.

    Raises:
        Refusal: It is something else.
    """
    found = headers.get(b"content-type")
    if not found or found == b"application/json" or _JSON_TYPE.fullmatch(found.strip()):
        return
    if not lines:
        raise by_http(415, code_pb2.INVALID_ARGUMENT, "The body has to be application/json.")
    if not _LINES_TYPE.fullmatch(found.strip()):
        raise by_http(415, code_pb2.INVALID_ARGUMENT, "The body has to be application/x-ndjson or application/json.")


def media_type(headers: dict[bytes, bytes]) -> str:
    """Return the Content-Type as it came; empty where there is none."""
    return headers.get(b"content-type", b"").decode("latin-1")


def body_encoding(headers: dict[bytes, bytes]) -> bytes:
    """
    Return `gzip` or `identity`.

    Raises:
        Refusal: The Content-Encoding is something else.
    """
    found = headers.get(b"content-encoding")
    if not found:
        return b"identity"
    encoding = found.strip().lower()
    if encoding not in {b"identity", b"gzip", b""}:
        raise by_http(415, code_pb2.INVALID_ARGUMENT, "The Content-Encoding has to be gzip or identity.")
    return encoding
