"""
Applies entries to a store until it is killed, and tells after each transaction how far it has come.

Usage: store_applier.py FILE EVALUATIONS_PER_ENTRY ENTRIES_PER_TRANSACTION
Prints `applied <position>`, or `trimmable <position>` after a checkpoint.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flagledger.journal.base import Entry
from flagledger.store.columns import to_columns
from flagledger.store.duckdb.store import DuckDBStore
from support.records import simple_entry


def main(path: Path, evaluations: int, entries: int) -> None:
    """Apply until killed."""
    store = DuckDBStore(path, checkpoint_seconds=0.05, checkpoint_rows=10**9)
    payload = simple_entry(1, evaluations).payload
    while True:
        first = store.position("journal") + 1
        last = first + entries - 1
        rows, discards = to_columns([Entry(position=position, payload=payload) for position in range(first, last + 1)])
        store.apply("journal", first, last, rows, discards)
        print("applied", last, flush=True)  # noqa: T201  # its way to talk
        store.maintain()
        print("trimmable", store.trimmable("journal"), flush=True)  # noqa: T201  # its way to talk


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
