from __future__ import annotations

import pytest
from flagledger.ingest.sdk import Sdk, parse_user_agent
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("flagsmith-python-client/5.2.0", "flagsmith-python-sdk", "5.2.0"),
        ("flagsmith-python-sdk/6.3.0", "flagsmith-python-sdk", "6.3.0"),
        ("flagsmith-nodejs-client/1.0", "flagsmith-nodejs-client", "1.0"),
        ("flagsmith-js-sdk/9.1.0 (chrome)", "flagsmith-js-sdk", "9.1.0"),
        ("grpc-python-asyncio/1.85.1 grpc-c/54.0.0 (linux; chttp2)", "grpc-python-asyncio", "1.85.1"),
        ("  curl/8.5.0", "curl", "8.5.0"),
        ("curl", "curl", ""),
        ("a/b/c", "a", "b/c"),
        ("/1.0", "", "1.0"),
        ("", "", ""),
        ("   ", "", ""),
        ("a\x00b\x1b[31m/1\x7f.0", "ab[31m", "1.0"),
        ("x" * 101 + "/" + "1" * 101, "x" * 100, "1" * 100),
    ],
)
def test_the_first_product_names_the_sdk(text: str, name: str, version: str) -> None:
    """Name and version are those of the first product, printable and at most 100 characters each."""
    assert parse_user_agent(text) == Sdk(name=name, version=version)


@given(text=st.text(max_size=1000))
@settings(deadline=None)
def test_any_header_is_read(text: str) -> None:
    """Whatever was sent, both parts are printable and bounded."""
    sdk = parse_user_agent(text)

    assert max(len(sdk.name), len(sdk.version)) <= 100
    assert (sdk.name + sdk.version).isprintable()
