"""
The sink: lines in posts of some thousands, and what each answer means.

```text
2xx                                      taken
400, 422 about the retention policy      so many of them are too old to be kept, and will never be taken; the others were
400, 422 about the field's type          the measurement is somebody else's as well: as with 401 below, nothing is passed over
400, 422 otherwise                       some line is refused: halved, down to it; the others are sent again without it
413                                      posts are made smaller, from then on
401, 403, 404, redirects, other 4xx      somebody has to change something: tried again, slowly
429, 503, other 5xx, no answer           tried again, when the answer says or with growing pauses
```

Of other partial writes it is not believed what was dropped: with too many values of a tag, InfluxDB 1 leaves out more lines than
it says. A line that is posted twice overwrites itself: whatever happens within a range, the whole of it can be sent again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import pyarrow as pa

from flagledger.store.influxdb import variants
from flagledger.store.influxdb.address import Address
from flagledger.store.influxdb.connection import CONNECT_SECONDS, READ_SECONDS, Answer, Connection
from flagledger.store.influxdb.lines import MEASUREMENT, lines_of, rows_of
from flagledger.store.sinks import Memory, Sent, SinkError

POST_LINES: Final = 5_000

_MAX_SAID: Final = 300
# Anchored, since an error may quote what a sender has chosen. Before it stands what each version puts there.
_PARTIAL: Final = r"(?:failure writing points(?: to database)?: )?(?:partial write: )?"
_TOO_OLD: Final = re.compile(
    _PARTIAL
    + "(?:points beyond retention policy dropped=([0-9]{1,9})|dropped ([0-9]{1,9}) points outside retention policy)"
)
# Whole periods are refused for it, and would be lost line by line until somebody looks.
_OTHERS_FIELD: Final = re.compile(_PARTIAL + "field type conflict: ")
_REFUSALS: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
_UNAUTHORIZED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(slots=True)
class _Count:
    """What became of the lines of a range so far."""

    taken: int = 0
    refused: int = 0
    reason: str = ""

    def refuse(self, lines: int, reason: str) -> None:
        self.refused += lines
        self.reason = reason


class InfluxSink:
    """
    A `Sink` into an InfluxDB.

    Args:
        address: Where it is.
        post_lines: Lines of a post at most.
        connect_seconds: Seconds to wait for a connection.
        read_seconds: Seconds to wait for an answer.

    Attributes:
        target: Where it is, without anything secret.
    """

    def __init__(
        self,
        address: Address,
        *,
        post_lines: int = POST_LINES,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self.target = address.name
        self._address = address
        self._post_lines = post_lines
        self._connection = Connection(address, connect_seconds=connect_seconds, read_seconds=read_seconds)

    def learn(self, counts: pa.Table, memory: Memory) -> Memory:
        """Return *memory* with the variants of *counts* that get a name."""
        named = counts.select(["environment", "feature_name", "variant"]).group_by(
            ["environment", "feature_name", "variant"]
        )
        return variants.learn(
            memory,
            ((row["environment"], row["feature_name"], row["variant"]) for row in rows_of(named.aggregate([]))),
        )

    def send(self, counts: pa.Table, memory: Memory, nanoseconds: int) -> Sent:
        """Send *counts* in as many posts as they take."""
        lines, timeless = lines_of(counts, memory, nanoseconds)
        count = _Count()
        if timeless:
            count.refuse(timeless, "their time is outside of the years 1677 to 2262")
        waiting: list[Sequence[str]] = [lines] if lines else []
        while waiting:
            # The last is the first in order.
            waiting += reversed(self._post(waiting.pop(), count))
        return Sent(taken=count.taken, refused=count.refused, reason=count.reason)

    def close(self) -> None:
        """Let go of the connection; no further post is made."""
        self._connection.close()

    def _post(self, lines: Sequence[str], count: _Count) -> list[Sequence[str]]:
        """Post *lines*, or as many as a post takes; return what is left to post of them, in order."""
        if len(lines) > self._post_lines:
            return [lines[i : i + self._post_lines] for i in range(0, len(lines), self._post_lines)]
        answer = self._connection.post("\n".join(lines).encode() + b"\n")
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            count.taken += len(lines)
            return []
        if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._post_lines = max(len(lines) // 2, 1)
            return _halved(lines, count, "it is too large for a post")
        if answer.status in _REFUSALS and answer.error is not None:
            said = answer.error[:_MAX_SAID]
            if dropped := _too_old(answer.error):
                count.refuse(min(dropped, len(lines)), said)
                count.taken += max(len(lines) - dropped, 0)
                return []
            if _OTHERS_FIELD.match(answer.error):
                raise SinkError(
                    f"InfluxDB at {self._address.name} holds {MEASUREMENT} with another type of count already: {said}. Somebody "
                    "else writes there: give the sink a database or bucket of its own, or drop that measurement.",
                    lasting=True,
                )
            return _halved(lines, count, said)
        raise self._error(answer)

    def _error(self, answer: Answer) -> SinkError:
        status, said = answer.status, f": {answer.error[:_MAX_SAID]}" if answer.error else ""
        name = f"InfluxDB at {self._address.name}"
        if status in _UNAUTHORIZED:
            return SinkError(
                f"{name} refuses the user and password, or the token, of the sink's URL, or lacks its right to write "
                f"({status}){said}.",
                lasting=True,
            )
        if status == HTTPStatus.NOT_FOUND:
            return SinkError(f"{name} is not there ({status}){said}. {self._address.missing}", lasting=True)
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return SinkError(
                f"{name} answers with a redirect ({status}), which is not followed: give the address it leads to.",
                lasting=True,
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            return SinkError(f"{name} cannot take anything now ({status}){said}.", retry_after=answer.retry_after)
        return SinkError(
            f"{name} answers as no InfluxDB does ({status}){said}: look at the address, and whether it speaks TLS (influxdbs://).",
            lasting=True,
        )


def _halved(lines: Sequence[str], count: _Count, reason: str) -> list[Sequence[str]]:
    """Return the halves of *lines*, which were refused together; of a single line nothing: that one is counted."""
    if len(lines) == 1:
        count.refuse(1, reason)
        return []
    middle = len(lines) // 2
    return [lines[:middle], lines[middle:]]


def _too_old(error: str) -> int:
    """Return how many lines *error* says are too old, in the words of one version or another."""
    found = _TOO_OLD.match(error)
    return int(found[1] or found[2]) if found else 0
