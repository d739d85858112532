"""Which source stands behind the URL of a catalog."""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flagledger.catalog import policy
from flagledger.catalog.base import Environment, Source, Token
from flagledger.catalog.cache import CachedCatalog
from flagledger.catalog.document import CatalogError
from flagledger.catalog.file import FileCatalog, OnReload

# Of all processes together: what a Flagsmith is asked in a second at most, however many wrong keys arrive.
_MAX_LOOKUPS_PER_SECOND: Final = 50.0
# Between two looks for one key whose environment lacks a feature that was sent.
_FRESH_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedCatalog:
    """A catalog with its cache before it, and the source that it has to itself."""

    catalog: CachedCatalog
    source: Source

    async def follow(self) -> None:
        """Follow what changes until cancelled, then let go of the source."""
        try:
            await self.catalog.watch()
        finally:
            await self.catalog.close()
            await self.source.close()


def open_catalog(
    url: str,
    *,
    tokens: Mapping[str, Token],
    policies: policy.Policies,
    server_keys: Sequence[str],
    refresh_seconds: float,
    sharers: int,
    on_reload: OnReload,
    on_failure: Callable[[BaseException], None],
    on_lookup: Callable[[str], None] | None,
) -> OpenedCatalog:
    """
    Return the catalog at *url* as a process of the running service uses it.

    A file that is broken is no error here: the supervisor has checked it at start, and a child that is started again later waits
    until it is mended.

    Args:
        url: As `open_source` takes it.
        tokens: The same.
        policies: The same.
        server_keys: The same.
        refresh_seconds: The same, and what `CachedCatalog` goes by.
        sharers: Processes that share what a remote source may be asked.
        on_reload: As `FileCatalog` takes it.
        on_failure: As `CachedCatalog` takes it.
        on_lookup: As `CachedCatalog` takes it; a file does not call it.
    """
    source = open_source(
        url,
        tokens=tokens,
        policies=policies,
        server_keys=server_keys,
        refresh_seconds=refresh_seconds,
        on_reload=on_reload,
        on_failure=on_failure,
        must_load=False,
    )
    if url.startswith("file:"):
        return OpenedCatalog(catalog=CachedCatalog(source, refresh_seconds=refresh_seconds), source=source)
    catalog = CachedCatalog(
        source,
        refresh_seconds=refresh_seconds,
        min_fresh_interval=_FRESH_SECONDS,
        max_lookups_per_second=_MAX_LOOKUPS_PER_SECOND / sharers,
        on_failure=on_failure,
        on_lookup=on_lookup,
    )
    return OpenedCatalog(catalog=catalog, source=source)


def declared_environments(policies: policy.Policies) -> Callable[[], Awaitable[Mapping[str, Environment]]]:
    """
    Return what stands in for the environments of a Flagsmith where only their policies matter, which are all declared here.

    An environment may be met first when a page of it sends, and a page first asks whether it may.
    """
    named = {name: Environment(name=name, features=None, policy=one) for name, one in policies.named.items()}
    declared = {**named, "": Environment(name="", features=None, policy=policies.others)}

    async def environments() -> Mapping[str, Environment]:
        return declared

    return environments


def check_source(url: str) -> None:
    """
    Refuse a remote source that cannot be asked from here, whatever it would answer.

    Raises:
        CatalogError: Its library is not installed, or *url* is not what that library takes.
    """
    if not url.startswith("postgres"):
        return
    if importlib.util.find_spec("psycopg") is None or importlib.util.find_spec("psycopg_pool") is None:
        raise CatalogError(
            Path("catalog"),
            (": a Flagsmith's database needs the extra `postgres`; in a checkout: pip install '.[server,postgres]'.",),
        )
    from flagledger.catalog.flagsmith_database import check_url  # noqa: PLC0415 - its library is there

    check_url(url)


def open_source(
    url: str,
    *,
    tokens: Mapping[str, Token],
    policies: policy.Policies,
    server_keys: Sequence[str] = (),
    refresh_seconds: float = 60.0,
    on_reload: OnReload | None = None,
    on_failure: Callable[[BaseException], None] | None = None,
    must_load: bool = True,
) -> Source:
    """
    Return the source at *url*; nothing remote is asked yet.

    Args:
        url: `file:PATH`, `postgresql://…` (the database of a Flagsmith), or `https://…/api/v1/` (its API).
        tokens: What readers' tokens permit, besides those that a file declares.
        policies: What is kept for environments of a Flagsmith. Those of a file have theirs in it.
        server_keys: Keys that the API of a Flagsmith is asked with.
        refresh_seconds: Time between two looks at what the API of a Flagsmith says.
        on_reload: As `FileCatalog` takes it.
        on_failure: As `FlagsmithApi` takes it.
        must_load: As `FileCatalog` takes it.

    Raises:
        CatalogError: A file that is broken, or a source whose library is not installed.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "file":
        return FileCatalog(Path(rest), tokens, on_reload=on_reload, must_load=must_load)
    # Imported here: each brings a library of its own, which only those who use it pay for.
    if scheme.startswith("http"):
        from flagledger.catalog.flagsmith_api import FlagsmithApi  # noqa: PLC0415

        return FlagsmithApi(
            url,
            server_keys=server_keys,
            tokens=tokens,
            policy_of=policies.of,
            refresh_seconds=refresh_seconds,
            on_failure=on_failure,
        )
    check_source(url)
    from flagledger.catalog.flagsmith_database import FlagsmithDatabase  # noqa: PLC0415

    return FlagsmithDatabase(url, tokens=tokens, policy_of=policies.of)
