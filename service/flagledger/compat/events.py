"""
Events: `/v1/events` of the service that Flagsmith built for them, and `/v1/analytics/batch` that came before it.

Each event is judged for itself, and what is wrong with one costs no other: a refused body is sent again for ever, with all that
came since. Of the events some are evaluations. The others are not ours: whoever sends them is told that they were accepted.

The first of the two protocols knows exposures: which variant of a feature somebody saw, but not whether it was enabled. The
second knows evaluations, with the value and whether the feature was enabled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from google.rpc import code_pb2

from flagledger.compat.answers import EVENTS, Answer, RefusedError, as_json
from flagledger.compat.call import Reading
from flagledger.compat.json_body import JsonError, load_leniently
from flagledger.errors import FlagledgerError, Reason
from flagledger.ingest.faults import find_fault
from flagledger.ingest.limits import Limits
from flagledger.transcoding import Codec, CodecError, CodecOptions, Report
from flagledger.transcoding.codec import build
from flagledger.v1.evaluation_pb2 import Evaluation

EXPOSURE: Final = "$flag_exposure"
EVALUATION: Final = "flag_evaluation"

_RESERVED: Final = "$"
_MAX_NAME_CHARACTERS: Final = 256
_MILLISECONDS: Final = 1000
_NANOS: Final = 1_000_000
# Deeper than any valid value, so that what is too deep is found by the rule for it.
_MAX_DEPTH: Final = 40

_JSON_TYPE: Final = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_PATH: Final = re.compile(r"(?:evaluations\[\d+\]\.)?([a-z_]*)")

_codec: Final = Codec(CodecOptions(preserving_proto_field_name=True, max_depth=_MAX_DEPTH))
_decode: Final = _codec.decoder(Evaluation.DESCRIPTOR)


class _EventError(ValueError):
    """An event that is rejected: its field, and what is wrong with that, as the end of a sentence."""

    def __init__(self, field: str, fault: str) -> None:
        super().__init__(field, fault)
        self.field = field
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """
    How one of the two protocols is spelled.

    Attributes:
        kind: Field that says what an event is.
        evaluations: Its value for those that are evaluations.
        feature: Field with the name of the feature.
        identity: Field with the identity.
        time: Field with the time, in epoch milliseconds.
        special: Returns the fields of an Evaluation, as JSON, that only this protocol has.
        check_kind: Raises `_EventError` for what an event must not be.
    """

    kind: str
    evaluations: str
    feature: str
    identity: str
    time: str
    special: Callable[[Mapping[str, Any], Limits], dict[str, Any]]
    check_kind: Callable[[Mapping[str, Any]], None]

    def own_name(self, path: str) -> str:
        """Return what this protocol calls the field of an Evaluation that *path* leads to; empty for none."""
        match = _PATH.match(path)
        name = match.group(1) if match else ""
        own = {
            "feature_name": self.feature,
            "identity_identifier": self.identity,
            "evaluation_timestamp": self.time,
            "identity_traits": "traits",
            "variant": "value",
        }
        return own.get(name, name)

    def contract_name(self, field: str) -> str:
        """Return the field of an Evaluation that this protocol's *field* becomes; empty for none."""
        contract = {
            self.feature: "feature_name",
            self.identity: "identity_identifier",
            self.time: "evaluation_timestamp",
            "traits": "identity_traits",
        }
        name = contract.get(field, field)
        return name if name in Evaluation.DESCRIPTOR.fields_by_name else ""


def read_events(body: bytes, content_type: str, *, protocol: Protocol, limits: Limits, now: float) -> Reading:
    """
    Read a body of events, each for itself.

    Raises:
        RefusedError: It is no JSON, or holds no list of events.
        FlagledgerError: BATCH_TOO_LONG.
    """
    events = _events(body, content_type, limits)
    if not events:
        content = {"accepted": 0, "rejected": [], "error": "events must be non-empty"}
        raise RefusedError(as_json(400, content, code=code_pb2.INVALID_ARGUMENT), reason=Reason.MALFORMED)
    rules = limits.of_older_sdks()
    reading = Reading(answer=Answer(http_status=202), identified=True)
    rejected: list[dict[str, Any]] = []
    for index, event in enumerate(events):
        try:
            _check(event, protocol, limits, now)
            if event.get(protocol.kind) != protocol.evaluations:
                reading.foreign_events += 1
                continue
            evaluation = _evaluation(event, protocol, rules, now)
        except _EventError as error:
            reading.reject(protocol.contract_name(error.field), f"The {error.field or 'event'} {error.fault}.")
            place = f"events[{index}].{error.field}" if error.field else f"events[{index}]"
            rejected.append({"index": index, "error": f"{place} {error.fault}"})
            continue
        reading.batch.evaluations.append(evaluation)
        reading.identified = reading.identified and bool(evaluation.identity_identifier)
    accepted = len(events) - len(rejected)
    content = {"accepted": accepted, "rejected": rejected}
    reading.identified = reading.identified and accepted > reading.foreign_events
    reading.answer = as_json(202, content) if accepted else as_json(400, content, code=code_pb2.INVALID_ARGUMENT)
    return reading


def _events(body: bytes, content_type: str, limits: Limits) -> list[Any]:
    if not _JSON_TYPE.fullmatch(content_type):
        refusal = EVENTS.misfit(415, "Expected request with `Content-Type: application/json`")
        raise RefusedError(refusal.answer, by_http=True)
    try:
        data = load_leniently(body)
    except JsonError as error:
        raise EVENTS.misfit(400, f"Failed to parse the request body as JSON: {error}") from None
    events = data.get("events") if isinstance(data, dict) else None
    if not isinstance(events, list):
        raise EVENTS.misfit(422, 'The body has to be an object with the events as an array: {"events": [...]}')
    if len(events) > limits.max_evaluations:
        raise FlagledgerError(
            Reason.BATCH_TOO_LONG, f"The body has more than {limits.max_evaluations:,} events. Send fewer at once."
        )
    return events


def _check(event: Any, protocol: Protocol, limits: Limits, now: float) -> None:
    """Check the rules that hold for every event; raises `_EventError`."""
    if not isinstance(event, dict):
        raise _EventError("", "has to be an object")
    try:
        size = len(orjson.dumps(event))
    except TypeError:
        raise _EventError("", "is nested too deeply, or holds half of a surrogate pair, which is no text") from None
    protocol.check_kind(event)
    _check_text(event, protocol.feature, limits.feature_name_characters)
    _check_text(event, protocol.identity, limits.identity_characters)
    time = event.get(protocol.time)
    if type(time) is not int or time <= limits.earliest * _MILLISECONDS:
        raise _EventError(protocol.time, "has to be an epoch-millis value after 2020-01-01")
    if time > (now + limits.ahead_seconds) * _MILLISECONDS:
        raise _EventError(protocol.time, f"lies more than {limits.ahead_seconds // 3600} hours in the future")
    traits = event.get("traits")
    if traits is not None and not isinstance(traits, dict):
        raise _EventError("traits", "has to be an object")
    _check_sizes(event, size, limits)
    for key, value in (traits or {}).items():
        if len(key) > limits.trait_key_characters:
            raise _EventError("traits", f"has a key of more than {limits.trait_key_characters} characters")
        if isinstance(value, str) and len(value) > limits.trait_string_characters:
            raise _EventError("traits", f"has a string of more than {limits.trait_string_characters} characters")


def _check_text(event: Mapping[str, Any], field: str, most: int) -> None:
    text = event.get(field)
    if text is not None and not isinstance(text, str) and not _is_number(text):
        raise _EventError(field, "has to be a string")
    if isinstance(text, str) and len(text) > most:
        raise _EventError(field, f"has more than {most} characters")


def _is_number(value: Any) -> bool:
    """Tell whether *value* is a whole number, which SDKs send where a program has numbers for names."""
    return type(value) is int


def _check_sizes(event: Mapping[str, Any], size: int, limits: Limits) -> None:
    """Check the parts of an event of *size* bytes, which none of them is larger than."""
    bounds = (("value", limits.value_bytes), ("traits", limits.traits_bytes), ("metadata", limits.metadata_bytes))
    for field, most in bounds:
        if size > most and (part := event.get(field)) is not None and len(orjson.dumps(part)) > most:
            raise _EventError(field, f"takes more than {most} bytes as JSON")


def _evaluation(event: Mapping[str, Any], protocol: Protocol, rules: Limits, now: float) -> Evaluation:
    """Return *event* as an evaluation that keeps every rule of the contract; raises `_EventError`."""
    plain = protocol.special(event, rules)
    for name, field in (("feature_name", protocol.feature), ("identity_identifier", protocol.identity)):
        text = event.get(field)
        if text is not None:
            plain[name] = str(text) if _is_number(text) else text
    if traits := event.get("traits"):
        plain["identity_traits"] = [{"trait_key": key, "trait_value": value} for key, value in traits.items()]
    if event.get("metadata") is not None:
        plain["metadata"] = event["metadata"]
    try:
        evaluation = build(Evaluation(), _decode(plain, Report(), 1))
    except CodecError as error:
        raise _EventError(protocol.own_name(error.path), error.description.rstrip(".")) from None
    seconds, milliseconds = divmod(event[protocol.time], _MILLISECONDS)
    evaluation.evaluation_timestamp.seconds = seconds
    evaluation.evaluation_timestamp.nanos = milliseconds * _NANOS
    fault = find_fault(evaluation, index=0, limits=rules, now=now, is_server=False)
    if fault is not None:
        words = fault.description.removeprefix("It ").removeprefix("Together they ")
        raise _EventError(protocol.own_name(fault.field), words.rstrip("."))
    return evaluation


def _check_event(event: Mapping[str, Any]) -> None:
    name = event.get("event")
    if not isinstance(name, str) or not name.strip():
        raise _EventError("event", "has to be a string that is not blank")
    if len(name) > _MAX_NAME_CHARACTERS:
        raise _EventError("event", f"has more than {_MAX_NAME_CHARACTERS} characters")
    if name.startswith(_RESERVED) and name != EXPOSURE:
        raise _EventError("event", f"begins with {_RESERVED}, which is reserved, and is not {EXPOSURE}")
    if name == EXPOSURE and event.get("feature_name") is None:
        raise _EventError("feature_name", f"is required for {EXPOSURE}")


def _check_batched(event: Mapping[str, Any]) -> None:
    if not isinstance(event.get("event_type"), str):
        raise _EventError("event_type", "has to be a string")


def _of_exposure(event: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Return value and variant: the value of an exposure is the key of the variant."""
    value = event.get("value")
    if value is None:
        return {}
    if isinstance(value, str):
        variant = value
    elif isinstance(value, bool | int | float):
        variant = orjson.dumps(value).decode()
    else:
        return {"value": value}
    # A value served as it is may be longer than any key; it stays what it is, and names no variant.
    return {"value": value, "variant": variant} if len(variant) <= limits.label_characters else {"value": value}


def _of_evaluation(event: Mapping[str, Any], _limits: Limits) -> dict[str, Any]:
    """Return value and enabled: a flag without a value has the value null, and what is not said stays unknown."""
    found = {} if event.get("enabled") is None else {"enabled": event["enabled"]}
    if "value" in event:
        found["value"] = event["value"]
    return found


EVENT: Final = Protocol(
    kind="event",
    evaluations=EXPOSURE,
    feature="feature_name",
    identity="identifier",
    time="timestamp",
    special=_of_exposure,
    check_kind=_check_event,
)
"""That of `/v1/events`."""

BATCHED: Final = Protocol(
    kind="event_type",
    evaluations=EVALUATION,
    feature="event_id",
    identity="identity_identifier",
    time="evaluated_at",
    special=_of_evaluation,
    check_kind=_check_batched,
)
"""That of `/v1/analytics/batch`."""
