"""
Which store a URL names. Its engine is loaded when it is opened: what nobody uses need not be installed.

```text
duckdb:PATH                          a file; one process owns it
postgresql://user:password@host/db   a PostgreSQL
clickhouse://user:password@host/db   a ClickHouse over HTTP; clickhouses:// over HTTPS
chdb:PATH                            ClickHouse's engine within the process, in a directory; one process owns it
```
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flagledger.store.errors import StoreError

if TYPE_CHECKING:
    from flagledger.store.base import Store

EMBEDDED: Final = frozenset({"duckdb", "chdb"})
"""Kinds whose URL names a path, which one process owns."""
SERVERS: Final = frozenset({"postgresql", "postgres", "clickhouse", "clickhouses"})
"""Kinds whose URL names a server, which any process may ask."""

_MIB: Final = 1 << 20
_LIBRARIES: Final = {
    "postgresql": ("psycopg",),
    "postgres": ("psycopg",),
    "clickhouse": ("clickhouse_connect",),
    "clickhouses": ("clickhouse_connect",),
    "chdb": ("clickhouse_connect", "chdb"),
}
_INSTALL: Final = {
    "postgresql": "'flagledger[postgres]'",
    "postgres": "'flagledger[postgres]'",
    "clickhouse": "'flagledger[clickhouse]'",
    "clickhouses": "'flagledger[clickhouse]'",
    "chdb": "'flagledger[clickhouse]' chdb",
}


class NotInstalledError(StoreError):
    """A library is missing that the store needs. The message says how to install it."""

    temporary = False


def check_store(url: str) -> None:
    """
    Refuse what no store can be opened at from here, without asking any server.

    Raises:
        NotInstalledError: A library is missing.
        StoreError: *url* says what its engine does not understand.
    """
    kind = _kind(url)
    for library in _LIBRARIES.get(kind, ()):
        if importlib.util.find_spec(library) is None:
            raise _missing(library, kind)
    match kind:
        case "duckdb":
            pass
        case "postgresql" | "postgres":
            from flagledger.store.postgres.connection import address_of  # noqa: PLC0415

            address_of(url)
        case _:
            from flagledger.store.clickhouse.address import parse  # noqa: PLC0415

            parse(url)


def is_embedded(url: str) -> bool:
    """Return whether the URL names a path, which one process owns."""
    return _kind(url) in EMBEDDED


def is_shared(url: str) -> bool:
    """Return whether other processes may ask the store while a writer has it open."""
    return _kind(url) in SERVERS


def open_store(
    url: str, *, accept_gap: str | None = None, memory_bytes: int = 1 << 30, retention_days: int | None = None
) -> Store:
    """
    Open the store at *url* for the one that writes.

    Args:
        url: A URL of one of the forms above.
        accept_gap: Name of a gap (see `BehindJournalError`) whose entries are known to be lost.
        memory_bytes: Bytes that an embedded engine may hold.
        retention_days: Days that are kept, for engines that drop by themselves what is older; 0 for all, None for as many as the
            store was told before.

    Raises:
        NotInstalledError: A library is missing.
        StoreError: It cannot be opened, or another process has it open for writing.
    """
    match _kind(url):
        case "duckdb":
            from flagledger.store.duckdb.store import DuckDBStore  # noqa: PLC0415

            return DuckDBStore(_path(url), accept_gap=accept_gap, memory_limit=f"{memory_bytes // _MIB}MiB")
        case "postgresql" | "postgres":
            with _installed(url):
                from flagledger.store.postgres.store import PostgresStore  # noqa: PLC0415
            return PostgresStore(url, accept_gap=accept_gap)
        case _:
            with _installed(url):
                from flagledger.store.clickhouse.store import ClickHouseStore  # noqa: PLC0415
            return ClickHouseStore(url, accept_gap=accept_gap, retention_days=retention_days)


def open_reader(url: str) -> Store:
    """
    Open the store at *url* for questions alone, beside the one that writes; only where `is_shared`.

    Raises:
        NotInstalledError: A library is missing.
        StoreError: It cannot be opened. One that is away for now is no error: questions say so, and are answered once it is back.
    """
    if _kind(url) in ("postgresql", "postgres"):
        with _installed(url):
            from flagledger.store.postgres.store import PostgresStore  # noqa: PLC0415
        return PostgresStore(url, read_only=True)
    with _installed(url):
        from flagledger.store.clickhouse.store import ClickHouseStore  # noqa: PLC0415
    return ClickHouseStore(url, read_only=True)


def _kind(url: str) -> str:
    return url.partition(":")[0]


def _path(url: str) -> Path:
    return Path(url.partition(":")[2])


@contextmanager
def _installed(url: str) -> Iterator[None]:
    """Turn the failure to import a library in the block into a sentence that says how to install it."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "flagledger":
            raise
        raise _missing(error.name or str(error), _kind(url)) from error


def _missing(library: str, kind: str) -> NotInstalledError:
    return NotInstalledError(f"{library} is not installed, which this store needs: pip install {_INSTALL[kind]}.")
