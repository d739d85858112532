from __future__ import annotations

from typing import Any

import pytest
import yaml
from flagledger.transcoding import BindingError, Route, Transcoder
from google.api import annotations_pb2, http_pb2
from transcoding.kitchen import KitchenServicer, call, service

# Other keys of a google.api.Service are there too, some of which no google.api.Service has.
DOCUMENT = """
type: google.api.Service
config_version: 3
name: kitchen.example.com
apis: [{name: kitchen.v1.Kitchen}]
x-ours: [1, 2]
http:
  rules:
    - selector: kitchen.v1.Kitchen.Measure
      get: /v2/overridden
    - selector: kitchen.v1.Kitchen.Get
      get: /v2/{name=shelves/*/books/**}
      additional_bindings:
        - selector: kitchen.v1.Kitchen.Get
          get: /v2/find
    - selector: kitchen.v1.Kitchen.Measure
      put: /v2/sizes/{count}
      body: "sizes"
      response_body: sizes
"""


class UnannotatedServicer:
    """Answers with what it was asked."""

    async def Call(self, request: Any, context: Any) -> Any:
        """Answer with the request."""
        return request


def mount(config: Any, name: str = "Kitchen") -> Transcoder:
    """Return the application of one service under a service config."""
    servicer = KitchenServicer() if name == "Kitchen" else UnannotatedServicer()
    return Transcoder([(service(name), servicer)], service_config=config)


def rules(*found: dict[str, Any]) -> dict[str, Any]:
    """Return a document with these rules."""
    return {"http": {"rules": list(found)}}


def paths(app: Transcoder, rpc: str) -> list[tuple[str, str]]:
    """Return the routes of one rpc of the kitchen."""
    return [(route.http_method, route.template) for route in app.routes() if route.full_method_name.endswith(f"/{rpc}")]


def test_a_rule_overrides_the_whole_annotation() -> None:
    """An rpc with a rule has the routes of its rule alone; one without has those of its annotation."""
    app = mount(yaml.safe_load(DOCUMENT))

    assert [("GET", "/v2/{name=shelves/*/books/**}"), ("GET", "/v2/find")] == paths(app, "Get")
    assert [("POST", "/v1/everything")] == paths(app, "Echo")
    assert not app.owns("/v1/find")


def test_the_last_rule_wins() -> None:
    """Of two rules that select one rpc the last counts, wholly."""
    app = mount(yaml.safe_load(DOCUMENT))

    assert [("PUT", "/v2/sizes/{count}")] == paths(app, "Measure")
    assert not app.owns("/v2/overridden")


async def test_requests_are_bound_as_the_rule_says() -> None:
    """Path, body and response_body of a rule do what those of an annotation do."""
    app = mount(yaml.safe_load(DOCUMENT))

    answer = await call(app, "PUT", "/v2/sizes/7", b"[1, 2]")

    assert (200, [1, 2]) == (answer.status, answer.json)


async def test_an_unannotated_rpc() -> None:
    """An rpc without an annotation is served by its rule, which may be any pattern."""
    app = mount(
        rules({"selector": "kitchen.v1.Unannotated.Call", "custom": {"kind": "PURGE", "path": "/v2/{count}:purge"}}),
        "Unannotated",
    )

    answer = await call(app, "PURGE", "/v2/7:purge")

    assert (Route("PURGE", "/v2/{count}:purge", "/kitchen.v1.Unannotated/Call"),) == app.routes()
    assert (200, {"count": 7}) == (answer.status, answer.json)
    assert () == mount(None, "Unannotated").routes()


def test_takes_a_message() -> None:
    """A google.api.Http message says the same as the document that it was made of."""
    message = http_pb2.Http(rules=[http_pb2.HttpRule(selector="kitchen.v1.Kitchen.Get", get="/v2/find")])

    same = mount(rules({"selector": "kitchen.v1.Kitchen.Get", "get": "/v2/find"}))

    assert same.routes() == mount(message).routes()
    assert [("GET", "/v2/find")] == paths(mount(message), "Get")


def test_takes_both_spellings() -> None:
    """Names are read in lowerCamelCase too, as in every JSON of a protobuf message."""
    app = mount(
        rules(
            {
                "selector": "kitchen.v1.Kitchen.Get",
                "get": "/v2/a",
                "responseBody": "strings",
                "additionalBindings": [{"get": "/v2/b"}],
            }
        )
    )

    assert [("GET", "/v2/a"), ("GET", "/v2/b")] == paths(app, "Get")


def test_no_rules() -> None:
    """An empty `http` leaves every annotation as it is."""
    plain = mount(None).routes()

    assert plain == mount({"http": {}}).routes()
    assert plain == mount({"http": None}).routes()
    assert plain == mount(http_pb2.Http()).routes()


GET = "kitchen.v1.Kitchen.Get"
NESTED = {"get": "/v2/a", "additional_bindings": [{"get": "/v2/b", "additional_bindings": [{"get": "/v2/c"}]}]}
FIRST = {"selector": "kitchen.v1.Kitchen.Echo", "post": "/v2/echo"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([], ["google.api.Http", "list"]),
        ({"name": "x"}, ["has no http"]),
        ({"http": []}, ["http: ", "object"]),
        ({"http": {"rule": []}}, ["http.rule:"]),
        ({"http": {"rules": {}}}, ["http.rules:", "array"]),
        (rules(FIRST, {"selector": GET, "gett": "/v2"}), ["http.rules[1].gett:"]),
        (rules(FIRST, {"selector": 7}), ["http.rules[1].selector:", "string"]),
        (rules({"selector": GET, "get": "/v2", "put": "/v2"}), ["http.rules[0].put:", "oneof"]),
        (rules({"selector": GET, "custom": {"kid": "X"}}), ["http.rules[0].custom.kid:"]),
        (rules({"selector": GET, "get": "/", "additional_bindings": [{"gat": 1}]}), ["additional_bindings[0].gat:"]),
        (rules(FIRST, {"get": "/v2"}), ["http.rules[1]:", "no selector"]),
        (rules(FIRST, {"selector": "kitchen.v1.Kitchen.Gat"}), ["http.rules[1]:", "'kitchen.v1.Kitchen.Gat'", GET]),
        (rules({"selector": "kitchen.v1.Streams.Watch"}), ["http.rules[0]:", "kitchen.v1.Streams.Watch"]),
        (rules({"selector": "kitchen.v1.Kitchen.*"}), ["http.rules[0]:", "'kitchen.v1.Kitchen.*'"]),
        (rules({"selector": f"{GET},{GET}"}), ["http.rules[0]:", f"'{GET},{GET}'"]),
        # A rule that a later one overrides has to be right all the same.
        (rules({"selector": "nope", "get": "/"}, {"selector": GET, "get": "/"}), ["http.rules[0]:", "'nope'"]),
        (rules(FIRST, {"selector": GET, **NESTED}), ["http.rules[1].additional_bindings[0]:", GET, "themselves"]),
        (
            rules({"selector": GET, "get": "/", "additional_bindings": [{"selector": "a.B", "get": "/b"}]}),
            ["http.rules[0].additional_bindings[0]:", GET, "'a.B'"],
        ),
        (rules(FIRST, {"selector": GET}), ["http.rules[1]:", GET, "no path"]),
        (rules(FIRST, {"selector": GET, "get": "/v2/"}), ["http.rules[1]:", GET, "column 5", "trailing slash"]),
        (rules({"selector": GET, "get": "/{nope}"}), ["http.rules[0]:", GET, "nope"]),
        (rules({"selector": GET, "post": "/a", "body": "nope"}), ["http.rules[0]:", GET, "'nope'"]),
        (rules(FIRST, {"selector": GET, "post": "/v2/echo"}), ["http.rules[0]:", "Echo", "same paths"]),
        (rules({"selector": GET, "post": "/v1/everything"}), ["Kitchen", "same paths", "/v1/everything"]),
    ],
)
def test_refuses_to_start(config: Any, words: list[str]) -> None:
    """What does not fit refuses to start, with a message that says where it stands and which rpc it is about."""
    with pytest.raises(BindingError) as caught:
        mount(config)

    assert [] == [word for word in words if word not in str(caught.value)]


BOOKS = "/v2/{name=shelves/*/books/**}"


@pytest.mark.parametrize(
    ("fully", "path", "name"),
    [
        (False, "/v2/shelves/a%2Fb/books/c%2Fd/e%20f", "shelves/a%2Fb/books/c%2Fd/e f"),
        # One `*` took one segment, and its slash stays escaped; what `**` took is decoded wholly.
        (True, "/v2/shelves/a%2Fb/books/c%2Fd/e%20f", "shelves/a%2Fb/books/c/d/e f"),
        (True, "/v2/shelves/a%2fb%20/books", "shelves/a%2fb /books"),
        (True, "/v2/shelves/a/books/%252F", "shelves/a/books/%2F"),
        (True, "/v2/shelves/%252F/books/b", "shelves/%2F/books/b"),
        (True, "/v2/all/%2F%2f/b", "///b"),
        (True, "/v2/all", ""),
        (True, "/v2/one/a%2Fb", "a/b"),
        (True, "/v2/pair/a%2Fb/c", "a%2Fb/c"),
    ],
)
async def test_fully_decode_reserved_expansion(*, fully: bool, path: str, name: str) -> None:
    """It decodes escaped slashes in what `**` captures, and leaves them where one `*` is one segment of several."""
    templates = [BOOKS, "/v2/all/{name=**}", "/v2/one/{name}", "/v2/pair/{name=*/c}"]
    servicer = KitchenServicer()
    config = rules(
        {"selector": GET, "get": templates[0], "additional_bindings": [{"get": text} for text in templates[1:]]}
    )
    config["http"]["fully_decode_reserved_expansion"] = fully
    app = Transcoder([(service("Kitchen"), servicer)], service_config=config)

    await call(app, "GET", path)

    assert name == servicer.request.name


async def test_fully_decoded_text_is_utf_8() -> None:
    """Escapes that are no UTF-8 match nothing, however they are decoded."""
    app = mount({"http": {"rules": [{"selector": GET, "get": BOOKS}], "fully_decode_reserved_expansion": True}})

    answer = await call(app, "GET", "/v2/shelves/a/books/%ff")

    assert 404 == answer.status


def test_a_config_is_not_changed() -> None:
    """A message that was given stays as it was, and so does the annotation that it overrides."""
    annotation = service("Kitchen").methods_by_name["Get"].GetOptions().Extensions[annotations_pb2.http]
    before = annotation.SerializeToString()
    message = http_pb2.Http(rules=[http_pb2.HttpRule(selector=GET, get="/v2/find")])

    mount(message)

    assert http_pb2.Http(rules=[http_pb2.HttpRule(selector=GET, get="/v2/find")]) == message
    assert before == annotation.SerializeToString()
