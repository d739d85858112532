from __future__ import annotations

import base64

import pytest
from flagledger.query import page_token
from flagledger.store.questions import MAX_TIME, MIN_TIME, Cursor, ExposureCursor, Filter
from hypothesis import given
from hypothesis import strategies as st

integers = st.integers(-(2**63), 2**63 - 1)
names = st.text(st.characters(codec="utf-8"), max_size=5)
optional_names = st.one_of(st.none(), names)
questions = st.builds(
    Filter,
    environment=names,
    feature_name=optional_names,
    identity_identifier=optional_names,
    segment_name=optional_names,
    start=st.one_of(st.none(), integers),
    end=st.one_of(st.none(), integers),
    value=optional_names,
    variant=optional_names,
    reason=optional_names,
    enabled=st.one_of(st.none(), st.booleans()),
    trait_key=optional_names,
    trait_value=optional_names,
    sdk_name=optional_names,
    sdk_version=optional_names,
    origin=st.sampled_from([None, 1, 2]),
)
places = st.one_of(
    st.builds(Cursor, evaluation_time=st.integers(MIN_TIME, MAX_TIME), position=st.integers(0, 2**63 - 1)),
    st.builds(ExposureCursor, feature_name=names, identity_identifier=names),
    names,
)


@given(questions, places)
def test_a_token_names_its_page(question: Filter, place: page_token.Place) -> None:
    """A token leads back to where it was given out, and consists of characters that need no escaping in a URL."""
    token = page_token.encode(question, place)

    assert place == page_token.decode(token, question, type(place))
    assert token.replace("-", "").replace("_", "").isalnum()


@given(questions, questions)
def test_a_token_belongs_to_its_question(question: Filter, other: Filter) -> None:
    """A token of another question is refused, whichever field differs."""
    token = page_token.encode(question, Cursor(evaluation_time=1, position=2))
    if question == other:
        assert page_token.decode(token, other, Cursor)
    else:
        with pytest.raises(ValueError, match="another question"):
            page_token.decode(token, other, Cursor)


@pytest.mark.parametrize("kind", [ExposureCursor, str])
def test_a_token_belongs_to_its_rpc(kind: type) -> None:
    """A token of another rpc is refused, even where the questions read the same."""
    token = page_token.encode("question", Cursor(evaluation_time=1, position=2))

    with pytest.raises(ValueError, match="another question"):
        page_token.decode(token, "question", kind)


@given(st.text(max_size=60), st.sampled_from([Cursor, ExposureCursor, str]))
def test_anything_else_is_refused(text: str, kind: type) -> None:
    """What is no token is refused with a sentence, whatever it is."""
    with pytest.raises(ValueError, match=r"begin again|another question"):
        page_token.decode(text, Filter(environment="production"), kind)


@given(places, st.integers(0, 40), st.integers(0, 255))
def test_a_damaged_token_is_no_crash(place: page_token.Place, index: int, byte: int) -> None:
    """A token with a byte changed or its end cut off names some place, or is refused with a sentence."""
    question = Filter(environment="production")
    whole = base64.urlsafe_b64decode(page_token.encode(question, place) + "==")
    for damaged in (whole[:index] + bytes([byte]) + whole[index + 1 :], whole[:index]):
        token = base64.urlsafe_b64encode(damaged).decode().rstrip("=")
        try:
            assert isinstance(page_token.decode(token, question, type(place)), type(place))
        except ValueError as error:
            assert str(error).startswith(("is no ", "comes from ", "belongs to "))  # noqa: PT017


@pytest.mark.parametrize("version", [1, 3])
def test_a_token_of_another_version_is_refused(version: int) -> None:
    """A token of an earlier or later version is told from nonsense."""
    question = Filter(environment="production")
    packed = bytearray(
        base64.urlsafe_b64decode(page_token.encode(question, Cursor(evaluation_time=1, position=2)) + "==")
    )
    packed[0] = version

    with pytest.raises(ValueError, match="another version"):
        page_token.decode(base64.urlsafe_b64encode(packed).decode(), question, Cursor)


@pytest.mark.parametrize("cursor", [Cursor(evaluation_time=2**62, position=1), Cursor(evaluation_time=1, position=-1)])
def test_a_place_that_no_evaluation_can_have_is_refused(cursor: Cursor) -> None:
    """A token that somebody made up is a refusal and no failure of the store."""
    question = Filter(environment="production")

    with pytest.raises(ValueError, match="begin again"):
        page_token.decode(page_token.encode(question, cursor), question, Cursor)
