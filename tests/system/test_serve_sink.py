"""`flagledger serve --sink`, from outside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.influxdb_stub import InfluxStub, influxdb_stub, refusal
from support.oracle import CLIENT_KEY, environments_file
from support.reading import metric, post
from support.server import RunningServer

pytestmark = pytest.mark.system

SECRET = "word-of-the-sink"
POINTS = 'flagledger_sink_points_total{outcome="taken"}'


def batch(first: int, *, enabled: bool) -> dict[str, object]:
    """Return a batch of ten evaluations, a second apart from *first* on."""
    return {
        "evaluations": [
            {
                "feature_name": "new_dashboard",
                "enabled": enabled,
                "value": "v",
                "variant": "blue",
                "evaluation_timestamp": f"2026-02-10T11:00:{first + second:02}Z",
                "identity_identifier": f"user-{second}",
            }
            for second in range(10)
        ]
    }


def until_sums(stub: InfluxStub, enabled: int, disabled: int) -> None:
    """Wait until the sums in *stub* are those, and fail where they are not within ten seconds."""

    def tags(on: str) -> tuple[tuple[str, str], ...]:
        return (("environment", "demo"), ("feature", "new_dashboard"), ("enabled", on), ("variant", "blue"))

    expected = {tags(on): count for on, count in (("true", enabled), ("false", disabled)) if count}
    deadline = time.monotonic() + 10
    while stub.sums() != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert expected == stub.sums()


def test_counts_are_sent_on_once(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """What is recorded arrives in the sink, once, whatever ends the service; a sink that is away holds nothing up."""
    environments, data = environments_file(tmp_path), tmp_path / "data"
    with influxdb_stub() as stub:
        arguments = ["--sink", f"influxdb://user:{SECRET}@127.0.0.1:{stub.port}/flags"]
        first = server_factory(data=data, environments=environments, arguments=arguments)
        assert 202 == post(first, batch(0, enabled=True), key=CLIENT_KEY)[0]
        until_sums(stub, 10, 0)
        stub.answer = lambda _request: refusal(503, "away")
        assert 202 == post(first, batch(10, enabled=False), key=CLIENT_KEY)[0]
        first.kill()
        stub.answer = lambda _request: None

        second = server_factory(data=data, environments=environments, arguments=arguments)
        assert 202 == post(second, batch(20, enabled=True), key=CLIENT_KEY)[0]
        until_sums(stub, 20, 10)
        deadline = time.monotonic() + 10
        while metric(second, POINTS) < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert metric(second, POINTS) >= 1
        assert 0 == second.stop()

    assert SECRET not in first.log() + second.log()
    assert {"Basic"} == {request.headers["authorization"].partition(" ")[0] for request in stub.requests}
