"""
What a store is to answer, computed in the obvious way: loops over all that was recorded, as plain values.

JSON is compared in the form of `flagledger.store.json_texts`, which has tests of its own.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from flagledger.store.intake import MAX_REJECTIONS, Intake, IntakeQuestion, IntakeTally, UnknownFeature, UnknownFeatures
from flagledger.store.json_texts import json_text
from flagledger.store.questions import (
    MAX_ARMS,
    MAX_SDKS,
    ArmTotals,
    CountQuestion,
    Counts,
    Exposure,
    ExposureQuestion,
    Features,
    FeatureTotals,
    Filter,
    Group,
    GroupValue,
    RecordedRow,
    SdkUse,
    Series,
    Tally,
)
from store.naive_buckets import MINUTE, bucket_of, bucket_starts
from store.naive_rows import Discard, Row, grouped, matches, trait, within

LONG = 4_096
"""Bytes of a text beyond which it is known by its digest."""


def newest_first(rows: Iterable[Row], asked: Filter) -> list[Row]:
    """Return every row that is asked for, the newest first."""
    return sorted((row for row in rows if matches(row, asked)), key=when, reverse=True)


def list_evaluations(rows: Iterable[Row], asked: Filter) -> list[RecordedRow]:
    """Return every evaluation that is asked for, the newest first."""
    return [row.recorded for row in newest_first(rows, asked)]


def export(rows: Iterable[Row], asked: Filter, after_position: int) -> list[RecordedRow]:
    """Return every evaluation that is asked for behind *after_position*, in the order of receipt."""
    hits = [row for row in rows if matches(row, asked) and row.position > after_position]
    return [row.recorded for row in sorted(hits, key=lambda row: row.position)]


def when(row: Row) -> tuple[int, int]:
    """Return what evaluations are ordered by."""
    return row.evaluation_time, row.position


def list_features(rows: Sequence[Row], asked: Filter) -> Features:
    """Return the totals of every feature that is asked for, and the first receipt of the environment."""
    by_name = grouped((row.feature_name, row) for row in rows if matches(row, asked))
    return Features(
        totals=tuple(feature_totals(name, by_name[name]) for name in sorted(by_name)),
        data_since=min((row.receive_time for row in rows if row.environment == asked.environment), default=None),
    )


def feature_totals(name: str, hits: Sequence[Row]) -> FeatureTotals:
    """Return the totals of the feature that all *hits* are of."""
    total = tally(hits)
    values = grouped((row.identity_identifier, row.value) for row in hits if row.identity_identifier is not None)
    return FeatureTotals(
        feature_name=name,
        evaluation_count=total.evaluation_count,
        enabled_count=total.enabled_count,
        enabled_known_count=total.enabled_known_count,
        identity_count=total.identity_count,
        multiple_value_identity_count=sum(len(set(seen)) > 1 for seen in values.values()),
        identities_approximate=False,
        identities_lower_bound=is_sample(hits),
        first_evaluation_time=min(row.evaluation_time for row in hits),
        last_evaluation_time=max(row.evaluation_time for row in hits),
        last_value=max(hits, key=when).value,
        sdks=sdk_uses((row.sdk_name, row.sdk_version, row.count, row.evaluation_time) for row in hits),
    )


def is_sample(rows: Iterable[Row]) -> bool:
    """Return whether some of *rows* are left of more."""
    return any(row.sample_rate < 1 for row in rows)


def sdk_uses(uses: Iterable[tuple[str, str, int, int]]) -> tuple[SdkUse, ...]:
    """Return the SDKs of *uses*, each of a name, a version, a count and a time."""
    by_sdk = grouped(((name, version), (count, time)) for name, version, count, time in uses)
    found = [
        SdkUse(
            sdk_name=name,
            sdk_version=version,
            evaluation_count=sum(count for count, _ in each),
            last_time=max(time for _, time in each),
        )
        for (name, version), each in by_sdk.items()
    ]
    return tuple(sorted(found, key=lambda use: (-use.evaluation_count, use.sdk_name, use.sdk_version))[:MAX_SDKS])


def tally(rows: Iterable[Row]) -> Tally:
    """Return the sums over *rows*."""
    rows = list(rows)
    return Tally(
        evaluation_count=sum(row.count for row in rows),
        enabled_count=sum(row.count for row in rows if row.enabled),
        enabled_known_count=sum(row.count for row in rows if row.enabled is not None),
        identity_count=len({row.identity_identifier for row in rows} - {None}),
    )


def count_evaluations(rows: Iterable[Row], question: CountQuestion) -> Counts | None:
    """Return the counts that are asked for; None where there are too many buckets."""
    asked = question.filter
    hits = [row for row in rows if matches(row, asked)]
    times = [row.evaluation_time for row in hits]
    starts = bucket_starts(question.bucket, question.time_zone, asked.start, asked.end, times)
    if starts is None:
        return None
    by_groups = grouped(
        (groups, row) for row in hits for groups in itertools.product(*(values(row, by) for by in question.group_by))
    )
    if not question.group_by:
        by_groups.setdefault((), [])
    ordered = sorted(by_groups, key=lambda groups: (-tally(by_groups[groups]).evaluation_count, rank(groups)))
    kept, left = ordered[: question.series_limit], ordered[question.series_limit :]
    series = [series_of(groups, [by_groups[groups]], starts) for groups in kept]
    if left:
        series.append(series_of(None, [by_groups[groups] for groups in left], starts))
    return Counts(
        series=tuple(series),
        bucket_starts=starts,
        identities_approximate=False,
        identities_lower_bound=is_sample(hits),
    )


def series_of(groups: tuple[GroupValue, ...] | None, parts: Sequence[Sequence[Row]], starts: tuple[int, ...]) -> Series:
    """Return the series of *groups*, or the rest where there are none, *parts* being the rows of each series in it."""
    return Series(
        groups=groups or (),
        is_rest=groups is None,
        total=summed(parts),
        points=tuple(
            summed([[row for row in part if bucket_of(row.evaluation_time, starts) == start] for part in parts])
            for start in starts
        ),
    )


def summed(parts: Sequence[Sequence[Row]]) -> Tally:
    """Return the counts of *parts* added up, and the distinct identities of all of them."""
    tallies = [tally(part) for part in parts]
    return Tally(
        evaluation_count=sum(each.evaluation_count for each in tallies),
        enabled_count=sum(each.enabled_count for each in tallies),
        enabled_known_count=sum(each.enabled_known_count for each in tallies),
        identity_count=len({row.identity_identifier for part in parts for row in part} - {None}),
    )


def values(row: Row, group: Group) -> list[GroupValue]:  # one way for each kind
    """Return what *row* counts under."""
    match group.kind:
        case "feature":
            return [row.feature_name or None]
        case "enabled":
            return [row.enabled]
        case "value":
            return [json_group(row.value)]
        case "variant":
            return [row.variant or None]
        case "segment":
            return list(dict.fromkeys(name or None for name in row.segment_names)) or [None]
        case "reason":
            return [row.reason or None]
        case "sdk":
            return [(f"{row.sdk_name}/{row.sdk_version}" if row.sdk_version else row.sdk_name) or None]
        case "origin":
            return [row.origin]
        case "trait":
            text = trait(row, group.trait_key)
            return [json_text("#" + md5(text)) if text is not None and is_long(text) else json_group(text)]


def json_group(text: str | None) -> str | None:
    """Return the value *text* as a series has it."""
    if text is None or text == "null":
        return None
    return json_text(digest(text)) if is_long(text) else text


def is_long(text: str) -> bool:
    """Return whether *text* is known by its digest."""
    return len(text.encode()) > LONG


def digest(text: str) -> str:
    """Return what stands for a long *text*."""
    pieces = [text[start : start + LONG] for start in range(0, len(text), LONG)]
    return "#" + md5("".join(md5(piece) for piece in pieces))


def md5(text: str) -> str:
    """Return the MD5 of *text* in hexadecimal."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def rank(groups: tuple[GroupValue, ...]) -> list[tuple[bool, Any]]:
    """Return what series of equal counts are ordered by: their groups, those that have none first."""
    return [(value is not None, "" if value is None else value) for value in groups]


def list_exposures(rows: Iterable[Row], question: ExposureQuestion) -> list[Exposure]:
    """Return every exposure that is asked for, by feature and identity."""
    exposures = []
    for (feature_name, identity), hits in sorted(exposed(rows, question).items()):
        first = min(hits, key=when)
        exposures.append(
            Exposure(
                feature_name=feature_name,
                identity_identifier=identity,
                exposure_time=first.evaluation_time,
                arm=arm(first),
                variant=first.variant,
                value=first.value,
                multiple_arms=len({arm(row) for row in hits}) > 1,
                evaluation_count=sum(row.count for row in hits),
            )
        )
    return exposures


def exposed(rows: Iterable[Row], question: ExposureQuestion) -> dict[tuple[str, str], list[Row]]:
    """Return the rows that are asked about, by feature and identity."""
    return grouped(
        ((row.feature_name, row.identity_identifier), row)
        for row in rows
        if matches(row, as_filter(question)) and row.identity_identifier is not None
    )


def exposures_sampled(rows: Iterable[Row], question: ExposureQuestion) -> bool:
    """Return whether exposures may be missing or late, since some of what is asked about is a sample."""
    return is_sample(row for row in rows if matches(row, as_filter(question)))


def as_filter(question: ExposureQuestion) -> Filter:
    """Return which evaluations *question* is about, those without an identity among them."""
    return Filter(
        environment=question.environment,
        feature_name=question.feature_name,
        identity_identifier=question.identity_identifier,
        start=question.start,
        end=question.end,
    )


def arm(row: Row) -> str:
    """Return the arm that *row* was evaluated to."""
    if row.variant or row.value is None:
        return row.variant
    if is_long(row.value):
        return digest(row.value)
    plain = json.loads(row.value)
    return plain if isinstance(plain, str) else row.value


def count_arms(rows: Iterable[Row], question: ExposureQuestion, feature_limit: int) -> tuple[ArmTotals, ...]:
    """Return the arms of the first features."""
    by_feature = grouped(
        (feature_name, {arm(row) for row in hits}) for (feature_name, _), hits in exposed(rows, question).items()
    )
    return tuple(arm_totals(name, by_feature[name]) for name in sorted(by_feature)[:feature_limit])


def arm_totals(name: str, seen: Sequence[set[str]]) -> ArmTotals:
    """Return the arms of a feature, *seen* being what each of its identities saw."""
    alone = Counter(next(iter(arms)) for arms in seen if len(arms) == 1)
    return ArmTotals(
        feature_name=name,
        arms=tuple(most_frequent(alone)[: MAX_ARMS + 1]),
        multiple_arm_identity_count=sum(len(arms) > 1 for arms in seen),
    )


def most_frequent(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return *counts*, the most frequent first, of equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def list_unknown_features(
    discards: Iterable[Discard], environment: str, start: int | None, end: int | None, known: frozenset[str], limit: int
) -> UnknownFeatures:
    """Return the names that are not *known*."""
    hits = [
        discard
        for discard in discards
        if discard.environment == environment
        and discard.reason == "unknown_feature"
        and within(discard.receive_time, start, end)
        and discard.name not in known
    ]
    # Beyond the first names of a batch there are entries without a name.
    by_name = grouped((discard.name, discard) for discard in hits if discard.name)
    names = [unknown_feature(name, by_name[name]) for name in by_name]
    names.sort(key=lambda each: (-each.evaluation_count, each.feature_name))
    kept = tuple(names[:limit])
    return UnknownFeatures(
        names=kept,
        other_evaluation_count=sum(discard.entry_count for discard in hits)
        - sum(each.evaluation_count for each in kept),
    )


def unknown_feature(name: str, hits: Sequence[Discard]) -> UnknownFeature:
    """Return how *name* was asked for."""
    return UnknownFeature(
        feature_name=name,
        evaluation_count=sum(discard.entry_count for discard in hits),
        first_seen_time=min(discard.receive_time for discard in hits),
        last_seen_time=max(discard.receive_time for discard in hits),
        sdks=sdk_uses((each.sdk_name, each.sdk_version, each.entry_count, each.receive_time) for each in hits),
    )


def intake(rows: Iterable[Row], discards: Iterable[Discard], question: IntakeQuestion) -> Intake | None:
    """Return what came in; None where there are too many buckets."""
    all_received = [row.receive_time for row in rows if row.environment == question.environment]
    received = [time for time in all_received if within(time, question.start, question.end)]
    refused = [
        discard
        for discard in discards
        if discard.environment == question.environment and within(discard.receive_time, question.start, question.end)
    ]
    times = received + [discard.receive_time for discard in refused]
    starts = bucket_starts(question.bucket, question.time_zone, question.start, question.end, times)
    if starts is None:
        return None
    rejected: Counter[str] = Counter()
    for discard in refused:
        if discard.reason == "invalid":
            rejected[discard.name] += discard.entry_count
    return Intake(
        total=intake_tally(received, refused),
        sampled_out_count=sum(discard.entry_count for discard in refused if discard.reason == "sampled_out"),
        foreign_event_count=sum(discard.entry_count for discard in refused if discard.reason == "foreign_event"),
        rejections=tuple(most_frequent(rejected)[:MAX_REJECTIONS]),
        recent_count=sum(question.now - MINUTE <= time < question.now for time in all_received),
        bucket_starts=starts,
        points=tuple(
            intake_tally(
                [time for time in received if bucket_of(time, starts) == start],
                [discard for discard in refused if bucket_of(discard.receive_time, starts) == start],
            )
            for start in starts
        ),
    )


def intake_tally(received: Sequence[int], refused: Sequence[Discard]) -> IntakeTally:
    """Return how many entries were recorded, filtered and rejected."""
    return IntakeTally(
        recorded_count=len(received),
        filtered_count=sum(discard.entry_count for discard in refused if discard.reason == "unknown_feature"),
        rejected_count=sum(discard.entry_count for discard in refused if discard.reason == "invalid"),
    )
