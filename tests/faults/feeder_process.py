"""
Records entries and feeds their counts into an InfluxDB until everything was sent, or until it is killed.

Usage: feeder_process.py URL FOLDER ENTRIES [STEPS]
Records up to so many entries, some at a time, beside the feeder; goes on where a killed one was. Prints `feeding` once it does,
and `done` when all was sent. With STEPS it kills itself behind so many of the feeder's steps: each fsync, each rename and each
post is two, one before it and one behind.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flagledger.feeder import Feeder
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.influxdb.connection import Connection
from flagledger.store.sink_progress import ProgressFile
from flagledger.store.sinks import open_sink
from support import fed


class Killer:
    """Kills this process behind so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        for owner, name in ((os, "fsync"), (os, "replace"), (Connection, "post")):
            setattr(owner, name, self._around(getattr(owner, name)))

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any) -> Any:
            self._step()
            answer = call(*arguments)
            self._step()
            return answer

        return around

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, folder: Path, entries: int, steps: int | None = None) -> None:
    """Feed until all was sent."""
    store = DuckDBStore(folder / "store.duckdb")
    if steps is not None:
        # Everything is there from the start, so that steps are those of the feeder alone, and always the same ones.
        record(store, entries, 0.0)
        Killer(steps)
    sink = open_sink(url)
    feeder = Feeder(
        sink,
        lambda: store,
        fed.STREAM,
        folder / "sink.json",
        range_entries=5,
        pause_seconds=0.01,
        first_backoff_seconds=0.05,
    )
    feeder.start()
    print("feeding", flush=True)  # noqa: T201  # its way to talk
    record(store, entries, 0.01)
    progress = ProgressFile(folder / "sink.json", fed.STREAM, sink.target)
    while progress.load().position < entries:
        time.sleep(0.01)
    feeder.stop()
    store.close()
    print("done", flush=True)  # noqa: T201  # its way to talk


def record(store: DuckDBStore, entries: int, pause: float) -> None:
    """Record what is missing up to entry *entries*."""
    while (position := store.position(fed.STREAM)) < entries:
        fed.apply(store, position + 1, min(position + 2, entries))
        time.sleep(pause)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
