from __future__ import annotations

import sys
from pathlib import Path

import pytest
from flagledger import serve
from flagledger.catalog.demo import DemoKeys
from flagledger.config import Config
from pydantic import SecretStr

DEMO = DemoKeys(
    file=Path("e.toml"), environment="demo", client_key="c", server_key="ser.s", feature="new_dashboard", created=True
)
HERE = serve._Address(host="127.0.0.1", port=8080)


def dashboard(config: Config, demo: DemoKeys | None, http: serve._Address = HERE) -> str:
    """Return what the banner says of the dashboard."""
    banner = serve._banner(config, demo, http, serve._Address(host="127.0.0.1", port=50051), "se&cret", [])
    [line] = [line.strip() for line in banner.splitlines() if line.startswith("  dashboard: ")]
    assert (demo is not None and config.read_token is None) == ("cret" in banner)
    return line.removeprefix("dashboard: ")


def test_first_start_links_with_the_token() -> None:
    """Where the token is printed anyway, the link signs in."""
    assert "http://127.0.0.1:8080/?token=se%26cret" == dashboard(Config(), DEMO)


def test_later_starts_say_where_the_token_is() -> None:
    """Where it is not, the banner says how to come by it, in a form that a shell takes."""
    config = Config(data=Path("my data"))

    assert "http://127.0.0.1:8080/ (it asks for the read token: cat 'my data/read-token')" == dashboard(config, None)


@pytest.mark.parametrize("demo", [None, DEMO])
def test_own_token(demo: DemoKeys | None) -> None:
    """A token that somebody set is theirs to know: it is neither printed nor in a file."""
    config = Config(read_token=SecretStr("se&cret"))

    assert "http://127.0.0.1:8080/ (it asks for the read token that you set)" == dashboard(config, demo)


@pytest.mark.parametrize(
    ("host", "visited"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "localhost"), ("::", "localhost")]
)
def test_pages_are_named_as_a_browser_finds_them(host: str, visited: str) -> None:
    """The banner names the dashboard and the page of the API at an address that can be visited."""
    http = serve._Address(host=host, port=8080)
    banner = serve._banner(Config(), None, http, HERE, "t", [])

    assert f"  dashboard: http://{visited}:8080/ (" in banner
    assert f"  API, to read and to try: http://{visited}:8080/docs\n" in banner
    assert f"  curl -i http://{visited}:8080/api/" in banner
    assert ("--url" in banner) == (host == "::")


def test_store_and_sink_are_shown_without_their_passwords() -> None:
    """The banner says where evaluations go, if that is somewhere else than the data directory, and no password."""
    here = serve._banner(Config(), None, HERE, HERE, "t", [])
    config = Config(store="postgresql://u:hush@db/d", sink="influxdb://u:hush@influx/d")
    there = serve._banner(config, None, HERE, HERE, "t", [])

    assert "kept in" not in here
    assert "sent to" not in here
    assert "  evaluations are kept in postgresql://u:**********@db/d\n" in there
    assert "  counts are sent to influxdb://u:**********@influx/d\n" in there
    assert "hush" not in there


@pytest.mark.parametrize(
    ("setting", "library", "install"),
    [
        ({"store": "postgresql://u:hush@db/d"}, "psycopg", "'flagledger[postgres]'"),
        ({"store": "clickhouse://u:hush@ch/d"}, "clickhouse_connect", "'flagledger[clickhouse]'"),
        ({"store": "chdb:somewhere"}, "chdb", "'flagledger[clickhouse]' chdb"),
        ({"sink": "influxdb://u:hush@influx/d"}, "urllib3", "'flagledger[influxdb]'"),
    ],
)
def test_library_that_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    setting: dict[str, str],
    library: str,
    install: str,
) -> None:
    """A store or a sink whose library is not installed is refused with the line that installs it, before anything is made."""
    monkeypatch.setitem(sys.modules, library, None)

    code = serve.serve(Config(data=tmp_path / "data", **setting))
    said = capsys.readouterr().err

    assert 2 == code
    assert said.startswith(f"flagledger: {library} is not installed, which this ")
    assert said.endswith(f": pip install {install}.\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("store", ["postgresql://u:hush@db/d?shcema=s", "clickhouse://u:hush@ch/d?clutser=c"])
def test_store_url_that_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], store: str) -> None:
    """A URL with a parameter that its engine does not know is refused before anything is made, and its password not repeated."""
    code = serve.serve(Config(data=tmp_path / "data", store=store))
    said = capsys.readouterr().err

    assert (2, False) == (code, "hush" in said)
    assert said.startswith("flagledger: The store's URL ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "localhost"), ("::", "localhost"), ("::1", "[::1]")])
def test_link_can_be_followed(host: str, shown: str) -> None:
    """A service that listens everywhere is reached by a name."""
    assert dashboard(Config(), DEMO, serve._Address(host=host, port=80)).startswith(f"http://{shown}:80/?token=")
