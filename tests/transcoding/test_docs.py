"""The page at /docs as a person meets it: in a real browser, without a network, below a prefix."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from flagledger.transcoding import Transcoder, openapi
from flagledger.transcoding.pages import Pages
from support.browser import DESKTOP, Watched, chromium, until, watch
from transcoding.kitchen import Everything, KitchenServicer, service

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.system

PREFIX = "/some/api"
MARKUP = "<img src=x onerror=alert(1)>"

REF = "#/components/schemas/"
# A hand-made document: with what ours have, and with what a document may have besides.
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Kitchen",
        "version": "1",
        "description": f"Serves `dishes`. {MARKUP}\n\n| a | b |\n|---|---|\n| 1 | 2 |",
    },
    "tags": [{"name": "Dishes", "description": "What is eaten."}],
    "security": [{"key": []}],
    "paths": {
        "/v1/{name}": {
            "get": {
                "operationId": "Get",
                "tags": ["Dishes"],
                "summary": "Returns what was asked.",
                "parameters": [
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "description": "Of the book.",
                        "schema": {"type": "string"},
                        "x-multi-segment": True,
                    },
                    {"$ref": "#/components/parameters/query"},
                    {
                        "name": "query.stringsValues",
                        "in": "query",
                        "schema": {"type": "array", "items": {"type": "string"}},
                    },
                    {"name": "query.boolField", "in": "query", "schema": {"type": "boolean"}},
                ],
                "responses": {
                    "200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": f"{REF}Tree"}}}}
                },
            }
        },
        "/v1/everything": {
            "post": {
                "operationId": "Echo",
                "tags": ["Dishes"],
                "summary": "Answers with what it is sent.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": f"{REF}Everything"}}},
                },
                "responses": {
                    "200": {
                        "description": "OK",
                        "content": {"application/json": {"schema": {"$ref": f"{REF}Everything"}}},
                    },
                    "default": {"description": f"A failure. {MARKUP}"},
                },
            }
        },
        "/v1/watch": {
            "get": {
                "operationId": "Watch",
                "summary": "Sends messages as they come.",
                "security": [],
                "parameters": [{"name": "count", "in": "query", "schema": {"type": "integer", "format": "int32"}}],
                "responses": {
                    "200": {
                        "description": "OK",
                        "content": {"application/x-ndjson": {"schema": {"$ref": f"{REF}Everything"}}},
                    }
                },
            }
        },
    },
    "components": {
        "parameters": {
            "query": {"name": "query.stringField", "in": "query", "required": True, "schema": {"type": "string"}}
        },
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "X-Key", "description": "Of the cook."},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
        "schemas": {
            "Tree": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": f"{REF}Tree"}},
                    "parent": {"$ref": f"{REF}Tree"},
                },
            },
            "Circle": {"$ref": f"{REF}Circle"},
            "Everything": {
                "type": "object",
                "required": ["stringField"],
                "x-oneofs": [["choiceString", "choiceNested"]],
                "properties": {
                    "stringField": {"type": "string", "maxLength": 9, "description": f"A text. {MARKUP}"},
                    "int64Field": {"type": "string", "format": "int64"},
                    "boolField": {"type": "boolean"},
                    "choiceString": {"type": "string"},
                    "choiceNested": {"$ref": f"{REF}Tree"},
                    "any": {"type": "null"},
                    "nested": {"$ref": f"{REF}Tree", "description": "Nested."},
                    "time": {"type": ["string", "null"], "format": "date-time"},
                    "strings": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
                },
            },
        },
    },
}


class Servicer(KitchenServicer):
    """Answers, and streams one message now and another when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Stream `count` messages, the second only once it is told to."""
        for number in range(request.count):
            while number == 1 and not self.go_on.is_set():
                await asyncio.sleep(0.01)
            yield Everything(string_field=f"message {number}")

    Export = Watch


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve *app* from a thread, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def servicer() -> Servicer:
    """Return the servicer."""
    return Servicer()


@pytest.fixture(scope="module")
def url(servicer: Servicer) -> Iterator[str]:
    """Yield where the kitchen's application is mounted, below a prefix."""
    transcoder = Transcoder(
        [(service("Kitchen"), servicer), (service("Streams"), servicer)], header_allow_list=["x-key", "authorization"]
    )
    pages = Pages(transcoder, lambda: DOCUMENT)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"].startswith(PREFIX), scope["path"]
        await pages({**scope, "root_path": PREFIX}, receive, send)

    with served(mounted) as found:
        yield found + PREFIX


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the browser."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def watched(browser: Browser, url: str) -> Iterator[Watched]:
    """Yield the page, opened; in the end it may have done nothing that it should not, such as asking another host."""
    context = browser.new_context(viewport=DESKTOP)  # type: ignore[arg-type]
    found = watch(context, url)
    found.page.goto(f"{url}/docs")
    found.page.locator(".operation").first.wait_for()
    yield found
    faults = found.unexpected()
    context.close()
    assert [] == faults


def opened(watched: Watched, operation: str) -> Any:
    """Open an operation, and return its element."""
    found = watched.page.locator(f"[id='{operation}']")
    found.locator("> summary").click()
    return found


def answered(found: Any, status: str) -> str:
    """Wait for the answer of an operation and its end, and return its body."""
    found.locator(".status-code", has_text=status).wait_for()
    found.locator("button[type=submit]:enabled").wait_for()
    return str(found.locator(".result .body").inner_text())


def test_lists_operations(watched: Watched) -> None:
    """Operations stand below their tags with what they are for, and texts of the document stay texts."""
    page = watched.page

    assert "Kitchen" == page.title()
    assert ["Credentials", "Dishes", "Operations"] == page.locator("h2").all_inner_texts()
    assert [
        "GET /v1/{name} Returns what was asked.",
        "POST /v1/everything Answers with what it is sent.",
        "GET /v1/watch Sends messages as they come.",
    ] == page.locator(".operation > summary").all_inner_texts()
    assert MARKUP in page.locator("header").inner_text()
    assert "| 1 | 2 |" in page.locator("header pre").inner_text()
    assert 0 == page.locator("img").count()


def test_schemas_open_as_far_as_wanted(watched: Watched) -> None:
    """Schemas are shown with types, limits and descriptions, and one that holds itself opens as deep as a reader goes."""
    found = opened(watched, "Echo")
    found.locator("summary", has_text="Schema: Everything").click()
    field = found.locator(".row", has=watched.page.locator("code:text-is('stringField')")).first
    found.locator("summary", has_text="nested").first.click()
    for _ in range(4):
        found.locator("summary", has_text="parent Tree").last.click()

    assert "stringField string required" in field.inner_text()
    assert "maxLength 9" in field.inner_text()
    assert MARKUP in field.inner_text()
    assert "time string (date-time)" in found.inner_text()
    assert 5 == found.locator("summary", has_text="parent Tree").count()


def test_sends_a_body(watched: Watched, servicer: Servicer) -> None:
    """The example that is made of the schema can be sent, with the credential, and the answer is shown with its headers."""
    page = watched.page
    page.get_by_label("key", exact=True).fill("secret")
    found = opened(watched, "Echo")
    example = json.loads(found.get_by_label("Body", exact=True).input_value())
    found.get_by_label("Body", exact=True).fill(
        json.dumps({key: example[key] for key in example if key != "nested"} | {"stringField": MARKUP})
    )
    found.locator("button[type=submit]").click()
    body = json.loads(answered(found, "200"))

    assert {"stringField", "int64Field", "boolField", "choiceString", "nested", "time", "strings"} == set(example)
    assert ("0", False, ["a"], {"name": "string", "children": []}) == (
        example["int64Field"], example["boolField"], example["strings"], example["nested"],
    )  # fmt: skip
    assert (MARKUP, ["a"]) == (body["stringField"], body["strings"])
    assert ("x-key", "secret") in servicer.context.invocation_metadata()
    assert "content-type: application/json" in found.locator(".headers").text_content()
    assert "The answer is 200 OK, and complete." == page.locator("#status").text_content()


def test_sends_parameters(watched: Watched, servicer: Servicer, url: str) -> None:
    """Parameters are encoded where they stand: slashes of a pattern separate, lists repeat, and what is required is asked for."""
    page = watched.page
    found = opened(watched, "Get")
    found.locator("button[type=submit]").click()

    words = "Not sent: query.stringField is required."
    assert (words, words) == (page.locator("#status").text_content(), found.locator(".result").text_content())
    assert "true" == page.evaluate("document.activeElement.getAttribute('aria-required')")
    found.get_by_label("name", exact=True).fill("shelves/a b/books/c%/d")
    found.get_by_label("query.stringField").fill("it's & more")
    found.get_by_label("query.boolField").select_option("true")
    command = found.locator(".curl").inner_text()
    found.locator("button[type=submit]").click()
    answered(found, "200")

    assert "shelves/a b/books/c%/d" == servicer.request.name
    assert ("it's & more", True) == (servicer.request.query.string_field, servicer.request.query.bool_field)
    sent = shlex.split(command.replace("\\\n", " "))
    assert [
        "curl",
        "-i",
        f"{url}/v1/shelves/a%20b/books/c%25/d?query.stringField=it's%20%26%20more&query.boolField=true",
    ] == sent


def test_a_refusal_is_shown(watched: Watched) -> None:
    """An answer that refuses is shown as any other."""
    watched.expected.append("400 (Bad Request)")
    found = opened(watched, "Echo")
    found.get_by_label("Body", exact=True).fill('{"nope": 1}')
    found.locator("button[type=submit]").click()

    assert 3 == json.loads(answered(found, "400"))["code"]


def test_the_command_does_the_same(watched: Watched, servicer: Servicer) -> None:
    """The curl command sends what the page sends, whatever quotes are in it."""
    watched.page.get_by_label("key", exact=True).fill("it's")
    found = opened(watched, "Echo")
    found.get_by_label("Body", exact=True).fill('{"stringField": "it\'s \\"quoted\\" $HOME"}')
    command = shlex.split(found.locator(".curl").inner_text().replace("\\\n", " "))
    try:
        done = subprocess.run([*command, "-s"], capture_output=True, text=True, check=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("curl is not installed: apt-get install curl")

    assert {"stringField": 'it\'s "quoted" $HOME'} == json.loads(done.stdout.split("\n\n")[-1])
    assert ("x-key", "it's") in servicer.context.invocation_metadata()


def test_streams_are_shown_as_they_come(watched: Watched, servicer: Servicer) -> None:
    """Messages of a stream are there before its end, and it can be stopped."""
    servicer.go_on.clear()
    page = watched.page
    found = opened(watched, "Watch")
    found.get_by_label("count").fill("2")
    found.locator("button[type=submit]").click()
    until(page, "document.querySelector('.result .body')?.textContent.includes('message 0')")

    assert "message 1" not in found.locator(".body").inner_text()
    servicer.go_on.set()
    assert 2 == answered(found, "200").strip().count("message")

    servicer.go_on.clear()
    found.locator("button[type=submit]").click()
    until(page, "document.querySelector('.result .body')?.textContent.includes('message 0')")
    found.get_by_role("button", name="Stop").click()
    found.locator(".result", has_text="Stopped.").wait_for()
    servicer.go_on.set()


def test_works_by_keyboard(watched: Watched) -> None:
    """Operations are filtered, opened and sent without a mouse, and every control has a name."""
    page = watched.page
    page.get_by_label("Filter operations").focus()
    page.keyboard.type("watch")

    shown = page.locator(".operation > summary:visible")

    assert ["GET /v1/watch Sends messages as they come."] == shown.all_inner_texts()
    assert "1 operations fit." == page.locator("#status").text_content()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_label("count").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("0")
    page.keyboard.press("Enter")
    page.locator(".status-code", has_text="200").wait_for()
    assert [] == page.evaluate(
        "[...document.querySelectorAll('input, select, textarea')].filter((one) => !one.labels.length).map((one) => one.id)"
    )


def test_an_address_opens_an_operation(watched: Watched, url: str) -> None:
    """An operation has an address of its own."""
    watched.page.goto("about:blank")
    watched.page.goto(f"{url}/docs#Watch")

    watched.page.locator("[id='Watch'][open] form").wait_for()


def test_an_example_of_everything_is_taken(browser: Browser) -> None:
    """The example that is made of a document of ours fits: every kind of field, and of a oneof one member."""
    transcoder = Transcoder([(service("Kitchen"), KitchenServicer())])
    document = openapi.document(transcoder, title="Kitchen", version="1")
    with served(Pages(transcoder, lambda: document)) as url:
        watched = watch(browser.new_context(), url)
        watched.page.goto(f"{url}/docs#Kitchen_Echo")
        found = watched.page.locator("[id='Kitchen_Echo']")
        found.locator("button[type=submit]").click()
        body = json.loads(answered(found, ""))
        sent = json.loads(found.get_by_label("Body", exact=True).input_value())
        watched.page.context.close()

    fields = {field.json_name for field in Everything.DESCRIPTOR.fields}
    choices = {field.json_name for field in Everything.DESCRIPTOR.oneofs_by_name["choice"].fields}
    assert {"choiceString"} == choices & set(sent)
    assert {"any"} >= fields - choices - set(sent)
    assert "string" == body.get("stringField"), body
    assert [] == watched.unexpected()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(watched: Watched, scheme: Any) -> None:
    """Every text stands out from what is behind it by 4.5 to 1, in both schemes."""
    page = watched.page
    page.emulate_media(color_scheme=scheme)
    found = opened(watched, "Echo")
    found.locator("summary", has_text="Schema").click()
    watched.shoot(f"docs-{scheme}")

    assert [] == page.evaluate(CONTRAST)


CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = channels(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')].filter((one) => !one.disabled && one.checkVisibility() &&
    [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).filter((one) => {
    const [a, b] = [light(channels(getComputedStyle(one).color)), light(ground(one))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map((one) => one.outerHTML.slice(0, 100));
}"""
