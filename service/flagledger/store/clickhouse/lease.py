"""
Who writes: one at a time, for as long as it says so often enough.

ClickHouse has no locks. Whoever wants to write adds a row to `writers`, waits until those of others who want the same are
visible too, and reads them all; of those that are alive the one that came first writes, and the others go. It adds a row
again and again, with the server's time; when it has been silent for too long, the next one takes its place, and it finds out
before it writes again. It measures its own silence by a clock of its own, from before its row was sent, and gives up earlier
than others take over.

A writer that was stopped in the middle of a range, and goes on after another took over, finds out before its next step; but it
sends the inserts that are left of that one first. They are recorded once where the other has sent the very range that was begun,
under its token, and while that is remembered. Where the other has taken the range back (its entries are lost, an identity was
erased, what was there was not whole), they are recorded beside what the other has sent: ClickHouse can refuse none of them. What
the server was at by then, the other has ended.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from clickhouse_connect.driver.exceptions import ClickHouseError

from flagledger.store.errors import HeldError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from flagledger.store.clickhouse.address import Address

LEASE_SECONDS: Final = 15.0
"""Silence after which a writer writes no more."""
SETTLE_SECONDS: Final = 1.0
"""What a row may take until all see it."""

_RENEWALS: Final = 3
# Within one process: an embedded engine has no others.
_PROCESS: Final = uuid4().hex
_EMBEDDED: Final = threading.Lock()

_ROWS: Final = """
    SELECT writer, host, process, toUnixTimestamp64Micro(moment), gone, toUnixTimestamp64Micro(now64(6))
    FROM writers WHERE moment > now64(6) - toIntervalMicrosecond({past:Int64}) ORDER BY moment
"""
_SIGN: Final = """
    INSERT INTO writers (writer, host, process, gone) SELECT {writer:String}, {host:String}, {process:UInt32}, {gone:Bool}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A sign of life: who gave it, when (microseconds since the epoch), and whether it was the last one."""

    writer: str
    host: str
    process: int
    moment: int
    gone: bool


class Lease:
    """
    The right to write into one store, for the thread that writes.

    Args:
        address: Where the store is.
        seconds: Silence after which the right is lost.
        settle_seconds: What a row may take until all see it.
        clock: What silence is measured by, in seconds.
    """

    def __init__(
        self,
        address: Address,
        *,
        seconds: float = LEASE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.writer = ""
        self._address = address
        self._seconds = seconds
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._renewed: float | None = None

    def take(self, client: Client) -> None:
        """
        Become the one that writes.

        Raises:
            HeldError: Another one is.
        """
        self._renewed = None
        # Another name each time: what was said under the old one counts no more.
        self.writer = f"{_PROCESS}-{uuid4().hex}"
        with self._alone():
            self._check(client)
            before = self._clock()
            self._sign(client)
            if self._address.path is None:
                time.sleep(self._settle_seconds)
            try:
                self._check(client)
            except HeldError:
                self._sign(client, gone=True)
                raise
        self._renewed = before

    def keep(self, client: Client) -> bool:
        """
        Say that it still writes, if that is due; return whether it does. Where not, another one may have written since.

        Raises:
            HeldError: Another one writes by now.
        """
        if self._renewed is None:
            return False
        silence = self._clock() - self._renewed
        if silence < self._seconds / _RENEWALS:
            return True
        if silence >= self._seconds:
            self._renewed = None
            return False
        before = self._clock()
        self._sign(client)
        try:
            self._check(client)
        except HeldError:
            self._renewed = None
            raise
        self._renewed = before
        return True

    def give_back(self, client: Client) -> None:
        """Let the next one write at once; where that cannot be said, it waits."""
        if self._renewed is not None:
            self._renewed = None
            with suppress(ClickHouseError):
                self._sign(client, gone=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others of this process from asking at the same time, where there are no others but those."""
        with nullcontext() if self._address.path is None else _EMBEDDED:
            yield

    def _check(self, client: Client) -> None:
        tolerated = self._tolerated()
        rows = client.query(_ROWS, {"past": 4 * tolerated}).result_rows
        now = rows[0][5] if rows else 0
        signs = [Sign(writer=row[0], host=row[1], process=row[2], moment=row[3], gone=row[4]) for row in rows]
        if self._address.path is not None:
            # Whoever had the directory open before this process did is gone, or it could not have been opened.
            signs = [sign for sign in signs if sign.writer.startswith(_PROCESS)]
        holder = holder_of(signs, now, tolerated)
        if holder is not None and holder.writer != self.writer:
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(holder.moment / 1_000_000))
            raise HeldError(
                f"{self._address.name} is written by process {holder.process} on {holder.host}, which was last heard of at "
                f"{moment}, and one alone may write. It is taken over {tolerated // 1_000_000} s after the other has gone silent."
            )

    def _tolerated(self) -> int:
        """Return the silence, in microseconds, after which others take over."""
        return round((self._seconds + self._settle_seconds) * 1_000_000)

    def _sign(self, client: Client, *, gone: bool = False) -> None:
        client.command(
            _SIGN,
            {"writer": self.writer, "host": socket.gethostname(), "process": os.getpid(), "gone": gone},
        )


def holder_of(signs: Sequence[Sign], now: int, tolerated: int) -> Sign | None:
    """
    Return the last sign of the one that writes: of those that are alive, the one that has been for longest without a pause.

    Args:
        signs: Of all, in the order of time.
        now: The time now, in microseconds since the epoch.
        tolerated: Silence in microseconds that is no pause yet.
    """
    since: dict[str, int] = {}
    last: dict[str, Sign] = {}
    for sign in signs:
        before = last.get(sign.writer)
        if before is None or before.gone or sign.moment - before.moment >= tolerated:
            since[sign.writer] = sign.moment
        last[sign.writer] = sign
    alive = [sign for sign in last.values() if not sign.gone and now - sign.moment < tolerated]
    return min(alive, key=lambda sign: (since[sign.writer], sign.writer), default=None)
