"""Where Envoy and we part, and why: what is compared, and the one place that says what may differ."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flagledger.transcoding.status import HTTP_STATUS
from google.protobuf.message import Message
from google.rpc import code_pb2

PLAIN = "plain"
SPELLED_OUT = "spelled out"

# Of the statuses that HTTP alone has.
_CODE_BY_HTTP = {405: code_pb2.UNIMPLEMENTED, 415: code_pb2.INVALID_ARGUMENT}
_FLOAT = struct.Struct("<f")
# Fields of the test messages that are well-known types, as queries and bodies name them.
WELL_KNOWN = r"\b(times?|duration|mask|values?|list|empty|\w+Values?|string_values)\b"


@dataclass(frozen=True, kw_only=True)
class Request:
    """
    One HTTP request, and what the servicer answers with.

    Attributes:
        kind: What it is there for, in the words of the tables.
        method: In capitals.
        target: The path with its query, as sent.
        body: As sent.
        content_type: Header of the body; None for none.
        answer: Messages, the one message of a unary rpc or all of a stream, and a Status to fail with after them; without any
            the request is echoed where the rpc answers with its type.
        options: How JSON is written: PLAIN or SPELLED_OUT.
    """

    kind: str
    method: str
    target: str
    body: bytes = b""
    content_type: str | None = "application/json"
    answer: tuple[Message, ...] = ()
    options: str = PLAIN

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query, as sent."""
        return self.target.partition("?")[2]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    What became of a request.

    Attributes:
        status: The HTTP status.
        called: Full name of the rpc that ran, or None.
        request: The messages that its servicer got, as bytes that are the same for equal ones.
        content_type: Of the answer, without parameters.
        answer: The body of the answer, parsed where it is JSON; lines of JSON are a list. Bytes otherwise.
    """

    status: int
    called: str | None
    request: tuple[bytes, ...] | None
    content_type: str
    answer: Any


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One request and both outcomes."""

    request: Request
    envoy: Outcome
    here: Outcome

    def __str__(self) -> str:
        request = self.request
        return f"{request.method} {request.target} {request.body!r}: Envoy {self.envoy}, here {self.here}"

    def differences(self) -> list[str]:
        """
        Return in what the outcomes differ.

        It is `verdict` where one side alone ran an rpc, or ran another one; `status`, `message` (the request that the
        servicer got), `type` (the content type), `answer`; and `refusal` where both refused alike, each in its own words.
        Of a message that differs the echo is not looked at.
        """
        envoy, here = self.envoy, self.here
        if envoy.called != here.called:
            return ["verdict"]
        found = ["status"] if envoy.status != here.status else []
        if envoy.called is None:
            # A HEAD has no words.
            same_words = self.request.method == "HEAD" or same(envoy.answer, here.answer)
            return found or ([] if same_words else ["refusal"])
        if envoy.request != here.request:
            return [*found, "message"]
        if found:
            return found
        if envoy.content_type != here.content_type:
            found.append("type")
        if not same(envoy.answer, here.answer):
            found.append("answer")
        return found

    def envoy_alone(self, why: str = "", *, request: str = "") -> bool:
        """Tell whether Envoy ran what is a 400 here, *why* being in its message and *request* in what was sent."""
        return (
            self.envoy.called is not None
            and self.here.status == 400
            and re.search(why, self.here.answer["message"]) is not None
            and self._sent(request)
        )

    def here_alone(self, why: bytes, *, status: int = 400, request: str = "") -> bool:
        """Tell whether an rpc ran here, and Envoy refused with *status* and a text that *why* is in."""
        return (
            self.here.called is not None
            and self.envoy.called is None
            and self.envoy.status == status
            and re.search(why, self.envoy.answer) is not None
            and self._sent(request)
        )

    def _sent(self, pattern: str) -> bool:
        return (
            re.search(pattern, f"{self.request.method} {self.request.target} {self.request.body.decode()}") is not None
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """
    One kind of difference.

    Attributes:
        request: Which requests it is about, in Markdown, as the next three.
        envoy: What Envoy does.
        here: What we do.
        reason: Why we do.
        of: What of the outcomes differs: see `Comparison.differences`.
        applies: Tells whether a comparison that differs so is of this kind.
    """

    request: str
    envoy: str
    here: str
    reason: str
    of: frozenset[str]
    applies: Callable[[Comparison], bool]


def row(
    request: str, envoy: str, here: str, reason: str, applies: Callable[[Comparison], bool], *, of: str = "verdict"
) -> Difference:
    """Return a row of the table; *of* names what differs, one or more."""
    return Difference(request=request, envoy=envoy, here=here, reason=reason, of=frozenset(of.split()), applies=applies)


def same(left: Any, right: Any) -> bool:
    """Tell whether two parsed JSON texts are the same; 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def as_floats(value: Any, *, inside: bool = False) -> Any:
    """Return parsed JSON with the numbers of all members whose name begins with `float` rounded to single precision."""
    if isinstance(value, dict):
        return {key: as_floats(item, inside=key.startswith("float")) for key, item in value.items()}
    if isinstance(value, list):
        return [as_floats(item, inside=inside) for item in value]
    if inside and isinstance(value, int | float):
        return _FLOAT.unpack(_FLOAT.pack(value))[0]
    return value


def adds_empty(envoy: Any, here: Any) -> bool:
    """Tell whether all that Envoy's JSON has beyond ours are members that are an empty list or object."""
    if isinstance(envoy, dict) and isinstance(here, dict):
        return here.keys() <= envoy.keys() and all(
            adds_empty(item, here[key]) if key in here else item in ([], {}) for key, item in envoy.items()
        )
    if isinstance(envoy, list) and isinstance(here, list):
        return len(envoy) == len(here) and all(map(adds_empty, envoy, here))
    return same(envoy, here)


def by_the_book(value: Any) -> Any:
    """Return parsed JSON with names in lowerCamelCase and without members that are an empty string."""
    if isinstance(value, dict):
        return {_camel(key): by_the_book(item) for key, item in value.items() if item != ""}
    return [by_the_book(item) for item in value] if isinstance(value, list) else value


def _camel(name: str) -> str:
    return re.sub("_([a-z])", lambda match: match.group(1).upper(), name)


def is_status(outcome: Outcome) -> bool:
    """Tell whether the body is a google.rpc.Status whose code stands for the HTTP status."""
    answer = outcome.answer
    if outcome.content_type != "application/json" or not isinstance(answer, dict):
        return False
    if answer.keys() != {"code", "message", "details"}:
        return False
    if outcome.status in _CODE_BY_HTTP:
        return bool(answer["code"] == _CODE_BY_HTTP[outcome.status])
    return HTTP_STATUS[answer["code"]] == outcome.status
