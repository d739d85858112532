"""How an answer is shown: once, or again and again until Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from flagledger.cli.faults import Fault
from flagledger.cli.reading import Answer, ReadingError, joined

if TYPE_CHECKING:
    # rich is for people alone: a program that reads JSON does not wait for it.
    from rich.console import RenderableType

Ask = Callable[[], Iterator[Answer]]
"""Asks, and yields at least one page."""

View = Callable[[Answer, int], "RenderableType"]
"""Returns what people see of an answer in a terminal of so many columns."""

pause = time.sleep


def show(ask: Ask, view: View, *, as_json: bool, every: float | None) -> None:
    """
    Ask, and print the answer: as JSON, one object a line, or as *view* has it.

    Args:
        ask: Asks.
        view: What people see of the answer.
        as_json: Whether a program reads it.
        every: Seconds after which to ask again, until Ctrl-C; None for once. Faults are shown then, and do not end it.

    Raises:
        Fault: There is no answer.
    """
    if every is None:
        try:
            _print(ask, view, as_json=as_json)
        except ReadingError as error:
            raise Fault(error) from None
        return
    with contextlib.suppress(KeyboardInterrupt):
        if not as_json and sys.stdout.isatty():
            _redraw(ask, view, every)
        else:
            _repeat(ask, view, every, as_json=as_json)


def print_json(rows: list[dict[str, Any]]) -> None:
    """Print one object a line."""
    for row in rows:
        # ASCII, in which no control character gets to a terminal raw, and which every locale can print.
        click.echo(json.dumps(row, ensure_ascii=True, separators=(",", ":")))


def _print(ask: Ask, view: View, *, as_json: bool) -> None:
    if as_json:
        for page in ask():
            print_json(page.rows)
        return
    from flagledger.cli.cells import console, put  # noqa: PLC0415 - rich is for people alone

    answer = joined(ask())
    printing = console()
    put(printing, view(answer, printing.width))


def _repeat(ask: Ask, view: View, every: float, *, as_json: bool) -> None:
    """Print one answer after the other, for people with an empty line between them."""
    between = False
    while True:
        if between:
            click.echo()
        between = not as_json
        try:
            _print(ask, view, as_json=as_json)
        except ReadingError as error:
            Fault(error).show()
        sys.stdout.flush()
        pause(every)


def _redraw(ask: Ask, view: View, every: float) -> None:
    """Show the newest answer in place of the one before, on a screen of its own."""
    from rich.console import Group  # noqa: PLC0415 - for people alone
    from rich.live import Live  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    from flagledger.cli.cells import console  # noqa: PLC0415 - the same

    drawing = console()
    shown: RenderableType = Text("Waiting for the first answer.")
    with Live(console=drawing, screen=True, auto_refresh=False) as live:
        while True:
            fault = []
            try:
                shown = view(joined(ask()), drawing.width)
            except ReadingError as error:
                # Above what was there before, so that it is seen however long that is.
                fault = [Text(str(error), style="red"), Text()]
            head = Text(f"{datetime.now(UTC):%H:%M:%S} UTC, every {every:g} s. Ctrl-C ends it.", style="dim")
            live.update(Group(head, Text(), *fault, shown), refresh=True)
            pause(every)
