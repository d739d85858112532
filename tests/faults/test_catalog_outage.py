"""A Flagsmith's database, killed under load, and keys that end while they are in use."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from support.flagsmith_database import ROLE_PASSWORD, FlagsmithTables, flagsmith_tables
from support.postgres import PostgresServer, postgres_server
from support.reading import EVALUATIONS, get, wait_for_total
from support.server import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(300)]

REFRESH_SECONDS = 1.0
# A loaded machine, and a question to the database.
SLACK_SECONDS = 2.0
OUTAGE_SECONDS = 8.0
RECOVERY_SECONDS = 20.0
PACE_SECONDS = 0.02
CLIENT, SERVER = "client-production", "ser.production"
BATCH = json.dumps(
    {"evaluations": [{"feature_name": "cart", "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}]}
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a call with a key came to."""

    at: float
    status: int
    retry_after: str | None


@dataclass
class Sender:
    """Sends a batch under one key again and again, from a thread of its own."""

    url: str
    key: str
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the last call was answered."""
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(self) -> Answer:
        """Send once."""
        headers = {"X-Environment-Key": self.key, "Content-Type": "application/json"}
        started = time.monotonic()
        self._connection.request("POST", f"{EVALUATIONS}/", BATCH, headers)
        response = self._connection.getresponse()
        response.read()
        return Answer(at=started, status=response.status, retry_after=response.headers["Retry-After"])

    def between(self, first: float, last: float = float("inf")) -> list[int]:
        """Return the statuses of the calls that began from *first* to *last*."""
        return [answer.status for answer in self.answers if first <= answer.at < last]

    def _run(self) -> None:
        while not self._stopping.wait(PACE_SECONDS):
            self.answers.append(self.send())


@contextmanager
def load(server: RunningServer, *keys: str) -> Iterator[list[Sender]]:
    """Send with *keys* for as long as the block lasts."""
    senders = [Sender(server.http_url, key) for key in keys]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        for sender in senders:
            sender.stop()


def call(server: RunningServer, key: str) -> Answer:
    """Return what one call with *key* comes to."""
    with closing(Sender(server.http_url, key)) as sender:
        return sender.send()


def wait_for(server: RunningServer, key: str, status: int) -> float:
    """Return the time after which a call with *key* was answered with *status*."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while (answer := call(server, key)).status != status:
        assert time.monotonic() < deadline, f"{answer} and not {status}\n{server.log()}"
        time.sleep(0.2)
    return time.monotonic()


def is_ready(server: RunningServer) -> bool:
    """Return whether the service says that it is ready."""
    try:
        with urllib.request.urlopen(f"{server.http_url}/readyz", timeout=10):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False


def wait_until_ready(server: RunningServer) -> None:
    """Wait until the service says that it is ready."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while not is_ready(server):
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.1)


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL for one test, which may kill it."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def flagsmith(postgres: PostgresServer) -> Iterator[FlagsmithTables]:
    """Make a Flagsmith with one environment, a feature and two keys."""
    with flagsmith_tables(postgres) as tables:
        project = tables.project()
        environment = tables.environment(project, CLIENT, tables.feature(project, "cart"))
        tables.server_key(environment, SERVER)
        yield tables


@pytest.fixture
def start(server_factory: Callable[..., RunningServer], flagsmith: FlagsmithTables) -> Callable[[], RunningServer]:
    """Return what starts a service on that Flagsmith, which looks again each second."""

    def start() -> RunningServer:
        return server_factory(
            arguments=["--catalog", flagsmith.url],
            variables={"FLAGLEDGER_CATALOG_REFRESH_SECONDS": f"{REFRESH_SECONDS:.0f}"},
        )

    return start


def test_database_killed_under_load(start: Callable[[], RunningServer], postgres: PostgresServer) -> None:
    """No call with a known key fails while the database is down; unknown ones are told to come back, and then the truth."""
    service = start()
    for key in (CLIENT, SERVER):
        wait_for(service, key, 202)
    wait_for(service, "nobody", 401)
    strangers = []
    with load(service, CLIENT, SERVER, CLIENT, SERVER) as senders:
        time.sleep(2)
        killed = time.monotonic()
        postgres.kill()
        down = time.monotonic()
        while time.monotonic() < down + OUTAGE_SECONDS:
            strangers.append(call(service, f"stranger-{len(strangers)}"))
        up = time.monotonic()
        postgres.start()
        recovered = wait_for(service, "another-stranger", 401)
        time.sleep(2)

    assert {(503, True)} == {(answer.status, int(answer.retry_after or 0) >= 1) for answer in strangers}, service.log()
    for sender in senders:
        assert {202} == set(sender.between(0)), service.log()
        # The test must have been one: there was load before, while it was down, and after.
        assert all(len(sender.between(*phase)) > 5 for phase in ((0, killed), (down, up), (recovered, float("inf"))))
    sent = sum(len(sender.answers) for sender in senders) + 2
    assert sent == wait_for_total(service, sent, seconds=30, environment=CLIENT)
    for secret in (ROLE_PASSWORD, "p%40ss", SERVER, "stranger"):
        assert secret not in service.log()


def test_known_keys_end_after_an_outage(
    start: Callable[[], RunningServer], postgres: PostgresServer, flagsmith: FlagsmithTables
) -> None:
    """A key that was switched off right before the database went down is refused once it is back."""
    service = start()
    for key in (CLIENT, SERVER):
        wait_for(service, key, 202)
    flagsmith.run("UPDATE environments_environmentapikey SET active = false WHERE key = %s", SERVER)
    postgres.kill()
    wait_for(service, "nobody", 503)
    postgres.start()

    wait_for(service, SERVER, 401)
    assert 202 == call(service, CLIENT).status


def test_keys_that_end_while_in_use(start: Callable[[], RunningServer], flagsmith: FlagsmithTables) -> None:
    """A key that is removed, switched off or expires is refused within the refresh interval; the others go on."""
    [(environment,)] = flagsmith.run("SELECT id FROM environments_environment")
    expiry = time.time() + 8
    for key in ("ser.removed", "ser.off"):
        flagsmith.server_key(environment, key)
    flagsmith.server_key(environment, "ser.expires", expires_at=dt.datetime.fromtimestamp(expiry, dt.UTC))
    service = start()
    with load(service, CLIENT, SERVER, "ser.removed", "ser.off", "ser.expires") as senders:
        time.sleep(2)
        flagsmith.run("DELETE FROM environments_environmentapikey WHERE key = 'ser.removed'")
        flagsmith.run("UPDATE environments_environmentapikey SET active = false WHERE key = 'ser.off'")
        ended = time.monotonic()
        time.sleep(REFRESH_SECONDS + SLACK_SECONDS + 1)
        expired = time.monotonic() + expiry - time.time()
        time.sleep(max(0.0, expiry - time.time()) + SLACK_SECONDS)
    client, server, *ending = senders

    for sender in (client, server):
        assert {202} == set(sender.between(0)), service.log()
    # An expiry is known beforehand, and needs no look.
    refused_from = [ended + REFRESH_SECONDS + SLACK_SECONDS] * 2 + [expired + 0.1]
    for sender, last_taken, first_refused in zip(ending, [ended, ended, expired - 0.1], refused_from, strict=True):
        before, after = sender.between(0, last_taken), sender.between(first_refused)
        assert (sender.key, {202}, {401}) == (sender.key, set(before), set(after)), service.log()
        assert min(len(before), len(after)) > 5


def test_database_down_at_start(start: Callable[[], RunningServer], postgres: PostgresServer) -> None:
    """The service starts without its database, says that it is not ready, refuses with a delay, and recovers by itself."""
    postgres.kill()
    service = start()
    before = is_ready(service)
    answer = call(service, CLIENT)
    postgres.start()
    wait_until_ready(service)

    assert not before
    assert (503, True) == (answer.status, int(answer.retry_after or 0) >= 1)
    wait_for(service, CLIENT, 202)
    [environment] = get(service, "/api/v2/analytics/environments")["environments"]
    assert CLIENT == environment["name"]
