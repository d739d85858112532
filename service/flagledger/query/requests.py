"""
What a request asks, as a question to the store.

Each function adds what is wrong to a list of violations and goes on, so that a caller hears of all of it at once; the question
that it returns then is not to be asked. `refuse` is where that ends.
"""

from __future__ import annotations

import functools
import math
import re
import zoneinfo
from collections.abc import Sequence
from typing import Final, TypeVar, get_args

from google.protobuf import timestamp_pb2

from flagledger.errors import FieldViolation, FlagledgerError, Reason
from flagledger.query import page_token
from flagledger.query.export_formats import FORMATS, Format
from flagledger.store import json_texts
from flagledger.store.intake import IntakeQuestion
from flagledger.store.questions import (
    Bucket,
    CountQuestion,
    Cursor,
    ExposureCursor,
    ExposureQuestion,
    Filter,
    Group,
    GroupKind,
)
from flagledger.v1.query_service_pb2 import (
    CountEvaluationsRequest,
    ExportEvaluationsRequest,
    GetIntakeRequest,
    ListEvaluationsRequest,
    ListExposuresRequest,
    ListFeaturesRequest,
    ListUnknownFeaturesRequest,
    Origin,
)

MAX_VALUE_BYTES: Final = 4_096
MAX_GROUPS: Final = 4
MAX_TRAIT_KEY_CHARACTERS: Final = 200
DEFAULT_SERIES: Final = 20
MAX_SERIES: Final = 100
MAX_WEIGHTS: Final = 50

_BUCKETS: Final[dict[str, Bucket]] = {name: name for name in get_args(Bucket)}
_TRAIT: Final = "trait:"
_GROUPS: Final[dict[str, GroupKind]] = {name: name for name in get_args(GroupKind) if name != "trait"}
_WEIGHT: Final = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_UTC: Final = "UTC"

# Years 1 to 9999, and the nanoseconds of a second: what google.protobuf.Timestamp holds.
_MIN_SECONDS: Final = -62_135_596_800
_MAX_SECONDS: Final = 253_402_300_799
_MAX_NANOS: Final = 999_999_999

_P = TypeVar("_P", Cursor, ExposureCursor, str)
Violations = list[FieldViolation]
Filtered = ListEvaluationsRequest | CountEvaluationsRequest | ExportEvaluationsRequest
Periodical = Filtered | ListFeaturesRequest | ListExposuresRequest | ListUnknownFeaturesRequest | GetIntakeRequest


def refuse(violations: Violations) -> None:
    """
    Refuse the question if there are *violations*.

    Raises:
        FlagledgerError: QUERY_INVALID, with every field that is wrong.
    """
    if violations:
        fields = ", ".join(dict.fromkeys(violation.field for violation in violations))
        raise FlagledgerError(
            Reason.QUERY_INVALID,
            f"The question cannot be answered as it was asked: {fields}.",
            violations=tuple(violations),
        )


def period(request: Periodical, violations: Violations) -> tuple[int | None, int | None]:
    """Return the start and the end of what is asked about, in microseconds since the epoch."""
    start = _microseconds(request.start_time, "start_time", violations) if request.HasField("start_time") else None
    end = _microseconds(request.end_time, "end_time", violations) if request.HasField("end_time") else None
    if start is not None and end is not None and end < start:
        violations.append(FieldViolation(field="end_time", description="must not lie before start_time"))
    return start, end


def page_size(size: int, *, default: int, maximum: int, violations: Violations) -> int:
    """Return how many a page is to hold."""
    return _number(size, "page_size", default, maximum, violations)


def place(token: str, question: object, kind: type[_P]) -> _P | None:
    """
    Return where the page of *question* begins that *token* names; None for the first page.

    Raises:
        FlagledgerError: QUERY_INVALID, where it is no token of this question.
    """
    if not token:
        return None
    try:
        return page_token.decode(token, question, kind)
    except ValueError as error:
        refuse([FieldViolation(field="page_token", description=str(error))])
        raise


def filter_of(request: Filtered, environment: str, violations: Violations) -> Filter:
    """Return which evaluations of *environment* are asked for."""
    start, end = period(request, violations)
    if request.trait_value and not request.trait_key:
        violations.append(FieldViolation(field="trait_value", description="must not be set without trait_key"))
    if request.origin not in Origin.values():
        violations.append(FieldViolation(field="origin", description="must be a value of flagledger.v1.Origin"))
    return Filter(
        environment=environment,
        feature_name=request.feature_name or None,
        identity_identifier=request.identity_identifier or None,
        segment_name=request.segment_name or None,
        start=start,
        end=end,
        value=_json(request.value, "value", violations),
        variant=request.variant or None,
        reason=request.reason or None,
        enabled=request.enabled if request.HasField("enabled") else None,
        trait_key=request.trait_key or None,
        trait_value=_json(request.trait_value, "trait_value", violations),
        sdk_name=request.sdk_name or None,
        sdk_version=request.sdk_version or None,
        origin=request.origin or None,
    )


def count_question(request: CountEvaluationsRequest, environment: str, violations: Violations) -> CountQuestion:
    """Return what is to be counted of *environment*."""
    return CountQuestion(
        filter=filter_of(request, environment, violations),
        group_by=_groups(request.group_by, violations),
        bucket=_bucket(request.bucket, violations),
        time_zone=_time_zone(request.time_zone, violations),
        series_limit=_number(request.series_limit, "series_limit", DEFAULT_SERIES, MAX_SERIES, violations),
    )


def exposure_question(request: ListExposuresRequest, environment: str, violations: Violations) -> ExposureQuestion:
    """Return whose exposures of *environment* are asked for."""
    start, end = period(request, violations)
    return ExposureQuestion(
        environment=environment,
        feature_name=request.feature_name or None,
        identity_identifier=request.identity_identifier or None,
        start=start,
        end=end,
    )


def weights(request: ListExposuresRequest, violations: Violations) -> dict[str, float]:
    """Return the weights that the arms of the feature were meant to have, by arm and in the order given."""
    if request.weights and not request.feature_name:
        violations.append(FieldViolation(field="weights", description="must be empty without feature_name"))
    if len(request.weights) > MAX_WEIGHTS:
        violations.append(FieldViolation(field="weights", description=f"must name at most {MAX_WEIGHTS} arms"))
        return {}
    found: dict[str, float] = {}
    for index, text in enumerate(request.weights):
        arm, equals, number = text.rpartition("=")
        weight = float(number) if _WEIGHT.fullmatch(number) else math.nan
        if not equals or not 0 < weight < math.inf:
            description = "must be `arm=weight`, with a positive number as weight"
        elif arm in found:
            description = "names an arm that has a weight already"
        else:
            found[arm] = weight
            continue
        violations.append(FieldViolation(field=f"weights[{index}]", description=description))
    return found


def intake_question(request: GetIntakeRequest, environment: str, violations: Violations, *, now: int) -> IntakeQuestion:
    """Return which intake of *environment* is asked about."""
    start, end = period(request, violations)
    return IntakeQuestion(
        environment=environment,
        start=start,
        end=end,
        bucket=_bucket(request.bucket, violations),
        time_zone=_time_zone(request.time_zone, violations),
        now=now,
    )


def export_format(name: str, violations: Violations) -> Format:
    """Return the kind of file that is asked for."""
    if name and name not in FORMATS:
        violations.append(FieldViolation(field="format", description=f"must be one of {', '.join(FORMATS)}, or empty"))
    return FORMATS.get(name) or next(iter(FORMATS.values()))


def _microseconds(time: timestamp_pb2.Timestamp, field: str, violations: Violations) -> int | None:
    if not (_MIN_SECONDS <= time.seconds <= _MAX_SECONDS and 0 <= time.nanos <= _MAX_NANOS):
        violations.append(
            FieldViolation(field=field, description="must lie in the years 1 to 9999, with nanos from 0 to 999,999,999")
        )
        return None
    return time.seconds * 1_000_000 + time.nanos // 1000


def _number(number: int, field: str, default: int, maximum: int, violations: Violations) -> int:
    if number < 0:
        violations.append(FieldViolation(field=field, description=f"must not be negative; 0 means {default:,}"))
    return min(number or default, maximum)


def _json(text: str, field: str, violations: Violations) -> str | None:
    """Return *text*, JSON or else a string, in the form in which the store holds it; None where it is empty."""
    if not text:
        return None
    try:
        kept = json_texts.canonical(text)
    except ValueError:
        kept = json_texts.json_text(text)
    if len(kept.encode()) > MAX_VALUE_BYTES:
        violations.append(
            FieldViolation(field=field, description=f"must have at most {MAX_VALUE_BYTES:,} bytes as JSON text")
        )
    return kept


def _bucket(name: str, violations: Violations) -> Bucket | None:
    if name and name not in _BUCKETS:
        violations.append(FieldViolation(field="bucket", description=f"must be one of {', '.join(_BUCKETS)}, or empty"))
    return _BUCKETS.get(name)


@functools.cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) | {_UTC}


def _time_zone(name: str, violations: Violations) -> str:
    if name and name not in _time_zones():
        violations.append(
            FieldViolation(field="time_zone", description="must be the IANA name of a time zone, such as Europe/Zurich")
        )
    return name or _UTC


def _groups(names: Sequence[str], violations: Violations) -> tuple[Group, ...]:
    if len(names) > MAX_GROUPS:
        violations.append(FieldViolation(field="group_by", description=f"must name at most {MAX_GROUPS} groups"))
        return ()
    groups: list[Group] = []
    for index, name in enumerate(names):
        group = _group(name)
        if group is None:
            description = (
                f"must be one of {', '.join(_GROUPS)}, or `{_TRAIT}` and the key of a trait, of at most "
                f"{MAX_TRAIT_KEY_CHARACTERS} characters"
            )
        elif group in groups:
            description = "must not be named twice"
        else:
            groups.append(group)
            continue
        violations.append(FieldViolation(field=f"group_by[{index}]", description=description))
    return tuple(groups)


def _group(name: str) -> Group | None:
    if name.startswith(_TRAIT):
        key = name.removeprefix(_TRAIT)
        return Group(kind="trait", trait_key=key) if 0 < len(key) <= MAX_TRAIT_KEY_CHARACTERS else None
    kind = _GROUPS.get(name)
    return None if kind is None else Group(kind=kind)
