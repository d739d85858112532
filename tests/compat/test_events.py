from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from compat.conftest import BATCH, EVENTS, MAX_EVALUATIONS, Service
from flagledger.v1.evaluation_pb2 import Evaluation
from google.protobuf import json_format
from support.intake import NOW

TIME = int(NOW * 1000) - 3_600_001
EXPOSURE = {
    "event": "$flag_exposure",
    "feature_name": "checkout",
    "identifier": "anna",
    "value": "blue",
    "traits": {"plan": "pro", "age": 41},
    "metadata": {"sdk_version": "6.3.0"},
    "timestamp": TIME,
}
PURCHASE = {"event": "purchase", "feature_name": None, "identifier": "anna", "value": "9.99", "timestamp": TIME}
EVALUATED = {
    "event_id": "checkout",
    "event_type": "flag_evaluation",
    "evaluated_at": TIME,
    "identity_identifier": "anna",
    "enabled": False,
    "value": "blue",
    "traits": {"plan": "pro"},
    "metadata": {"sdk_version": "5.2.0"},
}
CUSTOM = {
    "event_id": "purchase",
    "event_type": "custom_event",
    "evaluated_at": TIME,
    "identity_identifier": "anna",
    "enabled": None,
    "value": None,
    "traits": None,
    "metadata": {"sdk_version": "5.2.0"},
}


def of(*events: object) -> dict[str, Any]:
    """Return a body of *events*."""
    return {"events": list(events)}


def nested(levels: int) -> object:
    """Return objects in each other."""
    value: object = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return *evaluation* with all that is set in it."""
    return json_format.MessageToDict(evaluation, preserving_proto_field_name=True)


async def test_exposure(service: Service) -> None:
    """An exposure is an evaluation with the value as variant, of the client's own time; whether it was enabled is unknown."""
    got = await service.send(EVENTS, of(EXPOSURE))
    [evaluation] = service.evaluations

    assert (202, b'{"accepted":1,"rejected":[]}') == (got.status, got.body)
    assert "application/json" == got.headers["content-type"]
    assert {
        "feature_name": "checkout",
        "value": "blue",
        "variant": "blue",
        "evaluation_timestamp": "2026-02-10T10:59:59.999Z",
        "identity_identifier": "anna",
        "identity_traits": [
            {"trait_key": "plan", "trait_value": "pro"},
            {"trait_key": "age", "trait_value": 41.0},
        ],
        "metadata": {"sdk_version": "6.3.0"},
    } == as_json(evaluation)


async def test_evaluated(service: Service) -> None:
    """What the Python SDK 5.2 sends of an evaluation is recorded as it stands, without a variant."""
    got = await service.send(BATCH, of(EVALUATED) | {"environment_key": "unknown"})
    [evaluation] = service.evaluations

    assert (202, {"accepted": 1, "rejected": []}) == (got.status, got.json())
    assert {
        "feature_name": "checkout",
        "enabled": False,
        "value": "blue",
        "evaluation_timestamp": "2026-02-10T10:59:59.999Z",
        "identity_identifier": "anna",
        "identity_traits": [{"trait_key": "plan", "trait_value": "pro"}],
        "metadata": {"sdk_version": "5.2.0"},
    } == as_json(evaluation)


async def test_nulls(service: Service) -> None:
    """Null is what was not said; but a flag that was evaluated and has no value has the value null."""
    empty = {"enabled": None, "value": None, "traits": None, "metadata": None, "identity_identifier": None}
    await service.send(BATCH, of(EVALUATED | empty))
    await service.send(EVENTS, of(EXPOSURE | {"value": None, "traits": {}, "metadata": None, "identifier": None}))
    first, second = map(as_json, service.evaluations)

    assert {"feature_name": "checkout", "value": None, "evaluation_timestamp": "2026-02-10T10:59:59.999Z"} == first
    assert {"feature_name": "checkout", "evaluation_timestamp": "2026-02-10T10:59:59.999Z"} == second


@pytest.mark.parametrize(
    ("value", "variant"),
    [
        ("blue", "blue"),
        (16, "16"),
        (1.5, "1.5"),
        (True, "true"),
        ("", ""),
        ({"size": 16}, ""),
        (["a"], ""),
        ("x" * 2_000, "x" * 2_000),
        ("x" * 2_001, ""),
    ],
)
async def test_variants(service: Service, value: object, variant: str) -> None:
    """A scalar value names the variant; one that no key is, or that is longer than any, stays a value alone."""
    await service.send(EVENTS, of(EXPOSURE | {"value": value}))
    [evaluation] = service.evaluations

    assert variant == evaluation.variant
    assert value == json_format.MessageToDict(evaluation.value)


@pytest.mark.parametrize(("path", "ours", "other"), [(EVENTS, EXPOSURE, PURCHASE), (BATCH, EVALUATED, CUSTOM)])
async def test_foreign_events(service: Service, path: str, ours: object, other: object) -> None:
    """Other events are accepted, as far as their sender is told, and counted as foreign: nothing else of them is kept."""
    got = await service.send(path, of(other, ours, other))
    [record] = service.records

    assert (202, {"accepted": 3, "rejected": []}) == (got.status, got.json())
    assert ["checkout"] == [evaluation.feature_name for evaluation in record.evaluations]
    assert [("foreign_event", "", 2)] == [(d.reason, d.name, d.entry_count) for d in record.envelope.discards]
    assert (1, 2) == (service.counted.of("accepted"), service.counted.of("foreign"))


@pytest.mark.parametrize(("path", "other"), [(EVENTS, PURCHASE), (BATCH, CUSTOM)])
async def test_foreign_events_alone(service: Service, path: str, other: object) -> None:
    """A body without a single evaluation is accepted."""
    got = await service.send(path, of(other))

    assert (202, 1) == (got.status, got.json()["accepted"])
    assert (0, 1) == (service.counted.of("accepted"), service.counted.of("foreign"))


@pytest.mark.parametrize(
    ("path", "ours", "feature"), [(EVENTS, EXPOSURE, "feature_name"), (BATCH, EVALUATED, "event_id")]
)
async def test_unknown_feature(service: Service, path: str, ours: dict[str, Any], feature: str) -> None:
    """A feature that does not exist is accepted, as far as its sender is told, and filtered: the SDK would send it for ever."""
    got = await service.send(path, of(ours | {feature: "nowhere"}, ours))

    assert (202, {"accepted": 2, "rejected": []}) == (got.status, got.json())
    assert ["checkout"] == [evaluation.feature_name for evaluation in service.evaluations]
    assert 1 == service.counted.of("filtered")


FAULTS = [
    ({"event": None}, "event"),
    ({"event": "  "}, "event"),
    ({"event": 5}, "event"),
    ({"event": "x" * 257}, "event"),
    ({"event": "$made_up"}, "event"),
    ({"feature_name": None}, "feature_name"),
    ({"feature_name": ""}, "feature_name"),
    ({"feature_name": []}, "feature_name"),
    ({"feature_name": "x" * 2_001}, "feature_name"),
    ({"feature_name": "a\0"}, "feature_name"),
    ({"identifier": "x" * 2_001}, "identifier"),
    ({"identifier": ["anna"]}, "identifier"),
    ({"identifier": True}, "identifier"),
    ({"value": "x" * (128 * 1024)}, "value"),
    ({"value": nested(33)}, "value"),
    ({"value": nested(41)}, "value"),
    ({"value": nested(200)}, "value"),
    ({"value": float("nan")}, "value"),
    ({"value": "a\0"}, "value"),
    ({"traits": []}, "traits"),
    ({"traits": {"x" * 201: 1}}, "traits"),
    ({"traits": {"": 1}}, "traits"),
    ({"traits": {"a": "x" * 2_001}}, "traits"),
    ({"traits": {f"k{n}": "x" * 1_900 for n in range(18)}}, "traits"),
    ({"traits": {"a": float("inf")}}, "traits"),
    ({"metadata": {"a": "x" * 8_192}}, "metadata"),
    ({"metadata": {"a": float("-inf")}}, "metadata"),
    ({"metadata": "text"}, "metadata"),
    ({"timestamp": None}, "timestamp"),
    ({"timestamp": "2026-02-10T10:59:59Z"}, "timestamp"),
    ({"timestamp": float(TIME)}, "timestamp"),
    ({"timestamp": True}, "timestamp"),
    ({"timestamp": TIME // 1000}, "timestamp"),
    ({"timestamp": 1_577_836_800_000}, "timestamp"),
    ({"timestamp": int(NOW * 1000) + 86_400_001}, "timestamp"),
    ({"timestamp": 10**30}, "timestamp"),
]


@pytest.mark.parametrize(("change", "field"), FAULTS)
async def test_one_wrong_event(service: Service, change: dict[str, Any], field: str) -> None:
    """A wrong event costs no other, is named by its place and field, and is counted as rejected."""
    got = await service.send(EVENTS, of(EXPOSURE, EXPOSURE | change, PURCHASE))
    [rejected] = got.json()["rejected"]

    assert (202, 2, 1) == (got.status, got.json()["accepted"], rejected["index"])
    assert rejected["error"].startswith(f"events[1].{field} ")
    assert (1, 1, 1) == tuple(map(service.counted.of, ("accepted", "rejected", "foreign")))


BATCHED_FAULTS = [
    ({"event_type": None}, "event_type"),
    ({"event_id": ""}, "event_id"),
    ({"event_id": None}, "event_id"),
    ({"event_id": "x" * 2_001}, "event_id"),
    ({"evaluated_at": 0}, "evaluated_at"),
    ({"enabled": "yes"}, "enabled"),
    ({"identity_identifier": {}}, "identity_identifier"),
    ({"traits": "pro"}, "traits"),
    ({"value": float("nan")}, "value"),
]


@pytest.mark.parametrize(("change", "field"), BATCHED_FAULTS)
async def test_one_wrong_evaluation(service: Service, change: dict[str, Any], field: str) -> None:
    """The same holds for what the Python SDK 5.2 sends, by the names that it has for its fields."""
    got = await service.send(BATCH, of(EVALUATED, EVALUATED | change, CUSTOM))
    [rejected] = got.json()["rejected"]

    assert (202, 2, 1) == (got.status, got.json()["accepted"], rejected["index"])
    assert rejected["error"].startswith(f"events[1].{field} ")
    assert (1, 1, 1) == tuple(map(service.counted.of, ("accepted", "rejected", "foreign")))


@pytest.mark.parametrize("event", [b"5", b"null", b"[]", b'"x"', b'{"value": "\\ud800"}', b"[" * 300 + b"]" * 300])
@pytest.mark.parametrize("path", [EVENTS, BATCH])
async def test_what_is_no_event(service: Service, path: str, event: bytes) -> None:
    """What is no event at all, or no text, is rejected by its place."""
    ours = EXPOSURE if path == EVENTS else EVALUATED
    got = await service.send(path, b'{"events": [%b, %b]}' % (event, json.dumps(ours).encode()))
    [rejected] = got.json()["rejected"]

    assert (202, 1, 0) == (got.status, got.json()["accepted"], rejected["index"])
    assert rejected["error"].startswith("events[0] ")
    assert (1, 1) == (service.counted.of("accepted"), service.counted.of("rejected"))


@pytest.mark.parametrize(
    ("path", "event", "kind"),
    [
        (EVENTS, EXPOSURE | {"timestamp": 0}, "evaluation_timestamp"),
        (EVENTS, EXPOSURE | {"identifier": []}, "identity_identifier"),
        (EVENTS, EXPOSURE | {"traits": {"": 1}}, "identity_traits"),
        (EVENTS, EXPOSURE | {"event": ""}, ""),
        (BATCH, EVALUATED | {"evaluated_at": 0}, "evaluation_timestamp"),
        (BATCH, EVALUATED | {"event_id": ""}, "feature_name"),
        (BATCH, EVALUATED | {"enabled": "yes"}, "enabled"),
    ],
)
async def test_kinds(service: Service, path: str, event: dict[str, Any], kind: str) -> None:
    """What is rejected is counted under the contract's name for the field, whatever this protocol calls it."""
    await service.send(path, of(event))

    assert {("rejected", "production", kind): 1} == {
        key: number for key, number in service.counted.counts.items() if key[0] == "rejected"
    }


async def test_what_is_just_valid(service: Service) -> None:
    """At the limits an event is valid."""
    edges = [
        {"feature_name": "x" * 2_000},
        {"identifier": "ü" * 2_000},
        {"timestamp": 1_577_836_800_001},
        {"timestamp": int(NOW * 1000) + 86_400_000},
        {"traits": {"x" * 200: "ü" * 2_000}},
        {"value": nested(32)},
        {"colour": "unknown fields are ignored"},
    ]
    got = await service.send(EVENTS, of(*(EXPOSURE | edge for edge in edges), PURCHASE | {"event": "x" * 256}))

    assert {"accepted": len(edges) + 1, "rejected": []} == got.json()


async def test_identity_that_is_a_number(service: Service) -> None:
    """An identity that a program keeps as a number is that number as text, as it is to the Flagsmith API."""
    await service.send(EVENTS, of(EXPOSURE | {"identifier": 42}))
    await service.send(BATCH, of(EVALUATED | {"identity_identifier": 42}))

    assert ["42", "42"] == [evaluation.identity_identifier for evaluation in service.evaluations]


@pytest.mark.parametrize("path", [EVENTS, BATCH])
async def test_nothing_accepted(service: Service, path: str) -> None:
    """A body of which nothing is accepted is 400, with every event and what is wrong with it."""
    got = await service.send(path, of(*[5] * 150))

    assert 400 == got.status
    assert (0, list(range(150))) == (got.json()["accepted"], [one["index"] for one in got.json()["rejected"]])
    [record] = service.records
    assert (0, [150]) == (len(record.evaluations), [one.entry_count for one in record.envelope.discards])
    assert 150 == service.counted.of("rejected")


@pytest.mark.parametrize(("path", "other"), [(EVENTS, PURCHASE), (BATCH, CUSTOM)])
async def test_only_foreign_events_accepted(service: Service, path: str, other: object) -> None:
    """Where each evaluation is wrong, the events beside them are accepted and counted."""
    got = await service.send(path, of(5, other))

    assert (202, 1) == (got.status, got.json()["accepted"])
    assert (1, 1) == (service.counted.of("rejected"), service.counted.of("foreign"))


@pytest.mark.parametrize("path", [EVENTS, BATCH])
@pytest.mark.parametrize(
    ("body", "headers", "status", "answer"),
    [
        (b'{"events": []}', {}, 400, b'{"accepted":0,"rejected":[],"error":"events must be non-empty"}'),
        (b"", {}, 400, b"Failed to parse the request body as JSON: "),
        (b"{", {}, 400, b"Failed to parse the request body as JSON: Expecting property name"),
        (b"\xff", {}, 400, b"Failed to parse the request body as JSON: 'utf-8' codec"),
        (b"[" * 100_000, {}, 400, b"Failed to parse the request body as JSON: It is nested too deeply."),
        (b"[]", {}, 422, b"The body has to be an object"),
        (b"{}", {}, 422, b"The body has to be an object"),
        (b'{"events": {}}', {}, 422, b"The body has to be an object"),
        (b"{}", {"content-type": "text/plain"}, 415, b"Expected request with `Content-Type: application/json`"),
        (b"{}", {"content-type": ""}, 415, b"Expected request with `Content-Type: application/json`"),
    ],
)
async def test_bodies_that_are_none(
    service: Service, path: str, body: bytes, headers: dict[str, str], status: int, answer: bytes
) -> None:
    """What is no list of events at all is refused, in text or as the service for events has it."""
    got = await service.send(path, body, headers=headers)

    assert status == got.status
    assert got.body.startswith(answer)
    assert ("application/json" if answer[:1] == b"{" else "text/plain; charset=utf-8") == got.headers["content-type"]
    assert (["HTTP_415"] if status == 415 else ["MALFORMED"]) == service.counted.refusals


@pytest.mark.parametrize("more", [0, 1])
async def test_too_many(service: Service, more: int) -> None:
    """A body with more events than a batch may have is 413, and says how many it may have."""
    got = await service.send(EVENTS, of(*[5] * (MAX_EVALUATIONS + more)))

    assert (413 if more else 400) == got.status
    assert (b"The body has more than 1,000 events. Send fewer at once." == got.body) == bool(more)


async def test_gzip(service: Service) -> None:
    """A body may be compressed."""
    body = gzip.compress(json.dumps(of(EXPOSURE)).encode())
    got = await service.send(EVENTS, body, headers={"content-encoding": "gzip"})

    assert (202, 1) == (got.status, len(service.evaluations))
