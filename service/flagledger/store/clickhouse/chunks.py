"""
How far the journal has been applied, and which range of it was begun.

ClickHouse commits the parts of an insert one by one, a day's rows each, and knows no transaction over two tables. So a range is
applied in three steps, each on the disk before the next: which range it is; its rows, under a token made of that range; that
it was applied. Whatever is killed in between, the very range is sent again under the very token, and what is there already
is not recorded twice. Until the third step no question sees any of it.

Each step is one row, with a number of its own: the last one counts, and the others go when ClickHouse merges them. Where the
answer to a first step was lost, another one of the same number may stand beside it, and either may be taken for the last one. So
whatever lies behind the position counts as the begun range's, its end or not (module `erase`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from flagledger.store.columns import INDEX_BITS

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_LAST: Final = """
    SELECT stream, sequence, max(position) OVER (), first, last, toUnixTimestamp64Micro(begin_time)
    FROM chunks ORDER BY sequence DESC, position DESC LIMIT 1
"""
_STEP: Final = """
    INSERT INTO chunks
    SELECT {stream:String}, {sequence:UInt64}, {position:Int64}, {first:Int64}, {last:Int64},
        fromUnixTimestamp64Micro({begin_time:Int64}, 'UTC'), {writer:String}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """
    A range that was begun, and not yet applied as a whole.

    Attributes:
        first: Position of its first entry.
        last: Position of its last entry.
        begin_time: When it was begun, in microseconds since the epoch: what else than rows is recorded bears this time.
        token: What its inserts are known by; no other range, and no second attempt at this one from the beginning, has it.
    """

    first: int
    last: int
    begin_time: int
    token: str

    def first_row(self) -> int:
        """Return the lowest position that a row of it may have."""
        return self.first << INDEX_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    What the last step was.

    Attributes:
        stream: Identity of the journal.
        sequence: Number of the step.
        position: Up to which entries have been applied.
        begun: The range that was begun; None where there is none.
    """

    stream: str
    sequence: int
    position: int
    begun: Begun | None = None

    def beginning(self, first: int, last: int, moment: int) -> Progress:
        """Return the step that begins entries *first* to *last* at *moment*."""
        sequence = self.sequence + 1
        return replace(self, sequence=sequence, begun=_begun(self.stream, sequence, first, last, moment))

    def committed(self, position: int) -> Progress:
        """Return the step after which entries up to *position* have been applied."""
        return replace(self, sequence=self.sequence + 1, position=position, begun=None)

    def withdrawn(self) -> Progress:
        """Return the step after which nothing is begun."""
        return replace(self, sequence=self.sequence + 1, begun=None)


def load(client: Client) -> Progress | None:
    """Return what the last step was; None where nothing was ever begun."""
    rows = client.query(_LAST).result_rows
    if not rows:
        return None
    stream, sequence, position, first, last, moment = rows[0]
    return Progress(
        stream=stream,
        sequence=sequence,
        position=position,
        begun=_begun(stream, sequence, first, last, moment) if last > position else None,
    )


def save(client: Client, progress: Progress, writer: str) -> None:
    """Take the step *progress*, as *writer*."""
    begun = progress.begun
    parameters: dict[str, Any] = {
        "stream": progress.stream,
        "sequence": progress.sequence,
        "position": progress.position,
        "first": begun.first if begun else 0,
        "last": begun.last if begun else 0,
        "begin_time": begun.begin_time if begun else 0,
        "writer": writer,
    }
    client.command(_STEP, parameters)


def _begun(stream: str, sequence: int, first: int, last: int, moment: int) -> Begun:
    return Begun(first=first, last=last, begin_time=moment, token=f"{stream}:{first}-{last}:{sequence}")
