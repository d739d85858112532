from __future__ import annotations

from flagledger.v1 import evaluation_pb2, evaluation_service_pb2
from front.conftest import Fronts
from support.intake import CLIENT_KEY, valid_evaluation
from support.web import request


async def test_one_object(fronts: Fronts) -> None:
    """One servicer object answers both protocols, with the same answer and the same journal record."""
    evaluation = valid_evaluation()
    body = {
        "evaluations": [
            {"feature_name": "new_dashboard", "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
        ]
    }

    over_grpc = await fronts.stub.RecordEvaluations(
        evaluation_service_pb2.RecordEvaluationsRequest(batch=evaluation_pb2.EvaluationBatch(evaluations=[evaluation])),
        metadata=[("x-environment-key", CLIENT_KEY)],
    )
    over_http = await request(
        fronts.http, "POST", "/api/v2/analytics/evaluations", body, {"X-Environment-Key": CLIENT_KEY}
    )

    assert [(id(fronts.servicer), "_ServicerContext"), (id(fronts.servicer), "TranscodedContext")] == [
        (servicer, name) for servicer, name in fronts.servicer.calls
    ]
    assert (1, 202, 1) == (over_grpc.accepted_count, over_http.status, over_http.json()["accepted_count"])
    first, second = fronts.journal.records
    assert first.evaluations == second.evaluations
