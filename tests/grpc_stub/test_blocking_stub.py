"""An SDK that blocks, as most do: the generated stub over pytest-grpc's channel."""

from __future__ import annotations

import tomllib
from typing import Any

import grpc
import pytest
from flagledger.v1 import evaluation_pb2, evaluation_service_pb2
from support.server import KIT_ENVIRONMENTS

pytest.importorskip("pytest_grpc", reason="pytest-grpc is not here: `make test-grpc` installs it beside the tests")
pytestmark = pytest.mark.system


@pytest.fixture
def key() -> str:
    """Return an environment key of the kit."""
    environment = tomllib.loads(KIT_ENVIRONMENTS.read_text())["environments"][0]
    return next(key for key in environment["keys"] if isinstance(key, str))


@pytest.fixture
def feature() -> str:
    """Return a feature of the kit."""
    return str(tomllib.loads(KIT_ENVIRONMENTS.read_text())["environments"][0]["features"][0])


def request(feature: str) -> evaluation_service_pb2.RecordEvaluationsRequest:
    """Return a batch of one evaluation."""
    evaluation = evaluation_pb2.Evaluation(feature_name=feature, enabled=True)
    evaluation.evaluation_timestamp.GetCurrentTime()
    return evaluation_service_pb2.RecordEvaluationsRequest(
        batch=evaluation_pb2.EvaluationBatch(evaluations=[evaluation])
    )


def test_recorded(grpc_stub: Any, key: str, feature: str) -> None:
    """A blocking call is answered with its counts."""
    answer = grpc_stub.RecordEvaluations(request(feature), metadata=[("x-environment-key", key)])

    assert 1 == answer.accepted_count


def test_refused(grpc_stub: Any, feature: str) -> None:
    """A blocking call without a key raises UNAUTHENTICATED."""
    with pytest.raises(grpc.RpcError) as refused:
        grpc_stub.RecordEvaluations(request(feature))

    assert grpc.StatusCode.UNAUTHENTICATED is refused.value.code()
