"""
The feeder: reads counts back out of the store, by position, and sends them on into a sink.

```text
store.tally(behind its own position) ─▶ the beginning of the range into its file ─▶ sink.send ─▶ the end of it into its file
```

It stands beside the writer and never in its way: while the sink is away its position stands still, and what is recorded waits
in the store, where nothing of it is lost but what outlives its retention there. Nothing is skipped, and nothing counts twice:
a range that may have been sent is sent again as the very same points (see `store.sink_progress`). What is erased in the store
before it was sent is not sent; counts that were sent stay, and say nothing of whom.

A range is sent as soon as there is something, once a second at most; ranges that were waited for follow one another at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa

from flagledger.store.base import Store
from flagledger.store.errors import Interrupt, StoreError
from flagledger.store.sink_progress import Progress, ProgressFile
from flagledger.store.sinks import Sent, Sink, SinkError
from flagledger.telemetry.counting import FeederMetrics, NullFeederMetrics
from flagledger.telemetry.logging import Sparing, get_logger

PAUSE_SECONDS: Final = 1.0
RANGE_ENTRIES: Final = 4_096
RANGE_LINES: Final = 50_000
# A range that comes to less than one in so many of those lines may be followed by one twice as wide.
_ROOMY: Final = 4
FIRST_BACKOFF_SECONDS: Final = 0.5
MAX_BACKOFF_SECONDS: Final = 30.0
STOP_SECONDS: Final = 2.0

_NANOSECONDS: Final = 1_000_000_000
_WAITING: Final = "counts cannot be sent on; they wait"


_NULL_METRICS: Final = NullFeederMetrics()


class Feeder:
    """
    The loop from store to sink, in a thread of its own.

    Args:
        sink: Where counts are sent; closed when the feeder stops.
        store: Returns the store, or raises StoreError while there is none: then it is waited for.
        stream: Identity of the journal.
        progress: The file in which it keeps how far it has come, in a folder that is there.
        metrics: What counts.
        pause_seconds: Seconds from the beginning of one range to that of the next, where nothing waits.
        range_entries: Entries of a range at most.
        range_lines: Rows that a range of more than one entry may come to.
        first_backoff_seconds: Seconds after which a first failure is followed by another attempt; they double up to 30.

    Attributes:
        failures: Attempts that failed in this object's life.
        refused_lines: Lines that the sink will never take, in this object's life.
        last_error: Sentence about the attempt that failed last; None once one has succeeded again.
    """

    def __init__(
        self,
        sink: Sink,
        store: Callable[[], Store],
        stream: str,
        progress: Path,
        *,
        metrics: FeederMetrics = _NULL_METRICS,
        pause_seconds: float = PAUSE_SECONDS,
        range_entries: int = RANGE_ENTRIES,
        range_lines: int = RANGE_LINES,
        first_backoff_seconds: float = FIRST_BACKOFF_SECONDS,
    ) -> None:
        self.failures = 0
        self.refused_lines = 0
        self.last_error: str | None = None
        self._sink = sink
        self._store = store
        self._stream = stream
        self._file = ProgressFile(progress, stream, sink.target)
        self._metrics = metrics
        self._pause_seconds = pause_seconds
        self._range_entries = range_entries
        self._range_lines = range_lines
        self._width = range_entries
        self._first_backoff_seconds = first_backoff_seconds
        # Two journals that feed one database must not overwrite each other's points.
        self._shift = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "big")
        self._progress: Progress | None = None
        self._log = Sparing()
        self._interrupt = Interrupt()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="feeder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """
        End the loop. Blocks for 2 s at most; may be called twice.

        A post that is not answered in that time is left to itself: its range was begun, and is sent again by whoever is next.
        """
        self._stopping.set()
        self._sink.close()
        deadline = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._interrupt.ask()
            self._thread.join(0.05)

    def run(self) -> None:
        """Run the loop in the calling thread until `stop`; `start` runs it in its own."""
        backoff = self._first_backoff_seconds
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                more = self._step()
            except Exception as error:  # noqa: BLE001  # the loop outlives whatever an attempt runs into
                pause = self._failed(error, backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)
                self._stopping.wait(pause)
                continue
            backoff = self._first_backoff_seconds
            if not more:
                self._stopping.wait(max(began + self._pause_seconds - time.monotonic(), 0.0))

    def _step(self) -> bool:
        """Send the next range, where there is one; return whether there is another."""
        progress = self._progress = self._progress or self._file.load()
        store, position = self._reach()
        if store is None:
            return False
        self._metrics.behind(max(position - progress.position, 0))
        if position < (progress.begun or progress.position):
            # It lost its log, and applies what it held once more; or it was put back as it was before.
            self._log.warning(
                "the store is behind what the sink was sent; what it applies up to there is not sent again",
                store=position,
                sink=progress.begun or progress.position,
            )
            return False
        if position == progress.position:
            self._succeeded()
            return False
        progress = self._send(store, progress, position)
        self._metrics.behind(position - progress.position)
        return progress.position < position

    def _reach(self) -> tuple[Store | None, int]:
        """Return the store and how far its entries have been applied; None while it cannot say."""
        try:
            store = self._store()
            stream = store.stream()
        except StoreError:
            # Whoever opens the store says what is wrong with it.
            return None, 0
        if stream is None or stream.identity != self._stream:
            return None, 0
        return store, stream.position

    def _send(self, store: Store, progress: Progress, position: int) -> Progress:
        """Send the range that was begun, or the first one up to *position*; return how far that has come."""
        after = progress.position
        last = progress.begun or min(after + self._width, position)
        counts = self._tally(store, after, last, begun=progress.begun is not None)
        while progress.begun is None and counts.num_rows > self._range_lines and last > after + 1:
            # What comes behind it is likely to be as much: the next range begins as small.
            self._width = (last - after) // 2
            last = after + self._width
            counts = self._tally(store, after, last, begun=False)
        if counts.num_rows < self._range_lines // _ROOMY:
            self._width = min(self._width * 2, self._range_entries)
        if counts.num_rows:
            if progress.begun is None:
                progress = Progress(position=after, begun=last, memory=self._sink.learn(counts, progress.memory))
                self._keep(progress)
            self._count(self._sink.send(counts, progress.memory, (self._shift + after + 1) % _NANOSECONDS))
        sent = Progress(position=last, memory=progress.memory)
        if progress.begun is None:
            # Nothing was there to send: whoever forgets that finds out again.
            self._progress = sent
        else:
            self._keep(sent)
        self._succeeded()
        return sent

    def _tally(self, store: Store, after: int, last: int, *, begun: bool) -> pa.Table:
        """Return what a range comes to; of one that may still be made smaller no more than tells that it must be."""
        whole = begun or last == after + 1
        return store.tally(after, last, self._interrupt, None if whole else self._range_lines + 1)

    def _keep(self, progress: Progress) -> None:
        self._file.save(progress)
        self._progress = progress

    def _count(self, sent: Sent) -> None:
        self._metrics.sent(sent.taken, sent.refused)
        if sent.refused:
            self.refused_lines += sent.refused
            self._log.warning(
                "the sink refuses counts for good; they are left out there",
                sink=self._sink.target,
                lines=self.refused_lines,
                reason=sent.reason,
            )

    def _succeeded(self) -> None:
        if self.last_error is not None:
            self.last_error = None
            get_logger().info("the sink takes counts again", sink=self._sink.target)

    def _failed(self, error: Exception, backoff: float) -> float:
        """Note that an attempt has failed; return after how many seconds to make the next."""
        if self._stopping.is_set():
            return 0.0
        pause = backoff
        if isinstance(error, SinkError):
            pause = MAX_BACKOFF_SECONDS if error.lasting else error.retry_after or backoff
        elif isinstance(error, StoreError) and error.temporary:
            # It was closed, or is being opened again: as any moment without a store.
            pause = min(backoff, self._pause_seconds)
        if str(error) != self.last_error:
            self._log.renew(_WAITING)
        self.last_error = str(error)
        self.failures += 1
        # The loop goes on even where nobody can be told.
        with contextlib.suppress(Exception):
            self._metrics.sink_failed()
            known = isinstance(error, SinkError | StoreError)
            self._log.warning(_WAITING, error=str(error), exc_info=None if known else error)
        return pause
