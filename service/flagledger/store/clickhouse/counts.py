"""Counts over time and by groups, as ClickHouse is asked for them: one pass over the rows, and all the rest out of that."""

from __future__ import annotations

from typing import Final

from flagledger.store import buckets, shaping
from flagledger.store.clickhouse.client import Reader
from flagledger.store.clickhouse.sql import DIGEST, VALUE_KEY, bucket_index, conditions, look, sample_mask
from flagledger.store.clickhouse.traits import with_trait
from flagledger.store.conditions import Conditions
from flagledger.store.questions import CountQuestion, Counts, Group
from flagledger.store.value_keys import LONG_BYTES

# Nothing is named in WITH: that would be computed once for each mention. What identities a part has goes on as a state, so that
# parts can be put together; the rest is all that is done with few rows.
_COUNTS: Final = """
    SELECT series, {point}, sum(part), sum(part_enabled), sum(part_known),
        uniqExactMerge(part_identities) * {weight}{values}
    FROM (
        SELECT *, if(place <= {{series_limit:UInt32}}, place, {rest}) AS series FROM (
            SELECT *, dense_rank() OVER (ORDER BY whole DESC{order}) AS place FROM (
                SELECT *, sum(part) OVER ({by}) AS whole FROM (
                    SELECT {bucket} AS bucket, {groups}sum(count) AS part, sumIf(count, enabled) AS part_enabled,
                        sumIf(count, enabled IS NOT NULL) AS part_known, uniqExactState({identity}) AS part_identities
                    FROM evaluations WHERE {where} GROUP BY bucket{names}
                )
            )
        )
    )
    GROUP BY {sets}
    ORDER BY series = {rest}, series, {point} NULLS FIRST
"""

# One row for each segment, and one where there is none.
_SEGMENT: Final = "arrayJoin(if(empty(segment_names), [''], arrayDistinct(segment_names)))"


def count_evaluations(reader: Reader, question: CountQuestion) -> Counts:
    """Return counts over time and by groups."""
    asked = conditions(reader, question.filter)
    found = look(reader, asked)
    bucket_starts = buckets.of_period(
        (question.filter.start, question.filter.end),
        question.bucket,
        question.time_zone,
        lambda: (found.first, found.last),
    )
    mask = sample_mask(asked, found.rows)
    names = [f"group_{index}" for index in range(len(question.group_by))]
    groups = [_group(asked, group, name) for group, name in zip(question.group_by, names, strict=True)]
    asked.parameters["series_limit"] = question.series_limit
    rows = reader.query(
        _COUNTS.format(
            weight=mask + 1,
            values="".join(f", any({name})" for name in names),
            rest=shaping.REST_SERIES,
            order="".join(f", {name} NULLS FIRST" for name in names),
            by=f"PARTITION BY {', '.join(names)}" if names else "",
            bucket=bucket_index("evaluation_time", bucket_starts),
            groups="".join(f"{group} AS {name}, " for group, name in zip(groups, names, strict=True)),
            identity=f"if(bitAnd(identity_hash, {mask}) = 0, identity_hash, NULL)" if mask else "identity_hash",
            where=asked.where,
            names="".join(f", {name}" for name in names),
            # Of each series the row without a bucket is its total.
            point="if(grouping(bucket) = 1, NULL, bucket)" if bucket_starts else "NULL",
            sets="GROUPING SETS ((series, bucket), (series))" if bucket_starts else "series",
        ),
        asked.parameters,
    )
    return Counts(
        series=shaping.series(rows, question, len(bucket_starts)),
        bucket_starts=bucket_starts,
        identities_approximate=bool(mask),
        identities_lower_bound=found.sampled,
    )


def _group(asked: Conditions, group: Group, name: str) -> str:
    """Return SQL for what rows are told apart by, NULL where there is none."""
    match group.kind:
        case "feature":
            return "feature_name"
        case "enabled" | "origin" as column:
            return column
        case "value":
            return f"nullIf({VALUE_KEY}, 'null')"
        case "variant" | "reason" as column:
            return f"nullIf({column}, '')"
        case "segment":
            return f"nullIf({_SEGMENT}, '')"
        case "sdk":
            return "nullIf(if(sdk_version = '', sdk_name, concat(sdk_name, '/', sdk_version)), '')"
        case "trait":
            # An answer has no room for long ones. In an array of its own the text is made once, however often it is mentioned.
            short = f"if(length(text) > {LONG_BYTES}, {DIGEST.format('text')}, text)"
            return f"arrayMap(text -> nullIf({short}, 'null'), [{with_trait(asked, group.trait_key, name)}])[1]"
