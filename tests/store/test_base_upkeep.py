"""What every store does about what is to be forgotten: an identity, and what has been kept long enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.applied import SetAside
from flagledger.store.base import Store
from flagledger.store.columns import to_columns
from store import moved, stores
from store.stores import DAY
from support.records import START, add_evaluation, record_of, value_of

Open = Callable[..., Store]

MIDNIGHT = START // DAY * DAY
FUTURE = 1 << 52


def received(at: int, *identities: str | None, environment: str = "production") -> JournalRecord:
    """Return a record received *at* a time, with a discard and an evaluation of each of *identities*."""
    record = record_of(environment=environment, receive_time=at)
    record.envelope.discards.add(reason="unknown_feature", name="chekout", entry_count=2)
    for identity in identities:
        add_evaluation(record, identity_identifier=identity, value=value_of(f"{identity} {'x' * 5_000}"))
    return record


def drop(store: Store, before: int) -> int:
    """Drop what was received *before* a time, call after call until nothing is left of it, and return how much that was."""
    dropped = 0
    while more := store.drop_before(before):
        dropped += more
    return dropped


def identities(store: Store) -> list[str | None]:
    """Return the identities of all rows, those received first at the beginning."""
    rows = moved.content_of(store).rows
    return [row["identity_identifier"] for row in sorted(rows, key=lambda row: row["position"])]


@pytest.mark.parametrize("hours", [0, 1, 23])
def test_whole_days_are_dropped(store: Store, hours: int) -> None:
    """Days that have ended before the moment go, with their discards; what was received at it or later stays."""
    times = [MIDNIGHT - 3 * DAY, MIDNIGHT - DAY, MIDNIGHT - 1, MIDNIGHT + 23 * DAY // 24, MIDNIGHT + DAY]
    moved.apply(store, [received(at, str(number), None) for number, at in enumerate(times)])
    before = MIDNIGHT + hours * DAY // 24

    assert 3 * (2 + 1) == drop(store, before)
    assert ["3", None, "4", None] == identities(store)
    assert [4 << 16, 5 << 16] == [discard["position"] for discard in moved.content_of(store).discards]
    assert 0 == drop(store, before)


def test_nothing_that_was_received_later_is_dropped(store: Store) -> None:
    """Whatever a client says about the time of an evaluation, it is kept by its receipt."""
    record = received(MIDNIGHT)
    add_evaluation(record, time=0, identity_identifier="old")
    moved.apply(store, [record])

    assert 0 == drop(store, MIDNIGHT)
    assert ["old"] == identities(store)


def test_what_was_set_aside_outlives_nothing(store: Store) -> None:
    """An entry that was set aside is dropped by the moment at which it was."""
    moved.apply(store, [received(MIDNIGHT, "1"), b"broken"])
    drop(store, MIDNIGHT + DAY)
    assert (0, 1) == counts(store)
    drop(store, FUTURE)

    assert (0, 0) == counts(store)
    assert 2 == store.position("journal")


def counts(store: Store) -> tuple[int, int]:
    """Return how many rows and set-aside entries there are."""
    content = moved.content_of(store)
    return len(content.rows), len(content.set_aside)


def test_what_was_dropped_stays_away(open_store: Open) -> None:
    """After reopening nothing that was dropped is back, the position is where it was, and rows of that day are taken again."""
    store = open_store()
    moved.apply(store, [received(MIDNIGHT - DAY, "1"), received(MIDNIGHT, "2")])
    drop(store, MIDNIGHT)
    store.close()

    store = open_store()

    assert ["2"] == identities(store)
    assert 2 == store.position("journal")
    moved.apply(store, [received(MIDNIGHT - DAY, "3")], 3)
    assert ["2", "3"] == identities(store)


def test_an_identity_is_erased_everywhere(open_store: Open) -> None:
    """Its rows go from one environment, whatever day they are of, and the number of them is returned; all else stays."""
    store = open_store()
    records = [
        received(MIDNIGHT, "gone", "here", None, "gone"),
        received(MIDNIGHT + DAY, "gone", "GONE", "gone "),
        received(MIDNIGHT, "gone", environment="staging"),
    ]
    moved.apply(store, records, at_once=1)

    assert 3 == store.erase_identity("production", "gone")
    expected = ["here", None, "GONE", "gone ", "gone"]
    assert expected == identities(store)
    assert 0 == store.erase_identity("production", "gone")
    store.close()
    store = open_store()
    assert expected == identities(store)
    assert [2, 2, 2] == [discard["entry_count"] for discard in moved.content_of(store).discards]


def test_an_identity_is_erased_from_what_was_set_aside(store: Store) -> None:
    """An entry that was set aside and holds the identity in its environment goes; others stay as they are."""
    payloads = [
        record.SerializeToString() + b"\xff"
        for record in (
            received(MIDNIGHT, "gone"),
            received(MIDNIGHT, "gone", environment="staging"),
            received(MIDNIGHT, "gone too"),
        )
    ]
    nothing = to_columns([])
    for position, payload in enumerate(payloads, 1):
        apart = SetAside(position=position, payload=payload, description="broken")
        store.apply("journal", position, position, *nothing, (apart,))
    store.erase_identity("production", "gone")

    assert payloads[1:] == [entry.payload for entry in moved.content_of(store).set_aside]


def test_an_identity_may_be_called_anything(store: Store) -> None:
    """Quotes, wildcards and what SQL means something by are parts of a name."""
    names = ["it's", '"', "%", "_", "\\", "{x:String}", "%(x)s", "$1", "é😀", "a\nb", "null"]
    moved.apply(store, [received(MIDNIGHT, *names)])
    for name in names:
        assert 1 == store.erase_identity("production", name)

    assert [] == identities(store)


@pytest.mark.parametrize("kind", stores.shared_kinds(), indirect=True)
def test_a_reader_sees_what_is_gone(open_store: Open, kind: str, place: Path) -> None:
    """What was erased or dropped is gone for those who read beside the writer, too."""
    store = open_store()
    moved.apply(store, [received(MIDNIGHT - DAY, "1"), received(MIDNIGHT, "2", "3")])
    reader = stores.open_reader(kind, place)
    assert ["1", "2", "3"] == identities(reader)
    store.erase_identity("production", "3")
    drop(store, MIDNIGHT)

    assert ["2"] == identities(reader)
    reader.close()
