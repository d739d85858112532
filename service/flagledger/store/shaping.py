"""Answers made of what an engine's statements return: whatever the engine, rows of one shape come to one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from flagledger.store.intake import MAX_REJECTIONS, Intake, IntakeTally, UnknownFeature, UnknownFeatures
from flagledger.store.questions import (
    MAX_ARMS,
    PAGE_BYTES,
    ArmTotals,
    CountQuestion,
    Cursor,
    Exposure,
    ExposureCursor,
    ExposurePage,
    FeatureTotals,
    Page,
    RecordedRow,
    SdkUse,
    Series,
    Tally,
)

BATCH_BYTES: Final = 8 << 20
"""What a batch of an export comes to in memory."""
REST_SERIES: Final = 0
"""Index of the series that stands for the rest; those that are kept begin at 1."""
NO_TALLY: Final = Tally(evaluation_count=0, enabled_count=0, enabled_known_count=0, identity_count=0)

# Reasons of discards, as admission writes them.
UNKNOWN_FEATURE: Final = "unknown_feature"
INVALID: Final = "invalid"
SAMPLED_OUT: Final = "sampled_out"
FOREIGN_EVENT: Final = "foreign_event"

ROW_BYTES: Final = 300
"""What the names and numbers of a row take beside its texts."""
EXPOSURE_BYTES: Final = 100
"""What the numbers of an exposure take beside its texts."""


def sdk_uses(listed: Sequence[Sequence[Any]]) -> tuple[SdkUse, ...]:
    """Return lists of name, version, evaluations and last time, numbers or their texts, as values."""
    return tuple(
        SdkUse(sdk_name=name, sdk_version=version, evaluation_count=int(evaluations), last_time=int(last_time))
        for name, version, evaluations, last_time in listed
    )


def feature_totals(
    rows: Iterable[Sequence[Any]],
    identities: Mapping[str, tuple[int, int, bool]],
    sampled: Container[str],
    last_values: Mapping[str, str | None],
) -> tuple[FeatureTotals, ...]:
    """
    Return the totals of features.

    Args:
        rows: Of each feature its name, evaluations, those enabled, those of which that is known, first and last time, and its
            SDKs as `sdk_uses` takes them.
        identities: Of each feature its identities, those that saw several values, and whether both are estimates.
        sampled: Features of which some evaluations are a sample.
        last_values: Of each feature the value of its last evaluation; those that there is no room for are missing.
    """
    return tuple(
        FeatureTotals(
            feature_name=name,
            evaluation_count=evaluations,
            enabled_count=enabled,
            enabled_known_count=known,
            identity_count=identities[name][0],
            multiple_value_identity_count=identities[name][1],
            identities_approximate=identities[name][2],
            identities_lower_bound=name in sampled,
            first_evaluation_time=first_time,
            last_evaluation_time=last_time,
            last_value=last_values.get(name),
            sdks=sdk_uses(sdks),
        )
        for name, evaluations, enabled, known, first_time, last_time, sdks in rows
    )


def series(rows: Iterable[Sequence[Any]], question: CountQuestion, bucket_count: int) -> tuple[Series, ...]:
    """
    Return the series of counts.

    Args:
        rows: Each of a series' index (see `REST_SERIES`), a bucket's index, evaluations, those enabled, those of which that is
            known, identities, and the groups. Of a series the row without a bucket comes first, which is its total; where
            there are no buckets every row is one. Series come in the order of the answer, which has the rest last.
        question: What was asked.
        bucket_count: Buckets that there are.
    """
    totals: dict[int, tuple[Tally, Sequence[Any]]] = {}
    points: dict[int, list[Tally]] = {}
    for index, bucket, evaluations, enabled, known, identities, *groups in rows:
        tally = Tally(
            evaluation_count=evaluations, enabled_count=enabled, enabled_known_count=known, identity_count=identities
        )
        if bucket is None or not bucket_count:
            totals[index] = (tally, groups)
            points[index] = [NO_TALLY] * bucket_count
        else:
            points[index][bucket] = tally
    if not totals and not question.group_by:
        return (Series(groups=(), is_rest=False, total=NO_TALLY, points=(NO_TALLY,) * bucket_count),)
    return tuple(
        Series(
            groups=tuple(groups) if index != REST_SERIES and question.group_by else (),
            is_rest=index == REST_SERIES,
            total=tally,
            points=tuple(points[index]),
        )
        for index, (tally, groups) in totals.items()
    )


def row_bytes(row: RecordedRow) -> int:
    """Return how much room of a page *row* takes, with the texts that it holds."""
    texts = (row.value, row.traits, row.metadata, row.identity_identifier, row.feature_name, row.variant, row.reason)
    return ROW_BYTES + sum(len(text) for text in texts if text) + sum(len(name) for name in row.segment_names)


def fitting(sizes: Iterable[int]) -> int:
    """Return how many of what has these *sizes*, from the first on, a page has room for: one at least, where there is one."""
    total = kept = 0
    for size in sizes:
        total += size
        if kept and total > PAGE_BYTES:
            break
        kept += 1
    return kept


def page(rows: Sequence[RecordedRow], *, more: bool) -> Page:
    """Return *rows* as a page, behind which there are *more* or not."""
    if not more:
        return Page(rows=tuple(rows), next=None)
    last = rows[-1]
    return Page(rows=tuple(rows), next=Cursor(evaluation_time=last.evaluation_time, position=last.position))


def exposure(
    feature: str,
    identity: str,
    time: int,
    arm: str,
    variant: str,
    value: str | None,
    several: object,
    evaluations: int,
) -> Exposure:
    """Return what a statement has found of one identity, *several* being whether it saw more than one arm."""
    return Exposure(
        feature_name=feature,
        identity_identifier=identity,
        exposure_time=time,
        arm=arm,
        variant=variant,
        value=value,
        multiple_arms=bool(several),
        evaluation_count=evaluations,
    )


def exposure_bytes(row: Exposure) -> int:
    """Return how much room of a page *row* takes, with the texts that it holds."""
    texts = (row.feature_name, row.identity_identifier, row.arm, row.variant, row.value)
    return EXPOSURE_BYTES + sum(len(text) for text in texts if text)


def exposure_page(rows: Sequence[Exposure], *, more: bool, lower_bound: bool) -> ExposurePage:
    """Return *rows* as a page, behind which there are *more* or not."""
    following = None
    if more:
        last = rows[-1]
        following = ExposureCursor(feature_name=last.feature_name, identity_identifier=last.identity_identifier)
    return ExposurePage(rows=tuple(rows), next=following, identities_lower_bound=lower_bound)


def batches(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield *table*, what a range of positions holds, in batches of some `BATCH_BYTES`, each behind the one before."""
    rows = max(1, table.num_rows * BATCH_BYTES // max(table.nbytes, 1))
    yield from table.sort_by("position").combine_chunks().to_batches(max_chunksize=rows)


def arm_totals(rows: Iterable[tuple[str, str | None, int]]) -> tuple[ArmTotals, ...]:
    """
    Return the arms of features.

    Args:
        rows: Of each feature, by name, its arms and their identities, the most frequent first (of equal ones by name), at most
            `MAX_ARMS` + 1; and one without an arm for identities that saw several, where there are any.
    """
    arms: dict[str, list[tuple[str, int]]] = {}
    several: dict[str, int] = {}
    for feature, arm, identities in rows:
        found = arms.setdefault(feature, [])
        if arm is None:
            several[feature] = identities
        else:
            found.append((arm, identities))
    return tuple(
        ArmTotals(
            feature_name=feature,
            arms=tuple(found[: MAX_ARMS + 1]),
            multiple_arm_identity_count=several.get(feature, 0),
        )
        for feature, found in arms.items()
    )


def unknown_features(rows: Iterable[Sequence[Any]], total: int) -> UnknownFeatures:
    """
    Return unknown names.

    Args:
        rows: Of each name, in the order of the answer, itself, its entries, first and last time, and its SDKs as `sdk_uses`
            takes them.
        total: Entries of all unknown names.
    """
    names = tuple(
        UnknownFeature(
            feature_name=name,
            evaluation_count=entries,
            first_seen_time=first_time,
            last_seen_time=last_time,
            sdks=sdk_uses(sdks),
        )
        for name, entries, first_time, last_time, sdks in rows
    )
    return UnknownFeatures(names=names, other_evaluation_count=total - sum(found.evaluation_count for found in names))


def intake(
    recorded: Iterable[tuple[int, int]],
    discarded: Iterable[tuple[int, str, str, int]],
    recent: int,
    bucket_starts: tuple[int, ...],
) -> Intake:
    """
    Return what came in.

    Args:
        recorded: Buckets' indices and the entries that were recorded.
        discarded: Buckets' indices, reasons, fields (of invalid ones alone) and entries that were not.
        recent: Entries recorded in the last minute.
        bucket_starts: Beginnings of the buckets; where there are none, every index is 0.
    """
    counts: Counter[tuple[int, str]] = Counter()
    rejections: Counter[str] = Counter()
    for bucket, entries in recorded:
        counts[bucket, ""] += entries
    for bucket, reason, field, entries in discarded:
        counts[bucket, reason] += entries
        if reason == INVALID:
            rejections[field] += entries
    indices = range(max(len(bucket_starts), 1))
    points = tuple(_intake_tally(counts, bucket) for bucket in indices)
    return Intake(
        total=IntakeTally(
            recorded_count=sum(point.recorded_count for point in points),
            filtered_count=sum(point.filtered_count for point in points),
            rejected_count=sum(point.rejected_count for point in points),
        ),
        sampled_out_count=sum(counts[bucket, SAMPLED_OUT] for bucket in indices),
        foreign_event_count=sum(counts[bucket, FOREIGN_EVENT] for bucket in indices),
        rejections=tuple(sorted(rejections.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_REJECTIONS]),
        recent_count=recent,
        bucket_starts=bucket_starts,
        points=points if bucket_starts else (),
    )


def _intake_tally(counts: Counter[tuple[int, str]], bucket: int) -> IntakeTally:
    return IntakeTally(
        recorded_count=counts[bucket, ""],
        filtered_count=counts[bucket, UNKNOWN_FEATURE],
        rejected_count=counts[bucket, INVALID],
    )
