from __future__ import annotations

import pytest
from flagledger.config import Config, mask_url
from flagledger.config.values import sink_url, store_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("file:environments.toml", "file:environments.toml"),
        ("postgresql://flagledger@db:5432/flagsmith", "postgresql://flagledger@db:5432/flagsmith"),
        ("postgresql://flagledger:pass@db/flagsmith", "postgresql://flagledger:**********@db/flagsmith"),
        ("postgresql://a:p@ss:word@db/flagsmith", "postgresql://a:**********@db/flagsmith"),
        (
            "postgresql://db/flagsmith?user=a&password=pass&sslmode=require",
            "postgresql://db/flagsmith?user=a&password=**********&sslmode=require",
        ),
        ("postgresql:///flagsmith?host=/run&password=pass", "postgresql:///flagsmith?host=/run&password=**********"),
        ("postgresql://flagledger:12/SECRET@db/flagsmith", "postgresql://flagledger:**********@db/flagsmith"),
        ("postgresql://flagledger:p@SECRET/x@db/flagsmith", "postgresql://flagledger:**********@db/flagsmith"),
        ("postgresql://flagledger:a?SECRET#x@db/flagsmith", "postgresql://flagledger:**********@db/flagsmith"),
        ("postgresql://db/x?Password=SECRET&user=a", "postgresql://db/x?Password=**********&user=a"),
        ("clickhouses://flagledger:pass@ch:8443/x", "clickhouses://flagledger:**********@ch:8443/x"),
        ("influxdb://:token@h:8086?org=a&bucket=b", "influxdb://:**********@h:8086?org=a&bucket=b"),
        ("duckdb:store.duckdb", "duckdb:store.duckdb"),
        ("https://flagsmith.example.com/api/v1/", "https://flagsmith.example.com/api/v1/"),
    ],
)
def test_urls_are_shown_without_their_secrets(url: str, shown: str) -> None:
    """Wherever a password stands in a URL, it is not shown."""
    assert shown == mask_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "duckdb:a:b",
        "chdb:/var/lib/flagledger/chdb",
        "postgresql://flagledger:pass@db:5432/analytics?schema=flags&sslmode=require",
        "postgres:///analytics?host=/run/postgresql",
        "clickhouse://flagledger:pass@ch:8123/analytics",
        "clickhouses://ch",
    ],
)
def test_stores(url: str) -> None:
    """Every form of a store is taken as it stands."""
    assert url == Config(store=url).store_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "sqlite:secret.db",
            (
                "it must be duckdb:PATH, postgresql://user:password@host/database, "
                "clickhouse://user:password@host/database (clickhouses:// over TLS) or chdb:PATH; "
                "without this setting it is store.duckdb in the data directory"
            ),
        ),
        ("chdb:///secret", "a path is named without slashes before it: chdb:store, chdb:/var/lib/flagledger/store"),
        (
            "postgresql:u:secret@db/analytics",
            "behind postgresql: come two slashes, for example postgresql://host/…",
        ),
        (
            "postgresql://u:se/cret@db/analytics",
            "an @ behind its host; percent-encode / @ ? # and % in a user's name, a password and parameters",
        ),
        (
            "clickhouse://u:secret@ch:port/analytics",
            "its host or its port is malformed; percent-encode / @ ? # and % in a password",
        ),
        ("clickhouse://u:secret@/analytics", "it names no host"),
    ],
)
def test_what_is_no_store(url: str, expected: str) -> None:
    """What is not the URL of a store is refused with a sentence that repeats nothing of it."""
    with pytest.raises(ValueError, match=r"\w") as refused:
        store_url(url)

    assert expected == str(refused.value)


def test_what_is_no_sink() -> None:
    """The same goes for a sink."""
    with pytest.raises(ValueError, match="it names no database") as refused:
        sink_url("influxdb://u:secret@influx")

    assert "secret" not in str(refused.value)
