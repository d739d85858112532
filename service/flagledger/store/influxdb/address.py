"""
The URL of an InfluxDB, and what of it goes where.

```text
influxdb://user:password@host:8086/database[?rp=policy]    version 1: POST /write, user and password as Basic authorization
influxdb://:token@host:8086?org=acme&bucket=flags          version 2 and later: POST /api/v2/write, with Authorization: Token
influxdbs://…                                              either over HTTPS, with the certificates that the machine trusts
```

Which version it is, is told by the bucket. A version 1 without authorization has neither user nor password. The token stands
where a password stands, so that whatever hides passwords hides it too. `/ @ ? # %` and the like in a user's name, a password, a
token and parameters are percent-encoded.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from flagledger.store.sinks import KINDS

DEFAULT_PORT: Final = 8086

_FORMS: Final = "influxdb://user:password@host:8086/database, or influxdb://:token@host:8086?org=…&bucket=…"
_HEADER: Final = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where lines are posted to.

    Attributes:
        name: The place, for people and to tell it from others; nothing in it is secret.
        secure: Whether over HTTPS.
        host: Name or address of the host.
        port: Its port.
        path: Path and query to post to.
        authorization: The header Authorization; None for none.
        missing: A sentence about what to do where the place is not there.
    """

    name: str
    secure: bool
    host: str
    port: int
    path: str
    authorization: str | None = field(repr=False)
    missing: str


def parse_address(url: str) -> Address:
    """
    Return what *url* says.

    Raises:
        ValueError: It is no such URL. The message is a sentence that repeats nothing of what may be secret.
    """
    scheme, separator, rest = url.partition("://")
    if scheme not in KINDS or not separator:
        raise ValueError(f"it must be {_FORMS}; influxdbs:// for HTTPS")
    if re.search(r"[/?#].*@", rest):
        raise ValueError("an @ behind its host; percent-encode / @ ? # and % in a user's name, a password and a token")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        raise ValueError("its host or its port is malformed; percent-encode / @ ? # and % in a password") from None
    if not host:
        raise ValueError("it names no host")
    if parts.fragment:
        raise ValueError("a # in it; percent-encode it")
    parameters = _parameters(parts.query)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if "bucket" in parameters or "org" in parameters:
        path, query, missing = _bucket(parts, parameters)
        authorization: str | None = _token(parts)
        where = f"?{urlencode(query)}"
    else:
        path, query, missing = _database(parts, parameters)
        authorization = _basic(parts)
        where = "/" + quote(query["db"], safe="") + (f"?{urlencode({'rp': query['rp']})}" if "rp" in query else "")
    return Address(
        name=place + where,
        secure=scheme == "influxdbs",
        host=host,
        port=port,
        path=f"{path}?{urlencode({**query, 'precision': 'ns'})}",
        authorization=authorization,
        missing=missing,
    )


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise ValueError("its parameters are malformed: they are name=value with & between") from None
    parameters = dict(pairs)
    if len(parameters) < len(pairs):
        raise ValueError("a parameter of it stands there twice")
    if unknown := sorted(set(parameters) - {"org", "bucket", "rp"}):
        # The name alone: a value may be secret.
        raise ValueError(f"its parameter {unknown[0]} is unknown; there are rp, or org and bucket")
    if empty := sorted(name for name, value in parameters.items() if not value):
        raise ValueError(f"its parameter {empty[0]} is empty")
    return parameters


def _bucket(parts: SplitResult, parameters: dict[str, str]) -> tuple[str, dict[str, str], str]:
    if parts.path.strip("/") or "rp" in parameters:
        raise ValueError(f"it names a bucket, and a database or rp too, which belong to version 1: {_FORMS}")
    if set(parameters) != {"org", "bucket"}:
        raise ValueError("a bucket needs its organisation, and the other way round: ?org=…&bucket=…")
    query = {"org": parameters["org"], "bucket": parameters["bucket"]}
    return "/api/v2/write", query, "Make the bucket, or correct the names of organisation and bucket."


def _database(parts: SplitResult, parameters: dict[str, str]) -> tuple[str, dict[str, str], str]:
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in parts.path.removeprefix("/"):
        raise ValueError(f"it names no database: {_FORMS}")
    query = {"db": database} | ({"rp": parameters["rp"]} if "rp" in parameters else {})
    return "/write", query, "Make it with CREATE DATABASE or CREATE RETENTION POLICY, or correct its name."


def _token(parts: SplitResult) -> str:
    token = unquote(parts.password or "")
    if not token or parts.username:
        raise ValueError("a bucket needs a token, where a password stands and without a user: influxdb://:token@host…")
    if not _HEADER.fullmatch(token):
        raise ValueError("its token holds what a header cannot carry: it must be visible ASCII characters")
    return f"Token {token}"


def _basic(parts: SplitResult) -> str | None:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user and not password:
        return None
    if not user or ":" in user:
        raise ValueError("it has a password, and no user that it could belong to; a user's name holds no colon")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
