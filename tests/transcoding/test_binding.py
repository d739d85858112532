from __future__ import annotations

from typing import Any

import pytest
from flagledger.transcoding import BindingError, Route, Transcoder
from transcoding.kitchen import KitchenServicer, call, service


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("StreamWithoutBody", ["kitchen.v1.StreamWithoutBody.Call", "needs a body", "POST /v1/upload"]),
        ("StreamOfGet", ["kitchen.v1.StreamOfGet.Call", "needs a body", "GET /v1/upload"]),
        ("TrailingSlash", ["kitchen.v1.TrailingSlash.Call", "trailing slash", "column 11"]),
        ("UnknownVariable", ["kitchen.v1.UnknownVariable.Call", "nope"]),
        ("RepeatedVariable", ["kitchen.v1.RepeatedVariable.Call", "sizes", "scalar"]),
        ("MessageVariable", ["kitchen.v1.MessageVariable.Call", "nested", "scalar"]),
        ("DeepBody", ["kitchen.v1.DeepBody.Call", "nested.inner", "top-level"]),
        ("Duplicate", ["kitchen.v1.Duplicate/Other", "same paths", "/v1/same/{count}"]),
    ],
)
def test_refuses_to_start(name: str, words: list[str]) -> None:
    """A binding that cannot be served refuses to start, with a message that names the rpc and what is wrong."""

    class Anything:
        async def Call(self, request: object, context: object) -> None: ...

        Other = Call

    with pytest.raises(BindingError) as caught:
        Transcoder([(service(name), Anything())])

    assert [] == [word for word in words if word not in str(caught.value)]


def test_refuses_a_servicer_without_the_method() -> None:
    """A servicer that lacks an annotated rpc refuses to start, with its name."""
    with pytest.raises(BindingError, match=r"/kitchen\.v1\.Kitchen/Get.*no method Get"):
        Transcoder([(service("Kitchen"), object())])


def test_routes() -> None:
    """Every binding of every annotated rpc is a route, additional and custom ones included, and others are not."""
    routes = Transcoder([(service("Kitchen"), KitchenServicer())]).routes()

    assert (
        Route("GET", "/v1/{name=shelves/*/books/**}", "/kitchen.v1.Kitchen/Get"),
        Route("GET", "/v1/find", "/kitchen.v1.Kitchen/Get"),
        Route("GET", "/v1/nested/{nested.name}/{nested.size}", "/kitchen.v1.Kitchen/Get"),
        Route("POST", "/v1/everything", "/kitchen.v1.Kitchen/Echo"),
        Route("PUT", "/v1/tables/{table}/order", "/kitchen.v1.Kitchen/Place"),
        Route("POST", "/v1/orders", "/kitchen.v1.Kitchen/Place"),
        Route("MERGE", "/v1/tables/{table}:merge", "/kitchen.v1.Kitchen/Place"),
        Route("POST", "/v1/sizes", "/kitchen.v1.Kitchen/Measure"),
    ) == routes


async def test_a_path_that_names_what_the_body_holds() -> None:
    """A variable inside the field that is the body is set last: the path says which resource it is, whatever the body says."""

    class Updater:
        async def Call(self, request: Any, context: object) -> Any:
            return request

    app = Transcoder([(service("Update"), Updater())])
    body = b'{"name": "another", "size": 3}'
    answer = await call(app, "PATCH", "/v1/shelves/7", body)

    assert (200, {"nested": {"name": "shelves/7", "size": 3}}) == (answer.status, answer.json)


def test_a_second_member_of_a_oneof() -> None:
    """A path that sets another member of a oneof than the body does refuses to start."""
    config = {
        "http": {
            "rules": [
                {
                    "selector": "kitchen.v1.Kitchen.Echo",
                    "post": "/v1/choices/{choice_string}",
                    "body": "choice_nested",
                }
            ]
        }
    }
    with pytest.raises(BindingError, match="choice_string sets a second member of the oneof 'choice'"):
        Transcoder([(service("Kitchen"), KitchenServicer())], service_config=config)


async def test_a_parameter_that_would_replace_the_path() -> None:
    """A query parameter cannot replace what the path has set, by another member of its oneof."""
    config = {"http": {"rules": [{"selector": "kitchen.v1.Kitchen.Echo", "get": "/v1/choices/{choice_string}"}]}}
    app = Transcoder([(service("Kitchen"), KitchenServicer())], service_config=config)
    answer = await call(app, "GET", "/v1/choices/a?choiceInt=3")

    assert 400 == answer.status
    assert "choice" in answer.json["message"]


async def test_head_is_what_get_is() -> None:
    """HEAD goes where GET does, before a rule for any method that the path reaches too."""
    rules = [
        {"selector": "kitchen.v1.Kitchen.Get", "get": "/v1/{name=shelves/*}"},
        {"selector": "kitchen.v1.Kitchen.Echo", "custom": {"kind": "*", "path": "/v1/{string_field=**}"}},
    ]
    app = Transcoder([(service("Kitchen"), KitchenServicer())], service_config={"http": {"rules": rules}})
    names = [app.match(method, "/v1/shelves/7").target.binding.method_name for method in ("GET", "HEAD", "PUT")]

    assert ["Get", "Get", "Echo"] == names


def test_knows_its_paths() -> None:
    """A parent application can ask whether a path is served here, and by which rpc."""
    app = Transcoder([(service("Kitchen"), KitchenServicer())])

    assert app.owns("/v1/everything/")
    assert not app.owns("/v1/nothing")
    assert app.match("POST", "/v1/everything")
    assert app.match("HEAD", "/v1/find")
    assert app.match("GET", "/v1/everything") is None
