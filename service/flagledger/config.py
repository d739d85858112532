"""One frozen configuration: flags > `FLAGLEDGER_*` variables > `flagledger.toml` > defaults."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from flagledger.tomlfile import TomlSyntaxError, nearest, parse_toml

VARIABLE_PREFIX: Final = "FLAGLEDGER_"
DEFAULT_FILE: Final = Path("flagledger.toml")

_MAX_FRONTS: Final = 64
_MAX_PORT: Final = 65_535

# Kubernetes sets variables for each Service of a namespace. One named `flagledger` must not keep us from starting.
_SERVICE_LINK: Final = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")


class ConfigError(Exception):
    """A configuration that cannot be used. Its text is for people: a line for each fault, naming where it was set."""


def parse_address(text: str) -> tuple[str, int]:
    """
    Return host and port of HOST:PORT. The host of an IPv6 address stands in brackets, and is returned without them.

    Raises:
        ValueError: It is not HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError("it must be HOST:PORT, for example 127.0.0.1:8080 or [::1]:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError("brackets are for IPv6 addresses, for example [::1]:8080")
    elif ":" in host:
        raise ValueError("an IPv6 address must stand in brackets, for example [::1]:8080")
    if not host or not re.fullmatch(r"[\w.:%-]+", host, re.ASCII):
        raise ValueError("its host is neither a name nor an address")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _MAX_PORT:
        raise ValueError(f"its port must be a number from 0 to {_MAX_PORT}; 0 picks a free one")
    return host, int(port)


def _address(text: str) -> str:
    parse_address(text)
    return text


def _store(text: str) -> str:
    kind, colon, path = text.partition(":")
    if kind == "duckdb" and colon and path:
        return text
    # A URL of a server holds a password: it is not repeated.
    raise ValueError(
        "the only store there is now is duckdb:PATH; without this setting it is store.duckdb in the data directory"
    )


def _token(token: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]{1,512}", token.get_secret_value()):
        raise ValueError("a token must be 1 to 512 visible ASCII characters without spaces")
    return token


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it must be a number")  # noqa: TRY004 - pydantic turns a ValueError, and no TypeError, into a fault
    return value


_Address = Annotated[str, AfterValidator(_address)]
_Int = Annotated[int, BeforeValidator(_number)]
_Seconds = Annotated[float, BeforeValidator(_number)]


class Config(BaseModel):
    """
    Everything that can be configured. Constructing it reads neither variables nor files; `Config.load` does.

    Sizes are in bytes, times in the unit that the name says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    data: Path = Field(
        Path("flagledger-data"),
        description="Directory that holds the journal, the store, the environments file and the read token.",
    )
    environments: Path | None = Field(
        None, description="Environments file (TOML). Without it: environments.toml in the data directory."
    )
    http: _Address = Field(
        "127.0.0.1:8080", description="Address that HTTP is served on, HOST:PORT. Port 0 picks a free one."
    )
    grpc: _Address = Field(
        "127.0.0.1:50051", description="Address that gRPC is served on, HOST:PORT. Port 0 picks a free one."
    )
    fronts: _Int = Field(1, ge=1, le=_MAX_FRONTS, description="Processes that take evaluations in.")
    store: Annotated[str, AfterValidator(_store)] | None = Field(
        None, description="Store of what was recorded: duckdb:PATH. Without it: store.duckdb in the data directory."
    )
    accept_gap: str | None = Field(
        None,
        description="Name of a gap between store and journal, as the refusal to start gives it, whose loss is accepted.",
    )
    read_token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        None,
        description="Token that may read every environment. Without it: one is made, read-token in the data directory.",
    )
    max_body_bytes: _Int = Field(
        4 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="Largest request, in bytes, also after decompression.",
    )
    max_in_flight_bytes: _Int = Field(
        32 * 1024 * 1024,
        ge=1024,
        description="Bytes of requests that one front works on at a time; beyond it senders are told to wait.",
    )
    max_evaluations: _Int = Field(10_000, ge=1, le=65_536, description="Evaluations in a batch at most.")
    journal_max_bytes: _Int = Field(
        4 * 1024**3,
        ge=1024 * 1024,
        description="Bytes of journal that may wait for the store; beyond it senders are told to wait.",
    )
    dedup_hours: _Int = Field(24, ge=1, le=168, description="Hours for which a batch id is remembered.")
    retention_days: _Int = Field(
        90,
        ge=0,
        le=36_500,
        description="Days that evaluations are kept after their receipt; then they are dropped. 0 keeps them for ever.",
    )
    store_memory_bytes: _Int = Field(
        1024**3,
        ge=128 * 1024**2,
        description="Bytes that the store may hold in memory; what it needs beyond them is written to <store>.tmp.",
    )
    catalog_refresh_seconds: _Seconds = Field(
        60.0, gt=0, le=86_400, description="Seconds after which a known environment key is looked up again."
    )
    max_concurrent_calls: _Int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Calls that one front works on at a time; beyond it senders are told to wait.",
    )
    drain_seconds: _Seconds = Field(
        7.5, ge=0, le=600, description="Seconds that accepted work is given to finish when the service is told to stop."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_in_flight_bytes < self.max_body_bytes:
            raise ValueError(
                "`max_in_flight_bytes` must be at least `max_body_bytes`, or the largest request never gets in"
            )
        if self.http == self.grpc and self.http_address[1] != 0:
            raise ValueError(f"`http` and `grpc` cannot both be served on {self.http}")
        return self

    @classmethod
    def load(cls, flags: Mapping[str, Any] | None = None, *, config_file: Path | None = None) -> Config:
        """
        Return what flags, variables, the configuration file and the defaults say together.

        Args:
            flags: Settings given on the command line, by name; None means not given.
            config_file: The configuration file, which must exist then; None for ./flagledger.toml where there is one.

        Raises:
            ConfigError: Something in them is wrong, or not a setting.
        """
        return load_settings(flags, config_file=config_file).config

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port that HTTP is served on."""
        return parse_address(self.http)

    @property
    def grpc_address(self) -> tuple[str, int]:
        """Host and port that gRPC is served on."""
        return parse_address(self.grpc)

    @property
    def environments_file(self) -> Path:
        """Path of the environments file."""
        return self.environments if self.environments is not None else self.data / "environments.toml"

    @property
    def store_path(self) -> Path:
        """Path of the store's file."""
        return Path(self.store.partition(":")[2]) if self.store is not None else self.data / "store.duckdb"

    def to_json(self) -> str:
        """Return it as JSON for a child process. Secrets are in clear: it MUST NOT be logged or be an argument."""
        plain = self.model_dump(mode="python")
        return json.dumps({name: _plain(value) for name, value in plain.items()})

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Return what `to_json` wrote. Variables and files are not read again."""
        return cls.model_validate_json(text)


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


def load_settings(flags: Mapping[str, Any] | None = None, *, config_file: Path | None = None) -> LoadedSettings:
    """
    Return the configuration, and where each setting came from. Arguments and errors are those of `Config.load`.

    Raises:
        ConfigError: Something is wrong, or not a setting.
    """
    if config_file is not None and not config_file.is_file():
        raise ConfigError(f"{config_file} is not there, or not a file.")
    path = config_file if config_file is not None else DEFAULT_FILE
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    variables = EnvSettingsSource(_Declared)()
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


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
