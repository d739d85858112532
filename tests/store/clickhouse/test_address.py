from __future__ import annotations

import pytest
from flagledger.store.clickhouse.address import Address, AddressError, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("clickhouse://host", Address(database="flagledger", host="host", port=8123)),
        ("clickhouse://host/", Address(database="flagledger", host="host", port=8123)),
        ("clickhouses://host", Address(database="flagledger", interface="https", host="host", port=8443)),
        ("clickhouse://host?secure", Address(database="flagledger", interface="https", host="host", port=8443)),
        ("clickhouse://host?secure=0", Address(database="flagledger", host="host", port=8123)),
        (
            "clickhouse://ann:s%40cr%2Fet@[::1]:9000/flags?cluster=main&verify=no&ca_cert=/a/b",
            Address(
                database="flags",
                host="::1",
                port=9000,
                user="ann",
                password="s@cr/et",
                cluster="main",
                verify=False,
                files=(("ca_cert", "/a/b"),),
            ),
        ),
        (
            "clickhouse://host?cluster=%7Bcluster%7D",
            Address(database="flagledger", host="host", port=8123, cluster="{cluster}"),
        ),
        ("chdb:/data/flags", Address(database="flagledger", path="/data/flags")),
        ("chdb:flags?database=mine", Address(database="mine", path="flags")),
    ],
)
def test_a_url_is_understood(url: str, address: Address) -> None:
    """Every part of a URL, and what stands for a part that is missing."""
    assert address == parse(url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("clickhouse:///flags", "names no host"),
        ("clickhouse://u:secret@/flags", "names no host"),
        ("clickhouse://u:secret@host:none/flags", "cannot be read"),
        ("clickhouse://u:sec/ret@host/flags", "cannot be read"),
        ("clickhouse://u:1/secret@host/flags", "letters, digits and underscores"),
        ("clickhouse://u:secret@host/a-b", "letters, digits and underscores"),
        ("clickhouse://u:secret@host/a?cluster=a'b", "letters, digits, dots and dashes"),
        ("clickhouse://u:secret@host/a?sekure", "ca_cert, client_cert, client_cert_key, cluster, secure, verify"),
        ("clickhouse://u:secret@host/a?password=secret", "is not known"),
        ("clickhouse://u:secret@host/a?secure=secret", "neither yes nor no to secure"),
        ("chdb:", "names no directory"),
        ("chdb:/data?cluster=secret", "there are database"),
        ("chdb:/data?database=a`b", "letters, digits and underscores"),
        ("https://u:secret@host", "begins with"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_password(url: str, sentence: str) -> None:
    """A URL that is not understood is refused for good, with a sentence that holds nothing secret."""
    with pytest.raises(AddressError) as refusal:
        parse(url)

    assert sentence in str(refusal.value)
    assert "secret" not in str(refusal.value)
    assert "ret@" not in str(refusal.value)
    assert not refusal.value.temporary


def test_a_place_is_called_without_its_password() -> None:
    """Neither the name nor the representation of an address holds the password."""
    address = parse("clickhouse://ann:secret@host/flags")

    assert "ClickHouse (flags on host:8123)" == address.name
    assert "secret" not in repr(address)
    assert "ClickHouse (flags in /data)" == parse("chdb:/data?database=flags").name
