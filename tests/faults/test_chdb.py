"""The service over ClickHouse's engine within the writer: recorded, asked, and its writer killed."""

from __future__ import annotations

import importlib.util
import random
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.oracle import ADMIN_TOKEN, NOTHING_WRONG, compared, environments_file, oracle
from support.processes import writer_of
from support.reading import FEATURES, ask, evaluations, exported, get, metric
from support.server import RunningServer

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(600)]

KILLS = 4


@pytest.mark.skipif(
    importlib.util.find_spec("chdb") is None or importlib.util.find_spec("clickhouse_connect") is None,
    reason="no ClickHouse here: pip install clickhouse-connect chdb",
)
def test_writer_killed(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """The writer killed under load: in the end what was acknowledged is there, each once; it can be asked and erased."""
    server = server_factory(
        environments=environments_file(tmp_path), variables={"FLAGLEDGER_STORE": f"chdb:{tmp_path / 'chdb'}"}
    )
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    with oracle() as sender:
        sender.tell(server)
        for _ in range(KILLS):
            writer = writer_of(server)
            time.sleep(dice.uniform(0.5, 3.0))
            writer.kill()
            psutil.wait_procs([writer], timeout=10)
        result = sender.finish()

    assert [] == result["wrong"], seed
    assert NOTHING_WRONG == compared(server, result), seed
    assert metric(server, "flagledger_applied_rows_total") > 0
    recorded = len(result["acknowledged"]) * result["evaluations"]
    [feature] = get(server, FEATURES)["features"]
    assert ("new_dashboard", recorded) == (feature["feature_name"], int(feature["evaluation_count"]))
    assert recorded == sum(1 for _ in exported(server))
    identity = f"{result['acknowledged'][0]}/0".replace("/", "%2F")
    status, _, erased = ask(
        server, "DELETE", f"/api/v2/analytics/identities/{identity}", token=ADMIN_TOKEN, environment="demo"
    )
    assert (200, 1) == (status, int(erased["deleted_evaluation_count"]))
    assert recorded - 1 == sum(1 for _ in evaluations(server))
    assert 0 == server.stop()
