"""Released browser SDKs, unmodified, in a real Chromium, in pages of another origin than what they speak to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from sdks.beside import Beside
from sdks.conftest import key_of
from sdks.installed import node_modules
from sdks.pages import Pages
from support.browser import Watched, chromium, until, watch
from support.reading import evaluations, get

pytestmark = pytest.mark.system

COUNTS = "/api/v1/analytics/flags/"
COUNT = """
for (let i = 0; i < 3; i++) console.assert(flagsmith.hasFeature("checkout"));
console.assert(flagsmith.getValue("dark_mode") === "dark");
console.assert(!flagsmith.hasFeature("no_such_flag"));
console.assert(flagsmith.hasFeature("Dark Mode"));
"""
EXPOSE = """
flagsmith.trackEvent("purchase", { identifier: "user_123", value: 12.5 });
await flagsmith.flushEvents();
"""
REPORT_SECONDS = 20.0
REFUSED = "the server responded with a status of 403"
BLOCKED = ("has been blocked by CORS policy", "net::ERR_FAILED")


def wait(watched: Watched, happened: Callable[[Watched], bool]) -> None:
    """Let the page go on until something has happened, for longer than it takes an SDK to report by itself."""
    deadline = time.monotonic() + REPORT_SECONDS
    while not happened(watched):
        assert time.monotonic() < deadline, f"nothing in {REPORT_SECONDS:.0f} s, but {watched.faults}"
        watched.page.wait_for_timeout(100)


@pytest.fixture(scope="module")
def visited(
    request: pytest.FixtureRequest, beside: Beside, served_pages: Pages
) -> Iterator[dict[str, tuple[Watched, str]]]:
    """
    Open every page, and return each with its origin once its SDK has sent what it had.

    They report counts every ten seconds of their own accord: all wait together.
    """
    served_pages.installed = node_modules(request.config.cache)
    counting = {name: beside.block("browser.mjs", key_of(name)) + COUNT for name in ("browser", "elsewhere")}
    older = beside.block("browser.mjs", key_of("browser-10")) + COUNT
    scripts = {
        **counting,
        "browser-10": older.replace('"@flagsmith/flagsmith"', '"flagsmith"'),
        "browser-events": beside.block("browser_events.mjs", key_of("browser-events")) + EXPOSE,
        # Its key is that of `browser`; its origin is in no list.
        "stranger": beside.block("browser.mjs", key_of("browser")) + COUNT,
    }
    served_pages.scripts = {f"/{name}": script for name, script in scripts.items()}
    opened: dict[str, tuple[Watched, str]] = {}
    with chromium() as browser:
        for name in scripts:
            origin = served_pages.url_by_name if name == "stranger" else served_pages.url
            watched = watch(browser.new_context(), origin)
            watched.expected += [f"a request to {url}" for url in beside.addresses.values()]
            opened[name] = (watched, origin)
            watched.page.goto(f"{origin}/{name}")
            until(watched.page, "window.done === true")
        for name in ("browser", "browser-10", "elsewhere"):
            wait(opened[name][0], lambda _, name=name: bool(beside.front.reports(key_of(name))))
        wait(opened["stranger"][0], lambda watched: any(BLOCKED[0] in fault for fault in watched.faults))
        yield opened


@pytest.mark.parametrize(("environment", "version"), [("browser", "12.4.0"), ("browser-10", "10.0.0")])
def test_counts(beside: Beside, visited: dict[str, tuple[Watched, str]], environment: str, version: str) -> None:
    """Through a front at `api` counts come here, after a preflight that Flagledger answers; the console stays empty."""
    watched, origin = visited[environment]
    recorded = beside.recorded(environment, total=4)
    [report] = beside.front.reports(key_of(environment))
    preflights = [
        one
        for one in beside.front.passed
        if one.method == "OPTIONS" and one.path == COUNTS and one.headers["origin"] == origin
    ]

    assert [("checkout", 3), ("dark_mode", 1)] == [(one["feature_name"], one["count"]) for one in recorded]
    for one in recorded:
        assert (None, None) == (one.get("enabled"), one.get("identity_identifier"))
        assert ("flagsmith-js-sdk", version) == (one["sdk_name"], one["sdk_version"])
    assert ("flagledger", 200, origin) == (report.server, report.status, report.answer["access-control-allow-origin"])
    for preflight in preflights:
        assert ("flagledger", 200, origin) == (
            preflight.server,
            preflight.status,
            preflight.answer["access-control-allow-origin"],
        )
        assert {"content-type", "flagsmith-sdk-user-agent", "x-environment-key"} == set(
            preflight.headers["access-control-request-headers"].split(",")
        )
    assert 3 == len(preflights), "of both SDKs, and of the page whose key is for others"
    assert [] == watched.unexpected()


def test_names_that_do_not_exist(beside: Beside, visited: dict[str, tuple[Watched, str]]) -> None:
    """What an application asks for and Flagsmith does not have is told, also where the SDK itself finds it under another name."""
    beside.recorded("browser", total=4)
    unknown = get(beside.flagledger, "/api/v2/analytics/unknown-features", environment="browser")

    assert ["Dark Mode", "no_such_flag"] == sorted(one["feature_name"] for one in unknown["unknown_features"])


def test_exposures(beside: Beside, visited: dict[str, tuple[Watched, str]]) -> None:
    """`eventsApiUrl` alone sends exposures here, straight from the page; the console stays empty."""
    watched, _ = visited["browser-events"]
    [recorded] = beside.recorded("browser-events", total=1)

    assert ("checkout", "user_123", "variant_a", "variant_a") == tuple(
        recorded[name] for name in ("feature_name", "identity_identifier", "variant", "value")
    )
    assert [{"trait_key": "plan", "trait_value": "pro"}] == recorded["identity_traits"]
    assert ("flagsmith-js-sdk", "12.4.0") == (recorded["sdk_name"], recorded["sdk_version"])
    assert [] == watched.unexpected()


def test_key_for_other_origins(beside: Beside, visited: dict[str, tuple[Watched, str]]) -> None:
    """A page whose origin the key's environment does not list is refused, and nothing of it is kept."""
    watched, _ = visited["elsewhere"]
    [report, *_] = beside.front.reports(key_of("elsewhere"))

    assert ("flagledger", 403) == (report.server, report.status)
    assert [] == list(evaluations(beside.flagledger, environment="elsewhere"))
    assert any(REFUSED in fault for fault in watched.unexpected())
    watched.expected.append(REFUSED)
    assert [] == watched.unexpected()


def test_unlisted_origin(beside: Beside, visited: dict[str, tuple[Watched, str]]) -> None:
    """A page whose origin no environment lists is kept back by its browser, before anything of it is sent."""
    watched, origin = visited["stranger"]
    [preflight, *_] = [one for one in beside.front.passed if one.path == COUNTS and one.headers.get("origin") == origin]

    assert ("flagledger", "OPTIONS", 400) == (preflight.server, preflight.method, preflight.status)
    assert "access-control-allow-origin" not in preflight.answer
    assert origin not in {one.headers.get("origin") for one in beside.front.passed if one.method == "POST"}
    watched.expected += BLOCKED
    assert [] == watched.unexpected()
