"""The page at /docs of a real service, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.browser import DESKTOP, PHONE, Watched, watch
from support.reading import wait_for_total
from support.server import RunningServer
from system.conftest import ENVIRONMENTS, KEYS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.system


@pytest.fixture
def server(server_factory: Callable[..., RunningServer], tmp_path: Path) -> RunningServer:
    """Return a service of its own."""
    path = tmp_path / "environments.toml"
    path.write_text(ENVIRONMENTS)
    return server_factory(environments=path)


def opened(browser: Browser, server: RunningServer, operation: str, **options: Any) -> tuple[Watched, Any]:
    """Return the page, and an operation of it, opened by its address."""
    watched = watch(browser.new_context(**{"viewport": DESKTOP, **options}), server.http_url)
    watched.page.goto(f"{server.http_url}/docs#{operation}")
    found = watched.page.locator(f"[id='{operation}']")
    found.locator("form").wait_for()
    return watched, found


def test_records_and_asks(browser: Browser, server: RunningServer) -> None:
    """A batch that is made of the example is recorded with the key, and found with the token, from the page alone."""
    watched, found = opened(browser, server, "EvaluationService_RecordEvaluations")
    page = watched.page
    page.get_by_label("environmentKey").fill(KEYS["hostile"])
    page.get_by_label("readToken").fill(server.read_token)
    found.locator("button[type=submit]").click()
    found.locator(".status-code", has_text="202").wait_for()
    found.locator("button[type=submit]:enabled").wait_for()
    body = json.loads(found.locator(".result .body").inner_text())
    watched.shoot("docs-recorded")

    assert 1 == body["accepted_count"] + body["filtered_count"] + body["rejected_count"]
    recorded = json.loads(found.get_by_label("Body", exact=True).input_value())["evaluations"][0]
    assert (1, "string") == (body["accepted_count"], recorded["feature_name"])
    assert 1 == wait_for_total(server, 1, seconds=10, environment="hostile")
    asked = page.locator("[id='QueryService_ListFeatures']")
    asked.locator("> summary").click()
    asked.get_by_label("environment", exact=True).fill("hostile")
    asked.locator("button[type=submit]").click()
    asked.locator(".status-code", has_text="200").wait_for()
    asked.locator("button[type=submit]:enabled").wait_for()
    assert '"string"' in asked.locator(".result .body").inner_text()
    assert [] == watched.unexpected()


def test_every_operation_opens(browser: Browser, server: RunningServer) -> None:
    """Every operation of the contract opens, also on a phone, without a fault and without widening the page."""
    watched, _ = opened(browser, server, "EvaluationService_RecordEvaluations", viewport=PHONE)
    page = watched.page
    page.evaluate("for (const one of document.querySelectorAll('.operation')) one.open = true")
    page.locator(".operation:not(:has(form))").first.wait_for(state="detached")

    assert page.locator(".operation").count() == page.locator(".operation form").count() > 5
    assert PHONE["width"] == page.evaluate("document.documentElement.scrollWidth")
    watched.shoot("docs-phone")
    assert [] == watched.unexpected()
