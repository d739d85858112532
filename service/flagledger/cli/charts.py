"""Counts as charts for people, out of the characters of a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flagledger.cli.cells import (
    DASH,
    LOWER_BOUND,
    boolean,
    cell,
    count,
    enabled_share,
    fixed,
    identities,
    integer,
    json_text,
    number,
    share,
    size,
    table,
    time,
)
from flagledger.cli.reading import Answer, visible

_HEIGHTS: Final = "▁▂▃▄▅▆▇█"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_NOTHING: Final = "·"
_BEYOND: Final = "…"

_LEAST_COLUMNS: Final = 8
# Wider ones say no more, and outside of a terminal nothing else would bound them.
_MOST_COLUMNS: Final = 72
_BAR_COLUMNS: Final = 20
# More of them are seen better in a line.
_MOST_BUCKET_ROWS: Final = 100
# Buckets that begin with a day.
_DAYS: Final = frozenset({"day", "week", "month"})

_ENABLED: Final = "enabled"
_ORIGIN_PREFIX: Final = "ORIGIN_"


class Sparkline:
    """
    Shows numbers as columns of a height from one to eight eighths, in one line that is as wide as there is room.

    Where there are more numbers than columns, a column shows the largest of those that it stands for.
    """

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def text(self, width: int) -> str:
        """Return the line in at most *width* columns."""
        total = len(self._numbers)
        columns = min(width, total)
        edges = [column * total // columns for column in range(columns + 1)] if columns > 0 else [0]
        heights = [max(self._numbers[start:end]) for start, end in itertools.pairwise(edges)]
        peak = max(heights, default=0)
        # What is little is not nothing: the lowest eighth is for anything above zero.
        return "".join(_HEIGHTS[(height * len(_HEIGHTS) - 1) // peak] if height > 0 else _NOTHING for height in heights)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.text(min(options.max_width, _MOST_COLUMNS)), no_wrap=True)

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        most = min(len(self._numbers), _MOST_COLUMNS)
        return Measurement(min(_LEAST_COLUMNS, most), most).with_maximum(options.max_width)


class Bar:
    """
    Shows a part of a whole as a bar, which is as wide as there is room where the part is the whole.

    What is more than the whole ends in an ellipsis.
    """

    def __init__(self, part: int, whole: int) -> None:
        self._part = part
        self._whole = whole

    def text(self, width: int) -> str:
        """Return the bar in at most *width* columns: an eighth of one at least where the part is anything."""
        if self._part <= 0 or self._whole <= 0:
            return ""
        if self._part > self._whole:
            return _HEIGHTS[-1] * (width - 1) + _BEYOND
        eighths = max(1, self._part * width * len(_EIGHTHS) // self._whole)
        full, left = divmod(eighths, len(_EIGHTHS))
        return _HEIGHTS[-1] * full + (_EIGHTHS[left] if left else "")

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.text(min(options.max_width, _BAR_COLUMNS)), no_wrap=True)

    def __rich_measure__(self, _console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_LEAST_COLUMNS, _BAR_COLUMNS).with_maximum(options.max_width)


def counts_view(answer: Answer, width: int, *, bucket: str | None, time_zone: str | None) -> RenderableType:
    """Return rows of CountSeries: one as a row for each bucket, several with a bucket as lines over time, else as bars."""
    if not answer.rows:
        return Text("No evaluations match.")
    names = [_text(group.get("name")) for group in _groups(answer.rows[0])]
    points = _points(answer.rows[0])
    notes = [Text(LOWER_BOUND)] if answer.whole.get("identities_lower_bound") is True else []
    if bucket and not names and len(answer.rows) == 1 and 0 < len(points) <= _MOST_BUCKET_ROWS:
        return Group(_buckets(answer, width, bucket, _zone(time_zone)), *notes)
    # The rest alone has no groups, and comes last.
    headings = [
        *((name, True) for name in names),
        ("evaluations!", True),
        # Evaluations that are told apart by it have no share of it.
        ("enabled!", _ENABLED not in names),
        ("identities!", True),
        ("peak!", bool(bucket)),
        ("over time", bool(bucket)),
        # A bar that has nothing beside it says nothing.
        ("bar", bool(names) and not bucket),
    ]
    right = {"evaluations", _ENABLED, "identities", "peak"}.difference(names)
    made = table(width, *(heading for heading, wanted in headings if wanted), right=tuple(right))
    evaluations = [integer(row.get("evaluation_count")) for row in answer.rows]
    # The rest is of any size, and would make what was asked for small.
    shown = [amount for row, amount in zip(answer.rows, evaluations, strict=True) if row.get("is_rest") is not True]
    largest = max(shown or evaluations)
    for row, amount in zip(answer.rows, evaluations, strict=True):
        numbers = [integer(point.get("evaluation_count")) for point in _points(row)]
        cells: tuple[RenderableType, ...] = (
            *_labels(row, len(names)),
            fixed(count(amount)),
            fixed(enabled_share(row)),
            fixed(identities(row.get("identity_count"), answer.whole)),
            fixed(count(max(numbers, default=0))),
            Sparkline(numbers),
            Bar(amount, largest),
        )
        made.add_row(*(one for one, (_, wanted) in zip(cells, headings, strict=True) if wanted))
    return Group(made, *_axis(points, bucket, _zone(time_zone)), *notes)


def _buckets(answer: Answer, width: int, bucket: str, zone: tzinfo) -> RenderableType:
    """Return the only series as a table with a row for each of its buckets, and one for all of them."""
    series = answer.rows[0]
    made = table(
        width, f"{bucket}!", "evaluations!", "enabled!", "identities!", "bar", right=("evaluations", "enabled", "identities")
    )  # fmt: skip
    points = _points(series)
    largest = max(integer(point.get("evaluation_count")) for point in points)
    for point in points:
        evaluations = integer(point.get("evaluation_count"))
        made.add_row(
            fixed(_start(point, bucket, zone)),
            fixed(count(evaluations)),
            fixed(enabled_share(point) or DASH),
            fixed(identities(point.get("identity_count"), answer.whole)),
            Bar(evaluations, largest),
        )
    if len(points) > 1:
        # Identities of buckets do not add up: those of all are a figure of their own.
        made.add_row(
            "all",
            fixed(count(series.get("evaluation_count"))),
            fixed(enabled_share(series) or DASH),
            fixed(identities(series.get("identity_count"), answer.whole)),
            "",
        )
    return made


def intake_view(answer: Answer, width: int, *, bucket: str | None, time_zone: str | None) -> RenderableType:
    """Return GetIntakeResponse as a panel, what was rejected below it, and lines over time with a bucket."""
    whole = answer.whole
    counts = {kind: integer(whole.get(f"{kind}_count")) for kind in ("recorded", "filtered", "rejected")}
    sampled_out, foreign = (integer(whole.get(f"{kind}_count")) for kind in ("sampled_out", "foreign_event"))
    received = sum(counts.values()) + sampled_out
    lines = Table.grid(padding=(0, 2))
    for kind, amount in [*counts.items(), *([("left out", sampled_out)] if sampled_out else [])]:
        lines.add_row(kind, Text(f"{amount:,}  {share(amount, received)}".rstrip()))
    if foreign:
        lines.add_row("beside", Text(f"{foreign:,} events of other kinds, which are not kept"))
    lines.add_row(
        "rate", Text(f"{number(whole.get('evaluations_per_second')):,.1f} entries a second, over the last minute")
    )
    for name, said in _journal(whole.get("journal") or {}):
        lines.add_row(name, Text(said))
    if "retention_days" in whole:
        days = integer(whole["retention_days"])
        lines.add_row("kept", Text(f"for {days:,} {'day' if days == 1 else 'days'}" if days else "for ever"))
    parts: list[RenderableType] = [
        Panel(lines, title="Intake, in entries", title_align="left", expand=False),
        Text("Batches that were refused as a whole are not among the rejected; /metrics counts them."),
    ]
    if sampled_out:
        parts.append(Text("What was left out of a sample was accepted, and what was recorded stands for it."))
    if whole.get("rejections"):
        made = table(width, "rejected for", "entries!", right=("entries",))
        for rejection in whole["rejections"]:
            made.add_row(
                cell(rejection.get("field") or "something that is not known"),
                fixed(count(rejection.get("evaluation_count"))),
            )
        parts.append(made)
    points = _points(whole)
    if bucket and points:
        made = table(width, "!", "peak!", "over time", right=("peak",))
        for kind in counts:
            numbers = [integer(point.get(f"{kind}_count")) for point in points]
            made.add_row(fixed(kind), fixed(count(max(numbers))), Sparkline(numbers))
        parts += [made, *_axis(points, bucket, _zone(time_zone))]
    return Group(*parts)


def _journal(state: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is to be said of the journal, each with its name."""
    held, most = integer(state.get("bytes")), integer(state.get("max_bytes"))
    waiting = integer(state.get("waiting_batch_count"))
    # A duration is seconds and an `s`; there is none where it is zero.
    lag = number(str(state.get("lag") or "0s").removesuffix("s"))
    said = f"{waiting:,} {'batch' if waiting == 1 else 'batches'}"
    return [
        ("journal", f"{size(held)} of {size(most)}  {share(held, most)}".rstrip()),
        ("waiting", f"{said}, the oldest for {lag:,.1f} s" if waiting else said),
    ]


def _axis(points: Sequence[Mapping[str, Any]], bucket: str | None, zone: tzinfo) -> list[Text]:
    if not bucket or not points:
        return []
    first, last = (visible(_start(point, bucket, zone)) for point in (points[0], points[-1]))
    reach = (
        f"{len(points):,} {bucket}s, from {first} to that of {last}."
        if len(points) > 1
        else f"One {bucket}, from {first}."
    )
    return [Text(f"{reach} Each line has a scale of its own, up to its peak.")]


def _start(point: Mapping[str, Any], bucket: str, zone: tzinfo) -> str:
    """Return when a bucket begins, as a clock of the zone shows it."""
    given = point.get("start_time")
    try:
        start = datetime.fromisoformat(str(given)).astimezone(zone)
    except (ValueError, OverflowError):
        return time(given)
    if bucket in _DAYS:
        return start.date().isoformat()
    return start.isoformat(timespec="seconds").replace("+00:00", "Z")


def _zone(name: str | None) -> tzinfo:
    """Return the time zone of that name; UTC where this machine does not know it."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return UTC


def _points(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [point for point in message.get("points") or [] if isinstance(point, dict)]


def _groups(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [group for group in row.get("groups") or [] if isinstance(group, dict)]


def _labels(row: Mapping[str, Any], columns: int) -> list[Text]:
    """Return what the evaluations of a series have in common, one cell for each column."""
    shown = ["the rest"] if row.get("is_rest") is True else [_label(group) for group in _groups(row)]
    return [cell(text) for text in (shown + [""] * columns)[:columns]]


def _label(group: Mapping[str, Any]) -> str:
    name, value = _text(group.get("name")), group.get("value")
    if value is None:
        return DASH
    if name == "value" or name.startswith("trait:"):
        return json_text(value)
    return boolean(value) if isinstance(value, bool) else str(value).removeprefix(_ORIGIN_PREFIX)


def _text(value: Any) -> str:
    return "" if value is None else str(value)
