from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import psycopg
import pytest
from flagledger.store.errors import Interrupt, QuestionEndedError, StoreError
from flagledger.store.postgres import reading
from flagledger.store.postgres.store import PostgresStore
from store.postgres.applying import apply
from support.postgres import session_server

Open = Callable[..., PostgresStore]


def connections(administrator: psycopg.Connection[Any]) -> list[int]:
    """Return the server's processes for readers, whether they are at work or not."""
    found = administrator.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'flagledger reader %' ORDER BY pid"
    )
    return [pid for (pid,) in found]


@pytest.fixture(autouse=True)
def nobody_else(administrator: psycopg.Connection[Any]) -> None:
    """End what is left of other tests' readers: a server that hung goes on with what it was asked."""
    for pid in connections(administrator):
        administrator.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))


def test_a_question_sees_one_moment_and_writes_nothing(store: PostgresStore) -> None:
    """All that one reader is asked is seen at one moment, whatever is applied meanwhile; it cannot write."""
    apply(store, 1, 1)
    with store._reading(None) as reader:
        before = reader.execute("SELECT count(*) FROM evaluations").fetchall()
        apply(store, 2, 2)
        assert before == reader.execute("SELECT count(*) FROM evaluations").fetchall()
    with pytest.raises(StoreError), store._reading(None) as reader:
        reader.execute("DELETE FROM streams")

    assert 2 == store.position("journal")


def test_connections_are_kept_and_few(store: PostgresStore, administrator: psycopg.Connection[Any]) -> None:
    """Questions one after the other share a connection; of many at once, some wait for their turn, and all are answered."""
    apply(store, 1, 1)
    for _ in range(3):
        store.environments()
    assert 1 == len(connections(administrator))

    def ask(_: int) -> int:
        with store._reading(None) as reader:
            reader.execute("SELECT pg_sleep(0.05)")
        return len(connections_of(store))

    with ThreadPoolExecutor(3 * reading.MAX_CONNECTIONS) as threads:
        assert max(threads.map(ask, range(6 * reading.MAX_CONNECTIONS))) <= reading.MAX_CONNECTIONS
    assert 1 <= len(connections(administrator)) <= reading.MAX_CONNECTIONS


def connections_of(store: PostgresStore) -> list[object]:
    """Return the connections that *store* keeps for later questions."""
    return list(store._readers._idle)


def test_a_turn_that_does_not_come_is_an_error(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for a connection is told to ask again; afterwards one may."""
    monkeypatch.setattr(reading, "_TURN_SECONDS", 0.1)
    held = [store._reading(None) for _ in range(reading.MAX_CONNECTIONS)]
    for question in held:
        question.__enter__()
    with pytest.raises(StoreError, match="ask again") as refusal:
        store.environments()
    for question in held:
        question.__exit__(None, None, None)

    assert refusal.value.temporary
    assert () == store.environments()


def test_connections_that_the_server_ended_cost_no_question(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """What is left of connections after the server ended them is replaced without anybody being told."""
    questions = [store._reading(None) for _ in range(3)]
    for question in questions:
        question.__enter__()
    for question in questions:
        question.__exit__(None, None, None)
    for pid in connections(administrator):
        administrator.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    assert () == store.environments()
    assert 1 == len(connections_of(store))


def test_a_failed_question_spoils_no_other(store: PostgresStore) -> None:
    """After a statement that failed, the connection answers the next question."""
    with pytest.raises(StoreError), store._reading(None) as reader:
        reader.execute("SELECT 1 / 0")

    assert () == store.environments()
    assert 1 == len(connections_of(store))


def asked_until_it_ends(store: PostgresStore, interrupt: Interrupt, statement: str) -> float:
    """Return the seconds that it takes to end a question by *interrupt*, asked again and again as the service does."""
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(QuestionEndedError), store._reading(interrupt) as reader:
            reader.execute(statement)
        ended.set()

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    while not ended.wait(0.05) and time.monotonic() - began < 30:
        interrupt.ask()
    thread.join()
    return time.monotonic() - began


def test_an_interrupt_ends_what_the_server_works_on(
    store: PostgresStore, administrator: psycopg.Connection[Any]
) -> None:
    """A question that was ended is no longer worked on, and no later one is ended in its place."""
    taken = asked_until_it_ends(store, Interrupt(), "SELECT pg_sleep(60)")

    assert taken < 10
    for _ in range(20):
        assert () == store.environments()
    working = administrator.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
    ).fetchall()
    assert [(0,)] == working


@pytest.fixture
def server_that_hangs() -> Iterator[Callable[[], None]]:
    """Make the session's server hang, every process of it, when called; let it go on in the end."""
    stopped: list[psutil.Process] = []

    def hang() -> None:
        main = psutil.Process(session_server()._process.pid)  # type: ignore[union-attr]
        stopped.extend([main, *main.children()])
        for process in stopped:
            process.suspend()

    yield hang
    for process in reversed(stopped):
        process.resume()


def test_an_interrupt_ends_the_wait_for_a_server_that_hangs(
    store: PostgresStore, server_that_hangs: Callable[[], None]
) -> None:
    """Where the server does not answer a request to end, the connection is cut: nobody waits on."""
    interrupt = Interrupt()
    hanging = threading.Timer(0.3, server_that_hangs)
    hanging.start()

    assert asked_until_it_ends(store, interrupt, "SELECT pg_sleep(60)") < 15


def test_a_closed_store_answers_nothing(url: str, open_store: Open) -> None:
    """After closing, questions are refused and no connection is left."""
    store = open_store()
    store.environments()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.environments()

    assert [] == connections_of(store)
