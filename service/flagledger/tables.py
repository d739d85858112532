"""Features and evaluations as tables for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flagledger.reading import visible

# A value may hold 128 KiB, and no terminal shows more than this of one.
_MAX_CELL_CHARACTERS: Final = 300

# Where there is no terminal, nothing is cut: whoever searches the output finds what is there.
_PIPE_COLUMNS: Final = 4_000

# Where there are fewer, every column gives some of its width.
_ROOMY_COLUMNS: Final = 72

_WHOLE: Final = 100.0
_LEAST: Final = 0.1


def print_evaluations(evaluations: Sequence[Mapping[str, Any]], *, more: bool) -> None:
    """Print *evaluations* (RecordedEvaluation as JSON) in the order given."""
    if not evaluations:
        _console().print("No evaluations match.")
        return
    console = _console()
    headings = ["time!", "feature!", "enabled!", "value", "identity", "segments", "variant"]
    if not any(row.get("variant") for row in evaluations):
        # Most SDKs send none, and the width is needed.
        headings.remove("variant")
    table = _table(console, *headings)
    for row in evaluations:
        cells = (
            _fixed(_time(row.get("evaluation_timestamp"))),
            _cell(row.get("feature_name")),
            _fixed(_boolean(row.get("enabled"))),
            _json_cell(row, "value"),
            _cell(row.get("identity_identifier")),
            _cell(", ".join(str(name) for name in row.get("segment_names") or [])),
            _cell(row.get("variant")),
        )
        table.add_row(*cells[: len(headings)])
    console.print(table)
    if more:
        console.print(f"The newest {len(evaluations):,}; --limit shows more.")


def print_features(features: Sequence[Mapping[str, Any]], *, data_since: str | None, left_out: int) -> None:
    """Print *features* (FeatureSummary as JSON) in the order given."""
    if not features:
        _console().print("No features.")
        return
    console = _console()
    table = _table(console, "!", "feature!", "evaluations!", "enabled!", "identities!", "last evaluated!", "last value")
    for heading in (2, 3, 4):
        table.columns[heading].justify = "right"
    unknown = False
    for row in features:
        missing = row.get("in_catalog") is not True
        unknown = unknown or missing
        count = _integer(row.get("evaluation_count"))
        table.add_row(
            _fixed("!" if missing else ""),
            _cell(row.get("feature_name")),
            _fixed(f"{count:,}"),
            _fixed(_share(_integer(row.get("enabled_count")), count)),
            _fixed(f"{_integer(row.get('identity_count')):,}"),
            _fixed(_time(row.get("last_evaluation_time"))),
            _json_cell(row, "last_value"),
        )
    console.print(table)
    if unknown:
        console.print("! is not in the catalog of the environment.")
    if left_out:
        console.print(f"{left_out:,} more features; --limit shows more.")
    if data_since:
        console.print(Text(f"Recorded since {_time(data_since)}."))


def _console() -> Console:
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_COLUMNS
    return console


def _table(console: Console, *headings: str) -> Table:
    """Return an empty table. Columns whose heading ends in `!` keep their width, where there is room for that."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    roomy = console.width >= _ROOMY_COLUMNS
    for heading in headings:
        table.add_column(_fixed(heading.removesuffix("!")), no_wrap=roomy and heading.endswith("!"))
    return table


def _fixed(text: str) -> Text:
    """Return a cell that is short by nature."""
    return Text(visible(text), no_wrap=True, overflow="ellipsis")


def _cell(text: Any) -> Text:
    """Return a cell on one line, without anything that a terminal would act on."""
    shown = "" if text is None else str(text)
    if len(shown) > _MAX_CELL_CHARACTERS:
        shown = shown[:_MAX_CELL_CHARACTERS] + "…"
    return Text(visible(shown), no_wrap=True, overflow="ellipsis")


def _json_cell(row: Mapping[str, Any], field: str) -> Text:
    # As JSON, so that true and "true", and null and nothing, differ.
    return _cell(json.dumps(row[field], ensure_ascii=False, separators=(",", ":")) if field in row else None)


def _time(timestamp: Any) -> str:
    """Return an RFC 3339 time to the second: the table has no room for more, and --json has it all."""
    text = str(timestamp or "")
    whole, dot, fraction = text.partition(".")
    return whole + fraction.lstrip("0123456789") if dot else text


def _boolean(value: Any) -> str:
    return "" if value is None else str(value).lower()


def _integer(value: Any) -> int:
    """Return a 64-bit integer, which JSON may write as a string; 0 where there is none."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def _share(part: int, whole: int) -> str:
    if whole == 0:
        return ""
    percent = part * _WHOLE / whole
    # Rounding must not make "all" or "none" of what is not.
    if 0 < percent < _LEAST:
        return f"<{_LEAST} %"
    if _WHOLE - _LEAST < percent < _WHOLE:
        return f">{_WHOLE - _LEAST} %"
    return f"{percent:.1f} %"
