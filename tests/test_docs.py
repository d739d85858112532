"""The pages say what the code does: their tables are compared with it, and their examples run."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import grpc
import pytest
from flagledger.catalog import document, policy
from flagledger.catalog.base import SERVER_KEY_PREFIX
from flagledger.catalog.document import parse_document
from flagledger.cli.commands import serve
from flagledger.config import VARIABLE_PREFIX, Config, load_settings
from flagledger.errors import Reason
from flagledger.front import connection
from flagledger.front import grpc as front
from flagledger.ingest.limits import Limits
from flagledger.query.servicer import MAX_PAGE_SIZE
from flagledger.store.questions import PAGE_BYTES
from flagledger.telemetry import metrics
from flagledger.transcoding import Transcoder, body
from prometheus_client.metrics import MetricWrapperBase
from support.server import RunningServer

ROOT = Path(__file__).parents[1]
SERVICE = ROOT / "service" / "flagledger"
README = (ROOT / "README.md").read_text(encoding="utf-8")
SDK = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

MIB = 1024 * 1024
# What a table shows where there is nothing.
DASH = "\N{EN DASH}"


def section(title: str, page: str = SDK) -> str:
    """Return the part of *page* under the heading *title*, up to the next heading."""
    match = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", page, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    return match.group(1)


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table in *text*, without its head."""
    table = re.search(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None, text
    # A bar within a cell is written with a backslash.
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line[1:-1])] for line in table.group(1).splitlines()]


def example(title: str, page: str = SDK) -> str:
    """Return the first block of code in the section *title* of *page*."""
    match = re.search(r"^```\w+\n(.*?)^```", section(title, page), re.MULTILINE | re.DOTALL)
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
        (("traits_bytes",), "`identity_traits` of one evaluation together | {kib} KiB"),
        (("segments_bytes",), "`segment_names` of one evaluation together | {kib} KiB"),
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


def test_sizes_of_transports() -> None:
    """What the fronts and the answers to questions are bounded by stands in the table of sizes, as it is."""
    text = section("Sizes")
    defaults = inspect.signature(Transcoder).parameters
    whole, behind = defaults["body_deadline"].default, defaults["body_timeout"].default
    rate = body.MIN_BYTES_PER_SECOND // 1024

    assert dict(front.options(max_message_bytes=1))["grpc.max_metadata_size"] == connection.MAX_HEADER_BYTES
    assert f"{connection.MAX_HEADER_BYTES // 1024} KiB, over HTTP within {connection.HEADER_SECONDS:.0f} s" in text
    assert f"{whole:.0f} seconds, and never more than {behind:.0f} seconds behind {rate} KiB a second" in text
    assert f"{MAX_PAGE_SIZE:,} evaluations and about {PAGE_BYTES // MIB} MiB" in text


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


def test_sizes_say_who_sets_them() -> None:
    """The table of sizes names the setting of each limit that has one, with its default; the rest is fixed."""
    defaults = {name: field.default for name, field in Config.model_fields.items()}
    said = {setter.strip("`"): size for _, size, setter in rows(section("Sizes")) if setter != "fixed"}

    assert {"max_body_bytes", "max_evaluations", "max_in_flight_bytes", "max_concurrent_calls"} == set(said)
    for name, size in said.items():
        figure = f"{defaults[name] // MIB} MiB" if name.endswith("bytes") else f"{defaults[name]:,}"
        assert re.match(rf"{figure}\b", size), name


def retried(table: list[tuple[str, str, bool]]) -> tuple[dict[str, bool], set[tuple[str, bool]]]:
    """Return whether to retry by HTTP status, and by code, out of rows of codes, statuses and whether to retry."""
    by_status: dict[str, bool] = {}
    by_code: set[tuple[str, bool]] = set()
    for codes, statuses, again in table:
        for status in re.findall(r"\b\d{3}\b|no answer", statuses):
            assert by_status.setdefault(status, again) == again, status
        by_code |= {(code, again) for code in re.findall(r"[A-Z_]{2,}", codes)}
    return by_status, by_code


def test_every_code_is_in_the_retry_table() -> None:
    """Every code that intake refuses with has its row, and is retried exactly where a delay is given."""
    _, by_code = retried([(row[0], row[1], row[3] == "yes") for row in rows(section("When to retry"))])
    names = {code.value[0]: code.name for code in grpc.StatusCode}
    # A read token, an environment that is asked for: no SDK that sends meets these.
    reading = {
        Reason.QUESTION_TOO_LONG,
        Reason.READER_TOO_SLOW,
        Reason.TOKEN_INVALID,
        Reason.TOKEN_LACKS,
        Reason.ENVIRONMENT_UNKNOWN,
        Reason.QUERY_INVALID,
    }
    sending = set(Reason) - reading

    assert set() == {(names[reason.code], reason.retry_after is not None) for reason in sending} - by_code


def test_readme_retries_as_the_sdk_page_does() -> None:
    """README and sdk.md say the same of every code and every HTTP status."""
    sdk = retried([(row[0], row[1], row[3] == "yes") for row in rows(section("When to retry"))])
    readme_rows = rows(section("When to retry", README))
    readme = retried([(codes, statuses, again.startswith("the same batch")) for codes, statuses, again in readme_rows])

    assert all(again.startswith(("no:", "the same batch")) for _, _, again in readme_rows)
    assert len(sdk[0]) > 10
    assert sdk == readme


def default_of(value: Any) -> str:
    """Return a setting's default as the page shows it."""
    if value in (None, ()):
        return DASH
    if isinstance(value, int) and value >= MIB:
        size = f"{value // 1024**3} GiB" if value >= 1024**3 else f"{value // MIB} MiB"
        return f"`{value}` ({size})"
    return f"`{value}`"


def bounds_of(name: str) -> str:
    """Return what a number of a setting may be, as the page shows it."""
    found = {
        kind: f"{bound:,}"
        for limit in Config.model_fields[name].metadata
        for kind in ("ge", "gt", "le")
        if (bound := getattr(limit, kind, None)) is not None
    }
    if not found:
        return DASH
    least = found.get("ge") or f"above {found['gt']}"
    return f"{least} {DASH} {found['le']}" if "le" in found else f"{least} {DASH}"


def test_settings() -> None:
    """operating.md has every setting, with its variable, its flag, its default, its bounds and what it means."""
    flags = {option for parameter in serve.params for option in parameter.opts}
    expected = [
        [
            f"`{name}`",
            f"`{VARIABLE_PREFIX}{name.upper()}`",
            f"`{flag}`" if (flag := f"--{name.replace('_', '-')}") in flags else DASH,
            default_of(field.default),
            bounds_of(name),
            field.description,
        ]
        for name, field in Config.model_fields.items()
    ]

    assert expected == rows(section("Settings", OPERATING))


def test_sample_configuration(tmp_path: Path) -> None:
    """The sample of a flagledger.toml is taken, and each line of it sets something else than the default."""
    file = tmp_path / "flagledger.toml"
    file.write_text(example("Settings", OPERATING))
    loaded = load_settings(config_file=file)

    assert len(loaded.origins) > 3
    assert set() == {name for name in loaded.origins if getattr(loaded.config, name) == getattr(Config(), name)}


def test_environments_file() -> None:
    """operating.md has each name that may stand in the environments file; its example is valid and holds each of them."""
    content = example("The environments file", OPERATING)
    parsed = parse_document(content.encode(), Path("environments.toml"))
    whole = tomllib.loads(content)
    tables = [
        *whole["environments"],
        *(key for one in whole["environments"] for key in one["keys"] if isinstance(key, dict)),
        *whole["tokens"],
    ]
    names = [*document._ENVIRONMENT_FIELDS, *document._KEY_FIELDS, *document._TOKEN_FIELDS]

    assert [f"`{name}`" for name in names] == [row[1] for row in rows(section("The environments file", OPERATING))]
    assert set(names) == {name for table in tables for name in table}
    assert set(document._ROLES) == {token.role for token in parsed.tokens.values()}
    assert {None} < {one.features for one in parsed.environments.values()}
    assert {False, True} == {key.text.startswith(SERVER_KEY_PREFIX) for key in parsed.keys}


def test_environments_file_says_what_is_refused() -> None:
    """The lengths and the bounds are those of the code."""
    text = section("The environments file", OPERATING)

    assert f"up to {document.MAX_NAME_CHARACTERS} characters" in text
    assert f"up to {document.MAX_FEATURE_CHARACTERS:,} characters" in text
    assert f"1 to {document.MAX_KEY_CHARACTERS} visible ASCII characters" in text
    assert f"up to {document._MAX_FAULTS}." in text
    assert f"whole number up to {policy.MAX_SAMPLE_EVERY:,} (" in text


def registered() -> list[MetricWrapperBase]:
    """Return every metric of the service."""
    return [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]


def exposed(metric: MetricWrapperBase) -> str:
    """Return the name of *metric* as Prometheus sees it."""
    return f"{metric._name}_total" if metric._type == "counter" else metric._name


def test_metrics() -> None:
    """operating.md has every metric, with its type, its labels and what it means."""
    expected = [
        [
            f"`{exposed(metric)}`",
            metric._type,
            ", ".join(f"`{label}`" for label in metric._labelnames) or DASH,
            metric._documentation,
        ]
        for metric in registered()
    ]

    assert expected == rows(section("Metrics", OPERATING))


def test_alerts_exist() -> None:
    """Every metric, label, reason and setting that the alerts go by is one."""
    text = section("What to alert on", OPERATING)
    series = {exposed(metric) for metric in registered()} | {
        f"{metric._name}_count" for metric in registered() if metric._type == "histogram"
    }
    labels = {label for metric in registered() for label in metric._labelnames}
    named = set(re.findall(r"flagledger_\w+", text))

    assert len(named) > 7
    assert set() == named - series
    assert set() == set(re.findall(r"(\w+)=~?\"", text)) - labels
    assert set() == set(re.findall(r'reason="(\w+)"', text)) - {reason.name for reason in Reason}
    assert set() == set(re.findall(r"`(journal_\w+)`", text)) - set(Config.model_fields)


def test_log_events_exist() -> None:
    """Every event that operating.md names is one that the code logs."""
    code = "".join(path.read_text(encoding="utf-8") for path in SERVICE.rglob("*.py"))
    events = [
        event for row in rows(section("Logs", OPERATING)) for event in re.findall(r"`([a-z' ;:]{15,})`", "|".join(row))
    ]

    assert len(events) > 7
    assert [] == [event for event in events if f'"{event}' not in code]


def test_stop_takes_what_is_said() -> None:
    """The pages name the default of `drain_seconds` as what fits into ten seconds."""
    from flagledger import supervisor

    whole = Config().drain_seconds + supervisor._LEEWAY_SECONDS + supervisor._WRITER_SECONDS

    assert "10 s at most with the default" in section("Stop, restart, upgrade", OPERATING)
    assert whole < 10
    assert whole - Config().drain_seconds < 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """Every file and heading that a page links to is there."""
    text = page.read_text(encoding="utf-8")
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        path = (page.parent / file).resolve() if file else page
        if not path.exists():
            missing.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            if anchor not in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}:
                missing.append(target)

    assert [] == missing


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
