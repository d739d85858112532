"""
What counts are sent on to, beside the store: a sink. It is written to and never asked.

A sink takes ranges of entries, one after another. A range may be sent again after any failure: with the same counts, the same
memory and the same nanoseconds it then becomes the very same points, and counts once.

```text
influxdb://user:password@host:8086/database              an InfluxDB 1, or what speaks its language; more in influxdb/address.py
influxdb://:token@host:8086?org=acme&bucket=flags        an InfluxDB 2 or later; either with influxdbs:// over HTTPS
```
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from flagledger.store.opening import NotInstalledError

if TYPE_CHECKING:
    import pyarrow as pa

KINDS: Final = frozenset({"influxdb", "influxdbs"})
"""Kinds of sinks that a URL may name."""

Memory = Mapping[str, Any]
"""What a sink has to remember from range to range, as JSON; empty in the beginning."""


class SinkError(Exception):
    """
    The sink did not take what it was sent; the same is to be sent again. The message is a sentence for an operator.

    Attributes:
        lasting: Whether somebody has to change something first.
        retry_after: Seconds that the sink asked to be left alone for; None where it did not.
    """

    def __init__(self, message: str, *, lasting: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.lasting = lasting
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """
    What became of a range.

    Attributes:
        taken: Points that the sink took.
        refused: Points that it will never take, such as those older than it keeps any.
        reason: Why the last of those was refused; empty where none was.
    """

    taken: int
    refused: int
    reason: str


class Sink(Protocol):
    """
    Where counts are sent on to. Belongs to one thread, but for `close`.

    Attributes:
        target: Where that is, without anything secret: the same for the same place, whoever writes there and in which way.
    """

    target: str

    def learn(self, counts: pa.Table, memory: Memory) -> Memory:
        """
        Return what has to be remembered before *counts* are sent: *memory* itself where that is no more than before.

        Args:
            counts: Of the schema `applied.TALLY`.
            memory: What was remembered so far; it is not changed.
        """

    def send(self, counts: pa.Table, memory: Memory, nanoseconds: int) -> Sent:
        """
        Send *counts*; once this returns they need not be sent again.

        Args:
            counts: Of the schema `applied.TALLY`.
            memory: What `learn` returned for them.
            nanoseconds: What tells the points of this range from those of others, from 0 to 999,999,999.

        Raises:
            SinkError: They have to be sent again; some may have been taken.
        """

    def close(self) -> None:
        """Let go of everything, from any thread: what is being sent is given up with SinkError at the next occasion."""


def check_sink(url: str) -> None:
    """
    Refuse what cannot be a sink, without loading what it needs.

    Raises:
        ValueError: The URL is none of a sink. The message is a sentence that holds nothing of it.
    """
    from flagledger.store.influxdb.address import parse_address  # noqa: PLC0415

    parse_address(url)


def check_installed() -> None:
    """
    Refuse a sink whose library is not installed, without loading it.

    Raises:
        NotInstalledError: It is not.
    """
    if importlib.util.find_spec("urllib3") is None:
        raise _missing("urllib3")


def open_sink(url: str) -> Sink:
    """
    Return the sink at *url*. Nothing is sent: that it is away is no error.

    Raises:
        ValueError: The URL is none of a sink. The message is a sentence that holds nothing of it.
        NotInstalledError: A library is missing.
    """
    from flagledger.store.influxdb.address import parse_address  # noqa: PLC0415

    address = parse_address(url)
    try:
        from flagledger.store.influxdb.sink import InfluxSink  # noqa: PLC0415
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "flagledger":
            raise
        raise _missing(str(error.name)) from error
    return InfluxSink(address)


def _missing(library: str) -> NotInstalledError:
    return NotInstalledError(f"{library} is not installed, which this sink needs: pip install 'flagledger[influxdb]'.")
