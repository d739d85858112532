"""Bodies of JSON, as the services read them that older SDKs were made for."""

from __future__ import annotations

import codecs
import json
from typing import Any, Final, NoReturn

import orjson

_TOO_DEEP: Final = "It is nested too deeply."
# Longer whole numbers have no double of their own, and one of millions of digits takes for ever to read.
_EXACT_DIGITS: Final = 18


class JsonError(ValueError):
    """The body is no JSON; the message says where."""


def load_strictly(data: bytes) -> Any:
    """
    Return the JSON value that *data* spells, as Python's own parser reads it: whole numbers of any size stay whole numbers.

    Raises:
        JsonError: It is no JSON text in UTF-8, or holds NaN or an infinity. The message is the parser's own, which clients of
            the Flagsmith API see.
    """
    try:
        # As a stream is decoded: of a character that is cut off at the end nothing is left.
        text, _ = codecs.utf_8_decode(data)
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise JsonError(_TOO_DEEP) from None
    except ValueError as error:
        raise JsonError(str(error)) from None


def load_leniently(data: bytes) -> Any:
    """
    Return the JSON value that *data* spells, NaN, infinities and halves of surrogate pairs included.

    They are what Python's own `json.dumps` writes, so that SDKs send them; each costs the entry that holds it and not the body.

    Raises:
        JsonError: Even so it is no JSON text in UTF-8.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data.decode(), parse_int=_integer)
    except RecursionError:
        raise JsonError(_TOO_DEEP) from None
    except ValueError as error:
        raise JsonError(str(error)) from None


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise JsonError(f"Out of range float values are not JSON compliant: {name!r}")
