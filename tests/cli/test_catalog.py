from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flagledger.catalog.base import Environment, Inventory, KeyFound
from flagledger.catalog.flagsmith_database import view_sql
from flagledger.catalog.policy import Policy
from flagledger.cli.catalog import COMMANDS, Found, catalog_view, check, rows, view
from rich.console import Console
from support.flagsmith_stub import FlagsmithStub, flagsmith_stub

CLIENT, SERVER, DELETED = "client-key-of-the-shop", "ser.server-key-of-the-shop", "ser.deleted-key-of-the-shop"
NOW = 1_790_000_000.0
DAY = 86_400.0

FILE = f"""
[[environments]]
name = "production"
keys = [
  "{CLIENT}",
  {{ key = "{SERVER}", expires_at = 2020-01-01T00:00:00Z }},
  {{ key = "ser.switched-off", active = false }},
]
features = ["a", "b"]

[[environments]]
name = "development"
keys = []
features = "any"

[[tokens]]
token = "token-of-somebody"
role = "admin"
"""


@pytest.fixture
def stub() -> Iterator[FlagsmithStub]:
    """Run a Flagsmith with one environment."""
    with flagsmith_stub() as stub:
        stub.environment(CLIENT, SERVER, features=("a", "b", "c"))
        yield stub


def run(*arguments: str, server_keys: tuple[str, ...] = ()) -> Result:
    """Run the command; nothing that it prints holds a server key or a token."""
    variables = {"FLAGLEDGER_FLAGSMITH_SERVER_KEYS": ",".join(server_keys)} if server_keys else {}
    result = CliRunner().invoke(check, arguments, env=variables)
    assert not any(secret in result.output for secret in (SERVER, DELETED, "token-of-somebody", "switched-off"))
    return result


def test_names_that_no_environment_has(stub: FlagsmithStub, tmp_path: Path) -> None:
    """A policy or a token for an environment that is not there is told, with the name that was meant."""
    file = tmp_path / "flagledger.toml"
    file.write_text(
        f'catalog = "{stub.url}"\n[[policies]]\nenvironments = ["{CLIENT}", "absent"]\nidentity = "hash"\n'
        '[[tokens]]\ntoken = "token-of-somebody"\nrole = "read"\nenvironments = ["Shop / Production"]\n'
    )
    result = run("--config", str(file), server_keys=(SERVER,))
    said = " ".join(result.output.split())

    assert 0 == result.exit_code
    assert "policies[0].environments[1]: there is no environment 'absent'." in said
    assert f"tokens[0].environments[0]: there is no environment 'Shop / Production'; {CLIENT} is called so" in said
    assert "policies[0].environments[0]" not in said


def test_limits_are_told(tmp_path: Path) -> None:
    """What an environment takes and keeps of what is sent stands beside it; of a file, a lost name is a fault."""
    file = tmp_path / "e.toml"
    file.write_text(
        f'[[environments]]\nname = "a"\nkeys = ["{CLIENT}"]\nfeatures = "any"\nrate = 5000\nsample_rate = 0.1\n'
        'origins = ["https://app.example.com"]\n'
    )
    told = run("--environments", str(file))
    config = tmp_path / "flagledger.toml"
    config.write_text(
        f'environments = "{file}"\n[[tokens]]\ntoken = "token-of-somebody"\nrole = "read"\nenvironments = ["b"]\n'
    )
    lost = run("--config", str(config))

    assert 0 == told.exit_code
    for words in ("5,000 a second", "1 of 10 is kept", "https://app.example.com"):
        assert words in " ".join(told.output.split())
    assert (1, True) == (lost.exit_code, "tokens[0].environments[0]: there is no environment 'b'." in lost.output)


def objects(result: Result) -> list[dict[str, Any]]:
    """Return what was printed for programs."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def shown(*keys: KeyFound, environment: Environment | None = None) -> str:
    """Return what people see."""
    environments = () if environment is None else (environment,)
    console = Console(width=160, record=True, file=None)
    with console.capture() as capture:
        console.print(view(Found(inventory=Inventory(environments=environments, keys=keys), tokens=0), 160, NOW))
    return capture.get()


def test_a_flagsmith_is_told_of(stub: FlagsmithStub) -> None:
    """Environments with names, features and what is kept, and masked keys; all is well."""
    result = run("--catalog", stub.url, server_keys=(SERVER,))
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]

    assert 0 == result.exit_code
    assert f"{CLIENT} Shop / Production 3 identities as sent, all traits, all metadata" in lines
    assert f"ser.serv… server {CLIENT} active" in lines
    assert f"clie… client {CLIENT} active" in lines
    assert "1 environment, 2 keys, 0 tokens besides the read token." == lines[-1]
    assert "" == result.stderr


def test_a_flagsmith_is_told_to_programs(stub: FlagsmithStub) -> None:
    """Each object says by its one field what it is."""
    result = run("--catalog", stub.url, "--json", server_keys=(SERVER,))
    policy = {
        "identity": "plain",
        "traits": None,
        "metadata": None,
        "rate": None,
        "origins": None,
        "sample_rate": 1.0,
    }
    key = {"environment": CLIENT, "state": "active", "expire_time": None}

    assert 0 == result.exit_code
    assert [
        {
            "environment": {
                "name": CLIENT,
                "display_name": "Shop / Production",
                "feature_count": 3,
                "is_stopped": False,
                "policy": policy,
            }
        },
        {"key": {"masked": "ser.serv…", "kind": "server", **key}},
        {"key": {"masked": "clie…", "kind": "client", **key}},
        {"tokens": {"count": 0}},
    ] == objects(result)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_what_is_wrong_ends_it_with_one(stub: FlagsmithStub, form: tuple[str, ...]) -> None:
    """A key that is refused is told, beside what there is."""
    result = run("--catalog", stub.url, *form, server_keys=(SERVER, DELETED))
    fault = "The Flagsmith refuses the server key ser.dele…: it was deleted, or is another Flagsmith's."
    said = [line["fault"] for line in objects(result) if "fault" in line] if form else [result.stderr.strip()]

    assert 1 == result.exit_code
    assert [fault if form else f"flagledger: {fault}"] == said
    assert CLIENT in result.stdout


@pytest.mark.parametrize("broken", [500, "html", 404])
def test_what_cannot_be_asked_ends_it_with_one(stub: FlagsmithStub, broken: int | str) -> None:
    """A Flagsmith that fails, and an address where there is none, are told in a sentence."""
    stub.broken = broken
    result = run("--catalog", stub.url, server_keys=(SERVER,))

    assert 1 == result.exit_code
    assert f"answered with {200 if broken == 'html' else broken}" in result.stderr


def test_where_nobody_listens(stub: FlagsmithStub) -> None:
    """The address is named, and what happened."""
    stub.stop()
    result = run("--catalog", stub.url, server_keys=(SERVER,))

    assert 1 == result.exit_code
    assert result.stderr.startswith(f"flagledger: {stub.url}: The API of the Flagsmith cannot be reached (")
    assert "" == result.stdout


def test_a_read_token_that_is_a_key(stub: FlagsmithStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that everybody can read in a browser is told, wherever it is set."""
    monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", CLIENT)
    result = run("--catalog", stub.url, server_keys=(SERVER,))

    assert 1 == result.exit_code
    assert "A client key, clie…, is the same text as a token: it is taken for neither." in result.stderr


def test_a_flagsmith_without_server_keys(stub: FlagsmithStub) -> None:
    """It is no fault, and people are told what it means."""
    result = run("--catalog", stub.url)

    assert 0 == result.exit_code
    assert "0 environments, 0 keys, 0 tokens besides the read token." in result.stdout
    assert "Without flagsmith_server_keys the features of no environment are known" in result.stdout


def test_the_policies_of_the_configuration_are_those_told(stub: FlagsmithStub, tmp_path: Path) -> None:
    """What is kept of people stands beside the environment, as the configuration has it; its tokens are counted."""
    file = tmp_path / "other.toml"
    file.write_text(
        f'catalog = "{stub.url}"\nflagsmith_server_keys = ["{SERVER}"]\n'
        '[[tokens]]\ntoken = "token-of-somebody"\nrole = "read"\n'
        f'[[policies]]\nenvironments = ["{CLIENT}"]\nidentity = "hash"\ntraits = ["plan"]\n'
    )
    result = run("--config", str(file))

    assert 0 == result.exit_code
    assert "pseudonyms of identities, traits plan, all metadata" in result.stdout
    assert "1 environment, 2 keys, 1 token besides the read token." in result.stdout


def test_a_file_is_told_of(tmp_path: Path) -> None:
    """So are the environments of a file, with keys that do not count; that they do not is no fault."""
    (tmp_path / "e.toml").write_text(FILE)
    by_name, by_url = run("--environments", "e.toml"), run("--catalog", "file:e.toml")
    lines = [" ".join(line.split()) for line in by_name.stdout.splitlines()]

    assert by_name.output == by_url.output
    assert 0 == by_name.exit_code
    assert "development any identities as sent, all traits, all metadata" in lines
    assert "ser.serv… server production expired since 2020-01-01T00:00:00Z" in lines
    assert "ser.swit… server production inactive" in lines
    assert "2 environments, 3 keys, 1 token besides the read token." == lines[-1]


def test_the_file_of_the_data_directory(tmp_path: Path) -> None:
    """Without a catalog it is the file there; before the first start there is none, which is no fault."""
    before = run("--data", "d")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "environments.toml").write_text(FILE)

    assert (0, "d/environments.toml is not there yet") == (before.exit_code, before.stderr[:36])
    assert "2 environments" in run("--data", "d").stdout


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("x", ("--environments", "e.toml"), "e.toml, line 1: Expected '=' after a key"),
        (FILE, ("--environments", "none.toml"), "none.toml: cannot be read: No such file or directory."),
        (FILE, ("--environments", "e.toml", "--catalog", "file:e.toml"), "`environments` names a file and `catalog`"),
        (FILE, ("--catalog", "ftp://secret@somewhere"), "--catalog: it must be file:PATH, postgresql://"),
        (FILE, ("--config", "none.toml"), "none.toml is not there, or not a file."),
    ],
)
def test_a_wrong_call_ends_it_with_two(tmp_path: Path, content: str, arguments: tuple[str, ...], said: str) -> None:
    """What is configured wrongly is told before anything is asked."""
    (tmp_path / "e.toml").write_text(content)
    result = run(*arguments)

    assert 2 == result.exit_code
    assert result.stderr.startswith(f"flagledger: {said}")


@pytest.mark.parametrize(
    ("expires_at", "active", "said", "state"),
    [
        (None, True, "active", "active"),
        (None, False, "inactive", "inactive"),
        (NOW + DAY, False, "inactive", "inactive"),
        (NOW, True, "expired since 2026-09-21T14:13:20Z", "expired"),
        (NOW - DAY, True, "expired since 2026-09-20T14:13:20Z", "expired"),
        (NOW + 3 * DAY, True, "active, expires in 3 days, 2026-09-24T14:13:20Z", "active"),
        (NOW + DAY, True, "active, expires in 1 day, 2026-09-22T14:13:20Z", "active"),
        (NOW + 7300, True, "active, expires in 2 hours, 2026-09-21T16:15:00Z", "active"),
        (NOW + 0.5, True, "active, expires in a moment, 2026-09-21T14:13:20Z", "active"),
        (math.inf, True, "active", "active"),
        (-math.inf, True, "expired", "expired"),
        (1e15, True, "active", "active"),
    ],
)
def test_what_a_key_is(expires_at: float | None, active: bool, said: str, state: str) -> None:  # noqa: FBT001 - a row
    """Switched off, expired, soon to expire, or neither; also at times that no calendar has."""
    key = KeyFound(text=SERVER, environment="e", active=active, expires_at=expires_at)
    [row, _] = rows(Found(inventory=Inventory(environments=(), keys=(key,)), tokens=0), NOW)

    assert f"ser.serv… server e {said}" in [" ".join(line.split()) for line in shown(key).splitlines()]
    assert state == row["key"]["state"]
    json.dumps(row, allow_nan=False)


def test_an_environment_that_is_stopped() -> None:
    """Of an organisation that is shut out nothing is kept, and that is told."""
    environment = Environment(name="e", features=frozenset(), policy=Policy(identity="hash"), stopped=True)

    assert "nothing: its organisation is disabled" in shown(environment=environment)


def test_names_cannot_act_on_a_terminal() -> None:
    """What people call an environment is shown without control characters."""
    environment = Environment(name="e", features=None, display_name="\x1b[31mred")

    assert "\\x1b[31mred" in shown(environment=environment)


def test_the_view_of_a_database() -> None:
    """It is printed as it is, to be piped into psql."""
    result = CliRunner().invoke(catalog_view)

    assert (0, view_sql()) == (result.exit_code, result.stdout)
    assert "CREATE OR REPLACE VIEW" in result.stdout


def test_the_view_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is not installed, it is told which to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    result = CliRunner().invoke(catalog_view)

    assert (2, "") == (result.exit_code, result.stdout)
    assert "pip install '.[server,postgres]'" in result.stderr


def test_what_is_registered() -> None:
    """Both commands are there, and say what they are for."""
    assert ["check", "catalog-view"] == [command.name for command in COMMANDS]
    assert all(command.help for command in COMMANDS)


def test_it_does_not_wait_for_a_slow_flagsmith(stub: FlagsmithStub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Flagsmith that hangs is given up in time."""
    monkeypatch.setattr("flagledger.catalog.flagsmith_client._TOTAL_SECONDS", 0.2)
    stub.delay = 5.0
    began = time.monotonic()
    result = run("--catalog", stub.url, server_keys=(SERVER,))

    assert 1 == result.exit_code
    assert "did not answer in time" in result.stderr
    assert time.monotonic() - began < 5.0
