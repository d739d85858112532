"""The command that takes the raw data out."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
from click.core import ParameterSource

from flagledger.cli.faults import Fault
from flagledger.cli.moments import Period
from flagledger.cli.options import Server, filter_options, period_options, server_options
from flagledger.cli.reading import ReadingError

_FORMATS: Final = ("ndjson", "csv", "parquet", "arrow")
_ENDINGS: Final = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
}
_DEFAULT_FORMAT: Final = _FORMATS[0]
_BINARY_FORMATS: Final = frozenset({"parquet", "arrow"})
_STDOUT: Final = Path("-")

# What the command for the next export does not repeat: what is new in it, what is nobody's to see, and a period, which would
# leave out what comes late.
_NOT_REPEATED: Final = frozenset({"token", "after_position", "output", "start", "end"})
_AFTER: Final = re.compile(r"-after-[0-9]+$")


@click.command(short_help="Take recorded evaluations out as a file.")
@server_options
@period_options("evaluation")
@filter_options
@click.option(
    "--format",
    "file_format",
    type=click.Choice(_FORMATS),
    help=f"Form of the file.  [default: as the name of --output ends, else {_DEFAULT_FORMAT}]",
)
@click.option(
    "--after-position",
    metavar="N",
    type=click.IntRange(min=0),
    help="Only what was received behind this position: the one that the last export ended with.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=_STDOUT,
    help="File to write; it is there once it is whole.  [default: stdout]",
)
@click.pass_context
def export(
    context: click.Context,
    *,
    server: Server,
    period: Period,
    chosen: dict[str, str],
    file_format: str | None,
    after_position: int | None,
    output: Path,
) -> None:
    """
    Take recorded evaluations out as a file, those received earlier first.

    At the end it names the position up to which it went, and the command that takes out what comes later.
    """
    form = _form(file_format, output, as_json=server.as_json)
    query = {**server.query(), **period.query(), **chosen, "format": form}
    if after_position is not None:
        query["after_position"] = str(after_position)
    written = Written(form)
    last_position = _transfer(server, query, output, written)
    with_token = context.get_parameter_source("token") is ParameterSource.COMMANDLINE
    between = "What lies outside of the period and is recorded already is not in the next one. "
    click.echo(
        f"Exported {written}, up to position {last_position}. {between if period.is_bounded else ''}"
        f"What comes later{', with the same token' if with_token else ''}:\n\n"
        f"  {_next_command(context, last_position, output)}",
        err=True,
    )


class Written:
    """
    Counts what an export writes: bytes, and rows where they are lines.

    Args:
        form: Form of the file.
    """

    def __init__(self, form: str) -> None:
        self._form = form
        self._lines = 0
        self._quotes = 0
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Count the next piece of the file."""
        self.size += len(piece)
        if self._form == "ndjson":
            self._lines += piece.count(b"\n")
        elif self._form == "csv":
            # A line break between quotes is part of a text; a quote within one is written as two.
            parts = piece.split(b'"')
            self._lines += sum(part.count(b"\n") for part in parts[self._quotes % 2 :: 2])
            self._quotes += len(parts) - 1

    def __str__(self) -> str:
        if self._form in _BINARY_FORMATS:
            return f"{self.size:,} bytes"
        rows = self._lines if self._form == "ndjson" else max(self._lines - 1, 0)
        return f"{rows:,} {'row' if rows == 1 else 'rows'} in {self.size:,} bytes"


def _form(given: str | None, output: Path, *, as_json: bool) -> str:
    if as_json and given not in {None, _DEFAULT_FORMAT}:
        raise click.UsageError(f"--json and --format {given} exclude each other.")
    form = given or (_DEFAULT_FORMAT if as_json or not output.suffix else _ENDINGS.get(output.suffix.lower()))
    if form is None:
        raise click.UsageError(
            f"Give --format: {output.suffix} is no ending of a format. Those are {', '.join(_ENDINGS)}."
        )
    if form in _BINARY_FORMATS and output == _STDOUT and sys.stdout.isatty():
        raise click.UsageError(f"{form} is not for a terminal: name a file with --output, or send it to a command.")
    return form


def _transfer(server: Server, query: dict[str, str], output: Path, written: Written) -> int:
    """Write the export to *output*, count it in *written*, and return the position up to which it goes."""
    try:
        with server.reader.export(query) as download, _sink(output) as sink, _progress(output) as advance:
            for piece in download.pieces:
                sink.write(piece)
                written.add(piece)
                advance(len(piece))
            sink.flush()
    except ReadingError as error:
        raise Fault(f"{error}{_what_is_left(output) if written.size else ''}") from None
    except BrokenPipeError:
        # Whoever read along has gone, as `head` does: click ends the command quietly.
        raise
    except OSError as error:
        raise Fault(f"{output} cannot be written: {error.strerror}.") from None
    return download.last_position


def _what_is_left(output: Path) -> str:
    if _is_replaced(output):
        return f"\nThe export was not whole, so that {output} was not written. Start it again."
    return "\nThe export is not whole: throw away what came of it, and start it again."


def _is_replaced(output: Path) -> bool:
    """Tell whether *output* is a file, or would be one: a pipe or a device is written to as it is."""
    return output != _STDOUT and (output.is_file() or not output.exists())


@contextmanager
def _sink(output: Path) -> Iterator[BinaryIO]:
    if output == _STDOUT:
        yield sys.stdout.buffer
    elif _is_replaced(output):
        with _whole_file(output) as file:
            yield file
    else:
        with output.open("wb") as file:
            yield file


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes *path* when the block has come to its end, and that is gone if it has not."""
    target = path.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def _progress(output: Path) -> Iterator[Callable[[int], None]]:
    """Yield what is told of every piece, and shows a terminal how far it is. The data has the terminal for itself."""
    if not sys.stderr.isatty() or (output == _STDOUT and sys.stdout.isatty()):
        yield lambda _size: None
        return
    # rich is for people alone.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, FileSizeColumn, Progress, TimeElapsedColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (BarColumn(), FileSizeColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        # How long it will be nobody knows.
        task = progress.add_task("export", total=None)
        yield lambda size: progress.advance(task, size)


def _next_command(context: click.Context, position: int, output: Path) -> str:
    words = context.command_path.split()
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in _NOT_REPEATED or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        words += _words(parameter, context.params[name])
    words += ["--after-position", str(position)]
    if output != _STDOUT:
        words += ["--output", str(_next_output(output, position))]
    return shlex.join(words)


def _words(parameter: click.Parameter, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [parameter.opts[0] if value else parameter.secondary_opts[0]]
    return [parameter.opts[0], str(value)]


def _next_output(output: Path, position: int) -> Path:
    """Return a name for the next file, so that it does not take the place of this one."""
    if not _is_replaced(output):
        return output
    return output.with_name(f"{_AFTER.sub('', output.stem)}-after-{position}{output.suffix}")
