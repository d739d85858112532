"""Everything that can be configured, frozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from flagledger.catalog import document, policy
from flagledger.catalog.base import Token
from flagledger.config import values

_MAX_FRONTS: Final = 64
# Settings that are URLs, with a password in them perhaps.
_URLS: Final = frozenset({"catalog", "store", "sink"})

_Tables = tuple[dict[str, Any], ...]
_Address = Annotated[str, AfterValidator(values.address)]
_Int = Annotated[int, BeforeValidator(values.number)]
_Seconds = Annotated[float, BeforeValidator(values.number)]


class Config(BaseModel):
    """
    Everything that can be configured. Constructing it reads neither variables nor files; `load_config` does.

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
    catalog: Annotated[str, AfterValidator(values.catalog_url)] | None = Field(
        None,
        repr=False,
        description="Where keys and features come from: file:PATH, postgresql://… (the database of a Flagsmith), or "
        "https://…/api/v1/ (its API). Without it: the environments file.",
    )
    flagsmith_server_keys: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(values.server_key)], ...],
        NoDecode,
        BeforeValidator(values.split_keys),
    ] = Field(
        (),
        description="Server keys (ser.…), one for each environment, with which the API of a Flagsmith is asked for features.",
    )
    tokens: Annotated[_Tables, AfterValidator(values.token_tables)] = Field(
        (),
        repr=False,
        description="Tokens of readers, as in the environments file: a list of tables with token, role, environments.",
    )
    policies: Annotated[_Tables, AfterValidator(values.policy_tables)] = Field(
        (),
        description="What is kept for environments that come from a Flagsmith: a list of tables with environments (client keys; "
        "absent: all) and the fields of a policy, as in the environments file. The first that fits counts.",
    )
    identity_secret: Annotated[SecretStr, AfterValidator(values.identity_secret)] | None = Field(
        None,
        description="Secret that identities are hashed with. Without it: one is made, identity-secret in the data directory.",
    )
    http: _Address = Field(
        "127.0.0.1:8080", description="Address that HTTP is served on, HOST:PORT. Port 0 picks a free one."
    )
    grpc: _Address = Field(
        "127.0.0.1:50051", description="Address that gRPC is served on, HOST:PORT. Port 0 picks a free one."
    )
    fronts: _Int = Field(1, ge=1, le=_MAX_FRONTS, description="Processes that take evaluations in.")
    store: Annotated[str, AfterValidator(values.store_url)] | None = Field(
        None,
        repr=False,
        description="Store of what was recorded: duckdb:PATH, postgresql://…, clickhouse://… (clickhouses:// over TLS) or "
        "chdb:PATH. Without it: store.duckdb in the data directory.",
    )
    sink: Annotated[str, AfterValidator(values.sink_url)] | None = Field(
        None,
        repr=False,
        description="Where counts of what was recorded are sent to: influxdb://user:password@host/database, or "
        "influxdb://:token@host?org=…&bucket=… (influxdbs:// over TLS). Without it: nowhere.",
    )
    accept_gap: str | None = Field(
        None,
        description="Name of a gap between store and journal, as the refusal to start gives it, whose loss is accepted.",
    )
    read_token: Annotated[SecretStr, AfterValidator(values.token)] | None = Field(
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
    recognise_resent_bodies: bool = Field(
        True,  # noqa: FBT003 - a setting
        description="Whether a body that an older SDK sends again is recorded once, where its entries carry time and identity.",
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
        if self.catalog is not None and self.environments is not None:
            raise ValueError(
                "`environments` names a file and `catalog` a source; give one of them (--environments F means --catalog file:F)"
            )
        if self.policies and self.is_file_catalog:
            raise ValueError("`policies` are for environments of a Flagsmith; those of a file have theirs in that file")
        if self.flagsmith_server_keys and not (self.catalog or "").startswith("http"):
            raise ValueError("`flagsmith_server_keys` are for a `catalog` that is the API of a Flagsmith")
        if self.http == self.grpc and self.http_address[1] != 0:
            raise ValueError(f"`http` and `grpc` cannot both be served on {self.http}")
        return self

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port that HTTP is served on."""
        return values.parse_address(self.http)

    @property
    def grpc_address(self) -> tuple[str, int]:
        """Host and port that gRPC is served on."""
        return values.parse_address(self.grpc)

    @property
    def environments_file(self) -> Path:
        """Path of the environments file."""
        if self.catalog is not None and self.is_file_catalog:
            return Path(self.catalog.partition(":")[2])
        return self.environments if self.environments is not None else self.data / "environments.toml"

    @property
    def is_file_catalog(self) -> bool:
        """Whether keys and features come from an environments file."""
        return self.catalog is None or self.catalog.startswith("file:")

    @property
    def is_default_catalog(self) -> bool:
        """Whether they come from the environments file in the data directory, which the first start makes."""
        return self.catalog is None and self.environments is None

    @property
    def catalog_url(self) -> str:
        """URL of the catalog. It may hold a password: for people there is `catalog_shown`."""
        return self.catalog if self.catalog is not None else f"file:{self.environments_file}"

    @property
    def catalog_shown(self) -> str:
        """URL of the catalog as it may be shown."""
        return values.mask_url(self.catalog_url)

    @property
    def store_url(self) -> str:
        """URL of the store. It may hold a password: for people there is `store_shown`."""
        return self.store if self.store is not None else f"duckdb:{self.data / 'store.duckdb'}"

    @property
    def store_shown(self) -> str:
        """URL of the store as it may be shown."""
        return values.mask_url(self.store_url)

    def shown(self, name: str) -> Any:
        """Return the value of setting *name* as it may be shown; of a SecretStr str() does the rest."""
        value = getattr(self, name)
        if name in _URLS and value is not None:
            return values.mask_url(value)
        if name == "tokens":
            return tuple({**table, "token": values.MASK} for table in self.tokens)
        return value

    @property
    def declared_tokens(self) -> dict[str, Token]:
        """What the `tokens` permit, by token."""
        return document.read_tokens(self.tokens)

    @property
    def declared_policies(self) -> policy.Policies:
        """The `policies`."""
        return policy.read_policies(self.policies)

    def to_json(self) -> str:
        """Return it as JSON for a child process. Secrets are in clear: it MUST NOT be logged or be an argument."""
        plain = self.model_dump(mode="python")
        return json.dumps({name: _plain(value) for name, value in plain.items()})

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Return what `to_json` wrote. Variables and files are not read again."""
        return cls.model_validate_json(text)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
