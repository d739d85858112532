"""
JSON texts of every kind, each spliced into a body as a google.protobuf.Value.

What is accepted reaches the servicer as the value that it spells; what is refused is answered with 400 and a google.rpc.Status.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from flagledger.transcoding import Transcoder
from google.protobuf import json_format
from transcoding.json_texts import ACCEPTED, REFUSED
from transcoding.kitchen import Everything, call, service


class Keeper:
    """Keeps the request that it got."""

    def __init__(self) -> None:
        self.request: Any = None

    async def Echo(self, request: Any, context: object) -> Any:
        """Answer with nothing."""
        self.request = request
        return Everything()

    Get = Place = Measure = Echo


def mounted() -> tuple[Keeper, Transcoder]:
    """Return a servicer and what serves it."""
    keeper = Keeper()
    return keeper, Transcoder([(service("Kitchen"), keeper)])


def same(expected: Any, actual: Any) -> bool:
    """Compare values, zeros by their signs."""
    return (expected, json.dumps(expected)) == (actual, json.dumps(actual))


@pytest.mark.parametrize(("text", "expected"), ACCEPTED, ids=lambda one: repr(one)[:40])
async def test_accepted(text: bytes, expected: Any) -> None:
    """A JSON text is accepted, and is the value that it spells."""
    keeper, app = mounted()
    answer = await call(app, "POST", "/v1/everything", b'{"value":' + text + b"}")

    assert 200 == answer.status
    assert keeper.request.HasField("value")
    assert same(expected, json_format.MessageToDict(keeper.request.value)), keeper.request.value


@pytest.mark.parametrize("text", REFUSED, ids=lambda one: repr(one)[:40])
async def test_refused(text: bytes) -> None:
    """A text that is no JSON, or no value that protobuf has, is a 400 with a Status, and never reaches the servicer."""
    keeper, app = mounted()
    answer = await call(app, "POST", "/v1/everything", b'{"value":' + text + b"}")

    assert 400 == answer.status
    assert {"code", "message", "details"} == set(answer.json)
    assert (3, True) == (answer.json["code"], answer.json["message"].endswith("."))
    assert keeper.request is None


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("UTF-16 with a mark", '{"value":1}'.encode("utf-16")),
        ("UTF-16LE", '{"value":1}'.encode("utf-16-le")),
        ("UTF-16BE", '{"value":1}'.encode("utf-16-be")),
        ("UTF-32", '{"value":1}'.encode("utf-32")),
        ("UTF-8 with a mark", '{"value":1}'.encode("utf-8-sig")),
        ("Latin-1", '{"value":"\N{LATIN SMALL LETTER E WITH ACUTE}"}'.encode("latin-1")),
        ("two bodies", b'{"value":1}{"value":2}'),
        ("a body and a brace", b'{"value":1}}'),
        ("a body and a null byte", b'{"value":1}\x00'),
        ("an unclosed body", b'{"value":1'),
        ("nothing", b""),
        ("white space", b" \n"),
        ("a number", b"1"),
        ("a string", b'"{}"'),
        ("true", b"true"),
        ("null", b"null"),
        ("a list", b'[{"value":1}]'),
    ],
)
async def test_refused_as_a_body(name: str, body: bytes) -> None:
    """What is no JSON object in UTF-8 is no body for a message."""
    keeper, app = mounted()
    answer = await call(app, "POST", "/v1/everything", body)

    assert (400, 3, None) == (answer.status, answer.json["code"], keeper.request), name


def test_table() -> None:
    """The table is as long as it is meant to be, and nothing stands in it on both sides."""
    accepted = {text for text, _ in ACCEPTED}

    assert len(accepted) + len(set(REFUSED)) >= 200
    assert not accepted & set(REFUSED)
