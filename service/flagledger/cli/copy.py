"""The command that moves what was recorded from one store into another."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from flagledger.cli.faults import Fault, SetUpFault
from flagledger.cli.reading import visible
from flagledger.cli.watch import print_json
from flagledger.config.values import mask_url, store_url
from flagledger.store.opening import is_embedded

if TYPE_CHECKING:
    # What copies loads every store's library.
    from flagledger.store.base import Store
    from flagledger.store.copying import Copied, Step

OnStep = Callable[["Step"], None]
clock = time.monotonic

_LINE_SECONDS: Final = 10.0
_SOURCE_HELD: Final = "Stop the service that records into it, and start it again once the copy is done."
_TARGET_HELD: Final = "Stop the service that records into it: the target belongs to the copy alone."


@click.command(short_help="Move what was recorded into another store.")
@click.option(
    "--from",
    "source_url",
    metavar="URL",
    envvar="FLAGLEDGER_COPY_FROM",
    show_envvar=True,
    required=True,
    help="Store to read: duckdb:PATH, postgresql://…, clickhouse://…",
)
@click.option(
    "--to",
    "target_url",
    metavar="URL",
    envvar="FLAGLEDGER_COPY_TO",
    show_envvar=True,
    required=True,
    help="Store to write, new or of an earlier copy.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a JSON object.")
def copy(*, source_url: str, target_url: str, as_json: bool) -> None:
    """
    Move what was recorded into another store, of whatever kind.

    A copy that was stopped goes on where it was when the same command is run again, and so does one of a service that went on
    recording. In the end every column of both stores is compared. A file, and the target, belong to the copy alone: stop the
    service that uses them. A server may be read while a service records into it.
    """
    _check("--from", source_url)
    _check("--to", target_url)
    if _place(source_url) == _place(target_url):
        raise click.UsageError("--from and --to name the same store.")
    from flagledger.telemetry.logging import configure  # noqa: PLC0415 - those who only read log nothing

    # Stores do; stdout is for the summary.
    configure("copy")
    began = clock()
    try:
        with _private():
            copied = _copied(source_url, target_url)
    except KeyboardInterrupt:
        raise Fault(
            "The copy was stopped. What is in the target stays: run the same command again, and it goes on from there."
        ) from None
    seconds = clock() - began
    if as_json:
        print_json([_summary(copied, source_url, target_url, seconds)])
        return
    click.echo("\n".join(_sentences(copied, source_url, target_url, seconds)))


def _check(option: str, url: str) -> None:
    try:
        store_url(url)
    except ValueError as error:
        raise click.UsageError(f"{option}: {error}.") from None


def _place(url: str) -> str:
    """Return what is equal where two URLs name one store, as far as that can be seen."""
    kind, _, rest = url.partition(":")
    if not is_embedded(url):
        return url.rstrip("/")
    path, mark, options = rest.partition("?") if kind == "chdb" else (rest, "", "")
    return f"{kind}:{Path(path).resolve()}{mark}{options}"


def _copied(source_url: str, target_url: str) -> Copied:
    from flagledger.store.copying import copy as copy_store  # noqa: PLC0415 - stores are not for those who only read
    from flagledger.store.copying import open_source  # noqa: PLC0415 - the same
    from flagledger.store.errors import StoreError  # noqa: PLC0415 - the same
    from flagledger.store.opening import open_store  # noqa: PLC0415 - the same

    with ExitStack() as stack:
        source = _opened(stack, "--from", source_url, lambda url: _read(open_source(url)), _SOURCE_HELD)
        target = _opened(stack, "--to", target_url, open_store, _TARGET_HELD)
        try:
            with _progress() as on_step, _stopping() as stop:

                def step_done(step: Step) -> None:
                    on_step(step)
                    stop()

                return copy_store(source, target, step_done)
        except StoreError as error:
            again = "\nRun the same command again: it goes on from where it was." if error.temporary else ""
            raise Fault(f"{visible(str(error))}{again}") from None


def _opened(stack: ExitStack, option: str, url: str, open_: Callable[[str], Store], held: str) -> Store:
    """Open the store at *url* until *stack* ends."""
    from flagledger.store.errors import HeldError, StoreError  # noqa: PLC0415 - stores are not for those who only read
    from flagledger.store.opening import NotInstalledError  # noqa: PLC0415 - the same

    try:
        store = open_(url)
    except NotInstalledError as error:
        raise SetUpFault(error) from None
    except HeldError as error:
        raise Fault(f"{option}: {visible(str(error))}\n{held}") from None
    except StoreError as error:
        raise Fault(f"{option}: {visible(str(error))}") from None
    stack.callback(store.close)
    return store


def _read(source: Store) -> Store:
    """Return *source* once it has answered: where it cannot, no target is made."""
    try:
        source.stream()
    except BaseException:
        source.close()
        raise
    return source


@contextmanager
def _private() -> Iterator[None]:
    """Let files that the block makes be read by nobody else: a store holds identities and traits in clear."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _stopping() -> Iterator[Callable[[], None]]:
    """Yield what raises KeyboardInterrupt once Ctrl-C was pressed: between two ranges. A second one ends the command at once."""
    pressed: list[int] = []

    def press(number: int, _frame: FrameType | None) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    def stop() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress() -> Iterator[OnStep]:
    """Yield what is told of every range: it shows a terminal how far the copy is, and says so elsewhere now and then."""
    if not sys.stderr.isatty():
        yield _Lines().tell
        return
    # rich is for people alone.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("entries, {task.fields[rows]:,} evaluations, {task.fields[rate]:,} a second,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, tuple[_Pace, int]] = {}

        def tell(step: Step) -> None:
            if step.phase not in tasks:
                task = progress.add_task(step.phase, total=step.last - step.first, rows=0, rate=0)
                tasks[step.phase] = (_Pace(), int(task))
            pace, number = tasks[step.phase]
            pace.add(step)
            progress.update(
                progress.tasks[number].id, completed=step.position - step.first, rows=pace.rows, rate=pace.rate()
            )

        yield tell


class _Pace:
    """Counts the evaluations of a phase, from now on."""

    def __init__(self) -> None:
        self.rows = 0
        self.began = clock()

    def add(self, step: Step) -> None:
        """Count those of a range."""
        self.rows += step.rows

    def rate(self) -> int:
        """Return how many there were a second."""
        return round(self.rows / max(clock() - self.began, 0.001))


class _Lines:
    """Says on stderr how far a copy is, a line every some seconds."""

    def __init__(self) -> None:
        self._phase = ""
        self._pace = _Pace()
        self._said = clock()

    def tell(self, step: Step) -> None:
        """Take note of a range, and say something if it is time."""
        if step.phase != self._phase:
            self._phase, self._pace = step.phase, _Pace()
        self._pace.add(step)
        if clock() < self._said + _LINE_SECONDS:
            return
        self._said = clock()
        done, whole = step.position - step.first, step.last - step.first
        left = (clock() - self._pace.began) * (whole - done) / max(done, 1)
        click.echo(
            f"{step.phase}: {done:,} of {whole:,} entries, {self._pace.rows:,} evaluations, {self._pace.rate():,} a second, "
            f"{left:,.0f} s left",
            err=True,
        )


def _summary(copied: Copied, source_url: str, target_url: str, seconds: float) -> dict[str, object]:
    return {
        "from": mask_url(source_url),
        "to": mask_url(target_url),
        "journal": copied.stream.identity,
        "after_position": copied.after,
        "last_position": copied.stream.position,
        "copied_entry_count": copied.stream.position - copied.after,
        "copied_evaluation_count": copied.rows,
        "evaluation_count": copied.counts["evaluations"],
        "discard_count": copied.counts["discards"],
        "set_aside_count": copied.counts["set-aside entries"],
        "dropped_from_source_count": copied.outlived,
        "checksum": copied.checksum,
        "seconds": round(seconds, 3),
    }


def _sentences(copied: Copied, source_url: str, target_url: str, seconds: float) -> Iterator[str]:
    entries = copied.stream.position - copied.after
    if entries:
        yield (
            f"Copied {_counted(entries, 'entry', 'entries')} with {_counted(copied.rows, 'evaluation', 'evaluations')}, up to "
            f"position {copied.stream.position:,}, in {seconds:,.1f} s."
        )
    else:
        yield f"There was nothing to copy: the target is at position {copied.stream.position:,}, as the source is."
    counts = (
        _counted(copied.counts["evaluations"], "evaluation", "evaluations"),
        _counted(copied.counts["discards"], "discard", "discards"),
        _counted(copied.counts["set-aside entries"], "set-aside entry", "set-aside entries"),
    )
    yield f"Both stores hold the same: {counts[0]}, {counts[1]} and {counts[2]}, checksum {copied.checksum}."
    if copied.outlived:
        yield (
            f"The target holds {copied.outlived:,} more, which are older than everything in the source: it has dropped them "
            "since they were copied."
        )
    if not is_embedded(source_url):
        yield "If a service has gone on recording into the source, run the same command again for what came meanwhile."
    setting = "--store " if is_embedded(target_url) else "FLAGLEDGER_STORE="
    yield f"A service goes on with the same data directory and {setting}{mask_url(target_url)}"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"
