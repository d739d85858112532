"""Connections to PostgreSQL: where one is made to, how it is set up, and what its errors mean to an operator."""

from __future__ import annotations

import difflib
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import psycopg
from psycopg import errors, pq, sql
from psycopg.conninfo import conninfo_to_dict

from flagledger.store.errors import DiskFullError, StoreError
from flagledger.store.postgres.schema import Connection

DEFAULT_SCHEMA: Final = "flagledger"

_CONNECT_SECONDS: Final = 5
# A peer that is gone without a word is noticed within half a minute, at both ends.
_IDLE_SECONDS, _PROBE_SECONDS, _PROBES = 10, 5, 4
_UNACKNOWLEDGED_MILLISECONDS: Final = 30_000
_MAX_NAME: Final = 63
_BASE: Final = re.compile(r"postgres(ql)?://([^@/#]*@)?[^@/#]*(/[^@/#]*)?")
_MAX_TEXT: Final = 500

_SESSION: Final = {
    "TimeZone": "UTC",
    # Compiling a question takes longer than answering it, over many partitions above all.
    "jit": "off",
    # Of who is gone, the server ends what it was asked and lets go of what it held, also in the middle of a statement.
    "client_connection_check_interval": "5s",
}
WRITER: Final = {
    # Committed is durable, whatever the server's default is: the journal is trimmed by it.
    "synchronous_commit": "on",
    # Of a long batch, or of waiting for the next one, nothing is to be ended.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    # Behind somebody who has locked a table, say so now and then instead of standing still.
    "lock_timeout": "60s",
    # The server lets go of the writer's lock once the writer's machine is gone.
    "tcp_keepalives_idle": str(_IDLE_SECONDS),
    "tcp_keepalives_interval": str(_PROBE_SECONDS),
    "tcp_keepalives_count": str(_PROBES),
    "tcp_user_timeout": str(_UNACKNOWLEDGED_MILLISECONDS),
}
"""Settings of the session that writes."""
READER: Final = {
    # Identities are told apart by their hashes, up to a million of them; the default of 4 MB writes those to disk.
    "work_mem": "32MB",
}
"""Settings of sessions that ask."""


class AddressError(StoreError):
    """The URL names no PostgreSQL. Nothing of it is quoted: it holds a password."""

    temporary = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where a store is.

    Attributes:
        place: The database and its server, to be named in messages.
        schema: The schema in it.
        parameters: What libpq connects with.
    """

    place: str
    schema: str
    parameters: Mapping[str, Any] = field(repr=False)


def address_of(url: str) -> Address:
    """
    Return what `postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE?schema=SCHEMA` names; further parameters are libpq's.

    Raises:
        AddressError: It is no such URL.
    """
    base, _, query = url.partition("?")
    # What follows an unescaped character of a password would be taken for a host, and be named in messages.
    if not _BASE.fullmatch(base) or "@" in query:
        raise AddressError(_NO_URL)
    parameters = parse_qsl(query, keep_blank_values=True)
    schemas = [value for name, value in parameters if name == "schema"] or [DEFAULT_SCHEMA]
    parameters = [(name, value) for name, value in parameters if name != "schema"]
    rest = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in parameters)
    try:
        given = conninfo_to_dict(f"{base}?{rest}")
    except psycopg.ProgrammingError:
        raise AddressError(_NO_URL + _hint(name for name, _ in parameters)) from None
    port = str(given.get("port", ""))
    if len(schemas) != 1 or not _is_name(schemas[0]) or not re.fullmatch(r"[0-9,]*", port):
        raise AddressError(_NO_URL)
    host = given.get("host") or given.get("hostaddr") or "the local socket"
    place = f"{given.get('dbname') or given.get('user') or 'the default database'} on {host}{port and ':'}{port}"
    return Address(place=place, schema=schemas[0], parameters=given)


_NO_URL: Final = (
    "The store's URL is none of a PostgreSQL database: postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE?schema=SCHEMA, in which "
    "characters that have a meaning in one are written as %XX; a schema has at most 63 bytes."
)


def _hint(names: Iterable[str]) -> str:
    """Return which parameter may have been meant: what was written instead is not said, it may be part of a password."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    meant = (difflib.get_close_matches(name, known, 1) for name in names if name not in known)
    found = sorted({name for close in meant for name in close})
    return f" Of its parameters, was one meant to be {' or '.join(found)}?" if found else ""


def _is_name(schema: str) -> bool:
    return 0 < len(schema.encode()) <= _MAX_NAME and "\0" not in schema and not schema.startswith("pg_")


def connect(address: Address, purpose: str, settings: Mapping[str, str] | None = None) -> Connection:
    """
    Return a connection outside of a transaction, its session set up.

    Args:
        address: Where to.
        purpose: What it is for, which the server is told.
        settings: Of the session, beyond those that all have.

    Raises:
        psycopg.Error: There is none to be had.
    """
    connection = psycopg.connect(
        **{
            "connect_timeout": _CONNECT_SECONDS,
            "keepalives": 1,
            "keepalives_idle": _IDLE_SECONDS,
            "keepalives_interval": _PROBE_SECONDS,
            "keepalives_count": _PROBES,
            "tcp_user_timeout": _UNACKNOWLEDGED_MILLISECONDS,
            "application_name": _application_name(purpose),
            **address.parameters,
            "client_encoding": "utf8",
        },
        autocommit=True,
        # What is asked differs from time to time, and a plan for all of it passes over no partition.
        prepare_threshold=None,
    )
    try:
        wanted = {
            **_SESSION,
            **(settings or {}),
            "search_path": f"{sql.Identifier(address.schema).as_string(connection)}, pg_temp",
        }
        # What an older server does not know, it does not do either.
        connection.execute(
            "SELECT set_config(name, wanted, false) FROM unnest(%s::text[], %s::text[]) AS setting (name, wanted) "
            "WHERE current_setting(name, true) IS NOT NULL "
            # Which waits for more than `on` does.
            "AND NOT (name = 'synchronous_commit' AND current_setting(name) = 'remote_apply')",
            (list(wanted), list(wanted.values())),
        )
    except BaseException:
        connection.close()
        raise
    return connection


def meaning(address: Address, error: psycopg.Error) -> StoreError:
    """Return what *error* means to an operator, without the content of any row and without a password."""
    text = _text(address, error)
    match error:
        case errors.DiskFull():
            return DiskFullError(f"There is no room on the disk of {address.place}; make some. ({text})")
        case errors.InsufficientPrivilege():
            return StoreError(
                f"The role may not do what is asked of the schema {address.schema} in {address.place} ({text}). The writer's "
                "must own the schema's tables; those that only ask need GRANT USAGE ON SCHEMA, and GRANT SELECT ON ALL TABLES "
                "IN SCHEMA, once its tables are there."
            )
        case errors.ReadOnlySqlTransaction():
            return StoreError(f"{address.place} takes no writes, as a standby does; name the primary. ({text})")
        case errors.LockNotAvailable():
            return StoreError(f"Somebody has locked what is to be written in {address.place}. ({text})")
        case errors.QueryCanceled():
            return StoreError(f"{address.place} ended what it was asked, by its own settings. ({text})")
        case errors.UndefinedTable():
            return StoreError(f"The schema {address.schema} in {address.place} lacks a table. ({text})")
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        # Of libpq and not of the server: a parameter of the URL that means nothing.
        return AddressError(f"{_NO_URL} ({text})")
    return StoreError(f"{address.place} cannot be read or written. ({text})")


def _text(address: Address, error: psycopg.Error) -> str:
    """Return the first part of what the server said: its details quote rows."""
    said = " ".join((error.diag.message_primary or str(error) or type(error).__name__).split())
    password = str(address.parameters.get("password") or "")
    for form in {password, quote(password, safe="")} - {""}:
        said = said.replace(form, "…")
    code = f", {error.sqlstate}" if error.sqlstate else ""
    return f"{said[:_MAX_TEXT]}{code}"


def _application_name(purpose: str) -> str:
    """Return what PostgreSQL shows of a connection; it keeps 63 bytes of it."""
    process = f", process {os.getpid()}"
    name = f"flagledger {purpose} on {socket.gethostname()}"
    return name[: _MAX_NAME - len(process)] + process
