"""The OpenAPI document of the API. That answers are what it says is held by tests/system/test_openapi.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import metadata
from typing import Any

import pytest
from flagledger.front import openapi
from flagledger.query.export_formats import FORMATS
from flagledger.transcoding import Transcoder
from flagledger.v1 import evaluation_service_pb2, query_service_pb2
from front.conftest import Fronts
from openapi_spec_validator import validate
from support.web import request

SERVICES = (
    evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"],
    query_service_pb2.DESCRIPTOR.services_by_name["QueryService"],
)
EVALUATIONS = "/api/v2/analytics/evaluations"


class Servicer:
    """Has the rpcs of both services."""

    def __getattr__(self, name: str) -> Any:
        async def answer(message: Any, context: Any) -> Any: ...

        async def pieces(message: Any, context: Any) -> AsyncIterator[Any]:
            yield message

        return pieces if name == "ExportEvaluations" else answer


@pytest.fixture(scope="module")
def document() -> Any:
    """Return the document of both services."""
    app = Transcoder([(service, Servicer()) for service in SERVICES], preserving_proto_field_name=True)
    return openapi.document(app)


def responses(document: Any, method: str, path: str) -> list[str]:
    """Return the statuses of an operation."""
    return list(document["paths"][path][method]["responses"])


def test_valid(document: Any) -> None:
    """It is OpenAPI, of this version of Flagledger."""
    validate(document)

    assert ("Flagledger", metadata.version("flagledger")) == (document["info"]["title"], document["info"]["version"])


def test_routes(document: Any) -> None:
    """It has the routes of the contract, and none of older SDKs, which it says."""
    assert all(path.startswith("/api/v2/analytics/") for path in document["paths"])
    assert 9 == len(document["paths"])
    assert "older SDKs" in document["info"]["description"]


def test_credentials(document: Any) -> None:
    """Recording takes an environment key, and every question a token."""
    schemes = document["components"]["securitySchemes"]
    security = {
        (operation["tags"][0], *operation["security"][0])
        for item in document["paths"].values()
        for operation in item.values()
    }

    assert ("apiKey", "header", "X-Environment-Key") == tuple(
        schemes["environmentKey"][name] for name in ("type", "in", "name")
    )
    assert ("http", "bearer") == (schemes["readToken"]["type"], schemes["readToken"]["scheme"])
    assert {("EvaluationService", "environmentKey"), ("QueryService", "readToken")} == security


def test_statuses(document: Any) -> None:
    """Every status that can be answered is there, and none that stands for any other."""
    recording = ["202", "400", "401", "403", "408", "409", "413", "415", "429", "431", "500", "503", "504"]
    asking = ["200", "400", "401", "403", "404", "408", "429", "431", "500", "503", "504"]

    assert recording == responses(document, "post", EVALUATIONS)
    assert asking == responses(document, "get", EVALUATIONS)
    assert asking == responses(document, "get", "/api/v2/analytics/export")


def test_export(document: Any) -> None:
    """An export has the content types of its formats, and tells how far it goes."""
    found = document["paths"]["/api/v2/analytics/export"]["get"]["responses"]["200"]

    assert [form.content_type.partition(";")[0] for form in FORMATS.values()] == list(found["content"])
    assert {"X-Last-Position"} == set(found["headers"])


def test_words_of_the_contract(document: Any) -> None:
    """What the contract says in comments is in it."""
    batch = document["components"]["schemas"]["flagledger.v1.EvaluationBatch-input"]

    assert "Records one batch" == document["paths"][EVALUATIONS]["post"]["summary"]
    assert batch["properties"]["evaluations"]["description"].startswith("Evaluations in any order")


async def test_served(fronts: Fronts) -> None:
    """It is served without a key, with the limits of the front in it; what is not a GET is refused and counted."""
    found = await request(fronts.http, "GET", "/openapi.json")
    again = await request(fronts.http, "GET", "/openapi.json", headers={"If-None-Match": found.headers["etag"]})
    post = await request(fronts.http, "POST", "/openapi.json", b"{}")
    schemas = found.json()["components"]["schemas"]

    assert (200, "application/json") == (found.status, found.headers["content-type"])
    assert 10_000 == schemas["flagledger.v1.EvaluationBatch-input"]["properties"]["evaluations"]["maxItems"]
    assert schemas["flagledger.v1.Evaluation-input"]["additionalProperties"]
    assert (304, b"") == (again.status, again.body)
    assert (405, ["HTTP_405"]) == (post.status, fronts.counted.refusals)
