"""The commands about where keys and features come from: what is found there, and what its owner has to set up."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flagledger.cli.faults import Fault, SetUpFault
from flagledger.cli.reading import visible
from flagledger.cli.settings import setting_options, settings
from flagledger.cli.watch import print_json
from flagledger.config import Config

if TYPE_CHECKING:
    # Neither rich nor a catalog is for those who only read.
    from rich.console import RenderableType

    from flagledger.catalog.base import Environment, Inventory, KeyFound

_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))
_NOTHING_BEFOREHAND: Final = (
    "Without flagsmith_server_keys the features of no environment are known: each key is looked up when it comes, and until a "
    "server key comes, evaluations of any name are recorded."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What there is.

    Attributes:
        inventory: What the catalog says.
        tokens: Number of tokens that are declared, the read token apart.
        note: A sentence that is good to know, and empty where there is none.
    """

    inventory: Inventory
    tokens: int
    note: str = ""


@click.command(short_help="Ask the catalog what it has, and what is wrong.")
@setting_options("--catalog", "--environments", "--data")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def check(*, config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """
    Ask the catalog what it has, and tell what is wrong.

    It is asked now, as a service with the same settings would ask it: environments, their features and what is kept of
    people, keys (masked) and whether they count. Exit code 1 where it cannot be asked or something is wrong.
    """
    config = settings(config_file, flags).config
    if config.is_default_catalog and not config.environments_file.exists():
        click.echo(
            f"{config.environments_file} is not there yet: `flagledger serve` makes one, with a demo environment.",
            err=True,
        )
        return
    found = _found(config)
    if as_json:
        print_json(list(rows(found, time.time())))
        if found.inventory.faults:
            sys.exit(1)
        return
    from flagledger.cli.cells import console, put  # noqa: PLC0415 - rich is for people alone

    printing = console()
    put(printing, view(found, printing.width, time.time()))
    if found.inventory.faults:
        raise Fault("\n".join(visible(fault) for fault in found.inventory.faults))


@click.command("catalog-view", short_help="Print the view that a Flagsmith's database needs.")
def catalog_view() -> None:
    """
    Print the SQL of the view through which a Flagsmith's database is read.

    Its owner runs it once, and again after an upgrade.
    """
    from flagledger.catalog.document import CatalogError  # noqa: PLC0415 - not for those who only read
    from flagledger.catalog.sources import check_source  # noqa: PLC0415 - the same

    try:
        check_source("postgresql://")
    except CatalogError as error:
        raise SetUpFault(error) from None
    from flagledger.catalog.flagsmith_database import view_sql  # noqa: PLC0415 - the same

    click.echo(view_sql(), nl=False)


def _found(config: Config) -> Found:
    """
    Return what there is.

    Raises:
        Fault: It cannot be asked.
        SetUpFault: The environments file is broken, or a library is missing.
    """
    from flagledger.catalog.document import CatalogError  # noqa: PLC0415 - not for those who only read
    from flagledger.catalog.file import read_document  # noqa: PLC0415 - the same
    from flagledger.errors import FlagledgerError  # noqa: PLC0415 - the same

    tokens = len(config.declared_tokens)
    try:
        inventory = asyncio.run(_inventory(config))
        if config.is_file_catalog:
            tokens += len(read_document(config.environments_file).tokens)
    except CatalogError as error:
        raise SetUpFault(error) from None
    except FlagledgerError as error:
        raise Fault(f"{visible(config.catalog_shown)}: {visible(error.message)}") from None
    is_api = config.catalog_url.startswith("http")
    lost = tuple(_lost_names(config, inventory))
    if is_api:
        # There an environment may come later, with the first of its keys.
        notes = (*((_NOTHING_BEFOREHAND,) if not config.flagsmith_server_keys else ()), *lost)
        return Found(inventory=inventory, tokens=tokens, note="\n".join(notes))
    return Found(inventory=replace(inventory, faults=(*inventory.faults, *lost)), tokens=tokens, note="")


def _lost_names(config: Config, inventory: Inventory) -> Iterator[str]:
    """Yield a sentence for each environment that `policies` and `tokens` name and that is not there: it would say nothing."""
    called = {environment.display_name: environment.name for environment in inventory.environments}
    names = {environment.name for environment in inventory.environments}
    for setting, tables in (("policies", config.policies), ("tokens", config.tokens)):
        for number, table in enumerate(tables):
            for index, name in enumerate(table.get("environments", ())):
                if name not in names:
                    meant = f"; {called[name]} is called so: write that" if name in called else ""
                    yield f"{setting}[{number}].environments[{index}]: there is no environment {name!r}{meant}."


async def _inventory(config: Config) -> Inventory:
    from flagledger.catalog.base import Token  # noqa: PLC0415 - not for those who only read
    from flagledger.catalog.sources import open_source  # noqa: PLC0415 - the same

    tokens = dict(config.declared_tokens)
    if config.read_token is not None:
        tokens[config.read_token.get_secret_value()] = Token(role="read")
    source = open_source(
        config.catalog_url,
        tokens=tokens,
        policies=config.declared_policies,
        server_keys=[key.get_secret_value() for key in config.flagsmith_server_keys],
    )
    try:
        return await source.inventory()
    finally:
        await source.close()


def rows(found: Found, now: float) -> Iterator[dict[str, Any]]:
    """Yield what there is for programs, an object with one field each, whose name says what it is."""
    for environment in found.inventory.environments:
        policy = environment.policy
        yield {
            "environment": {
                "name": environment.name,
                "display_name": environment.display_name,
                # null: any name.
                "feature_count": None if environment.features is None else len(environment.features),
                "is_stopped": environment.stopped,
                "policy": {
                    "identity": policy.identity,
                    "traits": _sorted(policy.traits),
                    "metadata": _sorted(policy.metadata),
                    "rate": policy.rate,
                    "origins": _sorted(policy.origins),
                    "sample_rate": 1 / policy.sample_every,
                },
            }
        }
    for key in found.inventory.keys:
        yield {
            "key": {
                "masked": key.masked,
                "environment": key.environment,
                "kind": _kind(key),
                "state": _state(key, now),
                "expire_time": _moment(key.expires_at) or None,
            }
        }
    yield {"tokens": {"count": found.tokens}}
    for fault in found.inventory.faults:
        yield {"fault": fault}


def view(found: Found, width: int, now: float) -> RenderableType:
    """Return what there is for people."""
    from rich.console import Group  # noqa: PLC0415 - rich is for people alone
    from rich.text import Text  # noqa: PLC0415 - the same

    from flagledger.cli.cells import cell, fixed, table  # noqa: PLC0415 - the same

    inventory = found.inventory
    parts: list[RenderableType] = []
    if inventory.environments:
        environments = table(
            width, "environment!", "called", "features!", "kept of people", "limits", right=("features",)
        )
        for environment in inventory.environments:
            environments.add_row(
                fixed(environment.name),
                cell(environment.display_name),
                fixed(_features(environment)),
                cell(_kept(environment)),
                cell(_limits(environment)),
            )
        parts += [environments, Text()]
    if inventory.keys:
        keys = table(width, "key!", "kind!", "environment", "state!")
        for key in inventory.keys:
            keys.add_row(fixed(key.masked), fixed(_kind(key)), cell(key.environment), fixed(_described(key, now)))
        parts += [keys, Text()]
    counts = (
        _counted(len(inventory.environments), "environment"),
        _counted(len(inventory.keys), "key"),
        _counted(found.tokens, "token"),
    )
    parts.append(Text(f"{', '.join(counts)} besides the read token."))
    if found.note:
        parts.append(Text(found.note))
    return Group(*parts)


def _features(environment: Environment) -> str:
    return "any" if environment.features is None else f"{len(environment.features):,}"


def _kept(environment: Environment) -> str:
    from flagledger.catalog.personal import in_words  # noqa: PLC0415 - not for those who only read

    if environment.stopped:
        return "nothing: its organisation is disabled"
    return in_words(environment.policy)


def _limits(environment: Environment) -> str:
    policy = environment.policy
    limits = [f"{policy.rate:,} a second"] if policy.rate is not None else []
    if policy.sample_every > 1:
        limits.append(f"1 of {policy.sample_every:,} is kept")
    if policy.origins is not None:
        limits.append(f"pages of {', '.join(sorted(policy.origins)) or 'nobody'}")
    return "; ".join(limits)


def _kind(key: KeyFound) -> str:
    return "server" if key.is_server else "client"


def _state(key: KeyFound, now: float) -> str:
    if not key.active:
        return "inactive"
    return "expired" if key.expires_at is not None and key.expires_at <= now else "active"


def _described(key: KeyFound, now: float) -> str:
    """Return the state of *key* for people, with how long it lasts."""
    state = _state(key, now)
    moment = _moment(key.expires_at)
    if key.expires_at is None or not moment or state == "inactive":
        return state
    if state == "expired":
        return f"expired since {moment}"
    return f"active, expires in {_lasting(key.expires_at - now)}, {moment}"


def _moment(seconds: float | None) -> str:
    """Return an RFC 3339 time; nothing where there is none, or one that has no such form: it lies beyond all years."""
    try:
        return "" if seconds is None else f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return ""


def _lasting(seconds: float) -> str:
    for unit, noun in _UNITS:
        if seconds >= unit:
            return _counted(int(seconds // unit), noun)
    return "a moment"


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


COMMANDS: Final = (check, catalog_view)
"""What `flagledger` tells of a catalog with."""
