"""Line protocol read back, by its rules as InfluxDB 1 keeps them and from nothing of the code that writes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A line: its measurement, tags in the order as written, fields as written, and timestamp."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, str], ...]
    timestamp: int


def read_points(body: str) -> list[Point]:
    """Return the points of *body*; ValueError where a line is none."""
    return [read_point(line) for line in body.split("\n") if line]


def read_point(line: str) -> Point:
    """Return the point of *line*."""
    head, fields, timestamp = _split(line, " ")
    measurement, *tags = _split(head, ",")
    return Point(
        measurement=_plain(measurement),
        tags=tuple(_pair(tag) for tag in tags),
        fields=tuple(_pair(field) for field in _split(fields, ",")),
        timestamp=int(timestamp),
    )


def _split(text: str, separator: str) -> list[str]:
    """Return the pieces of *text* between separators that no backslash stands right before."""
    pieces = [""]
    for i, character in enumerate(text):
        if character == separator and (i == 0 or text[i - 1] != "\\"):
            pieces.append("")
        else:
            pieces[-1] += character
    return pieces


def _pair(text: str) -> tuple[str, str]:
    name, value = _split(text, "=")
    if not name or not value:
        raise ValueError(f"a name or a value is missing: {text!r}")
    return _plain(name), _plain(value)


def _plain(text: str) -> str:
    """Return *text* without the backslashes that escape something; those before anything else stand for themselves."""
    for special in ",= ":
        text = text.replace(f"\\{special}", special)
    return text
