"""Released Python SDKs, unmodified, each in a process that has nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sdks.beside import Beside
from sdks.conftest import key_of
from sdks.installed import python_sdk
from support.reading import get, post
from support.server import RunningServer

pytestmark = pytest.mark.system

COUNT = """
flags = client.get_environment_flags()
for _ in range(3):
    assert flags.is_feature_enabled("checkout")
assert "dark" == flags.get_feature_value("dark_mode")
client._analytics_processor.flush()
"""
FLUSH = """
client._event_processor.flush()
"""
EXPOSE = """
import sys
from flagsmith import Flagsmith
from flagsmith.analytics import EventProcessorConfig

config = EventProcessorConfig(events_api_url="{events}", flush_interval_seconds=0.3)
client = Flagsmith(environment_key="{key}", enable_events=True, event_processor_config=config)
client.track_exposure_event("checkout", identifier="user_1", value="variant_a")
client.track_exposure_event("checkout", identifier="user_2", value="variant_b")
client.track_event("purchase", identifier="user_1", value=12.5)
sys.stdin.read()
"""
EVALUATE = """
flags = client.get_identity_flags("user_123", traits={"plan": "pro", "visits": 7})
assert flags.is_feature_enabled("checkout")
assert "dark" == flags.get_feature_value("dark_mode")
assert not flags.is_feature_enabled("old_banner")
client.track_event("purchase", identity_identifier="user_123")
client._pipeline_analytics_processor.flush()
"""


@pytest.fixture(scope="module")
def newest(request: pytest.FixtureRequest) -> Path:
    """Return the newest SDK."""
    return python_sdk(request.config.cache, "6.3.0")


@pytest.fixture(scope="module")
def of_pipeline(request: pytest.FixtureRequest) -> Path:
    """Return the SDK that reported to `/v1/analytics/batch`."""
    return python_sdk(request.config.cache, "5.2.0")


def run(program: str, sdk: Path, until: Callable[[], object] = lambda: None) -> None:
    """
    Run *program* with *sdk* and the standard library alone.

    Its stdin ends once *until* returns. It ends itself once the SDK has sent what it has flushed.
    """
    process = subprocess.Popen(
        [sys.executable, "-S", "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": str(sdk)}, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said


def milliseconds(time_of_contract: Any) -> int:
    """Return an RFC 3339 time in epoch milliseconds."""
    return round(datetime.fromisoformat(time_of_contract).timestamp() * 1000)


def after(server: RunningServer, environment: str) -> None:
    """Record one more evaluation: once it is there, all that was recorded before it is."""
    now = datetime.now().astimezone().isoformat()
    last = {"feature_name": "old_banner", "enabled": False, "value": None, "evaluation_timestamp": now}
    assert 202 == post(server, {"evaluations": [last]}, key=key_of(environment))[0]


def test_counts(beside: Beside, newest: Path) -> None:
    """`analytics_url` alone sends counts here; what two processes count alike counts twice."""
    program = beside.block("python.py", key_of("counts")) + COUNT
    before = time.time()
    for _ in range(2):
        run(program, newest)
    recorded = beside.recorded("counts", total=8)

    assert [("checkout", 3)] * 2 + [("dark_mode", 1)] * 2 == [(one["feature_name"], one["count"]) for one in recorded]
    for one in recorded:
        assert "python-requests" == one["sdk_name"], "where it sends counts this SDK does not say who it is"
        assert (None, None, "ORIGIN_CLIENT") == (one.get("enabled"), one.get("identity_identifier"), one["origin"])
        assert before * 1000 - 1 <= milliseconds(one["evaluation_timestamp"]) <= time.time() * 1000


def test_exposures(beside: Beside, newest: Path) -> None:
    """`events_api_url` alone sends exposures here, each with its variant, identity, traits and time."""
    before = time.time()
    run(beside.block("python_events.py", key_of("exposures")) + FLUSH, newest)
    [recorded] = beside.recorded("exposures", total=1)

    assert ("checkout", "user_123", "variant_a", "variant_a") == tuple(
        recorded[name] for name in ("feature_name", "identity_identifier", "variant", "value")
    )
    assert [{"trait_key": "plan", "trait_value": "pro"}] == recorded["identity_traits"]
    assert {"sdk_version": "6.3.0"} == recorded["metadata"]
    assert ("flagsmith-python-sdk", "6.3.0") == (recorded["sdk_name"], recorded["sdk_version"])
    assert before * 1000 - 1 <= milliseconds(recorded["evaluation_timestamp"]) <= time.time() * 1000


@pytest.mark.parametrize(("environment", "fault"), [("refused", "refuse"), ("lost", "lose")])
def test_resent(beside: Beside, newest: Path, environment: str, fault: str) -> None:
    """Events that were refused, or whose answer was lost, are sent again by the SDK, and are there once."""
    key = key_of(environment)
    setattr(beside.front, fault, 1)
    program = EXPOSE.format(events=beside.front.url, key=key)
    run(program, newest, until=lambda: beside.front.wait_for_reports(key, 2))
    first, second = beside.front.reports(key)
    after(beside.flagledger, environment)
    recorded = beside.recorded(environment, total=3)
    intake = get(beside.flagledger, "/api/v2/analytics/intake", environment=environment)

    assert (503, 202) == (first.status, second.status)
    assert first.body == second.body
    assert 3 == len(json.loads(second.body)["events"])
    assert [("checkout", "user_1"), ("checkout", "user_2"), ("old_banner", "")] == sorted(
        (one["feature_name"], one.get("identity_identifier", "")) for one in recorded
    )
    assert 1 == intake["foreign_event_count"]


def test_pipeline(beside: Beside, of_pipeline: Path) -> None:
    """`analytics_server_url` alone sends what Python 5.2 evaluated here, with value, identity and traits."""
    run(beside.block("python_5_2.py", key_of("pipeline")) + EVALUATE, of_pipeline)
    recorded = beside.recorded("pipeline", total=3)

    assert [("checkout", True, None), ("dark_mode", True, "dark"), ("old_banner", False, None)] == [
        (one["feature_name"], one["enabled"], one["value"]) for one in recorded
    ]
    for one in recorded:
        assert "user_123" == one["identity_identifier"]
        assert [("plan", "pro"), ("visits", 7)] == sorted(
            (trait["trait_key"], trait["trait_value"]) for trait in one["identity_traits"]
        )
        assert ("flagsmith-python-sdk", "5.2.0") == (one["sdk_name"], one["sdk_version"])
