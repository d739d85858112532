"""
The form in which JSON is kept: compact, keys sorted, integral numbers up to 2^53 as integers.

Two texts of this form are the same exactly where the JSON is, so that it can be compared as text.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

# Integers up to here are doubles, each of them.
MAX_EXACT: Final = float(1 << 53)

# Typed and made once: a kernel that is handed a Python value guesses its type, and looks for libraries that are not
# there to do so.
_NOTHING: Final = pa.scalar("", pa.string())
_QUOTE, _COMMA, _OPEN, _CLOSE = (pa.scalar(text, pa.string()) for text in '",[]')
_FIRST, _BETWEEN, _LAST, _EMPTY = (pa.scalar(text, pa.string()) for text in ('["', '","', '"]', "[]"))
_ZERO: Final = pa.scalar(0, pa.int32())
_NO: Final = pa.scalar(False, pa.bool_())  # noqa: FBT003  # a kernel's operand

# What JSON escapes: the bytes of it, and as a pattern.
_ESCAPED: Final = bytes(range(0x20)) + b'"\\'
_ESCAPED_PATTERN: Final = r'["\\\x00-\x1f]'


def string_texts(strings: pa.Array) -> pa.Array:
    """Return each of *strings* as JSON text, NULL where it is NULL."""
    texts = pc.binary_join_element_wise(_QUOTE, strings, _QUOTE, _NOTHING)
    if needs_no_escapes(strings):
        return texts
    escaped = pc.fill_null(pc.match_substring_regex(strings, _ESCAPED_PATTERN), _NO)
    replacements = [orjson.dumps(text).decode() for text in strings.filter(escaped).to_pylist()]
    return pc.replace_with_mask(texts, escaped, pa.array(replacements, pa.string()))


def list_texts(lists: pa.ListArray) -> pa.Array:
    """Return each list of strings as the text of a JSON array."""
    items = pc.list_flatten(lists)
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    if needs_no_escapes(items):
        inner = pc.binary_join(pa.ListArray.from_arrays(offsets, items), _BETWEEN)
        texts = pc.binary_join_element_wise(_FIRST, inner, _LAST, _NOTHING)
    else:
        inner = pc.binary_join(pa.ListArray.from_arrays(offsets, string_texts(items)), _COMMA)
        texts = pc.binary_join_element_wise(_OPEN, inner, _CLOSE, _NOTHING)
    return pc.if_else(pc.equal(pc.list_value_length(lists), _ZERO), _EMPTY, texts)


def needs_no_escapes(strings: pa.Array) -> bool:
    """
    Return whether JSON writes all of *strings* as they are, between quotes, as it does with those of most batches.

    One look at all bytes, which is much cheaper than one at each string.
    """
    _, offsets, data = strings.buffers()
    if data is None or not len(strings):
        return True
    # Of a slice the buffers are those of the whole.
    ends = memoryview(offsets)[4 * strings.offset :][: 4 * (len(strings) + 1)].cast("i")
    content = bytes(data[ends[0] : ends[-1]])
    return len(content.translate(None, _ESCAPED)) == len(content)


def json_text(plain: Any) -> str:
    """Return the JSON text of plain Python values, keys sorted."""
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()


def plain_number(number: float) -> int | float:
    """Return the finite *number* as an integer where it is one, up to 2^53 and not -0.0; JSON knows no other difference."""
    if number.is_integer() and abs(number) <= MAX_EXACT and str(number) != "-0.0":
        return int(number)
    return number


def canonical(text: str) -> str:
    """
    Return the JSON *text*, written in whatever way, in the form in which it is kept.

    Raises:
        ValueError: It is no JSON, holds a number that no double does, or is nested deeper than anything that is kept.
    """
    try:
        return json_text(_doubles(orjson.loads(text)))
    except (orjson.JSONEncodeError, RecursionError) as error:
        raise ValueError("The text is nested too deeply.") from error


def _doubles(plain: Any) -> Any:
    """Return *plain* with its numbers as they come out of a google.protobuf.Value."""
    match plain:
        case bool():
            return plain
        case int() | float():
            return plain_number(float(plain))
        case dict():
            return {key: _doubles(item) for key, item in plain.items()}
        case list():
            return [_doubles(item) for item in plain]
        case _:
            return plain
