"""A real browser, Debian's Chromium, that notes whatever a page does wrong."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

COMMANDS = ("chromium", "chromium-browser")
# Root has no sandbox; the rest keeps the browser itself from speaking to anybody.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ARTEFACTS = Path(os.environ.get("TEST_ARTEFACTS") or Path(__file__).parents[2] / ".artefacts")
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


@dataclass
class Watched:
    """
    A page, and what it has done that it should not.

    Attributes:
        page: The page.
        host: Host and port that it may speak to.
        faults: Errors of scripts, of the console and of the content security policy, and requests to others.
        expected: Parts of faults that the test itself causes.
    """

    page: Page
    host: str
    faults: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def unexpected(self) -> list[str]:
        """Return the faults that the test did not cause itself."""
        return [fault for fault in self.faults if not any(part in fault for part in self.expected)]

    def shoot(self, name: str) -> Path:
        """Keep a screenshot of the whole page under *name*."""
        path = ARTEFACTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield the browser; skip where it, or what drives it, is not installed."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    command = next(filter(None, map(shutil.which, COMMANDS)), None)
    if command is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=list(ARGUMENTS))
        yield browser
        browser.close()


def until(page: Page, expression: str, argument: object = None, *, seconds: float = 10.0) -> None:
    """Wait until *expression* is true in *page*. The driver's own way evaluates text in the page, which its policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < deadline, f"it has not become true in {seconds:.0f} s: {expression}"
        page.wait_for_timeout(50)


def watch(context: BrowserContext, url: str) -> Watched:
    """Return a new page of *context* that may speak to the host of *url* alone."""
    watched = Watched(page=context.new_page(), host=urlsplit(url).netloc)

    def asked(request: Any) -> None:
        where = urlsplit(request.url)
        if where.scheme not in {"data", "blob"} and where.netloc != watched.host:
            watched.faults.append(f"a request to {request.url}")

    def said(message: Any) -> None:
        if message.type in {"error", "warning"}:
            watched.faults.append(f"{message.type} in the console: {message.text}")

    context.on("request", asked)
    watched.page.on("console", said)
    watched.page.on("pageerror", lambda error: watched.faults.append(f"an error of a script: {error}"))
    watched.page.on("dialog", lambda dialog: (watched.faults.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    return watched
