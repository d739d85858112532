"""
What a store can be asked, and what it answers: plain values, nothing of SQL and nothing of the contract's messages.

Every time is an integer of microseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

MIN_TIME: Final = -62_135_596_800_000_000
MAX_TIME: Final = 253_402_300_799_999_999
"""Proleptic years 1 to 9999, what google.protobuf.Timestamp holds, in microseconds since the epoch."""

PAGE_BYTES: Final = 3 << 20
"""Texts of a page beyond which it holds no further row. A usual gRPC client takes 4 MiB."""
LAST_VALUES_BYTES: Final = 2 << 20
"""Last values of one answer; it may hold any number of features besides."""
MAX_BUCKETS: Final = 1_500
"""Buckets of time in one answer: a day of minutes is 1,440."""
MAX_SDKS: Final = 20
"""SDKs that are named for one feature or name."""
MAX_ARMS: Final = 50
"""Arms of a feature beyond which it is no experiment."""

EXPORT: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("feature_name", pa.string(), nullable=False),
        pa.field("enabled", pa.bool_()),
        pa.field("value", pa.string()),
        pa.field("evaluation_timestamp", pa.timestamp("us"), nullable=False),
        pa.field("identity_identifier", pa.string()),
        pa.field("identity_traits", pa.string()),
        pa.field("segment_names", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("metadata", pa.string()),
        pa.field("count", pa.uint32(), nullable=False),
        pa.field("environment", pa.string(), nullable=False),
        pa.field("batch_id", pa.string(), nullable=False),
        pa.field("receive_time", pa.timestamp("us"), nullable=False),
        pa.field("origin", pa.int32(), nullable=False),
        pa.field("sdk_name", pa.string(), nullable=False),
        pa.field("sdk_version", pa.string(), nullable=False),
        pa.field("sample_rate", pa.float64(), nullable=False),
    ]
)
"""
Columns of an export, by the names of the contract. `value`, `identity_traits` and `metadata` are JSON texts, whole however long;
`identity_traits` is an object. Times are UTC without a zone, `origin` is a number of flagledger.v1.Origin.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkUse:
    """How many evaluations came from one version of an SDK, and the time of the last, in microseconds since the epoch."""

    sdk_name: str
    sdk_version: str
    evaluation_count: int
    last_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTotals:
    """
    What was recorded of one feature in a period. Counts are sums of `count`.

    Attributes:
        feature_name: Exact name.
        evaluation_count: Evaluations.
        enabled_count: Evaluations that were enabled.
        enabled_known_count: Evaluations of which it is known whether they were.
        identity_count: Distinct identities.
        multiple_value_identity_count: Of these, how many saw more than one value, an absent one counted as a value.
        identities_approximate: Whether the two counts before are estimates.
        identities_lower_bound: Whether some of the evaluations are a sample, so that identities may be missing.
        first_evaluation_time: Earliest evaluation, in microseconds since the epoch.
        last_evaluation_time: Latest evaluation, in microseconds since the epoch.
        last_value: Value of the latest evaluation as JSON text (of equal times, of the highest position); None where it
            had none, or where those before it have used up `LAST_VALUES_BYTES`.
        sdks: The most frequent first (of equal ones by name and version), at most `MAX_SDKS`.
    """

    feature_name: str
    evaluation_count: int
    enabled_count: int
    enabled_known_count: int
    identity_count: int
    multiple_value_identity_count: int
    identities_approximate: bool
    identities_lower_bound: bool
    first_evaluation_time: int
    last_evaluation_time: int
    last_value: str | None
    sdks: tuple[SdkUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Totals by ascending feature name, and the first receipt that the environment holds; None where it holds none."""

    totals: tuple[FeatureTotals, ...]
    data_since: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """
    Which evaluations are asked for; what is not None must hold.

    Attributes:
        environment: Name of the environment.
        feature_name: Exact name of a feature.
        identity_identifier: Exact identifier.
        segment_name: A segment among the evaluation's own.
        start: Earliest evaluation time, inclusive, in microseconds since the epoch.
        end: Latest evaluation time, exclusive, in microseconds since the epoch.
        value: The value as JSON text in the form of `columns`, of at most 4,096 bytes.
        variant: Exact variant.
        reason: Exact reason.
        enabled: Whether the feature was enabled; an evaluation of which that is not known is neither.
        trait_key: Key of a trait that is there; of a key that was sent twice the first counts.
        trait_value: Value of that trait as JSON text in the form of `columns`; needs `trait_key`.
        sdk_name: Exact name of the SDK.
        sdk_version: Exact version of the SDK.
        origin: Number of flagledger.v1.Origin.
    """

    environment: str
    feature_name: str | None = None
    identity_identifier: str | None = None
    segment_name: str | None = None
    start: int | None = None
    end: int | None = None
    value: str | None = None
    variant: str | None = None
    reason: str | None = None
    enabled: bool | None = None
    trait_key: str | None = None
    trait_value: str | None = None
    sdk_name: str | None = None
    sdk_version: str | None = None
    origin: int | None = None


Bucket = Literal["minute", "hour", "day", "week", "month"]
"""Widths of the buckets of time; weeks begin on Monday."""

GroupKind = Literal["feature", "enabled", "value", "variant", "segment", "reason", "sdk", "origin", "trait"]
"""What evaluations can be told apart by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What evaluations are told apart by; a trait by its key."""

    kind: GroupKind
    trait_key: str = ""


GroupValue = bool | int | str | None
"""
What a series has in common: a boolean for `enabled`, a number of flagledger.v1.Origin for `origin`, JSON text for `value` and
traits (of more than 4,096 bytes, the JSON string `#` and a digest of the text), the text itself for the others (`sdk` as
`name/version`, or the name alone where there is no version). None where there is none: absent, empty, or JSON null.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountQuestion:
    """
    What is to be counted.

    Attributes:
        filter: Which evaluations.
        group_by: What they are told apart by; no two the same. An evaluation counts in each of its segments, under one that is
            there twice once, and under None where it has none.
        bucket: Width of the buckets of time; None for totals alone.
        time_zone: IANA name of the zone that buckets begin in.
        series_limit: Series that are kept; the rest is added up.
    """

    filter: Filter
    group_by: tuple[Group, ...] = ()
    bucket: Bucket | None = None
    time_zone: str = "UTC"
    series_limit: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums of `count`, of all evaluations, of enabled ones, of those of which that is known; and distinct identities."""

    evaluation_count: int
    enabled_count: int
    enabled_known_count: int
    identity_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """
    Evaluations that have something in common.

    Attributes:
        groups: What it is, in the order of `group_by`; empty for the rest.
        is_rest: Whether this is what is left beside the series that are kept. Its evaluation counts are the sums over the series
            that it stands for.
        total: Over the period.
        points: One for each bucket, in the order of `Counts.bucket_starts`.
    """

    groups: tuple[GroupValue, ...]
    is_rest: bool
    total: Tally
    points: tuple[Tally, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """
    Counts, the largest series first (of equal ones by their groups), the rest last.

    Attributes:
        series: One without groups where `group_by` is empty, even if nothing matches; else as many as there are.
        bucket_starts: Beginnings of the buckets in microseconds since the epoch; empty where there are none. They reach from the
            period's start to its end; where one is open, from the first evaluation or to the last that matches.
        identities_approximate: Whether identity counts are estimates.
        identities_lower_bound: Whether some of the evaluations in question are a sample, so that identities may be missing.
    """

    series: tuple[Series, ...]
    bucket_starts: tuple[int, ...]
    identities_approximate: bool
    identities_lower_bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureQuestion:
    """Whose exposures are asked for; what is not None must hold. Times as in Filter."""

    environment: str
    feature_name: str | None = None
    identity_identifier: str | None = None
    start: int | None = None
    end: int | None = None

    def filter(self) -> Filter:
        """Return which evaluations are asked about, those without an identity among them."""
        return Filter(
            environment=self.environment,
            feature_name=self.feature_name,
            identity_identifier=self.identity_identifier,
            start=self.start,
            end=self.end,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureCursor:
    """The last exposure of a page: the next page begins behind it."""

    feature_name: str
    identity_identifier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """
    The first evaluation of a feature for an identity in a period (of equal times, of the lowest position).

    Attributes:
        feature_name: Exact name.
        identity_identifier: Exact identifier.
        exposure_time: When, in microseconds since the epoch.
        arm: Variant; where that is empty the value, a JSON string as its text and anything else as JSON text, one of more than
            4,096 bytes as `#` and a digest of its JSON text; empty where there is none.
        variant: Variant; empty for none.
        value: JSON text; None for absent.
        multiple_arms: Whether the identity saw more than one arm in the period.
        evaluation_count: Sum of `count` in the period.
    """

    feature_name: str
    identity_identifier: str
    exposure_time: int
    arm: str
    variant: str
    value: str | None
    multiple_arms: bool
    evaluation_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposurePage:
    """
    Exposures by feature name in the order of code points, then in an order of identities that is the store's own and stays; where
    the next page begins; and whether some of the evaluations in question are a sample, so that identities may be missing.
    """

    rows: tuple[Exposure, ...]
    next: ExposureCursor | None
    identities_lower_bound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTotals:
    """
    The arms of one feature.

    Attributes:
        feature_name: Exact name.
        arms: Identities that saw one arm alone, by that arm, the most frequent first (of equal ones by name); at most
            `MAX_ARMS` + 1 arms.
        multiple_arm_identity_count: Identities that saw more than one.
    """

    feature_name: str
    arms: tuple[tuple[str, int], ...]
    multiple_arm_identity_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """
    What is exported.

    Attributes:
        last_position: Position up to which it goes: of what was recorded when it began. An export behind it goes on from there.
        batches: Batches of the schema `EXPORT`, in the order of receipt from batch to batch (and in none within one); each holds
            some ten MiB at most, but for single rows that are larger. Reading on from one may raise a StoreError. Nothing is
            held between two batches: whoever reads slowly holds up nobody.
    """

    last_position: int
    batches: Iterator[pa.RecordBatch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last evaluation of a page: the next page begins behind it. Evaluations that arrive later do not move it."""

    evaluation_time: int
    position: int


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """
    An evaluation as it was recorded: what flagledger.v1.RecordedEvaluation says.

    `value`, `traits` and `metadata` are JSON texts, or None for absent; `traits` is an object in the order as sent, in which
    a key that was sent twice stands twice. Times are in microseconds since the epoch. `sample_rate` is the share of the
    evaluations of its batch that was kept.
    """

    position: int
    feature_name: str
    enabled: bool | None
    value: str | None
    evaluation_time: int
    identity_identifier: str | None
    traits: str | None
    segment_names: Sequence[str]
    variant: str
    reason: str
    metadata: str | None
    count: int
    environment: str
    batch_id: str
    receive_time: int
    origin: int
    sdk_name: str
    sdk_version: str
    sample_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Evaluations, the newest first, and where the next page begins; None on the last one."""

    rows: tuple[RecordedRow, ...]
    next: Cursor | None
