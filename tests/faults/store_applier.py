"""
Applies entries to a store until it is killed, and tells after each range how far it has come; or looks at what is there.

Usage: store_applier.py KIND PLACE EVALUATIONS_PER_ENTRY ENTRIES_PER_RANGE [look]
Prints `applied <position>`, and `trimmable <position>` after maintenance; or `<position> <rows> <distinct positions>`.

Entries are received on several days in turn: where a store keeps days apart, rows of a range are in as many parts.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from flagledger.journal.base import Entry
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.errors import HeldError, OverlapError
from flagledger.store.opening import open_store
from store import stores
from support.records import START, add_evaluation, record_of

DAYS = 5
_OPEN_SECONDS = 60.0


def main(kind: str, place: Path, evaluations: int, entries: int, *, look: bool) -> None:
    """Apply until killed, or look."""
    payloads = [payload(day, evaluations) for day in range(DAYS)]
    store = opened(kind, place)
    finish(store, payloads)
    if look:
        probe(store, payloads, entries)
        print(*found(store), flush=True)  # noqa: T201  # its way to talk
        store.close()
        return
    while True:
        first = store.position("journal") + 1
        apply(store, payloads, first, first + entries - 1)
        print("applied", first + entries - 1, flush=True)  # noqa: T201  # its way to talk
        store.maintain()
        print("trimmable", store.trimmable("journal"), flush=True)  # noqa: T201  # its way to talk


def opened(kind: str, place: Path) -> Store:
    """Open the store, once the one that was killed is known to be gone."""
    deadline = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            if kind == "duckdb":
                return DuckDBStore(place, checkpoint_seconds=0.05, checkpoint_rows=10**9)
            return open_store(stores.url_of_process(kind, place))
        except HeldError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def payload(day: int, evaluations: int) -> bytes:
    """Return a record that was received on a day."""
    record = record_of(receive_time=START + day * stores.DAY)
    for number in range(evaluations):
        add_evaluation(record, time=START + number, identity_identifier=str(number), enabled=True)
    return record.SerializeToString()


def apply(store: Store, payloads: list[bytes], first: int, last: int) -> None:
    """Apply entries *first* to *last*."""
    entries = [Entry(position=position, payload=payloads[position % DAYS]) for position in range(first, last + 1)]
    store.apply("journal", first, last, *to_columns(entries))


def finish(store: Store, payloads: list[bytes]) -> None:
    """Apply what was begun, as it was."""
    begun = store.begun("journal")
    if begun is not None:
        apply(store, payloads, store.position("journal") + 1, begun)


def probe(store: Store, payloads: list[bytes], entries: int) -> None:
    """Apply again what was applied, whole and in part, and what begins in it: nothing of it is recorded."""
    position = store.position("journal")
    apply(store, payloads, max(position - entries + 1, 1), position)
    apply(store, payloads, position, position)
    try:
        apply(store, payloads, position, position + 1)
    except OverlapError:
        return
    raise AssertionError("an overlap was taken")


def found(store: Store) -> tuple[int, int, int]:
    """Return the position, how many rows there are, and how many distinct positions they have."""
    position = store.position("journal")
    positions = [each for part in store.applied(0) for each in part.rows.column("position").to_pylist()]
    return position, len(positions), len(set(positions))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), look=sys.argv[5:] == ["look"])
