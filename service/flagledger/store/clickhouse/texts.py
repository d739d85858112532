"""
Long texts, read only where the answer has room for them.

A public key may send them, and ClickHouse keeps them in their rows: what an answer is made of is looked up without them first;
then they are read of those rows alone, which are found by what rows are sorted by.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from flagledger.store.clickhouse.client import Reader
from flagledger.store.clickhouse.sql import at_once, moment
from flagledger.store.value_keys import LONG_BYTES

COLUMNS: Final = ("value", "identity_traits", "metadata")
"""Columns of JSON texts; what others hold is short enough."""

Place = tuple[str, int, int]
"""Where a row of an environment stands: its feature, its time of evaluation in microseconds since the epoch, its position."""

PLACES: Final = f"""
    environment = {{environment:String}} AND (feature_name, evaluation_time, position) IN (
        SELECT place_feature, {moment("place_time")}, place_position
        FROM (SELECT {{place_features:Array(String)}} AS features, {{place_times:Array(Int64)}} AS times,
            {{place_positions:Array(Int64)}} AS positions)
        ARRAY JOIN features AS place_feature, times AS place_time, positions AS place_position
    )
"""  # noqa: S608  # ours
"""Rows that stand in places, as SQL; its parameters are those of `places`."""


def places(environment: str, wanted: Sequence[Place]) -> dict[str, object]:
    """Return the parameters of `PLACES`."""
    features, times, positions = zip(*wanted, strict=True)
    return {
        "environment": environment,
        "place_features": list(features),
        "place_times": list(times),
        "place_positions": list(positions),
    }


def short(column: str) -> str:
    """Return SQL for the text in *column*, NULL where that is long."""
    return f"if(length({column}) > {LONG_BYTES}, NULL, {column})"


def long_bytes(*columns: str) -> str:
    """Return SQL for the bytes of the texts in *columns* that are long."""
    return " + ".join(f"if(length({column}) > {LONG_BYTES}, length({column}), 0)" for column in columns)


def read(
    reader: Reader, environment: str, wanted: Sequence[Place], columns: Sequence[str] = COLUMNS
) -> dict[tuple[int, str], str | None]:
    """Return the whole texts in *columns* of the rows in places, by position and column."""
    return {
        (position, column): text
        for some in at_once(wanted, itemgetter(0))
        for position, *texts in reader.query(
            f"SELECT position, {', '.join(columns)} FROM evaluations WHERE position <= {{visible:Int64}} AND {PLACES}",  # noqa: S608  # ours
            {**places(environment, some), "visible": reader.visible},
        )
        for column, text in zip(columns, texts, strict=True)
    }
