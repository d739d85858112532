from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import uvloop
from flagledger.catalog import flagsmith_api, flagsmith_client
from flagledger.catalog.base import Environment, Inventory, Token
from flagledger.catalog.cache import CachedCatalog, Revised
from flagledger.catalog.flagsmith_api import FlagsmithApi
from flagledger.catalog.policy import PLAIN, Policy
from flagledger.errors import FlagledgerError, Reason
from support.flagsmith_stub import FlagsmithStub, StubEnvironment, StubFeature, flagsmith_stub

CLIENT, SERVER, SECOND = "client-key-of-one", "ser.first-key-of-one", "ser.second-key-of-one"
OTHER_CLIENT, OTHER_SERVER = "client-key-of-two", "ser.key-of-two"
TOKEN = "token-of-a-reader"
HASHED = Policy(identity="hash")
FEATURES = frozenset({"shown", "off", "hidden"})
REFRESH_SECONDS = 0.4

Make = Callable[..., FlagsmithApi]


@pytest.fixture
def stub() -> Iterator[FlagsmithStub]:
    """Run a Flagsmith with two environments; one of them hides two features of three from its client key."""
    with flagsmith_stub() as stub:
        one = stub.environment(
            CLIENT,
            SERVER,
            SECOND,
            features=("shown", StubFeature("off", enabled=False), StubFeature("hidden", server_key_only=True)),
        )
        one.hide_disabled_flags = True
        stub.environment(OTHER_CLIENT, OTHER_SERVER, features=("shown",)).name = "Development"
        yield stub


@pytest.fixture
def one(stub: FlagsmithStub) -> StubEnvironment:
    """Return the first environment."""
    return stub.environments[0]


@pytest.fixture
async def make(stub: FlagsmithStub) -> AsyncIterator[Make]:
    """Return what makes a catalog of it, which goes on for as long as the test."""
    made: list[FlagsmithApi] = []

    def catalog(
        *server_keys: str,
        refresh_seconds: float = REFRESH_SECONDS,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> FlagsmithApi:
        made.append(
            FlagsmithApi(
                stub.url,
                server_keys=server_keys,
                tokens={TOKEN: Token(role="read")},
                policy_of=lambda name: HASHED if name == CLIENT else PLAIN,
                refresh_seconds=refresh_seconds,
                on_failure=on_failure,
            )
        )
        return made[-1]

    yield catalog
    for one in made:
        await one.close()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait for *condition*."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def found(catalog: FlagsmithApi | CachedCatalog, key: str, *, fresh: bool = False) -> Environment:
    """Return the environment that *key* reaches."""
    grant = await catalog.lookup(key, fresh=fresh)
    assert grant is not None
    assert grant.is_server is key.startswith("ser.")
    return grant.environment


async def holds(catalog: FlagsmithApi | CachedCatalog, key: str) -> bool:
    """Tell whether *key* counts."""
    return await catalog.lookup(key) is not None


async def is_unreachable(question: Awaitable[object]) -> bool:
    """Tell whether *question* was refused since the Flagsmith cannot be asked, and that no key was named."""
    with pytest.raises(FlagledgerError) as caught:
        await question
    assert not any(key in str(caught.value) for key in (CLIENT, SERVER, SECOND, OTHER_CLIENT, OTHER_SERVER))
    return caught.value.reason is Reason.CATALOG_UNREACHABLE


async def test_a_document_speaks_for_both_keys(stub: FlagsmithStub, make: Make) -> None:
    """Client and server key reach one environment, whose name is the client key, with every feature and its policy."""
    catalog = make(SERVER)
    expected = Environment(name=CLIENT, features=FEATURES, display_name="Shop / Production", policy=HASHED)

    assert expected == await found(catalog, CLIENT)
    assert expected == await found(catalog, SERVER)
    assert {CLIENT: expected} == await catalog.environments()
    assert 0 == stub.count("flags/")


async def test_flags_is_no_filter(stub: FlagsmithStub, make: Make) -> None:
    """What `/flags/` hides from a client key counts under that key: by the document, and where there is none by any name."""
    shown = {feature.name for feature in stub.environments[0].shown_to(CLIENT)}
    by_document, by_proof = await found(make(SERVER), CLIENT), await found(make(), CLIENT)

    assert {"shown"} == shown
    assert FEATURES == by_document.features
    assert by_proof.features is None
    assert (CLIENT, HASHED) == (by_proof.name, by_proof.policy)


async def test_a_proven_key_is_told_to_readers(make: Make) -> None:
    """An environment of which only the client key is known can be asked about."""
    catalog = make(SERVER)
    before = await catalog.environments()
    await catalog.lookup(OTHER_CLIENT)

    assert {CLIENT} == set(before)
    assert {CLIENT, OTHER_CLIENT} == set(await catalog.environments())


async def test_a_document_takes_the_place_of_a_proof(make: Make) -> None:
    """Once a server key opens the document, the client key has its features, and what was said before is stale."""
    catalog = make()
    before = await found(catalog, CLIENT)
    generation = catalog.generation
    await found(catalog, SERVER)

    assert before.features is None
    assert FEATURES == (await found(catalog, CLIENT)).features
    assert catalog.generation > generation


async def test_a_server_key_that_a_sender_presents_is_followed(stub: FlagsmithStub, make: Make) -> None:
    """A server key that is not configured opens its document, and is told of changes like one that is."""
    catalog = make()
    first = await found(catalog, OTHER_SERVER)
    stub.environments[1].add("new")

    async def is_known() -> bool:
        return (await found(catalog, OTHER_SERVER)).features == {"shown", "new"}

    await until(is_known)

    assert (OTHER_CLIENT, "Shop / Development", {"shown"}) == (first.name, first.display_name, first.features)
    assert {"shown", "new"} == (await found(catalog, OTHER_CLIENT)).features


async def test_wrong_keys(stub: FlagsmithStub, make: Make) -> None:
    """A wrong key is no key, and leaves nothing behind; one that a header cannot carry is not even asked about."""
    catalog = make(SERVER)
    await catalog.environments()
    wrong = [await catalog.lookup(f"{kind}wrong-{number}") for kind in ("", "ser.") for number in range(50)]
    asked = sum(stub.keys.values())
    uncarriable = [await catalog.lookup(key) for key in ("", "a b", "a\r\nb", "ü", "\udc80", "k" * 513)]

    assert [None] * 100 == wrong
    assert [None] * 6 == uncarriable
    assert asked == sum(stub.keys.values())
    assert ({SERVER}, {CLIENT}) == (set(catalog._followed), set(catalog._environments))


async def test_tokens_are_never_sent_to_the_flagsmith(stub: FlagsmithStub, make: Make) -> None:
    """A token reads, is no key, and goes nowhere where it is sent as one; a client key never reads."""
    catalog = make(SERVER)
    grant = await catalog.lookup(TOKEN, fresh=True)
    read = await catalog.token(TOKEN)
    stub.environments[0].client_key = TOKEN
    stub.environments[0].touch()
    await until(lambda: is_known_name(catalog, TOKEN))

    assert grant is None
    assert TOKEN not in stub.keys
    assert Token(role="read") == read
    assert [None] * 4 == [await catalog.token(text) for text in (TOKEN, CLIENT, "", "t" * 1000)]
    assert await catalog.lookup(TOKEN) is None


async def is_known_name(catalog: FlagsmithApi, name: str) -> bool:
    """Tell whether there is an environment of that name."""
    return name in await catalog.environments()


@pytest.mark.parametrize("broken", [500, 429, 404, "html", "html 403", "redirect"])
async def test_what_cannot_be_found_out_is_not_refused(
    stub: FlagsmithStub, make: Make, broken: int | str
) -> None:  # fmt: skip
    """An unknown key is never taken for a wrong one where the Flagsmith does not say so, and known ones go on."""
    catalog = make(SERVER)
    await catalog.environments()
    stub.broken = broken

    assert await is_unreachable(catalog.lookup(OTHER_CLIENT))
    assert await is_unreachable(catalog.lookup(OTHER_SERVER))
    assert FEATURES == (await found(catalog, CLIENT)).features


@pytest.mark.parametrize("broken", [500, "html", "html 403", "redirect", "not json", "empty document", "broken off"])
async def test_a_failed_poll_keeps_what_was_there(stub: FlagsmithStub, make: Make, broken: int | str) -> None:
    """Whatever is answered in place of a document, keys and features stay, and nothing raises; the failure is reported."""
    failures: list[BaseException] = []
    catalog = make(SERVER, on_failure=failures.append)
    await catalog.environments()
    stub.broken, stub.broken_paths = broken, ("environment-document/",)
    polls = stub.count("environment-document/")

    async def polled_twice() -> bool:
        return stub.count("environment-document/") >= polls + 3

    await until(polled_twice)

    assert FEATURES == (await found(catalog, CLIENT)).features
    assert FEATURES == (await found(catalog, SERVER, fresh=True)).features
    assert {Reason.CATALOG_UNREACHABLE} == {getattr(failure, "reason", None) for failure in failures}
    assert catalog.ready()


async def test_known_keys_go_on_while_the_flagsmith_is_down(stub: FlagsmithStub, make: Make) -> None:
    """Killed, slow, and back: known keys never fail, and then the changes of the meantime count."""
    catalog = make(SERVER)
    await catalog.environments()
    stub.stop()
    await asyncio.sleep(2 * REFRESH_SECONDS)
    down = (await found(catalog, CLIENT)).features, (await found(catalog, SERVER, fresh=True)).features
    is_unknown = await is_unreachable(catalog.lookup(OTHER_CLIENT))
    stub.environments[0].add("new")
    stub.start()

    async def is_known() -> bool:
        return "new" in ((await found(catalog, CLIENT)).features or ())

    await until(is_known)

    assert (FEATURES, FEATURES) == down
    assert is_unknown


async def test_an_unchanged_document_is_not_sent_again(stub: FlagsmithStub, make: Make) -> None:
    """Polls are conditional, and nothing is stale by them."""
    catalog = make(SERVER)
    await catalog.environments()
    generation = catalog.generation

    async def was_unchanged() -> bool:
        return stub.unchanged >= 2

    await until(was_unchanged)

    assert generation == catalog.generation
    assert FEATURES == (await found(catalog, CLIENT)).features


async def test_a_change_makes_what_was_said_stale(one: StubEnvironment, make: Make) -> None:
    """The catalog before it is told of features that come and go by a poll alone, within the interval."""
    cached = CachedCatalog(make(SERVER), refresh_seconds=60, min_fresh_interval=5)
    before = (await found(cached, CLIENT)).features
    one.add("new")
    one.remove("shown")
    began = time.monotonic()

    async def is_known() -> bool:
        return (await found(cached, CLIENT)).features == {"off", "hidden", "new"}

    await until(is_known)
    took = time.monotonic() - began
    await cached.close()

    assert FEATURES == before
    assert took <= REFRESH_SECONDS + 0.2


async def test_a_removed_server_key_ends_within_the_interval(one: StubEnvironment, make: Make) -> None:
    """The key that was removed is refused, and the environment's other keys go on with its features."""
    catalog = make(SERVER, SECOND)
    cached = CachedCatalog(catalog, refresh_seconds=REFRESH_SECONDS, min_fresh_interval=5)
    assert await holds(cached, SERVER)
    one.server_keys.remove(SERVER)
    began = time.monotonic()

    async def is_gone() -> bool:
        assert await holds(cached, SECOND)
        assert FEATURES == (await found(cached, CLIENT)).features
        return not await holds(cached, SERVER)

    await until(is_gone)
    took = time.monotonic() - began
    one.add("new")

    async def is_known() -> bool:
        return "new" in ((await found(cached, CLIENT)).features or ())

    await until(is_known)
    await cached.close()

    assert took <= REFRESH_SECONDS + 0.2


async def test_a_client_key_outlives_the_key_that_spoke_for_it(
    stub: FlagsmithStub, one: StubEnvironment, make: Make
) -> None:
    """Without its server key the client key is proven by itself; what was known of its features filters nothing any more."""
    failures: list[BaseException] = []
    catalog = make(SERVER, on_failure=failures.append)
    await catalog.environments()
    one.server_keys.clear()

    async def is_gone() -> bool:
        return not await holds(catalog, SERVER)

    await until(is_gone)
    environment = await found(catalog, CLIENT)

    assert (None, "Shop / Production") == (environment.features, environment.display_name)
    assert CLIENT in await catalog.environments()
    assert stub.keys[CLIENT] > 0
    assert "The Flagsmith refuses the server key ser.firs…" in str(failures[0])


async def test_a_gateway_that_refuses_says_nothing_of_a_key(stub: FlagsmithStub, make: Make) -> None:
    """What stands before the Flagsmith and refuses everything, in JSON too, makes no known key unknown."""
    catalog = make(SERVER)
    await catalog.environments()
    stub.broken = "json 403"
    await asyncio.sleep(3 * REFRESH_SECONDS)

    assert (await found(catalog, CLIENT)).features == FEATURES
    assert await holds(catalog, SERVER)


async def test_a_removed_environment_is_gone(stub: FlagsmithStub, make: Make) -> None:
    """With an environment both its keys go, and readers are told of it no more."""
    catalog = make(SERVER, OTHER_SERVER)
    assert {CLIENT, OTHER_CLIENT} == set(await catalog.environments())
    del stub.environments[0]

    async def is_gone() -> bool:
        return set(await catalog.environments()) == {OTHER_CLIENT}

    await until(is_gone)

    assert [False, False, True, True] == [
        await holds(catalog, key) for key in (CLIENT, SERVER, OTHER_CLIENT, OTHER_SERVER)
    ]


async def test_a_removed_client_key_without_a_document_is_gone(stub: FlagsmithStub, make: Make) -> None:
    """A key that was proven is refused once the Flagsmith refuses it, and told to readers no more."""
    catalog = make()
    assert await holds(catalog, CLIENT)
    del stub.environments[0]

    assert not await holds(catalog, CLIENT)
    assert {} == await catalog.environments()


async def test_a_configured_key_that_comes_back_counts(one: StubEnvironment, make: Make) -> None:
    """A key that was refused is taken again, and its document followed again, without a restart."""
    one.server_keys.remove(SERVER)
    catalog = make(SERVER)
    refused = await holds(catalog, SERVER)
    one.server_keys.append(SERVER)

    async def is_followed() -> bool:
        return CLIENT in await catalog.environments()

    await until(is_followed)

    assert refused is False
    assert FEATURES == (await found(catalog, SERVER)).features


async def test_a_fresh_lookup_sees_a_new_feature_at_once(stub: FlagsmithStub, one: StubEnvironment, make: Make) -> None:
    """
    Long before the next poll a feature counts that was just made, under either key; and the document is not asked for
    again within five seconds, however many unknown names come in.
    """
    catalog = make(SERVER, refresh_seconds=3600)
    cached = CachedCatalog(catalog, refresh_seconds=3600, min_fresh_interval=0.01)
    await found(cached, CLIENT)
    await found(cached, SERVER)
    await asyncio.sleep(0.02)
    one.add("new")
    found_at_once = await asyncio.gather(*(found(cached, key, fresh=True) for key in (CLIENT, SERVER) * 10))
    count = stub.count("environment-document/")
    one.add("newer")
    for _ in range(3):
        await asyncio.sleep(0.02)
        await found(cached, CLIENT, fresh=True)
    await cached.close()

    assert {FEATURES | {"new"}} == {environment.features for environment in found_at_once}
    assert 2 == count == stub.count("environment-document/")


async def test_a_fresh_lookup_may_ask_again_after_its_pause(
    stub: FlagsmithStub, one: StubEnvironment, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause between fresh looks ends."""
    monkeypatch.setattr(flagsmith_api, "_MIN_FRESH_SECONDS", 0.1)
    catalog = make(SERVER, refresh_seconds=3600)
    await found(catalog, CLIENT, fresh=True)
    one.add("new")
    await asyncio.sleep(0.15)

    assert "new" in ((await found(catalog, CLIENT, fresh=True)).features or ())


async def test_a_fresh_lookup_of_a_removed_key_is_refused(one: StubEnvironment, make: Make) -> None:
    """What a fresh look finds out about the key itself counts too."""
    catalog = make(SERVER, refresh_seconds=3600)
    await found(catalog, SERVER)
    one.server_keys.remove(SERVER)

    assert await catalog.lookup(SERVER, fresh=True) is None


async def test_a_fresh_lookup_of_a_key_without_a_document(stub: FlagsmithStub, make: Make) -> None:
    """It is proven again: there is nothing else to look at."""
    catalog = make(SERVER)
    await found(catalog, OTHER_CLIENT)

    assert (await found(catalog, OTHER_CLIENT, fresh=True)).features is None
    assert 2 == stub.count("flags/")


async def test_an_organisation_that_is_shut_out(stub: FlagsmithStub, one: StubEnvironment, make: Make) -> None:
    """Its environments are stopped, and their keys known, whichever way it is told; and once it is let in they go on."""
    catalog = make(SERVER)
    await catalog.environments()
    for environment in stub.environments:
        environment.stop_serving_flags = True

    async def is_stopped() -> bool:
        return (await found(catalog, CLIENT)).stopped

    await until(is_stopped)
    stopped = [await found(catalog, key) for key in (SERVER, SECOND, OTHER_CLIENT, OTHER_SERVER)]
    for environment in stub.environments:
        environment.stop_serving_flags = False

    async def goes_on() -> bool:
        return not (await found(catalog, CLIENT)).stopped

    await until(goes_on)

    assert [True] * 4 == [environment.stopped for environment in stopped]
    assert not any(OTHER_SERVER in name or SECOND in name for name in await catalog.environments())
    assert FEATURES == (await found(catalog, CLIENT)).features
    assert not (await found(catalog, OTHER_CLIENT)).stopped


async def test_a_document_that_says_that_it_is_stopped(
    one: StubEnvironment, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the key is let in all the same, the document says it."""
    from support import flagsmith_stub as module

    whole = module.document_of(one)
    whole["project"]["organisation"]["stop_serving_flags"] = True
    monkeypatch.setattr(module, "document_of", lambda _: whole)

    assert (await found(make(SERVER), CLIENT)).stopped


async def test_ready_once_every_key_was_asked_about(stub: FlagsmithStub, make: Make) -> None:
    """Not before the first look, nor while no key is answered; from the first answer on, also after the Flagsmith goes."""
    stub.broken = 500
    catalog = make(SERVER, OTHER_SERVER, refresh_seconds=0.2)
    at_first = catalog.ready()
    could_not_be_told = await is_unreachable(catalog.environments())
    unanswered = catalog.ready()
    stub.broken = None

    async def is_ready() -> bool:
        return catalog.ready()

    await until(is_ready)
    stub.stop()
    await asyncio.sleep(0.3)

    assert (False, True, False) == (at_first, could_not_be_told, unanswered)
    assert catalog.ready()


async def test_ready_without_server_keys(make: Make) -> None:
    """With nothing to load it is ready once it runs, and says that there is no environment yet."""
    catalog = make()
    catalog.poll()

    async def is_ready() -> bool:
        return catalog.ready()

    await until(is_ready)

    assert {} == await catalog.environments()


async def test_a_key_is_not_judged_before_the_first_documents_are_there(stub: FlagsmithStub, make: Make) -> None:
    """The first lookup, however early, knows the features."""
    stub.delay = 0.2
    catalog = make(SERVER)
    environments = await asyncio.gather(*(found(catalog, CLIENT) for _ in range(5)))

    assert {FEATURES} == {environment.features for environment in environments}
    assert (1, 0) == (stub.count("environment-document/"), stub.count("flags/"))


async def test_one_slow_environment_holds_up_no_other(
    stub: FlagsmithStub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents are asked for beside each other, and what does not come in time is left for the next round."""
    monkeypatch.setattr(flagsmith_client, "_TOTAL_SECONDS", 1.0)
    stub.delay = 0.3
    catalog = make(SERVER, SECOND, OTHER_SERVER, "ser.wrong")
    began = time.monotonic()
    await catalog.environments()

    assert time.monotonic() - began < 4 * stub.delay
    assert catalog.ready()


async def test_learnt_keys_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of server keys that senders present the least used is forgotten, with its features; it still counts."""
    monkeypatch.setattr(flagsmith_api, "_MAX_LEARNT", 1)
    catalog = make(SERVER)
    await found(catalog, OTHER_SERVER)
    await found(catalog, SECOND)
    forgotten = (await found(catalog, OTHER_CLIENT)).features

    assert forgotten is None
    assert {SERVER, SECOND} == set(catalog._followed)
    assert {"shown"} == (await found(catalog, OTHER_SERVER)).features
    assert {SERVER, OTHER_SERVER} == set(catalog._followed)
    assert FEATURES == (await found(catalog, CLIENT)).features


async def test_the_key_in_use_is_not_the_one_forgotten(
    stub: FlagsmithStub, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use counts, not the order in which keys came."""
    monkeypatch.setattr(flagsmith_api, "_MAX_LEARNT", 2)
    stub.environment("client-key-of-three", "ser.key-of-three")
    catalog = make()
    for key in (SERVER, OTHER_SERVER, SERVER, "ser.key-of-three"):
        await found(catalog, key)

    assert {SERVER, "ser.key-of-three"} == set(catalog._followed)


async def test_environments_are_bounded(stub: FlagsmithStub, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proven client keys are remembered up to a bound, and those of documents always."""
    monkeypatch.setattr(flagsmith_api, "_MAX_ENVIRONMENTS", 3)
    catalog = make(SERVER)
    await catalog.environments()
    for number in range(10):
        stub.environment(f"client-key-{number}")
        await found(catalog, f"client-key-{number}")

    assert {CLIENT, "client-key-8", "client-key-9"} == set(await catalog.environments())


async def test_it_ends_with_close(stub: FlagsmithStub, make: Make) -> None:
    """After close nothing is asked any more, and no task is left."""
    catalog = make(SERVER)
    await found(catalog, CLIENT, fresh=True)
    await catalog.close()
    asked = sum(stub.asked.values())
    await asyncio.sleep(2 * REFRESH_SECONDS)

    assert asked == sum(stub.asked.values())
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_an_environment_has_two_server_keys(make: Make) -> None:
    """Both reach the same, and that is no fault."""
    catalog = make(SERVER, SECOND)
    inventory = await catalog.inventory()

    assert await found(catalog, SERVER) == await found(catalog, SECOND)
    assert () == inventory.faults
    assert [CLIENT] == [environment.name for environment in inventory.environments]
    assert [(SERVER, CLIENT), (SECOND, CLIENT), (CLIENT, CLIENT)] == [
        (key.text, key.environment) for key in inventory.keys
    ]
    assert all(key.active for key in inventory.keys)


async def faults(catalog: FlagsmithApi) -> tuple[str, ...]:
    """Return what the inventory finds wrong; it names no key."""
    inventory = await catalog.inventory()
    assert isinstance(inventory, Inventory)
    assert not any(key in fault for key in (CLIENT, SERVER, OTHER_SERVER, TOKEN) for fault in inventory.faults)
    return inventory.faults


async def test_what_an_inventory_finds_wrong(stub: FlagsmithStub, make: Make) -> None:
    """Refused and misplaced keys, organisations that are shut out, and tokens that are public are told, each once."""
    stub.environments[1].stop_serving_flags = True
    stub.environments[0].client_key = TOKEN
    catalog = make(SERVER, OTHER_SERVER, "ser.deleted", CLIENT, "ser.two words")
    inventory = await catalog.inventory()

    assert (
        "clie… is no server key (ser.…); a client key does not show every feature.",
        "The server key ser.tw… cannot be one: it must be visible ASCII characters without spaces.",
        "The organisation of the server key ser.key… is disabled: nothing is taken for it.",
        "The Flagsmith refuses the server key ser.d…: it was deleted, or is another Flagsmith's.",
        "A client key, toke…, is the same text as a token: it is taken for neither.",
    ) == await faults(catalog)
    assert [True, True, False, True] == [key.active for key in inventory.keys]


async def test_an_inventory_reads_past_what_is_known(stub: FlagsmithStub, one: StubEnvironment, make: Make) -> None:
    """What was polled a moment ago is asked for anew, and in full."""
    catalog = make(SERVER, refresh_seconds=3600)
    await catalog.environments()
    one.add("new")

    assert [FEATURES | {"new"}] == [one.features for one in (await catalog.inventory()).environments]
    assert 0 == stub.unchanged


@pytest.mark.parametrize("keys", [(SERVER, OTHER_SERVER), ()])
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("html", "The API of the Flagsmith answered with 200 and HTML, which no Flagsmith does: look at the address."),
        (404, "The API of the Flagsmith answered with 404 and JSON, which no Flagsmith does: look at the address."),
        (
            "redirect",
            "The API of the Flagsmith answered with a redirect (302), which is not followed: give the address it leads to.",
        ),
    ],
)
async def test_an_inventory_of_something_else(
    stub: FlagsmithStub, make: Make, keys: tuple[str, ...], broken: int | str, said: str
) -> None:
    """What is no Flagsmith is told as that, once, with server keys and without."""
    stub.broken = broken

    assert (said,) == await faults(make(*keys))


async def test_an_inventory_without_server_keys(make: Make) -> None:
    """A Flagsmith that is there and of which nothing is known beforehand is no fault."""
    assert Inventory(environments=(), keys=()) == await make().inventory()


@pytest.mark.parametrize("keys", [(SERVER, OTHER_SERVER), ()])
async def test_an_inventory_of_what_is_not_there(stub: FlagsmithStub, make: Make, keys: tuple[str, ...]) -> None:
    """A Flagsmith that is down cannot be told of."""
    stub.stop()

    assert await is_unreachable(make(*keys).inventory())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("empty document", "The API of the Flagsmith answered with something else than an environment document."),
        (
            500,
            "The server key ser.key… could not be looked up: The API of the Flagsmith answered with 500. Try again later.",
        ),
    ],
)
async def test_an_inventory_of_what_is_there_in_part(
    stub: FlagsmithStub, make: Make, broken: int | str, said: str
) -> None:
    """One document that fails is a fault, and the others are told."""
    stub.broken, stub.broken_keys = broken, (OTHER_SERVER,)
    inventory = await make(SERVER, OTHER_SERVER).inventory()

    assert [CLIENT] == [environment.name for environment in inventory.environments]
    assert [(SERVER, CLIENT), (OTHER_SERVER, ""), (CLIENT, CLIENT)] == [
        (key.text, key.environment) for key in inventory.keys
    ]
    assert (said,) == inventory.faults


async def test_an_inventory_of_what_takes_any_key(stub: FlagsmithStub, make: Make) -> None:
    """What lets in whoever shows no key is no Flagsmith."""
    stub.broken = "takes anything"

    assert ("It takes any key, which no Flagsmith does.",) == await faults(make())


def test_under_uvloop(stub: FlagsmithStub) -> None:
    """The loop that the service runs on follows keys as well, and leaves nothing open."""

    async def ask() -> frozenset[str] | None:
        catalog = FlagsmithApi(
            stub.url, server_keys=[SERVER], tokens={}, policy_of=lambda _: PLAIN, refresh_seconds=0.1
        )
        try:
            return (await found(catalog, CLIENT, fresh=True)).features
        finally:
            await catalog.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert FEATURES == runner.run(ask())


async def test_it_tells_the_cache_when_to_forget(make: Make) -> None:
    """The cache takes it for a source that says so."""
    assert isinstance(make(), Revised)
