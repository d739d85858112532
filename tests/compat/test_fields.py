from __future__ import annotations

import json

import pytest
from flagledger.compat.fields import FieldError, take_boolean, take_integer, take_text
from hypothesis import given
from hypothesis import strategies as st

NULL = "This field may not be null."


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a", "a"), (" a\n", "a"), (5, "5"), (1.5, "1.5"), (1e22, "1e+22"), (10**25, str(10**25)), ("é", "é")],
)
def test_text(value: object, expected: str) -> None:
    """Text loses white space around it, and numbers are text."""
    assert expected == take_text(value)


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        (None, (NULL,)),
        ("", ("This field may not be blank.",)),
        (" \x1f", ("This field may not be blank.",)),
        (True, ("Not a valid string.",)),
        ([], ("Not a valid string.",)),
        ({}, ("Not a valid string.",)),
        ("\0", ("Null characters are not allowed.",)),
        ("\udc00\ud800", ("Surrogate characters are not allowed: U+DC00.",)),
        ("\0\ud800", ("Null characters are not allowed.", "Surrogate characters are not allowed: U+D800.")),
    ],
)
def test_no_text(value: object, sentences: tuple[str, ...]) -> None:
    """What is no text is refused in Django's words, each fault of it."""
    with pytest.raises(FieldError) as refused:
        take_text(value)

    assert sentences == refused.value.args


@pytest.mark.parametrize("value", [True, 1, 1.0, "t", "Y", "yes", "TRUE", "on", "1"])
def test_true(value: object) -> None:
    """These are true."""
    assert take_boolean(value) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, "f", "N", "no", "FALSE", "off", "0"])
def test_false(value: object) -> None:
    """These are false."""
    assert take_boolean(value) is False


@pytest.mark.parametrize("value", [2, 0.5, "", "True ", "maybe", "null", [], {}, [1], float("inf")])
def test_no_boolean(value: object) -> None:
    """What is neither is refused in Django's words."""
    with pytest.raises(FieldError, match=r"^Must be a valid boolean\.$"):
        take_boolean(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        (-1, -1),
        (10**30, 10**30),
        (1.0, 1),
        ("7", 7),
        (" 7\n", 7),
        ("+7", 7),
        ("1.", 1),
        (" 1.00\n", 1),
        ("1 .0", 1),
        ("1_000", 1_000),
        ("٣", 3),
        ("9" * 1000, int("9" * 1000)),
    ],
)
def test_integer(value: object, expected: int) -> None:
    """A whole number may be spelled as text, with zeros behind a point."""
    assert expected == take_integer(value)


@pytest.mark.parametrize(
    "value", [True, 1.5, 1e30, float("inf"), "", "x", "1.5", ".0", "1.0.0", "1.0 0", "1e5", [], {}]
)
def test_no_integer(value: object) -> None:
    """What is no whole number is refused in Django's words."""
    with pytest.raises(FieldError, match=r"^A valid integer is required\.$"):
        take_integer(value)


def test_integer_of_too_many_digits() -> None:
    """Text of more than a thousand characters is not read as a number."""
    with pytest.raises(FieldError, match=r"^String value too large\.$"):
        take_integer("9" * 1001)


def test_nulls() -> None:
    """No field is null."""
    for take in (take_text, take_boolean, take_integer):
        with pytest.raises(FieldError, match="may not be null"):
            take(None)


@given(value=st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_anything(value: object) -> None:
    """Whatever comes is a value of the field's kind, or a FieldError with sentences."""
    for take, kind in ((take_text, str), (take_boolean, bool), (take_integer, int)):
        try:
            assert isinstance(take(value), kind)
        except FieldError as error:
            assert error.args  # noqa: PT017  # either of the two is right
            json.dumps(error.args)
