"""Differences from Envoy in where a request goes, and in what its path, its query and its body are to the message."""

from __future__ import annotations

import re
from collections.abc import Callable

from transcoding.envoy_comparison import WELL_KNOWN, Comparison, is_status, row

# Bodies with a field mask that begins with a capital, or has two in a row.
_MASK_OF_CAPITALS = (b'{"mask":"Abc"}', b'{"mask":"YQ"}')


def served(pattern: str) -> Callable[[Comparison], bool]:
    """Return whether *pattern* is in the path of a comparison, and an rpc ran here."""
    return lambda c: c.here.called is not None and re.search(pattern, c.request.path) is not None


def not_found(pattern: str) -> Callable[[Comparison], bool]:
    """Return whether *pattern* is in the path of a comparison, and an rpc ran at Envoy but here is a 404."""
    return lambda c: (c.envoy.status, c.here.status) == (200, 404) and re.search(pattern, c.request.path) is not None


ROUTING = (
    row(
        "a path that has routes, under another method",
        "404",
        "405 with `Allow`",
        "HTTP has a status for it, and the client learns which methods there are.",
        lambda c: (c.envoy.status, c.here.status) == (404, 405),
        of="status",
    ),
    row(
        "`OPTIONS` of a path that has routes",
        "404",
        "204 with `Allow`",
        "The answer follows from the annotations, and no rpc is needed for it.",
        lambda c: c.request.method == "OPTIONS" and (c.envoy.status, c.here.status) == (404, 204),
        of="status",
    ),
    row(
        "`HEAD` where `GET` has a route",
        "404",
        "what `GET` answers, without its body",
        "RFC 9110 wants `HEAD` wherever there is `GET`.",
        lambda c: c.request.method == "HEAD" and (c.envoy.status, c.here.status) == (404, 200),
    ),
    row(
        "an escaped letter in a literal or a verb: `/v1/fi%6Ed` of `/v1/find`",
        "another path, so 404 or another route",
        "the same path",
        "RFC 3986 takes an escaped letter for the letter.",
        served("%[46]"),
        of="verdict message",
    ),
    row(
        "slashes behind a verb: `/v1/jars:count/`",
        "the verb is no verb: 404, or text of the last variable",
        "they do not count, as without a verb",
        "Trailing slashes are nothing that a template can ask for.",
        served(r":\w+/+$"),
        of="verdict message",
    ),
    row(
        "a verb with an empty segment before it: `/v1/jars/:open`",
        "404, or the route without the segment (`/v1/jars:open`)",
        "`:open` is the text of the segment",
        "`*` takes a segment that is not empty, so no verb can stand here.",
        served("/:[a-z]+$"),
        of="verdict message",
    ),
    row(
        "a text behind a colon that is a verb under other methods alone: `DELETE /v1/jars/a:fill`",
        "404",
        "part of the last variable, where the method has a route without a verb",
        "Verbs belong to templates, and the method's own template has none.",
        lambda c: c.request.path == "/v1/jars/a:fill" and c.envoy.status == 404 and c.here.status in {200, 400},
        of="verdict status",
    ),
    row(
        "an empty segment in the middle where the template has `*`: `/v1/rooms//racks/2`",
        "`*` takes it",
        "404",
        "`*` stands for one segment, and a name that is empty names nothing.",
        not_found(r"/v1/\w+//\w+"),
    ),
    row(
        "a `%` in the path that starts no escape: `/v1/jars/%zz`",
        "kept as it is",
        "404",
        "It is no URI; decoded twice somewhere it would become another path.",
        not_found("%(?![0-9A-Fa-f]{2})"),
    ),
    row(
        "escapes that are not UTF-8: `%FF`",
        "passed on as a broken string; the servicer's protobuf refuses it with 500",
        "404 in the path, 400 in the query",
        "The fault is the client's.",
        lambda c: "%FF" in c.request.target and c.envoy.status == 500 and c.here.status in {400, 404},
        of="status",
    ),
    row(
        "anything that is refused before an rpc runs",
        "text, or nothing",
        "a `google.rpc.Status`, with a `BadRequest` that names the field where there is one",
        "Clients need one parser for errors.",
        lambda c: c.envoy.content_type == "text/plain" and is_status(c.here),
        of="refusal",
    ),
)

BINDING = (
    row(
        "a parameter for a field that the path or the body sets: `/v1/jars/a?name=b`",
        "it takes the place of the path's value, or is merged into the body's",
        "400",
        "Only what neither binds becomes a parameter, says `http.proto`; two values would leave open which one counts.",
        lambda c: c.envoy_alone("cannot be a query parameter"),
    ),
    row(
        'a field in a body of `"*"` that the path sets to another value',
        "400",
        "the path's value counts",
        "The path decided where the request went.",
        lambda c: c.here_alone(b"conflicting with the value", request="^POST .*:fill"),
    ),
    row(
        "a body where the rule has none: `GET` with a body",
        "read all the same: its fields count, or are in conflict with the path's",
        "not looked at",
        "No `body` in the rule means no body in the request.",
        lambda c: c.request.method in {"GET", "DELETE"} and c.request.body != b"" and c.here.called is not None,
        of="verdict message",
    ),
    row(
        "an empty body where the rule has one",
        "an empty message",
        "400",
        "It is no JSON; a body that was lost on the way would go unnoticed.",
        lambda c: c.envoy_alone("^The body is empty", request=" $"),
    ),
    row(
        "a body with another `Content-Type` than JSON",
        "read as JSON",
        "415",
        "Forms that pages of other origins may send unasked stay out.",
        lambda c: (
            c.here.status == 415 and c.envoy.status in {200, 400} and "json" not in (c.request.content_type or "")
        ),
        of="verdict status",
    ),
    row(
        "a stream of messages as a request",
        "one JSON array",
        "lines of JSON",
        "The answer to a stream has this form as well, and each line is a message as soon as it is there.",
        lambda c: (
            c.request.path in {"/v1/upload", "/v1/chat"}
            and {c.envoy.status, c.here.status} == {200, 400}
            and c.request.body.startswith(b"[") == (c.here.status == 400)
        ),
    ),
    row(
        "a parameter of a singular field that is there twice",
        "the last one counts",
        "400",
        "Readers disagree on which one counts, which has been used to get past filters.",
        lambda c: c.envoy_alone("is there more than once", request=r"\?.*&"),
    ),
    row(
        "a parameter inside a repeated message: `nesteds.name=a`",
        "appends a message",
        "400",
        "`http.proto` rules repeated messages out.",
        lambda c: c.envoy_alone("lies inside a repeated field", request=r"\?\w+\."),
    ),
    row(
        "a parameter inside a well-known type: `time.seconds=5`",
        "sets it; inside a `Value` it writes an object of the same name",
        "400",
        "JSON writes these types as one value: `time=2026-02-10T11:00:00Z`.",
        lambda c: c.envoy_alone("is not a field of", request=rf"\?(.*&)?{WELL_KNOWN}\."),
    ),
    row(
        "a parameter that is a `Value`, or a repeated well-known type: `value=5`",
        "a string, or appended",
        "400",
        "A text does not say which kind of `Value` it is; `http.proto` wants primitive types.",
        lambda c: c.envoy_alone("which no text can set", request=rf"\?{WELL_KNOWN}="),
    ),
    row(
        "a parameter without a name: `?=a`",
        "passed over",
        "400",
        "It is refused like every other name that is no field.",
        lambda c: c.envoy_alone("has no name", request=r"\?=a"),
    ),
    row(
        "a `%` in the query that starts no escape",
        "kept as it is",
        "400",
        "As in the path.",
        lambda c: c.envoy_alone("starts no escape", request=r"\?.*%(?![0-9A-Fa-f]{2})"),
    ),
    row(
        "other words for a truth value, as texts: `1`, `t`, `yes`, `True`",
        "accepted",
        "400",
        "JSON has `true` and `false`, and so have parameters.",
        lambda c: c.envoy_alone(
            "true or false, not a string|the key true or false", request=r"(?i)\b(0|1|t|yes|true)\b"
        ),
    ),
    row(
        "a `NullValue` as the text `0`",
        "accepted",
        "400",
        "Its one value is `null`.",
        lambda c: c.envoy_alone("has to be null", request=r"(?i)\?null_?field=0"),
    ),
    row(
        "numbers as texts that JSON does not spell so: `007`, `+5`, `.5`, `5.`, `0x10`",
        "accepted",
        "400",
        "Texts follow the same grammar as JSON's numbers.",
        lambda c: c.envoy_alone("is not an integer|is not a number", request=r"0\d|\+5|%2B5|\.5|5\.|0x10"),
    ),
    row(
        "integers as texts with an exponent, a zero fraction or a sign before zero: `1e2`, `5.0`, `-0`",
        "400",
        "accepted",
        "So are the same numbers without quotes, by Envoy as well.",
        lambda c: c.here_alone(rb"invalid value .* for type TYPE_\w*(INT|FIXED)", request=r"1e2|\d\.0|-0"),
    ),
    row(
        "a number as a text that the enum has no name for: `77`",
        "400",
        "accepted",
        "proto3 enums are open; the same number without quotes is accepted by both.",
        lambda c: c.here_alone(rb"invalid value .* for type type.googleapis.com/kitchen.v1.Color", request=r"\d"),
    ),
    row(
        "other characters in base64: a blank",
        "passed over",
        "400",
        "A `+` that was not escaped becomes a blank; the bytes would be others.",
        lambda c: c.envoy_alone("is not base64", request="a%20b"),
    ),
    row(
        "a field mask in snake_case or with capitals in a row",
        "taken as it is, or in lower case",
        "400, or a word for each capital",
        "JSON has lowerCamelCase, and what is accepted comes back the same.",
        lambda c: c.envoy_alone("is not a field mask", request="_") or c.request.body in _MASK_OF_CAPITALS,
        of="verdict message",
    ),
)
