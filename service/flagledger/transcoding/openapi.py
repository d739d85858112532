"""
OpenAPI 3.1 of what a Transcoder serves, from descriptors and the comments of their .proto files.

Example:
    document = openapi.document(transcoder, title="Library", version="1.0", descriptions=file_descriptor_set)
    app = Pages(transcoder, lambda: document)  # answers GET /openapi.json
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from flagledger.transcoding.asgi import Transcoder
from flagledger.transcoding.binding import Binding
from flagledger.transcoding.openapi_comments import Comments
from flagledger.transcoding.openapi_operations import ERROR, ERROR_SCHEMA, Operations, RpcFacts
from flagledger.transcoding.openapi_paths import OpenApiPath, openapi_path
from flagledger.transcoding.openapi_schemas import Schemas
from flagledger.transcoding.router import ANY_METHOD
from flagledger.transcoding.template import PathTemplate

__all__ = ["RpcFacts", "document"]

VERSION: Final = "3.1.0"

# Those of a Path Item; an HTTP method that is none of them has no place in it but an extension.
_METHODS: Final = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
# What a rule for any method is written as: the others are answered too, and nobody sends them.
_ANY: Final = ("GET", "PUT", "POST", "DELETE", "PATCH")
_OTHER_METHODS: Final = "x-oai-additionalOperations"
_NO_FACTS: Final = RpcFacts()


@dataclass(slots=True, kw_only=True)
class _Place:
    """All routes that are one operation to OpenAPI, the one that answers for it first."""

    routes: list[tuple[bool, bool, Binding, OpenApiPath]] = field(default_factory=list)

    def add(self, binding: Binding, path: OpenApiPath) -> None:
        """Add a route; as the router does, a star goes before two, and a method before any method."""
        self.routes.append((path.deep, binding.http_method == ANY_METHOD, binding, path))
        self.routes.sort(key=lambda route: route[:2])

    def note(self) -> str:
        """Return what OpenAPI cannot tell apart; empty where there is nothing."""
        deep_first, *_ = self.routes[0]
        hidden = next((binding for deep, _, binding, _ in self.routes if deep and not deep_first), None)
        if hidden is None:
            return ""
        return (
            f"Where the last parameter is any other number of segments than one, `{hidden.full_method_name}` answers."
        )


def document(
    transcoder: Transcoder,
    *,
    title: str,
    version: str,
    description: str = "",
    descriptions: FileDescriptorSet | None = None,
    facts: Mapping[str, RpcFacts] | None = None,
    security_schemes: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """
    Return the OpenAPI document of a transcoder, as what JSON writes.

    Args:
        transcoder: What is described.
        title: Of the API.
        version: Of the API.
        description: Of the API, in Markdown.
        descriptions: The .proto files with source_code_info: their comments become descriptions.
        facts: What no descriptor says, by full name of an rpc or of a service; for an rpc that of the rpc counts alone.
        security_schemes: Security Scheme Objects, by the names that `RpcFacts.security` calls them.

    Raises:
        ValueError: A name among *facts* is neither an rpc nor a service that is served.
    """
    known = dict(facts or {})
    _check(known, transcoder.bindings)
    comments = Comments(descriptions)
    schemas = Schemas(transcoder.codec_options, comments)
    services: dict[str, ServiceDescriptor] = {}
    for binding in transcoder.bindings:
        service: ServiceDescriptor = binding.method.containing_service
        services[service.full_name] = service
    tags = _short_names(services)
    paths = _paths(transcoder.bindings, Operations(schemas, comments), tags, known)
    spelled = "in lowerCamelCase" if transcoder.codec_options.preserving_proto_field_name else "as the .proto files do"
    note = f"Requests may spell every field and query parameter {spelled}, too."
    components: dict[str, Any] = {"schemas": dict(sorted((schemas.components | {ERROR: ERROR_SCHEMA}).items()))}
    if security_schemes:
        components["securitySchemes"] = {name: dict(scheme) for name, scheme in security_schemes.items()}
    return {
        "openapi": VERSION,
        "info": {
            "title": title,
            "version": version,
            "description": "\n\n".join(filter(None, [description, note])),
        },
        "tags": [schemas.described({"name": tags[name]}, name, deprecated=False) for name in services],
        "paths": paths,
        "components": components,
    }


def _paths(
    bindings: Collection[Binding], operations: Operations, tags: Mapping[str, str], facts: Mapping[str, RpcFacts]
) -> dict[str, Any]:
    names: dict[str, tuple[str, ...]] = {}
    places: dict[tuple[str, str], _Place] = {}
    for binding in bindings:
        path = openapi_path(PathTemplate.parse(binding.template))
        # Of paths that differ in the names alone there can be one.
        names.setdefault(path.shape, path.names)
        for http_method in _ANY if binding.http_method == ANY_METHOD else (binding.http_method,):
            places.setdefault((path.shape, http_method), _Place()).add(binding, path)
    used: set[str] = set()
    paths: dict[str, Any] = {}
    for (shape, http_method), place in places.items():
        _, _, binding, path = place.routes[0]
        method = binding.method
        tag = tags[method.containing_service.full_name]
        operation = operations.operation(
            binding,
            path,
            names[shape],
            _facts(facts, method),
            tag=tag,
            operation_id=_unused(f"{tag}_{method.name}", used),
            note=place.note(),
        )
        item = paths.setdefault(path.text(names[shape]), {})
        if http_method in _METHODS:
            item[http_method.lower()] = operation
        else:
            item.setdefault(_OTHER_METHODS, {})[http_method] = operation
    return paths


def _unused(name: str, used: set[str]) -> str:
    """Return *name*, or where that is taken the name with the first number that makes it another; take it."""
    found = next(each for each in chain([name], (f"{name}_{at}" for at in count(2))) if each not in used)
    used.add(found)
    return found


def _facts(facts: Mapping[str, RpcFacts], method: MethodDescriptor) -> RpcFacts:
    return facts.get(method.full_name) or facts.get(method.containing_service.full_name) or _NO_FACTS


def _short_names(services: Mapping[str, ServiceDescriptor]) -> dict[str, str]:
    """Return what each service is called: its name without the package, where no other has that."""
    counted = Counter(service.name for service in services.values())
    return {full: service.name if counted[service.name] == 1 else full for full, service in services.items()}


def _check(facts: Mapping[str, RpcFacts], bindings: Collection[Binding]) -> None:
    known = {binding.method.full_name for binding in bindings}
    known |= {binding.method.containing_service.full_name for binding in bindings}
    for name in facts:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise ValueError(f"facts: {name!r} is neither an rpc nor a service that is served{hint}.")
