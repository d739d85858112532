from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest
from flagledger.cli.commands import root
from flagledger.config import Config, load_config
from support.command import run


def test_config_show_is_a_file_that_means_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it prints names every setting and its origin, masks secrets, and is itself a valid file."""
    monkeypatch.setenv("FLAGLEDGER_FRONTS", "3")
    monkeypatch.setenv("FLAGLEDGER_READ_TOKEN", "tell-nobody")
    shown = run("config", "show", "--http", "[::1]:0", "--data", 'd"\\').output
    monkeypatch.delenv("FLAGLEDGER_FRONTS")
    monkeypatch.delenv("FLAGLEDGER_READ_TOKEN")
    Path("flagledger.toml").write_text(shown)
    config = load_config()

    assert "tell-nobody" not in shown
    assert '# From FLAGLEDGER_READ_TOKEN.\nread_token = "**********"' in shown
    assert "# From FLAGLEDGER_FRONTS.\nfronts = 3" in shown
    assert '# From --http.\nhttp = "[::1]:0"' in shown
    assert "# The default.\nmax_evaluations = 10000" in shown
    assert all(f"{name} =" in shown for name in Config.model_fields)
    assert config.model_dump(exclude={"read_token"}) == Config(
        fronts=3, http="[::1]:0", data=Path('d"\\')
    ).model_dump(exclude={"read_token"})  # fmt: skip


def test_config_show_shows_no_password() -> None:
    """URLs of store and sink are printed without the password in them, whatever set them."""
    Path("flagledger.toml").write_text('sink = "influxdb://:tell-nobody@influx?org=a&bucket=b"\n')
    shown = run("config", "show", "--store", "postgresql://flagledger:tell-nobody@db/analytics").output

    assert '# From --store.\nstore = "postgresql://flagledger:**********@db/analytics"' in shown
    assert '# From flagledger.toml: sink.\nsink = "influxdb://:**********@influx?org=a&bucket=b"' in shown
    assert "tell-nobody" not in shown


def test_config_check_says_what_is_there(tmp_path: Path) -> None:
    """A valid configuration is counted up; a missing environments file in the data directory is no fault."""
    bare = run("config", "check")
    (tmp_path / "e.toml").write_text('[[environments]]\nname = "one"\nkeys = ["k", "l"]\nfeatures = "any"\n')
    given = run("config", "check", "--environments", "e.toml")

    assert (bare.exit_code, given.exit_code) == (0, 0)
    assert "flagledger-data/environments.toml is not there yet" in bare.output
    assert given.output == "The configuration is valid.\ne.toml is valid: 1 environment, 2 keys, 0 tokens.\n"


@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [
        ({"flagledger.toml": "fronts = 0"}, (), "flagledger.toml: fronts: it should be greater than or equal to 1."),
        ({"flagledger.toml": "fronts = x\n"}, (), "flagledger.toml, line 1, column 10: Invalid value."),
        ({}, ("--config", "none.toml"), "none.toml is not there, or not a file."),
        ({}, ("--fronts", "x"), "--fronts: it should be a valid integer"),
        (
            {},
            ("--store", "mysql://u:p@h/d"),
            "--store: it must be duckdb:PATH, postgresql://user:password@host/database, ",
        ),
        ({}, ("--sink", "influxdb://h"), "--sink: it names no database: "),
        ({}, ("--store", "clickhouse://u:p@h/d?clutser=c"), "The store's URL has a parameter that is not known; "),
        ({}, ("--store", "postgresql://u:p@h/d?shcema=s"), "The store's URL is none of a PostgreSQL database: "),
        ({}, ("--environments", "none.toml"), "none.toml: cannot be read: No such file or directory."),
        ({"e.toml": "x"}, ("--environments", "e.toml"), "e.toml, line 1: Expected '=' after a key"),
        (
            {"e.toml": '[[environments]]\nname = "a"\nkeys = ["k"]\nfeatures = []'},
            ("--environments", "e.toml", "--read-token", "k"),
            "e.toml: environments: a key is the same text as a token",
        ),
    ],
)
def test_config_check_ends_with_two_on_a_fault(
    files: dict[str, str], arguments: tuple[str, ...], expected: str
) -> None:
    """Whatever keeps the service from starting is said, without starting it."""
    for name, content in files.items():
        Path(name).write_text(content)
    result = run("config", "check", *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"flagledger: {expected}")


@pytest.mark.parametrize(
    ("arguments", "library", "expected"),
    [
        (("--store", "postgresql://u:tell-nobody@db/d"), "psycopg", "'flagledger[postgres]'"),
        (("--store", "chdb:somewhere"), "chdb", "'flagledger[clickhouse]' chdb"),
        (("--sink", "influxdb://u:tell-nobody@h/d"), "urllib3", "'flagledger[influxdb]'"),
    ],
)
def test_config_check_names_a_library_that_is_missing(
    arguments: tuple[str, ...], library: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a store or a sink needs and is not installed is told, with the line that installs it."""
    monkeypatch.setitem(sys.modules, library, None)
    result = run("config", "check", *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"flagledger: {library} is not installed, which this ")
    assert f": pip install {expected}." in result.stderr


def test_serve_refuses_a_configuration_before_anything_starts() -> None:
    """A fault ends it with 2 and a sentence; no directory is made."""
    result = run("serve", "--http", "nonsense")

    assert result.exit_code == 2
    assert result.stderr.startswith("flagledger: --http: it must be HOST:PORT")
    assert list(Path().iterdir()) == []


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command, with the words that call it."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)


def test_every_command_and_option_says_what_it_is_for() -> None:
    """--help leaves nothing unexplained."""
    found = list(commands(root))
    unexplained = [
        (path, parameter.name)
        for path, command in found
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]

    assert {path for path, _ in found} == {
        ("serve",), ("config",), ("config", "show"), ("config", "check"),
        ("catalog-view",),
        ("check",),
        ("environments",), ("features",), ("counts",), ("evaluations",), ("exposures",), ("unknown-features",), ("intake",),
        ("export",), ("delete-identity",), ("copy",),
    }  # fmt: skip
    assert [path for path, command in found if not command.help] == []
    assert unexplained == []
    assert all(run(*path, "--help").exit_code == 0 for path, _ in found)


def test_what_a_command_does_fits_on_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 80 columns --help says of each command on one line, and whole, what it does."""
    monkeypatch.setenv("COLUMNS", "80")
    for path, command in [((), root), *commands(root)]:
        if isinstance(command, click.Group):
            lines = run(*path, "--help").output.partition("Commands:\n")[2].splitlines()
            assert sorted(command.commands) == [line.split()[0] for line in lines]
            assert [line for line in lines if not line.endswith(".") or line.endswith("...")] == []


def test_the_version_is_that_of_the_package() -> None:
    """--version says what is installed."""
    assert run("--version").output == f"flagledger, version {metadata.version('flagledger')}\n"


@pytest.mark.parametrize(
    ("arguments", "expected_code", "expected"),
    [
        (("--data", "file"), 1, "flagledger: The data directory file cannot be used: "),
        (("--data", "here", "--environments", "e.toml"), 2, "flagledger: e.toml, line 1: Expected '=' after a key"),
    ],
)
def test_serve_runs_what_was_configured(
    tmp_path: Path, arguments: tuple[str, ...], expected_code: int, expected: str
) -> None:
    """The flags reach the service, and its sentence and exit code come back: 1 cannot run, 2 configuration."""
    (tmp_path / "file").write_text("")
    (tmp_path / "e.toml").write_text("broken")
    command = [sys.executable, "-m", "flagledger.cli", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout) == (expected_code, "")
    assert done.stderr.startswith(expected)
