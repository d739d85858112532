from __future__ import annotations

import base64
import re

import pytest
from flagledger.store.influxdb.address import parse_address


def test_version_1() -> None:
    """A database is written to through `/write`, with user and password as Basic authorization."""
    address = parse_address("influxdb://flag%20ledger:p%40ss%3A@influx.example.com:18086/my%2Fdb?rp=one%20year")

    assert "/write?db=my%2Fdb&rp=one+year&precision=ns" == address.path
    assert ("influx.example.com", 18086, False) == (address.host, address.port, address.secure)
    assert "Basic " + base64.b64encode(b"flag ledger:p@ss:").decode() == address.authorization
    assert "influx.example.com:18086/my%2Fdb?rp=one+year" == address.name


def test_version_2() -> None:
    """A bucket is written to through `/api/v2/write`, with the token as it stands where a password does."""
    address = parse_address("influxdbs://:a%2Bb%3D%3D@influx.example.com?org=acme&bucket=flags%26more")

    assert "/api/v2/write?org=acme&bucket=flags%26more&precision=ns" == address.path
    assert ("influx.example.com", 8086, True) == (address.host, address.port, address.secure)
    assert "Token a+b==" == address.authorization
    assert "influx.example.com:8086?org=acme&bucket=flags%26more" == address.name


def test_without_authorization() -> None:
    """A database needs no user."""
    assert parse_address("influxdb://localhost/flags").authorization is None


def test_host_of_ipv6() -> None:
    """An IPv6 address stands in brackets."""
    address = parse_address("influxdb://[::1]:8086/flags")

    assert ("::1", "[::1]:8086/flags") == (address.host, address.name)


def test_one_place_has_one_name() -> None:
    """Who writes, and whether over TLS, does not make it another place; host, port, database and policy do."""
    same = ["influxdb://host/flags", "influxdb://host:8086/flags", "influxdbs://other:word@host/flags"]
    others = ["influxdb://hast/flags", "influxdb://host:1/flags", "influxdb://host/flag", "influxdb://host/flags?rp=a"]
    buckets = ["influxdb://:t@host?org=a&bucket=flags", "influxdb://:t@host?org=b&bucket=flags"]

    assert 1 == len({parse_address(url).name for url in same})
    assert 7 == len({parse_address(url).name for url in [same[0], *others, *buckets]})


@pytest.mark.parametrize("url", ["influxdb://u:s3cret@h/db", "influxdbs://:s3cret@h?org=o&bucket=b"])
def test_secrets_are_not_shown(url: str) -> None:
    """Neither the name nor what is printed of an address holds a password or a token."""
    address = parse_address(url)

    assert address.authorization is not None
    assert "s3cret" not in repr(address) + address.name + address.path
    assert address.authorization not in repr(address)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://host:8086/db", "it must be influxdb://"),
        ("influxdb:host/db", "it must be influxdb://"),
        ("influxdb://user:s3cret@host", "it names no database"),
        ("influxdb://user:s3cret@host/", "it names no database"),
        ("influxdb://user:s3cret@host/a/b", "it names no database"),
        ("influxdb://user:s3cret@/db", "it names no host"),
        ("influxdb://user:s3cret@host:port/db", "its host or its port is malformed"),
        ("influxdb://user:s3cret@host:99999/db", "its host or its port is malformed"),
        ("influxdb://user:s3cret@[host/db", "its host or its port is malformed"),
        ("influxdb://user:s3c/ret@host/db", "an @ behind its host"),
        ("influxdb://user:s3c#ret@host/db", "an @ behind its host"),
        ("influxdb://user:s3cret@host/db#x", "a # in it"),
        ("influxdb://:s3cret@host/db", "no user that it could belong to"),
        ("influxdb://a%3Ab:s3cret@host/db", "a user's name holds no colon"),
        ("influxdb://user:s3cret@host/db?token=s3cret", "its parameter token is unknown"),
        ("influxdb://user:s3cret@host/db?rp=", "its parameter rp is empty"),
        ("influxdb://user:s3cret@host/db?rp=a&rp=b", "stands there twice"),
        ("influxdb://user:s3cret@host/db?s3cret", "its parameters are malformed"),
        ("influxdb://:s3cret@host?bucket=b", "a bucket needs its organisation"),
        ("influxdb://:s3cret@host?org=o", "a bucket needs its organisation"),
        ("influxdb://:s3cret@host/db?org=o&bucket=b", "a database or rp too"),
        ("influxdb://:s3cret@host?org=o&bucket=b&rp=c", "a database or rp too"),
        ("influxdb://host?org=o&bucket=b", "a bucket needs a token"),
        ("influxdb://s3cret@host?org=o&bucket=b", "a bucket needs a token"),
        ("influxdb://user:s3cret@host?org=o&bucket=b", "a bucket needs a token"),
        ("influxdb://:s3cret%0D%0AX:y@host?org=o&bucket=b", "what a header cannot carry"),
        ("influxdb://:s3cret%C3%A9@host?org=o&bucket=b", "what a header cannot carry"),
    ],
)
def test_refused(url: str, sentence: str) -> None:
    """What is no such URL is refused with a sentence that says why, and repeats nothing that may be secret."""
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        parse_address(url)

    assert "s3c" not in str(caught.value)
