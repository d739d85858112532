from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import flagsmith
import pytest
from compat.conftest import BATCH, EVENTS, ROUTES, V1, V2, Service
from compat.test_events import EVALUATED, EXPOSURE, of
from compat.test_flags import ENTRY
from flagledger.errors import FlagledgerError, Reason
from flagledger.front import http
from flagsmith.analytics import AnalyticsProcessor, EventProcessor, EventProcessorConfig
from support.intake import CLIENT_KEY, SERVER_KEY, MemoryJournal
from support.web import request

BODIES = {
    V1: b'{"checkout": 1}',
    V2: json.dumps({"evaluations": [ENTRY]}).encode(),
    EVENTS: json.dumps(of(EXPOSURE)).encode(),
    BATCH: json.dumps(of(EVALUATED)).encode(),
}
NAMES = {V1: "compat.flags_v1", V2: "compat.flags_v2", EVENTS: "compat.events", BATCH: "compat.batch"}
SUCCESS = {V1: 200, V2: 204, EVENTS: 202, BATCH: 202}


def both(path: str) -> list[str]:
    """Return *path* without and with its last slash."""
    return [path.rstrip("/"), path.rstrip("/") + "/"]


@pytest.mark.parametrize("path", [slashed for path in ROUTES for slashed in both(path)])
@pytest.mark.parametrize("key", [CLIENT_KEY, SERVER_KEY])
async def test_routes(service: Service, path: str, key: str) -> None:
    """Each route takes both kinds of keys, answers itself with and without its last slash, and is counted by its name."""
    route = next(route for route in ROUTES if path in both(route))
    got = await service.send(path, BODIES[route], key=key)
    [record] = service.records

    assert SUCCESS[route] == got.status
    assert "location" not in got.headers
    assert ["checkout"] == [evaluation.feature_name for evaluation in record.evaluations]
    assert 1 + (key == SERVER_KEY) == record.envelope.origin
    assert [("http", NAMES[route], 0)] == service.counted.calls
    assert (0, 0) == (service.in_flight.calls, service.in_flight.bytes)


@pytest.mark.parametrize("path", ["/api/v1/analytics", "/api/v1/analytics/flags//", "/v1/events/x", "/v1"])
async def test_other_paths(service: Service, path: str) -> None:
    """What is no route of theirs is left to the contract's."""
    got = await service.send(path, b"{}")

    assert (404, 5) == (got.status, got.json()["code"])


async def test_contract_beside_them(service: Service) -> None:
    """The contract's own route goes on as it does without them."""
    evaluation = {"feature_name": "checkout", "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
    got = await service.send("/api/v2/analytics/evaluations/", {"evaluations": [evaluation]})

    assert (202, 1) == (got.status, got.json()["accepted_count"])


KEYS = {
    "missing": (None, 403, b'{"detail":"Invalid or missing Environment key"}'),
    "empty": ("", 403, b'{"detail":"Invalid or missing Environment key"}'),
    "unknown": ("unknown", 403, b'{"detail":"Invalid or missing Environment Key"}'),
    "unknown server key": ("ser.unknown", 403, b'{"detail":"Invalid or missing Environment Key"}'),
}
KEYS_OF_EVENTS = {
    "missing": (None, 401, b"Missing or invalid X-Environment-Key header"),
    "empty": ("", 401, b"Missing or invalid X-Environment-Key header"),
    "unknown": ("unknown", 403, b"Unknown environment key"),
    "unknown server key": ("ser.unknown", 403, b"Unknown environment key"),
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("case", KEYS)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS", "DELETE"])
async def test_keys_come_first(service: Service, path: str, case: str, method: str) -> None:
    """A key that is none is refused before method, media type and body are looked at, in the words of each service."""
    key, status, body = (KEYS if path in {V1, V2} else KEYS_OF_EVENTS)[case]
    got = await service.send(path, b"{", method=method, key=key, headers={"content-type": "text/plain"})

    assert (status, body) == (got.status, got.body)
    assert "www-authenticate" not in got.headers
    assert ["KEY_INVALID"] == service.counted.refusals
    assert [("http", NAMES[path], 16)] == service.counted.calls


@pytest.mark.parametrize("path", ROUTES)
async def test_two_keys(service: Service, path: str) -> None:
    """Two keys at once are none, whatever each of them is."""
    sent: list[dict[str, object]] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"x-environment-key", CLIENT_KEY.encode()), (b"x-environment-key", SERVER_KEY.encode())],
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": BODIES[path], "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await service.app(scope, receive, send)  # type: ignore[arg-type]  # starlette's types are wider

    assert 403 == sent[0]["status"]


STOPPED = FlagledgerError(Reason.ENVIRONMENT_STOPPED, "Stopped.")
REFUSED = FlagledgerError(Reason.ORIGIN_REFUSED, "Pages of this origin may not send.")
UNREACHABLE = FlagledgerError(Reason.CATALOG_UNREACHABLE, "The catalog cannot be asked.")


@pytest.mark.parametrize(
    ("path", "error", "status", "body", "delay"),
    [
        (V1, STOPPED, 403, b'{"detail":"Organisation is disabled from serving flags."}', None),
        (V2, STOPPED, 403, b'{"detail":"Organisation is disabled from serving flags."}', None),
        (EVENTS, STOPPED, 403, b"Stopped.", None),
        (V1, REFUSED, 403, b'{"detail":"Pages of this origin may not send."}', None),
        (BATCH, REFUSED, 403, b"Pages of this origin may not send.", None),
        (V1, UNREACHABLE, 503, b'{"detail":"The catalog cannot be asked."}', "5"),
        (EVENTS, UNREACHABLE, 503, b"Authentication backend unavailable", "5"),
    ],
)
async def test_refusals_before_the_body(
    service: Service, path: str, error: FlagledgerError, status: int, body: bytes, delay: str | None
) -> None:
    """What keeps an environment out, or keeps it from being looked up, is told in the words of each service."""
    service.catalog.grants[CLIENT_KEY] = error
    got = await service.send(path, b"{")

    assert (status, body, delay) == (got.status, got.body, got.headers.get("retry-after"))
    assert [error.reason.name] == service.counted.refusals


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("reason", "status", "delay"),
    [
        (Reason.JOURNAL_FULL, 429, "5"),
        (Reason.RATE_EXCEEDED, 429, "1"),
        (Reason.DISK_FAILING, 503, "5"),
        (Reason.DRAINING, 503, "1"),
    ],
)
async def test_refusals_that_pass(path: str, reason: Reason, status: int, delay: str) -> None:
    """What passes is 429 or 503 with a delay and a sentence, and nothing was recorded."""
    service = Service(journal=MemoryJournal(refusal=FlagledgerError(reason, "Wait.")))
    got = await service.send(path, BODIES[path])

    assert (status, delay) == (got.status, got.headers["retry-after"])
    if path in {V1, V2}:
        assert {"detail": "Wait."} == got.json()
    else:
        assert (b"Downstream unavailable" if reason is Reason.DISK_FAILING else b"Wait.") == got.body
    assert [reason.name] == service.counted.refusals
    assert (0, 0) == (service.in_flight.calls, service.in_flight.bytes)


async def test_delays_are_whole_seconds(service: Service) -> None:
    """A delay below a second is one second to HTTP."""
    service.catalog.grants[CLIENT_KEY] = FlagledgerError(Reason.RATE_EXCEEDED, "Wait.", retry_after=0.2)

    assert "1" == (await service.send(V1, b"{}")).headers["retry-after"]


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
async def test_other_methods(service: Service, path: str, method: str) -> None:
    """Any other method is 405 and says what is allowed; HEAD has no body."""
    got = await service.send(path, BODIES[path], method=method)
    expected = b'{"detail":"Method \\"%b\\" not allowed."}' % method.encode() if path in {V1, V2} else b""

    assert (405, "POST, OPTIONS") == (got.status, got.headers["allow"])
    assert (b"" if method == "HEAD" else expected) == got.body
    assert (["HTTP_405"], []) == (service.counted.refusals, service.records)
    assert [("http", NAMES[path], 12)] == service.counted.calls


@pytest.mark.parametrize("path", ROUTES)
async def test_options(service: Service, path: str) -> None:
    """OPTIONS that are no preflight say what is allowed."""
    got = await service.send(path, method="OPTIONS")

    assert (200, "POST, OPTIONS", b"") == (got.status, got.headers["allow"], got.body)


@pytest.mark.parametrize("path", ROUTES)
async def test_browsers(service: Service, path: str) -> None:
    """A page may send with every header that SDKs set, and reads each answer, refusals included."""
    origin = {"origin": "https://shop.example"}
    asked = "x-environment-key,content-type,flagsmith-sdk-user-agent,flagsmith-application-name,flagsmith-application-version"
    asks = {"access-control-request-method": "POST", "access-control-request-headers": asked}

    preflight = await service.send(path, method="OPTIONS", key=None, headers=origin | asks)
    answer = await service.send(path, BODIES[path], headers=origin)
    refusal = await service.send(path, BODIES[path], key="unknown", headers=origin)

    assert (200, "*") == (preflight.status, preflight.headers["access-control-allow-origin"])
    assert asked == preflight.headers["access-control-allow-headers"]
    assert (SUCCESS[path], "*") == (answer.status, answer.headers["access-control-allow-origin"])
    assert (403, "*") == (refusal.status, refusal.headers["access-control-allow-origin"])


@pytest.mark.parametrize("path", ROUTES)
async def test_calls_in_flight(path: str) -> None:
    """These calls are bounded together with all others: one too many is 429, before anything else is looked at."""
    journal = MemoryJournal()
    service = Service(journal=journal)
    journal.open.clear()
    held = [asyncio.create_task(service.send(V1, BODIES[V1])) for _ in range(8)]
    while journal.waiting < 8:
        await asyncio.sleep(0.005)
    refused = await service.send(path, b"{", key=None)
    journal.open.set()
    answers = await asyncio.gather(*held)

    assert (429, "1") == (refused.status, refused.headers["retry-after"])
    assert [200] * 8 == [answer.status for answer in answers]
    assert ["CALLS_IN_FLIGHT"] == service.counted.refusals
    assert (0, 0) == (service.in_flight.calls, service.in_flight.bytes)


@pytest.mark.parametrize("path", ROUTES)
async def test_bytes_in_flight(service: Service, path: str) -> None:
    """Their bodies are bounded together with all others."""
    service.in_flight.acquire(1 << 20)
    got = await service.send(path, BODIES[path])

    assert (429, "1") == (got.status, got.headers["retry-after"])
    assert ["BYTES_IN_FLIGHT"] == service.counted.refusals


@pytest.mark.parametrize("path", ROUTES)
async def test_unforeseen(service: Service, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that nobody foresaw is a 500 that tells nothing of itself, and holds nothing back."""

    async def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("confidential")

    monkeypatch.setattr(service.servicer, "record_of_older_sdk", fail)
    got = await service.send(path, BODIES[path])

    assert 500 == got.status
    assert b"confidential" not in got.body
    assert [("http", NAMES[path], 13)] == service.counted.calls
    assert (0, 0) == (service.in_flight.calls, service.in_flight.bytes)


async def test_client_gone(service: Service) -> None:
    """A client that goes in the middle of its body is counted as that, and leaves nothing behind."""
    service.in_flight.acquire(1)

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        raise AssertionError(message)

    headers = [(b"x-environment-key", CLIENT_KEY.encode())]
    await service.app({"type": "http", "method": "POST", "path": V1, "headers": headers}, receive, send)  # type: ignore[arg-type]

    assert [("http", "compat.flags_v1", 1)] == service.counted.calls
    assert (0, 1) == (service.in_flight.calls, service.in_flight.bytes)


async def test_cancelled() -> None:
    """A call that is cancelled is counted as that, and leaves nothing behind."""
    journal = MemoryJournal()
    service = Service(journal=journal)
    journal.open.clear()
    call = asyncio.create_task(service.send(V1, BODIES[V1]))
    while not journal.waiting:
        await asyncio.sleep(0.005)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert [("http", "compat.flags_v1", 1)] == service.counted.calls
    assert (0, 0) == (service.in_flight.calls, service.in_flight.bytes)


@pytest.fixture
async def address(service: Service) -> AsyncIterator[tuple[str, int]]:
    """Serve the application on loopback, and return where."""
    web = http.server(service.app, drain_seconds=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        while not web.started:
            await asyncio.sleep(0.005)
        yield listener.getsockname()
        web.should_exit = True
        await serving


async def test_over_the_wire(service: Service, address: tuple[str, int]) -> None:
    """Behind a real server the answers are the same, those without a body included, and so is one to a large body."""
    key = {"X-Environment-Key": CLIENT_KEY, "Content-Type": "application/json"}
    answers = [await request(address, "POST", path, BODIES[path], key) for path in ROUTES]
    refused = await request(address, "POST", V1, b"x" * (128 * 1024), {"Content-Type": "application/json"})

    assert [*SUCCESS.values()] == [answer.status for answer in answers]
    assert [b"", b""] == [answer.body for answer in answers[:2]]
    assert [None, None] == [answer.headers.get("content-type") for answer in answers[:2]]
    assert "content-length" not in answers[1].headers
    assert (403, "close") == (refused.status, refused.headers["connection"])


async def test_released_sdk(service: Service, address: tuple[str, int]) -> None:
    """The released Python SDK reports counts and exposures, and takes the answers for success."""
    service.now = 1e10  # its clock is the machine's
    url = f"http://{address[0]}:{address[1]}/"
    counts = AnalyticsProcessor(CLIENT_KEY, f"{url}api/v1/")
    events = EventProcessor(EventProcessorConfig(events_api_url=url), CLIENT_KEY)
    for _ in range(2):
        counts.track_feature("checkout")
    events.track_exposure_event("new_dashboard", "anna", "blue", {"plan": "pro"})
    events.track_event("purchase", "anna", 9.99)
    await asyncio.to_thread(counts.flush)
    await asyncio.to_thread(events.flush)
    for _ in range(400):
        if len(service.counted.calls) == 2:
            break
        await asyncio.sleep(0.01)
    counted, exposed = sorted(service.records, key=lambda record: record.batch_id)

    assert [("checkout", 2)] == [(one.feature_name, one.count) for one in counted.evaluations]
    assert "python-requests" == counted.envelope.sdk_name
    assert [("new_dashboard", "anna", "blue")] == [
        (one.feature_name, one.identity_identifier, one.variant) for one in exposed.evaluations
    ]
    assert ("flagsmith-python-sdk", flagsmith.__version__) == (
        exposed.envelope.sdk_name,
        exposed.envelope.sdk_version,
    )
    assert {("http", "compat.flags_v1", 0), ("http", "compat.events", 0)} == {*service.counted.calls}
