from __future__ import annotations

import math
from typing import Any

import pytest
from flagledger.transcoding import Transcoder
from google.protobuf import json_format
from google.rpc import code_pb2, status_pb2
from transcoding.json_texts import BODIES, ENCODINGS, LITERALS, NUMBERS, REFUSED, STRINGS, STRUCTURES
from transcoding.kitchen import Answer, KitchenServicer, call, service

SPLICED = [
    *NUMBERS,
    *(
        (f"{name} in an array", b"[%b]" % text, REFUSED if value is REFUSED else [value])
        for name, text, value in NUMBERS[:6]
    ),
    *LITERALS,
    *STRINGS,
    *ENCODINGS,
    *STRUCTURES,
]


async def sent(body: bytes) -> tuple[Answer, Any]:
    """Return what is answered to *body*, and the request that the servicer got."""
    servicer = KitchenServicer()
    answer = await call(Transcoder([(service("Kitchen"), servicer)]), "POST", "/v1/everything", body)
    return answer, servicer.request


async def check(body: bytes, expected: Any) -> None:
    """Assert that *body* holds the value that is expected, or is refused with a Status."""
    answer, request = await sent(body)
    if expected is REFUSED:
        status = json_format.Parse(answer.body, status_pb2.Status())
        assert (400, "application/json") == (answer.status, answer.headers["content-type"])
        assert code_pb2.INVALID_ARGUMENT == status.code
        assert status.message
        assert request is None
        return
    assert 200 == answer.status, answer.body
    assert expected == json_format.MessageToDict(request)["value"]
    assert expected == answer.json["value"]
    if isinstance(expected, float):
        assert math.copysign(1, expected) == math.copysign(1, request.value.number_value)


@pytest.mark.parametrize(("text", "expected"), [each[1:] for each in SPLICED], ids=[each[0] for each in SPLICED])
async def test_values(text: bytes, expected: Any) -> None:
    """A JSON text is the value that it spells, in a message as anywhere; what is no JSON is a 400 with a Status."""
    await check(b'{"value":%b}' % text, expected)


@pytest.mark.parametrize(("text", "expected"), [each[1:] for each in BODIES], ids=[each[0] for each in BODIES])
async def test_bodies(text: bytes, expected: Any) -> None:
    """A body is one JSON object in UTF-8, and nothing before or behind it but white space."""
    await check(text, expected)


def test_there_are_enough() -> None:
    """Each kind has texts of both verdicts, and no text stands there twice."""
    for kind in (NUMBERS, LITERALS, STRINGS, ENCODINGS, STRUCTURES, BODIES):
        assert {True, False} == {value is REFUSED for _, _, value in kind}
    assert 200 <= len(SPLICED) == len({text for _, text, _ in SPLICED})
