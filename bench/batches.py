"""The sample: what one SDK would send, serialised once, with room for a batch id of its own in every copy."""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2
from google.protobuf import struct_pb2

ENVIRONMENT: Final = "bench"
KEY: Final = "bench-environment-key"
FEATURES: Final = tuple(f"checkout_{index:02d}" for index in range(50))

# As long as `_batch_ids` makes them, so that an id can be put in its place without touching a length prefix.
_PLACEHOLDER: Final = "f" * 32
_VALUES: Final = ("control", "variant_a", "variant_b", "on")
_SEGMENTS: Final = ("premium_users", "beta_testers", "germany", "new_devices", "holdout")
_PLANS: Final = ("free", "team", "premium")
_COUNTRIES: Final = ("DE", "FR", "US", "JP")
# Contents that take turns: one alone would flatter whatever compresses.
_TEMPLATES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A serialised batch but for its id: bytes before it, and bytes behind it."""

    before: bytes
    behind: bytes

    def with_id(self, batch_id: bytes) -> bytes:
        """Return the batch under *batch_id*, 32 bytes of ASCII."""
        return self.before + batch_id + self.behind


def protobuf_batches(size: int) -> Iterator[bytes]:
    """Yield serialised RecordEvaluationsRequest messages, or StreamEvaluationsRequest: the bytes are the same."""
    return _with_ids([_split(_request(batch).SerializeToString()) for batch in _batches(size)])


def json_batches(size: int) -> Iterator[bytes]:
    """Yield JSON bodies, each with its own id."""
    return _with_ids([_split(orjson.dumps(_as_json(batch))) for batch in _batches(size)])


def http_requests(size: int, host: str, path: str) -> Iterator[bytes]:
    """Yield whole HTTP/1.1 requests that post a JSON body, each with its own id."""
    templates = []
    for batch in _batches(size):
        body = orjson.dumps(_as_json(batch))
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"X-Environment-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        templates.append(_split(head.encode() + body))
    return _with_ids(templates)


def answer(accepted: int) -> bytes:
    """Return the serialised answer to a batch of which every evaluation was accepted."""
    return evaluation_service_pb2.RecordEvaluationsResponse(accepted_count=accepted).SerializeToString(
        deterministic=True
    )


def stream_answer(accepted: int) -> bytes:
    """Return the same as one message of the stream."""
    result = evaluation_service_pb2.RecordEvaluationsResponse(accepted_count=accepted)
    return evaluation_service_pb2.StreamEvaluationsResponse(result=result).SerializeToString(deterministic=True)


def _batches(size: int) -> Iterator[evaluation_pb2.EvaluationBatch]:
    # The same contents every time; only the moments are new.
    rng = random.Random(20260210 + size)
    now = time.time_ns()
    for _ in range(_TEMPLATES):
        batch = evaluation_pb2.EvaluationBatch(batch_id=_PLACEHOLDER)
        for _ in range(size):
            batch.evaluations.append(_evaluation(rng, now - rng.randrange(60_000_000) * 1000))
        yield batch


def _evaluation(rng: random.Random, timestamp_ns: int) -> evaluation_pb2.Evaluation:
    evaluation = evaluation_pb2.Evaluation(
        feature_name=rng.choice(FEATURES),
        enabled=rng.random() < 0.5,
        value=struct_pb2.Value(string_value=rng.choice(_VALUES)),
        identity_identifier=f"user_{rng.randrange(20_000):05d}",
        segment_names=rng.sample(_SEGMENTS, 2),
    )
    evaluation.evaluation_timestamp.FromMicroseconds(timestamp_ns // 1000)
    for key, value in (
        ("plan", struct_pb2.Value(string_value=rng.choice(_PLANS))),
        ("country", struct_pb2.Value(string_value=rng.choice(_COUNTRIES))),
        ("age", struct_pb2.Value(number_value=rng.randrange(18, 80))),
    ):
        evaluation.identity_traits.add(trait_key=key, trait_value=value)
    return evaluation


def _request(batch: evaluation_pb2.EvaluationBatch) -> evaluation_service_pb2.RecordEvaluationsRequest:
    return evaluation_service_pb2.RecordEvaluationsRequest(batch=batch)


def _as_json(batch: evaluation_pb2.EvaluationBatch) -> dict[str, object]:
    return {"evaluations": [_evaluation_as_json(each) for each in batch.evaluations], "batch_id": batch.batch_id}


def _evaluation_as_json(evaluation: evaluation_pb2.Evaluation) -> dict[str, object]:
    moment = datetime.fromtimestamp(evaluation.evaluation_timestamp.ToMicroseconds() / 1e6, UTC)
    return {
        "feature_name": evaluation.feature_name,
        "enabled": evaluation.enabled,
        "value": evaluation.value.string_value,
        "evaluation_timestamp": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "identity_identifier": evaluation.identity_identifier,
        "identity_traits": [
            {
                "trait_key": trait.trait_key,
                "trait_value": trait.trait_value.string_value or int(trait.trait_value.number_value),
            }
            for trait in evaluation.identity_traits
        ],
        "segment_names": list(evaluation.segment_names),
    }


def _split(serialised: bytes) -> Template:
    before, placeholder, behind = serialised.partition(_PLACEHOLDER.encode())
    if not placeholder:
        raise ValueError("The serialised batch does not hold its batch id.")
    return Template(before=before, behind=behind)


def _with_ids(templates: list[Template]) -> Iterator[bytes]:
    for template, batch_id in zip(itertools.cycle(templates), _batch_ids(), strict=False):
        yield template.with_id(batch_id)


def _batch_ids() -> Iterator[bytes]:
    sender = secrets.token_hex(8).encode()
    for number in itertools.count():
        yield b"%b%016x" % (sender, number)
