"""protobuf's own JSON conformance cases, by name, and what the codec makes of each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flagledger.transcoding import Codec, CodecError, CodecOptions, Report
from google.protobuf import json_format
from transcoding import conformance_binary, conformance_messages, conformance_scalars, conformance_well_known
from transcoding.conformance import REFUSED, Case
from transcoding.kitchen import Packed
from transcoding.reference import PLAIN, check_outward, wire

CASES = (
    *conformance_scalars.CASES,
    *conformance_messages.CASES,
    *conformance_well_known.CASES,
    *conformance_binary.CASES,
)
NAMED = [(name, case) for case in CASES for name in case.names]
READ = [case for case in CASES if case.text is not None]
WRITTEN = [case for case in CASES if case.message is not REFUSED]


def codec_of(case: Case) -> Codec:
    """Return the codec with the options that a case asks for."""
    if not case.ignores_unknown:
        return PLAIN
    return Codec(CodecOptions(ignore_unknown_below=frozenset({case.message_class.DESCRIPTOR.full_name})))


def read(case: Case) -> Any:
    """Return the message that the text of a case is read as, or REFUSED."""
    assert case.text is not None
    report = Report()
    try:
        message = codec_of(case).parse(case.text.encode(), case.message_class(), report)
    except CodecError:
        return REFUSED
    assert report.ignored is case.ignores_unknown
    return message


def written(message: Any) -> Any:
    """Return the JSON of a message, or REFUSED."""
    try:
        return json.loads(PLAIN.serialize(message))
    except ValueError:
        return REFUSED


@pytest.mark.parametrize(("name", "case"), NAMED, ids=[f"{at}-{name}" for at, (name, _) in enumerate(NAMED)])
def test_conforms(name: str, case: Case) -> None:
    """A case comes to the message or the JSON that the suite wants, or to what the table says instead, and why."""
    message = case.message if case.text is None else read(case)
    if case.message is REFUSED:
        assert message is REFUSED
        return
    assert message is not REFUSED
    if case.text is not None:
        assert wire(case.message) == wire(message)
    if case.json is not None:
        assert case.json == written(message)
    if name.endswith("ProtobufOutput") or case.json is REFUSED:
        return
    for parse in (json_format.Parse, PLAIN.parse):
        again = parse(PLAIN.serialize(message), case.message_class())
        assert json_format.MessageToDict(message) == json_format.MessageToDict(again)


def by_json_format(case: Case) -> Any:
    """Return the message that json_format reads the text of a case as, or REFUSED."""
    try:
        return json_format.Parse(case.text, case.message_class(), ignore_unknown_fields=case.ignores_unknown)
    except json_format.ParseError:
        return REFUSED


@pytest.mark.parametrize("case", READ, ids=[f"{at}-{case.name}" for at, case in enumerate(READ)])
def test_json_format_reads_the_same(case: Case) -> None:
    """What is expected of a text is what json_format makes of it, but where the row says what that makes instead."""
    theirs = by_json_format(case)
    same = theirs is case.message or (REFUSED not in (theirs, case.message) and wire(theirs) == wire(case.message))

    assert same is not bool(case.json_format)


@pytest.mark.parametrize("case", WRITTEN, ids=[f"{at}-{case.name}" for at, case in enumerate(WRITTEN)])
def test_json_format_writes_the_same(case: Case) -> None:
    """Every message of a case is written as json_format writes it, in either spelling, or refused as there."""
    theirs = check_outward(case.message)

    assert (case.json is REFUSED) is (theirs is None)


@pytest.mark.parametrize("case", conformance_messages.WRITTEN_ANYS, ids=lambda case: case.name)
def test_an_any_is_written(case: Case) -> None:
    """What is not read of an Any is written all the same, as the suite wants it."""
    assert case.text is not None
    message = json_format.Parse(case.text, Packed())

    assert json.loads(case.text) == json.loads(PLAIN.serialize(message))


def test_there_are_enough() -> None:
    """There are more than 450 cases of both verdicts, and each that departs is known here."""
    departed = {case.name for case in CASES if case.departs}
    enums = {name for name in departed if name.startswith("IgnoreUnknownEnumStringValue")}
    anys = {case.name for case in conformance_messages.WRITTEN_ANYS}

    assert len({case.name for case in CASES}) > 450
    assert {True, False} == {case.message is REFUSED for case in CASES}
    assert len(enums) == 5
    assert departed == enums | anys
