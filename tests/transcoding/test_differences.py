from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from transcoding import conformance, kitchen
from transcoding.differences import DIFFERENCES, Difference, documented_rows
from transcoding.reference import PLAIN, Verdict, expected, found, wire

DOCS = Path(__file__).parents[2] / "docs" / "transcoding.md"
HEADING = "## Where json_format is wrong"
MESSAGES = {**kitchen.MESSAGES, **conformance.MESSAGES}


def by_json_format(message_class: Any, text: bytes) -> bytes | type[Exception]:
    """Return what json_format makes of *text*: the bytes of the message, or what it raises."""
    try:
        return wire(json_format.Parse(text, message_class()))
    except Exception as error:  # noqa: BLE001  # which one it is, is what a row may be about
        return type(error)


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: row.shown)
def test_every_row_is_true(row: Difference) -> None:
    """The example of a row is read as it says: otherwise than by json_format, by this row and no other."""
    message_class = MESSAGES[row.message]
    wanted = expected(message_class, row.input)
    got = found(PLAIN, message_class, row.input)
    theirs = by_json_format(message_class, row.input)

    assert (row,) == wanted.rows
    assert wanted.verdict in {got.verdict, Verdict.EITHER}
    assert (got.message if got.verdict is Verdict.ACCEPTED else json_format.ParseError) != theirs


def test_refusals_are_what_the_table_says() -> None:
    """A row says that the codec refuses its example where it does, and something else where it does not."""
    verdicts = {
        row.shown: found(PLAIN, MESSAGES[row.message], row.input).verdict is Verdict.REFUSED for row in DIFFERENCES
    }

    assert {row.shown: row.here.startswith("refused") for row in DIFFERENCES} == verdicts


def test_the_table_is_documented() -> None:
    """The documentation has the table as it is here."""
    section = DOCS.read_text().partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]

    assert documented_rows() == [line for line in section.splitlines() if line.startswith("|")]
