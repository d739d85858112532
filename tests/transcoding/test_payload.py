from __future__ import annotations

import json
from typing import Any

import pytest
from flagledger.transcoding import Transcoder
from transcoding.kitchen import Attachment, HttpBody, call, service


class FilesServicer:
    """Answers with one file."""

    def __init__(self, file: Any) -> None:
        self.file = file

    async def Download(self, request: Any, context: Any) -> Any:
        """Answer with the file."""
        return self.file

    async def Attach(self, request: Any, context: Any) -> Any:
        """Answer with the file as a field."""
        return Attachment(name="a", file=self.file)


def mount(file: Any) -> Transcoder:
    """Return an application that serves *file*."""
    return Transcoder([(service("Files"), FilesServicer(file))])


@pytest.mark.parametrize("path", ["/v1/download", "/v1/attachment"])
async def test_raw(path: str) -> None:
    """An HttpBody, the whole response or the field that is the answer, goes out as it is under its content type."""
    answer = await call(mount(HttpBody(content_type="text/csv; charset=utf-8", data=b"a,\0\xff")), "GET", path)

    assert (200, b"a,\0\xff") == (answer.status, answer.body)
    assert {"content-type": "text/csv; charset=utf-8", "content-length": "4"} == answer.headers


async def test_head() -> None:
    """HEAD of an HttpBody has the headers of GET."""
    app = mount(HttpBody(content_type="text/csv", data=b"a,b"))
    get, head = [await call(app, method, "/v1/download") for method in ("GET", "HEAD")]

    assert (200, get.headers, b"") == (head.status, head.headers, head.body)


async def test_within_json() -> None:
    """An HttpBody that is only a part of the answer is JSON like the rest."""
    answer = await call(mount(HttpBody(content_type="text/csv", data=b"a,b")), "GET", "/v1/attachment/whole")

    assert {"name": "a", "file": {"contentType": "text/csv", "data": "YSxi"}} == answer.json


@pytest.mark.parametrize("path", ["/v1/download", "/v1/attachment"])
async def test_no_content_type(path: str) -> None:
    """Without a content type the data are bytes."""
    answer = await call(mount(HttpBody(data=b"x")), "GET", path)

    assert ("application/octet-stream", b"x") == (answer.headers["content-type"], answer.body)


@pytest.mark.parametrize("text", ["text/csv\r\nset-cookie: a", "text/é"])
async def test_content_type_that_no_header_holds(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """A content type that would forge headers is left out, and logged."""
    answer = await call(mount(HttpBody(content_type=text, data=b"x")), "GET", "/v1/download")

    assert {"content-type": "application/octet-stream", "content-length": "1"} == answer.headers
    assert "content type" in caplog.text


async def test_a_response_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """A servicer that answers with something else gets a 500, and a line in the log."""
    answer = await call(mount(None), "GET", "/v1/download")

    assert (500, 13) == (answer.status, json.loads(answer.body)["code"])
    assert "could not be written: a NoneType, where google.api.HttpBody is due." in caplog.text
