from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from flagledger.store.applied import SetAside
from flagledger.store.columns import to_columns
from flagledger.store.errors import StoreError
from flagledger.store.postgres import erase
from flagledger.store.postgres.store import PostgresStore
from support.records import MALFORMED, START, add_evaluation, entries_of, record_of

Open = Callable[..., PostgresStore]


def record(
    store: PostgresStore,
    *identities: str | None,
    environment: str = "production",
    day: int = 0,
    traits: dict[str, str] | None = None,
) -> None:
    """Apply an entry with an evaluation for each of *identities*, all of which have *traits*."""
    entry = record_of(environment=environment, receive_time=START + day * 86_400_000_000)
    for identity in identities:
        add_evaluation(entry, **({} if identity is None else {"identity_identifier": identity}))
        for key, value in (traits or {}).items():
            entry.evaluations[-1].identity_traits.add(trait_key=key).trait_value.string_value = value
    position = store.position("journal") + 1
    store.apply("journal", position, position, *to_columns(entries_of([entry], position)))


def set_aside(store: PostgresStore, identity: str, environment: str = "production") -> None:
    """Apply an entry that could not be read and holds *identity*."""
    entry = record_of(environment=environment)
    add_evaluation(entry, identity_identifier=identity)
    position = store.position("journal") + 1
    apart = SetAside(position=position, payload=entry.SerializeToString() + MALFORMED, description="")
    store.apply("journal", position, position, *to_columns([]), (apart,))


def test_the_rows_of_an_identity_go_and_no_others(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """An identity is erased in its environment, on every day; similar ones, others and none stay."""
    record(store, "ann", "Ann", "ann ", None, "")
    record(store, "ann", "bob", day=1)
    record(store, "ann", environment="staging")

    assert 2 == store.erase_identity("production", "ann")
    left = administrator.execute(
        "SELECT environment, identity_identifier FROM evaluations ORDER BY position"
    ).fetchall()
    assert [*(("production", name) for name in ("Ann", "ann ", None, "", "bob")), ("staging", "ann")] == left
    assert 0 == store.erase_identity("production", "ann")
    assert 1 == store.erase_identity("production", "")


def test_what_was_set_aside_goes_where_it_holds_the_identity(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """Entries that could not be read go where the identity and the environment stand in them, long ones too."""
    long = "é" * 1_000
    for name, environment in (("ann", "production"), (long, "production"), ("ann", "staging"), ("anna", "production")):
        set_aside(store, name, environment)
    assert 0 == store.erase_identity("production", "ann")
    assert 0 == store.erase_identity("production", long)

    assert [(3,), (4,)] == administrator.execute("SELECT position FROM quarantine ORDER BY position").fetchall()


def test_an_identity_that_no_row_can_hold_is_none(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """U+0000 is in no row; what was set aside may hold it."""
    record(store, "a")
    set_aside(store, "a\0b")

    assert 0 == store.erase_identity("production", "a\0b")
    assert [] == administrator.execute("SELECT position FROM quarantine").fetchall()
    assert [(1,)] == administrator.execute("SELECT count(*) FROM evaluations").fetchall()


def test_space_is_cleared(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """When the call returns, the file of a partition that was all of the identity's is empty; nothing is left to clear."""
    record(store, *["ann"] * 500)
    record(store, *["ann"] * 400, *["bob"] * 100, day=1)
    assert 900 == store.erase_identity("production", "ann")

    first, second = administrator.execute(
        "SELECT pg_relation_size(inhrelid) FROM pg_inherits WHERE inhparent = 'evaluations'::regclass ORDER BY inhrelid"
    ).fetchall()
    assert 0 == first[0]
    assert 0 < second[0]
    assert [] == administrator.execute("SELECT name FROM unvacuumed").fetchall()


def test_statistics_hold_nothing_of_identities(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """The planner's samples, of the table and of each day, hold names of features, but nothing of identities or traits."""
    record(store, *["ann"] * 500, traits={"mail": "ann"})
    administrator.execute("ANALYZE evaluations")

    def samples_with(text: str) -> int:
        found = administrator.execute(
            "SELECT tablename FROM pg_stats WHERE schemaname = current_schema() "
            "AND strpos(concat(most_common_vals, histogram_bounds), %s) > 0",
            (text,),
        )
        return len(found.fetchall())

    assert 2 == samples_with("checkout")
    assert 0 == samples_with("ann")


def test_what_was_left_undone_is_done_at_the_next_order(
    store: PostgresStore, administrator: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the process ended between deletion and clearing, whoever orders again has it cleared, although no row is found."""
    record(store, *["ann"] * 500)

    def fail(_: object) -> None:
        raise StoreError("ended")

    with monkeypatch.context() as patched:
        patched.setattr(erase, "vacuum", fail)
        with pytest.raises(StoreError):
            store.erase_identity("production", "ann")
    size = "SELECT sum(pg_relation_size(inhrelid))::int FROM pg_inherits WHERE inhparent = 'evaluations'::regclass"
    assert [(0,)] != administrator.execute(size).fetchall()
    assert 0 == store.erase_identity("production", "ann")

    assert [(0,)] == administrator.execute(size).fetchall()


def test_a_partition_that_is_gone_needs_no_clearing(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """What was to be cleared and was dropped since then holds up no order."""
    administrator.execute("INSERT INTO unvacuumed VALUES ('evaluations_20200101')")

    assert 0 == store.erase_identity("production", "ann")
    assert [] == administrator.execute("SELECT name FROM unvacuumed").fetchall()
