"""The service, killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.oracle import CLIENT_KEY, NOTHING_WRONG, compared, environments_file, oracle
from support.processes import role, tree, writer_of
from support.reading import FEATURES, get, post, wait_for_total
from support.server import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]

KILLS = int(os.environ.get("KILLS", "20"))


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """Return an environments file with one key and one feature."""
    return environments_file(tmp_path)


def test_whole_tree_killed(server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path) -> None:
    """Nothing acknowledged is lost, nothing is there twice, nothing is invented, however often everything is killed."""
    data = tmp_path / "data"
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    with oracle() as sender:
        for _ in range(KILLS):
            server = server_factory(data=data, environments=environments)
            sender.tell(server)
            time.sleep(dice.uniform(0.05, 1.5))
            processes = tree(server)
            dice.shuffle(processes)
            for process in processes:
                process.kill()
            psutil.wait_procs(processes, timeout=10)
            server.kill()
        server = server_factory(data=data, environments=environments)
        sender.tell(server)
        time.sleep(0.5)
        result = sender.finish()

    assert [] == result["wrong"], seed
    assert NOTHING_WRONG == compared(server, result), seed
    # The test must have been one: there was load in every round, over both protocols.
    assert {"grpc", "http"} == {batch_id.split("-")[0] for batch_id in result["acknowledged"]}
    assert len(result["acknowledged"]) > 10 * KILLS


def test_supervisor_killed(server_factory: Callable[..., RunningServer], environments: Path, tmp_path: Path) -> None:
    """No child outlives its supervisor: five seconds later nobody listens, and a new start succeeds."""
    data = tmp_path / "data"
    server = server_factory(data=data, environments=environments)
    children = tree(server)[1:]

    server.kill()
    _, alive = psutil.wait_procs(children, timeout=5)

    assert len(children) >= 2
    assert [] == alive
    ports = {int(server.ready[name].rsplit(":", 1)[1]) for name in ("http", "grpc")}
    listening = {
        connection.laddr.port for connection in psutil.net_connections("tcp") if connection.status == psutil.CONN_LISTEN
    }
    assert set() == ports & listening
    assert 0 == server_factory(data=data, environments=environments).stop()


def test_writer_killed(server_factory: Callable[..., RunningServer], environments: Path) -> None:
    """Intake goes on without the writer, and the writer is back within ten seconds with all that came meanwhile."""
    server = server_factory(environments=environments)
    batch = {
        "evaluations": [
            {"feature_name": "new_dashboard", "enabled": True, "evaluation_timestamp": "2026-02-10T11:00:00Z"}
        ]
    }
    assert 202 == post(server, batch, key=CLIENT_KEY)[0]

    writer_of(server).kill()
    killed = time.monotonic()
    statuses = []
    while time.monotonic() - killed < 2:
        statuses.append(post(server, batch, key=CLIENT_KEY)[0])
        time.sleep(0.02)

    assert {202} == set(statuses)
    expected = 1 + len(statuses)
    assert expected == wait_for_total(server, expected, seconds=10 - (time.monotonic() - killed))


@pytest.mark.parametrize("victim", ["front", "writer"])
def test_child_killed_again_and_again(
    server_factory: Callable[..., RunningServer], environments: Path, victim: str
) -> None:
    """A child that keeps dying keeps being started, and the service answers again each time."""
    server = server_factory(environments=environments)
    for _ in range(3):
        [killed] = [process for process in tree(server)[1:] if role(process) == victim]
        killed.send_signal(signal.SIGKILL)
        psutil.wait_procs([killed], timeout=5)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            # One asks the front, the other the writer through it.
            try:
                answers = (post(server, {"evaluations": []}, key=CLIENT_KEY)[0], len(get(server, FEATURES)["features"]))
            except OSError:
                time.sleep(0.1)
                continue
            if answers == (202, 1):
                break
        else:
            pytest.fail(f"no answer after a {victim} was killed\n{server.log()}")
        with urllib.request.urlopen(f"{server.http_url}/metrics", timeout=10) as page:
            assert b"flagledger_journal_entries 0.0" in page.read()
    runtime = Path(json.loads((server.data / "lock").read_text())["runtime"])
    living = {str(process.pid) for process in tree(server)}
    gauges = [file.stem.rpartition("_")[2] for file in (runtime / "metrics").glob("gauge_live*.db")]
    assert [] == [pid for pid in gauges if pid not in living]
