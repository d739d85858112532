from __future__ import annotations

import json
from typing import Any

import pytest
from flagledger.transcoding import Transcoder
from flagledger.transcoding.pages import Pages
from transcoding.kitchen import KitchenServicer, call, service

DOCUMENT = {"openapi": "3.1.0", "info": {"title": "é", "version": "1"}}


class Made:
    """Pages around the kitchen, with a count of how often the document was made."""

    def __init__(self) -> None:
        self.times = 0
        self.refused: list[int] = []
        transcoder = Transcoder([(service("Kitchen"), KitchenServicer())])
        self.app = Pages(transcoder, self._document, on_refusal=self.refused.append)

    def _document(self) -> dict[str, Any]:
        self.times += 1
        return DOCUMENT


async def test_document() -> None:
    """The document is at its path, as JSON that caches ask about, and is made once, when it is asked for."""
    made = Made()
    assert 0 == made.times
    answers = [await call(made.app, "GET", "/openapi.json") for _ in range(2)]

    assert [(200, DOCUMENT)] * 2 == [(answer.status, answer.json) for answer in answers]
    assert 1 == made.times
    assert {
        "etag": answers[0].headers["etag"],
        "cache-control": "no-cache",
        "content-type": "application/json",
        "content-length": str(len(answers[0].body)),
        "x-content-type-options": "nosniff",
    } == answers[1].headers


@pytest.mark.parametrize(
    ("header", "status"),
    [("{etag}", 304), ("W/{etag}", 304), ('"other", {etag}', 304), ("*", 304), ('"other"', 200), ("", 200)],
)
async def test_not_modified(header: str, status: int) -> None:
    """Whoever has it already is told so, without it."""
    made = Made()
    etag = (await call(made.app, "GET", "/openapi.json")).headers["etag"]
    answer = await call(made.app, "GET", "/openapi.json", headers={"If-None-Match": header.format(etag=etag)})

    assert status == answer.status
    assert (status == 304) == (answer.body == b"")
    assert etag == answer.headers["etag"]


async def test_another_document_has_another_etag() -> None:
    """The tag is that of the content."""
    one, two = (Pages(Made().app, lambda number=number: {"a": number}) for number in (1, 2))

    assert (await call(one, "GET", "/openapi.json")).headers["etag"] != (
        await call(two, "GET", "/openapi.json")
    ).headers["etag"]


async def test_head() -> None:
    """HEAD has the headers of GET and no body."""
    made = Made()
    get, head = [await call(made.app, method, "/openapi.json") for method in ("GET", "HEAD")]

    assert (200, b"", get.headers) == (head.status, head.body, head.headers)


async def test_other_methods() -> None:
    """Any other method is refused with the ones that are taken, and told to whoever counts; OPTIONS lists them."""
    made = Made()
    post = await call(made.app, "POST", "/openapi.json", b"{}")
    options = await call(made.app, "OPTIONS", "/openapi.json")

    assert (405, "GET, HEAD, OPTIONS") == (post.status, post.headers["allow"])
    assert {"code": 12, "message": "This path takes GET, HEAD, OPTIONS.", "details": []} == json.loads(post.body)
    assert (204, "GET, HEAD, OPTIONS", b"") == (options.status, options.headers["allow"], options.body)
    assert [405] == made.refused


async def test_everything_else() -> None:
    """Other paths are the application's."""
    made = Made()

    assert 200 == (await call(made.app, "POST", "/v1/everything", b"{}")).status
    assert 404 == (await call(made.app, "GET", "/openapi.json/more")).status


async def test_below_a_root_path() -> None:
    """Mounted in another application, the path is looked for below where that put it."""
    made = Made()

    assert 200 == (await call(made.app, "GET", "/kitchen/openapi.json", root_path="/kitchen")).status
    assert 200 == (await call(made.app, "POST", "/kitchen/v1/everything", b"{}", root_path="/kitchen")).status
