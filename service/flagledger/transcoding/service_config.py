"""
Bindings by service configuration, for services that carry no annotation or another one than they are to have.

A service configuration is a google.api.Service, mostly written as YAML; of it only `http` counts here. Its rules select
rpcs by their full names, and a rule takes the place of the whole annotation. Of two rules for one rpc the last counts.
The patterns that google.api.DocumentationRule allows in selectors (`a.b.*`, lists) are refused: two rpcs cannot share a
path.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from google.api import http_pb2
from google.protobuf.descriptor import Descriptor, ServiceDescriptor

from flagledger.transcoding.binding import BindingError
from flagledger.transcoding.codec import Codec, CodecError, CodecOptions, Report, build

ServiceConfig = http_pb2.Http | Mapping[str, Any]
"""A google.api.Http, or a parsed document with an `http` as YAML and JSON files have it."""

# Enough for additional_bindings inside additional_bindings, which has a message of its own.
_MAX_DEPTH: Final = 12


class ConfiguredRule(NamedTuple):
    """One rule, and where it stands (`http.rules[2]`)."""

    place: str
    rule: http_pb2.HttpRule


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredHttp:
    """
    What a service configuration says, checked against the services.

    Attributes:
        rules: By the full name of an rpc.
        fully_decode_reserved_expansion: Whether what `**` captures is percent-decoded wholly, `%2F` too.
    """

    rules: Mapping[str, ConfiguredRule] = field(default_factory=dict)
    fully_decode_reserved_expansion: bool = False


def configured(config: ServiceConfig | None, services: Iterable[ServiceDescriptor]) -> ConfiguredHttp:
    """
    Return what *config* says of *services*; nothing where there is none.

    Raises:
        BindingError: It is no service configuration, or a rule selects no rpc of *services*; the message says where.
    """
    if config is None:
        return ConfiguredHttp()
    http = config if isinstance(config, http_pb2.Http) else _parsed(config)
    known = [method.full_name for service in services for method in service.methods]
    rules: dict[str, ConfiguredRule] = {}
    for at, rule in enumerate(http.rules):
        place = f"http.rules[{at}]"
        _check(rule, place, known)
        rules[rule.selector] = ConfiguredRule(place, rule)
    return ConfiguredHttp(rules=rules, fully_decode_reserved_expansion=http.fully_decode_reserved_expansion)


def _parsed(document: Mapping[str, Any]) -> http_pb2.Http:
    if not isinstance(document, Mapping):
        raise BindingError(
            f"The service config has to be a google.api.Http or a parsed document, not {type(document).__name__}."
        )
    if "http" not in document:
        raise BindingError("The service config has no http.")
    codec = Codec(CodecOptions(preserving_proto_field_name=True, max_depth=_MAX_DEPTH))
    decode = codec.decoder(cast("Descriptor", http_pb2.Http.DESCRIPTOR))
    # YAML reads a key with nothing below it as null.
    http = {} if document["http"] is None else document["http"]
    try:
        return build(http_pb2.Http(), decode(http, Report(), 1))
    except CodecError as error:
        inner = f".{error.path}" if error.path else ""
        raise BindingError(f"The service config does not fit: http{inner}: {error.description}.") from None


def _check(rule: http_pb2.HttpRule, place: str, known: list[str]) -> None:
    if not rule.selector:
        raise BindingError(f"{place}: the rule has no selector.")
    if rule.selector not in known:
        near = difflib.get_close_matches(rule.selector, known, n=1)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise BindingError(f"{place}: the selector {rule.selector!r} names no rpc of the services served here{hint}.")
    for at, additional in enumerate(rule.additional_bindings):
        inner = f"{place}.additional_bindings[{at}]"
        if additional.additional_bindings:
            raise BindingError(
                f"{inner}: {rule.selector}: additional_bindings cannot hold additional_bindings themselves."
            )
        if additional.selector not in ("", rule.selector):
            raise BindingError(
                f"{inner}: {rule.selector}: an additional binding cannot select {additional.selector!r}."
            )
