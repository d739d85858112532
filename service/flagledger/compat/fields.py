"""
Fields of a body as Django REST framework takes them: coerced where it coerces, refused in its words.

Each `take_*` returns a value or raises `FieldError`. What a field has to be was found by asking the framework, version 3.16.
"""

from __future__ import annotations

from typing import Any, Final

REQUIRED: Final = "This field is required."
NULL: Final = "This field may not be null."
_BLANK: Final = "This field may not be blank."
_NO_STRING: Final = "Not a valid string."
_NUL: Final = "Null characters are not allowed."
_NO_BOOLEAN: Final = "Must be a valid boolean."
_NO_INTEGER: Final = "A valid integer is required."
_TOO_LONG: Final = "String value too large."

_TRUE: Final = frozenset({"1", "on", "t", "true", "y", "yes"})
_FALSE: Final = frozenset({"0", "f", "false", "n", "no", "off"})
_MAX_CHARACTERS: Final = 1000


class FieldError(ValueError):
    """A value that its field does not take. Its arguments are the sentences that say why."""


def take_text(value: Any) -> str:
    """Return *value* as text without white space around it; numbers are text, too."""
    if value is None:
        raise FieldError(NULL)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FieldError(_NO_STRING)
    text = str(value).strip()
    if not text:
        raise FieldError(_BLANK)
    faults = [_NUL] if "\0" in text else []
    half = next((character for character in text if "\ud800" <= character <= "\udfff"), "")
    if half:
        faults.append(f"Surrogate characters are not allowed: U+{ord(half):X}.")
    if faults:
        raise FieldError(*faults)
    return text


def take_boolean(value: Any) -> bool:
    """Return *value* as a truth value: 1 and 0 are, and so are some words in any case."""
    if value is None:
        raise FieldError(NULL)
    if isinstance(value, bool | int | float) and value in {0, 1}:
        return bool(value)
    word = value.lower() if isinstance(value, str) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise FieldError(_NO_BOOLEAN)


def take_integer(value: Any) -> int:
    """Return *value* as a whole number: text may spell it, and decimals may be zeros."""
    if value is None:
        raise FieldError(NULL)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) > _MAX_CHARACTERS:
        raise FieldError(_TOO_LONG)
    text = str(value)
    whole, point, decimals = text.rpartition(".")
    try:
        return int(whole if point and not decimals.rstrip().strip("0") else text)
    except ValueError:
        raise FieldError(_NO_INTEGER) from None
