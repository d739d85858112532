"""What the dashboard shows of environments that have another name for people, and that keep less than everything."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from support.browser import Watched
from system.conftest import figure, query, settled

pytestmark = pytest.mark.system

Change = Callable[[dict[str, Any]], None]


def changing(watched: Watched, question: str, change: Change) -> None:
    """Let the page have the answers to *question* that the service gives, but for a *change*."""

    def answer(route: Any) -> None:
        response = route.fetch()
        content = response.json()
        change(content)
        route.fulfill(response=response, json=content)

    watched.page.route(re.compile(rf"/api/v2/analytics/{question}(\?|$)"), answer)


def called(**names: str) -> Change:
    """Return a change that gives environments the names by which people call them."""

    def change(answer: dict[str, Any]) -> None:
        for environment in answer["environments"]:
            environment["display_name"] = names.get(environment["name"], "")

    return change


def keeping(**fields: Any) -> Change:
    """Return a change of what every environment keeps."""

    def change(answer: dict[str, Any]) -> None:
        for environment in answer["environments"]:
            environment.update(fields)

    return change


def out_of_a_sample(answer: dict[str, Any]) -> None:
    """Call the identities of *answer* a lower bound."""
    answer["identities_lower_bound"] = True
    for feature in answer.get("features", ()):
        feature["identities_lower_bound"] = True


def loaded(watched: Watched, address: str) -> str:
    """Load another address of the page, and return the text of what it shows."""
    page = watched.page
    page.goto(page.url.partition("?")[0] + address)
    settled(page)
    return page.locator("main").inner_text()


def test_what_people_call_it(opened: Callable[..., Watched]) -> None:
    """The page shows what people call an environment, told from others that are called so, and keeps its name in the address."""
    watched = opened("?environment=shop")
    page = watched.page
    changing(watched, "environments", called(shop="Web shop", late="Twin", fresh="Twin", hostile="shop"))
    shown = loaded(watched, "?environment=shop")
    options = page.locator(".environment option")

    assert shown.startswith("Features of Web shop\n")
    assert "Web shop · Flagledger" == page.title()
    assert ["Twin (fresh)", "shop", "Twin (late)", "Web shop"] == options.all_inner_texts()
    assert ["fresh", "hostile", "late", "shop"] == options.evaluate_all("(all) => all.map((one) => one.value)")
    page.locator(".environment select").select_option(label="Twin (late)")
    page.locator("h1", has_text="Features of Twin (late)").wait_for()
    assert ["late"] == query(page)["environment"]
    watched.shoot("called")
    missing = loaded(watched, "?environment=Twin")
    assert "Twin (fresh)\nshop\nTwin (late)\nWeb shop" in missing


@pytest.mark.parametrize("address", ["?environment=shop", "?environment=shop&feature=checkout"])
def test_what_is_kept_is_told(opened: Callable[..., Watched], address: str) -> None:
    """Where identities are pseudonyms, not kept, or out of a sample, that is said above them, and where not, it is not."""
    watched = opened(address)
    page = watched.page
    kept = page.locator("[data-key=kept]")
    told = [kept.count()]
    for fields in (
        {"identity_policy": "hash", "sample_rate": 1},
        {"identity_policy": "drop", "sample_rate": 1},
        {"identity_policy": "plain", "sample_rate": 0.001},
    ):
        changing(watched, "environments", keeping(**fields))
        loaded(watched, address)
        told.append(kept.inner_text())

    assert [
        0,
        "Identities are kept as pseudonyms: the search finds one by the identity itself.",
        "Identities are not kept.",
        "One of 1,000 evaluations is kept, and stands for all of them: of identities ≥ tells a lower bound.",
    ] == told


def test_lower_bounds(opened: Callable[..., Watched]) -> None:
    """Identities out of a sample have a mark of their own wherever they are counted; evaluations have none."""
    watched = opened("?environment=shop")
    page = watched.page
    for question in ("features", "counts"):
        changing(watched, question, out_of_a_sample)
    loaded(watched, "?environment=shop&period=7d")
    row = page.locator("table.features tbody tr", has_text="checkout")
    cells = [row.locator(f".{name}").inner_text() for name in ("evaluations", "identities")]
    watched.shoot("lower-bounds")
    loaded(watched, "?environment=shop&feature=checkout&period=7d")

    assert ["120", "≥ 50"] == cells
    assert "≥ 50" == figure(page, "Identities")
    assert "out of a sample" in page.locator(".tiles").inner_text()
    assert "≥ 50" in page.locator("[data-key=chart-identities]").inner_text()


def test_intake_of_a_sample(opened: Callable[..., Watched]) -> None:
    """What was left out of a sample, and events of other kinds, are told where there are any, and count in the shares."""
    watched = opened("?environment=shop&view=intake")
    page = watched.page
    beside = page.locator("[data-key=beside]")
    before = beside.count()
    changing(watched, "intake", lambda answer: answer.update(sampled_out_count=2_300, foreign_event_count="7"))
    loaded(watched, "?environment=shop&view=intake")
    watched.shoot("intake-of-a-sample")
    recorded = int(figure(page, "Recorded").replace(",", ""))
    received = recorded + 2_300 + sum(int(figure(page, label)) for label in ("Filtered", "Rejected"))

    share = f"{100 * 2_300 / received:.1f} % of what came in"

    assert 0 == before
    assert (
        f"2,300 entries, {share}, were left out of the sample: the recorded ones stand for them. "
        "7 events of other kinds came beside them, and are not kept."
    ) == beside.inner_text()
    assert f"{100 * recorded / received:.1f} % of what came in" in page.locator(".tiles").inner_text()
