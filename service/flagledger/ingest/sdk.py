"""Which SDK sent a batch, as it says itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_MAX_CHARACTERS: Final = 100
# The Python SDK, which reported events under another name than all the others before 6.3.
_NAMES: Final = {"flagsmith-python-client": "flagsmith-python-sdk"}
# Enough for both parts at their longest. Cut before the cache, so that hostile headers cannot fill memory.
_MAX_READ: Final = 4 * _MAX_CHARACTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """Name and version of an SDK, each at most 100 printable characters; empty where it did not say."""

    name: str
    version: str


def parse_user_agent(text: str) -> Sdk:
    """
    Return the first product of the user agent *text*: `flagsmith-python-sdk/3.8.0 (linux)` is name and version.

    An SDK that has had two names gets the later one.
    """
    return _parse(text[:_MAX_READ])


@lru_cache(maxsize=1024)
def _parse(text: str) -> Sdk:
    products = text.split(maxsplit=1)
    name, _, version = products[0].partition("/") if products else ("", "", "")
    name = _printable(name)
    return Sdk(name=_NAMES.get(name, name), version=_printable(version))


def _printable(text: str) -> str:
    return "".join(filter(str.isprintable, text))[:_MAX_CHARACTERS]
