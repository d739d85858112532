"""The OpenAPI document of Flagledger's HTTP API: what the contract says, and what it says in words alone."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from flagledger.front.grpc import QUERY_SERVICE
from flagledger.transcoding import Transcoder, openapi
from flagledger.v1 import evaluation_service_pb2

_RECORDING_SERVICE: Final = evaluation_service_pb2.DESCRIPTOR.services_by_name["EvaluationService"].full_name
_CONTRACT: Final = Path(evaluation_service_pb2.__file__).with_name("contract.binpb")

_DESCRIPTION: Final = """\
Records what feature flags decided, and answers questions about it. The same services are there over gRPC.

A header that is not described here is not needed. Bodies may be compressed with gzip. Where a refusal carries `Retry-After`, \
the same may be sent again after that; where it does not, it would be refused again.

Routes that older SDKs send to by protocols of their own are not in this document."""

_KEY: Final = "environmentKey"
_TOKEN: Final = "readToken"  # noqa: S105  # the name of a scheme
_SCHEMES: Final = {
    _KEY: {
        "type": "apiKey",
        "in": "header",
        "name": "X-Environment-Key",
        "description": "Key of the environment that evaluations are recorded in. It does not read.",
    },
    _TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "description": "Token of the role `read`; erasing needs `admin`. It does not record.",
    },
}

EXPORTED: Final = (
    "application/x-ndjson",
    "text/csv",
    "application/vnd.apache.parquet",
    "application/vnd.apache.arrow.stream",
)
"""What the formats of exports are sent as."""

_OF_ANY_CALL: Final = {
    408: "The headers or the body came too slowly.",
    429: "More calls or bytes are in flight than are taken, or an environment sends more than its rate, or the journal is full.",
    431: "Path, query and headers are together larger than is taken.",
    503: "This cannot be done at the moment: the disk, the catalog or the store is away, or the server drains.",
}
_RECORDING: Final = openapi.RpcFacts(
    success=202,
    errors=_OF_ANY_CALL
    | {
        401: "The environment key is missing, unknown, expired or inactive.",
        403: "Nothing is taken for this environment, or nothing from this page.",
        409: "This batch_id was used for another content.",
    },
    parameters=(
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "The same as `batch_id`, in another place.",
            "schema": {"type": "string", "maxLength": 128},
        },
    ),
    headers={
        "X-Ignored-Fields": {
            "description": "Fields that the contract does not know, and that were ignored; the first 20.",
            "schema": {"type": "string"},
        },
    },
    security=({_KEY: ()},),
)
_ASKING: Final = openapi.RpcFacts(
    errors=_OF_ANY_CALL
    | {
        401: "There is no token, or it is unknown.",
        403: "The token lacks the role, or does not reach the environment.",
        404: "There is no environment of this name.",
        504: "The question took longer than 25 seconds. Narrow its period.",
    },
    security=({_TOKEN: ()},),
)
_EXPORTING: Final = replace(
    _ASKING,
    headers={
        "X-Last-Position": {
            "description": "Up to which position the file goes: what `after_position` takes to go on from there.",
            "schema": {"type": "integer", "minimum": 0},
        },
    },
    content_types=EXPORTED,
)
_FACTS: Final = {
    _RECORDING_SERVICE: _RECORDING,
    QUERY_SERVICE: _ASKING,
    f"{QUERY_SERVICE}.ExportEvaluations": _EXPORTING,
}


def document(transcoder: Transcoder) -> dict[str, Any]:
    """Return the document of what *transcoder* serves of the contract."""
    served = {binding.method.containing_service.full_name for binding in transcoder.bindings}
    served |= {binding.method.full_name for binding in transcoder.bindings}
    found = openapi.document(
        transcoder,
        title="Flagledger",
        version=metadata.version("flagledger"),
        description=_DESCRIPTION,
        descriptions=FileDescriptorSet.FromString(_CONTRACT.read_bytes()),
        facts={name: facts for name, facts in _FACTS.items() if name in served},
        security_schemes=_SCHEMES,
    )
    found["info"]["license"] = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
    return found
