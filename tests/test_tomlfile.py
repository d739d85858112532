from __future__ import annotations

import pytest
from flagledger.tomlfile import TomlSyntaxError, nearest, parse_toml
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a = \n", 1),
        (b"\n\n[x\n", 3),
        (b'a = 1\nb = """\nnever ends\n', 3),
        (b"a = 1\na = 2\n", 2),
        (b"a = 1\nb = '\xe4'\n", 2),
        (b"a = 1\nb = " + b"[" * 100_000, 1),
    ],
)
def test_a_fault_names_its_line(content: bytes, line: int) -> None:
    """Whatever is wrong, there is a line to look at."""
    with pytest.raises(TomlSyntaxError, match=rf"\Aline {line}\b.*: "):
        parse_toml(content)


def test_a_byte_order_mark_is_no_fault() -> None:
    """Files of editors that write one are read."""
    assert parse_toml(b"\xef\xbb\xbfa = 1\n") == {"a": 1}


@given(st.binary(max_size=100))
def test_any_bytes_are_a_document_or_a_fault_with_a_line(content: bytes) -> None:
    """No content raises anything else."""
    try:
        place = f"line {len(parse_toml(content))}"
    except TomlSyntaxError as error:
        place = str(error)

    assert place.startswith("line ")


@pytest.mark.parametrize(
    ("name", "expected"), [("enviroments", "environments"), ("TOKENS", "tokens"), ("token", "tokens"), ("", "tokens")]
)
def test_the_nearest_name_is_the_one_meant(name: str, expected: str) -> None:
    """A slip of the finger finds its name; what is like nothing gets some valid one."""
    assert nearest(name, ["tokens", "environments"]) in {expected, "environments" if not name else expected}
