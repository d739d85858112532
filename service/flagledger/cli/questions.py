"""The commands that ask: what was recorded, and how intake goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from flagledger.cli import reading
from flagledger.cli.moments import Period
from flagledger.cli.options import (
    TEXT,
    Server,
    bucket_options,
    filter_options,
    period_options,
    server_options,
    watch_option,
)
from flagledger.cli.reading import Answer
from flagledger.cli.watch import show

if TYPE_CHECKING:
    from rich.console import RenderableType

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_GROUPS: Final = ("feature", "enabled", "value", "variant", "segment", "reason", "sdk", "origin")
_TRAIT_PREFIX: Final = "trait:"
_MAX_GROUPS: Final = 4
_MAX_SERIES: Final = 100
_ROWS_SHOWN: Final = 100
_ENVIRONMENTS: Final = reading.Listing(path=reading.ENVIRONMENTS_PATH, field="environments")


def _limit_option(help_text: str, *, default: int | None = None, most: int | None = None) -> _Decorator:
    return click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(min=1, max=most),
        default=default,
        show_default=default is not None,
        help=help_text,
    )


@click.command(short_help="List the environments that the token reaches.")
@server_options
def environments(*, server: Server) -> None:
    """List the environments that the token reaches: what they are called, and what of evaluations they keep."""

    def ask() -> Iterator[Answer]:
        (whole,) = server.reader.pages(_ENVIRONMENTS, {})
        wanted = server.environment
        chosen = [row for row in whole.rows if not wanted or wanted in (row.get("name"), row.get("display_name"))]
        yield Answer(rows=chosen, more=False, whole=whole.whole)

    def view(answer: Answer, width: int) -> RenderableType:
        from flagledger.cli.tables import environments_view  # noqa: PLC0415 - rich is for tables alone

        return environments_view(answer, width)

    show(ask, view, as_json=server.as_json, every=None)


@click.command(short_help="List features, and how often they were evaluated.")
@server_options
@period_options("evaluation")
@click.option("--feature", metavar="NAME", type=TEXT, help="Only this feature.")
@_limit_option("Features to show at most.")
@watch_option
def features(*, server: Server, period: Period, feature: str | None, limit: int | None, every: float | None) -> None:
    """List the features that were evaluated, how often, and with what, and those that were not."""
    named = {"feature_name": feature} if feature else {}

    def ask() -> Iterator[Answer]:
        return server.reader.pages(reading.FEATURES, server.query() | period.query() | named, limit)

    def view(answer: Answer, width: int) -> RenderableType:
        from flagledger.cli.tables import features_view  # noqa: PLC0415 - rich is for tables alone

        if feature and not answer.rows:
            return _nothing(server, feature, period)
        return features_view(answer, width)

    show(ask, view, as_json=server.as_json, every=every)


def _groups(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        is_trait = name.startswith(_TRAIT_PREFIX) and name != _TRAIT_PREFIX
        if name not in _GROUPS and not is_trait:
            raise click.BadParameter(f"{name!r} is none of {', '.join(_GROUPS)}, or {_TRAIT_PREFIX} and a key")
    if len(set(names)) < len(names):
        raise click.BadParameter("each may be given once")
    if len(names) > _MAX_GROUPS:
        raise click.BadParameter(f"there may be {_MAX_GROUPS} at most")
    return names


@click.command(short_help="Count evaluations and identities, over time and by group.")
@server_options
@period_options("evaluation")
@filter_options
@click.option(
    "--by",
    metavar="NAME",
    multiple=True,
    callback=_groups,
    help=f"Tell evaluations apart by {', '.join(_GROUPS)}, or {_TRAIT_PREFIX}KEY. May be given up to {_MAX_GROUPS} times.",
)
@bucket_options
@_limit_option("Series to show at most; the rest is added up in one more.  [default: 20]", most=_MAX_SERIES)
@watch_option
def counts(
    *,
    server: Server,
    period: Period,
    chosen: dict[str, str],
    by: tuple[str, ...],
    buckets: dict[str, str],
    limit: int | None,
    every: float | None,
) -> None:
    """Count evaluations and identities: over time, and by what they have in common."""
    fixed: dict[str, str | list[str]] = {**server.query(), **chosen, **buckets}
    if by:
        fixed["group_by"] = list(by)
    if limit is not None:
        fixed["series_limit"] = str(limit)

    def ask() -> Iterator[Answer]:
        return server.reader.pages(reading.COUNTS, {**fixed, **period.query()})

    def view(answer: Answer, width: int) -> RenderableType:
        from flagledger.cli.charts import counts_view  # noqa: PLC0415 - rich is for tables alone

        feature = chosen.get("feature_name")
        if feature and not any(row.get("evaluation_count") for row in answer.rows):
            return _nothing(server, feature, period, narrowed=len(chosen) > 1)
        return counts_view(answer, width, bucket=buckets.get("bucket"), time_zone=buckets.get("time_zone"))

    show(ask, view, as_json=server.as_json, every=every)


@click.command()
@server_options
@period_options("evaluation")
@filter_options
@_limit_option("Evaluations to show at most.", default=_ROWS_SHOWN)
@watch_option
def evaluations(
    *, server: Server, period: Period, chosen: dict[str, str], limit: int, every: float | None
) -> None:  # fmt: skip
    """List recorded evaluations, the newest first."""

    def ask() -> Iterator[Answer]:
        return server.reader.pages(reading.EVALUATIONS, server.query() | chosen | period.query(), limit)

    def view(answer: Answer, width: int) -> RenderableType:
        from flagledger.cli.tables import evaluations_view  # noqa: PLC0415 - rich is for tables alone

        feature = chosen.get("feature_name")
        if feature and not answer.rows:
            return _nothing(server, feature, period, narrowed=len(chosen) > 1)
        return evaluations_view(answer, width)

    show(ask, view, as_json=server.as_json, every=every)


def _weights(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        arm, _, weight = text.rpartition("=")
        try:
            number = float(weight)
        except ValueError:
            number = 0.0
        if not arm or not math.isfinite(number) or number <= 0:
            raise click.BadParameter(f"{text!r} is not ARM=WEIGHT with a weight above 0")
    return texts


@click.command(short_help="List who met a feature first when; check the shares.")
@server_options
@period_options("evaluation")
@click.option("--feature", metavar="NAME", type=TEXT, help="Only of this feature.")
@click.option("--identity", metavar="IDENTIFIER", type=TEXT, help="Only for this identity.")
@click.option(
    "--weight",
    "weights",
    metavar="ARM=WEIGHT",
    multiple=True,
    callback=_weights,
    help="Share that an arm of --feature was meant to have. May be given for each arm; without it: equal shares.",
)
@click.option("--check", is_flag=True, help="Only the checks of the shares, without the exposures.")
@_limit_option("Exposures to show at most.", default=_ROWS_SHOWN)
def exposures(
    *,
    server: Server,
    period: Period,
    feature: str | None,
    identity: str | None,
    weights: tuple[str, ...],
    check: bool,
    limit: int,
) -> None:
    """List who met a feature first when, and in which arm; check whether the arms have their shares."""
    if weights and not feature:
        raise click.UsageError("--weight needs --feature: the arms are those of one feature.")
    fields = {"feature_name": feature, "identity_identifier": identity, "weights": list(weights)}
    query = {**server.query(), **period.query(), **{name: given for name, given in fields.items() if given}}

    def ask() -> Iterator[Answer]:
        if not check:
            return server.reader.pages(reading.EXPOSURES, query, limit)
        # They come with the first page, however short it is.
        pages = server.reader.pages(reading.EXPOSURES, query, 1)
        return (Answer(rows=reading.checks(page), more=False, whole=page.whole) for page in pages)

    def view(answer: Answer, width: int) -> RenderableType:
        from flagledger.cli.tables import exposures_view, shares_view  # noqa: PLC0415 - rich is for tables alone

        if feature and not answer.rows:
            return _nothing(server, feature, period, of="exposures", narrowed=identity is not None)
        return shares_view(answer, width) if check else exposures_view(answer, width)

    show(ask, view, as_json=server.as_json, every=None)


@click.command("unknown-features", short_help="List names asked for that the environment does not have.")
@server_options
@period_options("receipt")
@_limit_option("Names to show at most.")
@watch_option
def unknown_features(*, server: Server, period: Period, limit: int | None, every: float | None) -> None:
    """List names that SDKs ask for and that the environment does not have, the most frequent first."""

    def ask() -> Iterator[Answer]:
        return server.reader.pages(reading.UNKNOWN_FEATURES, server.query() | period.query(), limit)

    def view(answer: Answer, width: int) -> RenderableType:
        from flagledger.cli.tables import unknown_features_view  # noqa: PLC0415 - rich is for tables alone

        return unknown_features_view(answer, width)

    show(ask, view, as_json=server.as_json, every=every)


@click.command(short_help="Tell how intake goes, and what is not recorded.")
@server_options
@period_options("receipt")
@bucket_options
@watch_option
def intake(*, server: Server, period: Period, buckets: dict[str, str], every: float | None) -> None:
    """Tell how intake goes: how much comes in, what is not recorded and why, and how far the store is behind."""

    def ask() -> Iterator[Answer]:
        whole = server.reader.intake({**server.query(), **period.query(), **buckets})
        yield Answer(rows=[whole], more=False, whole=whole)

    def view(answer: Answer, width: int) -> RenderableType:
        from flagledger.cli.charts import intake_view  # noqa: PLC0415 - rich is for tables alone

        return intake_view(answer, width, bucket=buckets.get("bucket"), time_zone=buckets.get("time_zone"))

    show(ask, view, as_json=server.as_json, every=every)


def _nothing(
    server: Server, feature: str, period: Period, *, of: str = "evaluations", narrowed: bool = False
) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415 - rich is for tables alone

    from flagledger.cli.names import nothing_found  # noqa: PLC0415 - the same

    return Text(nothing_found(server, feature, period.query(), of=of, narrowed=narrowed))


COMMANDS: Final = (environments, features, counts, evaluations, exposures, unknown_features, intake)
"""What `flagledger` asks with."""
