"""How the configuration is read: flags > variables > file > defaults, and what is said of what is wrong in them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from flagledger.config.model import Config
from flagledger.tomlfile import TomlSyntaxError, nearest, parse_toml

VARIABLE_PREFIX: Final = "FLAGLEDGER_"
DEFAULT_FILE: Final = Path("flagledger.toml")

# Settings that a variable holds as JSON.
_TABLES: Final = ("tokens", "policies")

# Kubernetes sets variables for each Service of a namespace. One named `flagledger` must not keep us from starting.
_SERVICE_LINK: Final = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")


class ConfigError(Exception):
    """A configuration that cannot be used. Its text is for people: a line for each fault, naming where it was set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """
    A configuration, and where each setting of it came from.

    Attributes:
        origins: By setting: the flag, the variable or the file that set it; a setting left at its default is missing.
    """

    config: Config
    origins: Mapping[str, str]


class _Declared(Config, BaseSettings):
    """The settings as pydantic-settings wants them declared, to read variables and the file by."""

    model_config = SettingsConfigDict(env_prefix=VARIABLE_PREFIX, env_ignore_empty=True, extra="forbid")


class _FileSource(TomlConfigSettingsSource):
    """The configuration file, with faults in sentences."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            return parse_toml(file_path.read_bytes())
        except TomlSyntaxError as error:
            raise ConfigError(f"{file_path}, {error}.") from None
        except OSError as error:
            raise ConfigError(f"{file_path} cannot be read: {error.strerror}.") from error


def load_config(flags: Mapping[str, Any] | None = None, *, config_file: Path | None = None) -> Config:
    """
    Return what flags, variables, the configuration file and the defaults say together.

    Args:
        flags: Settings given on the command line, by name; None means not given.
        config_file: The configuration file, which must exist then; None for ./flagledger.toml where there is one.

    Raises:
        ConfigError: Something in them is wrong, or not a setting.
    """
    return load_settings(flags, config_file=config_file).config


def load_settings(flags: Mapping[str, Any] | None = None, *, config_file: Path | None = None) -> LoadedSettings:
    """
    Return the configuration, and where each setting came from. Arguments and errors are those of `load_config`.

    Raises:
        ConfigError: Something is wrong, or not a setting.
    """
    if config_file is not None and not config_file.is_file():
        raise ConfigError(f"{config_file} is not there, or not a file.")
    path = config_file if config_file is not None else DEFAULT_FILE
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    variables = _variables()
    written = _FileSource(_Declared, toml_file=path)()

    faults = [*_unknown_variables(), *_unknown_names(written, path)]
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for settings, origin in ((written, f"{path}: {{}}"), (variables, VARIABLE_PREFIX + "{}"), (given, "--{}")):
        for name, value in settings.items():
            if name in Config.model_fields or settings is given:
                merged[name] = value
                origins[name] = _origin(origin, name)
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        faults.extend(_sentences(error, origins))
    if faults:
        raise ConfigError("\n".join(faults))
    return LoadedSettings(config=config, origins=origins)


def _variables() -> dict[str, Any]:
    try:
        return EnvSettingsSource(_Declared)()
    except SettingsError:
        broken = [name for name in _TABLES if not _is_json(os.environ.get(VARIABLE_PREFIX + name.upper(), "[]"))]
        raise ConfigError(
            "\n".join(
                f"The variable {VARIABLE_PREFIX}{name.upper()} is no JSON; it is a list of tables, for example "
                '[{"environments": ["key"]}].'
                for name in broken
            )
        ) from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _origin(pattern: str, name: str) -> str:
    if pattern.startswith("--"):
        return pattern.format(name.replace("_", "-"))
    return pattern.format(name.upper() if pattern.startswith(VARIABLE_PREFIX) else name)


def _unknown_variables() -> Iterator[str]:
    for variable in sorted(os.environ):
        if not variable.startswith(VARIABLE_PREFIX):
            continue
        name = variable.removeprefix(VARIABLE_PREFIX)
        if name.lower() in Config.model_fields or _is_service_link(name, os.environ[variable]):
            continue
        meant = VARIABLE_PREFIX + nearest(name, Config.model_fields).upper()
        yield f"The variable {variable} is not a setting; the nearest one is {meant}."


def _is_service_link(name: str, value: str) -> bool:
    # `FLAGLEDGER_PORT=8080` is somebody's wish for a port; Kubernetes writes a URL there.
    return bool(_SERVICE_LINK.fullmatch(name)) or (name.endswith("PORT") and bool(_SERVICE_URL.match(value)))


def _unknown_names(written: Mapping[str, Any], path: Path) -> Iterator[str]:
    for name in written:
        if name not in Config.model_fields:
            yield f"{path}: `{name}` is not a setting; the nearest one is `{nearest(name, Config.model_fields)}`."


def _sentences(error: ValidationError, origins: Mapping[str, str]) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        what = fault["msg"].removeprefix("Value error, ").removeprefix("Input should").strip().rstrip(".")
        if what.startswith("be "):
            what = f"it should {what}"
        if not fault["loc"]:
            yield f"{what}."
            continue
        name = str(fault["loc"][0])
        if fault["type"] == "extra_forbidden":
            yield f"`{name}` is not a setting; the nearest one is `{nearest(name, Config.model_fields)}`."
        else:
            yield f"{origins.get(name, name)}: {what}."
