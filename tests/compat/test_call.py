from __future__ import annotations

import pytest
from compat.conftest import EVENTS, Service
from compat.test_events import EXPOSURE, of
from flagledger.compat.answers import Answer
from flagledger.compat.call import Call, Reading, set_time
from flagledger.v1.evaluation_pb2 import Evaluation


@pytest.mark.parametrize(
    ("headers", "name", "version"),
    [
        (
            {"flagsmith-sdk-user-agent": "flagsmith-js-sdk/9.1.0", "user-agent": "Mozilla/5.0"},
            "flagsmith-js-sdk",
            "9.1.0",
        ),
        ({"user-agent": "flagsmith-nodejs-sdk/6.0.0"}, "flagsmith-nodejs-sdk", "6.0.0"),
        ({"flagsmith-sdk-user-agent": "flagsmith-python-client/6.1.0"}, "flagsmith-python-sdk", "6.1.0"),
        ({"flagsmith-sdk-user-agent": "flagsmith-python-sdk/6.3.0"}, "flagsmith-python-sdk", "6.3.0"),
        ({"user-agent": "python-requests/2.32"}, "python-requests", "2.32"),
        ({}, "", ""),
    ],
)
async def test_sdk(service: Service, headers: dict[str, str], name: str, version: str) -> None:
    """The SDK is the one that the header for it names, or else the user agent; one that has had two names has one."""
    await service.send(EVENTS, of(EXPOSURE), headers=headers)
    [record] = service.records

    assert (name, version) == (record.envelope.sdk_name, record.envelope.sdk_version)


def test_metadata() -> None:
    """Of the headers those are metadata that the servicer asks for: no batch id of another protocol is among them."""
    call = Call(
        [(b"origin", b"https://a"), (b"idempotency-key", b"1"), (b"cookie", b"c"), (b"x-environment-key", b"\xe4")]
    )
    call.set_trailing_metadata((("x-http-code", "202"),))

    assert (("origin", "https://a"), ("x-environment-key", "ä")) == call.invocation_metadata()
    assert call.has_key
    assert not Call([(b"x-environment-key", b"")]).has_key


def test_reject() -> None:
    """What could not be read leaves an empty evaluation in its place, with a path that leads there."""
    reading = Reading(answer=Answer(http_status=200))
    reading.batch.evaluations.add(feature_name="a")
    reading.reject("count", "It is no number.")
    reading.reject("", "It is no object.")

    assert [Evaluation(feature_name="a"), Evaluation(), Evaluation()] == [*reading.batch.evaluations]
    assert [
        (1, "evaluations[1].count", "It is no number."),
        (2, "evaluations[2]", "It is no object."),
    ] == reading.errors


@pytest.mark.parametrize(
    ("now", "seconds", "nanos"),
    [(1.5, 1, 500_000_000), (1_770_724_800.000001, 1_770_724_800, 1_000), (1.9999999, 2, 0)],
)
def test_set_time(now: float, seconds: int, nanos: int) -> None:
    """The time of receipt is kept to the microsecond."""
    evaluation = Evaluation()
    set_time(evaluation, now)

    assert (seconds, nanos) == (evaluation.evaluation_timestamp.seconds, evaluation.evaluation_timestamp.nanos)
