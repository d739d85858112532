"""
Applies to a chDB store in a process of its own, which dies where it is told to; run by test_killed.py.

```text
killed.py apply DIRECTORY POINT     begin a store, apply three entries, and die at POINT of applying forty more
killed.py resend DIRECTORY          open what was left, say what there is, apply what was begun, and say what there is then
```
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from flagledger.store.applied import SetAside
from flagledger.store.clickhouse import chunks, inserting
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.columns import to_columns
from support.records import START, add_evaluation, entries_of, record_of

DAY = 86_400_000_000
KNOWN = 3
LAST = 43
ROWS = 20
"""Rows of each entry; of those behind `KNOWN`, each is received on a day of its own."""

Point = Callable[[], None]


def die() -> None:
    """End this process as if its power had been cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def columns(first: int, last: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Return what entries *first* to *last* become."""
    records = []
    for position in range(first, last + 1):
        record = record_of(batch_id=f"batch-{position}", receive_time=START + position * DAY)
        record.envelope.discards.add(reason="unknown_feature", name=f"name-{position}", entry_count=position)
        for index in range(ROWS):
            add_evaluation(record, time=START + position * DAY + index, identity_identifier=f"{position}/{index}")
        records.append(record)
    return to_columns(entries_of(records, first))


def apply(store: ClickHouseStore, first: int, last: int) -> None:
    """Apply entries *first* to *last*, and one that is set aside."""
    apart = SetAside(position=last, payload=b"\xff\x00", description="unreadable")
    store.apply("journal", first, last, *columns(first, last), (apart,))


def state(store: ClickHouseStore) -> dict[str, Any]:
    """Return what is in the tables, and what of it questions see."""
    with store._reading(None) as reader:
        counts = {
            table: reader.query(f"SELECT count(), uniqExact(position) FROM {table}")[0]
            for table in ("evaluations", "discards", "quarantine")
        }
        ((seen,),) = reader.query(
            "SELECT count() FROM evaluations WHERE position <= {visible:Int64}", {"visible": reader.visible}
        )
    return {
        "position": store.position("journal"),
        "begun": store.begun("journal"),
        "seen": seen,
        "counts": counts,
        "features": [total.evaluation_count for total in store.list_features("production", None, None).totals],
    }


def die_at(point: str) -> None:
    """Have this process die at *point*: before or after a step, or before or after the insert into a table."""
    when, _, what = point.partition(" ")
    save, insert = chunks.save, inserting.insert

    def saving(client: Any, progress: chunks.Progress, writer: str) -> None:
        around("boundary" if progress.begun else "commit", lambda: save(client, progress, writer))

    def inserting_(client: Any, table: str, batch: pa.RecordBatch, begun: chunks.Begun) -> None:
        around(table, lambda: insert(client, table, batch, begun))

    def around(name: str, do: Point) -> None:
        if (when, what) == ("before", name):
            die()
        do()
        if (when, what) == ("after", name):
            die()

    chunks.save = saving
    inserting.insert = inserting_


def main() -> None:
    """Do what the arguments say."""
    store = ClickHouseStore(f"chdb:{sys.argv[2]}")
    if sys.argv[1] == "apply":
        apply(store, 1, KNOWN)
        with store._reading(None) as reader:
            ((data,),) = reader.query(
                "SELECT data_paths[1] FROM system.tables WHERE database = currentDatabase() AND name = 'evaluations'"
            )
        # Whoever started this may watch what comes into that folder.
        sys.stdout.write(f"{data}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        die_at(sys.argv[3])
        apply(store, KNOWN + 1, LAST)
        return
    before = state(store)
    apply(store, KNOWN + 1, LAST)
    apply(store, KNOWN + 1, LAST)
    sys.stdout.write(json.dumps({"before": before, "after": state(store)}))
    store.close()


if __name__ == "__main__":
    main()
