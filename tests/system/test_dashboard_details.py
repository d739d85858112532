"""What the dashboard shows of data that is long, sparse, summed up, or not there: on a desk and on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from support.browser import DESKTOP, PHONE, Watched, until
from support.reading import wait_for_total
from support.server import RunningServer
from system.conftest import SEEN, evaluation, query, send, settled

pytestmark = pytest.mark.system

SPARSE_HOURS = (2, 5, 9, 10)
LONG = 4 * 3 + 1
OTHER_SDK = "some-rather-long-named-sdk-of-another-language/2026.11.25-beta.1"


@pytest.fixture(scope="module", autouse=True)
def _sent(shop: RunningServer) -> None:
    """Record what is hard to show, in features that the other tests of the dashboard know as evenly used."""
    now = datetime.now(UTC)
    values = ["a description " * 60, {"key": "x" * 500}, "y" * 5000, "short"]
    segments = ["a_segment_of_a_very_long_name_that_goes_on_and_on_and_on_and_on"]
    identity = "3f2b1c9e-2b9d-4a55-9f17-0c8d5b7e6a11"
    send(
        shop,
        "shop",
        *(
            evaluation(
                "old_banner", number, value=value, segment_names=segments, identity_identifier=identity, count=70
            )
            for value in values
            for number in range(3)
        ),
        evaluation("new_dashbord", 1),
        evaluation("old_banner", 1, evaluation_timestamp=(now - timedelta(days=2)).isoformat()),
        sdk=OTHER_SDK,
    )
    send(
        shop,
        "late",
        *(
            evaluation(
                "checkout", 1, identity_identifier=None, evaluation_timestamp=(now - timedelta(hours=hours)).isoformat()
            )
            for hours in SPARSE_HOURS
        ),
    )
    total = sum(SEEN.values()) + 12 * 70 + 1
    assert total == wait_for_total(shop, total, seconds=10, environment="shop")
    late = len(SPARSE_HOURS) + 1
    assert late == wait_for_total(shop, late, seconds=10, environment="late")


def test_long_on_a_phone(opened: Callable[..., Watched]) -> None:
    """On a phone nothing long pushes anything out of sight: value, whether enabled, identity and count of each evaluation."""
    watched = opened("?environment=shop&feature=old_banner&period=7d", viewport=PHONE)
    page = watched.page
    watched.shoot("long-phone")
    headers = page.locator("table.recent thead th:visible")
    edges = headers.evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().right)")

    assert PHONE["width"] >= page.evaluate("document.documentElement.scrollWidth")
    assert ["Time", "Value", "On", "Identity", "Count"] == headers.all_inner_texts()
    assert max(edges) < PHONE["width"]
    assert "70" == page.locator("table.recent td.count").first.inner_text()
    times = page.locator("table.recent tbody time").all_inner_texts()
    assert LONG == len([text for text in times if re.fullmatch(r"\d{4}-\d\d-\d\d\s+\d\d:\d\d:\d\d", text)])


def test_long_on_a_desk(opened: Callable[..., Watched]) -> None:
    """On a desk every column of the recent evaluations is in sight, and one long value does not stretch the figures."""
    page = opened("?environment=shop&feature=old_banner&period=7d", viewport=DESKTOP).page
    page.locator("[data-key=chart-values] summary").click()
    page.locator("[data-key=chart-values] tbody tr").first.wait_for()
    room = "(all) => all.map((one) => one.scrollWidth - one.clientWidth)"

    assert "SDK" in page.locator("table.recent thead th").all_inner_texts()
    assert [0] * 4 == page.locator(".scroll").evaluate_all(room)
    assert ["", '"short"', '"blue"'] == page.locator("#value option").evaluate_all(
        "(all) => all.map((one) => one.value).filter((value) => value.length < 40)"
    ), "the digest of a value that is longer than a filter may be is no choice"


def test_names_stay_whole(opened: Callable[..., Watched]) -> None:
    """On a phone a name breaks behind its separators, and not within a word."""
    page = opened("?environment=shop&view=unknown", viewport=PHONE).page
    links = page.locator("table.unknown .match a")
    lines = """(all) => all.flatMap((one) => [...one.childNodes]
        .filter((part) => part.nodeType === Node.TEXT_NODE)
        .map((part) => {
            const range = document.createRange();
            range.selectNode(part);
            return range.getClientRects().length;
        }))"""

    assert ["checkout", "new_dashboard"] == sorted(links.all_inner_texts())
    assert [1, 1, 1] == links.evaluate_all(lines)


def test_no_identities(opened: Callable[..., Watched]) -> None:
    """Where no identities were sent a sentence says so, in place of an empty chart."""
    page = opened("?environment=late&feature=checkout").page
    chart = page.locator("[data-key=chart-identities]")

    assert "No identities were sent." == chart.locator(".none").inner_text()
    assert 0 == chart.locator("svg, details").count()
    assert 1 == page.locator("[data-key=chart-values] svg.plot").count()


def test_gaps(opened: Callable[..., Watched]) -> None:
    """The enabled share goes on over hours without evaluations, dashed, with a dot where an hour stands alone."""
    watched = opened("?environment=late&feature=checkout")
    chart = watched.page.locator("[data-key=chart-enabled]")
    watched.shoot("gaps")
    bridge = chart.locator("path.bridge").get_attribute("d") or ""

    assert len(SPARSE_HOURS) == len(re.findall("[ML]", bridge))
    assert 2 == chart.locator("circle.dot").count()
    assert "Dashed where there are no evaluations." in chart.inner_text()


def test_days_of_the_axis(opened: Callable[..., Watched]) -> None:
    """The labels of an axis of days are equally far apart, across the end of a month too."""
    page = opened("?environment=late&feature=checkout&period=30d").page
    places = page.locator("[data-key=chart-values] text.mark").evaluate_all(
        "(all) => all.map((one) => Number(one.getAttribute('x')))"
    )
    apart = [later - earlier for earlier, later in pairwise(places)]

    assert 10 == len(places)
    assert [pytest.approx(apart[0])] * 9 == apart


def test_narrowed_to_a_segment_and_an_sdk(opened: Callable[..., Watched]) -> None:
    """A segment and an SDK narrow the recent evaluations at a press, into the address, and let go of them again."""
    page = opened("?environment=shop&feature=checkout").page
    rows = "document.querySelectorAll('table.recent tbody tr').length"
    page.locator("table.segments a", has_text="premium").click()
    until(
        page, "[...document.querySelectorAll('table.recent td.segments')].every((one) => one.textContent === 'premium')"
    )
    page.locator("table.sdks a", has_text="shop-sdk 2.1").click()
    page.locator(".narrowed", has_text="shop-sdk 2.1").wait_for()
    settled(page)

    assert (["premium"], ["shop-sdk"], ["2.1"]) == tuple(query(page)[name] for name in ("segment", "sdk", "version"))
    assert ["segment premium", "shop-sdk 2.1"] == [
        text.rpartition(" ")[0] for text in page.locator(".narrowed").all_inner_texts()
    ]
    assert "segment_name=premium" in (page.locator(".downloads a").first.get_attribute("href") or "")
    assert 25 == page.evaluate(rows)
    page.goto(page.url.replace("version=2.1", "version=2.2"))
    page.locator(".none a", has_text="Show all").click()
    until(page, f"{rows} === 25")
    assert not {"segment", "sdk", "version"} & set(query(page))
