from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest
from flagledger.transcoding import Transcoder
from flagledger.transcoding.pages import Pages
from transcoding.kitchen import Answer, KitchenServicer, call, service

STATIC = files("flagledger.transcoding") / "docs_static"
NAMES = sorted(entry.name for entry in STATIC.iterdir())


async def get(path: str, method: str = "GET", **scope: Any) -> Answer:
    """Ask for a path beside the kitchen's application."""
    return await call(Pages(Transcoder([(service("Kitchen"), KitchenServicer())]), dict), method, path, **scope)


async def test_policy() -> None:
    """The page may run its own scripts and styles, speak to its own host, be framed by nobody, and nothing else."""
    answer = await get("/docs")

    assert (200, "text/html; charset=utf-8") == (answer.status, answer.headers["content-type"])
    assert {
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    } == set(answer.headers["content-security-policy"].split("; "))
    assert "nosniff" == answer.headers["x-content-type-options"]


async def test_files_are_found_beside_the_page() -> None:
    """Everything that the page and its scripts name is relative, and there, also below a root path."""
    page = (await get("/mounted/docs", root_path="/mounted")).body.decode()
    named = re.findall(r'(?:src|href)="([^"#:]+)"', page)
    scripts = [name for name in NAMES if name.endswith(".js")]
    imported = {
        found for name in scripts for found in re.findall(r'from "\./([^"]+)"', (STATIC / name).read_text("utf-8"))
    }

    assert {"docs/style.css", "docs/app.js", "openapi.json"} == set(named)
    assert set(scripts) == imported | {"app.js"}
    for path in [*named, *(f"docs/{name}" for name in imported)]:
        assert 200 == (await get(f"/mounted/{path}", root_path="/mounted")).status, path


@pytest.mark.parametrize("name", NAMES)
def test_files_name_no_other_host(name: str) -> None:
    """No file names a host, and none holds a script or a style in its markup."""
    text = (STATIC / name).read_text("utf-8")

    assert [] == re.findall(r"https?://|['\"(]//", text)
    assert [] == re.findall(r"<script>|<style|style=|\son\w+=\"", text)


async def test_content_types() -> None:
    """A browser that is told not to sniff takes the files for what they are."""
    found = [(await get(path)).headers["content-type"] for path in ("/docs/app.js", "/docs/style.css")]

    assert ["text/javascript; charset=utf-8", "text/css; charset=utf-8"] == found


async def test_other_paths_are_the_application_s() -> None:
    """What is no file of the page goes on to the application."""
    assert 404 == (await get("/docs/nothing.js")).status
    assert 404 == (await get("/docs/page.html")).status
    assert 404 == (await get("/docs/../docs_static/app.js")).status
    assert 405 == (await get("/docs", "POST")).status
    assert b"" == (await get("/docs", "HEAD")).body
