"""What an older SDK is answered, in the words of the service that it was made for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from google.rpc import code_pb2

from flagledger.errors import FlagledgerError, Reason
from flagledger.transcoding import http_status

_JSON: Final = b"application/json"
_TEXT: Final = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    One answer over HTTP.

    Attributes:
        http_status: Its status.
        body: Its body.
        content_type: That of the body; empty for none.
        headers: Further headers.
        code: google.rpc.Code that the call is counted under.
    """

    http_status: int
    body: bytes = b""
    content_type: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    code: int = code_pb2.OK


class RefusedError(Exception):
    """
    An answer other than that of a call that was carried out.

    Args:
        answer: What is sent.
        body_unread: Whether the body may still be on its way.
        by_http: Whether HTTP itself refuses.
        reason: What a refusal of this module's own is counted under; None where it was counted before.
    """

    def __init__(
        self, answer: Answer, *, body_unread: bool = False, by_http: bool = False, reason: Reason | None = None
    ) -> None:
        super().__init__(answer.body)
        self.answer = answer
        self.body_unread = body_unread
        self.by_http = by_http
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """
    How a service words its refusals.

    Attributes:
        form: `detail` for JSON with the sentence under that name, `text` for the sentence alone.
        key_missing: Status and sentence where a call carries no key.
        key_unknown: Status and sentence where its key is none.
        sentences: What is said for some reasons instead of our own words.
        method_not_allowed: What is said of a method, named in place of `{}`; empty for nothing.
    """

    form: Literal["detail", "text"]
    key_missing: tuple[int, str]
    key_unknown: tuple[int, str]
    sentences: Mapping[Reason, str]
    method_not_allowed: str

    def say(self, status: int, sentence: str, *, code: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
        """Return the answer that says *sentence*."""
        if self.form == "detail":
            return as_json(status, {"detail": sentence}, code=code, headers=headers)
        content_type = _TEXT if sentence else b""
        return Answer(http_status=status, body=sentence.encode(), content_type=content_type, code=code, headers=headers)

    def misfit(self, status: int, sentence: str) -> RefusedError:
        """Return the refusal of a body that is not what the route takes."""
        answer = self.say(status, sentence, code=code_pb2.INVALID_ARGUMENT)
        return RefusedError(answer, reason=Reason.MALFORMED)

    def refusal(self, error: FlagledgerError, *, has_key: bool) -> Answer:
        """Return the answer to a call that *error* refuses; *has_key* is whether it carries a key at all."""
        code = error.reason.code
        if error.reason is Reason.KEY_INVALID:
            status, sentence = self.key_unknown if has_key else self.key_missing
            return self.say(status, sentence, code=code)
        delay: tuple[tuple[bytes, bytes], ...] = ()
        if error.retry_after is not None:
            delay = ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after))),)
        # Too many at once is too large: it does not become less by being sent again.
        status = 413 if error.reason is Reason.BATCH_TOO_LONG else http_status(code)
        return self.say(status, self.sentences.get(error.reason, error.message), code=code, headers=delay)


def as_json(
    status: int, content: Any, *, code: int = code_pb2.OK, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Answer:
    """Return an answer of JSON in ASCII alone: whatever a sender is told of its own text, it can be written."""
    body = json.dumps(content, separators=(",", ":")).encode("ascii")
    return Answer(http_status=status, body=body, content_type=_JSON, code=code, headers=headers)


def misfit(content: Any) -> RefusedError:
    """Return the refusal, with *content* as its JSON, of a body that is not what the route takes."""
    return RefusedError(as_json(400, content, code=code_pb2.INVALID_ARGUMENT), reason=Reason.MALFORMED)


API: Final = Dialect(
    form="detail",
    key_missing=(403, "Invalid or missing Environment key"),
    key_unknown=(403, "Invalid or missing Environment Key"),
    sentences={Reason.ENVIRONMENT_STOPPED: "Organisation is disabled from serving flags."},
    method_not_allowed='Method "{}" not allowed.',
)
"""That of the Flagsmith API. The two answers to keys differ in one letter."""

EVENTS: Final = Dialect(
    form="text",
    key_missing=(401, "Missing or invalid X-Environment-Key header"),
    key_unknown=(403, "Unknown environment key"),
    sentences={
        Reason.CATALOG_UNREACHABLE: "Authentication backend unavailable",
        Reason.DISK_FAILING: "Downstream unavailable",
    },
    method_not_allowed="",
)
"""That of Flagsmith's service for events."""
