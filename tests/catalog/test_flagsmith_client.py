from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import uvloop
from flagledger.catalog import flagsmith_client
from flagledger.catalog.flagsmith_client import (
    Document,
    FlagsmithClient,
    NotFlagsmithError,
    Refusal,
    can_be_carried,
)
from flagledger.errors import FlagledgerError, Reason
from support.flagsmith_stub import FlagsmithStub, StubFeature, flagsmith_stub

CLIENT = "client-key-of-one"
SERVER = "ser.server-key-of-one"


@pytest.fixture
def stub() -> Iterator[FlagsmithStub]:
    """Run a Flagsmith with one environment."""
    with flagsmith_stub() as stub:
        stub.environment(CLIENT, SERVER, features=("shown", StubFeature("hidden", server_key_only=True)))
        yield stub


@pytest.fixture
async def client(stub: FlagsmithStub) -> AsyncIterator[FlagsmithClient]:
    """Ask it."""
    client = FlagsmithClient(stub.url)
    yield client
    await client.close()


async def document(client: FlagsmithClient, since: str | None = None) -> Document:
    """Return the document."""
    answer = await client.document(SERVER, since=since)
    assert isinstance(answer, Document)
    return answer


async def failure(client: FlagsmithClient) -> FlagledgerError:
    """Return what both questions fail with; whoever reads it learns no key."""
    errors = []
    for question in (client.document(SERVER), client.prove(CLIENT)):
        with pytest.raises(FlagledgerError) as caught:
            await question
        errors.append(caught.value)
        assert caught.value.reason is Reason.CATALOG_UNREACHABLE
        assert not any(key in str(caught.value) for key in (CLIENT, SERVER))
    assert errors[0].message == errors[1].message
    return errors[0]


async def test_a_document_says_what_there_is(client: FlagsmithClient) -> None:
    """A server key opens the document with the client key, the names, and every feature."""
    answer = await document(client)

    assert (CLIENT, "Shop / Production", {"shown", "hidden"}, False) == (
        answer.client_key,
        answer.display_name,
        answer.features,
        answer.stopped,
    )


async def test_a_document_is_asked_for_conditionally(stub: FlagsmithStub, client: FlagsmithClient) -> None:
    """With what the last one said, only a change is answered."""
    first = await document(client)
    same = await client.document(SERVER, since=first.last_modified)
    stub.environments[0].add("new")
    changed = await document(client, since=first.last_modified)

    assert (None, 1) == (same, stub.unchanged)
    assert {"shown", "hidden", "new"} == changed.features


async def test_a_document_changed_just_now_is_no_condition(stub: FlagsmithStub, client: FlagsmithClient) -> None:
    """Two changes within one second of `Last-Modified` are both seen."""
    stub.environments[0].add("one")
    first = await document(client)
    stub.environments[0].add("two")
    stub.environments[0].updated_at = int(stub.environments[0].updated_at)

    assert "two" in (await document(client, since=first.last_modified)).features


async def test_keys_that_are_refused(stub: FlagsmithStub, client: FlagsmithClient) -> None:
    """A wrong key, no key, and a client key where a server key is asked for are refused; a stopped organisation is told."""
    wrong = (await client.prove("wrong"), await client.prove(""), await client.document("ser.wrong"))
    misplaced = await client.document(CLIENT)
    right = await client.prove(CLIENT), await client.prove(SERVER)
    stub.environments[0].stop_serving_flags = True
    stopped = await client.prove(CLIENT), await client.document(SERVER)

    assert (Refusal.UNKNOWN,) * 3 == wrong
    assert Refusal.UNKNOWN is misplaced
    assert (None, None) == right
    assert (Refusal.STOPPED,) * 2 == stopped


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (500, "answered with 500. Try again later."),
        (503, "answered with 503. Try again later."),
        (429, "answered with 429. Try again later."),
    ],
)
async def test_what_passes_is_no_answer(
    stub: FlagsmithStub, client: FlagsmithClient, broken: int, said: str
) -> None:  # fmt: skip
    """A Flagsmith that is down or busy says nothing of a key."""
    stub.broken = broken
    error = await failure(client)

    assert f"The API of the Flagsmith {said}" == error.message
    assert not isinstance(error, NotFlagsmithError)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (404, "answered with 404 and JSON"),
        (400, "answered with 400 and JSON"),
        (202, "answered with 202 and JSON"),
        ("html", "answered with 200 and HTML"),
        ("html 403", "answered with 403 and HTML"),
        ("json 403", "answered with 403 and JSON that is not its own"),
        ("redirect", "answered with a redirect (302), which is not followed"),
    ],
)
async def test_what_is_no_flagsmith_is_no_answer(
    stub: FlagsmithStub, client: FlagsmithClient, broken: int | str, said: str
) -> None:
    """A page, a path that is not there, a gate before it: neither proves a key nor refuses it, and no redirect is followed."""
    stub.broken = broken
    error = await failure(client)

    assert isinstance(error, NotFlagsmithError)
    assert said in error.message
    assert {"GET /api/v1/environment-document/", "GET /api/v1/flags/"} == set(stub.asked)


@pytest.mark.parametrize("broken", ["not json", "empty document", "broken off"])
async def test_a_document_that_is_none_is_no_answer(
    stub: FlagsmithStub, client: FlagsmithClient, broken: str
) -> None:  # fmt: skip
    """What cannot be read as a document changes nothing."""
    stub.broken = broken
    with pytest.raises(FlagledgerError) as caught:
        await client.document(SERVER)

    assert Reason.CATALOG_UNREACHABLE is caught.value.reason


@pytest.mark.parametrize(
    "change",
    [
        {"api_key": None},
        {"api_key": "two words"},
        {"feature_states": None},
        {"feature_states": [{"feature": {"name": 5}}]},
        {"feature_states": [{"feature": "name"}]},
        {"project": None},
        {"project": {"name": "Shop", "organisation": None}},
    ],
)
async def test_a_document_that_lacks_something_is_no_answer(
    stub: FlagsmithStub, client: FlagsmithClient, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document without its client key or the names of its features is not taken in part."""
    whole = {"api_key": CLIENT, "name": "n", "project": {"name": "Shop"}, "feature_states": []}
    monkeypatch.setattr("support.flagsmith_stub.document_of", lambda _: {**whole, **change})
    with pytest.raises(NotFlagsmithError):
        await client.document(SERVER)


async def test_a_body_is_bounded(
    stub: FlagsmithStub, client: FlagsmithClient, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A document without end is given up, and `/flags/` is not even read."""
    stub.environments[0].add(*(f"feature-{number}" for number in range(1000)))
    monkeypatch.setattr(flagsmith_client, "_MAX_BODY_BYTES", 10_000)
    with pytest.raises(FlagledgerError, match="more than 10,000 bytes"):
        await client.document(SERVER)

    assert await client.prove(CLIENT) is None


async def test_a_slow_flagsmith_is_given_up(stub: FlagsmithStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that does not come in time is none."""
    monkeypatch.setattr(flagsmith_client, "_TOTAL_SECONDS", 0.2)
    stub.delay = 5.0
    client = FlagsmithClient(stub.url)
    began = time.monotonic()
    error = await failure(client)
    await client.close()

    assert "The API of the Flagsmith did not answer in time. Try again later." == error.message
    assert time.monotonic() - began < 5.0


async def test_where_nobody_listens(stub: FlagsmithStub, client: FlagsmithClient) -> None:
    """A Flagsmith that was killed is no answer, also on a connection that was open; when it is back it is asked again."""
    await client.prove(CLIENT)
    await document(client)
    stub.stop()
    error = await failure(client)
    stub.start()

    assert "cannot be reached (Connect" in error.message or "broke off" in error.message
    assert await client.prove(CLIENT) is None


async def test_where_a_certificate_cannot_be_trusted(stub: FlagsmithStub) -> None:
    """What speaks no TLS, or shows a certificate of its own making, gets no key."""
    client = FlagsmithClient(stub.url.replace("http:", "https:"))
    error = await failure(client)
    await client.close()

    assert "The API of the Flagsmith showed no certificate that can be trusted. Try again later." == error.message
    assert {} == stub.keys


async def test_where_a_host_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody knows is told as that."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = FlagsmithClient("http://flagsmith.invalid/api/v1/")
    error = await failure(client)
    await client.close()

    assert "The API of the Flagsmith has a host name that is not found. Try again later." == error.message


@pytest.mark.parametrize(
    ("key", "carried"),
    [
        ("k", True),
        ("k" * 512, True),
        ("k" * 513, False),
        ("", False),
        ("a b", False),
        ("a\nb", False),
        ("key\n", False),
        ("ü", False),
        ("\udc80", False),
    ],
)
def test_what_a_header_carries(key: str, carried: bool) -> None:  # noqa: FBT001 - a row of the table
    """Visible ASCII, 512 characters at most."""
    assert carried is can_be_carried(key)


def test_under_uvloop(stub: FlagsmithStub) -> None:
    """The loop that the service runs on serves as well, without the slash at the end of the URL too."""

    async def ask() -> tuple[Refusal | None, bool]:
        client = FlagsmithClient(stub.url.rstrip("/"))
        try:
            return await client.prove(CLIENT), isinstance(await client.document(SERVER), Document)
        finally:
            await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert (None, True) == runner.run(ask())
