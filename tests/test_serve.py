from __future__ import annotations

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


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "localhost"), ("::", "localhost"), ("::1", "[::1]")])
def test_link_can_be_followed(host: str, shown: str) -> None:
    """A service that listens everywhere is reached by a name."""
    assert dashboard(Config(), DEMO, serve._Address(host=host, port=80)).startswith(f"http://{shown}:80/?token=")
