"""From the google.api.http annotation of an rpc to what turns HTTP requests into its messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from google.api import annotations_pb2, http_pb2
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from flagledger.transcoding.codec import Codec, build, is_plain_message
from flagledger.transcoding.codec_decode import Decode
from flagledger.transcoding.codec_fields import SCALARS, field_kind, message_of, real_oneof
from flagledger.transcoding.codec_plan import Report
from flagledger.transcoding.codec_scalars import CodecError
from flagledger.transcoding.codec_wire import sized, tag
from flagledger.transcoding.parameters import Parameter, QueryBinder, resolve
from flagledger.transcoding.template import PathTemplate, TemplateError

if TYPE_CHECKING:
    from flagledger.transcoding.service_config import ConfiguredHttp

_VERBS: Final = {"get": "GET", "put": "PUT", "post": "POST", "delete": "DELETE", "patch": "PATCH"}
WHOLE_BODY: Final = "*"
_HTTP_BODY: Final = "google.api.HttpBody"
# What is sent under these methods as a body has no meaning.
_BODILESS: Final = frozenset({"GET", "HEAD"})


class BindingError(ValueError):
    """A binding that cannot be served; the message names the rpc."""


def http_rules(method: MethodDescriptor) -> list[http_pb2.HttpRule]:
    """Return the bindings in the annotation of *method*, the additional ones last; none where it has no annotation."""
    options: Any = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule: Any = options.Extensions[annotations_pb2.http]
    for additional in rule.additional_bindings:
        if additional.additional_bindings:
            raise BindingError(f"{method.full_name}: additional_bindings cannot hold additional_bindings themselves.")
    return [rule, *rule.additional_bindings]


class Binding:
    """
    One HTTP method and path of one rpc, checked, with everything compiled that a request needs.

    Attributes:
        http_method: In capitals; `*` for any.
        template: Text of the path template.
        full_method_name: `/package.Service/Method`.
        method: Descriptor of the rpc.
        body: The rule's `body`: `*`, the name of a field, or empty.
        response_body: The rule's `response_body`: the name of a field, or empty.
        has_body: Whether the request has a body that counts.
        streams: Whether the rpc answers with a stream of messages.
        takes_stream: Whether the rpc takes a stream of messages.
        is_raw: Whether the body is the data of a google.api.HttpBody as it is, whatever its content type.
        place: Where the rule stands, to begin error messages with (`http.rules[2]: `); empty for an annotation.
        http_body: Returns the google.api.HttpBody of a response, whose data is the answer as it is; None where the answer
            is JSON.

    Raises:
        BindingError: The annotation cannot be served.
    """

    def __init__(self, method: MethodDescriptor, rule: http_pb2.HttpRule, codec: Codec, place: str = "") -> None:
        self.place = place
        self._rpc = place + method.full_name
        self.method = method
        self.body, self.response_body = rule.body, rule.response_body
        self.full_method_name = f"/{method.containing_service.full_name}/{method.name}"
        self.streams = method.server_streaming
        self.takes_stream = method.client_streaming
        self.method_name = method.name
        self.http_method, self.template = self._pattern(rule)
        self.has_body = bool(rule.body)
        if self.takes_stream and (not self.has_body or self.http_method in _BODILESS):
            raise BindingError(
                f"{self._rpc}: an rpc that takes a stream of messages needs a body that they are the lines of, which"
                f" {self.http_method} {self.template} has not."
            )
        self._codec = codec
        self._request = method.input_type
        self.request_class: type[Any] = message_factory.GetMessageClass(method.input_type)
        taken: set[str] = set()
        try:
            parsed = PathTemplate.parse(self.template)
        except TemplateError as error:
            hint = " (templates have no trailing slash; requests may)" if self.template.endswith("/") else ""
            raise BindingError(f"{self._rpc}: {self.template!r}: {error}{hint}.") from None
        self._variables = {variable.field_path: self._variable(variable.field_path) for variable in parsed.variables}
        taken.update(self._variables)
        self._body_field = self._top_level(rule.body, "body", method.input_type)
        if self._body_field is not None:
            # The path may name what lies in it, as it does where a resource is updated (AIP-134): it is set last, and counts.
            taken.add(self._body_field.name)
        self.is_raw = self.has_body and _is_http_body(method.input_type, self._body_field)
        self._query = QueryBinder(
            method.input_type,
            taken=frozenset(taken),
            everything_taken=rule.body == WHOLE_BODY,
            oneofs=self._taken_oneofs(),
        )
        self._decode = self._body_decoder()
        field = self._body_field
        # What goes before a body that is one message of a field.
        self._body_tag = tag(field) if field is not None and is_plain_message(field) else None
        self._response_field = self._top_level(rule.response_body, "response_body", method.output_type)
        self._response = method.output_type
        self._encode = codec.encoder(method.output_type)
        self.http_body = self._http_body()

    def _pattern(self, rule: http_pb2.HttpRule) -> tuple[str, str]:
        pattern = rule.WhichOneof("pattern")
        if pattern is None:
            raise BindingError(f"{self._rpc}: the google.api.http rule has no path.")
        if pattern == "custom":
            if not rule.custom.kind:
                raise BindingError(f"{self._rpc}: a custom pattern needs a kind.")
            return rule.custom.kind, rule.custom.path
        return _VERBS[pattern], getattr(rule, pattern)

    def _variable(self, name: str) -> Parameter:
        current: Descriptor | None = self._request
        # A template names fields as the .proto file does.
        for part in name.split("."):
            if current is None or part not in current.fields_by_name:
                raise BindingError(
                    f"{self._rpc}: the path variable {name} is not a field of {self._request.full_name}."
                )
            current = current.fields_by_name[part].message_type
        path = resolve(self._request, name)
        leaf = path[-1]
        if leaf.is_repeated or field_kind(leaf) not in SCALARS or any(field.is_repeated for field in path):
            raise BindingError(f"{self._rpc}: the path variable {name} is not a singular scalar.")
        return Parameter(path)

    def _top_level(self, name: str, what: str, descriptor: Descriptor) -> FieldDescriptor | None:
        if not name or (name == WHOLE_BODY and what == "body"):
            return None
        field = descriptor.fields_by_name.get(name)
        if field is None:
            raise BindingError(
                f"{self._rpc}: {what} names {name!r}, which is not a top-level field of {descriptor.full_name}."
            )
        return field

    def _taken_oneofs(self) -> dict[tuple[str, str], str]:
        """Return which member of which oneof the path and the body set."""
        found: dict[tuple[str, str], str] = {}
        field = self._body_field
        oneof = None if field is None else real_oneof(field)
        if field is not None and oneof is not None:
            found["", oneof] = field.name
        for variable in self._variables.values():
            for holder, name, member in variable.oneofs:
                if found.setdefault((holder, name), member) != member:
                    raise BindingError(
                        f"{self._rpc}: the path variable {variable.name} sets a second member of the oneof {name!r}."
                    )
        return found

    def _body_decoder(self) -> Decode:
        if self._body_field is not None and is_plain_message(self._body_field):
            return self._codec.decoder(message_of(self._body_field))
        return self._codec.decoder(self._request)

    def _http_body(self) -> Callable[[Any], Any] | None:
        field = self._response_field
        if not _is_http_body(self._response, field):
            return None
        return (lambda message: message) if field is None else attrgetter(field.name)

    def request(self, body: Any, variables: dict[str, str], query: bytes, report: Report) -> Any:
        """
        Return the request message.

        Args:
            body: Parsed JSON of the body; not looked at where the rpc takes none.
            variables: What the path captured.
            query: The query string as it came.
            report: Takes what was collected and ignored.

        Raises:
            CodecError: Something does not fit; the path is relative to the body, or names the variable or parameter.
        """
        message = build(self.request_class(), self._content(body, report)) if self.has_body else self.request_class()
        return self._with_parameters(message, variables, query)

    def raw_request(self, data: bytes, media_type: str, variables: dict[str, str], query: bytes) -> Any:
        """
        Return the request message whose google.api.HttpBody holds *data*; see `request`.

        Raises:
            CodecError: A variable or parameter does not fit; the path names it.
        """
        message = self.request_class()
        field = self._body_field
        body = message if field is None else getattr(message, field.name)
        body.content_type, body.data = media_type, data
        return self._with_parameters(message, variables, query)

    def check_parameters(self, variables: dict[str, str], query: bytes) -> None:
        """
        Look at what every message of a stream will be given, before there is any.

        Raises:
            CodecError: A variable or parameter does not fit; the path names it.
        """
        self._with_parameters(self.request_class(), variables, query)

    def _with_parameters(self, message: Any, variables: dict[str, str], query: bytes) -> Any:
        for name, text in variables.items():
            self._variables[name].set(message, text)
        if query:
            self._query.bind(message, query)
        return message

    def _content(self, body: Any, report: Report) -> str:
        field = self._body_field
        if field is None:
            return self._decode(body, report, 1)
        if self._body_tag is not None:
            return self._body_tag + sized(self._decode(body, report, 1))
        try:
            return self._decode({field.json_name: body}, report, 0)
        except CodecError as error:
            # Relative to the body: `[3].name` of a repeated field, nothing of a scalar.
            for name in (field.name, field.json_name):
                if error.path.startswith(name):
                    error.path = error.path[len(name) :].removeprefix(".")
                    break
            raise

    def ignored_paths(self, body: Any) -> tuple[str, ...]:
        """Return the distinct paths of the body's fields that were ignored."""
        field = self._body_field
        if field is None or not is_plain_message(field):
            return self._codec.ignored_paths(self._request, body if field is None else {field.json_name: body})
        return self._codec.ignored_paths(message_of(field), body)

    def response(self, message: Any) -> Any:
        """Return what orjson writes for the response *message*, or for its `response_body` field."""
        field = self._response_field
        if field is None:
            return self._encode(message)
        return self._encode_field(message, field)

    def _encode_field(self, message: Any, field: FieldDescriptor) -> Any:
        if is_plain_message(field):
            return self._codec.encoder(message_of(field))(getattr(message, field.name))
        name = field.name if self._codec.options.preserving_proto_field_name else field.json_name
        encoded = self._encode(message)
        if name in encoded:
            return encoded[name]
        # An empty list or map, or a scalar at its default, is what the answer is about here.
        return self._codec.default(field)


def _is_http_body(message: Descriptor, field: FieldDescriptor | None) -> bool:
    """Tell whether a body is a google.api.HttpBody: *field* of *message*, or all of it."""
    if field is None:
        return message.full_name == _HTTP_BODY
    return is_plain_message(field) and message_of(field).full_name == _HTTP_BODY


def bindings(service: Any, codec: Codec, config: ConfiguredHttp) -> Iterator[Binding]:
    """
    Yield every binding of every rpc of a service descriptor that *config* has a rule for, or else is annotated.

    Raises:
        BindingError: One cannot be served.
    """
    for method in service.methods:
        configured = config.rules.get(method.full_name)
        if configured is None:
            for rule in http_rules(method):
                yield Binding(method, rule, codec)
        else:
            for rule in (configured.rule, *configured.rule.additional_bindings):
                yield Binding(method, rule, codec, f"{configured.place}: ")
