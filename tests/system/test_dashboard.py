"""The dashboard as a person meets it: in a real browser, on a real service."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from support.browser import DESKTOP, PHONE, Watched, until, watch
from support.server import RunningServer
from system.conftest import KEYS, REFRESH_MILLISECONDS, SEEN, evaluation, figure, names, query, send, settled

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.system


def test_link(opened: Callable[..., Watched], shop: RunningServer) -> None:
    """A link with a token signs in: the token leaves the address, and stays where no script finds it."""
    watched = opened(f"?period=7d&token={shop.read_token}&environment=shop", signed_in=False)
    settled(watched.page)
    [cookie] = watched.page.context.cookies()

    assert f"{shop.http_url}/?period=7d&environment=shop" == watched.page.url
    assert ("flagledger-token", True, "Strict", -1) == (
        cookie["name"],
        cookie["httpOnly"],
        cookie["sameSite"],
        cookie["expires"],
    )
    assert "" == watched.page.evaluate("document.cookie")
    assert shop.read_token not in watched.page.content()
    assert shop.read_token not in shop.log()


def test_first_evaluation(opened: Callable[..., Watched], shop: RunningServer) -> None:
    """Where nothing was recorded the page has a line that records something as it stands, and then shows it by itself."""
    watched = opened("?environment=fresh")
    page = watched.page
    page.evaluate("window.here = 1")
    watched.shoot("empty")
    text = page.locator(".empty").inner_text()
    line = page.locator(".command").inner_text()
    done = subprocess.run(
        shlex.split(line.replace("\\\n", " ").replace("<key>", KEYS["fresh"])),
        capture_output=True,
        text=True,
        check=True,
    )

    assert "fresh" in text
    assert "environments.toml" in text
    assert '"accepted_count":1' in done.stdout
    page.locator("table.features").wait_for(timeout=REFRESH_MILLISECONDS)
    assert ["it's_new"] == names(page)
    assert 1 == page.evaluate("window.here"), "the page was not loaded anew"


def test_count_rises(opened: Callable[..., Watched], shop: RunningServer) -> None:
    """What comes in shows within seconds, and takes neither the focus, nor the selection, nor the place on the page away."""
    page = opened("?environment=shop", viewport={"width": 900, "height": 300}).page
    cell = page.locator("table.features tbody tr", has_text="dark_mode").locator(".evaluations")
    before = int(cell.inner_text())
    page.locator("#search").fill("d")
    page.evaluate("window.here = 1; scrollTo(0, 120); document.getElementById('search').setSelectionRange(0, 1)")
    place = page.evaluate("scrollY")
    send(shop, "shop", *(evaluation("dark_mode", number) for number in range(5)))

    until(
        page,
        "([row, count]) => [...document.querySelectorAll('table.features tbody tr')]"
        ".some((one) => one.textContent.includes(row) && one.querySelector('.evaluations').textContent === count)",
        ["dark_mode", str(before + 5)],
        seconds=REFRESH_MILLISECONDS / 1000,
    )
    assert [1, "search", 0, 1] == page.evaluate(
        "[window.here, document.activeElement.id, document.activeElement.selectionStart, document.activeElement.selectionEnd]"
    )
    assert place == page.evaluate("scrollY") > 0


def test_sort_and_search(opened: Callable[..., Watched]) -> None:
    """The table is sorted and searched without a mouse, says so to those who listen, and the address has it all."""
    page = opened("?environment=shop").page
    first = names(page)
    title = page.locator("main h1")
    header = page.locator("table.features th.evaluations")
    header.locator("button").focus()
    page.keyboard.press("Enter")
    ascending = names(page)
    said = page.locator("#status").inner_text()
    page.keyboard.press("Space")

    assert ("Features of shop", True) == (title.inner_text(), (title.bounding_box() or {})["width"] > 100)
    assert ("checkout", "old_banner") == (first[0], first[-1])
    assert first[::-1] == ascending
    assert "Sorted by Evaluations, ascending." == said
    assert ("descending", first) == (header.get_attribute("aria-sort"), names(page))
    page.locator("table.features th.name button").click()
    assert ["checkout", "dark_mode", "new_dashboard", "old_banner"] == names(page)
    assert ["name"] == query(page)["sort"]

    page.locator("body").press("/")
    page.keyboard.type("DASH")
    assert ("search", ["new_dashboard"], ["DASH"]) == (
        page.evaluate("document.activeElement.id"), names(page), query(page)["q"],
    )  # fmt: skip
    until(page, "document.getElementById('status').textContent === '1 features fit.'")
    page.keyboard.press("Escape")
    assert 4 == len(names(page))


def test_stale(opened: Callable[..., Watched]) -> None:
    """Features that nobody evaluates are found by a filter, not called stale while records are young, and back goes back."""
    page = opened("?environment=shop&period=1h").page
    page.locator("#show").select_option("stale")
    row = page.locator("table.features tbody tr")

    assert ["old_banner"] == names(page)
    assert ("not seen", 0) == (row.locator(".mark").inner_text(), row.locator("time").count())
    assert "do not delete a flag" in page.locator(".note").inner_text()
    assert ["stale"] == query(page)["show"]
    page.go_back()
    assert 4 == len(names(page))
    page.go_forward()
    assert ["old_banner"] == names(page)


def test_feature(opened: Callable[..., Watched]) -> None:
    """A feature opens with its values over time, shares, segments, SDKs and latest evaluations, page by page."""
    watched = opened("?environment=shop")
    page = watched.page
    page.locator("table.features a", has_text="checkout").focus()
    page.keyboard.press("Enter")
    page.locator("h1", has_text="checkout").wait_for()
    settled(page)

    assert (["checkout"], "checkout · shop · Flagledger") == (query(page)["feature"], page.title())
    assert "H1" == page.evaluate("document.activeElement.tagName"), "who reads by keyboard goes on at what is new"
    assert ("120", "75.0 %", "50") == tuple(figure(page, label) for label in ("Evaluations", "Enabled", "Identities"))
    values = page.locator("[data-key=chart-values]")
    assert ['"blue"\n80', '"green"\n40'] == values.locator(".legend li").all_inner_texts()
    assert ["premium", "no"] == sorted(names(page, "segments"), reverse=True)
    assert ["shop-sdk"] == names(page, "sdks")
    assert 25 == page.locator("table.recent tbody tr").count()
    page.locator("button", has_text="Older").click()
    page.locator("table.recent tbody tr").nth(49).wait_for()
    assert 50 == page.locator("table.recent tbody tr").count()
    times = page.locator("table.recent tbody time").evaluate_all("(all) => all.map((one) => one.dateTime)")
    assert sorted(times, reverse=True) == times

    page.locator("#identity").fill("user_7")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('table.recent tbody tr').length === 3")
    assert {"user_7"} == set(page.locator("table.recent .identity a").all_inner_texts())
    page.go_back()
    page.go_back()
    page.locator("table.features").wait_for()
    assert "feature" not in query(page)


def test_chart_by_keyboard(opened: Callable[..., Watched]) -> None:
    """The buckets of a chart are gone through by arrow keys, each with its figures in words; a table has them all."""
    page = opened("?environment=shop&feature=checkout").page
    chart = page.locator("[data-key=chart-values]")
    plot = chart.locator("svg.plot")
    whole = plot.get_attribute("aria-valuetext") or ""
    plot.focus()
    page.keyboard.press("End")
    until(page, "document.querySelector('[data-key=chart-values] svg.plot').getAttribute('aria-valuenow') === '23'")
    last = plot.get_attribute("aria-valuetext") or ""
    chart.locator("summary").click()
    chart.locator("tbody tr").nth(23).wait_for()
    rows = chart.locator("tbody tr").all_inner_texts()

    assert 'whole period: "blue" 80, "green" 40' == whole
    assert re.fullmatch(r'\d+ \w+ \d\d:00\W\d\d:00: "blue" \d+, "green" \d+', last)
    assert 24 == len(rows)
    figures = [[int(cell) for cell in row.split("\t")[1:]] for row in rows]
    assert [80, 40] == [sum(column) for column in zip(*figures, strict=True)]
    assert rows[0].split("\t")[0] in last


def test_deep_link(opened: Callable[..., Watched], shop: RunningServer, browser: Browser) -> None:
    """A link to what somebody looks at shows the same in another window of the browser."""
    first = opened("?environment=shop")
    first.page.locator("table.features a", has_text="checkout").click()
    first.page.locator(".periods a", has_text="7 d").click()
    first.page.locator("#value").wait_for()
    first.page.locator("#value").select_option('"green"')
    until(first.page, "!document.querySelector('table.recent').textContent.includes('blue')")
    context = browser.new_context(storage_state=first.page.context.storage_state(), viewport=DESKTOP)
    second = watch(context, shop.http_url)
    second.page.goto(first.page.url)
    settled(second.page)

    assert first.page.locator("main h1").inner_text() == second.page.locator("main h1").inner_text() == "checkout"
    assert "7 d" == second.page.locator(".periods [aria-current]").inner_text()
    assert {'"green"'} == set(second.page.locator("table.recent td.value").all_inner_texts())
    assert [] == second.unexpected()
    context.close()


def test_unknown_names(opened: Callable[..., Watched]) -> None:
    """Names that do not exist stand there with the feature that was likely meant, which is one press away."""
    watched = opened("?environment=shop")
    page = watched.page
    page.locator(".views a", has_text="Unknown names").click()
    row = page.locator("table.unknown tbody tr")
    row.wait_for()
    watched.shoot("unknown")

    assert ["Checkout"] == names(page, "unknown")
    assert ("7", "shop-sdk 2.1") == (row.locator(".evaluations").inner_text(), row.locator(".sdk").inner_text())
    row.locator("a", has_text="checkout").click()
    page.locator("h1", has_text="checkout").wait_for()
    assert ["checkout"] == query(page)["feature"]


def test_intake(opened: Callable[..., Watched]) -> None:
    """Intake tells what came in, what was not recorded and why, and how far the store is behind."""
    watched = opened("?environment=shop&view=intake")
    page = watched.page
    watched.shoot("intake")

    assert ("7", "3", "90 days") == tuple(figure(page, label) for label in ("Filtered", "Rejected", "Kept for"))
    assert "Entries" == page.locator("table.rejections th.evaluations").inner_text()
    assert int(figure(page, "Recorded")) >= sum(SEEN.values())
    assert "evaluation_timestamp" in page.locator("table.rejections").inner_text()
    assert re.fullmatch(r"[\d.,]+ / s", figure(page, "Rate"))
    page.locator("a", has_text="See which names").click()
    page.locator("table.unknown").wait_for()


def test_custom_period(opened: Callable[..., Watched]) -> None:
    """A period of one's own is in the address, to the minute."""
    page = opened("?environment=shop").page
    page.locator(".periods button").click()
    page.locator("input[name=from]").fill("2026-01-02T03:04")
    page.locator("input[name=to]").fill("2026-01-03T03:04")
    page.locator("form.custom button").click()
    page.locator(".note").wait_for()

    assert (["2026-01-02T03:04:00.000Z"], ["2026-01-03T03:04:00.000Z"]) == (query(page)["from"], query(page)["to"])
    page.locator(".periods a", has_text="24 h").click()
    page.locator("table.features tbody tr:not(.still)").first.wait_for()
    assert not {"from", "to", "period"} & set(query(page))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
def test_sizes_and_schemes(opened: Callable[..., Watched], device: str, scheme: str) -> None:
    """On a desk and on a phone, light and dark, every view fits the width of the screen, in the colours that were asked for."""
    watched = opened("?environment=shop", viewport=PHONE if device == "phone" else DESKTOP, color_scheme=scheme)
    page = watched.page
    for name, address in {
        "features": "?environment=shop",
        "feature": "?environment=shop&feature=checkout",
        "unknown": "?environment=shop&view=unknown",
        "intake": "?environment=shop&view=intake",
        "custom": "?environment=shop&period=custom&from=2026-01-02T03:04:00Z&to=2026-01-03T03:04:00Z",
    }.items():
        page.goto(urlsplit(page.url)._replace(query=address[1:]).geturl())
        settled(page)
        watched.shoot(f"{name}-{device}-{scheme}")
        width, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width <= window, name
    channels = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert (scheme == "dark") == (max(map(int, channels)) < 100)
