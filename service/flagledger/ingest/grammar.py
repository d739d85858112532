r"""
Which evaluations are valid beyond doubt, told by their bytes in one pass of compiled code.

Asking a parsed evaluation for each of its fields costs more than everything else that is done for it. But its bytes, as
upb writes them, have one form only: fields by ascending number, each once, shortest varints, unknown fields last. So
there is a regular expression for the evaluations that SDKs send (a scalar value, scalar traits, strings of up to 127
bytes, no metadata), and what it matches keeps every rule of `flagledger.ingest.faults`. What it does not match is not
invalid, only not known: it is examined field by field.

Why a match can be trusted, given that the batch itself has neither unknown fields nor a batch id:

* A regular expression cannot read a length, but it can have an alternative per length: `\x03[^\x00]{3}|\x04[^\x00]{4}`.
  Every message inside an evaluation is matched with its exact length, so that nothing hides in one, and nothing of one
  is taken for a field of the message around it.
* Wherever a tag of the evaluation is expected, a field of it starts. An unknown field is not taken for a known one
  there, since their tags differ. Behind a match stands the end or `0a`, the tag of the next evaluation, which no field
  behind the name has: so no match ends before a field that it does not know.
* Text is `[^\x00]`, so no U+0000 passes; the exponent of a number is not all ones, so neither does NaN or infinity.
* A string of n bytes has at most n characters, so that a limit that is kept in bytes is kept in characters.

The next byte decides each step, and possessive repeats (`*+`) never go back: matching takes linear time whatever is
sent. Two things are left to the caller, as groups: the name of the feature, its length before it, and the high bits of
the seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from flagledger.ingest.limits import Limits

# A length in one byte.
_SHORT: Final = 127
# Traits take one alternative per pair of lengths. These bounds keep the expression small and most traits within it.
_TRAIT_KEY: Final = 40
_TRAIT_VALUE: Final = 100
_KEY_OVERHEAD: Final = 4  # tag and length of the key, tag and length of the value
_STRING_OVERHEAD: Final = 2
_NUMBER_BYTES: Final = 9
_TWO_BYTES: Final = 16_383

_NEVER: Final = rb"(?!)"
# Without a lookahead: Python 3.11.2 passes over one inside a possessive repeat, and takes NaN for a number then.
_NUMBER: Final = rb"\x11.{6}(?:[\x00-\xef].|[\xf0-\xff][^\x7f\xff])"
_BOOL_OR_NULL: Final = rb"\x20[\x00\x01]|\x08\x00"

# Seconds from 2^28 to 2^35 are five bytes; the last three are the seconds without their low 14 bits.
SECONDS_SHIFT: Final = 14
_SECONDS: Final = rb"\x08[\x80-\xff]{2}+([\x80-\xff]{2}[\x01-\x7f])"
# Nanos by the length of their timestamp, which stands seven bytes back; up to 999,981,055 where they take five bytes.
_NANOS: Final = (
    rb"(?:(?<=\x0c.{6})\x10[\x80-\xff]{2}+(?:[\x80-\xff]{2}[\x01\x02]|[\x80-\xff][\x80-\xdb]\x03|[\x80-\xea]\xdc\x03)"
    rb"|(?<=\x0b.{6})\x10[\x80-\xff]{3}[\x01-\x7f]"
    rb"|(?<=\x06.{6})"
    rb"|(?<=\x0a.{6})\x10[\x80-\xff]{2}[\x01-\x7f]"
    rb"|(?<=\x09.{6})\x10[\x80-\xff][\x01-\x7f]"
    rb"|(?<=\x08.{6})\x10[\x01-\x7f])"
)
_TIMESTAMP: Final = rb"[\x06\x08-\x0c]" + _SECONDS + _NANOS


@cache
def compile_grammar(limits: Limits) -> re.Pattern[bytes]:
    """
    Return the pattern of an evaluation, tag and length included, that keeps *limits* for certain.

    At the start of an evaluation it always matches: one that it knows, with the groups (name, high bits of the
    seconds), else everything up to the end, with both groups empty. So `findall` stops at the first that it does not
    know. It must never search for the next, which could take quadratic time.
    """
    trait = _trait(
        min(_TRAIT_KEY, limits.trait_key_characters),
        min(_TRAIT_VALUE, limits.trait_string_characters + _STRING_OVERHEAD),
    )
    label = _text(1, limits.label_characters)
    source = b"".join(
        (
            rb"\x0a" + _varint(0, min(_TWO_BYTES, limits.traits_bytes, limits.segments_bytes)),
            rb"\x0a(" + _text(1, limits.feature_name_characters) + rb")",
            rb"\x10[\x00\x01]",
            rb"(?:\x1a" + _value(limits.value_bytes) + rb")?+",
            rb"\x22" + _TIMESTAMP,
            rb"(?:\x2a" + _text(1, limits.identity_characters) + rb")?+",
            rb"(?:\x32" + trait + rb")*+",
            rb"(?:\x3a" + _text(0, limits.segment_name_characters) + rb")*+",
            rb"(?:\x42" + label + rb")?+",
            rb"(?:\x4a" + label + rb")?+",
            rb"(?:\x58" + _varint(1, min(limits.count_client, limits.count_server)) + rb")?+",
            rb"(?=\x0a|\Z)",
        )
    )
    return re.compile(source + rb"|.+", re.DOTALL)


def _byte(number: int) -> bytes:
    return b"\\x%02x" % number


def _characters(number: int) -> bytes:
    return b"[^\\x00]{%d}+" % number if number else b""


def _any_of(alternatives: Iterator[bytes]) -> bytes:
    # Without alternatives an empty group would match; a limit that leaves none must match nothing.
    return b"(?:" + (b"|".join(alternatives) or _NEVER) + b")"


def _varint(least: int, most: int) -> bytes:
    """Return a pattern of varints from *least* (0 or 1) up to *most* or somewhat less, in two bytes at most."""
    two = (min(most, _TWO_BYTES) - _SHORT) >> 7
    one_byte = b"[%s-%s]" % (_byte(least), _byte(min(most, _SHORT))) if most >= least else _NEVER
    two_bytes = b"[\\x80-\\xff][\\x01-%s]" % _byte(two) if two >= 1 else _NEVER
    return b"(?:" + one_byte + b"|" + two_bytes + b")"


def _text(least: int, most: int) -> bytes:
    return _any_of(_byte(length) + _characters(length) for length in range(least, min(most, _SHORT) + 1))


def _value(most: int) -> bytes:
    lengths = range(_STRING_OVERHEAD, min(most, _SHORT) + 1)
    return _any_of(_byte(length) + _scalar(length) for length in lengths)


def _scalar(length: int) -> bytes:
    """Return a pattern of a google.protobuf.Value of *length* bytes (2 or more) that is no object and no array."""
    string = rb"\x1a" + _byte(length - _STRING_OVERHEAD) + _characters(length - _STRING_OVERHEAD)
    if length == _NUMBER_BYTES:
        return b"(?:" + string + b"|" + _NUMBER + b")"
    if length == _STRING_OVERHEAD:
        return b"(?:" + string + b"|" + _BOOL_OR_NULL + b")"
    return string


def _trait(longest_key: int, longest_value: int) -> bytes:
    return _any_of(
        _byte(length) + rb"\x0a" + pairs
        for length in range(_SHORT + 1)
        if (pairs := _any_of(_pairs(length - _KEY_OVERHEAD, longest_key, longest_value))) != b"(?:" + _NEVER + b")"
    )


def _pairs(length: int, longest_key: int, longest_value: int) -> Iterator[bytes]:
    for key in range(1, longest_key + 1):
        value = length - key
        if _STRING_OVERHEAD <= value <= longest_value:
            yield _byte(key) + _characters(key) + rb"\x12" + _byte(value) + _scalar(value)
