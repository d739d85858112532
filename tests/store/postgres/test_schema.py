from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import pytest
from flagledger.store.errors import NewerFormatError, StoreError
from flagledger.store.postgres import schema
from flagledger.store.postgres.store import PostgresStore
from store.postgres.applying import apply, expected_identities, identities
from support.postgres import PostgresServer, fresh_database, session_server

Open = Callable[..., PostgresStore]

_MIGRATE: Final = """
import sys
from flagledger.store.postgres.connection import address_of, connect
from flagledger.store.postgres.schema import migrate
address = address_of(sys.argv[1])
migrate(connect(address, "migration"), address.schema)
"""
_LOCK: Final = "hashtextextended('flagledger migrations ' || %s, 0)"


@pytest.fixture
def role(url: str) -> Iterator[tuple[str, str]]:
    """Make a role that may do nothing; return its name, and the URL of the test's store for it."""
    name = f"role_{url.partition('schema=')[2]}"
    with psycopg.connect(session_server().url("postgres"), autocommit=True) as administrator:
        administrator.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'password'")
        yield name, url.replace("flagsmith:flagsmith", f"{name}:password")
        administrator.execute(f"DROP OWNED BY {name} CASCADE")
        administrator.execute(f"DROP ROLE {name}")


def test_one_process_migrates_and_the_other_waits(url: str, administrator: psycopg.Connection[Any]) -> None:
    """Of two processes that start at once, each finds the tables made, once; they take turns."""
    name = url.partition("schema=")[2]
    with psycopg.connect(session_server().url("postgres")) as holder:
        holder.execute(f"SELECT pg_advisory_xact_lock({_LOCK})", (name,))
        processes = [subprocess.Popen([sys.executable, "-c", _MIGRATE, url]) for _ in range(2)]
        deadline = time.monotonic() + 60
        # Both are held up, so that none can have looked after the other was done.
        while _waiting(administrator) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    codes = [process.wait(60) for process in processes]

    assert [0, 0] == codes
    versions = administrator.execute("SELECT version FROM migrations ORDER BY version").fetchall()
    assert [(number,) for number in range(1, schema.VERSION + 1)] == versions


def _waiting(administrator: psycopg.Connection[Any]) -> int:
    ((count,),) = administrator.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    ).fetchall()
    return int(count)


def test_a_migration_that_another_one_is_stuck_in_is_given_up(
    url: str, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for another process's migration does not do so for ever, and is told to try again."""
    monkeypatch.setattr(schema, "LOCK_SECONDS", 1)
    with psycopg.connect(session_server().url("postgres")) as holder:
        holder.execute(f"SELECT pg_advisory_xact_lock({_LOCK})", (url.partition("schema=")[2],))
        with pytest.raises(StoreError, match="Another process has been migrating") as refusal:
            open_store()
    open_store()

    assert refusal.value.temporary


def test_an_older_version_is_migrated_with_its_rows(
    url: str, open_store: Open, administrator: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of an older version get what the migrations behind it make; what they hold stays; a reader waits for the writer."""
    store = open_store()
    apply(store, 1, 2)
    store.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("ALTER TABLE evaluations ADD COLUMN more text",)))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    reader = PostgresStore(url, read_only=True)
    with pytest.raises(StoreError, match="which the writer of this version") as refusal:
        reader.environments()
    store = open_store()

    assert refusal.value.temporary
    assert 2 == store.position("journal")
    assert ("production",) == reader.environments()
    assert expected_identities(2) == identities(administrator)
    assert [(None,)] == administrator.execute("SELECT DISTINCT more FROM evaluations").fetchall()
    reader.close()


def test_a_migration_that_fails_leaves_nothing(
    open_store: Open, administrator: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration is made whole or not at all, the schema included."""
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (("CREATE TABLE first ()", "CREATE NONSENSE"),))
        with pytest.raises(StoreError):
            open_store()

        assert [] == administrator.execute("SELECT 1 FROM pg_namespace WHERE nspname = current_schema()").fetchall()
    open_store()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_version_is_refused(
    open_store: Open,
    administrator: psycopg.Connection[Any],
    read_only: bool,  # noqa: FBT001  # a parameter
) -> None:
    """Tables that a newer version made are neither written nor read."""
    open_store().close()
    administrator.execute("INSERT INTO migrations VALUES (%s)", (schema.VERSION + 1,))

    with pytest.raises(NewerFormatError):
        open_store(read_only=read_only).environments()


def test_a_reader_says_that_there_is_nothing_yet(open_store: Open, administrator: psycopg.Connection[Any]) -> None:
    """Where no writer ever was, a reader makes nothing and says so; once one was, the same reader answers."""
    reader = open_store(read_only=True)
    with pytest.raises(StoreError, match="holds no evaluations yet") as refusal:
        reader.environments()

    assert refusal.value.temporary
    assert [] == administrator.execute("SELECT 1 FROM pg_namespace WHERE nspname = current_schema()").fetchall()
    apply(open_store(), 1, 1)
    assert ("production",) == reader.environments()


def test_a_role_without_rights_is_told_what_to_grant(
    role: tuple[str, str], open_store: Open, administrator: psycopg.Connection[Any]
) -> None:
    """A writer whose role may make no schema names the statement that helps; it does."""
    name, url = role
    with pytest.raises(StoreError, match="GRANT CREATE ON DATABASE") as refusal:
        open_store(url=url)
    statement = f'GRANT CREATE ON DATABASE "postgres" TO "{name}"'
    assert statement in str(refusal.value)
    administrator.execute(statement)

    store = open_store(url=url)

    apply(store, 1, 1)
    assert ("production",) == store.environments()


def test_a_schema_made_for_the_role_is_enough(
    role: tuple[str, str], open_store: Open, administrator: psycopg.Connection[Any]
) -> None:
    """The other way that the message names helps as well: a schema of the role's own, and no right on the database."""
    name, url = role
    schema_name = url.partition("schema=")[2]
    statement = f'CREATE SCHEMA "{schema_name}" AUTHORIZATION "{name}"'
    with pytest.raises(StoreError) as refusal:
        open_store(url=url)
    assert statement in str(refusal.value)
    administrator.execute(statement)

    apply(open_store(url=url), 1, 1)

    assert expected_identities(1) == identities(administrator)


@pytest.mark.parametrize("used", [False, True])
def test_a_schema_that_the_role_may_not_use_is_not_passed_over(
    role: tuple[str, str],
    open_store: Open,
    administrator: psycopg.Connection[Any],
    used: bool,  # noqa: FBT001  # a parameter
) -> None:
    """PostgreSQL would make the tables where they go with the connection, and everything in them; the advice helps."""
    name, url = role
    schema_name = url.partition("schema=")[2]
    administrator.execute(f"CREATE SCHEMA {schema_name}")
    if used:
        administrator.execute(f"GRANT USAGE ON SCHEMA {schema_name} TO {name}")
    statement = f'ALTER SCHEMA "{schema_name}" OWNER TO "{name}"'
    with pytest.raises(StoreError, match=re.escape(statement)):
        open_store(url=url)
    administrator.execute(statement)

    apply(open_store(url=url), 1, 1)

    assert expected_identities(1) == identities(administrator)


def test_a_role_that_only_reads_is_enough_for_questions(
    role: tuple[str, str], open_store: Open, administrator: psycopg.Connection[Any]
) -> None:
    """A reader says what its role lacks; with that it answers, of days that came later too."""
    name, url = role
    store = open_store()
    reader = open_store(url=url, read_only=True)
    with pytest.raises(StoreError, match="GRANT USAGE ON SCHEMA"):
        reader.environments()
    administrator.execute(f"GRANT USAGE ON SCHEMA {url.partition('schema=')[2]} TO {name}")
    administrator.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {url.partition('schema=')[2]} TO {name}")

    apply(store, 1, 1)

    assert ("production",) == reader.environments()


def test_a_database_of_another_encoding_is_refused(open_store: Open) -> None:
    """A database that cannot hold every text is refused before anything is written."""
    server: PostgresServer = session_server()
    with fresh_database(server, "ENCODING 'LATIN1' TEMPLATE template0") as name:  # noqa: SIM117  # the order matters
        with pytest.raises(StoreError, match="LATIN1"):
            open_store(url=server.url(name))
