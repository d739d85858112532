"""The `flagledger` command with all that it can do; `serve` and `config` stand here, what reads in modules of its own."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from flagledger.cli import catalog, questions
from flagledger.cli.copy import copy
from flagledger.cli.erasure import delete_identity
from flagledger.cli.export import export
from flagledger.cli.faults import SetUpFault
from flagledger.cli.settings import setting_options, settings
from flagledger.config import Config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("flagledger"), prog_name="flagledger")
def root() -> None:
    """Record what feature flags decided, and ask what was recorded."""


@root.command()
@setting_options()
def serve(config_file: Path | None, **flags: Any) -> None:
    """
    Run the service until SIGTERM or Ctrl-C.

    Flags go before FLAGLEDGER_* variables, those before flagledger.toml. Without any it listens on localhost, and makes
    a data directory with a demo environment and a read token.
    """
    config = settings(config_file, flags).config
    from flagledger.serve import serve as run  # noqa: PLC0415 - grpc and the store are for this command alone

    sys.exit(run(config))


@root.group()
def config() -> None:
    """Show or check the configuration."""


@config.command(short_help="Print every setting, and where it was set.")
@setting_options()
def show(config_file: Path | None, **flags: Any) -> None:
    """Print every setting as TOML, with what it means and where it was set. Secrets are masked."""
    loaded = settings(config_file, flags)
    for number, (name, field) in enumerate(Config.model_fields.items()):
        value = loaded.config.shown(name)
        if number:
            click.echo()
        click.echo(f"# {field.description}")
        click.echo(f"# From {loaded.origins[name]}." if name in loaded.origins else "# The default.")
        click.echo(f"# {name} =" if value is None else f"{name} = {_toml(value)}")


def _toml(value: Any) -> str:
    """Return a setting's value as TOML; str() masks a secret."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.15g}"
        case int():
            return str(value)
        case tuple() | list():
            return f"[{', '.join(map(_toml, value))}]"
        case dict():
            return f"{{ {', '.join(f'{name} = {_toml(one)}' for name, one in value.items())} }}"
        case _:
            return json.dumps(str(value))


@config.command()
@setting_options()
def check(config_file: Path | None, **flags: Any) -> None:
    """Check the configuration and the environments file. Exit code 2 where something is wrong."""
    loaded = settings(config_file, flags).config
    from flagledger.catalog.document import CatalogError  # noqa: PLC0415 - not for those who only read
    from flagledger.catalog.file import read_document  # noqa: PLC0415 - the same
    from flagledger.store.errors import StoreError  # noqa: PLC0415 - the same
    from flagledger.store.opening import check_store  # noqa: PLC0415 - the same
    from flagledger.store.sinks import check_installed  # noqa: PLC0415 - the same

    try:
        check_store(loaded.store_url)
        if loaded.sink is not None:
            check_installed()
    except StoreError as error:
        raise SetUpFault(error) from None
    if not loaded.is_file_catalog:
        click.echo("The configuration is valid.")
        click.echo(f"What {loaded.catalog_shown} says is told by `flagledger check`.")
        return
    file = loaded.environments_file
    if loaded.is_default_catalog and not file.exists():
        click.echo("The configuration is valid.")
        click.echo(f"{file} is not there yet: `flagledger serve` makes one, with a demo environment.")
        return
    try:
        read_token = () if loaded.read_token is None else (loaded.read_token.get_secret_value(),)
        document = read_document(file, tokens=(*loaded.declared_tokens, *read_token))
    except CatalogError as error:
        raise SetUpFault(error) from None
    counts = (
        _counted(len(document.environments), "environment"),
        _counted(len(document.keys), "key"),
        _counted(len(document.tokens) + len(loaded.declared_tokens), "token"),
    )
    click.echo("The configuration is valid.")
    click.echo(f"{file} is valid: {', '.join(counts)}.")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


for _command in (*questions.COMMANDS, export, delete_identity, copy, *catalog.COMMANDS):
    root.add_command(_command)
