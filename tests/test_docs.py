"""docs/sdk.md says what the code does: its figures are read, and its examples run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from flagledger.errors import Reason
from flagledger.front import grpc as front
from flagledger.ingest.limits import Limits
from support.server import RunningServer

ROOT = Path(__file__).parents[1]
SDK = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """Return the part of the page under the heading *title*, up to the next heading."""
    match = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", SDK, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match.group(1)


def example(title: str) -> str:
    """Return the first block of code in the section *title*."""
    match = re.search(r"^```\w+\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match.group(1)


@pytest.mark.parametrize(
    ("names", "figure"),
    [
        (("max_evaluations",), "in a batch | {:,}"),
        (("batch_id_characters",), "{:,} characters"),
        (
            ("feature_name_characters", "identity_characters", "segment_name_characters", "label_characters"),
            "`reason` | {:,} characters",
        ),
        (("trait_key_characters",), "{:,} characters"),
        (("trait_string_characters",), "string | {:,} characters"),
        (("traits_bytes",), "together | {kib} KiB"),
        (("value_bytes",), "`value` | {kib} KiB"),
        (("metadata_bytes",), "`metadata` | {kib} KiB"),
        (("depth",), "{:,} levels"),
        (("count_client",), "{:,} under a client key"),
        (("count_server",), "{:,} under a server key"),
    ],
)
def test_sizes(names: tuple[str, ...], figure: str) -> None:
    """Every limit of admission stands in the table of sizes, as it is."""
    limits = Limits()
    for name in names:
        value = getattr(limits, name)
        assert figure.format(value, kib=value // 1024) in section("Sizes"), name


def test_connections() -> None:
    """What the gRPC front permits of a connection is what the page says."""
    text = section("Connections")
    options = dict(front.options(max_message_bytes=4 * 1024 * 1024))

    assert f"at most one every {front.MIN_PING_INTERVAL_SECONDS} seconds" in text
    assert f"open have {front.CONNECTION_AGE_GRACE_SECONDS} seconds to end" in text
    assert front.CONNECTION_AGE_SECONDS == 3600
    assert "after about one hour" in text
    assert f"every {options['grpc.keepalive_time_ms'] // 1000} seconds" in text
    assert f"not answer within {options['grpc.keepalive_timeout_ms'] // 1000} is closed" in text
    assert f"| concurrent calls on a connection | {options['grpc.max_concurrent_streams']:,} |" in text
    assert options["grpc.keepalive_permit_without_calls"] == 1


def test_streams() -> None:
    """How far a stream may be ahead, and how long it lasts, is what the page says."""
    text = section("Streams")

    assert f"at {Limits().unanswered_batches} unanswered ones" in text
    assert f"after about {front.STREAM_AGE_SECONDS // 60} minutes" in text


def test_every_code_is_in_the_retry_table() -> None:
    """Every code that intake refuses with has its row, and is retried exactly where a delay is given."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section("When to retry").splitlines()
        if "yes" in line or "no |" in line
    ]
    retried = {code for row in rows for code in re.findall(r"`(\w+)`", row[0]) if row[3] == "yes"}
    listed = {code for row in rows for code in re.findall(r"`(\w+)`", row[0])}
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    # A read token, an environment that is asked for: no SDK that sends meets these.
    reading = {Reason.TOKEN_INVALID, Reason.TOKEN_LACKS, Reason.ENVIRONMENT_UNKNOWN, Reason.QUERY_INVALID}
    sending = set(Reason) - reading

    assert {names[reason.code] for reason in sending} <= listed
    assert {names[reason.code] for reason in sending if reason.retry_after is not None} <= retried


def test_service_config_is_taken() -> None:
    """The recommended service config is one that gRPC takes, and it names a method of the contract."""
    config = example("Service config")
    (method,) = json.loads(config)["methodConfig"]
    service = {"service": "flagledger.v1.EvaluationService", "method": "RecordEvaluations"}

    assert [service] == method["name"]
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]

    with grpc.insecure_channel("127.0.0.1:1", options=[("grpc.service_config", config)]) as channel:
        call = channel.unary_unary(f"/{service['service']}/{service['method']}")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=0.3, wait_for_ready=False)

    # Nobody is there, so that the call fails; but not as with a config that is not one (INVALID_ARGUMENT).
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.mark.system
def test_python_example(running_server: RunningServer, tmp_path: Path) -> None:
    """The Python example records its evaluation."""
    code = example("Python").replace("127.0.0.1:50051", running_server.grpc_target)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "KEY": "kit-client-key"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "accepted_count: 1"), done.stderr


@pytest.mark.system
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_example(running_server: RunningServer, tmp_path: Path) -> None:
    """The curl example records its evaluation, and a second time does not."""
    code = example("curl").replace("http://127.0.0.1:8080", running_server.http_url)
    variables = {**os.environ, "KEY": "kit-client-key"}
    answers = [
        subprocess.run(
            ["sh", "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]

    assert [answer.splitlines()[0].strip() for answer in answers] == ["HTTP/1.1 202 Accepted"] * 2
    assert [json.loads(answer.splitlines()[-1])["duplicate"] for answer in answers] == [False, True]
