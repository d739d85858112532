"""What the questions have in common, as DuckDB is told it: filters, traits, long values, one moment for several statements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import duckdb

from flagledger.store.buckets import index_sql
from flagledger.store.conditions import Conditions
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.duckdb.hashes import FEATURE_HASH, IDENTITY_HASH
from flagledger.store.questions import Filter
from flagledger.store.sampling import EXACT_ROWS, mask_for

SAMPLED: Final = "sample_rate < 1"
"""Whether a row is one of a sample, as SQL."""

# Rows are looked at in blocks of 2,048: one in a hundred of those tells well enough how many match.
_ESTIMATE_PERCENT: Final = 1
# An estimate between a quarter of the limit and half as much again is made sure of, which costs another look at every row.
_DOUBT: Final = (EXACT_ROWS // 4, EXACT_ROWS * 3 // 2)
_SAMPLED: Final = f"(FROM evaluations TABLESAMPLE SYSTEM({_ESTIMATE_PERCENT}%) REPEATABLE (1))"


def conditions(asked: Filter) -> Conditions:
    """Return what *asked* comes to, but for traits: those need `with_trait`."""
    made = Conditions()
    made.must("environment", asked.environment, "environment = $environment")
    # The hash first: it rules out nearly all, and is cheap to look at.
    made.must(
        "feature_name",
        asked.feature_name,
        f"feature_hash = {FEATURE_HASH.format('$feature_name')}",
        "feature_name = $feature_name",
    )
    made.must(
        "identity_identifier",
        asked.identity_identifier,
        f"identity_hash = {IDENTITY_HASH.format('$identity_identifier')}",
        "identity_identifier = $identity_identifier",
    )
    period(made, "evaluation_time", asked.start, asked.end)
    made.must("enabled", asked.enabled, "enabled = $enabled")
    made.must("value", asked.value, "value = $value")
    made.must("variant", asked.variant, "variant = $variant")
    made.must("reason", asked.reason, "reason = $reason")
    made.must("sdk_name", asked.sdk_name, "sdk_name = $sdk_name")
    made.must("sdk_version", asked.sdk_version, "sdk_version = $sdk_version")
    made.must("origin", asked.origin, "origin = $origin")
    made.must("segment_name", asked.segment_name, "list_contains(segment_names, $segment_name)")
    return made


def period(made: Conditions, column: str, start: int | None, end: int | None) -> None:
    """Ask for [start, end) of the time in *column*, in microseconds since the epoch."""
    made.must("start", start, f"{column} >= make_timestamp($start)")
    made.must("end", end, f"{column} < make_timestamp($end)")


def filtered(
    connection: duckdb.DuckDBPyConnection, asked: Filter, *, between: tuple[int, int] | None = None
) -> Conditions:
    """Return what *asked* comes to, traits included; *between* says which positions will be looked at, where that is known."""
    made = conditions(asked)
    if asked.trait_key is None:
        return made
    name = with_trait(connection, made, asked.trait_key, "asked_trait", between=between)
    if asked.trait_value is None:
        made.require(f"{name} IS NOT NULL")
    else:
        # Both are written by the same hand, so that equal JSON is equal text.
        made.must("trait_value", f'{{"v":{asked.trait_value}}}', f"{name} = json_extract($trait_value, '/v')")
    return made


def with_trait(
    connection: duckdb.DuckDBPyConnection,
    made: Conditions,
    key: str,
    name: str,
    *,
    between: tuple[int, int] | None = None,
) -> str:
    """Give the source of *made* a column *name* with the JSON text of the trait *key*, NULL where it is not there; return it."""
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    made.parameters[f"{name}_pointer"] = pointer
    inline = f"json_extract(nullif(source.identity_traits, ''), ${name}_pointer)"
    long = duckdb_texts.extract(
        connection, "identity_traits", "json_extract(text, $parameter)", pointer, between=between
    )
    if long.num_rows:
        connection.register(f"long_{name}", long)
        made.source = (
            f"(SELECT source.*, coalesce(long.extract, {inline}) AS {name} FROM {made.source} source "  # noqa: S608  # our names
            f"LEFT JOIN long_{name} long ON long.position = source.position)"
        )
    else:
        made.source = f"(SELECT source.*, {inline} AS {name} FROM {made.source} source)"  # noqa: S608  # our names
    return name


def with_value_key(connection: duckdb.DuckDBPyConnection, made: Conditions) -> str:
    """Give the source of *made* a column that is equal where values are, long ones too, and return its name."""
    long = duckdb_texts.digests(connection, "value")
    if not long.num_rows:
        return "value"
    connection.register("long_values", long)
    made.source = (
        "(SELECT source.*, coalesce(long.extract, source.value) AS value_key "  # noqa: S608  # our names
        f"FROM {made.source} source LEFT JOIN long_values long ON long.position = source.position)"
    )
    return "value_key"


def sample_mask(connection: duckdb.DuckDBPyConnection, made: Conditions) -> int:
    """
    Return the mask by which identities are sampled: those count whose hash has none of its bits; 0 where all do.

    An identity is in the sample with all of its evaluations or with none.
    """
    ((rows,),) = connection.execute("SELECT count(*) FROM evaluations").fetchall()
    if rows <= EXACT_ROWS or "identity_identifier" in made.parameters:
        return 0
    # Whatever a source adds to the table, it is made of this one.
    sampled = made.source.replace("evaluations", _SAMPLED, 1)
    # What a sample of blocks finds is far off where what is asked for stands together in few of them.
    matching = _count(connection, sampled, made) * 100 // _ESTIMATE_PERCENT
    if _DOUBT[0] < matching < _DOUBT[1]:
        matching = _count(connection, made.source, made)
    return mask_for(matching)


def _count(connection: duckdb.DuckDBPyConnection, source: str, made: Conditions) -> int:
    ((rows,),) = connection.execute(
        f"SELECT count(*) FROM {source} WHERE {made.where}",  # noqa: S608  # our conditions
        made.parameters,
    ).fetchall()
    return int(rows)


def is_sample(connection: duckdb.DuckDBPyConnection, made: Conditions) -> bool:
    """
    Return whether some of the rows that *made* asks for were sampled.

    Blocks without any are skipped by their least rate, so that where nothing was sampled this costs next to nothing.
    """
    return bool(
        connection.execute(
            f"SELECT 1 FROM {made.source} WHERE {made.where} AND {SAMPLED} LIMIT 1",  # noqa: S608  # our conditions
            made.parameters,
        ).fetchall()
    )


def bucket_index(column: str, bucket_starts: Sequence[int]) -> str:
    """Return SQL for the index of the bucket that the time in *column* lies in; 0 where there is none."""
    return f"({index_sql(f'epoch_us({column})', bucket_starts, '{0} // {1}')})::INTEGER"


@contextmanager
def one_moment(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let every statement of the block see the same rows."""
    connection.execute("BEGIN TRANSACTION READ ONLY").fetchall()
    try:
        yield
    finally:
        connection.execute("ROLLBACK").fetchall()
