from __future__ import annotations

import pytest
from flagledger.query import page_token
from flagledger.store.base import Cursor, Filter
from hypothesis import given
from hypothesis import strategies as st

integers = st.integers(-(2**63), 2**63 - 1)
questions = st.builds(
    Filter,
    environment=st.text(max_size=5),
    feature_name=st.one_of(st.none(), st.text(max_size=5)),
    identity_identifier=st.one_of(st.none(), st.text(max_size=5)),
    segment_name=st.one_of(st.none(), st.text(max_size=5)),
    start=st.one_of(st.none(), integers),
    end=st.one_of(st.none(), integers),
)


@given(questions, integers, integers)
def test_a_token_names_its_page(question: Filter, evaluation_time: int, position: int) -> None:
    """A token leads back to where it was given out, and consists of characters that need no escaping in a URL."""
    cursor = Cursor(evaluation_time=evaluation_time, position=position)
    token = page_token.encode(question, cursor)

    assert cursor == page_token.decode(token, question)
    assert token.replace("-", "").replace("_", "").isalnum()


@given(questions, questions)
def test_a_token_belongs_to_its_question(question: Filter, other: Filter) -> None:
    """A token of another question is refused, whichever field differs."""
    token = page_token.encode(question, Cursor(evaluation_time=1, position=2))
    if question == other:
        assert page_token.decode(token, other)
    else:
        with pytest.raises(ValueError, match="another question"):
            page_token.decode(token, other)


@given(st.text(max_size=60))
def test_anything_else_is_refused(text: str) -> None:
    """What is no token is refused with a sentence, whatever it is."""
    with pytest.raises(ValueError, match=r"begin again|another question"):
        page_token.decode(text, Filter(environment="production"))


def test_a_token_of_another_version_is_refused() -> None:
    """A token of a later version is told from nonsense."""
    import base64

    question = Filter(environment="production")
    packed = bytearray(
        base64.urlsafe_b64decode(page_token.encode(question, Cursor(evaluation_time=1, position=2)) + "==")
    )
    packed[0] = 2

    with pytest.raises(ValueError, match="another version"):
        page_token.decode(base64.urlsafe_b64encode(packed).decode(), question)
