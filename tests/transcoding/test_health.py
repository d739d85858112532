"""grpc_health.v1.Health as its package has it, without an annotation, served to curl by a service config."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from flagledger.transcoding import Transcoder
from grpc_health.v1 import health, health_pb2
from transcoding.test_uvicorn import serving

CONFIG = yaml.safe_load("""
type: google.api.Service
config_version: 3
http:
  rules:
    - selector: grpc.health.v1.Health.Check
      get: /v1/health/{service}
      additional_bindings:
        - {get: /v1/health}
        - {post: /v1/health:check, body: "*"}
    - selector: grpc.health.v1.Health.Watch
      get: /v1/health/{service}:watch
""")
SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SECONDS = 10


@pytest.fixture
def curl() -> str:
    """Return the command."""
    found = shutil.which("curl")
    if found is None:
        pytest.skip("curl is not installed: apt-get install curl")
    return found


@pytest.fixture
def servicer() -> health.aio.HealthServicer:
    """Return the servicer of the package."""
    return health.aio.HealthServicer()


@pytest.fixture
async def url(servicer: health.aio.HealthServicer) -> AsyncIterator[str]:
    """Yield where it is served, on a socket."""
    async with serving(Transcoder([(SERVICE, servicer)], service_config=CONFIG)) as port:
        yield f"http://127.0.0.1:{port}"


async def ask(*command: str) -> tuple[int, Any]:
    """Run curl, and return the status and the JSON of the answer."""
    arguments = ("-s", "-w", "\n%{http_code}", "--max-time", str(SECONDS))
    process = await asyncio.create_subprocess_exec(*command, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert 0 == process.returncode
    body, _, status = output.decode().rpartition("\n")
    return int(status), json.loads(body)


async def test_check(curl: str, servicer: health.aio.HealthServicer, url: str) -> None:
    """A service in the path is asked for, with its name decoded; without one the whole server is."""
    await servicer.set("shop.v1/Orders", NOT_SERVING)

    assert (200, {"status": "SERVING"}) == await ask(curl, f"{url}/v1/health")
    assert (200, {"status": "NOT_SERVING"}) == await ask(curl, f"{url}/v1/health/shop.v1%2FOrders")
    assert (200, {"status": "NOT_SERVING"}) == await ask(curl, f"{url}/v1/health?service=shop.v1/Orders")


async def test_check_of_a_body(curl: str, servicer: health.aio.HealthServicer, url: str) -> None:
    """The request may be a body, and is refused where it does not fit."""
    await servicer.set("orders", SERVING)
    post = (curl, f"{url}/v1/health:check", "-H", "content-type: application/json", "--data-raw")

    assert (200, {"status": "SERVING"}) == await ask(*post, '{"service": "orders"}')
    assert (400, 3) == _code(await ask(*post, '{"servise": "orders"}'))


async def test_an_unknown_service(curl: str, url: str) -> None:
    """What the servicer aborts with is the answer's status."""
    assert (404, 5) == _code(await ask(curl, f"{url}/v1/health/nobody"))


async def test_a_method_without_a_rule(curl: str, url: str) -> None:
    """What no rule selects is not served, and a wrong method is told the right ones."""
    assert (404, 5) == _code(await ask(curl, f"{url}/grpc.health.v1.Health/List"))
    assert (405, 12) == _code(await ask(curl, "-X", "DELETE", f"{url}/v1/health/orders"))


async def test_watch(curl: str, servicer: health.aio.HealthServicer, url: str) -> None:
    """Every change of a status is a line, sent as it happens, until the client goes: then nobody watches any more."""
    await servicer.set("orders", SERVING)
    process = await asyncio.create_subprocess_exec(
        curl, "-sN", f"{url}/v1/health/orders:watch", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = []
    try:
        async with asyncio.timeout(SECONDS):
            for status in (NOT_SERVING, SERVING, None):
                lines.append(json.loads(await process.stdout.readline()))
                if status is not None:
                    await servicer.set("orders", status)
        watchers = dict(servicer._watcher_count_by_service)
    finally:
        process.kill()
        await process.wait()
    async with asyncio.timeout(SECONDS):
        while servicer._watcher_count_by_service:
            await asyncio.sleep(0.01)

    assert {"orders": 1} == watchers
    assert [{"status": "SERVING"}, {"status": "NOT_SERVING"}, {"status": "SERVING"}] == lines


def _code(answer: tuple[int, Any]) -> tuple[int, int]:
    status, body = answer
    return status, body["code"]
