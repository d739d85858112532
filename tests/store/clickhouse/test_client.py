from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError
from flagledger.store.clickhouse import client
from flagledger.store.clickhouse.address import Address, parse
from flagledger.store.clickhouse.client import Clients, Reader, meaning, meant
from flagledger.store.clickhouse.store import ClickHouseStore
from flagledger.store.errors import DiskFullError, Interrupt, QuestionEndedError, StoreError, UnreadableError
from flagledger.store.questions import Filter
from store import filled
from store.clickhouse.applying import Open, asking
from support.chdb import directory, fresh_url

SERVER = Address(database="flags", host="127.0.0.1", port=1, user="ann", password="s3cret")
SLOW = "SELECT sum(sleepEachRow(0.1)) FROM numbers(600) SETTINGS max_block_size = 1"
SECONDS = 30.0


@pytest.fixture
def store() -> Iterator[ClickHouseStore]:
    """Return an empty store."""
    store = ClickHouseStore(fresh_url())
    yield store
    store.close()


@pytest.fixture
def refusing() -> Iterator[int]:
    """Return the port of a server that knows no user, and repeats what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = f"Code: 516. DB::Exception: ann: Authentication failed for s3cret. {self.headers}".encode()
            self.send_response(403)
            self.send_header("X-ClickHouse-Exception-Code", "516")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815  # the library's own name

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("code", "text", "kind", "sentence"),
    [
        (394, "Query was cancelled.", QuestionEndedError, "was ended"),
        (
            243,
            "Cannot reserve 1 MiB",
            DiskFullError,
            "There is no room on the disk of ClickHouse (flags on 127.0.0.1:1)",
        ),
        (1001, "write failed: No space left on device", DiskFullError, "There is no room"),
        (241, "Memory limit exceeded", StoreError, "needed more memory"),
        (60, "Unknown table", StoreError, "was not made yet"),
        (81, "Database flags does not exist", StoreError, "was not made yet"),
        (497, "Not enough privileges", StoreError, "does not let the user ann"),
        (289, "Replica is not in quorum", StoreError, "do not agree for now"),
        (252, "Too many parts", StoreError, "refused a statement. (Too many parts)"),
        (0, "Setting log_comment is readonly", StoreError, "refused a statement. (Setting log_comment is readonly)"),
        (None, "Connection refused", StoreError, "cannot be reached. (Connection refused)"),
    ],
)
def test_errors_are_sentences(code: int | None, text: str, kind: type[StoreError], sentence: str) -> None:
    """What ClickHouse says is told by its kind, for an operator, and may pass."""
    error = OperationalError(text) if code is None else DatabaseError(text, code=code or None)

    found = meaning(SERVER, error)

    assert kind is type(found)
    assert sentence in str(found)
    assert found.temporary


def test_messages_hold_no_password() -> None:
    """A password that a message of the library holds is not in ours; nor is a text without an end."""
    found = str(meaning(SERVER, DatabaseError("http://ann:s3cret@host " + "x" * 10_000, code=1)))

    assert "s3cret" not in found
    assert "http://ann:***@host" in found
    assert len(found) < 1_000


def test_a_server_that_is_away_is_an_error_that_passes() -> None:
    """Nobody listens: a writer cannot be opened, a reader can, and says so when it is asked."""
    url = "clickhouse://ann:s3cret@127.0.0.1:1/flags"
    with pytest.raises(StoreError, match="cannot be reached") as refusal:
        ClickHouseStore(url)
    assert refusal.value.temporary
    assert "s3cret" not in str(refusal.value)
    assert refusal.value.__cause__ is None

    reader = ClickHouseStore(url, read_only=True)
    with pytest.raises(StoreError, match="cannot be reached"):
        reader.environments()
    reader.close()


def test_a_question_to_a_server_that_hangs_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lets one in and says nothing holds up nobody for longer than an answer may keep silent."""
    monkeypatch.setattr(client, "QUESTION_READ_SECONDS", 1)
    interrupt = Interrupt()
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        reader = ClickHouseStore(f"clickhouse://ann:s3cret@127.0.0.1:{hanging.getsockname()[1]}/flags", read_only=True)
        with asking(interrupt), pytest.raises(QuestionEndedError):
            reader.environments(interrupt)
        with pytest.raises(StoreError, match="cannot be reached"):
            reader.environments()
        reader.close()


def test_a_question_that_was_ended_before_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the end was asked for already, no server is spoken to."""
    clients = Clients(SERVER)
    monkeypatch.setattr(clients, "open", lambda **_: pytest.fail("a client was opened"))
    interrupt = Interrupt()
    interrupt.ask()

    with pytest.raises(QuestionEndedError), clients.lent(interrupt):
        pass


def test_a_refused_user_is_named_without_the_password(refusing: int) -> None:
    """Who is not let in is told as whom, and no header or password is repeated."""
    with pytest.raises(StoreError, match="does not let the user ann do what is needed") as refusal:
        ClickHouseStore(f"clickhouse://ann:s3cret@127.0.0.1:{refusing}/flags")

    assert "s3cret" not in str(refusal.value)
    assert "YW5uOnMzY3JldA" not in str(refusal.value), "what the header Authorization holds"


def test_a_directory_that_another_process_holds_is_told(tmp_path: Path) -> None:
    """What chDB says of a lock is a sentence with the path, and passes."""
    text = f"Unable to open the chdb engine at '{tmp_path}': Error initializing EmbeddedServer: . (BAD_ARGUMENTS)"

    found = meaning(parse(f"chdb:{tmp_path}"), ClickHouseError(text))

    assert (UnreadableError, True) == (type(found), found.temporary)
    assert f"{tmp_path} cannot be opened: most likely another process holds it." in str(found)


def test_a_second_directory_is_refused(tmp_path: Path) -> None:
    """One process has one directory of chDB open at a time, and is told so."""
    assert directory() != tmp_path

    with pytest.raises(UnreadableError, match="another directory of chDB open"):
        ClickHouseStore(f"chdb:{tmp_path / 'other'}")


def test_parameters_are_bound_by_the_server(store: ClickHouseStore) -> None:
    """Texts come back as they were given, whatever is in them, and so does a statement without parameters."""
    text = "it's \\ \x00 \n\t %s {x:Int8} é😀"
    with store._reading(None) as reader:
        found = reader.query("SELECT {a:String}, {b:Array(String)}, '%'", {"a": text, "b": [text, ""], "c": 1})
        table = reader.arrow("SELECT {a:String} AS a", {"a": text})
        bare = reader.query("SELECT '%s' LIKE '%'", {"a": text})

    assert [(text, [text, ""], "%")] == found
    assert [{"a": text}] == table.to_pylist()
    assert [(1,)] == bare


def test_a_statement_is_ended_while_it_runs(store: ClickHouseStore) -> None:
    """An interrupt ends a question that is being worked on, long before it would be answered."""
    interrupt = Interrupt()
    began = time.monotonic()

    with asking(interrupt), pytest.raises(QuestionEndedError), store._reading(interrupt) as reader:
        reader.query(SLOW)

    assert time.monotonic() - began < SECONDS
    assert () == store.environments()


def test_no_statement_is_begun_after_the_end(store: ClickHouseStore) -> None:
    """Once it was asked for, the end comes before the next statement at the latest."""
    interrupt = Interrupt()

    with store._reading(interrupt) as reader:
        assert [(1,)] == reader.query("SELECT 1")
        interrupt.ask()
        with pytest.raises(QuestionEndedError):
            reader.query("SELECT 1")
        with pytest.raises(QuestionEndedError):
            reader.arrow("SELECT 1")


def test_an_end_is_that_of_one_question(store: ClickHouseStore) -> None:
    """Another question, asked at the same time, is answered."""
    interrupt = Interrupt()
    answers: list[list[tuple[object, ...]]] = []

    def ask() -> None:
        with store._reading(Interrupt()) as reader:
            answers.append(
                reader.query("SELECT count(), sum(sleepEachRow(0.1)) FROM numbers(15) SETTINGS max_block_size = 1")
            )

    other = threading.Thread(target=ask)
    other.start()
    with asking(interrupt), pytest.raises(QuestionEndedError), store._reading(interrupt) as reader:
        reader.query(SLOW)
    other.join()

    assert [[(15, 0)]] == answers


def test_a_client_that_was_ended_serves_nobody_else(store: ClickHouseStore) -> None:
    """What is still under way against it must not meet the next question; one that was not ended is lent again."""
    taken = []
    for asks in (False, True, False):
        interrupt = Interrupt()
        with store._clients.lent(interrupt) as (marked, _):
            taken.append(marked)
            if asks:
                interrupt.ask()

    assert taken[0] is taken[1]
    assert taken[1] is not taken[2]


def test_closed_clients_are_not_lent() -> None:
    """After the end nothing is opened."""
    clients = Clients(parse(fresh_url()))
    clients.close()

    with pytest.raises(StoreError, match="closed"), clients.lent():
        pass


def test_errors_in_a_block_are_meant() -> None:
    """What goes wrong with ClickHouse in a block is raised as what it means; anything else as it is."""
    with pytest.raises(DiskFullError), meant(SERVER):
        raise DatabaseError("no", code=243)
    with pytest.raises(KeyError), meant(SERVER):
        raise KeyError


def test_a_reader_sees_what_was_committed(store: ClickHouseStore) -> None:
    """The highest row that is visible is that of the last entry that was committed."""
    with store._reading(None) as reader:
        assert isinstance(reader, Reader)
        assert 0 == reader.visible
        reader.query("INSERT INTO chunks SELECT 'journal', 1, 7, 8, 9, now64(6), ''")
        assert 0 == reader.visible
    with store._reading(None) as reader:
        assert (8 << 16) - 1 == reader.visible


@pytest.mark.parametrize(
    "profile",
    [
        {"max_result_rows": 1_000, "max_block_size": 1_000, "result_overflow_mode": "break"},
        {"max_rows_to_read": 1_000, "max_block_size": 1_000, "read_overflow_mode": "break"},
        {"limit": 5},
    ],
    ids=str,
)
def test_a_profile_that_breaks_answers_off(
    open_store: Open, url: str, monkeypatch: pytest.MonkeyPatch, profile: dict[str, Any]
) -> None:
    """What a server's profile would leave out in silence is there, or the answer is an error: a copy never lacks rows."""
    ledger = filled.many_rows(open_store())
    asked = Filter(environment=ledger.environment("production"))
    monkeypatch.setattr(client, "_SETTINGS", profile | dict(client._SETTINGS))
    reader = ClickHouseStore(url, read_only=True)
    try:
        for read in (
            lambda: sum(batch.num_rows for batch in reader.export(asked, 0).batches),
            lambda: sum(found.rows.num_rows for found in reader.applied(0)),
        ):
            try:
                assert filled.MANY == read()
            except StoreError as error:
                assert "limit" in str(error).lower()  # noqa: PT017  # either is right
    finally:
        reader.close()
