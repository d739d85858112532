"""The test service, compiled when it is imported, and a caller that speaks ASGI without a server."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc_tools
from google.api import annotations_pb2, httpbody_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from grpc_tools import protoc

# What the test proto imports has to be in the pool before it.
IMPORTED = (
    annotations_pb2,
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    httpbody_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "proto"


def descriptors(*arguments: str) -> descriptor_pb2.FileDescriptorSet:
    """Return the test proto compiled; *arguments* are further ones of protoc."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kitchen.binpb"
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        command = [
            "protoc",
            f"-I{HERE}",
            f"-I{PROTO}",
            f"-I{well_known}",
            f"--descriptor_set_out={out}",
            *arguments,
            "kitchen.proto",
        ]
        assert protoc.main(command) == 0
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def _load() -> dict[str, Any]:
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(descriptors().file[0].SerializeToString())
    return message_factory.GetMessageClassesForFiles(["kitchen.proto"], pool)


MESSAGES = _load()
Attachment = MESSAGES["kitchen.v1.Attachment"]
Everything = MESSAGES["kitchen.v1.Everything"]
GetRequest = MESSAGES["kitchen.v1.GetRequest"]
HttpBody = httpbody_pb2.HttpBody
Labelled = MESSAGES["kitchen.v1.Labelled"]
Nested = MESSAGES["kitchen.v1.Nested"]
Order = MESSAGES["kitchen.v1.Order"]
Packed = MESSAGES["kitchen.v1.Packed"]
Sizes = MESSAGES["kitchen.v1.Sizes"]
Tray = MESSAGES["kitchen.v1.Tray"]


def service(name: str) -> Any:
    """Return the descriptor of a service of the test proto."""
    return descriptor_pool.Default().FindServiceByName(f"kitchen.v1.{name}")


class KitchenServicer:
    """Answers with what it was asked, and keeps the last request and context."""

    def __init__(self) -> None:
        self.request: Any = None
        self.context: Any = None

    def _keep(self, request: Any, context: Any) -> None:
        self.request = request
        self.context = context

    async def Get(self, request: Any, context: Any) -> Any:
        """Answer with the query."""
        self._keep(request, context)
        return request.query

    async def Echo(self, request: Any, context: Any) -> Any:
        """Answer with the request."""
        self._keep(request, context)
        return request

    Place = Echo
    Measure = Echo


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def violations(self) -> list[tuple[str, str]]:
        """The field violations of the error."""
        found = []
        for detail in self.json["details"]:
            if detail["@type"].endswith("google.rpc.BadRequest"):
                found += [(item["field"], item["description"]) for item in detail["fieldViolations"]]
        return found


async def call(
    app: Any,
    method: str,
    target: str,
    body: bytes | list[bytes] = b"",
    headers: dict[str, str] | None = None,
    **scope: Any,
) -> Answer:
    """Send one request to an ASGI application; a list is a body in pieces, without a Content-Length."""
    path, _, query = target.partition("?")
    pieces = [body] if isinstance(body, bytes) else list(body)
    messages = [
        {"type": "http.request", "body": piece, "more_body": at < len(pieces) - 1} for at, piece in enumerate(pieces)
    ]
    sent = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    if isinstance(body, bytes) and body:
        sent.append((b"content-length", str(len(body)).encode()))
    elif not isinstance(body, bytes):
        sent.append((b"transfer-encoding", b"chunked"))
    answered: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    await app(
        {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": sent,
            "client": ("127.0.0.1", 50312),
            **scope,
        },
        receive,
        send,
    )
    start, *rest = answered
    return Answer(
        status=start["status"],
        headers={name.decode(): value.decode() for name, value in start["headers"]},
        body=b"".join(message.get("body", b"") for message in rest),
    )
