"""The service over a PostgreSQL store: its writer killed, the server killed, the server away."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.oracle import ADMIN_TOKEN, CLIENT_KEY, NOTHING_WRONG, compared, environments_file, oracle
from support.pace import Pace, pace
from support.postgres import PostgresServer, fresh_store_url, postgres_server
from support.processes import writer_of
from support.reading import FEATURES, ask, exported, metric, post, wait_for_total
from support.server import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]

KILLS = 10
OUTAGE_SECONDS = 120.0
BEFORE_SECONDS = 10.0
BATCHES_PER_SECOND = 20
EVALUATIONS = 100
# What comes in until some 90 s of the outage have passed.
JOURNAL_BYTES = 10 << 20
CAUGHT_UP_SECONDS = 120.0
DEAD_SECONDS = 8.0
BACK_SECONDS = 10.0
APPLIED_ROWS = "flagledger_applied_rows_total"
INTAKE = "/api/v2/analytics/intake"
IDENTITIES = "/api/v2/analytics/identities"

Factory = Callable[..., RunningServer]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """Return a PostgreSQL of the test's own, which it may kill."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver here: pip install 'psycopg[binary]'")
    with postgres_server() as server:
        yield server


def served(server_factory: Factory, tmp_path: Path, postgres: PostgresServer, **variables: str) -> RunningServer:
    """Return a service whose store is in *postgres*."""
    url = fresh_store_url(postgres)
    return server_factory(environments=environments_file(tmp_path), variables={"FLAGLEDGER_STORE": url, **variables})


def test_writer_killed(server_factory: Factory, tmp_path: Path, postgres: PostgresServer) -> None:
    """The writer killed over and over under load: what was acknowledged is there, each once, and nothing else."""
    server = served(server_factory, tmp_path, postgres)
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    with oracle() as sender:
        sender.tell(server)
        for number in range(KILLS):
            writer = writer_of(server)
            # Every other time before it has come to anything: then what comes next finds what that left.
            if number % 2 == 0:
                wait_for_applied(server, metric(server, APPLIED_ROWS) + 1)
            time.sleep(dice.uniform(0.0, 1.0))
            writer.kill()
            psutil.wait_procs([writer], timeout=10)
        applied = metric(server, APPLIED_ROWS)
        result = sender.finish()

    assert [] == result["wrong"], seed
    assert NOTHING_WRONG == compared(server, result), seed
    assert applied > KILLS / 2
    assert len(result["acknowledged"]) > 10 * KILLS


def test_server_killed(server_factory: Factory, tmp_path: Path, postgres: PostgresServer) -> None:
    """The PostgreSQL killed over and over under load: intake goes on, and in the end all is there, each once."""
    server = served(server_factory, tmp_path, postgres)
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    with oracle() as sender:
        sender.tell(server)
        for _ in range(KILLS):
            wait_for_applied(server, metric(server, APPLIED_ROWS) + 1)
            time.sleep(dice.uniform(0.0, 1.0))
            postgres.kill()
            time.sleep(dice.uniform(0.0, 0.5))
            postgres.start()
        result = sender.finish()

    assert [] == result["wrong"], seed
    assert NOTHING_WRONG == compared(server, result), seed
    assert len(result["acknowledged"]) > 10 * KILLS
    assert "Traceback" not in server.log()


def wait_for_applied(server: RunningServer, rows: float) -> None:
    """Wait until so many rows have been applied."""
    deadline = time.monotonic() + CAUGHT_UP_SECONDS
    while metric(server, APPLIED_ROWS) < rows:
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.05)


def test_server_away(server_factory: Factory, tmp_path: Path, postgres: PostgresServer) -> None:
    """
    The PostgreSQL away for two minutes: intake goes on until the journal is full, then senders are told when to come back; once
    it has returned the writer catches up at twice the rate of intake at least, and nothing is missing.
    """
    server = served(server_factory, tmp_path, postgres, FLAGLEDGER_JOURNAL_MAX_BYTES=str(JOURNAL_BYTES))
    with pace(server, CLIENT_KEY, batches_per_second=BATCHES_PER_SECOND, evaluations=EVALUATIONS) as load:
        began = time.monotonic()
        time.sleep(BEFORE_SECONDS)
        gone = time.monotonic()
        postgres.kill()
        told = observed_outage(server, gone)
        returned = time.monotonic()
        postgres.start()
        caught_up_rate = caught_up(server)
        load.stop()
        refused = [answer for answer in load.answers if answer.status != 202]
        resend(load, [answer.batch_id for answer in refused])
    accepted_before = EVALUATIONS * sum(1 for answer in load.answers if answer.status == 202 and answer.at < gone)
    intake_rate = accepted_before / (gone - began)

    first_refused = min(answer.at for answer in refused)
    assert {(429, "JOURNAL_FULL")} == {(answer.status, answer.reason) for answer in refused}
    assert all(int(answer.retry_after or 0) >= 1 for answer in refused)
    assert gone < first_refused < returned
    assert {(503, True, 200, 503)} == told
    expected = {f"{answer.batch_id}/{index}" for answer in load.answers for index in range(EVALUATIONS)}
    assert len(expected) == wait_for_total(server, len(expected), seconds=CAUGHT_UP_SECONDS)
    found = Counter(one["identity_identifier"] for one in exported(server))
    assert (set(), set(), 1) == (expected - found.keys(), found.keys() - expected, max(found.values()))
    print(  # noqa: T201  # a figure for whoever reads along
        f"intake {intake_rate:,.0f} rows/s, full after {first_refused - gone:.0f} s, {len(refused)} batches refused; "
        f"caught up at {caught_up_rate:,.0f} rows/s ({caught_up_rate / intake_rate:.1f} times intake)"
    )
    assert caught_up_rate >= 2 * intake_rate


def observed_outage(server: RunningServer, gone: float) -> set[tuple[int, bool, int, int]]:
    """Return what a question, its delay, readiness and an order came to until the outage is over."""
    told = set()
    while time.monotonic() < gone + OUTAGE_SECONDS:
        status, headers, _ = ask(server, "GET", FEATURES)
        ready, _, _ = ask(server, "GET", "/readyz")
        erasing, _, _ = ask(server, "DELETE", f"{IDENTITIES}/a", token=ADMIN_TOKEN, environment="demo")
        told.add((status, int(headers["Retry-After"] or 0) >= 1, ready, erasing))
        time.sleep(1.0)
    return told


def caught_up(server: RunningServer) -> float:
    """Wait until the store holds what the journal does, and return at how many rows a second it came to that."""
    began, rows = time.monotonic(), metric(server, APPLIED_ROWS)
    deadline = began + CAUGHT_UP_SECONDS
    while metric(server, APPLIED_ROWS) == rows or waiting(server) > BATCHES_PER_SECOND:
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.05)
    return (metric(server, APPLIED_ROWS) - rows) / (time.monotonic() - began)


def waiting(server: RunningServer) -> float:
    """Return how many batches the store does not hold yet; beyond counting while it cannot be asked."""
    status, _, intake = ask(server, "GET", INTAKE)
    return int(intake["journal"]["waiting_batch_count"]) if status == 200 else float("inf")


def resend(load: Pace, batch_ids: list[str]) -> None:
    """Send again what was refused, until it is taken."""
    for batch_id in batch_ids:
        deadline = time.monotonic() + CAUGHT_UP_SECONDS
        while (answer := load.send(batch_id)).status != 202:
            assert time.monotonic() < deadline, answer
            time.sleep(1.0)


@contextmanager
def no_writer(server: RunningServer) -> Iterator[None]:
    """Kill the writer as soon as it comes, for as long as the block lasts."""
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            for process in psutil.Process(server.process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if process.pid not in fronts:
                        process.kill()
            time.sleep(0.01)

    writer = writer_of(server)
    fronts = {process.pid for process in psutil.Process(server.process.pid).children()} - {writer.pid}
    killer = threading.Thread(target=kill)
    killer.start()
    psutil.wait_procs([writer], timeout=10)
    try:
        yield
    finally:
        over.set()
        killer.join(10)


def test_questions_without_a_writer(server_factory: Factory, tmp_path: Path, postgres: PostgresServer) -> None:
    """Without the writer fronts answer questions; orders are refused with a delay, and carried out once it is back."""
    server = served(server_factory, tmp_path, postgres)
    batch = {
        "evaluations": [
            {
                "feature_name": "new_dashboard",
                "enabled": True,
                "evaluation_timestamp": "2026-02-10T11:00:00Z",
                "identity_identifier": "alice",
            }
        ]
    }
    assert 202 == post(server, batch, key=CLIENT_KEY)[0]
    assert 1 == wait_for_total(server, 1, seconds=10)
    seen, healths = set(), set()
    order = {"token": ADMIN_TOKEN, "environment": "demo"}
    with no_writer(server), grpc.insecure_channel(server.grpc_target) as channel:
        taken = post(server, batch, key=CLIENT_KEY)[0]
        until = time.monotonic() + DEAD_SECONDS
        while time.monotonic() < until:
            status, _, features = ask(server, "GET", FEATURES)
            _, _, intake = ask(server, "GET", INTAKE)
            erasing, headers, _ = ask(server, "DELETE", f"{IDENTITIES}/alice", **order)
            seen.add(
                (
                    status,
                    int(features["features"][0]["evaluation_count"]),
                    int(intake["journal"]["waiting_batch_count"]),
                    erasing,
                    headers["Retry-After"],
                )
            )
            healths.add(
                health_pb2_grpc.HealthStub(channel)
                .Check(health_pb2.HealthCheckRequest(service="flagledger.v1.QueryService"), timeout=10)
                .status
            )
            time.sleep(0.1)

    assert 202 == taken
    assert {(200, 1, 1, 503, "2")} == seen
    assert {health_pb2.HealthCheckResponse.SERVING} == healths
    assert 2 == wait_for_total(server, 2, seconds=30)
    # What it has applied is seen in the store before the fronts have found it again.
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        status, _, erased = ask(server, "DELETE", f"{IDENTITIES}/alice", **order)
        if status != 503 or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert (200, 2) == (status, int(erased.get("deleted_evaluation_count", 0))), erased
