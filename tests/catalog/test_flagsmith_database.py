from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
import json
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from flagledger.catalog.base import Environment, Grant, KeyFound, Token
from flagledger.catalog.document import CatalogError
from flagledger.catalog.policy import PLAIN, Policy
from flagledger.errors import FlagledgerError, Reason
from support.flagsmith_database import ROLE_PASSWORD, FlagsmithTables, flagsmith_tables
from support.postgres import PostgresServer, postgres_server

if importlib.util.find_spec("psycopg_pool") is None:
    pytest.skip("no psycopg here: pip install 'flagledger[postgres]'", allow_module_level=True)

import psycopg
from flagledger.catalog.flagsmith_database import FlagsmithDatabase, view_sql

NOW = dt.datetime.now(dt.UTC)
HIDING = Policy(identity="drop")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Start one PostgreSQL for the tests that leave it running."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def tables(server: PostgresServer) -> Iterator[FlagsmithTables]:
    """Make an empty Flagsmith."""
    with flagsmith_tables(server) as tables:
        yield tables


def policy_of(name: str) -> Policy:
    """Return the policy of an environment, of which one has one."""
    return HIDING if name == "hiding" else PLAIN


@asynccontextmanager
async def opened(url: str, tokens: Sequence[str] = ("a-token",)) -> AsyncIterator[FlagsmithDatabase]:
    """Open the catalog at *url*, with *tokens* that read."""
    database = FlagsmithDatabase(url, tokens=dict.fromkeys(tokens, Token(role="read")), policy_of=policy_of)
    try:
        yield database
    finally:
        await database.close()


def make_shop(tables: FlagsmithTables) -> None:
    """Fill the tables with everything that the table of cases asks for."""
    shop, blog = tables.project("Shop"), tables.project("Blog")
    closed = tables.project("Closed", stopped=True)
    cart, search = tables.feature(shop, "cart"), tables.feature(shop, "search")
    production = tables.environment(shop, "client-production", cart, search)
    tables.server_key(production, "ser.valid")
    tables.server_key(production, "ser.inactive", active=False)
    tables.server_key(production, "ser.expired", expires_at=NOW - dt.timedelta(seconds=1))
    tables.server_key(production, "ser.later", expires_at=NOW + dt.timedelta(days=1))
    tables.server_key(production, "ser.endless", expires_at="infinity")
    tables.server_key(production, "ser.inactive-and-later", active=False, expires_at=NOW + dt.timedelta(days=1))
    tables.server_key(production, "ser.o'Brien\"; --")
    tables.server_key(production, "ser.ключ")
    gone = tables.environment(shop, "client-gone", cart, deleted_at=NOW)
    tables.server_key(gone, "ser.gone")

    tables.environment(shop, "deleted-feature", cart, tables.feature(shop, "old", deleted_at=NOW))
    environment = tables.environment(shop, "deleted-state", cart)
    tables.state(search, environment, deleted_at=NOW)
    environment = tables.environment(shop, "state-made-again")
    tables.state(cart, environment, deleted_at=NOW)
    tables.state(cart, environment)
    environment = tables.environment(shop, "disabled")
    tables.state(cart, environment, enabled=False)
    environment = tables.environment(shop, "hides-disabled", hide_disabled_flags=True)
    tables.state(cart, environment, enabled=False)
    tables.environment(shop, "archived", tables.feature(shop, "attic", is_archived=True))
    environment = tables.environment(shop, "server-side", tables.feature(shop, "price", is_server_key_only=True))
    tables.server_key(environment, "ser.server-side")
    environment = tables.environment(shop, "segment-only", cart)
    tables.state(search, environment, feature_segment_id=1)
    environment = tables.environment(shop, "identity-only", cart)
    tables.state(search, environment, identity_id=1)
    environment = tables.environment(shop, "overridden-too", cart)
    tables.state(cart, environment, feature_segment_id=2)
    tables.state(cart, environment, identity_id=2)
    environment = tables.environment(shop, "versions", use_v2_feature_versioning=True)
    for version in range(3):
        tables.state(cart, environment, version=None, environment_feature_version_id=f"{version:032}")
    environment = tables.environment(shop, "scheduled", use_v2_feature_versioning=True)
    tables.state(cart, environment, version=None, live_from=NOW + dt.timedelta(days=7))
    tables.environment(shop, "being-made", cart, is_creating=True)
    tables.environment(shop, "empty")
    tables.environment(shop, "hiding", cart)

    tables.environment(
        blog, "blog-production", tables.feature(blog, "cart", deleted_at=NOW), tables.feature(blog, "Posts")
    )
    tables.environment(blog, "odd-names", tables.feature(blog, 'a "b" {c,d} \\ é ☃'), tables.feature(blog, "NULL"))
    environment = tables.environment(closed, "closed", tables.feature(closed, "cart"))
    tables.server_key(environment, "ser.closed")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a key is expected to permit."""

    features: set[str]
    name: str
    display_name: str = "Shop / Production"
    is_server: bool = False
    expires_at: float | None = None
    policy: Policy = field(default=PLAIN)
    stopped: bool = False

    def grant(self) -> Grant:
        """Return it as the catalog says it."""
        environment = Environment(
            name=self.name,
            features=frozenset(self.features),
            display_name=self.display_name,
            policy=self.policy,
            stopped=self.stopped,
        )
        return Grant(environment=environment, is_server=self.is_server, expires_at=self.expires_at)


def of_server(**columns: Any) -> Found:
    """Return what a server key of the first environment permits."""
    return Found(features={"cart", "search"}, name="client-production", is_server=True, **columns)


LATER = (NOW + dt.timedelta(days=1)).timestamp()
CASES: list[tuple[str, str, Found | None]] = [
    ("valid client key", "client-production", Found(features={"cart", "search"}, name="client-production")),
    ("valid server key", "ser.valid", of_server()),
    ("inactive", "ser.inactive", None),
    ("expired", "ser.expired", None),
    ("expires later", "ser.later", of_server(expires_at=LATER)),
    ("never expires, said so", "ser.endless", of_server(expires_at=float("inf"))),
    ("inactive, and expires later", "ser.inactive-and-later", None),
    ("quotes in a key", "ser.o'Brien\"; --", of_server()),
    ("a key beyond ASCII", "ser.ключ", of_server()),
    ("client key of a deleted environment", "client-gone", None),
    ("server key of a deleted environment", "ser.gone", None),
    ("deleted feature", "deleted-feature", Found(features={"cart"}, name="deleted-feature")),
    ("deleted state", "deleted-state", Found(features={"cart"}, name="deleted-state")),
    ("a state deleted and made again", "state-made-again", Found(features={"cart"}, name="state-made-again")),
    ("disabled", "disabled", Found(features={"cart"}, name="disabled")),
    ("disabled where that is hidden", "hides-disabled", Found(features={"cart"}, name="hides-disabled")),
    ("archived", "archived", Found(features={"attic"}, name="archived")),
    ("server-side only, with a client key", "server-side", Found(features={"price"}, name="server-side")),
    ("the same with a server key", "ser.server-side", Found(features={"price"}, name="server-side", is_server=True)),
    ("segment override only", "segment-only", Found(features={"cart"}, name="segment-only")),
    ("identity override only", "identity-only", Found(features={"cart"}, name="identity-only")),
    ("overrides besides", "overridden-too", Found(features={"cart"}, name="overridden-too")),
    ("several versions", "versions", Found(features={"cart"}, name="versions")),
    ("not live yet", "scheduled", Found(features={"cart"}, name="scheduled")),
    ("environment being made", "being-made", Found(features={"cart"}, name="being-made")),
    ("no features", "empty", Found(features=set(), name="empty")),
    ("a policy", "hiding", Found(features={"cart"}, name="hiding", policy=HIDING)),
    (
        "another project's feature of the same name, and an environment of the same name",
        "blog-production",
        Found(features={"Posts"}, name="blog-production", display_name="Blog / Production"),
    ),
    (
        "odd names",
        "odd-names",
        Found(features={'a "b" {c,d} \\ é ☃', "NULL"}, name="odd-names", display_name="Blog / Production"),
    ),
    (
        "organisation stopped",
        "closed",
        Found(features={"cart"}, name="closed", display_name="Closed / Production", stopped=True),
    ),
    (
        "organisation stopped, server key",
        "ser.closed",
        Found(features={"cart"}, name="closed", display_name="Closed / Production", stopped=True, is_server=True),
    ),
    ("another case", "Client-Production", None),
    ("a space behind", "client-production ", None),
    ("a pattern", "client-%", None),
    ("unknown", "nobody", None),
    ("empty key", "", None),
    ("NUL", "client-production\0", None),
    ("half a surrogate", "client-\udcff", None),
    ("600 characters", "k" * 600, None),
    ("512 characters", "k" * 512, None),
]


@pytest.fixture(scope="module")
def shop(server: PostgresServer) -> Iterator[FlagsmithTables]:
    """Make the Flagsmith of the table of cases, which nobody changes."""
    with flagsmith_tables(server) as tables:
        make_shop(tables)
        yield tables


@pytest.mark.parametrize(("key", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_what_a_key_permits(shop: FlagsmithTables, key: str, expected: Found | None) -> None:
    """A key permits to write into its environment, of the features that exist there and no others."""
    async with opened(shop.url) as database:
        found = await database.lookup(key)

    assert (None if expected is None else expected.grant()) == found


async def test_names_of_features_are_exact(shop: FlagsmithTables) -> None:
    """Case makes another name, as in Flagsmith's own filter."""
    async with opened(shop.url) as database:
        grant = await database.lookup("blog-production")

    assert grant is not None
    assert grant.environment.features is not None
    assert [True, False] == [name in grant.environment.features for name in ("Posts", "posts")]


async def test_an_expiry_is_honoured_after_the_lookup(tables: FlagsmithTables) -> None:
    """A grant says when its key expires, so that whoever holds it refuses from then on."""
    environment = tables.environment(tables.project(), "client")
    tables.server_key(environment, "ser.brief", expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))
    async with opened(tables.url) as database:
        grant = await database.lookup("ser.brief")
        assert grant is not None
        await asyncio.sleep(1.1)

        assert not grant.holds()
        assert await database.lookup("ser.brief") is None


async def test_a_change_is_seen_by_the_next_lookup(tables: FlagsmithTables) -> None:
    """Nothing is remembered here: that is the cache's part."""
    project = tables.project()
    environment = tables.environment(project, "client", tables.feature(project, "one"))
    number = tables.server_key(environment, "ser.key")
    async with opened(tables.url) as database:
        before = await database.lookup("ser.key")
        tables.state(tables.feature(project, "two"), environment)
        after = await database.lookup("ser.key")
        tables.run("DELETE FROM environments_environmentapikey WHERE id = %s", number)
        removed = await database.lookup("ser.key")
        left = await database.lookup("client")

    assert before is not None
    assert after is not None
    assert left is not None
    assert [{"one"}, {"one", "two"}, {"one", "two"}] == [grant.environment.features for grant in (before, after, left)]
    assert removed is None


async def test_all_environments_by_name(shop: FlagsmithTables) -> None:
    """Readers find every environment that is not deleted, under its client key, whatever it is called."""
    async with opened(shop.url) as database:
        found = await database.environments()

    expected = {case.name: case.grant().environment for _, _, case in CASES if case is not None and not case.is_server}
    assert expected == found
    assert 15 < [environment.display_name for environment in found.values()].count("Shop / Production")


async def test_a_key_is_no_token(shop: FlagsmithTables) -> None:
    """A token that is the same text as a key neither reads nor writes, and whoever checks is told, without the key."""
    tokens = ("client-production", "ser.valid", "a-token")
    async with opened(shop.url, tokens) as database:
        read = [await database.token(text) for text in tokens]
        granted = [await database.lookup(text) for text in tokens]
        faults = (await database.inventory()).faults

    assert [None, None, Token(role="read")] == read
    assert [None, None, None] == granted
    assert 2 == sum("is the same text as a token" in fault for fault in faults)
    assert not any("valid" in fault or "client-production" in fault for fault in faults)


async def test_tokens_are_those_given(shop: FlagsmithTables) -> None:
    """Tokens come from the settings: a key of Flagsmith never reads, and a token never writes."""
    async with opened(shop.url) as database:
        tokens = [await database.token(text) for text in ("a-token", "A-token", "ser.valid", "", "\0", "a" * 600)]
        grant = await database.lookup("a-token")

    assert [Token(role="read"), None, None, None, None, None] == tokens
    assert grant is None


async def test_what_the_inventory_tells(tables: FlagsmithTables) -> None:
    """Everything is listed, keys that do not count included, and what is wrong is said in sentences."""
    shop, blog = tables.project("Shop"), tables.project("Blog")
    one = tables.environment(shop, "client-one", tables.feature(shop, "cart"))
    tables.environment(blog, "client-two", tables.feature(blog, "cart"))
    tables.environment(blog, "client-empty", name="Staging")
    tables.environment(blog, "client-gone", deleted_at=NOW)
    tables.server_key(one, "ser.inactive", active=False)
    tables.server_key(one, "ser.expired", expires_at=dt.datetime.fromtimestamp(1e9, dt.UTC))
    async with opened(tables.url) as database:
        inventory = await database.inventory()

    assert ["Blog / Staging", "Shop / Production", "Blog / Production"] == [
        environment.display_name for environment in inventory.environments
    ]
    assert (
        KeyFound(text="client-empty", environment="client-empty"),
        KeyFound(text="client-one", environment="client-one"),
        KeyFound(text="ser.expired", environment="client-one", expires_at=1e9),
        KeyFound(text="ser.inactive", environment="client-one", active=False),
        KeyFound(text="client-two", environment="client-two"),
    ) == inventory.keys
    assert (
        "The environment Blog / Staging has no features, so nothing that is sent to it is recorded.",
    ) == inventory.faults


@pytest.mark.parametrize("right", ["SELECT", "UPDATE", "SELECT (name)"])
async def test_a_role_that_may_do_more_is_a_fault(tables: FlagsmithTables, right: str) -> None:
    """Whoever checks the catalog hears that the role reaches a table, and which."""
    tables.run(f"GRANT {right} ON projects_project TO {tables.role}")
    async with opened(tables.url) as database:
        [fault, _] = (await database.inventory()).faults

    assert (
        f"The role {tables.role} may read or change more than the view: 1 other tables and views, projects_project among "
        "them; use a role that may read flagledger_environment_keys and nothing else."
    ) == fault


async def test_an_empty_view_is_a_fault(tables: FlagsmithTables) -> None:
    """A database without any environment is hardly the one that was meant."""
    async with opened(tables.url) as database:
        [fault] = (await database.inventory()).faults

    assert "has no environment in it" in fault


async def test_an_owner_is_a_fault(tables: FlagsmithTables) -> None:
    """Flagsmith's own role works, and is complained of."""
    tables.environment(tables.project(), "client")
    async with opened(tables.owner_url) as database:
        grant = await database.lookup("client")
        faults = (await database.inventory()).faults

    assert grant is not None
    assert "6 other tables" in faults[0]


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("DROP VIEW flagledger_environment_keys", "There is no view"),
        ("REVOKE SELECT ON flagledger_environment_keys FROM {role}", "The role may not read the view"),
        ("ALTER VIEW flagledger_environment_keys RENAME COLUMN features TO names", "is that of another version"),
    ],
    ids=["missing", "not granted", "another version"],
)
async def test_a_view_that_cannot_be_read(tables: FlagsmithTables, statement: str, fault: str) -> None:
    """The check says what is the matter with the view; keys are not said to be wrong for it, and it is not ready."""
    tables.run(statement.format(role=tables.role))
    async with opened(tables.url) as database:
        inventory = await database.inventory()
        with pytest.raises(FlagledgerError) as caught:
            await database.lookup("client")
        with pytest.raises(FlagledgerError) as told:
            await database.reach()

        assert not database.ready()
    assert fault in str(told.value)
    assert ((), ()) == (inventory.environments, inventory.keys)
    assert fault in inventory.faults[0]
    assert caught.value.reason is Reason.CATALOG_UNREACHABLE


def test_the_role_reads_the_view_and_nothing_else(tables: FlagsmithTables) -> None:
    """Whoever steals the role's password sees no table of Flagsmith's, and changes nothing."""
    tables.environment(tables.project(), "client")
    names = [
        name for (name,) in tables.run("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    ]
    refused = []
    with psycopg.connect(tables.url, autocommit=True) as connection:
        for name in names:
            for statement in (f"SELECT 1 FROM {name}", f"DELETE FROM {name}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
                refused.append(name)
        with pytest.raises(psycopg.Error):
            connection.execute("DELETE FROM flagledger_environment_keys")
        rows = connection.execute("SELECT sdk_key FROM flagledger_environment_keys").fetchall()

    assert 6 == len(names)
    assert 12 == len(refused)
    assert [("client",)] == rows


def test_the_sql_may_be_run_again(tables: FlagsmithTables) -> None:
    """After an upgrade the same SQL is run again, and the role keeps what it was granted."""
    tables.run("SELECT 1")
    tables._connection.execute(view_sql())

    with psycopg.connect(tables.url) as connection:
        assert [] == connection.execute("SELECT * FROM flagledger_environment_keys").fetchall()


def test_what_the_sql_says_of_the_role_works(server: PostgresServer) -> None:
    """The commented part, with the dashes taken away, makes a role that reads the view."""
    statements = re.findall(r"^-- ((?:CREATE|GRANT) .*;)$", view_sql(), re.MULTILINE)
    with flagsmith_tables(server) as tables:
        [(database,)] = tables.run("SELECT current_database()::text")
        for statement in statements:
            tables.run(statement.replace("'…'", "'secret'").replace("DATABASE flagsmith", f"DATABASE {database}"))
        with psycopg.connect(server.url(database, "flagledger", "secret")) as connection:
            rows = connection.execute("SELECT * FROM flagledger_environment_keys").fetchall()
        tables.run("DROP OWNED BY flagledger; DROP ROLE flagledger")

    assert 4 == len(statements)
    assert [] == rows


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_one_key_is_found_by_the_indexes_of_keys(server: PostgresServer) -> None:
    """In a Flagsmith of 1,000 environments a lookup reads through no table of keys, and gathers one environment's features."""
    with flagsmith_tables(server) as tables:
        project = tables.project()
        tables.run(
            "INSERT INTO environments_environment (api_key, name, project_id) "
            "SELECT 'client-' || n, 'Environment ' || n, %s FROM generate_series(1, 1000) AS n",
            project,
        )
        tables.run(
            "INSERT INTO environments_environmentapikey (key, name, active, environment_id) "
            "SELECT 'ser.' || e.id || '-' || n, 'backend', true, e.id "
            "FROM environments_environment AS e, generate_series(1, 3) AS n"
        )
        tables.run(
            "INSERT INTO features_feature (name, project_id) SELECT 'feature_' || n, %s FROM generate_series(1, 20) AS n",
            project,
        )
        tables.run(
            "INSERT INTO features_featurestate (feature_id, environment_id) "
            "SELECT f.id, e.id FROM features_feature AS f, environments_environment AS e"
        )
        tables.run("ANALYZE")
        question = (
            "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM flagledger_environment_keys WHERE sdk_key = %s AND is_active"
        )
        plans = [tables.run(question, key)[0][0][0]["Plan"] for key in ("client-500", "ser.500-2", "nobody")]

    for plan, found in zip(plans, (1, 1, 0), strict=True):
        text = json.dumps(plan)
        assert found == plan["Actual Rows"], text
        # The few features of the project may be read through; keys, environments and states may not.
        scanned = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert set() == scanned - {"projects_project", "organisations_organisation", "features_feature"}, text
        conditions = [node["Index Cond"].partition("=")[0] for node in nodes(plan) if "Index Cond" in node]
        assert [1, 1] == [conditions.count(column) for column in ("((api_key)::text ", "((key)::text ")], text
        states = [node for node in nodes(plan) if node.get("Relation Name") == "features_featurestate"]
        assert [found] * len(states) == [node["Actual Loops"] for node in states], text


async def test_many_at_once_share_four_connections(tables: FlagsmithTables) -> None:
    """A crowd of lookups opens four connections at most, which bear our name."""
    tables.environment(tables.project(), "client")
    async with opened(tables.url) as database:
        grants = await asyncio.gather(*(database.lookup("client") for _ in range(100)))
        [(connections, names)] = tables.run(
            "SELECT count(*), array_agg(DISTINCT application_name) FROM pg_stat_activity WHERE usename = %s",
            tables.role,
        )

    assert 100 == sum(grant is not None for grant in grants)
    assert 1 <= connections <= 4
    assert ["flagledger"] == names


async def test_a_lookup_is_one_statement(server: PostgresServer, tables: FlagsmithTables) -> None:
    """A key costs the database one statement, with no transaction around it, besides one for each connection."""
    tables.run(f"ALTER ROLE {tables.role} SET log_statement = 'all'")
    async with opened(tables.url) as database:
        for _ in range(10):
            await database.lookup("nobody")

    statements = re.findall(r"LOG:  (?:statement|execute .*?): (.*)", server.log())
    assert ["SET statement_timeout = 2000", *["SELECT environment_key, "] * 10] == [
        re.sub("(environment_key, ).*", r"\1", statement) for statement in statements
    ]


def test_it_works_in_a_loop_of_uvloop(tables: FlagsmithTables) -> None:
    """The service's own event loop is another one than that of the tests."""
    import uvloop

    tables.environment(tables.project(), "client")

    async def ask() -> Grant | None:
        async with opened(tables.url) as database:
            return await database.lookup("client")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) is not None


async def test_ready_once_reached(tables: FlagsmithTables) -> None:
    """It is not ready before it was asked, and a sign of life is enough."""
    async with opened(tables.url) as database:
        before = database.ready()
        await database.reach()

        assert (False, True) == (before, database.ready())


def unreachable(kind: str, url: str) -> tuple[str, Callable[[], None]]:
    """Return the URL of a database that cannot be asked, and what lets go of it."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    if kind == "hangs":
        listener.listen()
    port = listener.getsockname()[1]
    if kind == "refuses":
        listener.close()
    if kind in {"refuses", "hangs"}:
        return url.replace(f":{parts['port']}/", f":{port}/"), listener.close
    if kind == "wrong password":
        return url.replace("of%20the%20role", "of%20another"), listener.close
    return url.replace(f"/{parts['dbname']}", "/no_such_database"), listener.close


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("refuses", "Connection refused"),
        ("hangs", "timeout expired"),
        ("wrong password", "password authentication failed"),
        ("no database", "does not exist"),
    ],
)
async def test_a_database_that_cannot_be_asked(
    tables: FlagsmithTables, caplog: pytest.LogCaptureFixture, kind: str, why: str
) -> None:
    """It is a refusal that may be retried, within the time promised, and neither it nor a log gives a secret away."""
    caplog.set_level(logging.DEBUG)
    url, let_go = unreachable(kind, tables.url)
    async with opened(url) as database:
        started = time.monotonic()
        with pytest.raises(FlagledgerError) as caught:
            await database.lookup("secret-key")
        took = time.monotonic() - started
        with pytest.raises(FlagledgerError) as told:
            await database.inventory()
        assert not database.ready()
    let_go()

    assert caught.value.reason is Reason.CATALOG_UNREACHABLE
    assert caught.value.retry_after is not None
    assert took < 5
    said = f"{caught.value} {caught.value.__cause__!r} {told.value} {caplog.text}"
    assert "The database of the Flagsmith cannot be asked: " in str(told.value)
    assert why in str(told.value)
    for secret in (ROLE_PASSWORD, "p%40ss", "of%20another", "of another", "secret-key"):
        assert secret not in said
    # What callers are told says nothing of where the database is.
    for place in (tables.role, "127.0.0.1"):
        assert place not in str(caught.value)


async def test_a_question_that_takes_too_long_is_ended(tables: FlagsmithTables) -> None:
    """A database that is locked up is given up after two seconds, and asked again once it is free."""
    tables.environment(tables.project(), "client")
    with psycopg.connect(tables.owner_url) as locker:
        locker.execute("LOCK TABLE environments_environment")
        async with opened(tables.url) as database:
            with pytest.raises(FlagledgerError) as caught:
                await database.lookup("client")
            locker.rollback()
            grant = await database.lookup("client")

    assert caught.value.reason is Reason.CATALOG_UNREACHABLE
    assert isinstance(caught.value.__cause__, psycopg.errors.QueryCanceled)
    assert grant is not None


async def test_all_environments_may_take_longer(tables: FlagsmithTables) -> None:
    """What a large Flagsmith takes for all of it is not ended after the two seconds that a key has."""
    tables.environment(tables.project(), "client")
    with psycopg.connect(tables.owner_url) as locker:
        locker.execute("LOCK TABLE environments_environment")
        async with opened(tables.url) as database:
            asking = asyncio.create_task(database.environments())
            await asyncio.sleep(2.5)
            locker.rollback()

            assert {"client"} == (await asking).keys()


async def test_connections_that_broke_are_made_anew(tables: FlagsmithTables) -> None:
    """After the server was started again the first lookup is answered: no call pays for a connection that was broken."""
    tables.environment(tables.project(), "client")
    async with opened(tables.url) as database:
        await asyncio.gather(*(database.lookup("client") for _ in range(50)))
        tables.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", tables.role)
        grants = [await database.lookup("client") for _ in range(5)]

    assert 5 == sum(grant is not None for grant in grants)


async def test_a_server_that_is_killed_and_comes_back() -> None:
    """While it is down every lookup is refused with a delay; once it is back, lookups are answered again."""
    with postgres_server() as server, flagsmith_tables(server) as tables:
        tables.environment(tables.project(), "client")
        url = tables.url
        async with opened(url) as database:
            assert await database.lookup("client") is not None
            server.kill()
            reasons = []
            for _ in range(3):
                with pytest.raises(FlagledgerError) as caught:
                    await database.lookup("client")
                reasons.append(caught.value.reason)
            server.start()
            async with asyncio.timeout(10):
                while True:
                    try:
                        grant = await database.lookup("client")
                        break
                    except FlagledgerError:
                        await asyncio.sleep(0.1)

    assert [Reason.CATALOG_UNREACHABLE] * 3 == reasons
    assert grant is not None


async def test_a_database_of_another_encoding(server: PostgresServer) -> None:
    """A key with a character that the database cannot hold is unknown, and no fault of the database."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        administrator.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(server.url("latin"), autocommit=True) as owner:
        owner.execute(
            "CREATE VIEW flagledger_environment_keys AS SELECT 'clé'::text AS sdk_key, 'clé'::text AS environment_key, "
            "''::text AS environment_name, ''::text AS project_name, true AS is_active, NULL::timestamptz AS expires_at, "
            "false AS stop_serving_flags, ARRAY['é'] AS features"
        )
    async with opened(server.url("latin")) as database:
        found, unknown = await database.lookup("clé"), await database.lookup("ключ")

    assert found is not None
    assert {"é"} == found.environment.features
    assert unknown is None


async def test_closing_ends_what_is_under_way(tables: FlagsmithTables) -> None:
    """Nobody waits for ever for a catalog that was closed, and it is not asked again."""
    with psycopg.connect(tables.owner_url) as locker:
        locker.execute("LOCK TABLE environments_environment")
        async with opened(tables.url) as database:
            waiting = asyncio.create_task(database.lookup("client"))
            await asyncio.sleep(0.3)
            await database.close()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            with pytest.raises(FlagledgerError):
                await database.lookup("client")


@pytest.mark.parametrize(
    "url", ["postgresql://role:pa%zzword@host/database", "postgresql://role:password@host/database?no_such=1"]
)
def test_a_url_that_is_none_is_not_repeated(url: str) -> None:
    """A mistake in the URL is said without the password that stands in it."""
    with pytest.raises(CatalogError) as caught:
        FlagsmithDatabase(url, tokens={}, policy_of=policy_of)

    assert "it is no URL of a PostgreSQL database" in str(caught.value)
    assert "word" not in str(caught.value)
    assert caught.value.__cause__ is None
