"""`flagledger serve` from outside: how it starts, what it refuses, how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from flagledger.v1.evaluation_pb2 import EvaluationBatch
from flagledger.v1.evaluation_service_pb2 import StreamEvaluationsRequest, StreamEvaluationsResponse
from flagledger.v1.evaluation_service_pb2_grpc import EvaluationServiceStub
from google.protobuf import json_format
from support.reading import post, wait_for_total
from support.server import COMMAND, KIT_ENVIRONMENTS, RunningServer

pytestmark = pytest.mark.system


def run(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `flagledger` to its end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLAGLEDGER_")}
    return subprocess.run(
        [str(COMMAND), *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=cwd, env=inherited | variables,
    )  # fmt: skip


def serve(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a `flagledger serve` that is expected to end by itself."""
    return run(
        "serve", "--data", str(tmp_path / "data"), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *arguments
    )  # fmt: skip


def test_first_start(tmp_path: Path) -> None:
    """With no configuration it says all that a person needs: keys, a curl line that works, how to read, how to go on."""
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [str(COMMAND), "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("FLAGLEDGER_")},
        )
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        banner = (tmp_path / "stderr").read_text()
        curl = banner[banner.index("curl ") : banner.index("\n\nand see it")]
        answered = subprocess.run(shlex.split(curl.replace("\\\n", " ")), capture_output=True, text=True, check=True)
        [reading] = [line.strip() for line in banner.splitlines() if line.strip().split(" ")[1:2] == ["evaluations"]]
        deadline = time.monotonic() + 2
        while True:
            shown = subprocess.run(
                [*shlex.split(reading), "--json"], capture_output=True, text=True, check=False, cwd=tmp_path
            )
            if shown.stdout or time.monotonic() > deadline:
                break
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=15)

    assert {"event": "ready", "http": ready["http"], "grpc": ready["grpc"], "data": "flagledger-data"} == ready
    assert "HTTP/1.1 202" in answered.stdout
    assert '{"accepted_count":1,"filtered_count":0,"rejected_count":0,"duplicate":false}' in answered.stdout
    assert ("new_dashboard", "variant_a", "user_123", "demo") == tuple(
        json.loads(shown.stdout)[name] for name in ("feature_name", "value", "identity_identifier", "environment")
    )
    assert str(Path("flagledger-data") / "environments.toml") in banner
    assert 0 == process.returncode
    assert "" == rest
    token = tmp_path / "flagledger-data" / "read-token"
    assert 0o600 == stat.S_IMODE(token.stat().st_mode)
    assert token.read_text().strip() in banner


def test_directory_held(running_server: RunningServer) -> None:
    """A second service on the same directory says who holds it, and exits 1."""
    second = run("serve", "--data", str(running_server.data), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")

    assert 1 == second.returncode
    assert f"held by process {running_server.process.pid}" in second.stderr
    assert "" == second.stdout


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_port_taken(tmp_path: Path, running_server: RunningServer, protocol: str) -> None:
    """A port that another service listens on is refused by name: two services never share one."""
    address = running_server.ready[protocol]

    second = serve(tmp_path, f"--{protocol}", address)

    assert 1 == second.returncode
    assert address in second.stderr


def test_port_taken_by_a_stranger(tmp_path: Path) -> None:
    """A port that something else listens on is refused too."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        second = serve(tmp_path, "--http", f"127.0.0.1:{stranger.getsockname()[1]}")

    assert 1 == second.returncode


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("[[environments]]\nname = 'a'\nkeys = ['k']\nfeatures = [\n", "line"),
        (
            "[[environments]]\nname = 'a'\nkeys = ['k']\nfeatures = 'any'\n[[environments]]\nname = 'b'\nkeys = 5\n",
            "environments[1].keys",
        ),
        ("[[environments]]\nname = 'a'\nkeys = ['k']\nfeatures = 'any'\nidentity = 'masked'\n", "identity"),
    ],
)
def test_broken_environments(tmp_path: Path, content: str, where: str) -> None:
    """A broken environments file is refused with the file and the line or the path, and exit 2."""
    path = tmp_path / "broken.toml"
    path.write_text(content)

    refused = serve(tmp_path, "--environments", str(path))

    assert 2 == refused.returncode
    assert str(path) in refused.stderr
    assert where in refused.stderr
    assert "Traceback" not in refused.stderr


def test_broken_while_running(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """An environments file that breaks while running leaves the old one in force; a metric and one log line say so."""
    path = tmp_path / "environments.toml"
    good = "[[environments]]\nname = 'a'\nkeys = ['first-key']\nfeatures = ['one']\n"
    path.write_text(good)
    server = server_factory(environments=path)
    path.write_text(good + "[[environments]\n")
    deadline = time.monotonic() + 10
    while 'flagledger_catalog_loads_total{outcome="failed"}' not in (page := metrics(server)):
        assert time.monotonic() < deadline, page
        time.sleep(0.1)

    assert 202 == post(server, {"evaluations": []}, key="first-key")[0]
    assert str(path) in server.log()

    path.write_text(good.replace("first-key", "second-key"))
    deadline = time.monotonic() + 10
    while post(server, {"evaluations": []}, key="second-key")[0] != 202:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert 401 == post(server, {"evaluations": []}, key="first-key")[0]


def metrics(server: RunningServer) -> str:
    """Return the metrics page."""
    with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=10) as response:
        return str(response.read().decode())


def test_new_feature(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """A feature that was added a moment ago loses none of its evaluations."""
    path = tmp_path / "environments.toml"
    path.write_text("[[environments]]\nname = 'a'\nkeys = ['key']\nfeatures = ['one']\n")
    server = server_factory(environments=path)
    evaluation = {"feature_name": "two", "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}

    before = post(server, {"evaluations": [evaluation]}, key="key")[1]
    path.write_text("[[environments]]\nname = 'a'\nkeys = ['key']\nfeatures = ['one', 'two']\n")
    after = post(server, {"evaluations": [evaluation]}, key="key")[1]

    assert (0, 1) == (before["accepted_count"], before["filtered_count"])
    assert (1, 0) == (after["accepted_count"], after["filtered_count"])


def test_newer_journal(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """A journal of a newer version is refused with a sentence, and exit 1."""
    data = tmp_path / "data"
    assert 0 == server_factory(data=data).stop()
    with contextlib.closing(sqlite3.connect(data / "journal.db")) as connection, connection:
        assert 1 == connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'format'").rowcount

    refused = serve(tmp_path)

    assert 1 == refused.returncode
    assert "which a newer Flagledger wrote" in refused.stderr
    assert "Traceback" not in refused.stderr


def streamed(server: RunningServer, batch: EvaluationBatch, key: str) -> Iterator[StreamEvaluationsResponse]:
    """Send *batch* again and again over one stream until the service has gone, and yield the answers."""

    def batches() -> Iterator[StreamEvaluationsRequest]:
        while server.process.poll() is None:
            yield StreamEvaluationsRequest(batch=batch)
            time.sleep(0.002)

    with grpc.insecure_channel(server.grpc_target) as channel:
        stub = EvaluationServiceStub(channel)
        yield from stub.StreamEvaluations(batches(), metadata=[("x-environment-key", key)])


def test_terminated_under_load(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """SIGTERM under load: what was acknowledged is there afterwards, nobody is told anything else than to come back."""
    data = tmp_path / "data"
    server = server_factory(data=data, environments=KIT_ENVIRONMENTS)
    key, feature = kit()
    evaluation = {"feature_name": feature, "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
    acknowledged: list[int] = []
    others: list[object] = []

    def over_http() -> None:
        while True:
            try:
                status, answer = post(server, {"evaluations": [evaluation] * 50}, key=key)
            except (OSError, http.client.HTTPException):
                return
            (acknowledged if status == 202 else others).append(answer["accepted_count"] if status == 202 else status)

    def over_stream() -> None:
        batch = json_format.ParseDict({"evaluations": [evaluation] * 50}, EvaluationBatch())
        try:
            for answer in streamed(server, batch, key):
                acknowledged.append(answer.result.accepted_count)  # noqa: PERF401 - what came before an error counts
        except grpc.RpcError as error:
            others.append(error.code())  # type: ignore[attr-defined]

    senders = [threading.Thread(target=one) for one in (over_http, over_http, over_stream, over_stream)]
    for sender in senders:
        sender.start()
    while len(acknowledged) < 40:
        time.sleep(0.01)

    asked = time.monotonic()
    code = server.stop()
    took = time.monotonic() - asked
    for sender in senders:
        sender.join(20)

    assert (0, True) == (code, took < 10)
    assert set(others) <= {503, grpc.StatusCode.UNAVAILABLE}
    again = server_factory(data=data, environments=KIT_ENVIRONMENTS)
    found = wait_for_total(again, sum(acknowledged), seconds=10, environment=kit_environment())
    # What was recorded while its answer met a closed connection is there too.
    assert found >= sum(acknowledged)
    assert found <= sum(acknowledged) + 50 * 200


def kit() -> tuple[str, str]:
    """Return a key and a feature of the conformance kit's first environment."""
    import tomllib

    environment = tomllib.loads(KIT_ENVIRONMENTS.read_text())["environments"][0]
    return next(key for key in environment["keys"] if isinstance(key, str)), environment["features"][0]


def kit_environment() -> str:
    """Return the name of the conformance kit's first environment."""
    import tomllib

    return str(tomllib.loads(KIT_ENVIRONMENTS.read_text())["environments"][0]["name"])


def test_interrupted(server_factory: Callable[..., RunningServer]) -> None:
    """Ctrl-C ends it as SIGTERM does."""
    server = server_factory()

    server.process.send_signal(signal.SIGINT)

    assert 0 == server.stop()
    assert "Traceback" not in server.log()
    assert "Fatal" not in server.log()


def test_several_fronts(server_factory: Callable[..., RunningServer]) -> None:
    """Fronts share the ports and the journal: what any of them took is in the store, and the metrics are those of all."""
    server = server_factory(environments=KIT_ENVIRONMENTS, arguments=["--fronts", "2"])
    key, feature = kit()
    evaluation = {"feature_name": feature, "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
    for number in range(40):
        assert 202 == post(server, {"batch_id": f"b{number}", "evaluations": [evaluation]}, key=key)[0]
    again = [post(server, {"batch_id": f"b{number}", "evaluations": [evaluation]}, key=key)[1] for number in range(40)]

    assert 40 == sum(answer["duplicate"] for answer in again)
    assert 40 == wait_for_total(server, 40, seconds=5, environment=kit_environment())
    assert 'outcome="accepted"} 40.0' in metrics(server)
    assert 3 == len(psutil.Process(server.process.pid).children())


def test_sink_that_is_away(server_factory: Callable[..., RunningServer]) -> None:
    """A sink that cannot be reached holds up neither recording nor a question nor a stop; the log says so, without a password."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = server_factory(
        environments=KIT_ENVIRONMENTS, variables={"FLAGLEDGER_SINK": f"influxdb://u:tell-nobody@127.0.0.1:{port}/flags"}
    )
    key, feature = kit()
    evaluation = {"feature_name": feature, "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
    assert 202 == post(server, {"evaluations": [evaluation]}, key=key)[0]
    assert 1 == wait_for_total(server, 1, seconds=5, environment=kit_environment())
    deadline = time.monotonic() + 10
    while "counts cannot be sent on" not in server.log():
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.05)
    page = metrics(server)
    asked = time.monotonic()
    code = server.stop()

    assert "flagledger_sink_unsent_entries 1.0" in page
    assert (0, True) == (code, time.monotonic() - asked < 10)
    assert "tell-nobody" not in server.log()
    assert "influxdb://u:**********@" in server.log()


def test_store_that_is_away(server_factory: Callable[..., RunningServer]) -> None:
    """Where the store cannot be reached, the service takes evaluations in, and says so to whoever starts it."""
    pytest.importorskip("psycopg", reason="no PostgreSQL driver here: pip install 'psycopg[binary]'")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = server_factory(
        environments=KIT_ENVIRONMENTS, variables={"FLAGLEDGER_STORE": f"postgresql://u:tell-nobody@127.0.0.1:{port}/d"}
    )
    key, feature = kit()
    evaluation = {"feature_name": feature, "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
    taken_in = post(server, {"evaluations": [evaluation]}, key=key)[0]
    deadline = time.monotonic() + 10
    while "wait in the journal" not in server.log() and time.monotonic() < deadline:
        time.sleep(0.05)

    while "flagledger_unapplied_entries 1.0" not in metrics(server) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert 202 == taken_in
    assert "flagledger_unapplied_entries 1.0" in metrics(server)
    said = server.log().partition("Flagledger listens on")[2]
    assert "The store cannot be used yet: d on 127.0.0.1" in said
    assert "Evaluations are taken in meanwhile, and wait in the journal." in said
    assert "tell-nobody" not in server.log()


@pytest.mark.parametrize("accepted", [False, True])
def test_store_deleted(server_factory: Callable[..., RunningServer], tmp_path: Path, accepted: bool) -> None:  # noqa: FBT001
    """History never restarts empty in silence: a store that lacks what the journal gave up is refused, or accepted by name."""
    data = tmp_path / "data"
    server = server_factory(data=data, environments=KIT_ENVIRONMENTS)
    key, feature = kit()
    evaluation = {"feature_name": feature, "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
    assert 202 == post(server, {"evaluations": [evaluation]}, key=key)[0]
    assert 1 == wait_for_total(server, 1, seconds=5, environment=kit_environment())
    assert 0 == server.stop()
    (data / "store.duckdb").unlink()

    if accepted:
        again = server_factory(data=data, environments=KIT_ENVIRONMENTS, variables={"FLAGLEDGER_ACCEPT_GAP": "1-1"})
        assert 202 == post(again, {"evaluations": [evaluation] * 2}, key=key)[0]
        assert 2 == wait_for_total(again, 2, seconds=5, environment=kit_environment())
    else:
        refused = serve(tmp_path, "--environments", str(KIT_ENVIRONMENTS))
        assert 1 == refused.returncode
        assert "FLAGLEDGER_ACCEPT_GAP=1-1" in refused.stderr
