from __future__ import annotations

import pytest
from flagledger.catalog.document import CatalogError
from flagledger.catalog.policy import Policies, Policy
from flagledger.catalog.sources import check_source, declared_environments
from flagledger.front.cors import CrossOrigin
from starlette.responses import PlainTextResponse
from starlette.types import Message

SHOP, BLOG = "https://shop.example", "https://blog.example"


async def preflight(app: CrossOrigin, origin: str) -> int:
    """Return the status of a preflight."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    headers = [(b"origin", origin.encode()), (b"access-control-request-method", b"POST")]
    await app({"type": "http", "method": "OPTIONS", "headers": headers}, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(("others", "blog"), [(Policy(), 200), (Policy(origins=frozenset({SHOP})), 400)])
async def test_pages_of_environments_that_nobody_has_met(others: Policy, blog: int) -> None:
    """A page of a Flagsmith's environment may send before anything was sent for it: what is declared decides, and alone."""
    policies = Policies(named={"shop": Policy(origins=frozenset({SHOP}))}, others=others)
    app = CrossOrigin(PlainTextResponse("answered"), declared_environments(policies))

    assert (200, blog) == (await preflight(app, SHOP), await preflight(app, BLOG))


def test_a_url_that_no_database_has() -> None:
    """A URL that the database's library does not take is refused at the start, and nothing of it is repeated."""
    with pytest.raises(CatalogError) as caught:
        check_source("postgresql://flagledger:secret@db/flagsmith?nonsense=1")

    assert "secret" not in str(caught.value)
    check_source("postgresql://flagledger:secret@db/flagsmith")
    check_source("file:environments.toml")
