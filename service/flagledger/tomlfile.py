"""TOML files that people write: where a fault is, and which name was meant. Standard library only."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from typing import Any, Final

# tomllib tells the place inside its sentence alone, before Python 3.14.
_PLACE: Final = re.compile(
    r"^(?P<what>.*?) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL
)


class TomlSyntaxError(ValueError):
    """A file that is not TOML. Its text names the line and the fault; the file's name is left to the caller."""


def parse_toml(content: bytes) -> dict[str, Any]:
    """
    Return the document in *content*.

    Raises:
        TomlSyntaxError: It is not TOML, or not UTF-8.
    """
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TomlSyntaxError(f"line {line}: this is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise TomlSyntaxError(_sentence(str(error), content)) from None
    except RecursionError:
        raise TomlSyntaxError("line 1: arrays or tables are nested too deeply") from None


def _sentence(message: str, content: bytes) -> str:
    place = _PLACE.match(message)
    if place is None:
        return f"line 1: {message}"
    if place["line"] is None:
        return f"line {content.rstrip().count(10) + 1}: {place['what']}, and the file ends there"
    return f"line {place['line']}, column {place['column']}: {place['what']}"


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return the name of *valid*, which is not empty, that *name* was most likely meant to be."""
    candidates = sorted(valid)
    return difflib.get_close_matches(name.lower(), candidates, n=1, cutoff=0.0)[0]
