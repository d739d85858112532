"""What a front and the writer have in common, each made in one way."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Final

from google.rpc import code_pb2, status_pb2

from flagledger.catalog.base import Catalog, Token
from flagledger.catalog.cache import CachedCatalog
from flagledger.catalog.document import CatalogError
from flagledger.catalog.sources import open_catalog
from flagledger.config import Config
from flagledger.errors import FlagledgerError, to_status
from flagledger.journal.sqlite import SqliteJournal
from flagledger.query.journal_state import JournalState
from flagledger.query.recorded import RecordedEnvironments
from flagledger.store.base import Store
from flagledger.supervisor import ProcessSettings
from flagledger.telemetry import metrics
from flagledger.telemetry.logging import Sparing, get_logger

# What a process leaves to the others between two commits, where there are others.
_BREATH_SECONDS: Final = 0.0003


def stop_signal() -> asyncio.Event:
    """Return an event that SIGTERM sets."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    # A terminal's Ctrl-C is for the supervisor, which then tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return stopping


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel *task* and wait until it has ended."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def followed_catalog(
    config: Config, settings: ProcessSettings, counted: metrics.FrontMetrics | None = None
) -> tuple[CachedCatalog, asyncio.Task[None]]:
    """Return the catalog, and the task that follows its source."""

    def reloaded(ok: bool, error: CatalogError | None) -> None:  # noqa: FBT001 - the callback's own form
        if counted is not None:
            counted.loaded(ok)
        # Every process follows the file; one of them says so.
        if settings.name() == "front-0":
            if ok:
                get_logger().info("the environments were loaded again", file=str(config.environments_file))
            else:
                get_logger().error(
                    "the environments file is broken; the last good one stays in force", error=str(error)
                )

    log = Sparing()

    def failed(error: BaseException) -> None:
        if settings.name() == "front-0":
            log.error(
                "the catalog cannot be asked; what is known stays in force",
                catalog=config.catalog_shown,
                error=str(error),
                # The error is for whoever sent a key; what failed is for whoever reads this.
                cause=str(error.__cause__ or ""),
            )

    opened = open_catalog(
        config.catalog_url,
        tokens={**config.declared_tokens, settings.read_token: Token(role="read")},
        policies=config.declared_policies,
        server_keys=[key.get_secret_value() for key in config.flagsmith_server_keys],
        refresh_seconds=config.catalog_refresh_seconds,
        sharers=config.fronts,
        on_reload=reloaded,
        on_failure=failed,
        on_lookup=None if counted is None else counted.looked_up,
    )
    return opened.catalog, asyncio.create_task(opened.follow(), name="catalog")


def readers_catalog(config: Config, catalog: Catalog, store_provider: Callable[[], Store]) -> Catalog:
    """
    Return *catalog* as readers need it.

    A process learns environments of a Flagsmith from senders that it meets itself: those of others it learns from the store.
    """
    if config.is_file_catalog:
        return catalog
    return RecordedEnvironments(catalog, store_provider, config.declared_policies.of)


def open_journal(config: Config) -> SqliteJournal:
    """Return the journal."""
    return SqliteJournal.open(
        config.data / "journal.db",
        max_bytes=config.journal_max_bytes,
        dedup_hours=config.dedup_hours,
        breath=_BREATH_SECONDS if config.fronts > 1 else 0.0,
    )


def journal_state(journal: SqliteJournal, max_bytes: int, position: int) -> JournalState:
    """Return how far a store that has applied entries up to *position* is behind the journal. Blocks."""
    waiting = journal.waiting(position)
    return JournalState(
        bytes=journal.lag().bytes,
        max_bytes=max_bytes,
        waiting_batches=waiting.entries,
        lag_seconds=waiting.oldest_age,
    )


def query_target(settings: ProcessSettings) -> str:
    """Return the gRPC target of the writer."""
    return f"unix:{settings.runtime}/query.sock"


def status_of(error: Exception) -> status_pb2.Status:
    """Return what a caller is told of *error*; of one that nobody foresaw only that it was logged."""
    if isinstance(error, FlagledgerError):
        return to_status(error)
    status = getattr(error, "status", None)
    if isinstance(status, status_pb2.Status):
        return status
    get_logger().error("a call failed", exc_info=error)
    return status_pb2.Status(code=code_pb2.INTERNAL, message="The server failed; its log says why.")
