"""One route as an operation of an OpenAPI document: parameters, bodies, answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from flagledger.transcoding.binding import WHOLE_BODY, Binding
from flagledger.transcoding.codec_fields import Kind, field_kind, is_map, message_of
from flagledger.transcoding.codec_scalars import CodecError
from flagledger.transcoding.openapi_comments import Comments
from flagledger.transcoding.openapi_paths import OpenApiPath, Wildcard
from flagledger.transcoding.openapi_scalars import Schema, Use
from flagledger.transcoding.openapi_schemas import Schemas
from flagledger.transcoding.parameters import Parameter, resolve
from flagledger.transcoding.template import PathTemplate

ERROR: Final = "google.rpc.Status-error"
ERROR_SCHEMA: Final[Schema] = {
    "type": "object",
    "description": "An error, as google.rpc.Status.",
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "A value of google.rpc.Code."},
        "message": {"type": "string", "description": "What was wrong, for people."},
        "details": {
            "type": "array",
            "description": "More about it, for programs: google.rpc.BadRequest names fields, google.rpc.RetryInfo a delay.",
            "items": {
                "type": "object",
                "properties": {
                    "@type": {"type": "string", "description": "`type.googleapis.com/` and the message's name."}
                },
                "required": ["@type"],
                "additionalProperties": True,
            },
        },
    },
    "required": ["code", "message", "details"],
    "additionalProperties": False,
}

_ERRORS: Final[dict[int, str]] = {
    400: "The request is not what it has to be; the details may name the fields.",
    401: "The caller is not known.",
    403: "The caller may not do this.",
    404: "What is asked about does not exist.",
    408: "The request came too slowly.",
    409: "It conflicts with what is there.",
    413: "The body is too large, as sent or decompressed.",
    415: "The body is of another media type or encoding.",
    429: "Too much is asked for; with `Retry-After`, the same may be sent again after so many seconds.",
    431: "The headers are too large.",
    499: "The call was cancelled.",
    500: "The call failed.",
    501: "This is not implemented.",
    503: "This cannot be answered at the moment; with `Retry-After`, the same may be sent again after so many seconds.",
    504: "The call took too long, or longer than its `Grpc-Timeout`.",
}
_STREAM: Final = "As it comes. What breaks off, its connection closed without the last chunk, is not whole."
_LAST_EVENT: Final = "A stream of events ends, well or not, with an event `status` that holds a google.rpc.Status."
_WITH_BODY: Final = (408, 413, 415)
_ALWAYS: Final = (400, 500, 504)
_RETRIED: Final = frozenset({429, 503})
_JSON: Final = "application/json"
_LINES: Final = "application/x-ndjson"
_EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcFacts:
    """
    What an application knows of an rpc, and no descriptor says.

    Attributes:
        success: HTTP status of success, where the servicer sets `x-http-code`.
        errors: HTTP statuses that may be answered beside those of this library, each with what it means, or empty for the
            common words. None where nobody knows: any may be.
        parameters: Parameter Objects to add, such as headers that become metadata.
        headers: Header Objects of success, by name.
        security: Security Requirement Objects, each of which is enough.
        content_types: Of an answer that is a google.api.HttpBody; empty for any.
    """

    success: int = 200
    errors: Mapping[int, str] | None = None
    parameters: Sequence[Mapping[str, Any]] = ()
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    security: Sequence[Mapping[str, Sequence[str]]] = ()
    content_types: Sequence[str] = ()


class Operations:
    """Makes operations, with *schemas* for what they refer to."""

    def __init__(self, schemas: Schemas, comments: Comments) -> None:
        self._schemas = schemas
        self._comments = comments

    def operation(
        self,
        binding: Binding,
        path: OpenApiPath,
        names: Sequence[str],
        facts: RpcFacts,
        *,
        tag: str,
        operation_id: str,
        note: str,
    ) -> dict[str, Any]:
        """
        Return the Operation Object of a route.

        Args:
            binding: The route.
            path: Its template.
            names: What the parameters of the path are called.
            facts: What else is known.
            tag: Of the service.
            operation_id: Of the operation.
            note: Ends the description.
        """
        method = binding.method
        comment = self._comments.of(method.full_name)
        made: dict[str, Any] = {"tags": [tag], "operationId": operation_id}
        if comment:
            made["summary"] = _summary(comment)
        description = "\n\n".join(filter(None, [comment, note]))
        if description:
            made["description"] = description
        parameters = [
            *(self._path_parameter(binding, each, name) for each, name in zip(path.wildcards, names, strict=True)),
            *self._query_parameters(binding),
            *map(dict, facts.parameters),
        ]
        if parameters:
            made["parameters"] = parameters
        if binding.has_body:
            made["requestBody"] = self._request_body(binding)
        made["responses"] = self._responses(binding, facts)
        if method.GetOptions().deprecated or cast("Any", method.containing_service).GetOptions().deprecated:
            made["deprecated"] = True
        if facts.security:
            made["security"] = [{name: list(scopes) for name, scopes in each.items()} for each in facts.security]
        return made

    def _path_parameter(self, binding: Binding, wildcard: Wildcard, name: str) -> dict[str, Any]:
        schema: Schema = {"type": "string"}
        sentences = []
        if wildcard.field_path is not None:
            leaf = resolve(binding.method.input_type, wildcard.field_path)[-1]
            if wildcard.whole:
                schema = self._schemas.value(leaf, Use.PARAMETER)
            sentences.append(self._comments.of(leaf.full_name))
            if wildcard.pattern:
                sentences.append(f"What stands for a star in `{wildcard.field_path}`, which is `{wildcard.pattern}`.")
            elif wildcard.field_path != name:
                sentences.append(f"It is `{wildcard.field_path}`.")
        if wildcard.deep:
            sentences.append(
                "Any number of segments, none among them; between them stands a slash, which is not escaped."
            )
        elif schema.get("type") == "string":
            schema = schema | {"minLength": 1}
        made: dict[str, Any] = {"name": name, "in": "path", "required": True, "schema": schema}
        if wildcard.deep:
            # For the page at /docs, which sends its slashes as they are.
            made["x-multi-segment"] = True
        return _with_description(made, sentences)

    def _query_parameters(self, binding: Binding) -> Iterator[dict[str, Any]]:
        if binding.body == WHOLE_BODY:
            return
        taken = {variable.field_path for variable in PathTemplate.parse(binding.template).variables} | {binding.body}
        for path in _settable(binding.method.input_type, (), taken):
            leaf = path[-1]
            schema = self._schemas.whole(leaf, Use.PARAMETER)
            made: dict[str, Any] = {
                "name": ".".join(map(self._schemas.spelling, path)),
                "in": "query",
                "schema": schema,
            }
            others = [
                f"`{self._schemas.spelling(other)}`"
                for each in path
                if each.containing_oneof is not None
                for other in each.containing_oneof.fields
                if other.name != each.name
            ]
            note = f"Not together with {', '.join(others)}." if others else ""
            if leaf.GetOptions().deprecated:
                made["deprecated"] = True
            yield _with_description(made, [self._comments.of(leaf.full_name), note])

    def _request_body(self, binding: Binding) -> dict[str, Any]:
        message = binding.method.input_type
        inner = None if binding.body == WHOLE_BODY else message.fields_by_name[binding.body]
        # An empty body is a file without bytes, or a stream without messages; it is no JSON.
        made: dict[str, Any] = {"required": not binding.is_raw and not binding.takes_stream}
        if inner is not None and (text := self._comments.of(inner.full_name)):
            made["description"] = text
        if binding.is_raw:
            return made | {"content": {"*/*": {}}}
        schema = self._whole(message, inner, Use.REQUEST)
        content = {_LINES: _sequence(schema, "line")} if binding.takes_stream else {_JSON: {"schema": schema}}
        return made | {"content": content}

    def _responses(self, binding: Binding, facts: RpcFacts) -> dict[str, Any]:
        success: dict[str, Any] = {"description": HTTPStatus(facts.success).phrase}
        if binding.streams:
            success["description"] = _STREAM if binding.http_body is not None else f"{_STREAM} {_LAST_EVENT}"
        if facts.headers:
            success["headers"] = {name: dict(header) for name, header in facts.headers.items()}
        if facts.success != HTTPStatus.NO_CONTENT:
            success["content"] = self._content(binding, facts)
        statuses = dict.fromkeys((*_ALWAYS, *(_WITH_BODY if binding.has_body else ())), "")
        statuses.update(facts.errors or {})
        made = {str(facts.success): success}
        made.update((str(status), _error(status, text)) for status, text in sorted(statuses.items()))
        if facts.errors is None:
            made["default"] = _error(0, "Any other error.")
        return made

    def _content(self, binding: Binding, facts: RpcFacts) -> dict[str, Any]:
        message = binding.method.output_type
        inner = message.fields_by_name[binding.response_body] if binding.response_body else None
        if binding.http_body is not None:
            return {content_type: {} for content_type in facts.content_types or ("*/*",)}
        schema = self._whole(message, inner, Use.RESPONSE)
        if not binding.streams:
            return {_JSON: {"schema": schema}}
        return {_LINES: _sequence(schema, "line"), _EVENTS: _sequence(schema, "event")}

    def _whole(self, message: Descriptor, inner: FieldDescriptor | None, use: Use) -> Schema:
        return self._schemas.message(message, use) if inner is None else self._schemas.body(inner, use)


def _settable(
    descriptor: Descriptor, before: tuple[FieldDescriptor, ...], taken: set[str]
) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Yield the paths of all fields that a parameter can set; a message that holds itself is entered once."""
    for each in descriptor.fields:
        path = (*before, each)
        if ".".join(part.name for part in path) in taken:
            continue
        try:
            Parameter(path)
        except CodecError:
            entered = {cast("Descriptor", part.containing_type).full_name for part in path}
            if field_kind(each) is Kind.MESSAGE and not each.is_repeated and not is_map(each):
                inner = message_of(each)
                if inner.full_name not in entered:
                    yield from _settable(inner, path, taken)
        else:
            yield path


def _sequence(schema: Schema, item: str) -> dict[str, Any]:
    """Return the media type of a stream; OpenAPI 3.1 has no word of its own for what each piece of it is."""
    text = f"One JSON value in each {item}; `x-oai-itemSchema` says what each is."
    return {"schema": {"type": "string", "description": text}, "x-oai-itemSchema": schema}


def _error(status: int, text: str) -> dict[str, Any]:
    made: dict[str, Any] = {"description": text or _ERRORS.get(status) or HTTPStatus(status).phrase}
    if status in _RETRIED:
        schema = {"type": "integer", "minimum": 1}
        made["headers"] = {
            "Retry-After": {"description": "Seconds after which to send the same again.", "schema": schema}
        }
    if status == HTTPStatus.UNAUTHORIZED:
        made["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    made["content"] = {_JSON: {"schema": {"$ref": f"#/components/schemas/{ERROR}"}}}
    return made


def _with_description(made: dict[str, Any], sentences: Sequence[str]) -> dict[str, Any]:
    text = " ".join(filter(None, sentences))
    return made | {"description": text} if text else made


def _summary(comment: str) -> str:
    """Return the first sentence of a comment."""
    first = " ".join(comment.partition("\n\n")[0].split())
    return first.partition(". ")[0].removesuffix(".")
