"""Connections that are asked: a few of them, kept for the next question, each question in a transaction that sees one moment."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Final

import psycopg
from psycopg.pq import TransactionStatus

from flagledger.store.errors import Interrupt, QuestionEndedError, StoreError
from flagledger.store.postgres.connection import READER, Address, connect, meaning
from flagledger.store.postgres.schema import Connection, check_version

MAX_CONNECTIONS: Final = 8
"""Questions that one store answers at a time; more than the threads that ask."""

_TURN_SECONDS: Final = 10.0
_CANCEL_SECONDS: Final = 1.0
_ENDED: Final = "The question was ended before it was answered."


class Readers:
    """
    Connections for questions, which any thread may ask.

    None is made before it is needed. After the server was away, what is left of them is replaced at the next question. A pool
    that makes its connections behind the scenes would only say that it has none; here, who asks hears why.

    Args:
        address: Where to.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._turns = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._gate = threading.Lock()
        self._idle: list[Connection] = []
        self._closed = False

    @contextmanager
    def reading(self, interrupt: Interrupt | None) -> Iterator[Connection]:
        """
        Yield a connection of one's own, within a transaction that only reads and sees one moment.

        Raises:
            QuestionEndedError: *interrupt* was asked.
            StoreError: There is none to be had, or what it was asked failed.
        """
        ending = _Ending()
        with self._turn():
            try:
                with nullcontext() if interrupt is None else interrupt.ending(ending.end):
                    yield self._take(ending)
            except psycopg.Error as error:
                if ending.asked:
                    raise QuestionEndedError(_ENDED) from error
                raise meaning(self._address, error) from error
            finally:
                self._give_back(ending)

    def close(self) -> None:
        """Let go of the connections; questions that are being answered still are."""
        with self._gate:
            self._closed = True
        self._forget()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=_TURN_SECONDS):
            raise StoreError(f"{MAX_CONNECTIONS} questions are being answered; ask again.")
        try:
            yield
        finally:
            self._turns.release()

    def _take(self, ending: _Ending) -> Connection:
        with self._gate:
            if self._closed:
                raise StoreError("The store is closed.")
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            ending.connection = kept
            try:
                check_version(kept, self._address.schema)
            except psycopg.OperationalError:
                if ending.asked or not kept.broken:
                    raise
            else:
                return kept
            # Where the server was started again, the others are broken as well.
            kept.close()
            self._forget()
        ending.connection = made = self._connect()
        if ending.asked:
            raise QuestionEndedError(_ENDED)
        check_version(made, self._address.schema)
        return made

    def _connect(self) -> Connection:
        connection = connect(self._address, "reader", READER)
        connection.autocommit = False
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return connection

    def _give_back(self, ending: _Ending) -> None:
        connection = ending.connection
        if connection is None:
            return
        with suppress(psycopg.Error):
            connection.rollback()
        clean = connection.info.transaction_status == TransactionStatus.IDLE
        with self._gate:
            # An end that was asked for may come late, and must not end the next question.
            if clean and not ending.asked and not self._closed:
                self._idle.append(connection)
                return
        ending.wait()
        connection.close()

    def _forget(self) -> None:
        with self._gate:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class _Ending:
    """
    Ends what a connection works on: the server is asked to, and where that does not help in time, the connection is cut.

    Attributes:
        asked: Whether the end was asked for.
        connection: The connection, once there is one.
    """

    def __init__(self) -> None:
        self.asked = False
        self.connection: Connection | None = None
        self._since: float | None = None
        self._thread: threading.Thread | None = None

    def end(self) -> None:
        """Ask for the end, again and again; never blocks."""
        self.asked = True
        connection = self.connection
        if connection is None:
            return
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since > _CANCEL_SECONDS:
            _cut(connection)
        elif self._thread is None or not self._thread.is_alive():
            # It takes a connection of its own, and so as long as the server likes.
            self._thread = threading.Thread(target=_cancel, args=(connection,), name="cancel question", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait until nothing touches the connection any more."""
        if self._thread is not None:
            self._thread.join()


def _cancel(connection: Connection) -> None:
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=_CANCEL_SECONDS)


def _cut(connection: Connection) -> None:
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)
