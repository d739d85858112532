from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import pytest
from flagledger.store.applied import SetAside, Stream
from flagledger.store.columns import to_columns
from flagledger.store.errors import RowsRefusedError, StoreError
from flagledger.store.postgres import store as store_module
from flagledger.store.postgres.store import PostgresStore
from flagledger.store.value_keys import long_key
from store.postgres.applying import EVALUATIONS, apply, expected_identities, identities
from support.postgres import PostgresServer, fresh_store_url, postgres_server
from support.records import START, add_evaluation, entries_of, record_of, value_of

Open = Callable[..., PostgresStore]

KILLS: Final = 10


def test_committed_is_trimmable(store: PostgresStore) -> None:
    """What was applied is durable, and the journal may be trimmed up to it at once."""
    apply(store, 1, 3)

    assert 3 == store.trimmable("journal")
    assert store.begun("journal") is None


def test_a_reader_knows_the_journal_and_writes_nothing(open_store: Open) -> None:
    """A store that was opened for questions alone says how far the writer has come, and refuses all that is the writer's."""
    store, reader = open_store(), open_store(read_only=True)
    assert reader.stream() is None
    apply(store, 1, 2)

    assert Stream(identity="journal", position=2) == reader.stream()
    for call in (
        lambda: reader.position("journal"),
        lambda: reader.begun("journal"),
        lambda: reader.check_reach("journal", 1),
        lambda: apply(reader, 3, 3),
        lambda: reader.trimmable("journal"),
        reader.checkpoint,
        reader.maintain,
        lambda: reader.erase_identity("production", "1/0"),
        lambda: reader.drop_before(1 << 52),
    ):
        with pytest.raises(StoreError, match="for questions alone"):
            call()


def test_rows_arrive_as_they_were(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """Every column of a row is in the table: empty and missing texts apart, lists, extreme times, keys of long texts."""
    record = record_of(batch_id="batch", receive_time=START)
    record.envelope.sample_rate = 0.5
    long = '"' + "é" * 5_000 + '"'
    add_evaluation(
        record,
        time=-62_135_596_800_000_000,
        value=value_of("é" * 5_000),
        identity_identifier="",
        segment_names=["", 'a"b,{}', "😀"],
        variant="on",
        count=2**32 - 1,
    )
    add_evaluation(record, time=253_402_300_799_999_999, enabled=False)
    store.apply("journal", 1, 1, *to_columns(entries_of([record])))

    administrator.execute("SET TimeZone = 'UTC'")
    first, second = administrator.execute(
        """
        SELECT position, environment, feature_name, enabled, value, value_key, evaluation_time, identity_identifier,
            identity_hash = hashtextextended('', 0), identity_traits, segment_names, variant, reason, metadata, count, batch_id,
            extract(epoch FROM receive_time) * 1000000, origin, sdk_name, sdk_version, sample_rate
        FROM evaluations ORDER BY position
        """.replace("evaluation_time,", "evaluation_time::text,")
    ).fetchall()

    shared = ("production", "checkout")
    end = ("batch", START, 1, "", "", 0.5)
    earliest, latest = "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"
    texts = (["", 'a"b,{}', "😀"], "on", "", None, 2**32 - 1)
    assert (1 << 16, *shared, None, long, long_key(long), earliest, "", True, None, *texts, *end) == first
    assert ((1 << 16) + 1, *shared, False, None, None, latest, None, None, None, [], "", "", None, 1, *end) == second


def test_a_batch_is_sent_in_pieces(
    store: PostgresStore, administrator: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large batch is made into several pieces of one stream, none of which is lost or sent twice."""
    monkeypatch.setattr(store_module, "PIECE_BYTES", 1_000)
    apply(store, 1, 100)

    assert expected_identities(100) == identities(administrator)


def test_text_that_postgres_cannot_hold_is_refused(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """U+0000 is in the rows, so that they are refused for good; nothing of them was applied, and what follows is."""
    record = record_of()
    add_evaluation(record, identity_identifier="a\0b")
    with pytest.raises(RowsRefusedError):
        store.apply("journal", 1, 1, *to_columns(entries_of([record])))
    assert 0 == store.position("journal")
    nothing = to_columns([])
    store.apply("journal", 1, 1, *nothing, (SetAside(position=1, payload=b"\0", description="a\0\ud800b"),))
    record.evaluations[0].identity_identifier = "1/0"
    record.envelope.discards.add(reason="a\0b")
    with pytest.raises(RowsRefusedError):
        store.apply("journal", 2, 2, *to_columns(entries_of([record], 2)))
    store.apply("journal", 2, 2, *to_columns([]))

    assert [] == identities(administrator)
    assert [(1, b"\0", "a�?b")] == administrator.execute(
        "SELECT position, payload, description FROM quarantine"
    ).fetchall()


def test_a_missing_partition_is_no_fault_of_the_rows(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """A partition that somebody dropped is made again at the next attempt; the rows are not given up for it."""
    apply(store, 1, 1)
    administrator.execute("DROP TABLE evaluations_20260921")
    with pytest.raises(StoreError) as refusal:
        apply(store, 2, 2)
    assert refusal.value.temporary
    apply(store, 2, 2)

    assert expected_identities(2)[EVALUATIONS:] == identities(administrator)


def test_a_position_that_somebody_else_moved_is_noticed(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """Whoever gets past the lock applies nothing where it does not know the position; then it knows it."""
    apply(store, 1, 1)
    administrator.execute("UPDATE streams SET position = 5")
    with pytest.raises(StoreError, match="moved") as refusal:
        apply(store, 2, 2)

    assert refusal.value.temporary
    assert 5 == store.position("journal")
    assert expected_identities(1) == identities(administrator)


def test_gaps_that_were_accepted_are_on_record(open_store: Open, administrator: psycopg.Connection[Any]) -> None:
    """Which entries are known to be lost stands in the database."""
    apply(open_store(accept_gap="1-4"), 5, 5)

    assert [("journal", 1, 4)] == administrator.execute("SELECT stream, first, last FROM gaps").fetchall()


def test_a_lost_connection_is_made_again(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """A connection that the server ended costs one attempt; the next is made over another one that has the lock again."""
    apply(store, 1, 1)
    _end_connections(administrator, "writer")
    with pytest.raises(StoreError) as refusal:
        apply(store, 2, 2)
    assert refusal.value.temporary
    apply(store, 2, 2)

    assert expected_identities(2) == identities(administrator)
    assert 1 == _locks(administrator)


@pytest.mark.parametrize("what", ["erase", "drop"])
def test_a_connection_that_is_lost_otherwise_is_made_again(
    what: str, store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """Whatever finds the connection lost fails once, and so for no longer than the server is away."""
    call = {"erase": lambda: store.erase_identity("production", "1/0"), "drop": lambda: store.drop_before(1 << 60)}[
        what
    ]
    apply(store, 1, 1)
    _end_connections(administrator, "writer")
    with pytest.raises(StoreError):
        call()

    assert 1 <= call()


def _end_connections(administrator: psycopg.Connection[Any], purpose: str) -> None:
    administrator.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name LIKE %s",
        (f"flagledger {purpose} %",),
    )


def _locks(administrator: psycopg.Connection[Any]) -> int:
    ((count,),) = administrator.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted AND application_name LIKE 'flagledger writer %'"
    ).fetchall()
    return int(count)


def test_a_commit_whose_answer_was_lost_is_not_made_again(
    store: PostgresStore, administrator: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the connection breaks between a commit and its answer, the server is asked, and nothing is recorded twice."""
    apply(store, 1, 1)
    writer, ask = store._connection, psycopg.Connection.wait

    def wait(self: psycopg.Connection[Any], steps: Any, *arguments: Any, **options: Any) -> Any:
        answer = ask(self, steps, *arguments, **options)
        if self is writer and steps.__name__ == "_exit_gen":
            monkeypatch.undo()
            _end_connections(administrator, "writer")
            raise psycopg.OperationalError("the connection was lost")
        return answer

    monkeypatch.setattr(psycopg.Connection, "wait", wait)
    with pytest.raises(StoreError):
        apply(store, 2, 2)

    assert 2 == store.position("journal")
    apply(store, 2, 2)
    apply(store, 3, 3)
    assert expected_identities(3) == identities(administrator)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Start a server that the tests of this file may kill."""
    with postgres_server() as running:
        yield running


@pytest.mark.slow
def test_a_server_that_is_killed_loses_and_doubles_nothing(
    server: PostgresServer, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at ten points of applying, from before its first statement to behind its commit, the server has all rows once."""
    url = fresh_store_url(server)
    store = open_store(url=url)
    apply(store, 1, 1)
    ask = psycopg.Connection.wait
    asked, deadly = 0, -1

    def wait(self: psycopg.Connection[Any], *arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == deadly:
            server.kill()
        return ask(self, *arguments, **options)

    monkeypatch.setattr(psycopg.Connection, "wait", wait)
    # Into many pieces, so that most points are within rows.
    monkeypatch.setattr(store_module, "PIECE_BYTES", 300)
    apply(store, 2, 6)
    points, applied, broken = asked, 6, 0
    for number in range(KILLS):
        asked, deadly = 0, 1 + number * points // (KILLS - 1) if number < KILLS - 1 else points + 1
        try:
            apply(store, applied + 1, applied + 5)
            # Behind the commit it is the next question that the server is not there for.
            server.kill()
        except StoreError:
            broken += 1
        deadly = -1
        with pytest.raises(StoreError):
            store.environments()
        server.start()
        reached = store.position("journal")
        assert reached in (applied, applied + 5)
        apply(store, applied + 1, applied + 5)
        applied += 5

    assert broken >= KILLS - 2
    with psycopg.connect(url.partition("?")[0]) as connection:
        connection.execute(f"SET search_path = {url.partition('schema=')[2]}")
        assert expected_identities(applied) == identities(connection)
    assert ("production",) == store.environments()


def test_a_server_that_is_away_is_waited_for(server: PostgresServer, open_store: Open) -> None:
    """While the server is away everything says so, a reader can be opened, and no writer; all go on once it is back."""
    url = fresh_store_url(server)
    store, reader = open_store(url=url), open_store(url=url, read_only=True)
    apply(store, 1, 1)
    assert ("production",) == reader.environments()
    server.kill()
    try:
        late = open_store(url=url, read_only=True)
        for call in (lambda: apply(store, 2, 2), reader.environments, late.environments, lambda: open_store(url=url)):
            with pytest.raises(StoreError) as refusal:
                call()
            assert refusal.value.temporary
            assert f"127.0.0.1:{server.port}" in str(refusal.value)
    finally:
        server.start()
    apply(store, 2, 2)

    assert ("production",) == reader.environments()
    assert 2 == store.position("journal")
    assert Stream(identity="journal", position=2) == late.stream()
