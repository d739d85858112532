"""
What is recorded and asked where answers are compared: few names, values and moments, so that questions hit and counts tie.

Everything of an example happens in one scene. Moments are drawn as steps from its middle, and questions as functions of it, so
that every strategy is made once: making them is what takes the time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, get_args

from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.columns import plain_value
from flagledger.store.intake import IntakeQuestion
from flagledger.store.json_texts import json_text
from flagledger.store.questions import Bucket, CountQuestion, ExposureQuestion, Filter, Group, GroupKind
from flagledger.v1.evaluation_pb2 import IdentityTrait
from google.protobuf.struct_pb2 import Value
from hypothesis import strategies as st
from support.records import START, add_evaluation, record_of, value_of


@dataclass(frozen=True)
class Repeated:
    """A long text, shown as a short one."""

    text: str
    times: int
    end: str = ""

    def __str__(self) -> str:
        """Return the whole text."""
        return self.text * self.times + self.end


ENVIRONMENTS: Final = ("production", "staging")
FEATURES: Final = ("checkout", "new_dashboard", "é'\"")
IDENTITIES: Final = ("u1", "u2", "u3", "é'\"\x01")
SEGMENTS: Final = ("eu", "beta", "", "é'")
VARIANTS: Final = ("on", "off", "12")
REASONS: Final = ("SPLIT", "DEFAULT", "é'")
SDKS: Final = (("", ""), ("py", "1.0"), ("py", "2.0"), ("js", ""), ("js", "1.0"), ("", "2.0"))
KEY: Final = "plan"
KEYS: Final = ("plan", "", "/", "~", "~1", "*", "$", "$.plan", "#", '"', "'", "\\", "a.b", "a[0]", "é😀", "\n")
UNKNOWN: Final = ("Checkout", "chekcout", "new-dashboard", "checkout", "é'")
FIELDS: Final = ("", "evaluations[].value", "evaluations[].evaluation_timestamp")

SHORT_VALUES: Final = (
    None,
    True,
    False,
    "on",
    "off",
    "12",
    "",
    "null",
    'q"\\\x01é😀',
    12.0,
    12.5,
    -0.0,
    1e300,
    [],
    {},
    {"b": 1.0, "a": [None, "é"]},
    # As JSON text as long as a short one may be.
    Repeated("y", 4_094),
)
LONG_VALUES: Final = (
    Repeated("y", 4_095),
    Repeated("x", 9_000),
    Repeated("x", 8_999, "y"),
    Repeated("é", 3_000),
    Repeated("\x01", 1_000),
)
LONG_TRAIT: Final = Repeated("v", 5_000)
# Two of those of middle length make the traits of an evaluation long, though none of them is.
TRAIT_VALUES: Final = (
    None,
    True,
    "pro",
    'q"é',
    3.0,
    0.1,
    1e16,
    [1.0],
    {"b": "x", "a": 1.0},
    Repeated("w", 2_500),
    LONG_TRAIT,
)
METADATA: Final = ({}, {"k": 1.5, "a": [None]}, {"k": Repeated("m", 5_000)})

ZONES: Final = ("UTC", "Europe/Zurich", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu")
MINUTE: Final = 60_000_000

Moment = tuple[int, int]
"""Steps from the middle of a scene, and microseconds beside them."""


def moment(text: str) -> int:
    """Return the time *text* in ISO 8601, UTC, in microseconds since the epoch."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


# Moments at which clocks jump, back and forth: at 3:00, at midnight, by half an hour.
JUMPS: Final = tuple(
    map(
        moment,
        (
            "2026-10-25T01:00",
            "2026-03-29T01:00",
            "2018-11-04T03:00",
            "2018-02-18T02:00",
            "2026-04-04T15:00",
            "2026-10-03T15:30",
        ),
    )
)


@dataclass(frozen=True)
class Scene:
    """Where everything happens: around a moment, in steps."""

    middle: int
    step: int

    def time(self, drawn: Moment) -> int:
        """Return the moment that was drawn as steps and a rest."""
        steps, rest = drawn
        return self.middle + steps * self.step + rest

    def period(self, drawn: tuple[Moment | None, Moment | None]) -> tuple[int | None, int | None]:
        """Return a start, and an end that does not lie before it."""
        start, end = (None if each is None else self.time(each) for each in drawn)
        return (end, start) if start is not None and end is not None and end < start else (start, end)


def whole(value: Any) -> Value:
    """Return *value* as a message."""
    return value_of(str(value) if isinstance(value, Repeated) else value)


def kept(value: Any) -> str:
    """Return the text by which *value* is kept."""
    return json_text(plain_value(whole(value)))


def maybe(values: Iterable[Any]) -> st.SearchStrategy[Any]:
    """Draw one of *values*, or None."""
    return st.sampled_from((None, *values))


scenes = st.builds(
    Scene,
    middle=st.sampled_from((START, *JUMPS)),
    step=st.sampled_from(
        (1, MINUTE // 2, 20 * MINUTE, 60 * MINUTE, 9 * 60 * MINUTE, 26 * 60 * MINUTE, 20 * 1440 * MINUTE)
    ),
)
# Mostly the same, so that groups and filters find some.
keys = st.just(KEY) | st.sampled_from(KEYS)
moments = st.tuples(st.integers(-4, 4), st.sampled_from((0, 0, -1)))
periods = st.tuples(st.none() | moments, st.none() | moments)

evaluations = st.builds(
    dict,
    feature_name=st.sampled_from(FEATURES),
    time=moments,
    enabled=maybe((True, False)),
    identity_identifier=maybe(IDENTITIES),
    identity_traits=st.lists(st.tuples(keys, st.sampled_from(TRAIT_VALUES)), max_size=3),
    segment_names=st.lists(st.sampled_from(SEGMENTS), max_size=3),
    variant=st.sampled_from(("", "", *VARIANTS)),
    reason=st.sampled_from(("", *REASONS)),
    count=st.integers(0, 3),
    # In tuples, since null is a value.
    value=st.sampled_from((None, (None,), ("on",), ("off",)))
    | st.sampled_from([(value,) for value in SHORT_VALUES])
    | st.sampled_from([(value,) for value in LONG_VALUES]),
    metadata=maybe(METADATA),
)
discards = st.tuples(
    st.sampled_from(
        [("unknown_feature", name) for name in ("", *UNKNOWN)]
        + [("invalid", name) for name in FIELDS]
        + [("sampled_out", ""), ("foreign_event", "")]
    ),
    st.integers(1, 3),
)
drawn_records = st.tuples(
    st.sampled_from(ENVIRONMENTS),
    moments,
    st.sampled_from(("", "batch-1")),
    st.integers(0, 2),
    st.sampled_from(SDKS),
    # Mostly whole, so that there are questions of which nothing was sampled.
    st.sampled_from((0.0, 0.0, 0.0, 1.0, 0.5, 0.1)),
    st.lists(discards, max_size=2),
    st.lists(evaluations, min_size=1, max_size=7),
)


def record_in(scene: Scene, drawn: Any) -> JournalRecord:
    """Return the record that was *drawn*."""
    environment, received, batch_id, origin, (sdk_name, sdk_version), rate, discarded, evaluated = drawn
    record = record_of(environment=environment, receive_time=scene.time(received), batch_id=batch_id)
    record.envelope.origin = origin
    record.envelope.sdk_name, record.envelope.sdk_version = sdk_name, sdk_version
    record.envelope.sample_rate = rate
    for (reason, name), count in discarded:
        record.envelope.discards.add(reason=reason, name=name, entry_count=count)
    for each in evaluated:
        fields = {name: value for name, value in each.items() if name not in ("time", "value", "metadata")}
        fields["identity_traits"] = [
            IdentityTrait(trait_key=key, trait_value=whole(value)) for key, value in each["identity_traits"]
        ]
        add_evaluation(record, time=scene.time(each["time"]), **fields)
        if each["value"] is not None:
            record.evaluations[-1].value.CopyFrom(whole(each["value"][0]))
        if each["metadata"] is not None:
            record.evaluations[-1].metadata.SetInParent()
            for key, value in each["metadata"].items():
                record.evaluations[-1].metadata.fields[key].CopyFrom(whole(value))
    return record


Asked = Callable[[Scene], Any]
"""A question, but for its scene."""

_CONDITIONS: Final[dict[str, Iterable[Any]]] = {
    "feature_name": FEATURES,
    "identity_identifier": IDENTITIES,
    "segment_name": [name for name in SEGMENTS if name],
    "value": [kept(value) for value in SHORT_VALUES],
    "variant": VARIANTS,
    "reason": REASONS,
    "enabled": (True, False),
    "trait_key": (KEY,) * 8 + KEYS,
    "sdk_name": ("py", "js"),
    "sdk_version": ("1.0", "2.0"),
    "origin": (1, 2),
}
_TRAIT_VALUES: Final = [kept(value) for value in TRAIT_VALUES if value != LONG_TRAIT]


def _filter(
    environment: str,
    period: tuple[Moment | None, Moment | None],
    conditions: Sequence[tuple[str, Any]],
    trait_value: str | None,
) -> Asked:
    fields = dict(conditions)
    if "trait_key" in fields:
        fields["trait_value"] = trait_value

    def at(scene: Scene) -> Filter:
        start, end = scene.period(period)
        return Filter(environment=environment, start=start, end=end, **fields)

    return at


environments = st.sampled_from(ENVIRONMENTS)
filters = st.builds(
    _filter,
    environments,
    periods,
    st.lists(
        st.one_of(*(st.tuples(st.just(name), st.sampled_from(values)) for name, values in _CONDITIONS.items())),
        max_size=2,
        unique_by=lambda condition: condition[0],
    ),
    maybe(_TRAIT_VALUES),
)
groups = st.sampled_from(
    [Group(kind=kind) for kind in get_args(GroupKind) if kind != "trait"] * 2
    + [Group(kind="trait", trait_key=key) for key in (KEY,) * 8 + KEYS]
)
buckets = maybe(get_args(Bucket))
zones = st.sampled_from(ZONES)

count_questions = st.tuples(
    filters, st.lists(groups, max_size=3, unique=True), buckets, zones, st.sampled_from((1, 2, 3, 20, 100))
).map(
    lambda drawn: (
        lambda scene: CountQuestion(
            filter=drawn[0](scene), group_by=tuple(drawn[1]), bucket=drawn[2], time_zone=drawn[3], series_limit=drawn[4]
        )
    )
)
exposure_questions = st.tuples(environments, maybe(FEATURES), maybe(IDENTITIES), periods).map(
    lambda drawn: (
        lambda scene: ExposureQuestion(
            environment=drawn[0],
            feature_name=drawn[1],
            identity_identifier=drawn[2],
            start=scene.period(drawn[3])[0],
            end=scene.period(drawn[3])[1],
        )
    )
)
intake_questions = st.tuples(environments, periods, buckets, zones, moments).map(
    lambda drawn: (
        lambda scene: IntakeQuestion(
            environment=drawn[0],
            start=scene.period(drawn[1])[0],
            end=scene.period(drawn[1])[1],
            bucket=drawn[2],
            time_zone=drawn[3],
            now=scene.time(drawn[4]),
        )
    )
)


class Example:
    """
    What is recorded, and then asked. It is shown as it was drawn, since the messages hold long texts.

    Args:
        scene: Where it happens.
        drawn: Records as they were drawn.
        asked: Questions as they were drawn.
    """

    def __init__(self, scene: Scene, drawn: Sequence[Any], asked: Sequence[Asked]) -> None:
        self.records = [record_in(scene, record) for record in drawn]
        self.questions = [question(scene) for question in asked]
        self._shown = f"Example({scene}, {drawn}, {self.questions})"

    def __repr__(self) -> str:
        return self._shown


_some_records = st.lists(drawn_records, min_size=1, max_size=6)


@st.composite
def examples(draw: st.DrawFn, questions: st.SearchStrategy[Asked]) -> Example:
    """Draw records and *questions*, in one scene."""
    return Example(draw(scenes), draw(_some_records), draw(_some(questions)))


@functools.cache
def _some(questions: st.SearchStrategy[Asked]) -> st.SearchStrategy[list[Asked]]:
    return st.lists(questions, min_size=3, max_size=3)
