"""
Exports: the store's batches as pieces of a file.

An export is read one step at a time, in threads of its own, so that exports never take those of questions. Between two steps it
waits for its reader and holds no thread, but what it has read in memory, up to some hundred MiB; hence the limit on how many are
open. One more is refused and not kept waiting: nobody knows how long readers take.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, TypeVar

import pyarrow as pa
from google.api import httpbody_pb2

from flagledger.errors import FieldViolation, FlagledgerError, Reason
from flagledger.query.export_formats import Format
from flagledger.query.requests import refuse
from flagledger.query.threads import Threads, end
from flagledger.store.base import Store
from flagledger.store.errors import Interrupt, StoreError
from flagledger.store.questions import Filter
from flagledger.telemetry.logging import Sparing

LAST_POSITION_METADATA: Final = "x-last-position"
PIECE_BYTES: Final = 1 << 20

_THREADS: Final = 2
_RETRY_SECONDS: Final = 10.0
MAX_OPEN: Final = 8
"""Exports that are under way at the same time."""

# Positions are signed in the store.
_MAX_POSITION: Final = (1 << 63) - 1

_T = TypeVar("_T")


class Exports:
    """
    Reads exports out of the store.

    Args:
        store_provider: Returns the store, or raises StoreError while there is none.
        threads: Exports that are worked on at the same time.
        open_: Exports that are under way at the same time, those included that wait for their readers; more are refused.
    """

    def __init__(self, store_provider: Callable[[], Store], *, threads: int = _THREADS, open_: int = MAX_OPEN) -> None:
        self._store_provider = store_provider
        self._log = Sparing()
        self._threads = Threads("export", threads)
        self._most = open_
        self._open = 0

    def close(self) -> None:
        """End every export that is left, and the threads."""
        self._threads.close()

    async def pieces(
        self,
        filter: Filter,  # noqa: A002  # the field's own word
        after_position: int,
        format: Format,  # noqa: A002  # the field's own word
        context: Any,
    ) -> AsyncGenerator[httpbody_pb2.HttpBody, None]:
        """
        Yield the file, one piece at least, in pieces of at most `PIECE_BYTES`; before the first one its last position is sent.

        Raises:
            FlagledgerError: CALLS_IN_FLIGHT where too many exports are under way; STORE_UNAVAILABLE where the store cannot be
                read, or not to its end.
        """
        if self._open >= self._most:
            raise FlagledgerError(
                Reason.CALLS_IN_FLIGHT,
                f"There are {self._open} exports under way, as many as are made at a time.",
                retry_after=_RETRY_SECONDS,
            )
        self._open += 1
        export = _Export(self._store_provider, filter, min(after_position, _MAX_POSITION), format)
        try:
            last_position = await self._step(export.begin, export.interrupt)
            await context.send_initial_metadata(((LAST_POSITION_METADATA, str(last_position)),))
            while (piece := await self._step(export.next_piece, export.interrupt)) is not None:
                yield httpbody_pb2.HttpBody(content_type=format.content_type, data=piece)
        finally:
            self._open -= 1
            # In a thread, where it may wait for a step that nobody waits for any more.
            with suppress(StoreError):
                end(self._threads.submit(export.close, export.interrupt), export.interrupt)

    async def _step(self, work: Callable[[], _T], interrupt: Interrupt) -> _T:
        try:
            step: Future[_T] = self._threads.submit(work, interrupt)
            return await asyncio.wrap_future(step)
        except StoreError as error:
            self._log.warning("an export broke off", error=str(error))
            raise FlagledgerError(
                Reason.STORE_UNAVAILABLE,
                "What was recorded cannot be read at the moment, or not to its end; the file is incomplete. Begin again.",
            ) from error


class _Export:
    """One export, read from one thread at a time."""

    def __init__(
        self, store_provider: Callable[[], Store], filter_: Filter, after_position: int, format_: Format
    ) -> None:
        self.interrupt = Interrupt()
        self._store_provider = store_provider
        self._filter = filter_
        self._after_position = after_position
        self._format = format_
        self._lock = threading.Lock()
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._pieces: Generator[bytes, None, None] | None = None

    def begin(self) -> int:
        """
        Ask the store and return the position up to which the export goes.

        Raises:
            FlagledgerError: QUERY_INVALID where it would begin behind all that there is.
        """
        with self._lock:
            export = self._store_provider().export(self._filter, self._after_position, self.interrupt)
            if self._after_position > export.last_position:
                refuse(
                    [
                        FieldViolation(
                            field="after_position",
                            description=f"lies behind {export.last_position}, the last that there is: it is of another server, "
                            "or mistyped",
                        )
                    ]
                )
            self._batches = export.batches
            self._pieces = _cut(self._format.encode(export.batches))
            return export.last_position

    def next_piece(self) -> bytes | None:
        """Return the next piece; None at the end."""
        with self._lock:
            return None if self._pieces is None else next(self._pieces, None)

    def close(self) -> None:
        """Let go of what is being read, once no step is under way."""
        with self._lock:
            if self._pieces is not None:
                self._pieces.close()
            if isinstance(self._batches, Generator):
                self._batches.close()


def _cut(file: Generator[memoryview, None, None]) -> Generator[bytes, None, None]:
    """Yield *file* in pieces of at most `PIECE_BYTES`; an empty one as one piece, since its content type goes with it."""
    empty = True
    try:
        for content in file:
            for start in range(0, len(content), PIECE_BYTES):
                empty = False
                yield bytes(content[start : start + PIECE_BYTES])
    finally:
        file.close()
    if empty:
        yield b""
