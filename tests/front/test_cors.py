from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from flagledger.catalog.base import Environment
from flagledger.catalog.policy import Policy
from flagledger.errors import FlagledgerError, Reason
from flagledger.front.cors import CrossOrigin
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Message

SHOP = "https://shop.example"
BLOG = "https://blog.example"
EVIL = "https://evil.example"
HEADERS = (
    "content-type, idempotency-key, x-environment-key, flagsmith-sdk-user-agent, flagsmith-application-name, "
    "flagsmith-application-version"
)


class Site:
    """What answers behind the middleware, and the environments before it."""

    def __init__(self, *origins: set[str] | None) -> None:
        self.asked = 0
        self.failing = False
        self.environments: Mapping[str, Environment] = {}
        self.list(*origins)
        self.app = CrossOrigin(PlainTextResponse("answered", 202), self._known)

    def list(self, *origins: set[str] | None) -> None:
        """Declare an environment for each of *origins*."""
        self.environments = {
            str(number): Environment(
                name=str(number),
                features=None,
                policy=Policy(origins=None if listed is None else frozenset(listed)),
            )
            for number, listed in enumerate(origins)
        }

    async def _known(self) -> Mapping[str, Environment]:
        self.asked += 1
        if self.failing:
            raise FlagledgerError(Reason.CATALOG_UNREACHABLE, "The catalog does not answer.")
        return self.environments

    async def ask(self, method: str, **headers: str) -> tuple[int, Headers]:
        """Send a request, and return status and headers of the answer."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request"}

        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await self.app({"type": "http", "method": method, "headers": given}, receive, send)
        return sent[0]["status"], Headers(raw=sent[0]["headers"])

    async def preflight(self, origin: str) -> tuple[int, Headers]:
        """Ask whether a page of *origin* may send a batch."""
        return await self.ask(
            "OPTIONS",
            origin=origin,
            access_control_request_method="POST",
            access_control_request_headers=HEADERS,
        )


def allowed(headers: Headers) -> str | None:
    """Return whom an answer lets read it."""
    return headers.get("access-control-allow-origin")


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ([], {SHOP: "*", EVIL: "*"}),
        ([None, None], {SHOP: "*", EVIL: "*"}),
        ([None, {SHOP}], {SHOP: SHOP, EVIL: EVIL, "null": "null"}),
        ([{SHOP}, {BLOG}], {SHOP: SHOP, BLOG: BLOG, EVIL: None, "null": None}),
        ([set()], {SHOP: None}),
    ],
)
async def test_who_may_send(origins: list[set[str] | None], expected: dict[str, str | None]) -> None:
    """A page may send that any environment takes: told by name once any of them lists its origins, and with `*` before."""
    site = Site(*origins)
    for origin, answer in expected.items():
        status, headers = await site.preflight(origin)
        posted, answered = await site.ask("POST", origin=origin)

        assert (200 if answer else 400, answer) == (status, allowed(headers))
        assert (202, answer) == (posted, allowed(answered))
        assert "Origin" in headers["vary"]
        assert "Origin" == answered["vary"]


async def test_what_may_be_sent_and_read() -> None:
    """Every header that SDKs set may be sent, and those of an answer that they go by may be read."""
    for site in (Site(), Site({SHOP})):
        status, preflight = await site.preflight(SHOP)
        _, answer = await site.ask("POST", origin=SHOP)

        assert (200, HEADERS) == (status, preflight["access-control-allow-headers"])
        assert {"POST", "GET", "DELETE"} <= set(preflight["access-control-allow-methods"].split(", "))
        assert "Retry-After" in answer["access-control-expose-headers"].split(", ")
        assert "access-control-allow-credentials" not in preflight


async def test_no_page_no_question() -> None:
    """A request without an origin costs no look at the environments, and is answered."""
    site = Site({SHOP})

    status, headers = await site.ask("POST")

    assert (202, None, 0) == (status, allowed(headers), site.asked)


async def test_changes_are_followed() -> None:
    """An origin that is listed later passes from then on, and one that is taken out does not."""
    site = Site(None)
    before = allowed((await site.preflight(EVIL))[1])
    site.list({SHOP})
    during = [allowed((await site.preflight(origin))[1]) for origin in (SHOP, EVIL)]
    site.list({BLOG})
    after = [allowed((await site.preflight(origin))[1]) for origin in (SHOP, BLOG)]

    assert ("*", [SHOP, None], [None, BLOG]) == (before, during, after)


async def test_a_catalog_that_is_away() -> None:
    """While the environments cannot be told, what was known last holds; where nothing ever was, any page may send."""
    known, unknown = Site({SHOP}), Site({SHOP})
    await known.preflight(SHOP)
    known.failing = unknown.failing = True

    assert [SHOP, None] == [allowed((await known.preflight(origin))[1]) for origin in (SHOP, EVIL)]
    assert "*" == allowed((await unknown.preflight(EVIL))[1])


async def test_answers_keep_their_own_vary() -> None:
    """What an answer varies by already, it still varies by."""
    site = Site({SHOP})
    site.app = CrossOrigin(PlainTextResponse("answered", headers={"Vary": "Accept-Encoding"}), site._known)

    assert "Accept-Encoding, Origin" == (await site.ask("GET", origin=SHOP))[1]["vary"]


async def test_a_catalog_that_hangs() -> None:
    """Where the environments do not come, a page is answered by what was known before, and soon."""
    site = Site({SHOP})
    await site.preflight(SHOP)

    async def never() -> Mapping[str, Environment]:
        await asyncio.Event().wait()
        return {}

    site.app._environments = never
    async with asyncio.timeout(10):
        answers = [allowed((await site.preflight(origin))[1]) for origin in (SHOP, EVIL)]

    assert [SHOP, None] == answers
