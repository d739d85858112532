"""The commands of `flagledger`, but for starting without libraries, which is in `flagledger.cli`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import click

from flagledger.config import Config, ConfigError, LoadedSettings, load_settings
from flagledger.reading import Reader, ReadingError, feature_rows

_Command = Callable[..., Any]

_DEFAULT_URL: Final = "http://127.0.0.1:8080"
_DEFAULT_DATA: Final = Path("flagledger-data")
_TOKEN_VARIABLE: Final = "FLAGLEDGER_READ_TOKEN"  # noqa: S105 - the name of a variable

_SETTING_FLAGS: Final = (
    ("--data", "DIR", click.Path(path_type=Path)),
    ("--environments", "FILE", click.Path(path_type=Path)),
    ("--http", "HOST:PORT", click.STRING),
    ("--grpc", "HOST:PORT", click.STRING),
    ("--fronts", "N", click.STRING),
    ("--store", "URL", click.STRING),
    ("--read-token", "TOKEN", click.STRING),
)


class _Fault(click.ClickException):
    """Ends the command with a text for people. Exit code 1: it cannot be done now."""

    def __init__(self, text: object) -> None:
        super().__init__(str(text))

    def show(self, file: Any = None) -> None:
        click.echo(f"flagledger: {self.message}", file=file or sys.stderr)


class _SetUpFault(_Fault):
    """Ends the command likewise, with exit code 2: it was called or configured wrongly."""

    exit_code = 2


def _setting_options(command: _Command) -> _Command:
    """Give *command* the options that set something, and --config."""
    for flag, metavar, kind in reversed(_SETTING_FLAGS):
        field = Config.model_fields[flag.removeprefix("--").replace("-", "_")]
        command = click.option(flag, metavar=metavar, type=kind, help=field.description)(command)
    return click.option(
        "--config",
        "config_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Configuration file (TOML). Without it: ./flagledger.toml where there is one.",
    )(command)


def _settings(config_file: Path | None, flags: dict[str, Any]) -> LoadedSettings:
    try:
        return load_settings(flags, config_file=config_file)
    except ConfigError as error:
        raise _SetUpFault(error) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("flagledger"), prog_name="flagledger")
def root() -> None:
    """Record what feature flags decided, and ask what was recorded."""


@root.command()
@_setting_options
def serve(config_file: Path | None, **flags: Any) -> None:
    """
    Run the service until SIGTERM or Ctrl-C.

    Flags go before FLAGLEDGER_* variables, those before flagledger.toml. Without any it listens on localhost, and makes
    a data directory with a demo environment and a read token.
    """
    config = _settings(config_file, flags).config
    from flagledger.serve import serve as run  # noqa: PLC0415 - grpc and the store are for this command alone

    sys.exit(run(config))


def _reading_options(command: _Command) -> _Command:
    """Give *command* the options of every question."""
    options = (
        click.option("--url", default=_DEFAULT_URL, show_default=True, help="Where the server is."),
        click.option(
            "--token",
            help=f"A token that may read. Without it: {_TOKEN_VARIABLE}, else read-token in the data directory.",
        ),
        click.option(
            "--data",
            metavar="DIR",
            type=click.Path(path_type=Path),
            envvar="FLAGLEDGER_DATA",
            default=_DEFAULT_DATA,
            show_default=True,
            help="Data directory of the server, for its read token.",
        ),
        click.option("--environment", metavar="NAME", help="Environment to ask about, where there are several."),
        click.option("--start", metavar="TIME", callback=_moment, help="Earliest evaluation, included: RFC 3339."),
        click.option("--end", metavar="TIME", callback=_moment, help="Latest evaluation, not included: RFC 3339."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, as the API gives them."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.BadParameter("it must be an RFC 3339 time with an offset, for example 2026-02-10T11:00:00Z")
    # In the one spelling of RFC 3339 that every server reads.
    return moment.isoformat().replace("+00:00", "Z")


def _reader(url: str, token: str | None, data: Path) -> Reader:
    found = token or os.environ.get(_TOKEN_VARIABLE) or _token_of(data)
    try:
        return Reader(url, found)
    except ValueError as error:
        raise click.UsageError(f"--url or --token cannot be used: {error}.") from None


def _token_of(data: Path) -> str:
    file = data / "read-token"
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise _SetUpFault(
            f"There is no token: {file} cannot be read ({error.strerror}). "
            f"Give one with --token or {_TOKEN_VARIABLE}, or name the server's data directory with --data."
        ) from None


def _query(**parameters: str | None) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value}


def _print_json(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        # ASCII, in which no control character gets to a terminal raw, and which every locale can print.
        click.echo(json.dumps(row, ensure_ascii=True, separators=(",", ":")))


@root.command()
@_reading_options
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Features to show at most.")
def features(
    *,
    url: str,
    token: str | None,
    data: Path,
    environment: str | None,
    start: str | None,
    end: str | None,
    as_json: bool,
    limit: int | None,
) -> None:
    """List the features that were evaluated, how often, and with what."""
    reader = _reader(url, token, data)
    query = _query(environment=environment, start_time=start, end_time=end)
    try:
        answer = reader.features(query)
        found = feature_rows(answer, reader.url)
    except ReadingError as error:
        raise _Fault(error) from None
    shown = found[:limit]
    if as_json:
        _print_json(shown)
        return
    from flagledger.tables import print_features  # noqa: PLC0415 - rich is for tables alone

    print_features(shown, data_since=answer.get("data_since"), left_out=len(found) - len(shown))


@root.command()
@_reading_options
@click.option("--feature", metavar="NAME", help="Only of this feature.")
@click.option("--identity", metavar="IDENTIFIER", help="Only for this identity.")
@click.option("--segment", metavar="NAME", help="Only where the identity matched this segment.")
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Evaluations to show at most.",
)
def evaluations(
    *,
    url: str,
    token: str | None,
    data: Path,
    environment: str | None,
    start: str | None,
    end: str | None,
    as_json: bool,
    feature: str | None,
    identity: str | None,
    segment: str | None,
    limit: int,
) -> None:
    """List recorded evaluations, the newest first."""
    reader = _reader(url, token, data)
    query = _query(
        environment=environment,
        feature_name=feature,
        identity_identifier=identity,
        segment_name=segment,
        start_time=start,
        end_time=end,
    )
    found: list[dict[str, Any]] = []
    more = False
    try:
        for page in reader.evaluations(query, limit):
            more = page.more
            if as_json:
                _print_json(page.evaluations)
            else:
                found += page.evaluations
    except ReadingError as error:
        raise _Fault(error) from None
    if as_json:
        return
    from flagledger.tables import print_evaluations  # noqa: PLC0415 - rich is for tables alone

    print_evaluations(found, more=more)


@root.group()
def config() -> None:
    """Show or check the configuration."""


@config.command()
@_setting_options
def show(config_file: Path | None, **flags: Any) -> None:
    """Print every setting as TOML, with what it means and where it was set. Secrets are masked."""
    loaded = _settings(config_file, flags)
    for number, (name, field) in enumerate(Config.model_fields.items()):
        value = getattr(loaded.config, name)
        if number:
            click.echo()
        click.echo(f"# {field.description}")
        click.echo(f"# From {loaded.origins[name]}." if name in loaded.origins else "# The default.")
        click.echo(f"# {name} =" if value is None else f"{name} = {_toml(value)}")


def _toml(value: Any) -> str:
    """Return a setting's value as TOML; str() masks a secret."""
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if isinstance(value, int) else json.dumps(str(value))


@config.command()
@_setting_options
def check(config_file: Path | None, **flags: Any) -> None:
    """Check the configuration and the environments file. Exit code 2 where something is wrong."""
    loaded = _settings(config_file, flags).config
    from flagledger.catalog.document import CatalogError  # noqa: PLC0415 - not for those who only read
    from flagledger.catalog.file import read_document  # noqa: PLC0415 - the same

    file = loaded.environments_file
    if loaded.environments is None and not file.exists():
        click.echo("The configuration is valid.")
        click.echo(f"{file} is not there yet: `flagledger serve` makes one, with a demo environment.")
        return
    try:
        document = read_document(file, read_token=loaded.read_token.get_secret_value() if loaded.read_token else None)
    except CatalogError as error:
        raise _SetUpFault(error) from None
    counts = (
        _counted(len(document.environments), "environment"),
        _counted(len(document.keys), "key"),
        _counted(len(document.tokens), "token"),
    )
    click.echo("The configuration is valid.")
    click.echo(f"{file} is valid: {', '.join(counts)}.")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
