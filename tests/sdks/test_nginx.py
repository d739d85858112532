"""What stands before both where an SDK has one address for flags and reports: a real nginx, with the block as it is."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sdks.beside import BLOCKS, Beside
from sdks.conftest import key_of
from sdks.installed import python_sdk
from sdks.test_python import run

pytestmark = pytest.mark.system

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
{block}
    }}
}}
"""
# An SDK that has not been told where counts go, as before 6.1.
PROGRAM = """
from flagsmith import Flagsmith
from flagsmith.analytics import EventProcessorConfig

client = Flagsmith(
    environment_key="{key}",
    api_url="{front}/api/v1/",
    enable_analytics=True,
    enable_events=True,
    event_processor_config=EventProcessorConfig(events_api_url="{front}"),
)
flags = client.get_identity_flags("user_123")
assert "dark" == flags.get_feature_value("dark_mode")
client.track_exposure_event("checkout", identifier="user_123", value="variant_a")
client._analytics_processor.flush()
client._event_processor.flush()
"""
DEADLINE_SECONDS = 10.0


@pytest.fixture
def front(beside: Beside, tmp_path: Path) -> Iterator[str]:
    """Run nginx with the block, and return its address."""
    if NGINX is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    block = (BLOCKS / "nginx.conf").read_text(encoding="utf-8")
    for shown, real in (("8080", beside.flagledger.http_url), ("8000", beside.flagsmith.url)):
        block = block.replace(f"http://127.0.0.1:{shown}", f"http://{urlsplit(real).netloc}")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(port=port, block=block))
    command = [NGINX, "-p", str(tmp_path), "-c", str(configuration), "-e", "stderr"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_SECONDS)


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"nginx does not listen after {DEADLINE_SECONDS:.0f} s")


def ask(front: str, method: str, path: str) -> int:
    """Send a request that says nothing, and return its status."""
    connection = http.client.HTTPConnection(urlsplit(front).netloc, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_one_address(beside: Beside, front: str, request: pytest.FixtureRequest) -> None:
    """An SDK that has one address for all gets flags from Flagsmith, and what it reports is here."""
    before = beside.flagsmith.count("identities/", "POST")
    program = PROGRAM.format(key=key_of("nginx"), front=front)
    run(program, python_sdk(request.config.cache, "6.3.0"))
    recorded = beside.recorded("nginx", total=2)

    assert [("checkout", "variant_a"), ("dark_mode", "")] == [(one["feature_name"], one["variant"]) for one in recorded]
    assert before + 1 == beside.flagsmith.count("identities/", "POST")


@pytest.mark.parametrize(
    ("path", "without_key"),
    [
        ("/api/v1/analytics/flags/", 403),
        ("/api/v1/analytics/flags", 403),
        ("/api/v2/analytics/flags/", 403),
        ("/v1/events", 401),
        ("/v1/analytics/batch", 401),
    ],
)
def test_routes(beside: Beside, front: str, path: str, without_key: int) -> None:
    """Each of the routes leads here, with and without its last slash, and nowhere else."""
    before = beside.flagsmith.asked.total()

    assert without_key == ask(front, "POST", path)
    assert before == beside.flagsmith.asked.total()


def test_the_rest_is_not_ours(beside: Beside, front: str) -> None:
    """What only looks like one of the routes stays with Flagsmith."""
    for path in ("/api/v1/flags/", "/v1/events/else", "/api/v1/analytics/flags/x", "/api/v1/environment-document/"):
        before = beside.flagsmith.asked.total()
        ask(front, "GET", path)

        assert before + 1 == beside.flagsmith.asked.total(), path
