from __future__ import annotations

import json
import math

import pytest
from flagledger.compat.json_body import JsonError, load_leniently, load_strictly
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(value=JSON)
def test_both_read_json(value: object) -> None:
    """What is JSON, both read as it is."""
    data = json.dumps(value).encode()

    assert value == load_strictly(data)
    assert value == load_leniently(data)


@given(data=st.binary(max_size=100))
def test_both_read_anything(data: bytes) -> None:
    """Whatever comes is a value or a JsonError."""
    for load in (load_strictly, load_leniently):
        try:
            load(data)
        except JsonError as error:
            assert str(error)  # noqa: PT017  # either of the two is right


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000])
def test_depth(data: bytes) -> None:
    """What is nested too deeply is no JSON to either."""
    for load in (load_strictly, load_leniently):
        with pytest.raises(JsonError, match="nested too deeply"):
            load(data)


def test_whole_numbers() -> None:
    """Whole numbers stay exact where they are counts, and become doubles where values are doubles anyway."""
    data = b"[1%b, NaN]" % (b"0" * 30)

    assert [10**30] == load_strictly(data.replace(b", NaN", b""))
    assert isinstance(load_leniently(data)[0], float)
    assert 123 == load_leniently(b"[123, NaN]")[0]


def test_what_python_writes() -> None:
    """NaN, infinities and halves of surrogate pairs, which Python's json.dumps writes, are read where that is asked for."""
    value = load_leniently(b'["\\ud800", NaN, Infinity, -Infinity]')

    assert ["\ud800", math.inf, -math.inf] == [value[0], *value[2:]]
    assert math.isnan(value[1])


@pytest.mark.parametrize("name", [b"NaN", b"Infinity", b"-Infinity"])
def test_no_numbers(name: bytes) -> None:
    """Where they are not asked for, what is no JSON number is refused by its name."""
    with pytest.raises(JsonError, match=f"Out of range float values are not JSON compliant: '{name.decode()}'"):
        load_strictly(name)
