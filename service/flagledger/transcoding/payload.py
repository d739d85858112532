"""Response messages as bytes: JSON, or what a google.api.HttpBody holds."""

from __future__ import annotations

import logging
from typing import Any, Final

import orjson
from google.rpc import status_pb2

from flagledger.transcoding import status as statuses
from flagledger.transcoding.binding import Binding
from flagledger.transcoding.context import HEADER_VALUE, TranscodedContext
from flagledger.transcoding.refusals import internal

JSON: Final = b"application/json"
_LINES: Final = b"application/x-ndjson"
_EVENTS: Final = b"text/event-stream"
_OCTETS: Final = b"application/octet-stream"

_logger = logging.getLogger(__name__)


def payload(binding: Binding, message: Any, context: TranscodedContext, *, as_events: bool = False) -> bytes:
    """
    Return the bytes of a response, or of one message of a stream.

    Raises:
        Refusal: There is no way to write it, which is logged.
    """
    try:
        if binding.http_body is not None:
            data: bytes = binding.http_body(message).data
            return data
        if as_events:
            return b"data: %b\n\n" % orjson.dumps(binding.response(message))
        return orjson.dumps(binding.response(message), option=orjson.OPT_APPEND_NEWLINE if binding.streams else None)
    except Exception:
        due = binding.method.output_type.full_name
        _logger.exception(
            "The response of %s could not be written: a %s, where %s is due.",
            context.full_method_name,
            _kind(message),
            due,
        )
        raise internal("The response could not be written.") from None


def _kind(message: Any) -> str:
    descriptor = getattr(message, "DESCRIPTOR", None)
    return getattr(descriptor, "full_name", type(message).__name__)


def last_event(status: status_pb2.Status) -> bytes:
    """
    Return the event that a stream ends with.

    It is there at a good end too: an EventSource tells no end from a broken connection, and would ask again. It is not called
    `error`, which is the EventSource's own word for that.
    """
    return b"event: status\ndata: %b\n\n" % statuses.body(status)


def content_type(binding: Binding, message: Any, context: TranscodedContext, *, as_events: bool = False) -> bytes:
    """Return the content type of a response, or of the stream that begins with *message*; None is that of an empty one."""
    if as_events:
        return _EVENTS
    if binding.http_body is None:
        return _LINES if binding.streams else JSON
    text: str = "" if message is None else binding.http_body(message).content_type
    if not HEADER_VALUE.fullmatch(text):
        _logger.warning("The content type of %s was left out: no header can hold it.", context.full_method_name)
        text = ""
    return text.encode() or _OCTETS
