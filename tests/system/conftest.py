"""A service that has seen much, and pages of its dashboard in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from support.browser import DESKTOP, Watched, chromium, watch
from support.reading import post, wait_for_total
from support.server import RunningServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KEYS = {
    "shop": "shop-client-key",
    "fresh": "fresh-client-key",
    "hostile": "hostile-client-key",
    "late": "late-client-key",
}
ENVIRONMENTS = """
[[environments]]
name = "shop"
keys = ["shop-client-key"]
features = ["checkout", "dark_mode", "new_dashboard", "old_banner"]

[[environments]]
name = "fresh"
keys = ["fresh-client-key"]
features = ["it's_new"]

[[environments]]
name = "hostile"
keys = ["hostile-client-key"]
features = "any"

[[environments]]
name = "late"
keys = ["late-client-key"]
features = ["checkout"]
"""
MARKUP = '<img src=x onerror="window.struck=1"><b>'
REFRESH_MILLISECONDS = 25_000
SEEN: dict[str, int] = {"checkout": 120, "dark_mode": 40, "new_dashboard": 60}


def evaluation(feature: str, number: int, **fields: object) -> dict[str, object]:
    """Return an evaluation of the last hours; *number* makes it one of many."""
    at = datetime.now(UTC) - timedelta(minutes=number % 300, seconds=1)
    return {
        "feature_name": feature,
        "enabled": number % 4 > 0,
        "value": "blue" if number % 3 else "green",
        "evaluation_timestamp": at.isoformat(),
        "identity_identifier": f"user_{number % 50}",
        "segment_names": ["premium"] if number % 2 else [],
        "identity_traits": [{"trait_key": "plan", "trait_value": "pro"}],
    } | fields


def send(server: RunningServer, environment: str, *evaluations: dict[str, object], sdk: str = "shop-sdk/2.1") -> Any:
    """Send *evaluations* and return what became of them."""
    headers = {"Flagsmith-SDK-User-Agent": sdk}
    status, answer = post(server, {"evaluations": evaluations}, key=KEYS[environment], headers=headers)
    assert 202 == status
    return answer


@pytest.fixture(scope="module")
def shop(server_factory: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """Return a service with an environment that has seen much, one that has seen nothing, and one that means harm."""
    path = tmp_path_factory.mktemp("dashboard") / "environments.toml"
    path.write_text(ENVIRONMENTS)
    server = server_factory(environments=path)
    wrong = [evaluation("checkout", number, evaluation_timestamp="soon") for number in range(3)]
    for feature, times in SEEN.items():
        send(server, "shop", *(evaluation(feature, number) for number in range(times)))
    send(server, "shop", *(evaluation("Checkout", number) for number in range(7)), *wrong)
    send(
        server,
        "hostile",
        *(
            evaluation(MARKUP, number, value=MARKUP, identity_identifier=MARKUP, segment_names=[MARKUP])
            for number in range(3)
        ),
        sdk=f"{MARKUP}/1",
    )
    send(server, "late", evaluation("checkout", 1, evaluation_timestamp="2024-02-10T11:00:00Z"))
    assert sum(SEEN.values()) == wait_for_total(server, sum(SEEN.values()), seconds=10, environment="shop")
    assert 3 == wait_for_total(server, 3, seconds=10, environment="hostile")
    return server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the browser."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser, shop: RunningServer) -> Iterator[Callable[..., Watched]]:
    """Open pages, each in a context of its own; in the end none of them may have done anything that it should not."""
    pages: list[Watched] = []

    def open_page(query: str = "", *, signed_in: bool = True, **options: object) -> Watched:
        context = browser.new_context(**{"viewport": DESKTOP, "timezone_id": "UTC", **options})  # type: ignore[arg-type]
        watched = watch(context, shop.http_url)
        pages.append(watched)
        if signed_in:
            watched.page.goto(f"{shop.http_url}/?token={shop.read_token}")
            settled(watched.page)
        watched.page.goto(f"{shop.http_url}/{query}")
        if signed_in:
            settled(watched.page)
        return watched

    yield open_page
    faults = [fault for watched in pages for fault in watched.unexpected()]
    for watched in pages:
        watched.page.context.close()
    assert [] == faults


def settled(page: Page) -> None:
    """Wait until the page shows what it has asked for."""
    page.locator("main:not([aria-busy]) > :not(.loading)").first.wait_for()


def names(page: Page, table: str = "features") -> list[str]:
    """Return the first words of the rows of a table."""
    return [text.split()[0] for text in page.locator(f"table.{table} tbody th").all_inner_texts()]


def figure(page: Page, label: str) -> str:
    """Return the figure of a tile."""
    return page.locator(".tiles div", has=page.locator(f"dt:text-is('{label}')")).locator("dd").first.inner_text()


def query(page: Page) -> dict[str, list[str]]:
    """Return the parameters of the page's address."""
    return parse_qs(urlsplit(page.url).query)
