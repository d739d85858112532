"""Differences from Envoy in the JSON that is read, and in what is answered."""

from __future__ import annotations

import re
from typing import Any

from transcoding.envoy_comparison import (
    PLAIN,
    SPELLED_OUT,
    WELL_KNOWN,
    Comparison,
    adds_empty,
    as_floats,
    by_the_book,
    is_status,
    row,
    same,
)

_SINGLE = "an RFC 3339|a duration|a field mask|a number|an integer|a string|true or false"
# By path: the member of the whole response that our answer is, and what stands for one that is not set.
_RESPONSE_BODIES: dict[str, tuple[str, Any]] = {
    "/v1/sizes": ("sizes", []),
    "/v1/parts/map": ("stringMap", {}),
    "/v1/parts/messages": ("nesteds", []),
    "/v1/parts/message": ("nested", None),
    "/v1/parts/time": ("time", None),
    "/v1/parts/value": ("value", None),
    "/v1/parts/struct": ("struct", None),
    "/v1/parts/wrapper": ("int64Value", None),
    "/v1/parts/long": ("int64Field", "0"),
    "/v1/parts/color": ("color", "COLOR_UNSPECIFIED"),
}


def _is_response_body(c: Comparison) -> bool:
    if c.request.path not in _RESPONSE_BODIES:
        return False
    name, unset = _RESPONSE_BODIES[c.request.path]
    return same(c.envoy.answer.get(name, unset), c.here.answer)


def _adds(c: Comparison, name: str, value: Any) -> bool:
    """Tell whether our answer is Envoy's with one more member."""
    return isinstance(c.envoy.answer, dict) and same({**c.envoy.answer, name: value}, c.here.answer)


JSON = (
    row(
        "a field that the message does not have",
        "passed over",
        "400 that names it",
        "A misspelled field would be lost; `ignore_unknown_below` is for those who want that, and reports it.",
        lambda c: c.envoy_alone("is not a field of", request=r"^(POST|PUT) .*\{"),
    ),
    row(
        "JSON with a trailing comma, names without quotes, single quotes, `5.`, raw control characters, unknown escapes",
        "accepted",
        "400",
        "It is no JSON, as RFC 8259 has it.",
        lambda c: c.envoy_alone("^The body is not JSON", request=r",\}|\{i|'|5\.\}|\t|\\x"),
    ),
    row(
        "a body that is a number, with nothing behind it: `5`",
        "no answer: it waits for the next digit, until `stream_idle_timeout` ends it with 504",
        "the number",
        "The body has ended.",
        lambda c: c.here_alone(b"timeout", status=504, request=r"\b5$"),
    ),
    row(
        "one value where a list belongs",
        "a list of it",
        "400",
        "The mapping has no such short form.",
        lambda c: c.envoy_alone("has to be an array, not (a |an |true)", request=r":[^\[]|parts/messages \{|sizes 5"),
    ),
    row(
        "a list inside a list: `[[1, 2]]`",
        "flattened",
        "400",
        "Repeated fields have one level.",
        lambda c: c.envoy_alone("has to be .*, not an array", request=r"\[\["),
    ),
    row(
        "`null` as an item of a list, as the value of a map, or as a whole body",
        "left out, the default value, or an empty message",
        "400",
        "proto3 JSON has `null` for a field that is not set, and for `Value`.",
        lambda c: c.envoy_alone("has to be .*, not null", request=r"[\[,:]null|parts/message null"),
    ),
    row(
        "a `NullValue` field as a number: `77`",
        "the number",
        "400",
        "Its one value is `null`.",
        lambda c: c.envoy_alone("has to be null, not a number", request="nullField"),
    ),
    row(
        'an object for a well-known type that JSON writes as a string, a number or a list: `{"seconds": 5}`',
        "its fields, or an empty message",
        "400",
        "The mapping gives these types one form.",
        lambda c: c.envoy_alone(rf"has to be ({_SINGLE}|an array).*, not an object", request=rf"{WELL_KNOWN}|wrapper"),
    ),
    row(
        "an object as the value of a `map<string, string>`",
        "passed on as bytes that are no message; the servicer's protobuf refuses them with 500",
        "400",
        "The fault is the client's.",
        lambda c: (c.envoy.status, c.here.status) == (500, 400) and "not an object" in c.here.answer["message"],
        of="status",
    ),
    row(
        "the same key of a map or a `Struct` twice",
        "400",
        "the last one counts",
        "One rule for all duplicates, that of most JSON parsers.",
        lambda c: c.here_alone(b"Repeated map key", request='"a":.*"a":'),
    ),
    row(
        "the same field twice",
        "messages are merged, lists and maps joined, and `null` changes nothing",
        "the last one counts",
        "As above.",
        lambda c: re.search(rb'"(\w+)":.*"\1":', c.request.body) is not None,
        of="message",
    ),
)

ANSWERS = (
    row(
        "`response_body`, apart from a `google.api.HttpBody`",
        "does not start; compared without it, so with the whole response",
        "the field",
        "It is a part of `google.api.http`.",
        _is_response_body,
        of="answer",
    ),
    row(
        "`response_body` in one of several bindings of an rpc that answers with a `google.api.HttpBody`",
        "holds for all of them",
        "holds where it stands",
        "Each binding is a rule of its own.",
        lambda c: c.request.path == "/v1/attachment/whole" and c.envoy.answer == b"x" and "file" in c.here.answer,
        of="type answer",
    ),
    row(
        "a `float`",
        "up to nine digits: `1.17549435e-38`",
        "as few digits as bring it back: `1.1754944e-38`",
        "As `json_format` does; both read back as the same number.",
        lambda c: same(as_floats(c.envoy.answer), as_floats(c.here.answer)),
        of="answer",
    ),
    row(
        "zeros written out: `always_print_primitive`",
        "empty lists and maps as well",
        "fields without presence that hold one value",
        "An empty list is no primitive field.",
        lambda c: c.request.options == SPELLED_OUT and adds_empty(as_floats(c.envoy.answer), as_floats(c.here.answer)),
        of="answer",
    ),
    row(
        "the body of an error without details",
        "no `details`",
        '`"details": []`',
        "Clients need not ask whether it is there.",
        lambda c: is_status(c.here) and _adds(c, "details", []),
        of="answer",
    ),
    row(
        "the details of an error, where messages are spelled or printed otherwise",
        "as messages are",
        "as without these options",
        "Clients know `google.rpc.Status` from elsewhere.",
        lambda c: c.request.options == SPELLED_OUT and same(by_the_book(c.envoy.answer), c.here.answer),
        of="answer",
    ),
    row(
        "a `Value` in an answer that is of no kind",
        "left out",
        "`null`",
        "As `json_format` does: the field is set.",
        lambda c: c.request.options == PLAIN and _adds(c, "value", None),
        of="answer",
    ),
    row(
        "an answer that JSON cannot hold: a `Timestamp` of the year 10000, a NaN in a `Value`",
        "502 with the reason as text",
        "500, with the reason in the log",
        "What the servicer got wrong is not the client's to read.",
        lambda c: (c.envoy.status, c.here.status) == (502, 500) and is_status(c.here),
        of="status",
    ),
    row(
        "a `FieldMask` in an answer whose paths lowerCamelCase cannot hold: `b_1`, `bC`",
        "written so that another mask is read back",
        "500",
        "The mapping wants an error where the way back does not lead to the same mask.",
        lambda c: (c.envoy.status, c.here.status) == (200, 500) and "mask" in c.envoy.answer and is_status(c.here),
        of="status",
    ),
    row(
        "a stream of messages as lines",
        "`application/json`",
        "`application/x-ndjson`",
        "The whole is no JSON text.",
        lambda c: (c.envoy.content_type, c.here.content_type) == ("application/json", "application/x-ndjson"),
        of="type",
    ),
    row(
        "a `google.api.HttpBody` without a content type, or a stream of none",
        "no `Content-Type`, or `application/json` for nothing at all",
        "`application/octet-stream`",
        "A browser should not guess.",
        lambda c: c.here.content_type == "application/octet-stream" and c.envoy.answer == c.here.answer,
        of="type answer",
    ),
)
