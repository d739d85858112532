"""Options that several commands share, and what they are turned into."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from flagledger.cli.faults import SetUpFault
from flagledger.cli.moments import FORMS, Moment, MomentType, Period
from flagledger.cli.reading import Reader, Token

Command = Callable[..., Any]

BUCKETS: Final = ("minute", "hour", "day", "week", "month")

_DEFAULT_URL: Final = "http://127.0.0.1:8080"
_DEFAULT_DATA: Final = Path("flagledger-data")
_TOKEN_VARIABLE: Final = "FLAGLEDGER_READ_TOKEN"  # noqa: S105 - the name of a variable

_WATCH_SECONDS: Final = 2.0
_LEAST_WATCH_SECONDS: Final = 0.1
_MOST_WATCH_SECONDS: Final = 86_400.0

_ORIGINS: Final = {"client": "ORIGIN_CLIENT", "server": "ORIGIN_SERVER"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Whom to ask, about which environment (empty where it has one alone), and whether a program reads the answer."""

    reader: Reader
    environment: str
    as_json: bool

    def query(self) -> dict[str, str]:
        """Return the environment as a field of a request."""
        return {"environment": self.environment} if self.environment else {}


class FilterType(click.ParamType[str]):
    """A text that is not empty: an empty filter would let everything through, which nobody means who gives one."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return *value*; click.BadParameter where it is empty."""
        if not value:
            self.fail("it must not be empty", param, ctx)
        return str(value)


TEXT: Final = FilterType()
MOMENT: Final = MomentType()


def server_options(command: Command) -> Command:
    """Give *command* the options that every question has; it gets them as `server`."""

    @functools.wraps(command)
    def wrapped(*, url: str, token: str | None, data: Path, environment: str | None, as_json: bool, **rest: Any) -> Any:
        server = Server(reader=_reader(url, token, data), environment=environment or "", as_json=as_json)
        return command(server=server, **rest)

    return _with_options(
        wrapped,
        click.option("--url", default=_DEFAULT_URL, show_default=True, help="Where the server is."),
        click.option(
            "--token",
            help=f"A token that permits it. Without one: {_TOKEN_VARIABLE}, else read-token in the data directory.",
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
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, as the API gives them."),
    )


def period_options(of: str) -> Callable[[Command], Command]:
    """Return what gives a command the options of a period, a period *of* something; it gets them as `period`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(*, start: Moment | None, end: Moment | None, **rest: Any) -> Any:
            return command(period=Period(start=start, end=end), **rest)

        return _with_options(
            wrapped,
            click.option("--start", metavar="TIME", type=MOMENT, help=f"Earliest {of}, included: {FORMS}."),
            click.option(
                "--end",
                metavar="TIME",
                type=MOMENT,
                help=f"Latest {of}, not included: likewise. A day stands for its midnight. "
                "Days and ages are the command's own: over REST a time is RFC 3339, with an offset.",
            ),
        )

    return decorate


def filter_options(command: Command) -> Command:
    """Give *command* the options that choose evaluations; it gets them as `chosen`, fields of a request."""

    @functools.wraps(command)
    def wrapped(
        *,
        feature: str | None,
        identity: str | None,
        segment: str | None,
        value: str | None,
        variant: str | None,
        reason: str | None,
        enabled: bool | None,
        trait: str | None,
        sdk: str | None,
        origin: str | None,
        **rest: Any,
    ) -> Any:
        trait_key, _, trait_value = (trait or "").partition("=")
        sdk_name, _, sdk_version = (sdk or "").partition("/")
        fields = {
            "feature_name": feature,
            "identity_identifier": identity,
            "segment_name": segment,
            "value": value,
            "variant": variant,
            "reason": reason,
            "enabled": None if enabled is None else str(enabled).lower(),
            "trait_key": trait_key,
            "trait_value": trait_value,
            "sdk_name": sdk_name,
            "sdk_version": sdk_version,
            "origin": origin and _ORIGINS[origin],
        }
        return command(chosen={name: text for name, text in fields.items() if text}, **rest)

    return _with_options(
        wrapped,
        click.option("--feature", metavar="NAME", type=TEXT, help="Only of this feature."),
        click.option("--identity", metavar="IDENTIFIER", type=TEXT, help="Only for this identity."),
        click.option("--segment", metavar="NAME", type=TEXT, help="Only where the identity matched this segment."),
        click.option("--value", metavar="JSON", type=TEXT, help="Only with this value: JSON, or a text as it is."),
        click.option("--variant", metavar="NAME", type=TEXT, help="Only with this OpenFeature variant."),
        click.option("--reason", metavar="NAME", type=TEXT, help="Only with this OpenFeature reason."),
        click.option("--enabled/--disabled", default=None, help="Only where the feature was enabled, or was not."),
        click.option(
            "--trait",
            metavar="KEY[=VALUE]",
            type=TEXT,
            callback=_two_parts("=", 'a key, and after "=" a value (JSON, or a text as it is)'),
            help="Only with this trait, of any value or of this one: JSON, or a text as it is.",
        ),
        click.option(
            "--sdk",
            metavar="NAME[/VERSION]",
            type=TEXT,
            callback=_two_parts("/", 'a name, and after "/" a version'),
            help="Only from this SDK, of any version or of this one.",
        ),
        click.option("--origin", type=click.Choice(list(_ORIGINS)), help="Only under a key of this kind."),
    )


def bucket_options(command: Command) -> Command:
    """Give *command* the options of buckets of time; it gets them as `buckets`, fields of a request."""

    @functools.wraps(command)
    def wrapped(*, bucket: str | None, time_zone: str | None, **rest: Any) -> Any:
        fields = {"bucket": bucket, "time_zone": time_zone}
        return command(buckets={name: text for name, text in fields.items() if text}, **rest)

    return _with_options(
        wrapped,
        click.option("--bucket", type=click.Choice(BUCKETS), help="Count over time, in buckets of this width."),
        click.option("--time-zone", metavar="NAME", help="Time zone that buckets begin in.  [default: UTC]"),
    )


def watch_option(command: Command) -> Command:
    """Give *command* the option --watch; it gets the pause as `every`, None where it was not given."""
    return click.option(
        "--watch",
        "every",
        metavar="[SECONDS]",
        is_flag=False,
        flag_value=_WATCH_SECONDS,
        type=click.FloatRange(min=_LEAST_WATCH_SECONDS, max=_MOST_WATCH_SECONDS),
        callback=_finite,
        help=f"Ask again every so often, until Ctrl-C.  [without SECONDS: {_WATCH_SECONDS:.0f}]",
    )(command)


def _finite(_context: click.Context, _parameter: click.Parameter, seconds: float | None) -> float | None:
    # Of `nan` no bound can be said to be broken.
    if seconds is not None and not math.isfinite(seconds):
        raise click.BadParameter("it must be a number of seconds")
    return seconds


def _with_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _two_parts(mark: str, form: str) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a check that a text is one part, or two with *mark* between them, and neither of them empty."""

    def check(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
        if text is not None and not all(text.split(mark, 1)):
            raise click.BadParameter(f"it must be {form}")
        return text

    return check


def _reader(url: str, given: str | None, data: Path) -> Reader:
    token = _token(given, data)
    try:
        return Reader(url, token)
    except ValueError as error:
        raise click.UsageError(f"--url cannot be used: {error}.") from None


def _token(given: str | None, data: Path) -> Token:
    variable = os.environ.get(_TOKEN_VARIABLE)
    if given:
        text, origin = given, "--token"
    elif variable:
        text, origin = variable, _TOKEN_VARIABLE
    else:
        file = data / "read-token"
        text, origin = _content(file), str(file)
    try:
        return Token(text=text, origin=origin)
    except ValueError as error:
        raise click.UsageError(f"{origin} cannot be used: {error}.") from None


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise SetUpFault(
            f"There is no token: {file} cannot be read ({error.strerror}). "
            f"Give one with --token or {_TOKEN_VARIABLE}, or name the server's data directory with --data."
        ) from None
