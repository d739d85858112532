"""What tables are made of: the console, cells without anything that a terminal would act on, and how figures read."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from flagledger.cli.reading import visible

DASH: Final = "\N{EN DASH}"
"""What a cell shows where there is nothing, and where that is worth a sign."""

LOWER_BOUND: Final = "≥ is a lower bound: of identities that were left out of a sample nothing is known."
"""What `identities` means by its sign."""

# A value may hold 128 KiB, and nobody reads more than this of one in a table; --json has it all.
_MAX_CELL_CHARACTERS: Final = 120

# Where there is no terminal, no column gives way to another.
_PIPE_COLUMNS: Final = 4_000

# Where there are fewer, every column gives some of its width.
_ROOMY_COLUMNS: Final = 72

_SDKS_SHOWN: Final = 2
_WHOLE: Final = 100.0
_LEAST: Final = 0.1
_KIB: Final = 1024


def console() -> Console:
    """Return what prints to stdout."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character gets a question mark, and no traceback.
        sys.stdout.reconfigure(errors="replace")
    made = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _PIPE_COLUMNS
    return made


def put(to: Console, shown: RenderableType) -> None:
    """Print *shown*; outside of a terminal without the blanks that fill up the last column."""
    if to.is_terminal:
        to.print(shown)
        return
    with to.capture() as capture:
        to.print(shown)
    to.file.write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))
    to.file.flush()


def is_cut(made: Table, width: int) -> bool:
    """Tell whether a terminal of *width* columns has no room for all that the table holds."""
    wide = Console(file=io.StringIO(), width=_PIPE_COLUMNS)
    return wide.measure(made).maximum > width


def table(width: int, *headings: str, right: Sequence[str] = ()) -> Table:
    """
    Return an empty table. Columns whose heading ends in `!` keep their width, where there is room for that.

    Args:
        width: Columns of the terminal.
        headings: One for each column.
        right: Those whose cells stand to the right, without `!`.
    """
    made = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    roomy = width >= _ROOMY_COLUMNS
    for heading in headings:
        name = heading.removesuffix("!")
        made.add_column(
            cell(name), no_wrap=roomy and heading.endswith("!"), justify="right" if name in right else "left"
        )
    return made


def fixed(text: str) -> Text:
    """Return a cell that is short by nature."""
    return Text(visible(text), no_wrap=True, overflow="ellipsis")


def cell(text: Any) -> Text:
    """Return a cell on one line, without anything that a terminal would act on."""
    shown = "" if text is None else str(text)
    if len(shown) > _MAX_CELL_CHARACTERS:
        shown = shown[: _MAX_CELL_CHARACTERS - 1] + "…"
    return Text(visible(shown), no_wrap=True, overflow="ellipsis")


def json_text(value: Any) -> str:
    """Return *value* as JSON, in which true and "true", and null and nothing, differ."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_cell(row: Mapping[str, Any], field: str) -> Text:
    """Return a cell with the field's value as JSON; an empty one where there is none."""
    return cell(json_text(row[field]) if field in row else None)


def time(timestamp: Any) -> str:
    """Return an RFC 3339 time to the second: the table has no room for more, and --json has it all."""
    text = str(timestamp or "")
    whole, dot, fraction = text.partition(".")
    return whole + fraction.lstrip("0123456789") if dot else text


def boolean(value: Any) -> str:
    """Return a boolean as JSON writes it; nothing where there is none."""
    return "" if value is None else str(value).lower()


def integer(value: Any) -> int:
    """Return a 64-bit integer, which JSON may write as a string; 0 where there is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def number(value: Any) -> float:
    """Return a double, which JSON may write as a string; 0 where there is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def count(value: Any) -> str:
    """Return a count."""
    return f"{integer(value):,}"


def identities(value: Any, said: Mapping[str, Any]) -> str:
    """Return a count of identities, with a sign before it where *said*, a message, calls it a lower bound or an estimate."""
    least = "≥" if said.get("identities_lower_bound") is True else ""
    about = "≈" if said.get("identities_approximate") is True else ""
    return f"{least}{about}{count(value)}"


def share(part: int, whole: int) -> str:
    """Return a share as a percentage; nothing of nothing."""
    if whole == 0:
        return ""
    percent = part * _WHOLE / whole
    # Rounding must not make "all" or "none" of what is not.
    if 0 < percent < _LEAST:
        return f"<{_LEAST} %"
    if _WHOLE - _LEAST < percent < _WHOLE:
        return f">{_WHOLE - _LEAST} %"
    return f"{percent:.1f} %"


def enabled_share(row: Mapping[str, Any]) -> str:
    """Return how many of the evaluations were enabled, of those of which that is known."""
    return share(integer(row.get("enabled_count")), integer(row.get("enabled_known_count")))


def size(amount: float) -> str:
    """Return a number of bytes in a unit that is read at a glance."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < _KIB:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= _KIB
    return f"{amount:.1f} TiB"


def sdks(row: Mapping[str, Any]) -> str:
    """Return the most frequent SDKs of a row, and how many more there are."""
    used = [_sdk(use) for use in row.get("sdks") or []]
    shown = ", ".join(used[:_SDKS_SHOWN])
    return f"{shown}, +{len(used) - _SDKS_SHOWN}" if len(used) > _SDKS_SHOWN else shown


def _sdk(use: Mapping[str, Any]) -> str:
    name = use.get("sdk_name") or DASH
    return f"{name}/{use['sdk_version']}" if use.get("sdk_version") else str(name)
