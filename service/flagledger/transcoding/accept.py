"""What an Accept header prefers."""

from __future__ import annotations

import re
from typing import Final

_MAX_BYTES: Final = 4096
_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_EVENTS: Final = "text/event-stream"
# What is sent otherwise. Clients that ask for JSON get lines of it.
_OTHERWISE: Final = ("application/x-ndjson", "application/jsonl", "application/json")


def prefers_events(accept: bytes) -> bool:
    """
    Tell whether text/event-stream is preferred over lines of JSON: by its quality, or being named where JSON is not.

    A header that leaves it open, as `*/*` and none at all do, prefers nothing.
    """
    if len(accept) > _MAX_BYTES:
        return False
    ranges = dict(_range(part) for part in accept.decode("latin-1").lower().split(","))
    return _rank(_EVENTS, ranges) > max(_rank(other, ranges) for other in _OTHERWISE)


def _range(part: str) -> tuple[str, float]:
    """Return a media range, its parameters left out, and its quality; one that is malformed counts for nothing."""
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            value = value.strip()
            return name, float(value) if _QUALITY.fullmatch(value) else 0.0
    return name, 1.0


def _rank(media_type: str, ranges: dict[str, float]) -> tuple[float, int]:
    """Return the quality of a type, and how closely the range that says so names it."""
    kind = media_type.partition("/")[0]
    for closeness, name in ((2, media_type), (1, f"{kind}/*"), (0, "*/*")):
        quality = ranges.get(name)
        if quality is not None:
            return (quality, closeness) if quality else (0.0, 0)
    return 0.0, 0
