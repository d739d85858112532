from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flagledger.transcoding import Transcoder, openapi
from flagledger.transcoding.openapi import RpcFacts
from google.api import http_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from openapi_spec_validator import validate
from transcoding.kitchen import HERE, PROTO, KitchenServicer, service

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/google.rpc.Status-error"}}}


OF_BODIES = ("RawRequest", "RawRequestField", "ClientStreaming", "BidirectionalStreaming")


class Servicer(KitchenServicer):
    """Has the methods of every service of the kitchen."""

    async def Watch(self, request: Any, context: Any) -> Any:
        """Answer once."""
        yield request

    Export = Watch
    Find = Route = Change = Part = KitchenServicer.Echo
    Download = KitchenServicer.Echo
    Attach = KitchenServicer.Echo
    Call = KitchenServicer.Echo


class Chatting:
    """Answers a stream with a stream."""

    async def Call(self, requests: Any, context: Any) -> Any:
        """Answer each."""
        async for request in requests:
            yield request


def servicer(name: str) -> Any:
    """Return what serves a service of the kitchen."""
    return Chatting() if name == "BidirectionalStreaming" else Servicer()


def described(*services: str, rules: list[dict[str, Any]] | None = None, **options: Any) -> Any:
    """Return the document of services of the kitchen, which is valid; *rules* take the place of annotations."""
    config = None if rules is None else {"http": {"rules": rules}}
    keywords = {
        name: options.pop(name) for name in list(options) if name not in {"facts", "descriptions", "security_schemes"}
    }
    app = Transcoder([(service(name), servicer(name)) for name in services], service_config=config, **keywords)
    document = openapi.document(app, title="Kitchen", version="1.2", **options)
    validate(document)
    return document


def operations(document: Any) -> dict[tuple[str, str], Any]:
    """Return the operations of a document by HTTP method and path."""
    found = {}
    for path, item in document["paths"].items():
        found |= {(name.upper(), path): item[name] for name in METHODS if name in item}
        others = item.get("x-oai-additionalOperations", {})
        found |= {(name, path): operation for name, operation in others.items()}
    return found


def parameters(operation: Any, place: str) -> dict[str, Any]:
    """Return the parameters of an operation that are in *place*, by name."""
    return {each["name"]: each for each in operation.get("parameters", ()) if each["in"] == place}


def test_every_route() -> None:
    """Each route is an operation with an id of its own, under the tag of its service."""
    found = operations(described("Kitchen", "Streams", "Files"))

    assert {
        ("GET", "/v1/shelves/{name}/books/{name_2}"): "Kitchen_Get",
        ("GET", "/v1/find"): "Kitchen_Get_2",
        ("GET", "/v1/nested/{nested_name}/{nested_size}"): "Kitchen_Get_3",
        ("POST", "/v1/everything"): "Kitchen_Echo",
        ("PUT", "/v1/tables/{table}/order"): "Kitchen_Place",
        ("POST", "/v1/orders"): "Kitchen_Place_2",
        ("MERGE", "/v1/tables/{table}:merge"): "Kitchen_Place_3",
        ("POST", "/v1/sizes"): "Kitchen_Measure",
        ("GET", "/v1/watch"): "Streams_Watch",
        ("POST", "/v1/watch"): "Streams_Watch_2",
        ("GET", "/v1/watch/strings"): "Streams_Watch_3",
        ("GET", "/v1/export"): "Streams_Export",
        ("GET", "/v1/download"): "Files_Download",
        ("GET", "/v1/attachment"): "Files_Attach",
        ("GET", "/v1/attachment/whole"): "Files_Attach_2",
    } == {place: operation["operationId"] for place, operation in found.items()}
    assert all([each["operationId"].partition("_")[0]] == each["tags"] for each in found.values())


@pytest.mark.parametrize("name", ["Kitchen", "Streams", "Files", "Pantry", *OF_BODIES])
def test_valid(name: str) -> None:
    """Whatever a service binds, its document is OpenAPI, and has each route."""
    document = described(name, preserving_proto_field_name=True, always_print_primitive=True)
    app = Transcoder([(service(name), servicer(name))])

    assert "3.1.0" == document["openapi"]
    assert len(app.routes()) <= len(operations(document))


def test_info() -> None:
    """The document says what it is of, and how else fields may be spelled."""
    document = described("Kitchen")

    assert {
        "title": "Kitchen",
        "version": "1.2",
        "description": "Requests may spell every field and query parameter as the .proto files do, too.",
    } == document["info"]
    assert "in lowerCamelCase" in described("Kitchen", preserving_proto_field_name=True)["info"]["description"]
    assert [{"name": "Kitchen"}] == document["tags"]


def test_path_parameters() -> None:
    """A variable that is one segment has the schema of its field; of one that is more each star is a text."""
    found = operations(described("Kitchen"))
    get = found["GET", "/v1/shelves/{name}/books/{name_2}"]
    nested = found["GET", "/v1/nested/{nested_name}/{nested_size}"]

    assert {
        "nested_name": {"type": "string", "minLength": 1},
        "nested_size": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    } == {name: each["schema"] for name, each in parameters(nested, "path").items()}
    assert "It is `nested.size`." == parameters(nested, "path")["nested_size"]["description"]
    assert all(each["required"] for each in parameters(nested, "path").values())
    assert ["name", "name_2"] == list(parameters(get, "path"))
    assert "`shelves/*/books/**`" in parameters(get, "path")["name"]["description"]
    assert "Any number of segments" in parameters(get, "path")["name_2"]["description"]


def test_query_parameters() -> None:
    """What can be set is a parameter by its dotted path, but for what the path and the body set."""
    found = operations(described("Kitchen"))
    query = parameters(found["GET", "/v1/find"], "query")
    kinds = {
        name: query[f"query.{name}"]["schema"] for name in ("strings", "boolValue", "time", "color", "uint64Field")
    }

    assert {"name", "query.nested.name", "query.class.size", "nested.name", "query.another"} <= set(query)
    assert not {"query.stringMap", "query.nesteds", "query.value", "query.nested.inner.name", "query"} & set(query)
    assert {"type": "array", "items": {"type": "string"}} == kinds["strings"]
    assert {"type": "boolean"} == kinds["boolValue"]
    assert "date-time" == kinds["time"]["format"]
    assert {"$ref": "#/components/schemas/kitchen.v1.Color-parameter"} == kinds["color"]
    assert {"type": "integer", "format": "uint64", "minimum": 0, "maximum": 2**64 - 1} == kinds["uint64Field"]
    assert "`choiceInt`" in query["query.choiceString"]["description"]
    assert "nested.name" not in parameters(found["GET", "/v1/nested/{nested_name}/{nested_size}"], "query")
    assert {} == parameters(found["POST", "/v1/everything"], "query")
    put = parameters(found["PUT", "/v1/tables/{table}/order"], "query")
    assert {} == put


def test_bodies() -> None:
    """A body is the message or the field that the rule names, and has to be there; without one there is none."""
    found = operations(described("Kitchen"))

    def body(method: str, path: str) -> Any:
        assert found[method, path]["requestBody"]["required"]
        return found[method, path]["requestBody"]["content"]["application/json"]["schema"]

    assert {"$ref": "#/components/schemas/kitchen.v1.Everything-input"} == body("POST", "/v1/everything")
    assert {"$ref": "#/components/schemas/kitchen.v1.Tray-input"} == body("PUT", "/v1/tables/{table}/order")
    assert ["array", "null"] == body("POST", "/v1/sizes")["type"]
    assert "requestBody" not in found["GET", "/v1/find"]
    assert "requestBody" not in found["MERGE", "/v1/tables/{table}:merge"]


def test_bodies_that_are_no_json() -> None:
    """A google.api.HttpBody is whatever is sent, and a stream of messages is lines, and either may be empty."""
    found = operations(described(*OF_BODIES))
    bodies = {path: operation["requestBody"] for (_, path), operation in found.items()}
    lines = {"$ref": "#/components/schemas/kitchen.v1.Sizes-input"}

    assert {"/v1/raw", "/v1/raw/{name}", "/v1/upload", "/v1/chat"} == set(bodies)
    assert not any(body["required"] for body in bodies.values())
    assert {"*/*": {}} == bodies["/v1/raw"]["content"] == bodies["/v1/raw/{name}"]["content"]
    for path in ("/v1/upload", "/v1/chat"):
        assert ["application/x-ndjson"] == list(bodies[path]["content"])
        assert lines == bodies[path]["content"]["application/x-ndjson"]["x-oai-itemSchema"]
    assert ["application/json"] == list(found["POST", "/v1/upload"]["responses"]["200"]["content"])
    assert "application/x-ndjson" in found["POST", "/v1/chat"]["responses"]["200"]["content"]


def test_answers() -> None:
    """An answer is the message, the field that the rule names, or what a google.api.HttpBody holds."""
    found = operations(described("Kitchen", "Files"))

    def content(method: str, path: str) -> Any:
        return found[method, path]["responses"]["200"]["content"]

    everything = {"application/json": {"schema": {"$ref": "#/components/schemas/kitchen.v1.Everything"}}}
    assert everything == content("POST", "/v1/everything")
    assert "array" == content("POST", "/v1/sizes")["application/json"]["schema"]["type"]
    assert {"*/*": {}} == content("GET", "/v1/download") == content("GET", "/v1/attachment")
    attachment = {"application/json": {"schema": {"$ref": "#/components/schemas/kitchen.v1.Attachment"}}}
    assert attachment == content("GET", "/v1/attachment/whole")


def test_streams() -> None:
    """A stream is lines or events, each of which has the schema of a message."""
    found = operations(described("Streams"))
    content = found["GET", "/v1/watch"]["responses"]["200"]["content"]
    everything = {"$ref": "#/components/schemas/kitchen.v1.Everything"}

    assert ["application/x-ndjson", "text/event-stream"] == list(content)
    assert "an event `status`" in found["GET", "/v1/watch"]["responses"]["200"]["description"]
    assert "event" not in found["GET", "/v1/export"]["responses"]["200"]["description"]
    assert [everything] * 2 == [each["x-oai-itemSchema"] for each in content.values()]
    assert {"*/*": {}} == found["GET", "/v1/export"]["responses"]["200"]["content"]


def test_errors() -> None:
    """Whatever else may go wrong is a google.rpc.Status; what HTTP refuses of a body, where there is one."""
    found = operations(described("Kitchen"))
    get = found["GET", "/v1/find"]["responses"]
    post = found["POST", "/v1/everything"]["responses"]

    assert ["200", "400", "500", "504", "default"] == list(get)
    assert ["200", "400", "408", "413", "415", "500", "504", "default"] == list(post)
    assert all(each["content"] == ERROR for status, each in post.items() if status != "200")


def test_facts() -> None:
    """What no descriptor says is added: for a service, and for an rpc in place of that."""
    of_all = RpcFacts(errors={401: "", 429: "Wait."}, security=({"key": ()},))
    of_echo = RpcFacts(
        success=202,
        errors={},
        headers={"X-Seen": {"schema": {"type": "string"}}},
        parameters=({"name": "X-Trace", "in": "header", "schema": {"type": "string"}},),
    )
    scheme = {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}}
    document = described(
        "Kitchen", facts={"kitchen.v1.Kitchen": of_all, "kitchen.v1.Kitchen.Echo": of_echo}, security_schemes=scheme
    )
    found = operations(document)
    get, echo = found["GET", "/v1/find"], found["POST", "/v1/everything"]

    assert ["200", "400", "401", "429", "500", "504"] == list(get["responses"])
    assert "Wait." == get["responses"]["429"]["description"]
    assert {"WWW-Authenticate"} == set(get["responses"]["401"]["headers"])
    assert {"Retry-After"} == set(get["responses"]["429"]["headers"])
    assert [{"key": []}] == get["security"]
    assert scheme == document["components"]["securitySchemes"]
    assert ["202", "400", "408", "413", "415", "500", "504"] == list(echo["responses"])
    assert {"X-Seen"} == set(echo["responses"]["202"]["headers"])
    assert ["X-Trace"] == list(parameters(echo, "header"))
    assert "security" not in echo


def test_no_content() -> None:
    """204 has no content."""
    facts = {"kitchen.v1.Kitchen": RpcFacts(success=204)}
    found = operations(described("Kitchen", facts=facts))

    assert {"description": "No Content"} == found["GET", "/v1/find"]["responses"]["204"]


def test_content_types() -> None:
    """An answer that is a google.api.HttpBody has the content types that the application knows of."""
    facts = {"kitchen.v1.Files.Download": RpcFacts(content_types=("image/png", "image/gif"))}
    found = operations(described("Files", facts=facts))

    assert {"image/png": {}, "image/gif": {}} == found["GET", "/v1/download"]["responses"]["200"]["content"]


def test_facts_of_nobody() -> None:
    """A name that nothing has is refused with the nearest."""
    with pytest.raises(
        ValueError, match=r"'kitchen.v1.Kitchen.Ekko' is neither .* the nearest is kitchen.v1.Kitchen.Echo"
    ):
        described("Kitchen", facts={"kitchen.v1.Kitchen.Ekko": RpcFacts()})


def test_paths_that_differ_in_names() -> None:
    """Routes whose paths differ in the names of variables alone are one path, and each says which field it sets."""
    rules = [
        {"selector": "kitchen.v1.Kitchen.Get", "get": "/v1/{name=shelves/*}"},
        {"selector": "kitchen.v1.Kitchen.Place", "delete": "/v1/shelves/{table}"},
    ]
    found = operations(described("Kitchen", rules=rules))
    delete = found["DELETE", "/v1/shelves/{name}"]

    assert "Kitchen_Get" == found["GET", "/v1/shelves/{name}"]["operationId"]
    assert "It is `table`." == parameters(delete, "path")["name"]["description"]


@pytest.mark.parametrize("turned", [False, True])
def test_routes_that_openapi_cannot_tell_apart(turned: bool) -> None:  # noqa: FBT001
    """Of a star and two in one place the star is the operation, which says what answers for more segments."""
    rules = [
        {"selector": "kitchen.v1.Kitchen.Get", "get": "/v1/{name=**}"},
        {"selector": "kitchen.v1.Kitchen.Place", "get": "/v1/{table}"},
    ]
    found = operations(described("Kitchen", rules=rules[::-1] if turned else rules))
    (name,) = [path for _, path in found if path in {"/v1/{name}", "/v1/{table}"}]

    assert "Kitchen_Place" == found["GET", name]["operationId"]
    assert "`/kitchen.v1.Kitchen/Get` answers" in found["GET", name]["description"]


def test_any_method() -> None:
    """A rule for any method is an operation for each that has no other."""
    rules = [
        {"selector": "kitchen.v1.Kitchen.Echo", "custom": {"kind": "*", "path": "/v1/any"}},
        {"selector": "kitchen.v1.Kitchen.Measure", "get": "/v1/any"},
    ]
    found = operations(described("Kitchen", rules=rules))
    ids = {method: each["operationId"] for (method, path), each in found.items() if path == "/v1/any"}

    assert {
        "GET": "Kitchen_Measure",
        "PUT": "Kitchen_Echo",
        "POST": "Kitchen_Echo_2",
        "DELETE": "Kitchen_Echo_3",
        "PATCH": "Kitchen_Echo_4",
    } == ids


def test_rule_of_a_google_api_http() -> None:
    """What a service config serves is described as what an annotation does."""
    rule = http_pb2.HttpRule(selector="kitchen.v1.Unannotated.Call", get="/v1/silent")
    app = Transcoder([(service("Unannotated"), Servicer())], service_config=http_pb2.Http(rules=[rule]))

    assert ["/v1/silent"] == list(openapi.document(app, title="", version="")["paths"])


COMMENTED = """\
syntax = "proto3";
package commented.v1;
import "google/api/annotations.proto";

// Keeps things.
service Keeper {
  // Keeps a thing. For ever,
  // that is.
  //
  // Or not.
  rpc Keep(Thing) returns (Thing) {
    option (google.api.http) = {get: "/v1/things/{name}" additional_bindings {post: "/v1/things" body: "inner"}};
  }
  rpc Old(Thing) returns (Thing) {
    option deprecated = true;
    option (google.api.http) = {get: "/v1/old"};
  }
}

// A thing.
message Thing {
  option deprecated = true;
  // What it is called.
  string name = 1;
  // Of what kind.
  Kind kind = 2;
  // What is in it.
  Thing inner = 3 [deprecated = true];
  // One of two.
  oneof choice {
    // The first.
    int32 first = 4;
    int32 second = 5 [deprecated = true];
  }
}

// A kind.
enum Kind {
  // None.
  KIND_UNSPECIFIED = 0;
  // Bad,
  // that is.
  KIND_BAD = 1 [deprecated = true];
}
"""


@pytest.fixture(scope="module")
def commented(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the document of the service above, with its comments."""
    from google.protobuf import descriptor_pool

    folder = tmp_path_factory.mktemp("commented")
    (folder / "commented.proto").write_text(COMMENTED)
    out = folder / "commented.binpb"
    well_known = Path(protoc.__file__).parent / "_proto"
    includes = [f"-I{each}" for each in (folder, HERE, PROTO, well_known)]
    assert 0 == protoc.main(
        ["protoc", *includes, f"--descriptor_set_out={out}", "--include_source_info", "commented.proto"]
    )
    files = FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(files.file[0].SerializeToString())

    class Keeper:
        async def Keep(self, request: Any, context: Any) -> Any: ...

        Old = Keep

    app = Transcoder([(pool.FindServiceByName("commented.v1.Keeper"), Keeper())])
    document = openapi.document(app, title="Kept", version="1", description="All of it.", descriptions=files)
    validate(document)
    return document


def test_comments_become_descriptions(commented: Any) -> None:
    """Comments are the descriptions of services, rpcs, parameters, bodies, messages, fields, enums and their values."""
    keep = commented["paths"]["/v1/things/{name}"]["get"]
    schemas = commented["components"]["schemas"]
    thing = schemas["commented.v1.Thing"]

    assert [{"name": "Keeper", "description": "Keeps things."}] == commented["tags"]
    assert commented["info"]["description"].startswith("All of it.\n\n")
    assert "Keeps a thing" == keep["summary"]
    assert "Keeps a thing. For ever,\nthat is.\n\nOr not." == keep["description"]
    assert "What it is called." == parameters(keep, "path")["name"]["description"]
    assert "Of what kind." == parameters(keep, "query")["kind"]["description"]
    assert "What is in it." == commented["paths"]["/v1/things"]["post"]["requestBody"]["description"]
    assert "A thing.\n\nOne of two. At most one of `first` and `second` is set." == thing["description"]
    assert "What it is called." == thing["properties"]["name"]["description"]
    assert "Of what kind." == thing["properties"]["kind"]["description"]
    assert (
        "A kind.\n\n* `KIND_UNSPECIFIED`: None.\n* `KIND_BAD`: Bad, that is. Deprecated."
        == schemas["commented.v1.Kind"]["description"]
    )
    assert "The first. Not together with `second`." == parameters(keep, "query")["first"]["description"]


def test_deprecated(commented: Any) -> None:
    """What is deprecated says so: rpcs, parameters, messages and fields."""
    keep = commented["paths"]["/v1/things/{name}"]["get"]
    thing = commented["components"]["schemas"]["commented.v1.Thing"]

    assert commented["paths"]["/v1/old"]["get"]["deprecated"]
    assert "deprecated" not in keep
    assert parameters(keep, "query")["second"]["deprecated"]
    assert "deprecated" not in parameters(keep, "query")["first"]
    assert thing["deprecated"]
    assert thing["properties"]["inner"]["deprecated"]
    assert "deprecated" not in thing["properties"]["name"]


def test_a_message_that_holds_itself(commented: Any) -> None:
    """A message that holds itself is referred to, not written out."""
    inner = commented["components"]["schemas"]["commented.v1.Thing"]["properties"]["inner"]

    assert "#/components/schemas/commented.v1.Thing" == inner["$ref"]
