"""`flagledger serve` over a PostgreSQL store, from outside."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from flagledger.journal.base import Outcome
from flagledger.journal.sqlite import SqliteJournal
from flagledger.v1.query_service_pb2 import (
    CountEvaluationsRequest,
    DeleteIdentityRequest,
    ExportEvaluationsRequest,
    GetIntakeRequest,
    ListEvaluationsRequest,
    ListFeaturesRequest,
)
from flagledger.v1.query_service_pb2_grpc import QueryServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.oracle import ADMIN_TOKEN, CLIENT_KEY, environments_file
from support.postgres import fresh_database, fresh_store_url, session_server
from support.reading import EVALUATIONS, FEATURES, ask, evaluations, exported, get, metric, post, wait_for_total
from support.records import add_evaluation, record_of
from support.server import RunningServer

psycopg = pytest.importorskip("psycopg", reason="no PostgreSQL driver here: pip install 'psycopg[binary]'")
sql = pytest.importorskip("psycopg.sql")

pytestmark = pytest.mark.system

IDENTITIES = "/api/v2/analytics/identities"
INTAKE = "/api/v2/analytics/intake"
READER = [("authorization", "Bearer read-token-of-the-tests")]
ADMIN = [("authorization", f"Bearer {ADMIN_TOKEN}")]
TAKEOVER_SECONDS = 30.0


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """Return an environments file with one key and one feature."""
    return environments_file(tmp_path)


def batch(*identities: str) -> dict[str, object]:
    """Return a batch with an evaluation of each of *identities*."""
    return {
        "evaluations": [
            {
                "feature_name": "new_dashboard",
                "enabled": True,
                "value": identity,
                "evaluation_timestamp": "2026-02-10T11:00:00Z",
                "identity_identifier": identity,
            }
            for identity in identities
        ]
    }


@contextmanager
def questions(server: RunningServer) -> Iterator[QueryServiceStub]:
    """Yield a stub of the service's questions over gRPC."""
    with grpc.insecure_channel(server.grpc_target) as channel:
        yield QueryServiceStub(channel)


def test_recorded_asked_and_erased(server_factory: Callable[..., RunningServer], environments: Path) -> None:
    """What is recorded is there to be asked over both protocols, from any front, and an identity of it can be erased."""
    url = fresh_store_url()
    server = server_factory(environments=environments, variables={"FLAGLEDGER_STORE": url}, arguments=["--fronts", "2"])
    assert 202 == post(server, batch("alice", "bob", "alice"), key=CLIENT_KEY)[0]
    assert 3 == wait_for_total(server, 3, seconds=10)

    with questions(server) as stub:
        listed = stub.ListEvaluations(ListEvaluationsRequest(environment="demo"), metadata=READER)
        features = stub.ListFeatures(ListFeaturesRequest(environment="demo"), metadata=READER)
        counts = stub.CountEvaluations(
            CountEvaluationsRequest(environment="demo", group_by=["enabled"]), metadata=READER
        )
        pieces = [
            piece.data
            for piece in stub.ExportEvaluations(
                ExportEvaluationsRequest(environment="demo", format="ndjson"), metadata=READER
            )
        ]
        intake = stub.GetIntake(GetIntakeRequest(environment="demo"), metadata=READER)
        with pytest.raises(grpc.RpcError) as refused:
            stub.DeleteIdentity(DeleteIdentityRequest(environment="demo", identity_identifier="alice"), metadata=READER)
        erased = stub.DeleteIdentity(
            DeleteIdentityRequest(environment="demo", identity_identifier="alice"), metadata=ADMIN
        )
    with grpc.insecure_channel(server.grpc_target) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="flagledger.v1.QueryService")
        )
    status, _, again = ask(server, "DELETE", f"{IDENTITIES}/bob", token=ADMIN_TOKEN, environment="demo")

    assert ["alice", "bob", "alice"] == [one.identity_identifier for one in reversed(listed.evaluations)]
    assert [("new_dashboard", 3)] == [(one.feature_name, one.evaluation_count) for one in features.features]
    assert 3 == b"".join(pieces).count(b"\n")
    assert [3] == [series.evaluation_count for series in counts.series]
    assert (3, 0) == (intake.recorded_count, intake.journal.waiting_batch_count)
    assert grpc.StatusCode.PERMISSION_DENIED is refused.value.code()
    assert 2 == erased.deleted_evaluation_count
    assert health_pb2.HealthCheckResponse.SERVING == health.status
    assert (200, 1) == (status, int(again["deleted_evaluation_count"]))
    assert [] == list(evaluations(server))
    assert not (server.data / "store.duckdb").exists()
    assert 0 == server.stop()
    assert str(urlsplit(url).password) not in server.log().replace("postgresql://flagsmith:", "")


def test_started_again(server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path) -> None:
    """After a restart everything is there, through every question that HTTP has."""
    url, data = fresh_store_url(), tmp_path / "data"
    first = server_factory(data=data, environments=environments, variables={"FLAGLEDGER_STORE": url})
    for number in range(5):
        assert 202 == post(first, batch(f"user-{number}"), key=CLIENT_KEY)[0]
    assert 0 == first.stop()
    server = server_factory(data=data, environments=environments, variables={"FLAGLEDGER_STORE": url})

    assert 5 == wait_for_total(server, 5, seconds=10)
    identities = {f"user-{number}" for number in range(5)}
    assert identities == {one["identity_identifier"] for one in evaluations(server)}
    assert identities == {one["identity_identifier"] for one in exported(server)}
    assert ["new_dashboard"] == [feature["feature_name"] for feature in get(server, FEATURES)["features"]]
    assert "5" == str(get(server, INTAKE)["recorded_count"])
    status, _, page = ask(server, "GET", EVALUATIONS, identity_identifier="user-3")
    assert (200, 1) == (status, len(page["evaluations"]))


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_question_that_nobody_waits_for(
    server_factory: Callable[..., RunningServer], environments: Path, protocol: str
) -> None:
    """A caller whose time is over, or who has gone, leaves no statement behind that PostgreSQL works on."""
    url = fresh_store_url()
    server = server_factory(environments=environments, variables={"FLAGLEDGER_STORE": url})
    assert 202 == post(server, batch("alice"), key=CLIENT_KEY)[0]
    assert 1 == wait_for_total(server, 1, seconds=10)
    place, _, schema = url.partition("?schema=")

    with psycopg.connect(place) as other, psycopg.connect(place, autocommit=True) as watching:
        other.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(schema, "evaluations")))

        def waiting(expected: int) -> int:
            deadline = time.monotonic() + 10
            while (found := _held_up(watching)) != expected and time.monotonic() < deadline:
                time.sleep(0.05)
            return found

        if protocol == "grpc":
            with questions(server) as stub:
                asked = stub.ListFeatures.future(ListFeaturesRequest(environment="demo"), metadata=READER, timeout=3)
                began = waiting(1)
                code = asked.code()
            assert grpc.StatusCode.DEADLINE_EXCEEDED is code
        else:
            connection = http.client.HTTPConnection(urlsplit(server.http_url).netloc, timeout=30)
            connection.request("GET", FEATURES, headers={"Authorization": f"Bearer {server.read_token}"})
            began = waiting(1)
            connection.close()
        ended = waiting(0)

    assert (1, 0) == (began, ended)
    assert 1 == wait_for_total(server, 1, seconds=10)


def _held_up(connection: psycopg.Connection[Any]) -> int:
    """Return how many questions wait for a lock."""
    [(found,)] = connection.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND application_name LIKE 'flagledger reader%'"
    ).fetchall()
    return int(found)


def test_an_empty_store_in_place_of_the_one_before(
    server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path
) -> None:
    """Where what was recorded is in another store, and a new one comes up after the start, it is not asked as if it were that."""
    before = server_factory(data=tmp_path / "data", environments=environments)
    assert 202 == post(before, batch("alice", "bob"), key=CLIENT_KEY)[0]
    assert 2 == wait_for_total(before, 2, seconds=10)
    assert 0 == before.stop()
    with fresh_database(options="ALLOW_CONNECTIONS false") as name:
        variables = {"FLAGLEDGER_STORE": session_server().url(name)}
        server = server_factory(data=tmp_path / "data", environments=environments, variables=variables)
        away = ask(server, "GET", EVALUATIONS, environment="demo")[0]
        with psycopg.connect(session_server().url("postgres"), autocommit=True) as administrator:
            administrator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        deadline = time.monotonic() + TAKEOVER_SECONDS
        while "entries 1-1 are missing" not in server.log() and time.monotonic() < deadline:
            time.sleep(0.1)
        answered = [ask(server, "GET", path, environment="demo")[0] for path in (FEATURES, EVALUATIONS, INTAKE)]
        taken_in = post(server, batch("carol"), key=CLIENT_KEY)[0]
        server.stop()

    assert "entries 1-1 are missing" in server.log()
    assert (503, [503, 503, 503], 202) == (away, answered, taken_in)


def test_retention(server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path) -> None:
    """What outlived its retention is dropped, what did not stays."""
    data = tmp_path / "data"
    data.mkdir()
    now, day = time.time_ns() // 1000, 86_400_000_000
    journal = SqliteJournal.open(data / "journal.db", max_bytes=1 << 30)

    async def record(identity: str, days: int) -> None:
        record = record_of(environment="demo", receive_time=now - days * day, batch_id=identity)
        add_evaluation(record, feature_name="new_dashboard", time=now - days * day, identity_identifier=identity)
        outcome = Outcome(accepted=1, filtered=0, rejected=0)
        await journal.append("demo", identity, b"d" * 16, outcome, record.SerializeToString())

    async def fill() -> None:
        for identity, days in (("old", 10), ("older", 30), ("young", 3)):
            await record(identity, days)

    asyncio.run(fill())
    journal.close()
    server = server_factory(
        data=data,
        environments=environments,
        variables={"FLAGLEDGER_STORE": fresh_store_url(), "FLAGLEDGER_RETENTION_DAYS": "5"},
    )
    deadline = time.monotonic() + 20
    while metric(server, "flagledger_dropped_rows_total") < 2 and time.monotonic() < deadline:
        time.sleep(0.1)

    assert ["young"] == [one["identity_identifier"] for one in evaluations(server)]
    assert 5 == get(server, INTAKE)["retention_days"]


def test_one_writer_at_a_time(server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path) -> None:
    """
    A service whose store another one writes takes evaluations in and answers questions meanwhile, says so in its log, and takes
    over once the other is gone.
    """
    variables = {"FLAGLEDGER_STORE": fresh_store_url()}
    first = server_factory(data=tmp_path / "first", environments=environments, variables=variables)
    assert 202 == post(first, batch("before"), key=CLIENT_KEY)[0]
    assert 1 == wait_for_total(first, 1, seconds=10)
    assert 0 == first.stop()
    # As a volume that went to another machine: one journal, and the store that knows it.
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    first = server_factory(data=tmp_path / "first", environments=environments, variables=variables)
    second = server_factory(data=tmp_path / "second", environments=environments, variables=variables)

    taken = post(second, batch("meanwhile"), key=CLIENT_KEY)[0]
    ready, _, _ = ask(second, "GET", "/readyz")
    erasing, headers, _ = ask(second, "DELETE", f"{IDENTITIES}/before", token=ADMIN_TOKEN, environment="demo")
    held = [one["identity_identifier"] for one in evaluations(second)]
    waiting = int(get(second, INTAKE)["journal"]["waiting_batch_count"])
    first.kill()
    found = wait_for_total(second, 2, seconds=TAKEOVER_SECONDS)

    assert (202, 200, 503) == (taken, ready, erasing)
    assert headers["Retry-After"]
    assert (["before"], 1) == (held, waiting)
    assert 2 == found
    assert ["meanwhile", "before"] == [one["identity_identifier"] for one in evaluations(second)]
    assert "Another writer has the schema" in second.log()
