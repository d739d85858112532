"""The commands that read, each against a service that has recorded something."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.reading import post, wait_for_total
from support.server import COMMAND, RunningServer

pytestmark = pytest.mark.system

ADMIN_TOKEN = "admin-token-of-the-tests"
ENVIRONMENTS = f"""
[[environments]]
name = "shop"
keys = ["client-key", "ser.server-key"]
features = ["checkout", "quiet", "search"]

[[tokens]]
token = "{ADMIN_TOKEN}"
role = "admin"
"""
IDENTITIES = 40


def evaluation(number: int, **fields: Any) -> dict[str, Any]:
    """Return an evaluation of `checkout`, at that minute of a day, for one of the identities."""
    arm = ("control", "treatment")[number % 2]
    return {
        "feature_name": "checkout",
        "enabled": arm == "treatment",
        "value": arm,
        "variant": arm,
        "reason": "SPLIT",
        "evaluation_timestamp": f"2026-02-10T{number // 60:02}:{number % 60:02}:00Z",
        "identity_identifier": f"user/{number % IDENTITIES}",
        "identity_traits": [{"trait_key": "plan", "trait_value": ("free", "pro", 3)[number % 3]}],
        "segment_names": ["beta"] if number % 4 == 0 else [],
    } | fields


@pytest.fixture(scope="module")
def shop(
    server_factory: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:  # fmt: skip
    """Return a service with 200 evaluations of `checkout`, one of `search`, three unknown names, and one that is invalid."""
    environments = tmp_path_factory.mktemp("shop") / "environments.toml"
    environments.write_text(ENVIRONMENTS)
    server = server_factory(environments=environments)
    evaluations = [evaluation(number) for number in range(200)]
    evaluations.append(
        {"feature_name": "search", "enabled": False, "evaluation_timestamp": "2026-02-10T00:00:00Z"}
    )  # fmt: skip
    evaluations += [evaluation(number, feature_name="Checkout") for number in range(3)]
    evaluations.append(evaluation(0, evaluation_timestamp="yesterday"))
    status, _ = post(server, {"evaluations": evaluations}, key="client-key", headers={"User-Agent": "js-sdk/4.0"})
    assert status == 202
    assert wait_for_total(server, 201, seconds=20) == 201
    return server


def run(server: RunningServer, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """Ask *server* with `flagledger`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLAGLEDGER_")}
    return subprocess.run(
        [str(COMMAND), *arguments, "--url", server.http_url, "--token", token or server.read_token],
        capture_output=True, text=True, timeout=60, check=False, env=inherited | {"COLUMNS": "160"},
    )  # fmt: skip


def words(server: RunningServer, *arguments: str) -> list[list[str]]:
    """Return the words of each line that people get."""
    done = run(server, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split() for line in done.stdout.splitlines()]


def rows(server: RunningServer, *arguments: str) -> list[dict[str, Any]]:
    """Return the objects that a program gets."""
    done = run(server, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_features(shop: RunningServer) -> None:
    """The features of the catalog are there with their totals, the stale one marked."""
    lines = words(shop, "features")
    found = {row["feature_name"]: row for row in rows(shop, "features")}

    assert lines[2] == ["checkout", "200", "50.0", "%", "40", "2026-02-10T03:19:00Z", '"treatment"', "js-sdk/4.0"]
    assert lines[3] == ["-", "quiet", "0", "0"]
    assert lines[4] == ["search", "1", "0.0", "%", "0", "2026-02-10T00:00:00Z", "js-sdk/4.0"]
    assert ["checkout", "quiet", "search"] == list(found)
    assert (found["checkout"]["enabled_count"], found["checkout"]["enabled_known_count"]) == (100, 200)
    assert [row["feature_name"] for row in rows(shop, "features", "--limit", "2")] == ["checkout", "quiet"]


def test_counts(shop: RunningServer) -> None:
    """Totals, groups and buckets are what was sent."""
    totals = rows(shop, "counts")
    by_plan = {row["groups"][0]["value"]: row["evaluation_count"] for row in rows(shop, "counts", "--by", "trait:plan")}
    [hours] = rows(shop, "counts", "--feature", "checkout", "--bucket", "hour")
    bars = words(shop, "counts", "--feature", "checkout", "--by", "value", "--by", "origin")
    lines = words(shop, "counts", "--feature", "checkout", "--by", "variant", "--bucket", "hour")
    table = words(shop, "counts", "--bucket", "hour", "--time-zone", "Europe/Zurich")

    assert [row["evaluation_count"] for row in totals] == [201]
    assert by_plan == {"free": 67, "pro": 67, 3: 66, None: 1}
    assert [point["evaluation_count"] for point in hours["points"]] == [60, 60, 60, 20]
    assert bars[2] == ['"control"', "CLIENT", "100", "0.0", "%", "20", "█" * 20]
    assert bars[3] == ['"treatment"', "CLIENT", "100", "100.0", "%", "20", "█" * 20]
    assert lines[2] == ["control", "100", "0.0", "%", "20", "30", "███▃"]
    assert lines[4][:2] == ["4", "hours,"]
    assert table[2] == ["2026-02-10T01:00:00+01:00", "61", "49.2", "%", "40", "█" * 20]
    assert table[6] == ["all", "201", "49.8", "%", "40"]


def test_wrong_names(shop: RunningServer) -> None:
    """A feature that is not there is told from one without evaluations, and the one that was meant is named."""
    asked = [("features", "chekout"), ("counts", "Search"), ("evaluations", "quiet"), ("exposures", "search")]
    said = [run(shop, command, "--feature", name).stdout for command, name in asked]

    assert said == [
        "No evaluations of chekout; the environment has no such feature. Did you mean checkout?\n",
        "No evaluations of Search; the environment has no such feature. Did you mean search?\n",
        "No evaluations of quiet.\n",
        "No exposures of search match.\n",
    ]


def test_evaluations(shop: RunningServer) -> None:
    """Every filter narrows what is listed, and the newest comes first."""
    filters = ("--feature", "checkout", "--identity", "user/4", "--segment", "beta", "--value", "control", "--variant",
               "control", "--reason", "SPLIT", "--disabled", "--trait", "plan=pro", "--sdk", "js-sdk/4.0", "--origin",
               "client", "--start", "2026-02-10T00:00:00Z", "--end", "2026-02-11T00:00:00Z")  # fmt: skip
    expected = [number for number in range(200) if number % IDENTITIES == 4 and number % 3 == 1]
    found = [row["evaluation_timestamp"] for row in rows(shop, "evaluations", *filters)]

    assert len(expected) == 2
    assert found == [evaluation(number)["evaluation_timestamp"] for number in reversed(expected)]
    assert len(rows(shop, "evaluations", "--limit", "150")) == 150
    assert words(shop, "evaluations", "--limit", "1")[2][:4] == [
        "2026-02-10T03:19:00Z", "checkout", "true", '"treatment"',
    ]  # fmt: skip
    assert rows(shop, "evaluations", "--start", "1h") == []


def test_exposures(shop: RunningServer) -> None:
    """Each identity is exposed once; the check follows the weights."""
    found = rows(shop, "exposures", "--feature", "checkout")
    [check] = rows(shop, "exposures", "--feature", "checkout", "--check")
    even = run(shop, "exposures", "--feature", "checkout", "--limit", "3").stdout
    uneven = run(
        shop, "exposures", "--feature", "checkout", "--weight", "control=1", "--weight", "treatment=99", "--check"
    ).stdout

    assert {row["identity_identifier"]: row["arm"] for row in found} == {
        f"user/{number}": ("control", "treatment")[number % 2] for number in range(IDENTITIES)
    }
    assert [(arm["arm"], arm["identity_count"]) for arm in check["arms"]] == [("control", 20), ("treatment", 20)]
    assert "The first 3; --limit shows more." in even
    assert "(p = 1): nothing speaks against the assignment." in even
    assert "results are not to be trusted." in uneven


def test_unknown_features(shop: RunningServer) -> None:
    """A name that does not exist stands beside the one that was meant."""
    [row] = rows(shop, "unknown-features")

    assert (row["feature_name"], row["likely_match"], row["evaluation_count"]) == ("Checkout", "checkout", 3)
    assert words(shop, "unknown-features")[2][:3] == ["Checkout", "checkout", "3"]
    assert [use["sdk_name"] for use in row["sdks"]] == ["js-sdk"]


def test_intake(shop: RunningServer) -> None:
    """What came in, and what of it was not recorded, is counted."""
    [whole] = rows(shop, "intake", "--bucket", "hour")
    panel = run(shop, "intake", "--bucket", "hour", "--start", "1h").stdout

    assert (whole["recorded_count"], whole["filtered_count"], whole["rejected_count"]) == (201, 3, 1)
    assert [rejection["field"].rpartition(".")[2] for rejection in whole["rejections"]] == ["evaluation_timestamp"]
    assert sum(point["recorded_count"] for point in whole["points"]) == 201
    # How much it holds depends on when it was trimmed last.
    assert whole["journal"]["max_bytes"] == 4 << 30
    assert re.search(r"recorded +201 +98\.0 %", panel)
    assert "evaluation_timestamp" in panel
    assert "█" in panel


def test_export(shop: RunningServer, tmp_path: Path) -> None:
    """A file holds what was chosen, in each form; the command that is named goes on from its end, and has nothing yet."""
    files = {name: tmp_path / f"e.{name}" for name in ("ndjson", "csv", "parquet", "arrow")}
    done = {
        name: run(shop, "export", "--feature", "checkout", "--output", str(file)) for name, file in files.items()
    }  # fmt: skip
    lines = [json.loads(line) for line in files["ndjson"].read_text().splitlines()]
    table = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    following = shlex.split(done["ndjson"].stderr.splitlines()[-1])
    after = run(shop, *following[1:])

    assert [one.returncode for one in done.values()] == [0] * 4
    assert [done[name].stderr.startswith("Exported 200 rows in ") for name in files] == [True, True, False, False]
    assert (len(lines), len(table)) == (200, 200)
    assert sorted(int(row["position"]) for row in table) == sorted(line["position"] for line in lines)
    assert files["parquet"].read_bytes()[:4] == files["parquet"].read_bytes()[-4:] == b"PAR1"
    assert files["arrow"].stat().st_size > 1000
    assert following[:2] == ["flagledger", "export"]
    assert (after.returncode, Path(following[-1]).read_text()) == (0, "")
    assert Path(following[-1]).parent == tmp_path


def test_delete_identity(server_factory: Callable[..., RunningServer], tmp_path: Path) -> None:
    """An admin's token erases, a reader's does not, and nobody else is touched."""
    environments = tmp_path / "environments.toml"
    environments.write_text(ENVIRONMENTS)
    server = server_factory(environments=environments)
    post(server, {"evaluations": [evaluation(number) for number in range(80)]}, key="ser.server-key")
    wait_for_total(server, 80, seconds=20)
    refused = run(server, "delete-identity", "user/3", "--yes")
    before = len(rows(server, "evaluations", "--identity", "user/3"))
    erased = run(server, "delete-identity", "user/3", "--yes", token=ADMIN_TOKEN)
    again = run(server, "delete-identity", "user/3", "--yes", "--json", token=ADMIN_TOKEN)

    assert (refused.returncode, refused.stdout, before) == (1, "", 2)
    assert 'Add [[tokens]] with role = "admin"' in refused.stderr
    assert (erased.returncode, erased.stdout) == (0, "Erased 2 entries of user/3.\n")
    assert json.loads(again.stdout) == {"deleted_evaluation_count": 0}
    assert rows(server, "evaluations", "--identity", "user/3") == []
    assert len(rows(server, "evaluations")) == 78


def test_watch(shop: RunningServer) -> None:
    """It asks again until Ctrl-C, and ends with 0 then."""
    command = [str(COMMAND), "features", "--watch", "0.2", "--json", "--url", shop.http_url, "--token", shop.read_token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        answers = [[process.stdout.readline() for _ in range(3)] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)

    assert (process.returncode, complaint) == (0, "")
    assert answers[0] == answers[1] == answers[2]
    assert [json.loads(line)["feature_name"] for line in answers[0]] == ["checkout", "quiet", "search"]


def test_refusals(shop: RunningServer) -> None:
    """What the server refuses is said in its own words, with the option that is wrong, and what helps."""
    inverted = run(shop, "counts", "--start", "2026-02-10T00:00:00Z", "--end", "2026-02-09T00:00:00Z")
    nowhere = run(shop, "intake", "--environment", "nowhere")
    stranger = run(shop, "export", token="nobody")
    zone = run(shop, "counts", "--bucket", "day", "--time-zone", "Mars/Base")

    assert [one.returncode for one in (inverted, nowhere, stranger, zone)] == [1] * 4
    assert "\n  --end: must not lie before --start\n" in inverted.stderr
    assert "environment" in nowhere.stderr
    assert "The token reaches: shop." in nowhere.stderr
    assert stranger.stderr == "flagledger: The server does not know this token. It comes from --token.\n"
    assert "\n  --time-zone: must be " in zone.stderr
    assert all("_" not in one.stderr for one in (inverted, zone))
    assert [one.stdout for one in (inverted, nowhere, stranger, zone)] == [""] * 4
