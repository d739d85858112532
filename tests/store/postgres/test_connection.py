from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import pytest
from flagledger.store.errors import DiskFullError, StoreError
from flagledger.store.postgres.connection import WRITER, AddressError, address_of, connect
from flagledger.store.postgres.store import PostgresStore
from store.postgres.applying import apply
from support.postgres import session_server

Open = Callable[..., PostgresStore]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://role:s3cr3t@word@host/db",
        "postgresql://role:s3cr3t/word@host/db",
        "postgresql://role:s3cr3t?word@host/db",
        "postgresql://role:s3cr3t#word@host/db",
        "postgresql://role:s3cr3t/db",
        "postgresql://role:s3cr3t%zz@host/db",
        "postgresql://role:s3cr3t@host:s3cr3t/db",
        "postgresql://role:s3cr3t@host/db?schema=",
        "postgresql://role:s3cr3t@host/db?schema=pg_catalog",
        "postgresql://role:s3cr3t@host/db?schema=a&schema=b",
        "postgresql://role:s3cr3t@host/db?schema=" + "x" * 64,
        "postgresql://role:s3cr3t@host/db?no_parameter=s3cr3t",
        "postgresql://role@host/db?password=abc&s3cr3t",
        "postgresql://role@host/db?password=abc&s3cr3t=x",
        "mysql://role:s3cr3t@host/db",
    ],
)
def test_urls_that_are_none_are_refused_without_being_quoted(url: str) -> None:
    """A URL that libpq would misread, or that names no schema, is refused for good, and nothing of its password is said."""
    with pytest.raises(AddressError) as refusal:
        PostgresStore(url)

    assert not refusal.value.temporary
    assert "s3cr3t" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_mistyped_parameter() -> None:
    """Who mistypes a parameter is told which one is likely meant, and not what was written: it may be part of a password."""
    with pytest.raises(AddressError, match=r"was one meant to be sslmode\?$"):
        address_of("postgresql://role@host/db?schema=a&ssl_mode=require")
    with pytest.raises(AddressError) as refusal:
        address_of("postgresql://host/db?user=x&password=abc&defgh")
    assert "defgh" not in str(refusal.value)


def test_parameters_as_libpq_takes_them() -> None:
    """What libpq takes in a URL alone is taken."""
    assert "require" == address_of("postgresql://role@host/db?ssl=true").parameters["sslmode"]


def test_the_schema_is_taken_out_of_the_url() -> None:
    """The schema is ours, all other parameters are libpq's; a password is decoded and not shown."""
    address = address_of(
        "postgresql://role:p%40ss%2Fword@host:1234/db?sslmode=require&schema=Our+own&application_name=me"
    )

    assert "Our own" == address.schema
    assert "db on host:1234" == address.place
    assert {
        "user": "role",
        "password": "p@ss/word",
        "host": "host",
        "port": "1234",
        "dbname": "db",
        "sslmode": "require",
        "application_name": "me",
    } == address.parameters
    assert "ss/word" not in repr(address)
    assert "flagledger" == address_of("postgresql://host").schema


@pytest.mark.parametrize("read_only", [False, True])
def test_a_password_is_in_no_message(read_only: bool) -> None:  # noqa: FBT001  # a parameter
    """Neither a password that is refused nor one for a server that is not there is named, in whatever form."""
    password = "wr0ng/p@ss"
    for url in (
        session_server().url("postgres", password=password),
        "postgresql://role:wr0ng%2Fp%40ss@127.0.0.1:1/db",
        "postgresql://role:wr0ng%2Fp%40ss@no-such-host.invalid/db",
    ):
        with pytest.raises(StoreError) as refusal:
            PostgresStore(url, read_only=read_only).environments()

        assert refusal.value.temporary
        assert not re.search("wr0ng|p@ss|p%40ss", str(refusal.value)), str(refusal.value).replace(password, "…")


def test_sessions_are_set_up(url: str) -> None:
    """A writer's commits are durable, its statements unlimited and its times UTC, whatever the server or the URL say."""
    options = "&options=-c%20synchronous_commit%3Doff%20-c%20statement_timeout%3D1s%20-c%20TimeZone%3DAsia/Tokyo"
    with connect(address_of(url + options), "writer", WRITER) as connection:

        def shown(name: str) -> str:
            ((value,),) = connection.execute(f"SHOW {name}").fetchall()
            return str(value)

        assert ("on", "0", "UTC") == (shown("synchronous_commit"), shown("statement_timeout"), shown("TimeZone"))
        assert "10" == shown("tcp_keepalives_idle")
        assert re.fullmatch(r"flagledger writer on .+, process \d+", shown("application_name"))


def test_any_name_of_a_schema_is_one(open_store: Open, administrator: psycopg.Connection) -> None:
    """A schema may be called whatever PostgreSQL lets it be called."""
    name = 'Übung "1", $user; DROP'
    store = open_store(url=session_server().url("postgres") + "?schema=%C3%9Cbung%20%221%22,%20$user;%20DROP")
    apply(store, 1, 1)
    found = administrator.execute(
        "SELECT count(*) FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = %s AND relname = 'streams'",
        (name,),
    ).fetchall()

    assert [(1,)] == found
    assert ("production",) == store.environments()
    assert 1 == store.drop_before(1 << 60) // 3


def test_a_full_disk_is_told_from_other_errors(store: PostgresStore, administrator: psycopg.Connection) -> None:
    """What the server says of a full disk arrives as such, and nothing was applied; with room again it is."""
    administrator.execute("""
        CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$
    """)
    administrator.execute("CREATE TRIGGER no_room BEFORE INSERT ON streams EXECUTE FUNCTION no_room()")
    with pytest.raises(DiskFullError):
        apply(store, 1, 1)
    administrator.execute("DROP TRIGGER no_room ON streams")

    assert 0 == store.position("journal")
    apply(store, 1, 1)
    assert 1 == store.position("journal")


def test_messages_hold_nothing_of_rows(store: PostgresStore, administrator: psycopg.Connection) -> None:
    """What the server quotes of a row that it refuses stays out of the message: it may name people."""
    administrator.execute("ALTER TABLE evaluations ADD CONSTRAINT none CHECK (identity_identifier = '')")
    with pytest.raises(StoreError) as refusal:
        apply(store, 1, 1)

    assert "none" in str(refusal.value)
    assert "1/0" not in str(refusal.value)
