"""
Clients of ClickHouse: over HTTP, or of the engine within the process, the same for both.

Whoever works at the same time as others has a client of his own; those that are not in use wait for the next one. What a client
does is marked (`log_comment`), so that another one can end it.
"""

from __future__ import annotations

import base64
import itertools
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from flagledger.store.errors import DiskFullError, Interrupt, QuestionEndedError, StoreError, UnreadableError
from flagledger.store.positions import end_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from flagledger.store.clickhouse.address import Address

CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 300
QUESTION_READ_SECONDS: Final = 30

_LONGEST_DETAIL: Final = 500
# A statement whose parameters the server binds; others must be given none, or the library puts texts into the statement.
_PARAMETER: Final = re.compile(r"\{\w+:")

# Numbers of errors, as ClickHouse has them.
_CANCELLED: Final = 394
_NO_ROOM: Final = 243
_NO_MEMORY: Final = 241
_MISSING: Final = frozenset({60, 81})
_NOT_ALLOWED: Final = frozenset({164, 192, 193, 194, 497, 516})
_REPLICAS: Final = frozenset({225, 242, 285, 286, 289, 319, 999})

_SETTINGS: Final[Mapping[str, str | int]] = {
    # Answers of this server and of all others are the same, whatever a profile of theirs says.
    "session_timezone": "UTC",
    "aggregate_functions_null_for_empty": 0,
    "cast_keep_nullable": 0,
    "empty_result_for_aggregation_by_empty_set": 0,
    "group_by_use_nulls": 0,
    "join_use_nulls": 0,
    "prefer_column_name_to_alias": 0,
    "transform_null_in": 0,
    # What a profile limits is refused, and never broken off: an answer is whole or none.
    "limit": 0,
    "offset": 0,
    **dict.fromkeys(
        (
            "distinct_overflow_mode",
            "group_by_overflow_mode",
            "join_overflow_mode",
            "read_overflow_mode",
            "read_overflow_mode_leaf",
            "result_overflow_mode",
            "set_overflow_mode",
            "sort_overflow_mode",
            "timeout_overflow_mode",
            "timeout_overflow_mode_leaf",
            "transfer_overflow_mode",
        ),
        "throw",
    ),
    # When an insert returns, the rows are there.
    "async_insert": 0,
}
# Of tables with replicas: a server that lags behind says so instead of answering from what it has.
_REPLICATED_SETTINGS: Final[Mapping[str, str | int]] = {
    "insert_quorum": "auto",
    "insert_quorum_parallel": 0,
    "select_sequential_consistency": 1,
}


# What it logs is raised too, and is logged by whoever that concerns.
logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())


class Marked:
    """A client and the mark of what it does."""

    def __init__(self, client: Client, mark: str) -> None:
        self.client = client
        self.mark = mark


class Clients:
    """
    Opens and lends the clients of one store. May be used from any thread.

    Args:
        address: Where the store is.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._guard = threading.Lock()
        self._idle: list[Marked] = []
        self._numbers = itertools.count()
        self._marks = f"flagledger-{uuid4().hex}"
        self._closed = False

    def open(self, *, database: bool = True, read_seconds: int = READ_SECONDS) -> Marked:
        """
        Open a client that nobody else gets.

        Args:
            database: Whether the store's database is there; without it only statements that name theirs can be carried out.
            read_seconds: Seconds that an answer may keep silent.

        Raises:
            ClickHouseError: It cannot be opened.
        """
        address = self._address
        mark = f"{self._marks}-{next(self._numbers)}"
        settings = {**_SETTINGS, **(_REPLICATED_SETTINGS if address.cluster else {}), "log_comment": mark}
        name = address.database if database else None
        if address.path is not None:
            # A path of its own parameter: in a URL it would have to be absolute, and without a `?`.
            client = clickhouse_connect.get_client(
                interface="chdb", path=address.path, database=name, settings=settings
            )
        else:
            files: dict[str, Any] = dict(address.files)
            client = clickhouse_connect.get_client(
                interface=address.interface,
                host=address.host,
                port=address.port,
                username=address.user,
                password=address.password,
                database=name,
                settings=settings,
                connect_timeout=CONNECT_SECONDS,
                send_receive_timeout=read_seconds,
                # Sessions would let a client do one thing at a time, across connections that broke off.
                autogenerate_session_id=False,
                client_name="flagledger",
                verify=address.verify,
                **files,
            )
        return Marked(client, mark)

    @contextmanager
    def lent(self, interrupt: Interrupt | None = None) -> Iterator[tuple[Marked, threading.Event]]:
        """
        Lend a client, and an event that is set once *interrupt* was asked, which also ends what the client does.

        Raises:
            QuestionEndedError: The interrupt was asked before.
        """
        ending, whole = _Ending(self), False
        try:
            with nullcontext() if interrupt is None else interrupt.ending(ending.ask):
                # Within: a server may take long even to let one in.
                ending.marked = self._take()
                yield ending.marked, ending.asked
            whole = True
        except ClickHouseError as error:
            if ending.asked.is_set():
                raise QuestionEndedError("The question was ended before it was answered.") from error
            raise
        finally:
            ending.wait()
            # What one that failed or was ended is at is not known.
            if ending.marked is not None:
                self._give_back(ending.marked, keep=whole and not ending.asked.is_set())

    def kill(self, mark: str, *, wait: bool = False) -> None:
        """End whatever is done under *mark*, on all servers of a cluster."""
        cluster = f" ON CLUSTER '{self._address.cluster}'" if self._address.cluster else ""
        killer = self._take()
        try:
            killer.client.command(
                f"KILL QUERY{cluster} WHERE Settings['log_comment'] = {{mark:String}} {'SYNC' if wait else 'ASYNC'}",
                parameters={"mark": mark},
            )
        except BaseException:
            self._give_back(killer, keep=False)
            raise
        self._give_back(killer, keep=True)

    def close(self) -> None:
        """Close those that nobody uses, and the others when they are given back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for marked in idle:
            _close(marked)

    def _take(self) -> Marked:
        with self._guard:
            if self._closed:
                raise StoreError("The store is closed.")
            if self._idle:
                return self._idle.pop()
        # The library has a server report progress 5 s earlier than that, however long it works: silence is none that works.
        return self.open(read_seconds=QUESTION_READ_SECONDS)

    def _give_back(self, marked: Marked, *, keep: bool) -> None:
        with self._guard:
            if keep and not self._closed:
                self._idle.append(marked)
                return
        _close(marked)


class _Ending:
    """Ends what a client does, in a thread of its own: whoever asks is not held up."""

    def __init__(self, clients: Clients) -> None:
        self.asked = threading.Event()
        # Whose; None as long as there is nothing to end.
        self.marked: Marked | None = None
        self._clients = clients
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        self.asked.set()
        if self.marked is not None and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(
                target=self._kill, args=(self.marked.mark,), name="clickhouse-kill", daemon=True
            )
            self._thread.start()

    def wait(self) -> None:
        """Return once nothing more is being ended: no thread outlives the question."""
        if self._thread is not None:
            self._thread.join()

    def _kill(self, mark: str) -> None:
        # It is asked for again as long as the question runs on.
        with suppress(ClickHouseError, StoreError):
            self._clients.kill(mark)


class Reader:
    """
    Asks on behalf of one question, in the thread that it belongs to.

    Args:
        client: Of its own.
        ended: Set once the question is to be answered no more.

    Attributes:
        visible: The highest position of a row that was committed when the reader was made. Rows behind it may be there
            in part, so that every question asks for `position <= {visible:Int64}` alone, and sees one moment.
    """

    def __init__(self, client: Client, ended: threading.Event) -> None:
        self._client = client
        self._ended = ended
        ((position,),) = self.query("SELECT max(position) FROM chunks")
        self.visible = end_of(int(position)) if position else 0

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """
        Return the rows that *sql* answers. Parameters are bound by the server: `{name:Type}`.

        Raises:
            QuestionEndedError: The question was ended.
        """
        self._check()
        rows = self._client.query(sql, parameters=_bound(sql, parameters)).result_rows
        return [tuple(row) for row in rows]

    def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """
        Return what *sql* answers as a table of Arrow.

        Raises:
            QuestionEndedError: The question was ended.
        """
        self._check()
        return self._client.query_arrow(sql, parameters=_bound(sql, parameters))

    def _check(self) -> None:
        if self._ended.is_set():
            raise QuestionEndedError("The question was ended before it was answered.")


@contextmanager
def meant(address: Address) -> Iterator[None]:
    """Raise what goes wrong with ClickHouse in the block as a StoreError."""
    try:
        yield
    except ClickHouseError as error:
        raise meaning(address, error) from None


def meaning(address: Address, error: ClickHouseError) -> StoreError:
    """Return what *error* of the store at *address* means to an operator."""
    code, place = getattr(error, "code", None), address.name
    text = _detail(address, error)
    if code == _CANCELLED:
        return QuestionEndedError("The question was ended before it was answered.")
    if code == _NO_ROOM or "No space left" in text:
        return DiskFullError(f"There is no room on the disk of {place}; make some. ({text})")
    if code == _NO_MEMORY:
        return StoreError(f"{place} needed more memory than it may hold. ({text})")
    if code in _MISSING:
        return StoreError(f"{place} is not there, or was not made yet: the service that writes makes it. ({text})")
    if code in _NOT_ALLOWED:
        return StoreError(f"{place} does not let the user {address.user} do what is needed; allow it. ({text})")
    if code in _REPLICAS:
        return StoreError(f"The replicas of {place} do not agree for now. ({text})")
    if address.path is not None and "chdb engine" in text:
        return UnreadableError(_why_not_opened(address, text))
    if isinstance(error, OperationalError) and code is None:
        return StoreError(f"{place} cannot be reached. ({text})")
    return StoreError(f"{place} refused a statement. ({text})")


def _why_not_opened(address: Address, text: str) -> str:
    if "already initialized with path" in text:
        return f"This process has another directory of chDB open than {address.path}, and can have one alone. ({text})"
    return f"{address.path} cannot be opened: most likely another process holds it. ({text})"


def _detail(address: Address, error: ClickHouseError) -> str:
    """Return what *error* says in one short line that does not hold the password, in whatever form it is sent."""
    text = " ".join(str(error).split())
    if address.password:
        sent = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        for secret in (sent, quote(address.password, safe=""), address.password):
            text = text.replace(secret, "***")
    return text[:_LONGEST_DETAIL]


def _bound(sql: str, parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not parameters or not _PARAMETER.search(sql):
        return None
    return {name: value for name, value in parameters.items() if f"{{{name}:" in sql}


def _close(marked: Marked) -> None:
    with suppress(ClickHouseError):
        marked.client.close()
