"""Times of the command line: moments, days, and how long ago."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_AGE: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS_AGO: Final = {"today": 0, "yesterday": 1}

FORMS: Final = (
    "2026-02-10, 2026-02-10T11:00 (UTC unless it has an offset), today, yesterday, or an age: 90s, 30m, 24h, 7d, 2w"
)
"""What is accepted, for help and faults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """
    A time of the command line.

    Attributes:
        of: Returns the time, from what the time is now.
    """

    of: Callable[[datetime], datetime]

    def text(self, now: datetime) -> str:
        """Return the time in the one spelling of RFC 3339 that every server reads."""
        return self.of(now).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From when on, and until when; None is unbounded."""

    start: Moment | None
    end: Moment | None

    @property
    def is_bounded(self) -> bool:
        """Whether there is a time that does not lie in it."""
        return self.start is not None or self.end is not None

    def query(self) -> dict[str, str]:
        """Return the period as fields of a request. What was given as an age or a day is counted from now."""
        now = datetime.now(UTC)
        bounds = {"start_time": self.start, "end_time": self.end}
        return {name: moment.text(now) for name, moment in bounds.items() if moment is not None}


class MomentType(click.ParamType[Moment]):
    """A time of RFC 3339, one without an offset or a day, which are of UTC, `today`, or an age such as `24h`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """Return *value* as a Moment; click.BadParameter where it is none."""
        if isinstance(value, Moment):
            return value
        try:
            moment = Moment(of=_reckoning(value))
            # An age that reaches beyond the year 1 is none.
            moment.of(datetime.now(UTC))
        except (ValueError, OverflowError):
            self.fail(f"it must be one of: {FORMS}", param, ctx)
        return moment


def _reckoning(text: str) -> Callable[[datetime], datetime]:
    """
    Return what makes a time of *text* and of now.

    Raises:
        ValueError: It is none.
        OverflowError: It is longer ago than can be said.
    """
    if match := _AGE.fullmatch(text):
        age = timedelta(**{_UNITS[match[2]]: int(match[1])})
        return lambda now: now - age
    if text in _DAYS_AGO:
        days = timedelta(days=_DAYS_AGO[text])
        return lambda now: now.replace(hour=0, minute=0, second=0, microsecond=0) - days
    found = datetime.fromisoformat(text)
    moment = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return lambda _now: moment
