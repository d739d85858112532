"""What the dashboard lets nobody do, and what it does where something is wrong."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.browser import Watched
from support.server import RunningServer
from system.conftest import KEYS, MARKUP, names, query

pytestmark = pytest.mark.system


def test_sign_in(opened: Callable[..., Watched], shop: RunningServer) -> None:
    """Without a token the page asks for one, says when it is wrong, and leads to what was looked for; and lets go of it."""
    watched = opened("?environment=shop&feature=checkout", signed_in=False)
    watched.expected.append("401 (Unauthorized)")
    page = watched.page
    page.locator("#token").wait_for()
    watched.shoot("sign-in")
    page.keyboard.type(KEYS["shop"])
    page.keyboard.press("Enter")
    page.locator("#notice", has_text="does not read here").wait_for()
    page.keyboard.type(shop.read_token)
    page.keyboard.press("Enter")
    page.locator("h1", has_text="checkout").wait_for()

    assert f"{shop.http_url}/?environment=shop&feature=checkout" == page.url
    page.locator("button", has_text="Sign out").click()
    page.locator("#token").wait_for()
    assert [] == page.context.cookies()
    page.goto(f"{shop.http_url}/?token=wrong")
    page.locator("#notice", has_text="does not read here").wait_for()
    assert "token" not in query(page)


def test_hostile_values(opened: Callable[..., Watched]) -> None:
    """Whatever was sent is shown as the text that it is."""
    watched = opened("?environment=hostile")
    page = watched.page
    link = page.locator("table.features tbody th a")
    shown = link.inner_text()
    link.click()
    page.locator("table.recent").wait_for()
    watched.shoot("hostile")

    assert MARKUP == shown == page.locator("main h1").inner_text()
    assert MARKUP == page.locator("table.recent td.identity").first.inner_text()
    assert MARKUP == page.locator("table.segments tbody th").first.inner_text()
    assert 0 == page.locator("main img, main b:has(b)").count()
    assert page.evaluate("window.struck") is None


def test_records_of_another_time(opened: Callable[..., Watched]) -> None:
    """Where the period holds nothing and another does, the page says so, and leads there."""
    page = opened("?environment=late").page
    row = page.locator("table.features tbody tr")
    assert ("checkout", "not in this period") == (row.locator("a").inner_text(), row.locator(".mark").inner_text())
    assert "2024-02-10T11:00:00.000Z" == row.locator("time").get_attribute("datetime")
    page.locator(".note a", has_text="look at all of them").click()
    page.locator("table.features tbody tr:not(.still)").wait_for()

    assert (["all"], ["checkout"]) == (query(page)["period"], names(page))
    page.locator("table.features a").click()
    page.locator("[data-key=chart-values] svg.plot").wait_for()
    assert ['"blue"\n1'] == page.locator("[data-key=chart-values] .legend li").all_inner_texts()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("view=constructor&period=toString&show=valueOf&sort=-__proto__", "table.features"),
        ("feature=checkout&value={&period=custom&from=x&to=y", "table.sdks"),
        ("feature=nothing", ".empty"),
        ("view=unknown&sort=nothing", "table.unknown"),
    ],
)
def test_any_address(opened: Callable[..., Watched], address: str, shown: str) -> None:
    """Whatever an address says, the page shows something for it."""
    opened(f"?environment=shop&{address}").page.locator(shown).wait_for(timeout=5_000)


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("environment=shop&period=5y", "environment=shop"),
        ("environment=shop&view=whatever&q=dark", "environment=shop&q=dark"),
        ("environment=shop&show=some&sort=-size", "environment=shop"),
        ("environment=shop&period=custom&from=2026-01-03&to=2026-01-02", "environment=shop"),
        ("period=7d&environment=shop", "period=7d&environment=shop"),
    ],
)
def test_address_is_what_is_shown(opened: Callable[..., Watched], address: str, kept: str) -> None:
    """What an address cannot mean does not stay in it, while the default is shown; and one that can stays as it is."""
    assert kept == urlsplit(opened(f"?{address}").page.url).query


def test_unknown_environment(opened: Callable[..., Watched]) -> None:
    """An address of an environment that is not there says so, and offers those that are."""
    page = opened("?environment=gone&period=7d").page
    page.locator(".empty h1", has_text="There is no such environment").wait_for()
    menu = page.locator(".environment option").all_inner_texts()
    links = page.locator(".empty li").all_inner_texts()

    assert "gone" in page.locator(".empty p").inner_text()
    assert (sorted(KEYS), ["Choose one", *sorted(KEYS)]) == (links, menu)
    assert 1 == page.locator(".live.failed").count()
    page.locator(".empty a", has_text="shop").click()
    page.locator("table.features").wait_for()
    assert (["shop"], ["7d"]) == (query(page)["environment"], query(page)["period"])
    assert 0 == page.locator(".live.failed").count()


def test_refusal(opened: Callable[..., Watched]) -> None:
    """While the server refuses, the page says why in the server's words, and goes on by itself after the delay."""
    watched = opened("?environment=shop")
    watched.expected.append("503 (Service Unavailable)")
    page = watched.page
    left = [1]

    def refuse(route: Any) -> None:
        if not left:
            route.continue_()
            return
        left.pop()
        route.fulfill(
            status=503, json={"code": 14, "message": "The store is not there yet."}, headers={"Retry-After": "1"}
        )

    page.route("**/api/v2/analytics/features?*", refuse)
    light = "getComputedStyle(document.querySelector('.live .light')).backgroundColor"
    green = page.evaluate(light)
    page.locator(".periods a", has_text="7 d").click()
    page.locator(".problem", has_text="The store is not there yet.").wait_for()

    assert "1 s" in page.locator(".problem").inner_text()
    assert green != page.evaluate(light)
    page.locator(".problem").wait_for(state="detached")
    assert (4, green) == (len(names(page)), page.evaluate(light))


def test_no_charts(opened: Callable[..., Watched]) -> None:
    """Without the charting library the figures stand in tables."""
    watched = opened("?environment=shop")
    page = watched.page
    page.route("**/d3.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    page.goto(f"{page.url}&feature=checkout")
    chart = page.locator("[data-key=chart-values]")
    chart.locator("tbody tr").first.wait_for()

    assert (24, 0) == (chart.locator("tbody tr").count(), chart.locator("svg.plot").count())


def ask(shop: RunningServer, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Return status and headers of an answer, redirects not followed."""
    connection = http.client.HTTPConnection(shop.ready["http"], timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def test_cookie(shop: RunningServer) -> None:
    """The cookie of the link reads for our own page, changes nothing, and lets no other origin read."""
    status, headers = ask(shop, "GET", f"/?token={shop.read_token}&feature=a")
    cookie = headers["set-cookie"].partition(";")[0]
    reading = "/api/v2/analytics/features?environment=shop"
    other = ask(shop, "GET", reading, Cookie=cookie, Origin="https://shop.example")

    assert (303, "./?feature=a") == (status, headers["location"])
    assert 200 == ask(shop, "GET", reading, Cookie=cookie, Sec_Fetch_Site="same-origin")[0]
    assert 401 == ask(shop, "GET", reading, Cookie=cookie, Sec_Fetch_Site="cross-site")[0]
    assert 401 == ask(shop, "GET", reading, Cookie=cookie, Authorization="Bearer wrong")[0]
    assert 401 == ask(shop, "DELETE", "/api/v2/analytics/identities/a?environment=shop", Cookie=cookie)[0]
    assert (401, False) == (other[0], "access-control-allow-credentials" in other[1])


def test_wheel_of_charts_is_on_disk(shop: RunningServer) -> None:
    """The charts come from the installed package, not from our own files."""
    from flagledger import dashboard

    own = {path.name for path in Path(str(dashboard.__file__)).parent.rglob("*.js")}

    assert 200 == ask(shop, "GET", "/dashboard/d3.js")[0]
    assert "d3.js" not in own
