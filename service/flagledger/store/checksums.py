"""
Checksums of what stores hold, which two stores have in common exactly if they hold the same.

Each row comes to 64 bits over all of its columns, and rows are summed up: in whatever order and ranges they are read, the sum is
the same. It is made within DuckDB, over Arrow columns. Sums are kept for stretches of entries, so that where two stores differ is
known to some hundredth of what they hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import duckdb
import pyarrow as pa

from flagledger.store.applied import Applied
from flagledger.store.columns import DISCARDS, INDEX_BITS, ROWS

KINDS: Final = ("evaluations", "discards", "set-aside entries")
"""What a store holds."""

_STRETCHES: Final = 256
_BITS: Final = 128
_SET_ASIDE: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("payload", pa.binary(), nullable=False),
        pa.field("description", pa.string(), nullable=False),
    ]
)


def _hash(schema: pa.Schema) -> str:
    return ", ".join(f'"{name}"' for name in schema.names)


# Each asks for (stretch, how many, their sum, the earliest of their times), of what has a time at or behind $since.
_SELECT: Final = """
    SELECT ({entry} - 1) // $width AS stretch, count(*) FILTER (WHERE {time} >= $since),
        coalesce(sum(hash({columns})) FILTER (WHERE {time} >= $since), 0)::HUGEINT, min({time})
    FROM arriving GROUP BY stretch
"""
_ENTRY: Final = f"(position >> {INDEX_BITS})"
_TIME: Final = "epoch_us(receive_time)"
_SQL: Final = {
    "evaluations": _SELECT.format(entry=_ENTRY, time=_TIME, columns=_hash(ROWS)),
    "discards": _SELECT.format(entry=_ENTRY, time=_TIME, columns=_hash(DISCARDS)),
    # Of these it is the position that tells what came first.
    "set-aside entries": _SELECT.format(entry="position", time="position", columns=_hash(_SET_ASIDE)),
}
_BEGINNING: Final = -(1 << 63)
_END: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """
    What belongs to a checksum: evaluations and discards received at or behind a time each, since a store drops the ones before
    the others, and what was set aside at or behind a position.
    """

    evaluations: int = _BEGINNING
    discards: int = _BEGINNING
    set_aside: int = _BEGINNING

    def of(self, kind: str) -> int:
        """Return the bound of *kind*, one of `KINDS`."""
        return dict(zip(KINDS, (self.evaluations, self.discards, self.set_aside), strict=True))[kind]


@dataclass(slots=True)
class Sum:
    """How many there are, and what they come to."""

    count: int = 0
    total: int = 0

    def add(self, other: Sum) -> None:
        """Add *other*."""
        self.count += other.count
        self.total += other.total


@dataclass(slots=True)
class _Extent:
    """How many were looked at, and the earliest of them."""

    looked: int = 0
    earliest: int = _END


@dataclass(slots=True)
class _Sums:
    stretches: dict[int, Sum] = field(default_factory=dict)
    extent: _Extent = field(default_factory=_Extent)


class Checksum:
    """
    Sums up ranges.

    Args:
        last: Position of the last entry there will be.
        since: What belongs to it; by default all.
    """

    def __init__(self, last: int, since: Since | None = None) -> None:
        self._width = max(1, -(-last // _STRETCHES))
        self._since = since or Since()
        self._kinds = {kind: _Sums() for kind in KINDS}
        self._connection = duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False})

    def add(self, found: Applied) -> None:
        """Add what *found* holds."""
        columns = zip(*((entry.position, entry.payload, entry.description) for entry in found.set_aside), strict=True)
        set_aside = pa.record_batch(
            [pa.array(column, each.type) for column, each in zip(list(columns) or [()] * 3, _SET_ASIDE, strict=True)],
            schema=_SET_ASIDE,
        )
        for kind, batch in zip(KINDS, (found.rows, found.discards, set_aside), strict=True):
            self._add(kind, batch)

    def sum(self, kind: str) -> Sum:
        """Return what all of *kind* comes to."""
        whole = Sum()
        for each in self._kinds[kind].stretches.values():
            whole.add(each)
        return whole

    def text(self) -> str:
        """Return the checksum over everything."""
        total = sum(self.sum(kind).total * (2 * number + 1) for number, kind in enumerate(KINDS))
        return f"{total % (1 << _BITS):0{_BITS // 4}x}"

    def before(self) -> int:
        """Return how many were looked at and do not belong to it."""
        return sum(sums.extent.looked for sums in self._kinds.values()) - sum(self.sum(kind).count for kind in KINDS)

    def since(self) -> Since:
        """Return bounds that leave out only what is older than everything of its kind here."""
        evaluations, discards, set_aside = (self._kinds[kind].extent.earliest for kind in KINDS)
        return Since(evaluations=evaluations, discards=discards, set_aside=set_aside)

    def difference(self, other: Checksum) -> tuple[str, int, int, int, int] | None:
        """
        Return what differs first in *other*; None where nothing does.

        Returns:
            Its kind, the first and the last entry of the stretch, and how many there are here and in *other*.
        """
        for kind in KINDS:
            mine, theirs = self._kinds[kind].stretches, other._kinds[kind].stretches
            for stretch in sorted(mine.keys() | theirs.keys()):
                one, two = mine.get(stretch, Sum()), theirs.get(stretch, Sum())
                if one != two:
                    return kind, stretch * self._width + 1, (stretch + 1) * self._width, one.count, two.count
        return None

    def close(self) -> None:
        """Let go of the engine."""
        self._connection.close()

    def _add(self, kind: str, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        sums = self._kinds[kind]
        sums.extent.looked += batch.num_rows
        self._connection.register("arriving", batch)
        try:
            found = self._connection.execute(
                _SQL[kind], {"width": self._width, "since": self._since.of(kind)}
            ).fetchall()
        finally:
            self._connection.unregister("arriving")
        for stretch, count, total, earliest in found:
            if count:
                sums.stretches.setdefault(stretch, Sum()).add(Sum(count, total))
            sums.extent.earliest = min(sums.extent.earliest, earliest)
