"""What a setting may be: the forms of addresses, URLs, keys and secrets, each checked with a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from flagledger.catalog import document, policy
from flagledger.store.opening import EMBEDDED, SERVERS, is_embedded
from flagledger.store.sinks import check_sink

CATALOG_SCHEMES: Final = ("file", "postgresql", "postgres", "https", "http")

MASK: Final = "**********"
_MAX_PORT: Final = 65_535
# Its library knows of hosts that a URL does not name.
_POSTGRES: Final = frozenset({"postgresql", "postgres"})


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


def mask_url(url: str) -> str:
    """Return *url* without what is secret in it: its password, and parameters that may be one."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    # Up to the last @, wherever it stands: a password that is not percent-encoded may hold whatever else ends a user's part.
    user, at, host = rest.rpartition("@")
    masked = f"{user.partition(':')[0]}:{MASK}@" if ":" in user else user + at
    return f"{scheme}://{masked}" + re.sub(r"(?<=password=)[^&]*", MASK, host, flags=re.IGNORECASE)


def address(text: str) -> str:
    """Return *text* where it is HOST:PORT; else ValueError."""
    parse_address(text)
    return text


def store_url(text: str) -> str:
    """Return *text* where it is the URL of a store; else ValueError."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in EMBEDDED | SERVERS or not rest.removeprefix("//"):
        # A URL of a server holds a password: it is not repeated.
        raise ValueError(
            "it must be duckdb:PATH, postgresql://user:password@host/database, clickhouse://user:password@host/database "
            "(clickhouses:// over TLS) or chdb:PATH; without this setting it is store.duckdb in the data directory"
        )
    if is_embedded(text):
        if rest.startswith("//"):
            raise ValueError(
                f"a path is named without slashes before it: {kind}:store, {kind}:/var/lib/flagledger/store"
            )
        return text
    _check_server(text, needs_host=kind not in _POSTGRES)
    return text


def sink_url(text: str) -> str:
    """Return *text* where it is the URL of a sink; else ValueError."""
    check_sink(text)
    return text


def catalog_url(text: str) -> str:
    """Return *text* where it is the URL of a catalog; else ValueError."""
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in CATALOG_SCHEMES or not rest.removeprefix("//"):
        # A URL of a server holds a password: it is not repeated.
        raise ValueError(
            "it must be file:PATH, postgresql://… (the database of a Flagsmith) or https://…/api/v1/ (its API)"
        )
    if scheme == "file":
        if rest.startswith("//"):
            raise ValueError(
                "a file is named without slashes before it: file:environments.toml, file:/etc/environments.toml"
            )
        return text
    parts = _check_server(text, needs_host=scheme not in _POSTGRES)
    if scheme not in _POSTGRES and (parts.query or parts.fragment or parts.username):
        raise ValueError(
            "it must be the address of the API without user, password or parameters, for example "
            "https://flagsmith.example.com/api/v1/"
        )
    return text


def _check_server(text: str, *, needs_host: bool) -> SplitResult:
    """Return the parts of a URL that names a server; ValueError where it has not that form, without repeating it."""
    scheme, _, rest = text.partition(":")
    if not rest.startswith("//"):
        raise ValueError(f"behind {scheme}: come two slashes, for example {scheme}://host/…")
    if re.search(r"[?&][^=&]*%", rest):
        raise ValueError("names of parameters are written without %")
    if re.search(r"[/?#].*@", rest.removeprefix("//")):
        raise ValueError(
            "an @ behind its host; percent-encode / @ ? # and % in a user's name, a password and parameters"
        )
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("its host or its port is malformed; percent-encode / @ ? # and % in a password") from None
    if needs_host and not host:
        raise ValueError("it names no host")
    return parts


def split_keys(given: Any) -> Any:
    """Return a list of keys; a variable holds them with commas between."""
    return [key for key in re.split(r"[\s,]+", given) if key] if isinstance(given, str) else given


def server_key(key: SecretStr) -> SecretStr:
    """Return *key* where it is a server key that a header can carry; else ValueError."""
    if not re.fullmatch(r"ser\.[!-~]{1,508}", key.get_secret_value()):
        raise ValueError("each must be a server key (ser.…, visible ASCII): a client key shows fewer features")
    return key


def policy_tables(tables: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return *tables* where they are policies; else ValueError with every fault."""
    policy.read_policies(tables)
    return tables


def token_tables(tables: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return *tables* where they are tokens; else ValueError with every fault."""
    document.read_tokens(tables)
    return tables


def identity_secret(secret: SecretStr) -> SecretStr:
    """Return *secret* where it is long enough and can be written anywhere; else ValueError."""
    if not re.fullmatch(r"[!-~]{22,512}", secret.get_secret_value()):
        raise ValueError("it must be 22 to 512 visible ASCII characters without spaces, made at random")
    return secret


def token(token: SecretStr) -> SecretStr:
    """Return *token* where a header can carry it; else ValueError."""
    if not re.fullmatch(r"[!-~]{1,512}", token.get_secret_value()):
        raise ValueError("a token must be 1 to 512 visible ASCII characters without spaces")
    return token


def number(value: Any) -> Any:
    """Return *value*; ValueError where it is true or false, which pydantic takes for numbers."""
    if isinstance(value, bool):
        raise ValueError("it must be a number")  # noqa: TRY004 - pydantic turns a ValueError, and no TypeError, into a fault
    return value
