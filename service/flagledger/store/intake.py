"""
What a store can be asked about intake, and what it answers: what came in, and what of it was not recorded.

Counts are of entries, times those of receipt, in microseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flagledger.store.questions import Bucket, SdkUse

MAX_REJECTIONS: Final = 100
"""Fields that rejections are told apart by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFeature:
    """
    A name that was asked for. `evaluation_count` is of entries; times are of receipt, in microseconds since the epoch; `sdks` as
    in FeatureTotals, their `last_time` that of receipt.
    """

    feature_name: str
    evaluation_count: int
    first_seen_time: int
    last_seen_time: int
    sdks: tuple[SdkUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownFeatures:
    """Names, the most frequent first (of equal ones by name), and the entries of those that are not among them."""

    names: tuple[UnknownFeature, ...]
    other_evaluation_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeQuestion:
    """
    Which intake is asked about.

    Attributes:
        environment: Name of the environment.
        start: Earliest receipt, inclusive, in microseconds since the epoch; None for unbounded.
        end: Latest receipt, exclusive; None for unbounded.
        bucket: As in CountQuestion, of the time of receipt.
        time_zone: As in CountQuestion.
        now: The present, in microseconds since the epoch: `recent_count` looks back from here.
    """

    environment: str
    start: int | None = None
    end: int | None = None
    bucket: Bucket | None = None
    time_zone: str = "UTC"
    now: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeTally:
    """Entries that were recorded, filtered, rejected."""

    recorded_count: int
    filtered_count: int
    rejected_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """
    What came in. Counts are of entries.

    Attributes:
        total: Over the period.
        sampled_out_count: Entries that were left out of a sample; neither filtered nor rejected.
        foreign_event_count: Events of other kinds, which are not kept; neither filtered nor rejected.
        rejections: Pairs of the field that was wrong, empty where that is not known, and entries; the most frequent first (of
            equal ones by field), at most `MAX_REJECTIONS`.
        recent_count: Entries recorded in the minute before `now`.
        bucket_starts: As in Counts.
        points: One for each bucket.
    """

    total: IntakeTally
    sampled_out_count: int
    foreign_event_count: int
    rejections: tuple[tuple[str, int], ...]
    recent_count: int
    bucket_starts: tuple[int, ...]
    points: tuple[IntakeTally, ...]
