# ruff: noqa: ASYNC240 - the files are small, and writing them is what is tested
from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flagledger.catalog import document
from flagledger.catalog.base import Environment, KeyFound, Token
from flagledger.catalog.cache import CachedCatalog
from flagledger.catalog.document import CatalogError
from flagledger.catalog.file import FileCatalog, read_document
from flagledger.errors import FlagledgerError, Reason

Report = tuple[bool, str | None]


def text(features: str = '["a"]', keys: str = '["key", "ser.key"]', extra: str = "") -> str:
    """Return an environments file with one environment."""
    return f'[[environments]]\nname = "one"\nkeys = {keys}\nfeatures = {features}\n{extra}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write an environments file."""
    path = tmp_path / "environments.toml"
    path.write_text(text())
    return path


@pytest.fixture
def reports() -> list[Report]:
    """Gather what the catalog reports."""
    return []


@pytest.fixture
def catalog(file: Path, reports: list[Report]) -> FileCatalog:
    """Follow the file."""
    return FileCatalog(
        file,
        check_interval=0.02,
        on_reload=lambda ok, error: reports.append((ok, None if error is None else str(error))),
    )


def replace(path: Path, content: str) -> None:
    """Write as editors do: a new file, renamed over the old one."""
    beside = path.with_suffix(".new")
    beside.write_text(content)
    beside.rename(path)


async def features(catalog: FileCatalog, *, fresh: bool = False) -> frozenset[str] | None:
    """Return the features that the key reaches."""
    grant = await catalog.lookup("key", fresh=fresh)
    assert grant is not None
    return grant.environment.features


async def until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_keys_permit_what_the_file_says(file: Path) -> None:
    """A key gives its environment and its kind; an unknown or inactive one gives nothing."""
    file.write_text(text(keys='["key", "ser.key", {key = "off", active = false}]'))
    catalog = FileCatalog(file)
    client, server = await catalog.lookup("key"), await catalog.lookup("ser.key")

    assert client is not None
    assert server is not None
    assert (client.environment.name, client.is_server) == ("one", False)
    assert (server.environment.name, server.is_server) == ("one", True)
    assert [await catalog.lookup(key) for key in ("off", "", "KEY", "key ", "k" * 100_000, "\udc80")] == [None] * 6


async def test_an_expired_key_is_no_key(file: Path) -> None:
    """A key counts before its moment and not after it."""
    file.write_text(
        text(
            keys='[{key = "old", expires_at = 2020-01-01T00:00:00Z}, {key = "new", expires_at = 2999-01-01T00:00:00Z}]'
        )
    )
    catalog = FileCatalog(file)

    assert await catalog.lookup("old") is None
    assert await catalog.lookup("new") is not None


async def test_tokens_of_the_file_and_of_the_start(file: Path) -> None:
    """Tokens come from the file and from whoever starts the service, and nothing else reads."""
    file.write_text(text(extra='[[tokens]]\ntoken = "t"\nrole = "admin"\nenvironments = ["one"]\n'))
    catalog = FileCatalog(file, {"given": Token(role="read")})

    assert await catalog.token("t") == Token(role="admin", environments=frozenset({"one"}))
    assert await catalog.token("given") == Token(role="read")
    assert [await catalog.token(token) for token in ("key", "", "T", "\udc80")] == [None] * 4


def test_a_read_token_that_is_a_key_is_refused(file: Path) -> None:
    """A public key never reads, also where the token comes from outside of the file."""
    with pytest.raises(CatalogError, match="a token must be no environment's key"):
        FileCatalog(file, {"key": Token(role="read")})
    with pytest.raises(CatalogError, match="a token must be no environment's key"):
        read_document(file, tokens=["key"])


def test_a_broken_or_missing_file_at_the_start_is_refused(file: Path) -> None:
    """The service does not start on a file that it cannot use."""
    file.write_text("[[environments]\n")
    with pytest.raises(CatalogError, match=r"environments\.toml, line 1"):
        FileCatalog(file)
    file.unlink()
    with pytest.raises(CatalogError, match="cannot be read: No such file or directory"):
        FileCatalog(file)


async def test_a_fresh_lookup_sees_what_was_just_written(catalog: FileCatalog, file: Path) -> None:
    """A feature that was added before the call is there in its answer, however often that happens within a second."""
    for number in range(20):
        name = f"feature{number:02}"
        write = file.write_text if number % 2 else lambda content: replace(file, content)
        write(text(f'["{name}"]'))

        assert await features(catalog, fresh=True) == {name}


async def test_a_change_that_leaves_time_and_size_alone_is_seen(catalog: FileCatalog, file: Path) -> None:
    """Two writes within one tick of the clock are told apart by content while the file is young."""
    file.write_text(text('["b"]'))
    status = file.stat()
    assert await features(catalog, fresh=True) == {"b"}

    file.write_text(text('["c"]'))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert await features(catalog, fresh=True) == {"c"}


async def test_a_change_is_seen_without_asking_for_it(catalog: FileCatalog, file: Path, reports: list[Report]) -> None:
    """Plain lookups notice a new file, read it in the background, and meanwhile answer from the old one."""
    generation = catalog.generation
    replace(file, text('["b"]'))
    async with asyncio.timeout(10):
        while await features(catalog) != {"b"}:
            await asyncio.sleep(0.01)

    assert catalog.generation == generation + 1
    assert reports == [(True, None)]


async def test_watching_needs_no_lookup(catalog: FileCatalog, file: Path, reports: list[Report]) -> None:
    """While it is watched, a change takes effect and a fault is reported though nobody asks."""
    watching = asyncio.create_task(CachedCatalog(catalog).watch())
    replace(file, text('["b"]'))
    await until(lambda: len(reports) == 1)
    replace(file, "broken")
    await until(lambda: len(reports) == 2)
    watching.cancel()

    assert [ok for ok, _ in reports] == [True, False]


@pytest.mark.parametrize("broken", ["", "[[environments]\n", text("3"), text(extra='identity = "none"\n')])
async def test_a_broken_new_file_keeps_the_old_one(
    catalog: FileCatalog, file: Path, reports: list[Report], broken: str
) -> None:
    """What the last good file said stays in force; each version is reported once; a mended one counts again."""
    generation = catalog.generation
    replace(file, broken)
    for _ in range(5):
        assert await features(catalog, fresh=True) == {"a"}
        await asyncio.sleep(0.03)
    assert [ok for ok, _ in reports] == [False]
    assert str(reports[0][1]).startswith(str(file))
    assert (catalog.ready(), catalog.generation) == (True, generation)

    replace(file, text('["b"]'))
    assert await features(catalog, fresh=True) == {"b"}

    assert [ok for ok, _ in reports] == [False, True]


async def test_a_vanished_file_keeps_what_it_said(
    catalog: FileCatalog, file: Path, reports: list[Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is gone is reported once, changes nothing, and counts again when it is back, even as it was."""
    monkeypatch.setattr("flagledger.catalog.file._GONE_SECONDS", 0.05)
    content = file.read_text()
    file.unlink()
    for _ in range(10):
        assert await features(catalog, fresh=True) == {"a"}
        await asyncio.sleep(0.03)
    assert reports == [(False, f"{file}: cannot be read: No such file or directory.")]

    file.write_text(content)
    assert await features(catalog, fresh=True) == {"a"}

    assert [ok for ok, _ in reports] == [False, True]


async def test_the_moment_between_unlink_and_rename_is_no_fault(
    catalog: FileCatalog, file: Path, reports: list[Report]
) -> None:
    """Editors that move the old file away first cause no report."""
    file.rename(file.with_suffix(".bak"))
    for _ in range(3):
        assert await features(catalog, fresh=True) == {"a"}
    file.write_text(text('["b"]'))
    assert await features(catalog, fresh=True) == {"b"}

    assert reports == [(True, None)]


async def test_a_touched_file_is_no_new_version(catalog: FileCatalog, file: Path, reports: list[Report]) -> None:
    """The same content under a new time empties no cache and writes no log line."""
    generation = catalog.generation
    os.utime(file, (time.time() + 5, time.time() + 5))
    await catalog.lookup("key", fresh=True)

    assert (catalog.generation, reports) == (generation, [])


async def test_a_file_that_cannot_be_read_is_reported_once(
    catalog: FileCatalog, file: Path, reports: list[Report]
) -> None:
    """A directory in its place, which even root cannot read, is one report and not one a second."""
    file.unlink()
    file.mkdir()
    for _ in range(5):
        assert await features(catalog, fresh=True) == {"a"}

    assert reports == [(False, f"{file}: cannot be read: Is a directory.")]


async def test_a_removed_key_is_refused_and_a_new_one_taken(catalog: FileCatalog, file: Path) -> None:
    """Keys come and go with the file."""
    replace(file, text(keys='["other"]'))

    assert await catalog.lookup("key", fresh=True) is None
    assert await catalog.lookup("other") is not None


async def test_many_fresh_lookups_at_once_agree(catalog: FileCatalog, file: Path) -> None:
    """A crowd that asks while the file changes gets the new file, all of it."""
    for number in range(5):
        replace(file, text(f'["f{number}"]'))
        answers = await asyncio.gather(*(features(catalog, fresh=True) for _ in range(50)))

        assert set(answers) == {frozenset({f"f{number}"})}


async def test_a_process_started_beside_a_broken_file_waits_for_it(file: Path) -> None:
    """Where the service runs already, a broken file is not ready and a retryable refusal, until it is mended."""
    reports: list[Report] = []
    file.write_text("broken")
    catalog = FileCatalog(file, on_reload=lambda ok, error: reports.append((ok, str(error))), must_load=False)
    with pytest.raises(FlagledgerError) as caught:
        await catalog.lookup("key")
    with pytest.raises(FlagledgerError):
        await catalog.token("t")
    assert (caught.value.reason, catalog.ready()) == (Reason.CATALOG_UNREACHABLE, False)
    assert caught.value.retry_after is not None
    assert [ok for ok, _ in reports] == [False]

    replace(file, text())

    assert await features(catalog) == {"a"}
    assert (catalog.ready(), [ok for ok, _ in reports]) == (True, [False, True])


async def test_a_process_started_without_a_file_waits_for_it(tmp_path: Path) -> None:
    """The same where there is no file at all."""
    catalog = FileCatalog(tmp_path / "environments.toml", must_load=False)
    assert not catalog.ready()

    (tmp_path / "environments.toml").write_text(text())

    assert await features(catalog) == {"a"}


async def test_every_environment_is_told(file: Path) -> None:
    """Readers see all environments, those without keys too."""
    file.write_text(text() + '[[environments]]\nname = "two"\nkeys = []\nfeatures = "any"\n')
    environments = await FileCatalog(file).environments()

    assert {name: environment.features for name, environment in environments.items()} == {
        "one": frozenset({"a"}),
        "two": None,
    }


async def test_the_file_is_read_beside_the_event_loop(
    catalog: FileCatalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A big file is parsed in a thread of its own: the loop goes on meanwhile."""
    threads: list[int] = []
    parse = document.parse_document

    def parse_and_note(content: bytes, path: Path) -> document.Document:
        threads.append(threading.get_ident())
        return parse(content, path)

    monkeypatch.setattr("flagledger.catalog.file.parse_document", parse_and_note)
    names = [f"feature-number-{number}" for number in range(50_000)]
    replace(file, text(str(names)))

    assert await features(catalog, fresh=True) == set(names)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_a_fresh_lookup_does_not_take_an_older_reading(
    catalog: FileCatalog, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading that began before the change is waited for, and the file is then read again."""
    has_read, may_end = threading.Event(), threading.Event()
    read = catalog._read_settled

    def read_and_wait() -> object:
        result = read()
        has_read.set()
        may_end.wait(10)
        return result

    monkeypatch.setattr(catalog, "_read_settled", read_and_wait)
    replace(file, text('["b"]'))
    earlier = asyncio.create_task(features(catalog, fresh=True))
    await asyncio.to_thread(has_read.wait, 10)
    replace(file, text('["c"]'))
    later = asyncio.create_task(features(catalog, fresh=True))
    await asyncio.sleep(0.01)
    may_end.set()
    await earlier

    assert await later == {"c"}


async def test_an_inventory_has_every_key(file: Path) -> None:
    """Keys that do not count are told too, and what was written a moment ago is."""
    catalog = FileCatalog(file)
    file.write_text(
        text(keys='["key", {key = "off", active = false}, {key = "ser.old", expires_at = 2020-01-01T00:00:00Z}]')
    )
    inventory = await catalog.inventory()

    assert [Environment(name="one", features=frozenset({"a"}))] == list(inventory.environments)
    assert (
        KeyFound(text="key", environment="one"),
        KeyFound(text="off", environment="one", active=False),
        KeyFound(text="ser.old", environment="one", expires_at=1_577_836_800.0),
    ) == inventory.keys
    assert () == inventory.faults


async def test_an_inventory_of_a_broken_file(file: Path) -> None:
    """A file that cannot be used is told with its fault, while what it said before is in force; so is a token that is a key."""
    catalog = FileCatalog(file, {"reads": Token(role="read")})
    for content, fault in (
        ("x", r"environments\.toml, line 1"),
        (text(keys='["reads"]'), "is the same text as a token"),
    ):
        file.write_text(content)
        with pytest.raises(FlagledgerError, match=fault) as caught:
            await catalog.inventory()
        assert Reason.CATALOG_UNREACHABLE is caught.value.reason

    assert await features(catalog) == {"a"}


async def test_close_waits_for_a_reading(file: Path) -> None:
    """After close no reading is under way, and none had to be."""
    catalog = FileCatalog(file)
    await catalog.close()
    replace(file, text('["b"]'))
    catalog._start_reload()
    await catalog.close()

    assert catalog._reloading is None
    assert await features(catalog) == {"b"}
