"""
From one store into another, whatever their engines: what has been applied, range by range, each with its position.

The target knows how far it is, so that a copy that was stopped anywhere goes on from there; nothing else is kept. What the source
has erased or dropped is not there to be copied. In the end both are read again in full and compared, by count and by checksum.

```text
source.applied(behind the target's position) ─▶ target.apply ─▶ … ─▶ both read again, counted and summed up
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from flagledger.store import opening
from flagledger.store.applied import Applied, Stream
from flagledger.store.base import Store
from flagledger.store.checksums import KINDS, Checksum, Since
from flagledger.store.columns import INDEX_BITS
from flagledger.store.errors import OtherJournalError, StoreError

Phase = Literal["copying", "checking the source", "checking the target"]

# Of what is in the target already, as much is compared before more is added to it.
_LOOKED_BACK_ENTRIES: Final = 1_000


class CopyRefusedError(StoreError):
    """The target is not for this source. The message says why; nothing was copied into it."""

    temporary = False


class DifferenceError(StoreError):
    """What was copied is not what the source holds. The message says where."""

    temporary = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """
    How far a phase is.

    Attributes:
        phase: What is being done.
        position: Position of the entry it has come to.
        first: Position behind which it began.
        last: Position it goes to.
        rows: Evaluations of the range that was done just now.
    """

    phase: Phase
    position: int
    first: int
    last: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """
    What was done.

    Attributes:
        stream: The journal, and the position that both stores are at.
        after: Position behind which this copy began.
        rows: Evaluations that it copied.
        counts: How many evaluations, discards and set-aside entries both stores hold, by `checksums.KINDS`.
        checksum: Over every column of them, the same in both.
        outlived: How many the target holds beside, which are older than everything that the source still has.
    """

    stream: Stream
    after: int
    rows: int
    counts: dict[str, int]
    checksum: str
    outlived: int


def open_source(url: str) -> Store:
    """
    Open the store at *url* to copy it: beside the one that writes where it is shared, else for this process alone.

    Raises:
        NotInstalledError: A library is missing.
        HeldError: Another process has it, and it cannot be shared.
        StoreError: It is not there, or cannot be opened.
    """
    kind, _, rest = url.partition(":")
    path = Path(rest.partition("?")[0] if kind == "chdb" else rest)
    if kind in opening.EMBEDDED and not path.exists():
        raise CopyRefusedError(f"There is no store at {path}.")
    if kind != "duckdb":
        return opening.open_reader(url)
    return opening.open_store(url)


def copy(source: Store, target: Store, on_step: Callable[[Step], None]) -> Copied:
    """
    Copy everything that *source* has applied by now and *target* has not, and compare what both hold.

    Args:
        source: Read alone.
        target: Open for writing, by nobody else.
        on_step: Is told after each range how far it is.

    Raises:
        CopyRefusedError: The target holds something else.
        DifferenceError: The two differ in the end.
        StoreError: One of them fails. What was copied is kept; the same call goes on from there.
    """
    stream = source.stream()
    if stream is None:
        raise CopyRefusedError("There is nothing to copy: nothing has ever been applied to the source.")
    after = _checked(source, target, stream)
    # What was begun when an earlier copy was killed: ranges are others now, and what it holds may have been erased since.
    target.withdraw(stream.identity)
    rows = 0
    for found in _ranges(source, after, stream.position):
        target.apply(stream.identity, found.first, found.last, found.rows, found.discards, found.set_aside)
        target.maintain()
        rows += found.rows.num_rows
        on_step(Step(phase="copying", position=found.last, first=after, last=stream.position, rows=found.rows.num_rows))
    target.checkpoint()
    counts, checksum, outlived = _compared(source, target, stream.position, on_step)
    return Copied(stream=stream, after=after, rows=rows, counts=counts, checksum=checksum, outlived=outlived)


def _checked(source: Store, target: Store, stream: Stream) -> int:
    """Return the position that *target* is at, if it is one that *source* can be copied into."""
    try:
        position = target.position(stream.identity)
        begun = target.begun(stream.identity)
    except OtherJournalError as error:
        raise CopyRefusedError(
            f"The target records another journal than the source, {stream.identity}: copy into a new store. ({error})"
        ) from error
    if max(position, begun or 0) > stream.position:
        raise CopyRefusedError(
            f"The target is at position {max(position, begun or 0):,}, ahead of the source, which is at {stream.position:,}: "
            "something else has been recorded into it. Copy into a new store, or the other way."
        )
    behind = max(0, position - _LOOKED_BACK_ENTRIES)
    mine, theirs = (_first_range(store, behind, position) for store in (source, target))
    if mine is not None and theirs is not None:
        last = min(mine.last, theirs.last)
        difference = _difference(up_to(mine, last), up_to(theirs, last))
        if difference:
            raise CopyRefusedError(
                "What the target holds already is not of this source, or something was erased in one of them alone: "
                f"{difference} Copy into a new store."
            )
    return position


def _first_range(store: Store, after: int, last: int) -> Applied | None:
    found = next(iter(store.applied(after)), None) if after < last else None
    return None if found is None else up_to(found, min(found.last, last))


def _difference(mine: Applied, theirs: Applied) -> str | None:
    one = Checksum(mine.last)
    one.add(mine)
    two = Checksum(mine.last, one.since())
    two.add(theirs)
    difference = _sentence(one, two)
    one.close()
    two.close()
    return difference


def _ranges(store: Store, after: int, last: int) -> Iterator[Applied]:
    """Yield what *store* holds behind *after*, and nothing that lies behind *last*."""
    if after >= last:
        return
    for found in store.applied(after):
        yield up_to(found, min(found.last, last))
        if found.last >= last:
            return


def up_to(found: Applied, last: int) -> Applied:
    """Return *found* without what lies behind the entry *last*."""
    if last == found.last:
        return found
    end = pa.scalar((last + 1) << INDEX_BITS, pa.int64())
    rows, discards = (batch.filter(pc.less(batch.column("position"), end)) for batch in (found.rows, found.discards))
    set_aside = tuple(entry for entry in found.set_aside if entry.position <= last)
    return Applied(first=found.first, last=last, rows=rows, discards=discards, set_aside=set_aside)


def _compared(
    source: Store, target: Store, last: int, on_step: Callable[[Step], None]
) -> tuple[dict[str, int], str, int]:
    """Return how many of each kind both hold, their checksum, and how many older ones the target holds beside."""
    mine = _summed(source, last, None, "checking the source", on_step)
    # What the source has dropped since it was copied is older than all that it still holds.
    theirs = _summed(target, last, mine.since(), "checking the target", on_step)
    difference = _sentence(mine, theirs)
    if difference:
        raise DifferenceError(
            f"What was copied is not what the source holds: {difference} What was erased from the source after it was copied "
            "is still in the target: then copy into a new store."
        )
    counts = {kind: mine.sum(kind).count for kind in KINDS}
    mine.close()
    theirs.close()
    return counts, mine.text(), theirs.before()


def _summed(store: Store, last: int, since: Since | None, phase: Phase, on_step: Callable[[Step], None]) -> Checksum:
    checksum = Checksum(last, since)
    for found in _ranges(store, 0, last):
        checksum.add(found)
        on_step(Step(phase=phase, position=found.last, first=0, last=last, rows=found.rows.num_rows))
    return checksum


def _sentence(mine: Checksum, theirs: Checksum) -> str | None:
    """Return where *theirs* differs from *mine*, in a sentence; None where it does not."""
    found = mine.difference(theirs)
    if found is None:
        return None
    kind, first, last, expected, there = found
    count = f"there are {expected:,} in the source and {there:,} in the target"
    same = f"there are {expected:,} in both, and they are not the same"
    return f"of the {kind} of entries {first:,} to {last:,} {same if expected == there else count}."
