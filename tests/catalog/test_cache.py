# ruff: noqa: ASYNC240 - the files are small, and writing them is what is tested
from __future__ import annotations

import asyncio
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from flagledger.catalog.base import Catalog, Environment, Token
from flagledger.catalog.cache import CachedCatalog
from flagledger.catalog.file import FileCatalog
from flagledger.errors import FlagledgerError, Reason
from hypothesis import given
from hypothesis import strategies as st
from support.remote_catalog import Clock, Remote, grant, settle


@pytest.fixture
def remote() -> Remote:
    """Start a source that knows one key and one token."""
    remote = Remote()
    remote.keys["key"] = grant("a")
    remote.tokens["token"] = Token(role="read")
    return remote


@pytest.fixture
def clock() -> Clock:
    """Stop the clock."""
    return Clock()


@pytest.fixture
def catalog(remote: Remote, clock: Clock) -> CachedCatalog:
    """Put a cache in front of the source."""
    return CachedCatalog(remote, min_fresh_interval=5, clock=clock)


async def test_a_known_key_is_asked_about_once(catalog: CachedCatalog, remote: Remote) -> None:
    """Further lookups are answered from the cache."""
    assert [await catalog.lookup("key") for _ in range(3)] == [grant("a")] * 3
    assert remote.asked == ["key"]


async def test_a_hit_does_not_suspend(catalog: CachedCatalog) -> None:
    """A hit is an answer without a turn of the event loop."""
    await catalog.lookup("key")
    with pytest.raises(StopIteration) as answered:
        catalog.lookup("key").send(None)

    assert answered.value.value == grant("a")


async def test_an_unknown_key_is_remembered_for_ten_seconds(
    catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """A wrong key asks the source once in ten seconds; one that was made since is then found."""
    assert [await catalog.lookup("new"), await catalog.lookup("new")] == [None, None]
    remote.keys["new"] = grant("b")
    clock.now += 9.9
    assert await catalog.lookup("new") is None
    assert remote.asked == ["new"]

    clock.now += 0.2
    assert await catalog.lookup("new") == grant("b")


async def test_one_lookup_at_a_time_for_a_key(catalog: CachedCatalog, remote: Remote) -> None:
    """A crowd with one key is one question."""
    answers = await asyncio.gather(*(catalog.lookup("key") for _ in range(100)))

    assert answers == [grant("a")] * 100
    assert remote.asked == ["key"]


async def test_one_who_gives_up_takes_nobody_along(catalog: CachedCatalog, remote: Remote) -> None:
    """A cancelled caller does not cancel the lookup that others wait for."""
    remote.gate.clear()
    first, second = asyncio.create_task(catalog.lookup("key")), asyncio.create_task(catalog.lookup("key"))
    await settle()
    first.cancel()
    await settle()
    remote.gate.set()

    assert await second == grant("a")
    assert first.cancelled()
    assert remote.asked == ["key"]


async def test_a_known_key_is_refreshed_in_the_background(catalog: CachedCatalog, remote: Remote, clock: Clock) -> None:
    """Shortly before its minute is over a hit is answered at once and brings the new state for the next."""
    await catalog.lookup("key")
    remote.keys["key"] = grant("a", "b")
    clock.now += 44
    assert await catalog.lookup("key") == grant("a")
    assert remote.asked == ["key"]
    clock.now += 2
    assert await catalog.lookup("key") == grant("a")
    await settle()

    assert await catalog.lookup("key") == grant("a", "b")
    assert remote.asked == ["key", "key"]


@pytest.mark.parametrize("idle", [60.0, 61.0, 86_400.0])
async def test_a_removed_key_is_refused_within_the_refresh_interval(
    catalog: CachedCatalog, remote: Remote, clock: Clock, idle: float
) -> None:
    """However long nobody used it, a key that was removed a minute ago is not taken once more."""
    await catalog.lookup("key")
    del remote.keys["key"]
    clock.now += idle

    assert await catalog.lookup("key") is None


async def test_a_change_of_the_source_forgets_no_key(remote: Remote, clock: Clock) -> None:
    """After a change everything is asked about again; known keys beyond what may be asked at once are served as they were."""
    remote.generation = 0
    remote.poll = lambda: None
    keys = [f"key {number}" for number in range(100)]
    remote.keys.update(dict.fromkeys(keys, grant("a")))
    catalog = CachedCatalog(remote, min_fresh_interval=5, max_lookups_per_second=10, clock=clock)
    for key in keys:
        assert grant("a") == await catalog.lookup(key)
        clock.now += 0.2
    assert await catalog.lookup("new") is None

    remote.keys.update(dict.fromkeys([*keys, "new"], grant("a", "b")))
    remote.generation = 1
    answers = [await catalog.lookup(key) for key in keys]
    clock.now += 2

    assert {grant("a"), grant("a", "b")} == set(answers)
    assert grant("a", "b") == answers[0] == await catalog.lookup("new")

    remote.down = True
    remote.generation = 2

    assert None not in [await catalog.lookup(key) for key in keys]


async def test_known_keys_are_served_stale_while_the_source_is_down(remote: Remote, clock: Clock) -> None:
    """With the source down, known keys work, others are a retryable refusal, and it is asked and reported at times."""
    failures: list[BaseException] = []
    catalog = CachedCatalog(remote, clock=clock, on_failure=failures.append)
    await catalog.lookup("key")
    remote.down = True
    clock.now += 3600
    assert [await catalog.lookup("key") for _ in range(5)] == [grant("a")] * 5
    assert (remote.asked, len(failures)) == (["key", "key"], 1)
    with pytest.raises(FlagledgerError) as caught:
        await catalog.lookup("never seen")
    assert caught.value.reason is Reason.CATALOG_UNREACHABLE
    assert not catalog.ready()

    clock.now += 6
    assert await catalog.lookup("key") == grant("a")
    assert len(failures) == 2

    remote.down = False
    remote.keys["key"] = grant("c")
    clock.now += 6
    assert await catalog.lookup("key") == grant("c")
    assert await catalog.lookup("never seen") is None


async def test_a_source_that_hangs_delays_a_known_key_by_a_second_at_most(
    catalog: CachedCatalog, remote: Remote, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that neither answers nor fails ends in the stale answer, not in a call that hangs with it."""
    monkeypatch.setattr("flagledger.catalog.answers._PATIENCE_SECONDS", 0.05)
    await catalog.lookup("key")
    remote.gate.clear()
    clock.now += 61

    async with asyncio.timeout(5):
        assert await catalog.lookup("key") == grant("a")
    await catalog.close()


async def test_a_key_that_expires_in_the_cache_is_refused_at_once(catalog: CachedCatalog, remote: Remote) -> None:
    """An expiry is looked at with every lookup, not with every refresh."""
    remote.keys["brief"] = grant("a", expires_at=time.time() + 0.2)
    assert await catalog.lookup("brief") is not None
    await asyncio.sleep(0.25)

    assert [await catalog.lookup("brief"), await catalog.lookup("brief", fresh=True)] == [None, None]
    assert remote.asked == ["brief"]


async def test_fresh_asks_a_remote_source_every_five_seconds_at_most(
    catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """A new feature is found at once, and an SDK that sends a name that never was is no load on the source."""
    await catalog.lookup("key")
    clock.now += 5
    remote.keys["key"] = grant("a", "b")
    assert [await catalog.lookup("key", fresh=True) for _ in range(3)] == [grant("a", "b")] * 3
    assert remote.asked == ["key", "key!"]

    clock.now += 5.1
    crowd = await asyncio.gather(*(catalog.lookup("key", fresh=True) for _ in range(50)))
    assert crowd == [grant("a", "b")] * 50
    assert remote.asked == ["key", "key!", "key!"]


async def test_fresh_is_served_stale_while_the_source_is_down(
    catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """The second look on an unknown feature never makes a known key fail."""
    await catalog.lookup("key")
    remote.down = True
    clock.now += 10

    assert [await catalog.lookup("key", fresh=True) for _ in range(3)] == [grant("a")] * 3
    assert remote.asked == ["key", "key!"]


async def test_tokens_and_environments_are_cached_alike(catalog: CachedCatalog, remote: Remote, clock: Clock) -> None:
    """Readers too are served while the source is down, and a removed token is refused within the minute."""
    for _ in range(3):
        assert await catalog.token("token") == Token(role="read")
        assert await catalog.token("wrong") is None
        assert await catalog.environments() == {"one": grant("a").environment}
    assert remote.asked == ["token", "wrong", "environments"]
    remote.down = True
    clock.now += 61
    assert await catalog.token("token") == Token(role="read")
    assert await catalog.environments() == {"one": grant("a").environment}

    remote.down = False
    remote.tokens.clear()
    clock.now += 61
    assert await catalog.token("token") is None


async def test_a_key_is_no_token_and_a_token_no_key(catalog: CachedCatalog) -> None:
    """What is cached of one kind says nothing of the other."""
    assert await catalog.lookup("key") is not None
    assert await catalog.token("token") is not None

    assert (await catalog.token("key"), await catalog.lookup("token")) == (None, None)


async def test_a_hundred_thousand_wrong_keys_are_held_in_bounded_places(remote: Remote, clock: Clock) -> None:
    """A flood of wrong keys fills its own part of the cache, the latest stay, and no right key is pushed out."""
    catalog = CachedCatalog(remote, clock=clock, max_entries=20_000)
    await catalog.lookup("key")
    for number in range(100_000):
        assert await catalog.lookup(f"{number}") is None
    remote.asked.clear()
    assert await catalog.lookup("key") == grant("a")
    assert await catalog.lookup("99999") is None
    assert await catalog.lookup("80000") is None
    assert remote.asked == []

    assert len(catalog._keys.unknown) == 20_000
    assert catalog._keys.flights == {}


@pytest.mark.slow
async def test_wrong_keys_take_bounded_memory(remote: Remote, clock: Clock) -> None:
    """Of 250,000 distinct wrong keys, long ones, the cache keeps at most 40 MB."""
    catalog = CachedCatalog(remote, clock=clock)
    tracemalloc.start()
    try:
        for number in range(250_000):
            assert await catalog.lookup(f"{number}{'x' * 500}") is None
            remote.asked.clear()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(catalog._keys.unknown) == 100_000
    assert held < 40_000_000


async def test_known_keys_are_bounded_and_those_in_use_stay(remote: Remote, clock: Clock) -> None:
    """Where there are more keys than places, one that is used again and again is not asked about again and again."""
    catalog = CachedCatalog(remote, clock=clock, max_entries=100)
    for number in range(1000):
        remote.keys[f"k{number}"] = grant("a")
        assert await catalog.lookup(f"k{number}") == grant("a")
        assert await catalog.lookup("key") == grant("a")

    assert remote.asked.count("key") == 1
    assert len(catalog._keys.known) == 100


async def test_no_key_or_token_is_held(catalog: CachedCatalog) -> None:
    """The cache holds digests: a dump of it gives no key away."""
    await catalog.lookup("key")
    await catalog.lookup("wrong")
    await catalog.token("token")
    held = [*catalog._keys.known, *catalog._keys.unknown, *catalog._tokens.known]

    assert [len(digest) for digest in held] == [32, 32, 32]
    assert not {b"key", b"wrong", b"token"} & set(held)


@given(st.text())
async def test_any_text_may_be_sent_as_a_key(text: str) -> None:
    """A key is any text, lone surrogates included, and an unknown one is just unknown."""
    assert await CachedCatalog(Remote()).lookup(text) is None
    assert await CachedCatalog(Remote()).lookup(text + "\udcff") is None


async def test_closing_ends_what_is_under_way(catalog: CachedCatalog, remote: Remote) -> None:
    """After closing, no lookup is left behind."""
    remote.gate.clear()
    waiting = asyncio.create_task(catalog.lookup("key"))
    await settle()
    await catalog.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert catalog._keys.flights == {}


FILE = '[[environments]]\nname = "one"\nkeys = {keys}\nfeatures = {features}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write an environments file."""
    path = tmp_path / "environments.toml"
    path.write_text(FILE.format(keys='["key"]', features='["a"]'))
    return path


async def test_a_change_of_the_file_empties_the_cache(file: Path) -> None:
    """With a file as the source, a removed key is refused and a new one taken as soon as the file has been read."""
    source = FileCatalog(file, check_interval=0.0)
    catalog: Catalog = CachedCatalog(source)
    assert await catalog.lookup("key") is not None
    assert await catalog.lookup("other") is None
    file.write_text(FILE.format(keys='["other"]', features='["a"]'))
    await source.lookup("", fresh=True)

    assert await catalog.lookup("key") is None
    assert await catalog.lookup("other") is not None


async def test_hits_alone_make_the_file_looked_at(file: Path) -> None:
    """A change is seen within about a second though every lookup is a hit and nobody watches the file."""
    catalog = CachedCatalog(FileCatalog(file, check_interval=0.05))
    assert await catalog.lookup("key") is not None
    file.write_text(FILE.format(keys='["other"]', features='["a"]'))
    async with asyncio.timeout(10):
        while await catalog.lookup("key") is not None:
            await asyncio.sleep(0.05)


async def test_watching_sees_a_change_without_any_lookup(file: Path) -> None:
    """While it is watched, a broken file is reported though nobody asks."""
    reported = asyncio.Event()
    catalog = CachedCatalog(FileCatalog(file, check_interval=0.05, on_reload=lambda ok, _: ok or reported.set()))
    watching = asyncio.create_task(catalog.watch())
    file.write_text("broken")
    async with asyncio.timeout(10):
        await reported.wait()
    watching.cancel()

    assert await catalog.lookup("key") is not None


async def test_a_fresh_lookup_sees_a_feature_that_was_just_added(file: Path) -> None:
    """The file's own look is the only limit: the second look finds what was added right before it."""
    catalog = CachedCatalog(FileCatalog(file))
    await catalog.lookup("key")
    file.write_text(FILE.format(keys='["key"]', features='["a", "b"]'))
    found = await catalog.lookup("key", fresh=True)

    assert found is not None
    assert found.environment.features == {"a", "b"}
    assert await catalog.lookup("key") == found


def test_the_cache_keeps_to_the_standard_library_and_the_seam() -> None:
    """Whoever caches one source pulls in no library that another one needs."""
    import subprocess

    code = "import sys, flagledger.catalog.cache; print({'psycopg', 'aiohttp', 'duckdb', 'grpc'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


class Distant(Remote):
    """A source that has to be reached first, and can be asked for a sign of life."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = False

    async def reach(self) -> None:
        """Answer, and note that it was asked."""
        self.asked.append("reach")
        await self._answer()
        self.reached = True

    def ready(self) -> bool:
        """Tell whether it has been reached."""
        return self.reached


class Loading(Remote):
    """A source that is ready once it has told its environments."""

    def ready(self) -> bool:
        """Tell whether it was asked for them while it was there."""
        return "loaded" in self.asked

    async def environments(self) -> dict[str, Environment]:
        """Answer, and note that it did."""
        found = await super().environments()
        self.asked.append("loaded")
        return found


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch without pauses worth speaking of."""
    monkeypatch.setattr("flagledger.catalog.cache._POLL_SECONDS", 0.005)


async def until(held: Callable[[], bool]) -> None:
    """Wait until *held*."""
    async with asyncio.timeout(10):
        while not held():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("kind", "question"), [(Distant, "reach"), (Loading, "environments")])
async def test_watching_reaches_a_remote_source_without_any_lookup(
    fast: None, kind: type[Remote], question: str
) -> None:
    """A source that is down at start is asked until it has answered, failures are reported, and then it is left alone."""
    remote, failures = kind(), list[BaseException]()
    remote.down = True
    catalog = CachedCatalog(remote, on_failure=failures.append)
    watching = asyncio.create_task(catalog.watch())
    await until(lambda: remote.asked.count(question) >= 3)
    assert not catalog.ready()
    assert 1 == len(failures)

    remote.down = False
    await until(catalog.ready)
    asked = remote.asked.count(question)
    await asyncio.sleep(0.05)
    assert asked == remote.asked.count(question)
    watching.cancel()
    await catalog.close()


async def test_watching_outlives_what_nobody_foresaw(fast: None, remote: Remote) -> None:
    """A source that raises something else is reported as well, and asked again."""
    failures: list[BaseException] = []

    class Broken(Distant):
        async def _answer(self) -> None:
            raise ValueError("nobody foresaw this")

    broken = Broken()
    watching = asyncio.create_task(CachedCatalog(broken, on_failure=failures.append).watch())
    await until(lambda: len(broken.asked) >= 3)
    watching.cancel()

    assert ["nobody foresaw this"] == [str(failure) for failure in failures]


async def test_a_source_that_was_never_reached_recovers_by_itself(catalog: CachedCatalog, remote: Remote) -> None:
    """With the source down from the start every key is refused with a delay, and once it is there the next call is answered."""
    remote.down = True
    for key in ("key", "wrong"):
        with pytest.raises(FlagledgerError) as caught:
            await catalog.lookup(key)
        assert (Reason.CATALOG_UNREACHABLE, 5.0) == (caught.value.reason, caught.value.retry_after)
    remote.down = False

    assert grant("a") == await catalog.lookup("key")
    assert await catalog.lookup("wrong") is None


async def test_watching_keeps_environments_that_are_used_fresh(
    fast: None, catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """What readers see is asked for again before it is a minute old, unless nobody looked at it in the meantime."""
    watching = asyncio.create_task(catalog.watch())
    await catalog.environments()
    await catalog.environments()
    clock.now += 46
    await until(lambda: remote.asked == ["environments"] * 2)
    clock.now += 46
    await asyncio.sleep(0.05)
    assert ["environments"] * 2 == remote.asked

    remote.keys["key"] = grant("b")
    await catalog.environments()
    await settle()
    assert {"one": grant("b").environment} == await catalog.environments()
    watching.cancel()


async def test_environments_are_served_stale_while_the_source_is_down(
    fast: None, catalog: CachedCatalog, remote: Remote, clock: Clock
) -> None:
    """Readers keep what they had for as long as the source is down, and see what changed once it is back."""
    watching = asyncio.create_task(catalog.watch())
    await catalog.environments()
    remote.down = True
    remote.keys["key"] = grant("b")
    for _ in range(5):
        clock.now += 100
        assert {"one": grant("a").environment} == await catalog.environments()
    remote.down = False
    clock.now += 100
    await catalog.environments()

    assert {"one": grant("b").environment} == await catalog.environments()
    watching.cancel()
