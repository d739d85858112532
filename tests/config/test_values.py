from __future__ import annotations

import pytest
from flagledger.config import mask_url


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
