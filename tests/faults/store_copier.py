"""
Copies one store into another in ranges of few entries, and tells after each how far it is.

Usage: store_copier.py FROM_KIND FROM_PLACE TO_KIND TO_PLACE ENTRIES_PER_RANGE
Prints `<phase> <position>` after each range, and `copied <evaluations> <checksum>` in the end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flagledger.store.applied import Applied
from flagledger.store.base import Store
from flagledger.store.copying import Step, copy, open_source, up_to
from flagledger.store.errors import HeldError
from flagledger.store.opening import open_store
from store import stores

_OPEN_SECONDS = 60.0


class InRanges:
    """A store that gives what it holds in ranges of so many entries."""

    def __init__(self, store: Store, entries: int) -> None:
        self._store, self._entries = store, entries

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def applied(self, after: int) -> Iterator[Applied]:
        """Yield ranges behind *after*."""
        known = self._store.stream()
        end = known.position if known else 0
        for behind in range(after, end, self._entries):
            yield up_to(next(iter(self._store.applied(behind))), min(behind + self._entries, end))


def main(source_kind: str, source_place: Path, target_kind: str, target_place: Path, entries: int) -> None:
    """Copy."""
    source = open_source(stores.url_of_process(source_kind, source_place))
    deadline = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            target = open_store(stores.url_of_process(target_kind, target_place))
            break
        except HeldError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)

    def tell(step: Step) -> None:
        print(step.phase.replace(" ", "-"), step.position, flush=True)  # noqa: T201  # its way to talk

    done = copy(InRanges(source, entries), target, tell)  # type: ignore[arg-type]
    print("copied", done.counts["evaluations"], done.checksum, flush=True)  # noqa: T201  # its way to talk
    target.close()
    source.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
