"""What the questions have in common, as PostgreSQL is told it: filters, times, traits, arms, and how identities are sampled."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.pq import Format

from flagledger.store.conditions import Conditions
from flagledger.store.json_texts import json_text
from flagledger.store.postgres.schema import OF_FEATURE, OF_IDENTITY
from flagledger.store.questions import Filter
from flagledger.store.sampling import EXACT_ROWS, mask_for

Reader = psycopg.Connection[tuple[Any, ...]]
"""Within a transaction of its own that only reads, so that every statement sees the same rows."""

SAMPLED: Final = "sample_rate < 1"
"""Whether a row is one of a sample, as SQL; as the index of such rows has it."""
VALUE: Final = "coalesce(value_key, value)"
"""SQL for a text that is equal where values are, and short; NULL where there is none."""
EPOCH: Final = 946_684_800_000_000
"""2000-01-01T00:00:00Z, which PostgreSQL counts from, in microseconds since 1970."""

# Pages of a table that tell how many of its rows match.
_ESTIMATE_PERCENT: Final = 1
# An estimate between a quarter of the limit and half as much again is made sure of, which costs another look at every row.
_DOUBT: Final = (EXACT_ROWS // 4, EXACT_ROWS * 3 // 2)
_SAMPLE: Final = f"evaluations TABLESAMPLE SYSTEM ({_ESTIMATE_PERCENT}) REPEATABLE (1)"

# PostgreSQL decodes no U+0000. Admission lets none in; one that came otherwise must not spoil the questions about all other rows.
# JSON holds no control characters, so that one can stand for an escaped backslash meanwhile.
_DECODABLE: Final = r"replace(replace(replace({0}, '\\', chr(1)), '\u0000', '\ufffd'), chr(1), '\\')"

# Nearly all traits have a key once, and those are quick. Of one that was sent twice the first counts, where `->` takes the last.
_TRAIT: Final = rf"""
    (CASE WHEN identity_traits IS NULL OR strpos(identity_traits, {{member}}) = 0 THEN NULL
        WHEN split_part(identity_traits, {{member}}, 3) = '' AND strpos(identity_traits, '\u0000') = 0
        THEN (identity_traits::json -> {{key}}::text)::text
        ELSE (
            SELECT member.value::text
            FROM json_each({_DECODABLE.format("identity_traits")}::json) WITH ORDINALITY AS member (key, value, number)
            WHERE member.key = {{key}} ORDER BY member.number LIMIT 1
        ) END COLLATE "C")
"""  # noqa: S608  # our names

ARM: Final = rf"""
    (CASE WHEN variant <> '' THEN variant
        WHEN value_key IS NOT NULL THEN btrim(value_key, '"')
        WHEN left(value, 1) <> '"' THEN value
        WHEN strpos(value, '\') = 0 THEN substr(value, 2, length(value) - 2)
        ELSE coalesce({_DECODABLE.format("value")}::json #>> '{{}}', '') END COLLATE "C")
"""
"""SQL for the arm of an evaluation."""


def room(fixed: int, *texts: str) -> str:
    """Return SQL for how much room of an answer a row takes, with the *texts* that it holds."""
    return " + ".join((str(fixed), *(f"coalesce(octet_length({text}), 0)" for text in texts)))


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment as a parameter of the type timestamptz, in microseconds since the epoch."""

    microseconds: int


class _MomentDumper(Dumper):
    oid = psycopg.adapters.types["timestamptz"].oid
    format = Format.BINARY

    def dump(self, obj: Moment) -> bytes:
        return struct.pack(">q", obj.microseconds - EPOCH)


class _MomentLoader(Loader):
    """Loads times as microseconds since the epoch."""

    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return int.from_bytes(data, "big", signed=True) + EPOCH


def ask(reader: Reader, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
    """Return the rows that *statement* finds; times come as microseconds since the epoch, and go in as a `Moment`."""
    return fetch(reader, statement, parameters or {}, {"timestamptz": _MomentLoader})


def fetch(
    reader: Reader, statement: str, parameters: Mapping[str, Any], loaders: Mapping[str, type[Loader]]
) -> list[tuple[Any, ...]]:
    """Return the rows that *statement* finds, values of some types as *loaders* have them."""
    with reader.cursor(binary=True) as cursor:
        cursor.adapters.register_dumper(Moment, _MomentDumper)
        for name, loader in loaders.items():
            cursor.adapters.register_loader(name, loader)
        # Each is planned for its own parameters: how much they match is what plans differ by.
        return cursor.execute(statement, parameters, prepare=False).fetchall()


def conditions(asked: Filter) -> Conditions:
    """Return what *asked* comes to."""
    made = environment_of(asked.environment)
    _text(made, "feature_name", asked.feature_name, OF_FEATURE)
    _text(made, "identity_identifier", asked.identity_identifier, OF_IDENTITY)
    period(made, "evaluation_time", asked.start, asked.end)
    made.must("enabled", asked.enabled, "enabled = %(enabled)s")
    # Of a long one it is the key that would be equal.
    made.must("value", asked.value, "value_key IS NULL", "value = %(value)s")
    _text(made, "variant", asked.variant, "variant = %(variant)s")
    _text(made, "reason", asked.reason, "reason = %(reason)s")
    _text(made, "sdk_name", asked.sdk_name, "sdk_name = %(sdk_name)s")
    _text(made, "sdk_version", asked.sdk_version, "sdk_version = %(sdk_version)s")
    made.must("origin", asked.origin, "origin = %(origin)s")
    _text(made, "segment_name", asked.segment_name, "%(segment_name)s = ANY (segment_names)")
    if asked.trait_key is not None:
        trait = with_trait(made, asked.trait_key, "asked_trait")
        if asked.trait_value is None:
            made.require(f"{trait} IS NOT NULL")
        else:
            # Both are written by the same hand, so that equal JSON is equal text.
            made.must("trait_value", asked.trait_value, f"{trait} = %(trait_value)s")
    return made


def environment_of(name: str) -> Conditions:
    """Return the condition of being of the environment called *name*."""
    made = Conditions()
    _text(made, "environment", name, "environment = %(environment)s")
    return made


def period(made: Conditions, column: str, start: int | None, end: int | None) -> None:
    """Ask for [start, end) of the time in *column*, in microseconds since the epoch."""
    made.must("start", None if start is None else Moment(start), f"{column} >= %(start)s")
    made.must("end", None if end is None else Moment(end), f"{column} < %(end)s")


def storable(texts: Sequence[str]) -> list[str]:
    """Return those of *texts* that a row may hold: PostgreSQL keeps no U+0000, and takes none as a parameter."""
    return [text for text in texts if "\0" not in text]


def _text(made: Conditions, name: str, value: str | None, *conditions: str) -> None:
    """Ask for *conditions* as `Conditions.must` does, of a *value* that may be one that no row can hold."""
    if value is not None and not storable([value]):
        made.require("false")
    else:
        made.must(name, value, *conditions)


def with_trait(made: Conditions, key: str, name: str) -> str:
    """Return SQL for the JSON text of the trait *key*, NULL where it is not there; *name* tells its parameters from others."""
    if not storable([key]):
        return "NULL::text"
    made.parameters |= {f"{name}_member": f"{json_text(key)}:", f"{name}_key": key}
    return _TRAIT.format(member=f"%({name}_member)s", key=f"%({name}_key)s")


def sample_mask(reader: Reader, made: Conditions) -> int:
    """
    Return the mask by which identities are sampled: those count whose hash has none of its bits; 0 where all do.

    An identity is in the sample with all of its evaluations or with none.
    """
    if "identity_identifier" in made.parameters:
        return 0
    # What a sample of pages finds is far off where what is asked for stands together in few of them.
    matching = _count(reader, _SAMPLE, made) * 100 // _ESTIMATE_PERCENT
    if _DOUBT[0] < matching < _DOUBT[1]:
        matching = _count(reader, made.source, made)
    return mask_for(matching)


def _count(reader: Reader, source: str, made: Conditions) -> int:
    ((rows,),) = ask(
        reader,
        f"SELECT count(*) FROM {source} WHERE {made.where}",  # noqa: S608  # our conditions
        made.parameters,
    )
    return int(rows)
