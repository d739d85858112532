from __future__ import annotations

import asyncio
import re
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from flagledger.app import questions
from flagledger.app.questions import Reader
from flagledger.config import Config
from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal
from flagledger.store.applied import Stream
from flagledger.store.errors import BehindJournalError, OtherJournalError, StoreError
from flagledger.supervisor import ProcessSettings
from flagledger.v1.query_service_pb2 import (
    DeleteIdentityRequest,
    DeleteIdentityResponse,
    GetIntakeRequest,
    ListFeaturesRequest,
)
from support.querying import PRODUCTION, Call, FakeStore, TableCatalog

SHARED = "postgresql://u:p@127.0.0.1:1/d"


class SharedStore(FakeStore):
    """A shared store that knows a journal."""

    def __init__(self, stream: Stream | None = None) -> None:
        super().__init__()
        self.known = stream
        self.closed = 0

    def stream(self) -> Stream | None:
        """Return the journal that it knows."""
        return self.known

    def close(self) -> None:
        """Count it."""
        self.closed += 1


class Context(Call):
    """A call's context without a deadline."""

    def time_remaining(self) -> None:
        """Return that it has all the time."""


def call_of(token: str) -> Context:
    """Return a call with that token."""
    return Context(("authorization", f"Bearer {token}"))


class Opener:
    """Opens a store, or fails to."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.fault: StoreError | None = None
        self.opened: list[str] = []

    def open(self, url: str) -> Any:
        """Open it."""
        self.opened.append(url)
        if self.fault is not None:
            raise self.fault
        return self.store


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Return what opens shared stores."""
    opener = Opener(SharedStore())
    monkeypatch.setattr(questions, "open_reader", opener.open)
    return opener


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    """Return an empty journal."""
    journal = SqliteJournal.open(tmp_path / "journal.db", max_bytes=1 << 30, reserve_bytes=0)
    yield journal
    journal.close()


def asked(tmp_path: Path, journal: SqliteJournal, store: str, **more: Any) -> questions.Questions:
    """Return what answers the questions of a front whose writer is not there."""
    config = Config(data=tmp_path, store=store, retention_days=7, **more)
    settings = ProcessSettings(
        role="front", index=0, config="", read_token="reader", identity_secret="s" * 22, http="", grpc="",
        runtime=str(tmp_path),
    )  # fmt: skip
    catalog: Any = TableCatalog(PRODUCTION)
    return questions.questions(config, settings, catalog, journal)


async def test_shared_store_is_asked_by_the_front(tmp_path: Path, journal: SqliteJournal, opener: Opener) -> None:
    """Questions need no writer: the store is opened once, when the first is asked, and closed in the end."""
    here = asked(tmp_path, journal, SHARED)
    servicer: Any = here.servicer
    before = list(opener.opened)
    for _ in range(2):
        await servicer.ListFeatures(ListFeaturesRequest(environment="production"), call_of("reader"))
    await here.close()

    assert here.answering()
    assert ([], [SHARED], 1) == (before, opener.opened, opener.store.closed)


async def test_orders_go_to_the_writer(tmp_path: Path, journal: SqliteJournal, opener: Opener) -> None:
    """What erases is passed on, and refused with a delay while the writer is not there; who may not is told so before."""
    here = asked(tmp_path, journal, SHARED)
    servicer: Any = here.servicer
    request = DeleteIdentityRequest(environment="production", identity_identifier="alice")
    with pytest.raises(FlagledgerError) as refused:
        await servicer.DeleteIdentity(request, call_of("admin"))
    with pytest.raises(FlagledgerError) as stranger:
        await servicer.DeleteIdentity(request, call_of("nobody"))
    writer = await listening(f"unix:{tmp_path}/query.sock")
    answer = await until_answered(servicer.DeleteIdentity, request)
    await here.close()
    await writer.stop(0)

    assert (Reason.STORE_UNAVAILABLE, Reason.TOKEN_INVALID) == (refused.value.reason, stranger.value.reason)
    assert refused.value.retry_after
    assert DeleteIdentityResponse(deleted_evaluation_count=7) == answer
    assert [] == opener.opened


async def listening(target: str) -> grpc.aio.Server:
    """Return a writer that has erased seven evaluations whatever it is asked."""

    async def erase(request: bytes, context: Any) -> bytes:
        return DeleteIdentityResponse(deleted_evaluation_count=7).SerializeToString()

    server = grpc.aio.server()
    handlers = {"DeleteIdentity": grpc.unary_unary_rpc_method_handler(erase)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(questions.SERVICE.full_name, handlers)])
    server.add_insecure_port(target)
    await server.start()
    return server


async def until_answered(rpc: Any, request: Any) -> Any:
    """Return the answer, once the writer has been found."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await rpc(request, call_of("admin"))
            except FlagledgerError:
                await asyncio.sleep(0.05)


async def test_embedded_store_is_the_writers(tmp_path: Path, journal: SqliteJournal, opener: Opener) -> None:
    """Of a store that one process owns every question is passed on, and nothing is opened here."""
    here = asked(tmp_path, journal, f"duckdb:{tmp_path / 'store.duckdb'}")
    servicer: Any = here.servicer
    with pytest.raises(FlagledgerError) as refused:
        await servicer.ListFeatures(ListFeaturesRequest(environment="production"), call_of("reader"))
    answering = here.answering()
    await here.close()

    assert Reason.STORE_UNAVAILABLE is refused.value.reason
    assert not answering
    assert [] == opener.opened
    assert not (tmp_path / "store.duckdb").exists()


@pytest.mark.parametrize(("knows", "waiting"), [(3, 2), (5, 0), (None, 5)])
async def test_journal_of_a_front(
    tmp_path: Path, journal: SqliteJournal, opener: Opener, knows: int | None, waiting: int
) -> None:
    """How far the store is behind is told by the front: from the position in the store, and the journal's file."""
    for number in range(5):
        outcome = Outcome(accepted=1, filtered=0, rejected=0)
        await journal.append("production", f"b{number}", b"d" * 16, outcome, b"payload")
    if knows is not None:
        opener.store.known = Stream(identity=journal.identity, position=knows)
    here = asked(tmp_path, journal, SHARED)
    servicer: Any = here.servicer
    answer = await servicer.GetIntake(GetIntakeRequest(environment="production"), call_of("reader"))
    await here.close()

    assert waiting == answer.journal.waiting_batch_count
    assert (waiting > 0) == (answer.journal.lag.ToMicroseconds() > 0)
    assert 7 == answer.retention_days


async def test_backlog_is_told_while_the_store_is_away(tmp_path: Path, journal: SqliteJournal, opener: Opener) -> None:
    """Whoever asks how intake goes hears what waits, and how full the journal is, although the store cannot be asked."""
    opener.fault = StoreError("It is away.")
    here = asked(tmp_path, journal, SHARED)
    servicer: Any = here.servicer
    said = []
    for batches in (0, 1, 2):
        for number in range(batches):
            outcome = Outcome(accepted=1, filtered=0, rejected=0)
            await journal.append("production", f"{batches} {number}", b"d" * 16, outcome, b"payload")
        with pytest.raises(FlagledgerError) as refused:
            await servicer.GetIntake(GetIntakeRequest(environment="production"), call_of("reader"))
        assert Reason.STORE_UNAVAILABLE is refused.value.reason
        said.append(re.sub("[0-9]+ s ago", "a while ago", refused.value.message.partition("ask again. ")[2]))
    await asyncio.to_thread(journal.close)
    with pytest.raises(FlagledgerError) as unread:
        await servicer.GetIntake(GetIntakeRequest(environment="production"), call_of("reader"))
    await here.close()

    assert (Reason.STORE_UNAVAILABLE, True) == (unread.value.reason, unread.value.message.endswith("ask again."))
    assert [
        "The journal holds nothing that waits.",
        "The journal holds 1 batch, the oldest from a while ago, and is 0.0 % full.",
        "The journal holds 3 batches, the oldest from a while ago, and is 0.0 % full.",
    ] == said


async def test_evaluations_of_another_journal_are_shown_to_nobody(
    tmp_path: Path, journal: SqliteJournal, opener: Opener
) -> None:
    """A store of another service, which the writer refuses, is asked for nothing, from the moment that it is the other's."""
    here = asked(tmp_path, journal, SHARED)
    servicer: Any = here.servicer
    await servicer.ListFeatures(ListFeaturesRequest(environment="production"), call_of("reader"))
    opener.store.known = Stream(identity="another", position=1)
    for rpc, request in (
        (servicer.ListFeatures, ListFeaturesRequest(environment="production")),
        (servicer.GetIntake, GetIntakeRequest(environment="production")),
    ):
        with pytest.raises(FlagledgerError) as refused:
            await rpc(request, call_of("reader"))
        assert Reason.STORE_UNAVAILABLE is refused.value.reason
    opener.store.known = Stream(identity=journal.identity, position=1)
    await servicer.ListFeatures(ListFeaturesRequest(environment="production"), call_of("reader"))
    await here.close()


async def recorded(journal: SqliteJournal, *, trimmed: int) -> None:
    """Record five entries, of which so many were applied and are not held any more."""
    for number in range(5):
        outcome = Outcome(accepted=1, filtered=0, rejected=0)
        await journal.append("production", f"b{number}", b"d" * 16, outcome, b"payload")
    await asyncio.to_thread(journal.trim, trimmed)


@pytest.mark.parametrize("knows", [None, 0, 2])
@pytest.mark.parametrize("trimmed", [3, 5])
async def test_a_store_that_lacks_what_was_applied_answers_nothing(
    tmp_path: Path, journal: SqliteJournal, opener: Opener, knows: int | None, trimmed: int
) -> None:
    """A new store, or an older one, that the writer refuses for a gap, is not asked as if nothing had been recorded."""
    await recorded(journal, trimmed=trimmed)
    if knows is not None:
        opener.store.known = Stream(identity=journal.identity, position=knows)
    reader = Reader(SHARED, opener.open, journal)
    with pytest.raises(BehindJournalError) as refused:
        reader.store()
    opener.store.known = Stream(identity=journal.identity, position=trimmed)
    found: Any = reader.store()

    assert f"{(knows or 0) + 1}-{trimmed}" == refused.value.gap
    assert opener.store is found


@pytest.mark.parametrize("accept_gap", [None, "1-3"])
async def test_a_store_whose_gap_was_accepted_is_asked(
    tmp_path: Path, journal: SqliteJournal, opener: Opener, accept_gap: str | None
) -> None:
    """Where somebody accepts the loss by its name, questions are answered from what is there; else the log is pointed to."""
    await recorded(journal, trimmed=3)
    here = asked(tmp_path, journal, SHARED, accept_gap=accept_gap)
    servicer: Any = here.servicer
    message = ""
    try:
        await servicer.ListFeatures(ListFeaturesRequest(environment="production"), call_of("reader"))
    except FlagledgerError as error:
        message = error.message
    await here.close()

    assert (accept_gap is None) == ("the log of the service says what is wrong" in message)
    assert (accept_gap is None) == bool(message)


@pytest.mark.parametrize(
    ("identity", "position", "refused"),
    [("", 4, BehindJournalError), ("another", 5, OtherJournalError), (None, 0, BehindJournalError)],
)
async def test_a_store_that_is_put_back_meanwhile_answers_nothing(
    journal: SqliteJournal,
    opener: Opener,
    monkeypatch: pytest.MonkeyPatch,
    identity: str | None,
    position: int,
    refused: type[StoreError],
) -> None:
    """A server that comes back with less than it had, or with another journal, is noticed after some seconds."""
    await recorded(journal, trimmed=5)
    opener.store.known = Stream(identity=journal.identity, position=5)
    reader = Reader(SHARED, opener.open, journal)
    reader.store()
    opener.store.known = None if identity is None else Stream(identity=identity or journal.identity, position=position)
    reader.store()
    monkeypatch.setattr(questions, "_CHECK_SECONDS", 0)
    with pytest.raises(refused):
        await until_refused(reader)
    monkeypatch.undo()
    with pytest.raises(refused):
        reader.store()
    opener.store.known = Stream(identity=journal.identity, position=5)
    reader.store()


async def until_refused(reader: Reader) -> None:
    """Ask for the store until it is refused, for ten seconds at most."""
    async with asyncio.timeout(10):
        while True:
            reader.store()
            await asyncio.sleep(0.01)


async def test_looking_again_holds_up_no_question(
    journal: SqliteJournal, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server hangs, or is away, whoever asks gets the store, and can be interrupted; one thread looks at a time."""
    reader = Reader(SHARED, opener.open, journal)
    opener.store.known = Stream(identity=journal.identity, position=0)
    reader.store()
    monkeypatch.setattr(questions, "_CHECK_SECONDS", 0)
    hanging, looked = threading.Event(), 0

    def stream() -> Stream | None:
        nonlocal looked
        looked += 1
        assert hanging.wait(30)
        raise StoreError("It is away.")

    monkeypatch.setattr(opener.store, "stream", stream)
    found: list[Any] = [reader.store() for _ in range(20)]
    while_hanging = looked
    hanging.set()
    async with asyncio.timeout(10):
        while looked < 3:
            reader.store()
            await asyncio.sleep(0.01)

    assert [opener.store] * 20 == found
    assert while_hanging <= 1


async def test_what_is_applied_while_it_looks_is_no_gap(journal: SqliteJournal, opener: Opener) -> None:
    """The writer may apply and trim between the look at the journal and the one at the store."""
    await recorded(journal, trimmed=0)

    def stream() -> Stream:
        # What it answers is as it was before: a look at the journal from here on would find a gap.
        journal.trim(5)
        return Stream(identity=journal.identity, position=0)

    opener.store.stream = stream
    reader = Reader(SHARED, opener.open, journal)
    found: Any = await asyncio.to_thread(reader.store)

    assert opener.store is found
    assert 6 == journal.first_position()


async def test_a_journal_that_cannot_be_read_costs_no_answer(
    tmp_path: Path, journal: SqliteJournal, opener: Opener
) -> None:
    """What the store holds is told although the disk of the journal has failed."""
    await recorded(journal, trimmed=3)
    await asyncio.to_thread(journal.close)
    found: Any = Reader(SHARED, opener.open, journal).store()

    assert opener.store is found


async def test_store_that_cannot_be_opened(tmp_path: Path, journal: SqliteJournal, opener: Opener) -> None:
    """While it cannot be opened questions are refused with a delay; with the next one it is tried again."""
    opener.fault = StoreError("It is away.")
    here = asked(tmp_path, journal, SHARED)
    servicer: Any = here.servicer
    request = ListFeaturesRequest(environment="production")
    with pytest.raises(FlagledgerError) as refused:
        await servicer.ListFeatures(request, call_of("reader"))
    opener.fault = None
    answer = await servicer.ListFeatures(request, call_of("reader"))
    await here.close()

    assert Reason.STORE_UNAVAILABLE is refused.value.reason
    assert refused.value.retry_after
    assert {"checkout", "never_asked"} == {feature.feature_name for feature in answer.features}


async def test_reader_is_opened_once_and_not_again_after_its_end(journal: SqliteJournal) -> None:
    """However many ask at a time, one store is opened; what comes after the end is refused."""
    opener = Opener(SharedStore())
    reader = Reader(SHARED, opener.open, journal)
    await asyncio.gather(*(asyncio.to_thread(reader.store) for _ in range(8)))
    reader.close()
    reader.close()
    with pytest.raises(StoreError):
        reader.store()

    assert ([SHARED], 1) == (opener.opened, opener.store.closed)
