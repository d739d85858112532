"""What the URL of a ClickHouse store says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from flagledger.store.errors import StoreError

DATABASE: Final = "flagledger"
"""The database of a URL that names none."""

_PORTS: Final = {"http": 8123, "https": 8443}
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What may follow the `?`: of a server, and of a directory.
_FILES: Final = ("ca_cert", "client_cert", "client_cert_key")
_OF_SERVER: Final = frozenset({"cluster", "secure", "verify", *_FILES})
_OF_DIRECTORY: Final = frozenset({"database"})
_TRUE, _FALSE = frozenset({"", "1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


class AddressError(StoreError):
    """The URL names no store. The message is a sentence, without what the URL holds of a password."""

    temporary = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where a store is.

    Attributes:
        database: Name of its database, an identifier.
        path: Directory of an engine within the process; None for a server.
        interface: How a server is spoken to.
        host: Its name or address.
        port: Its port.
        user: Who asks.
        password: What proves it.
        cluster: Name of the cluster whose servers hold replicas; None where there is one server alone.
        verify: Whether the server's certificate is checked.
        files: Paths of certificates and keys, by the parameter's name.
    """

    database: str
    path: str | None = None
    interface: Literal["http", "https"] = "http"
    host: str = ""
    port: int = 0
    user: str = "default"
    password: str = field(default="", repr=False)
    cluster: str | None = None
    verify: bool = True
    files: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """How messages call it: without a user, without a password."""
        if self.path is not None:
            return f"ClickHouse ({self.database} in {self.path})"
        return f"ClickHouse ({self.database} on {self.host}:{self.port})"


def parse(url: str) -> Address:
    """
    Return what *url* says.

    ```text
    clickhouse://user:password@host:8123/database?cluster=NAME&secure&verify=0&ca_cert=FILE&client_cert=FILE&client_cert_key=FILE
    clickhouses://user:password@host:8443/database
    chdb:PATH?database=NAME
    ```

    Raises:
        AddressError: It says what is not understood.
    """
    kind, _, rest = url.partition(":")
    if kind == "chdb":
        path, _, query = rest.partition("?")
        if not path:
            raise AddressError("The store's URL names no directory: chdb:PATH.")
        parameters = _parameters(query, _OF_DIRECTORY)
        return Address(database=_database(parameters.get("database", DATABASE)), path=path)
    if kind not in ("clickhouse", "clickhouses"):
        raise AddressError("The store's URL begins with clickhouse://, clickhouses:// or chdb:.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        # The text of the error quotes what stands around the password.
        raise AddressError("The store's URL has a host or a port that cannot be read.") from None
    if not host:
        raise AddressError(f"The store's URL names no host: {kind}://user:password@host:port/database.")
    parameters = _parameters(parts.query, _OF_SERVER)
    secure = kind == "clickhouses" or _flag(parameters, "secure", default=False)
    interface: Literal["http", "https"] = "https" if secure else "http"
    return Address(
        database=_database(unquote(parts.path.strip("/")) or DATABASE),
        interface=interface,
        host=host,
        port=port or _PORTS[interface],
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        cluster=_cluster(parameters.get("cluster")),
        verify=_flag(parameters, "verify", default=True),
        files=tuple((name, parameters[name]) for name in _FILES if name in parameters),
    )


def _parameters(query: str, known: frozenset[str]) -> dict[str, str]:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    for name in parameters:
        if name not in known:
            raise AddressError(
                f"The store's URL has a parameter that is not known; there are {', '.join(sorted(known))}."
            )
    return parameters


def _flag(parameters: dict[str, str], name: str, *, default: bool) -> bool:
    value = parameters.get(name)
    if value is None:
        return default
    if value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise AddressError(f"The store's URL says neither yes nor no to {name}.")


def _database(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise AddressError(
            "The store's URL names a database whose name is not made of letters, digits and underscores."
        )
    return name


def _cluster(name: str | None) -> str | None:
    # It may also be a macro of the server, as in {cluster}.
    if name is not None and not re.fullmatch(r"[\w.-]+|\{\w+\}", name):
        raise AddressError(
            "The store's URL names a cluster whose name is not made of letters, digits, dots and dashes."
        )
    return name
