"""
What the questions have in common, as ClickHouse is told it: filters, times, values, samples.

Names that a statement gives (`AS`) are never those of columns: ClickHouse would take one for the other wherever both can stand.
Most columns are never NULL, so that a sum over no rows is 0, and the least or the last of none an epoch: where there may be
none, `minOrNull` and `maxOrNull` tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from flagledger.store.clickhouse import traits
from flagledger.store.clickhouse.client import Reader
from flagledger.store.conditions import Conditions
from flagledger.store.questions import Filter
from flagledger.store.sampling import mask_for

T = TypeVar("T")

IDENTITY_HASH: Final = "cityHash64({})"
"""Hash of an identity, as SQL: what the column `identity_hash` holds."""
VALUE_KEY: Final = "ifNull(value_key, value)"
"""What is equal where values are, and short, as SQL."""
DIGEST: Final = "concat('\"#', lower(hex(MD5({}))), '\"')"
"""A JSON string that stands for a long text, as SQL."""

# What a DateTime64 of microseconds is sure to hold, and more than any row has: the years 1900 to 2299.
_FIRST_TIME: Final = -2_208_988_800_000_000
_LAST_TIME: Final = 10_413_792_000_000_000

# What the values of one parameter may come to: a server takes 128 KiB, in which some characters take two bytes.
_PARAMETER_BYTES: Final = 50_000
# A number among them, and what stands between two.
_NUMBER_BYTES: Final = 24


def conditions(reader: Reader, asked: Filter) -> Conditions:
    """Return what *asked* comes to of the rows that are visible to *reader*."""
    made = Conditions()
    made.must("environment", asked.environment, "environment = {environment:String}")
    made.must("feature_name", asked.feature_name, "feature_name = {feature_name:String}")
    made.must("visible", reader.visible, "position <= {visible:Int64}")
    # The hash first: it rules out nearly all, and is cheap to look at.
    made.must(
        "identity_identifier",
        asked.identity_identifier,
        f"identity_hash = {IDENTITY_HASH.format('{identity_identifier:String}')}",
        "identity_identifier = {identity_identifier:String}",
    )
    period(made, "evaluation_time", asked.start, asked.end)
    made.must("enabled", asked.enabled, "enabled = {enabled:Bool}")
    made.must("value", asked.value, "value = {value:String}")
    made.must("variant", asked.variant, "variant = {variant:String}")
    made.must("reason", asked.reason, "reason = {reason:String}")
    made.must("sdk_name", asked.sdk_name, "sdk_name = {sdk_name:String}")
    made.must("sdk_version", asked.sdk_version, "sdk_version = {sdk_version:String}")
    made.must("origin", asked.origin, "origin = {origin:Int32}")
    made.must("segment_name", asked.segment_name, "has(segment_names, {segment_name:String})")
    if asked.trait_key is not None:
        traits.having(made, asked.trait_key, asked.trait_value)
    return made


def period(made: Conditions, column: str, start: int | None, end: int | None) -> None:
    """Ask for [start, end) of the time in *column*, in microseconds since the epoch."""
    made.must("start", _within_reach(start), f"{column} >= {moment('{start:Int64}')}")
    made.must("end", _within_reach(end), f"{column} < {moment('{end:Int64}')}")


def _within_reach(time: int | None) -> int | None:
    return None if time is None else min(max(time, _FIRST_TIME), _LAST_TIME)


def moment(microseconds: str) -> str:
    """Return SQL for the time that is *microseconds*, SQL too, since the epoch."""
    return f"fromUnixTimestamp64Micro({microseconds}, 'UTC')"


def microseconds(column: str) -> str:
    """Return SQL for the microseconds since the epoch of the time in *column*."""
    return f"toUnixTimestamp64Micro({column})"


def bucket_index(column: str, bucket_starts: Sequence[int]) -> str:
    """Return SQL for the index of the bucket that the time in *column* lies in; 0 where there is none."""
    if not bucket_starts:
        # A bare number would be taken for a column's place where it is grouped by.
        return "toInt64(0)"
    # Looked up, and not told apart by conditions: months are as many runs as there are, which takes seconds to understand.
    starts = f"CAST([{', '.join(map(str, bucket_starts))}], 'Array(Int64)')"
    return f"transform(roundDown({microseconds(column)}, {starts}), {starts}, range({len(bucket_starts)}), 0)"


def at_once(wanted: Iterable[T], name: Callable[[T], str]) -> Iterator[list[T]]:
    """Yield *wanted* in parts that one statement can be asked about, each of which has a *name* and numbers."""
    part: list[T] = []
    size = 0
    for each in wanted:
        more = len(name(each).encode()) + _NUMBER_BYTES
        if part and size + more > _PARAMETER_BYTES:
            yield part
            part, size = [], 0
        part.append(each)
        size += more
    if part:
        yield part


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    What a first look at rows tells.

    Attributes:
        rows: How many there are.
        sampled: Whether some are what is left of more.
        first: The earliest time; None where there are none.
        last: The latest time; None where there are none.
    """

    rows: int
    sampled: bool
    first: int | None
    last: int | None


def look(reader: Reader, made: Conditions, column: str = "evaluation_time") -> Look:
    """Return what there is of the rows that *made* asks for, by the time in *column*."""
    ((rows, sampled, first, last),) = reader.query(
        f"SELECT count(), countIf(sample_rate < 1) > 0, {microseconds(f'minOrNull({column})')}, "  # noqa: S608  # ours
        f"{microseconds(f'maxOrNull({column})')} FROM {made.source} WHERE {made.where}",
        made.parameters,
    )
    return Look(rows=rows, sampled=bool(sampled), first=first, last=last)


def sample_mask(made: Conditions, rows: int) -> int:
    """
    Return the mask by which identities of *rows* that *made* asks for are sampled: those count whose hash has none of its bits.

    It is 0 where all count. An identity is in the sample with all of its evaluations or with none.
    """
    return 0 if "identity_identifier" in made.parameters else mask_for(rows)
