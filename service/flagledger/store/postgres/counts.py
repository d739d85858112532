"""Counts over time and by groups, as PostgreSQL is asked for them."""

from __future__ import annotations

from typing import Final

from flagledger.store import buckets, shaping
from flagledger.store.conditions import Conditions
from flagledger.store.postgres.sql import SAMPLED, VALUE, Moment, Reader, ask, conditions, sample_mask, with_trait
from flagledger.store.questions import CountQuestion, Counts, Group

# Bytes of a trait beyond which its digest stands for it.
_LONGEST_TRAIT: Final = 4_096

# The rows are looked at twice, so that nothing is kept of each: once for the counts, which say what series are kept, and once for
# who is in them. Identities are told apart by hashes of groups; to count distinct ones as such, PostgreSQL would sort every row.
# What a group comes to is never an empty text, so that one stands for NULL where series are joined: NULLs are not equal.
_COUNTS: Final = """
    WITH grouped AS MATERIALIZED (
        SELECT {bucket} AS bucket, {columns} sum("count")::bigint AS evaluations,
            (sum("count") FILTER (WHERE enabled))::bigint AS enabled_ones,
            (sum("count") FILTER (WHERE enabled IS NOT NULL))::bigint AS known, bool_or({sampled}) AS sampled
        FROM {source} WHERE {where} GROUP BY {by_columns}
    ), parts AS (
        SELECT bucket, {groups} evaluations, enabled_ones, known FROM grouped
    ), ranked AS MATERIALIZED (
        SELECT {names} row_number() OVER (ORDER BY sum(evaluations) DESC {order}) AS rank FROM parts {by}
    ), tallies AS (
        SELECT {series} AS series, bucket, sum(evaluations)::bigint AS evaluations,
            coalesce(sum(enabled_ones), 0)::bigint AS enabled_ones, coalesce(sum(known), 0)::bigint AS known
        FROM parts {join} GROUP BY {sets}
    ), seen AS (
        SELECT bucket, {groups} identity FROM (
            SELECT {bucket} AS bucket, {columns} identity_hash AS identity
            FROM {source} WHERE {where} AND identity_hash IS NOT NULL {some}
        ) AS rows
    ), apart AS (
        SELECT {series} AS series, bucket FROM seen AS parts {join} GROUP BY {identity_sets}
    ), identities AS (
        SELECT series, bucket, count(*) * {weight} AS identities FROM apart GROUP BY series, bucket
    )
    SELECT (SELECT bool_or(sampled) FROM grouped), tallies.*, coalesce(identities, 0), {values}
    FROM tallies
    LEFT JOIN identities ON identities.series = tallies.series AND coalesce(identities.bucket, -1) = coalesce(tallies.bucket, -1)
    LEFT JOIN ranked ON tallies.series = rank
    ORDER BY tallies.series = {rest}, tallies.series, tallies.bucket NULLS FIRST
"""


def count_evaluations(reader: Reader, question: CountQuestion) -> Counts:
    """Return counts over time and by groups."""
    asked = conditions(question.filter)
    bucket_starts = buckets.of_period(
        (question.filter.start, question.filter.end),
        question.bucket,
        question.time_zone,
        lambda: reach(reader, asked, "evaluation_time"),
    )
    mask = sample_mask(reader, asked)
    groups = [_group(asked, group, index) for index, group in enumerate(question.group_by)]
    names = [f"group_{index}" for index in range(len(groups))]
    columns = [
        (f"{name}_{number}", column)
        for (columns, _), name in zip(groups, names, strict=True)
        for number, column in enumerate(columns)
    ]
    asked.parameters["series_limit"] = question.series_limit
    rows = ask(
        reader,
        _COUNTS.format(
            bucket=bucket_index(asked, "evaluation_time", bucket_starts) if bucket_starts else "0",
            columns="".join(f"{column} AS {name}, " for name, column in columns),
            by_columns=", ".join(str(1 + number) for number in range(len(columns) + 1)),
            groups="".join(
                f"{sql.format(*(f'{name}_{number}' for number in range(len(columns))))} AS {name}, "
                for (columns, sql), name in zip(groups, names, strict=True)
            ),
            sampled=SAMPLED,
            source=asked.source,
            where=asked.where,
            names="".join(f"{name}, " for name in names),
            order="".join(f", {name} NULLS FIRST" for name in names),
            by=f"GROUP BY {', '.join(names)}" if names else "",
            series=f"CASE WHEN rank <= %(series_limit)s THEN rank ELSE {shaping.REST_SERIES} END",
            join="JOIN ranked ON "
            + (
                " AND ".join(f"coalesce(parts.{name}::text, '') = coalesce(ranked.{name}::text, '')" for name in names)
                or "true"
            ),
            sets="GROUPING SETS ((1, bucket), (1))" if bucket_starts else "1, bucket",
            some=f"AND identity_hash & {mask} = 0" if mask else "",
            identity_sets="GROUPING SETS ((1, bucket, identity), (1, identity))"
            if bucket_starts
            else "1, bucket, identity",
            weight=mask + 1,
            rest=shaping.REST_SERIES,
            values=", ".join(names) or "NULL",
        ),
        asked.parameters,
    )
    return Counts(
        series=shaping.series((row[1:] for row in rows), question, len(bucket_starts)),
        bucket_starts=bucket_starts,
        identities_approximate=bool(mask),
        identities_lower_bound=bool(rows and rows[0][0]),
    )


def reach(reader: Reader, asked: Conditions, column: str) -> tuple[int | None, int | None]:
    """Return the earliest and the latest time in *column* of the rows that are asked for; None where there are none."""
    ((first, last),) = ask(
        reader,
        f"SELECT min({column}), max({column}) FROM {asked.source} WHERE {asked.where}",  # noqa: S608  # ours
        asked.parameters,
    )
    return first, last


def bucket_index(asked: Conditions, column: str, bucket_starts: tuple[int, ...]) -> str:
    """Return SQL for the index of the bucket that the time in *column* lies in; there is one at least."""
    asked.parameters["bucket_starts"] = [Moment(start) for start in bucket_starts]
    return f"width_bucket({column}, %(bucket_starts)b) - 1"


def _group(asked: Conditions, group: Group, index: int) -> tuple[tuple[str, ...], str]:
    """Return the columns that rows are told apart by, as SQL, and SQL for what they come to, NULL where there is none."""
    match group.kind:
        case "feature":
            return ("feature_name",), "nullif({0}, '')"
        case "enabled" | "origin" as name:
            return (name,), "{0}"
        case "value":
            return (VALUE,), "nullif({0}, 'null')"
        case "variant" | "reason" as name:
            return (name,), "nullif({0}, '')"
        case "segment":
            # One row for each segment, and one where there is none.
            asked.source += " LEFT JOIN LATERAL unnest(segment_names) WITH ORDINALITY AS own (segment, place) ON true"
            asked.require("(place IS NULL OR place = array_position(segment_names, segment))")
            return ("segment",), "nullif({0}, '')"
        case "sdk":
            named = "CASE WHEN {1} = '' THEN {0} ELSE {0} || '/' || {1} END"
            return ("sdk_name", "sdk_version"), f"nullif({named}, '')"
        case "trait":
            # An answer has no room for long ones; those of values are digests already.
            digest = "'\"#' || md5({0}) || '\"'"
            text = f"CASE WHEN octet_length({{0}}) > {_LONGEST_TRAIT} THEN {digest} ELSE nullif({{0}}, 'null') END"
            return (with_trait(asked, group.trait_key, f"trait_{index}"),), text
