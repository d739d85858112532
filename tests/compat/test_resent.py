from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from compat.conftest import BATCH, EVENTS, Service
from compat.test_events import CUSTOM, EVALUATED, EXPOSURE, PURCHASE, of
from flagledger.compat.resent import batch_id
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch
from support.intake import SERVER_KEY

CASES = [(EVENTS, EXPOSURE, PURCHASE, "identifier"), (BATCH, EVALUATED, CUSTOM, "identity_identifier")]


@pytest.mark.parametrize(("path", "ours", "other", "identity"), CASES)
async def test_resent_body(
    service: Service, path: str, ours: dict[str, Any], other: dict[str, Any], identity: str
) -> None:
    """A body that comes again is recorded once, and answered as it was the first time, whatever else stands in it."""
    body = of(ours, other, ours | {identity: "bert"}, 5)
    first = await service.send(path, body)
    written_otherwise = json.dumps(body, indent=1, ensure_ascii=False).encode()
    again = await service.send(path, written_otherwise, key=SERVER_KEY)

    assert (202, 3) == (first.status, first.json()["accepted"])
    assert (first.status, first.body) == (again.status, again.body)
    assert 1 == len(service.records)
    assert service.records[0].batch_id.startswith("body:")
    assert 1 == service.counted.of("duplicate")
    assert (2, 1, 1) == tuple(map(service.counted.of, ("accepted", "rejected", "foreign")))


@pytest.mark.parametrize(("path", "ours", "other", "identity"), CASES)
@pytest.mark.parametrize("nobody", [None, ""])
async def test_evaluations_of_nobody(
    service: Service, path: str, ours: dict[str, Any], other: dict[str, Any], identity: str, nobody: str | None
) -> None:
    """A body with an evaluation of nobody is recorded as often as it comes: it may have come from two."""
    for _ in range(2):
        await service.send(path, of(ours, ours | {identity: nobody}))

    assert ["", ""] == [record.batch_id for record in service.records]


@pytest.mark.parametrize("change", [{"timestamp": EXPOSURE["timestamp"] + 1}, {"identifier": "bert"}, {"value": "red"}])
async def test_other_bodies(service: Service, change: dict[str, Any]) -> None:
    """A body that differs in a time, an identity or a value is another body."""
    await service.send(EVENTS, of(EXPOSURE))
    await service.send(EVENTS, of(EXPOSURE | change))

    assert 2 == len({record.batch_id for record in service.records})


async def test_same_evaluations_beside_other_faults(service: Service) -> None:
    """Evaluations that are known do not count twice because something else in their body is wrong in another way."""
    await service.send(EVENTS, of(EXPOSURE, 5))
    got = await service.send(EVENTS, of(EXPOSURE, EXPOSURE | {"timestamp": 0}))

    assert (202, 1) == (got.status, got.json()["accepted"])
    assert 1 == len(service.records)


async def test_foreign_events_alone(service: Service) -> None:
    """A body without evaluations has nothing by which it could be known again."""
    for _ in range(2):
        await service.send(EVENTS, of(PURCHASE))

    assert ["", ""] == [record.batch_id for record in service.records]


async def test_opt_out(start: Callable[..., Service]) -> None:
    """Where that is not wanted, a body is recorded as often as it comes."""
    service = start(recognise_resends=False)
    for _ in range(2):
        await service.send(EVENTS, of(EXPOSURE))

    assert ["", ""] == [record.batch_id for record in service.records]


async def test_hidden_identities(service: Service) -> None:
    """Where identities are hidden, the batch id is not one that somebody who guesses them could make as well."""
    service.hide_identities()
    for _ in range(2):
        await service.send(EVENTS, of(EXPOSURE))
    [first] = {record.batch_id for record in service.records}
    plain = Service(journal=service.journal, now=service.now)
    await plain.send(EVENTS, of(EXPOSURE))

    assert first != plain.records[-1].batch_id
    assert 2 == len(plain.records)


def test_batch_id() -> None:
    """The batch id is one of the contract's, and depends on the evaluations and the secret alone."""
    batch = EvaluationBatch(evaluations=[Evaluation(feature_name="a")])
    other = EvaluationBatch(evaluations=[Evaluation(feature_name="b")])

    assert batch_id(batch, b"") == batch_id(EvaluationBatch.FromString(batch.SerializeToString()), b"")
    assert 3 == len({batch_id(batch, b""), batch_id(other, b""), batch_id(batch, b"secret")})
    assert len("body:") + 32 == len(batch_id(batch, b"s" * 512))
