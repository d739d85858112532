"""
Where Envoy and we part, and why: the one table of it.

Every row is needed, and together they are enough; docs/transcoding.md shows them.
"""

from __future__ import annotations

from transcoding.envoy_rows_binding import BINDING, ROUTING
from transcoding.envoy_rows_json import ANSWERS, JSON

DIFFERENCES = (*ROUTING, *BINDING, *JSON, *ANSWERS)


def documented_rows() -> list[str]:
    """Return the table of the documentation, line by line."""
    lines = ["| request | Envoy | here | why |", "|---|---|---|---|"]
    lines += [f"| {each.request} | {each.envoy} | {each.here} | {each.reason} |" for each in DIFFERENCES]
    return lines
