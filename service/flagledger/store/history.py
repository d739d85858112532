"""Whether a journal and a store have one history: copies of a journal have one name, and go different ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from flagledger.journal.base import Entry
from flagledger.store.base import Store
from flagledger.store.columns import INDEX_BITS, ConversionError, to_columns
from flagledger.store.errors import OtherJournalError

LOOK_BACK: Final = 32
"""Entries that are compared at most."""


def check(store: Store, entries: Sequence[Entry]) -> None:
    """
    Check that the store holds of *entries* what they say, as far as it still holds anything of them.

    An entry is known by when it was received, to the microsecond: what another service took in under the same position differs.

    Args:
        store: What has applied them.
        entries: Of the journal, by position, up to the store's position; some `LOOK_BACK` of them.

    Raises:
        OtherJournalError: It holds something else at one of their positions.
    """
    if not entries:
        return
    held: dict[int, int] = {}
    for applied in store.applied(entries[0].position - 1):
        held |= _received(applied.rows) | _received(applied.discards)
    for entry in entries:
        received = _received_of(entry)
        if received is not None and held.get(entry.position, received) != received:
            raise OtherJournalError(
                f"The store holds at position {entry.position} what another service has recorded, under a copy of this journal: "
                "both have taken evaluations in. Nothing of this journal is applied, and nothing of it is lost: give it a store "
                "of its own, or copy what it holds once it has one."
            )


def _received(batch: pa.RecordBatch) -> dict[int, int]:
    """Return when each entry was received, in microseconds since the epoch."""
    positions = batch.column("position").to_pylist()
    return {
        position >> INDEX_BITS: time
        for position, time in zip(positions, batch.column("receive_time").cast(pa.int64()).to_pylist(), strict=True)
    }


def _received_of(entry: Entry) -> int | None:
    """Return when *entry* was received; None where it comes to nothing that a store would hold."""
    try:
        rows, discards = to_columns([entry])
    except ConversionError:
        return None
    return (_received(rows) | _received(discards)).get(entry.position)
