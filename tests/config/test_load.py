from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flagledger.config import Config, ConfigError, load_config, load_settings, parse_address
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty directory, with no variable of ours."""
    monkeypatch.chdir(tmp_path)
    for name in Config.model_fields:
        monkeypatch.delenv(f"FLAGLEDGER_{name.upper()}", raising=False)


def fault(flags: dict[str, Any] | None = None, **options: Any) -> str:
    """Return what is said of a configuration."""
    with pytest.raises(ConfigError) as caught:
        load_config(flags, **options)
    return str(caught.value)


def test_defaults_stand_without_any_configuration() -> None:
    """With nothing set, the service is on localhost and within the limits that are documented."""
    config = load_config()

    assert config == Config()
    assert json.loads(config.to_json()) == {
        "data": "flagledger-data",
        "environments": None,
        "catalog": None,
        "flagsmith_server_keys": [],
        "tokens": [],
        "policies": [],
        "identity_secret": None,
        "http": "127.0.0.1:8080",
        "grpc": "127.0.0.1:50051",
        "fronts": 1,
        "store": None,
        "sink": None,
        "accept_gap": None,
        "read_token": None,
        "max_body_bytes": 4_194_304,
        "max_in_flight_bytes": 33_554_432,
        "max_evaluations": 10_000,
        "journal_max_bytes": 4_294_967_296,
        "dedup_hours": 24,
        "retention_days": 90,
        "store_memory_bytes": 1_073_741_824,
        "catalog_refresh_seconds": 60.0,
        "recognise_resent_bodies": True,
        "max_concurrent_calls": 1000,
        "drain_seconds": 7.5,
    }


def test_flags_go_before_variables_before_the_file_before_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer hides the ones below it, setting by setting, and it is known which one set what."""
    Path("flagledger.toml").write_text("fronts = 2\nmax_evaluations = 20\ndedup_hours = 2\n")
    monkeypatch.setenv("FLAGLEDGER_FRONTS", "3")
    monkeypatch.setenv("FLAGLEDGER_MAX_EVALUATIONS", "30")
    loaded = load_settings({"fronts": "4", "http": None})
    config = loaded.config

    assert (config.fronts, config.max_evaluations, config.dedup_hours, config.http) == (4, 30, 2, "127.0.0.1:8080")
    assert loaded.origins == {
        "fronts": "--fronts",
        "max_evaluations": "FLAGLEDGER_MAX_EVALUATIONS",
        "dedup_hours": "flagledger.toml: dedup_hours",
    }


# Settings that hold more than one thing; each is tested by itself.
LISTS = {"tokens", "policies", "flagsmith_server_keys"}


@pytest.mark.parametrize("name", [name for name in Config.model_fields if name not in LISTS])
def test_every_setting_can_be_a_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is FLAGLEDGER_ and the name in capitals, and every setting says what it is for."""
    text = {
        "store": "duckdb:x.duckdb",
        "sink": "influxdb://u:p@h/d",
        "http": "[::1]:0",
        "grpc": "localhost:7",
        "store_memory_bytes": "200000000",
    }.get(name, "8000000")
    text = {"fronts": "8", "max_evaluations": "8", "dedup_hours": "8", "retention_days": "8", "drain_seconds": "8"}.get(
        name, text
    )
    text = {"catalog_refresh_seconds": "8.5", "max_concurrent_calls": "8", "catalog": "file:x.toml"}.get(name, text)
    text = {"recognise_resent_bodies": "False", "identity_secret": "s" * 22}.get(name, text)
    monkeypatch.setenv(f"FLAGLEDGER_{name.upper()}", text)
    loaded = load_settings()
    value = getattr(loaded.config, name)

    assert str(value.get_secret_value() if isinstance(value, SecretStr) else value).removesuffix(".0") == text
    assert loaded.origins == {name: f"FLAGLEDGER_{name.upper()}"}
    assert str(Config.model_fields[name].description).endswith(".")


def test_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a template left empty is as good as none."""
    monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", "")

    assert load_config() == Config()


def test_a_named_file_is_read_instead(tmp_path: Path) -> None:
    """--config takes the place of ./flagledger.toml, and must exist."""
    Path("flagledger.toml").write_text("fronts = 2\n")
    other = tmp_path / "other.toml"
    other.write_text("max_evaluations = 5\n")
    config = load_config(config_file=other)

    assert (config.fronts, config.max_evaluations) == (1, 5)
    assert fault(config_file=tmp_path / "none.toml") == f"{tmp_path}/none.toml is not there, or not a file."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("htpp = 'x'", "flagledger.toml: `htpp` is not a setting; the nearest one is `http`."),
        ("fronts = 0", "flagledger.toml: fronts: it should be greater than or equal to 1."),
        ("fronts = true", "flagledger.toml: fronts: it must be a number."),
        ("max_evaluations = 65537", "flagledger.toml: max_evaluations: it should be less than or equal to 65536."),
        ("max_body_bytes = 'x'", "flagledger.toml: max_body_bytes: it should be a valid integer"),
        ("drain_seconds = nan", "flagledger.toml: drain_seconds: it should be a finite number."),
        ("http = '8080'", "flagledger.toml: http: it must be HOST:PORT, for example 127.0.0.1:8080 or [::1]:8080."),
        ("grpc = '::1:80'", "flagledger.toml: grpc: an IPv6 address must stand in brackets, for example [::1]:8080."),
        ("grpc = 'h:65536'", "flagledger.toml: grpc: its port must be a number from 0 to 65535; 0 picks a free one."),
        ("http = 'h:9'\ngrpc = 'h:9'", "`http` and `grpc` cannot both be served on h:9."),
        ("max_body_bytes = 40000000", "`max_in_flight_bytes` must be at least `max_body_bytes`"),
        (
            "store = 'mysql://u:secret@h/d'",
            "flagledger.toml: store: it must be duckdb:PATH, postgresql://user:password@",
        ),
        (
            "store = 'duckdb:'",
            "flagledger.toml: store: it must be duckdb:PATH, postgresql://user:password@host/database",
        ),
        (
            "sink = 'http://u:secret@h/d'",
            "flagledger.toml: sink: it must be influxdb://user:password@host:8086/database",
        ),
        ("read_token = 'my secret'", "flagledger.toml: read_token: a token must be 1 to 512 visible ASCII characters"),
        ("retention_days = -1", "flagledger.toml: retention_days: it should be greater than or equal to 0."),
        ("retain_days = 3", "flagledger.toml: `retain_days` is not a setting; the nearest one is `retention_days`."),
        ("fronts = \n", "flagledger.toml, line 1, column 10: Invalid value."),
        ("a = 1\na = 2\n", "flagledger.toml, line 2, column 6: Cannot overwrite a value."),
    ],
)
def test_a_fault_in_the_file_is_a_sentence_with_its_place(content: str, expected: str) -> None:
    """What is wrong is said with the file and the setting or line; no secret is quoted."""
    Path("flagledger.toml").write_text(content)
    message = fault()

    assert message.startswith(expected)
    assert "secret" not in message


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("FLAGLEDGER_HTPP", "x", "The variable FLAGLEDGER_HTPP is not a setting; the nearest one is FLAGLEDGER_HTTP."),
        ("FLAGLEDGER_PORT", "8080", "The variable FLAGLEDGER_PORT is not a setting; the nearest one is "),
        ("FLAGLEDGER_FRONTS", "two", "FLAGLEDGER_FRONTS: it should be a valid integer"),
        ("FLAGLEDGER_READ_TOKEN", "a b", "FLAGLEDGER_READ_TOKEN: a token must be"),
    ],
)
def test_a_fault_in_a_variable_names_it(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped variable is an error, not a setting that quietly has no effect."""
    monkeypatch.setenv(variable, value)

    assert fault().startswith(expected)


def test_a_fault_in_a_flag_names_it() -> None:
    """A flag is named as it was typed; an unknown one of the code is an error too."""
    assert fault({"max_body_bytes": "x"}).startswith("--max-body-bytes: it should be a valid integer")
    assert fault({"htpp": "x"}) == "`htpp` is not a setting; the nearest one is `http`."


def test_faults_of_all_layers_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of mending is enough."""
    Path("flagledger.toml").write_text("htpp = 1\nfronts = 0\n")
    monkeypatch.setenv("FLAGLEDGER_STOER", "1")

    assert len(fault({"grpc": "x"}).splitlines()) == 4


def test_service_links_of_kubernetes_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service named `flagledger` in the same namespace does not keep the service from starting."""
    for name, value in {
        "FLAGLEDGER_SERVICE_HOST": "10.0.0.1",
        "FLAGLEDGER_SERVICE_PORT": "8080",
        "FLAGLEDGER_SERVICE_PORT_HTTP": "8080",
        "FLAGLEDGER_PORT": "tcp://10.0.0.1:8080",
        "FLAGLEDGER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "FLAGLEDGER_PORT_8080_TCP_PROTO": "tcp",
        "FLAGLEDGER_PORT_8080_TCP_PORT": "8080",
        "FLAGLEDGER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "FLAGLEDGER_HTTP_SERVICE_HOST": "10.0.0.1",
        "FLAGLEDGER_HTTP_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    }.items():
        monkeypatch.setenv(name, value)

    assert load_config() == Config()


def test_it_is_frozen_and_takes_nothing_unknown() -> None:
    """Nobody changes it on the way, and code that names no setting fails."""
    with pytest.raises(ValidationError):
        Config().fronts = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Config(front=2)  # type: ignore[call-arg]


def test_secrets_are_masked_where_it_is_shown() -> None:
    """Neither repr nor str nor a fault shows a token or a password."""
    config = Config(
        read_token=SecretStr("tell-nobody"),
        catalog="postgresql://u:tell-nobody@h/d",
        store="postgresql://u:tell-nobody@h/d",
        sink="influxdb://u:tell-nobody@h/d",
    )
    with pytest.raises(ValidationError) as caught:
        Config(read_token=SecretStr("tell nobody"))

    shown = {config.shown(name) for name in ("catalog", "store", "sink")}

    assert "tell-nobody" not in f"{config} {config!r}"
    assert {"postgresql://u:**********@h/d", "influxdb://u:**********@h/d"} == shown
    assert "postgresql://u:**********@h/d" == config.store_shown
    assert "tell nobody" not in f"{caught.value} {caught.value!r}"


def test_a_child_process_gets_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through JSON it arrives whole, secrets included, and the child's variables and directory change nothing."""
    config = Config(
        read_token=SecretStr("t"), data=Path("dä ta"), http="[::1]:0", store="duckdb:a:b", drain_seconds=1.5
    )
    Path("flagledger.toml").write_text("fronts = 5\n")
    monkeypatch.setenv("FLAGLEDGER_MAX_EVALUATIONS", "7")
    code = (
        "import sys; from flagledger.config import Config; c = Config.from_json(sys.stdin.read());"
        "print(c.read_token.get_secret_value(), c.fronts, c.max_evaluations); sys.stdout.write(c.to_json())"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], input=config.to_json(), capture_output=True, text=True, check=True
    )
    line, _, text = child.stdout.partition("\n")

    assert line == "t 1 10000"
    assert Config.from_json(text) == config


@given(
    st.builds(
        Config,
        fronts=st.integers(1, 64),
        max_evaluations=st.integers(1, 65_536),
        catalog_refresh_seconds=st.floats(0.001, 86_400),
        read_token=st.none() | st.from_regex(r"[!-~]{1,512}", fullmatch=True).map(SecretStr),
        data=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1).map(Path),
        environments=st.none() | st.just(Path("e.toml")),
    )
)
def test_json_and_back_is_the_same(config: Config) -> None:
    """Whatever is configured survives the way to a child process."""
    assert Config.from_json(config.to_json()) == config


def test_paths_follow_the_data_directory() -> None:
    """Environments file and store lie in the data directory unless they are named."""
    plain, named = Config(data=Path("d")), Config(environments=Path("e"), store="duckdb:s:t")

    assert (plain.environments_file, plain.store_url) == (Path("d/environments.toml"), "duckdb:d/store.duckdb")
    assert (named.environments_file, named.store_url) == (Path("e"), "duckdb:s:t")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("localhost:65535", ("localhost", 65_535)),
        ("my-host.example:1", ("my-host.example", 1)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    """HOST:PORT is taken apart, brackets taken off."""
    assert parse_address(text) == expected
    assert Config(http=text, grpc="x:0").http_address == expected


@pytest.mark.parametrize(
    "text", ["", ":", "8080", ":8080", "h:", "h:-1", "h:65536", "h:8080x", "h: 80", "h:٣", "::1:80", "[]:1", "[h]:1",
             "a b:1", "http://h:80", "[::1]", "h\n:1"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_address(text)


API = "https://flagsmith.example.com/api/v1/"


def test_lists_are_written_in_the_file_and_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens and policies are tables of the file; a variable holds them as JSON, and keys with commas between."""
    Path("flagledger.toml").write_text(
        f'catalog = "{API}"\nflagsmith_server_keys = ["ser.a", "ser.b"]\n[[tokens]]\ntoken = "secret"\nrole = "read"\n'
        '[[policies]]\nidentity = "drop"\n'
    )
    config = load_config()

    assert ["ser.a", "ser.b"] == [key.get_secret_value() for key in config.flagsmith_server_keys]
    assert {"secret": "read"} == {token: one.role for token, one in config.declared_tokens.items()}
    assert "drop" == config.declared_policies.of("any").identity

    monkeypatch.setenv("FLAGLEDGER_FLAGSMITH_SERVER_KEYS", "ser.c, ser.d")
    monkeypatch.setenv("FLAGLEDGER_TOKENS", '[{"token": "other", "role": "admin"}]')
    monkeypatch.setenv("FLAGLEDGER_POLICIES", '[{"identity": "hash", "environments": ["key"]}]')
    config = load_config()

    assert ["ser.c", "ser.d"] == [key.get_secret_value() for key in config.flagsmith_server_keys]
    assert ["other"] == list(config.declared_tokens)
    assert ("hash", "plain") == tuple(config.declared_policies.of(name).identity for name in ("key", "another"))


def test_lists_reach_a_child_process() -> None:
    """What a child is told holds the secrets, and reads back as the same configuration."""
    config = Config(
        catalog=API,
        flagsmith_server_keys=("ser.a",),
        tokens=({"token": "secret", "role": "read"},),
        policies=({"identity": "drop"},),
        identity_secret=SecretStr("s" * 22),
    )

    assert config == Config.from_json(config.to_json())


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            {"catalog": "file:a.toml", "environments": "b.toml"},
            "`environments` names a file and `catalog` a source; give one of them (--environments F means --catalog file:F).",
        ),
        (
            {"catalog": "mysql://host/flagsmith"},
            "--catalog: it must be file:PATH, postgresql://… (the database of a Flagsmith) or https://…/api/v1/ (its API).",
        ),
        (
            {"catalog": "environments.toml"},
            "--catalog: it must be file:PATH, postgresql://… (the database of a Flagsmith) or https://…/api/v1/ (its API).",
        ),
        (
            {"catalog": "file:///etc/environments.toml"},
            "--catalog: a file is named without slashes before it: file:environments.toml, file:/etc/environments.toml.",
        ),
        (
            {"catalog": "https://host/api/v1/?key=1"},
            f"--catalog: it must be the address of the API without user, password or parameters, for example {API}.",
        ),
        (
            {"catalog": "http://host:port/"},
            "--catalog: its host or its port is malformed; percent-encode / @ ? # and % in a password.",
        ),
        (
            {"catalog": "postgresql://flagledger:123/secret@127.0.0.1/flagsmith"},
            "--catalog: an @ behind its host; percent-encode / @ ? # and % in a user's name, a password and parameters.",
        ),
        ({"catalog": "https:///api/v1/"}, "--catalog: it names no host."),
        (
            {"catalog": "postgresql:flagledger:secret@127.0.0.1/flagsmith"},
            "--catalog: behind postgresql: come two slashes, for example postgresql://host/….",
        ),
        (
            {"catalog": "postgresql://db/flagsmith?pass%77ord=secret"},
            "--catalog: names of parameters are written without %.",
        ),
        (
            {"policies": [{"identity": "drop"}]},
            "`policies` are for environments of a Flagsmith; those of a file have theirs in that file.",
        ),
        (
            {"flagsmith_server_keys": ["ser.a"]},
            "`flagsmith_server_keys` are for a `catalog` that is the API of a Flagsmith.",
        ),
        (
            {"catalog": API, "flagsmith_server_keys": ["client"]},
            "--flagsmith-server-keys: each must be a server key (ser.…, visible ASCII): a client key shows fewer features.",
        ),
        (
            {"identity_secret": "short"},
            "--identity-secret: it must be 22 to 512 visible ASCII characters without spaces, made at random.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(flags: dict[str, Any], expected: str) -> None:
    """A source that is none, two of them, and settings of another source are each refused with a sentence."""
    assert expected == fault(flags)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"catalog": API, "policies": [{"identity": "hidden"}]}, "policies[0].identity"),
        (
            {"catalog": API, "policies": [{"environments": ["a-key", "Shop / Production"]}]},
            "policies[0].environments[1]",
        ),
        ({"catalog": API, "policies": [{"environments": ["ser.key"]}]}, "policies[0].environments[0]"),
        ({"tokens": [{"token": "t", "role": "writer"}]}, "tokens[0].role"),
    ],
)
def test_faults_of_tables_are_named(flags: dict[str, Any], field: str) -> None:
    """What is wrong in a table is told with its place."""
    assert field in fault(flags)


@pytest.mark.parametrize(
    ("flags", "file"),
    [
        ({}, "flagledger-data/environments.toml"),
        ({"data": "d"}, "d/environments.toml"),
        ({"environments": "e.toml"}, "e.toml"),
        ({"catalog": "file:/etc/e.toml"}, "/etc/e.toml"),
    ],
)
def test_a_file_is_the_catalog_where_nothing_else_is_named(flags: dict[str, Any], file: str) -> None:
    """--environments F and --catalog file:F mean the same."""
    config = load_config(flags)

    assert (True, file, f"file:{file}") == (config.is_file_catalog, str(config.environments_file), config.catalog_url)


@pytest.mark.parametrize("name", ["TOKENS", "POLICIES"])
def test_variables_that_are_no_json(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that holds tables and cannot be read is named, and what it holds is not repeated."""
    monkeypatch.setenv(f"FLAGLEDGER_{name}", '[{"token": "secret"')

    assert (
        f'The variable FLAGLEDGER_{name} is no JSON; it is a list of tables, for example [{{"environments": ["key"]}}].'
        == fault()
    )
