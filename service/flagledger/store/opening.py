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


class NotInstalledError(StoreError):
    """A library is missing that the store needs. The message says how to install it."""

    temporary = False


def is_shared(url: str) -> bool:
    """Return whether other processes may ask the store while a writer has it open."""
    return _kind(url) in SERVERS


def open_store(
    url: str, *, accept_gap: str | None = None, memory_bytes: int = 1 << 30, retention_days: int = 0
) -> Store:
    """
    Open the store at *url* for the one that writes.

    Args:
        url: A URL of one of the forms above.
        accept_gap: Name of a gap (see `BehindJournalError`) whose entries are known to be lost.
        memory_bytes: Bytes that an embedded engine may hold.
        retention_days: Days that are kept, for engines that drop by themselves what is older; 0 for all.

    Raises:
        NotInstalledError: A library is missing.
        StoreError: It cannot be opened, or another process has it open for writing.
    """
    match _kind(url):
        case "duckdb":
            from flagledger.store.duckdb.store import DuckDBStore  # noqa: PLC0415

            return DuckDBStore(_path(url), accept_gap=accept_gap, memory_limit=f"{memory_bytes // _MIB}MiB")
        case "postgresql" | "postgres":
            with _installed("postgres"):
                from flagledger.store.postgres.store import PostgresStore  # noqa: PLC0415
            return PostgresStore(url, accept_gap=accept_gap)
        case _:
            with _installed("clickhouse"):
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
        with _installed("postgres"):
            from flagledger.store.postgres.store import PostgresStore  # noqa: PLC0415
        return PostgresStore(url, read_only=True)
    with _installed("clickhouse"):
        from flagledger.store.clickhouse.store import ClickHouseStore  # noqa: PLC0415
    return ClickHouseStore(url, read_only=True)


def _kind(url: str) -> str:
    return url.partition(":")[0]


def _path(url: str) -> Path:
    return Path(url.partition(":")[2])


@contextmanager
def _installed(extra: str) -> Iterator[None]:
    """Turn the failure to import a library in the block into a sentence that names the *extra* which brings it."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "flagledger":
            raise
        raise NotInstalledError(
            f"{error.name} is not installed, which this store needs: pip install 'flagledger[{extra}]'."
        ) from error
