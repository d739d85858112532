"""Options that set something, and the configuration that they and everything else come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from flagledger.cli.faults import SetUpFault
from flagledger.cli.options import Command
from flagledger.config import Config, ConfigError, LoadedSettings, load_settings

_FLAGS: Final[dict[str, tuple[str, click.ParamType[Any]]]] = {
    "--data": ("DIR", click.Path(path_type=Path)),
    "--environments": ("FILE", click.Path(path_type=Path)),
    "--catalog": ("URL", click.STRING),
    "--http": ("HOST:PORT", click.STRING),
    "--grpc": ("HOST:PORT", click.STRING),
    "--fronts": ("N", click.STRING),
    "--store": ("URL", click.STRING),
    "--sink": ("URL", click.STRING),
    "--read-token": ("TOKEN", click.STRING),
}


def setting_options(*flags: str) -> Callable[[Command], Command]:
    """Return what gives a command the options *flags*, in this order, or all that set something; and --config."""

    def give(command: Command) -> Command:
        command = click.option(
            "--config",
            "config_file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="Configuration file (TOML). Without it: ./flagledger.toml where there is one.",
        )(command)
        for flag in reversed(flags or tuple(_FLAGS)):
            metavar, kind = _FLAGS[flag]
            field = Config.model_fields[flag.removeprefix("--").replace("-", "_")]
            command = click.option(flag, metavar=metavar, type=kind, help=field.description)(command)
        return command

    return give


def settings(config_file: Path | None, flags: dict[str, Any]) -> LoadedSettings:
    """
    Return the configuration, with *flags* as they were given.

    Raises:
        SetUpFault: Something in it is wrong.
    """
    try:
        return load_settings(flags, config_file=config_file)
    except ConfigError as error:
        raise SetUpFault(error) from None
