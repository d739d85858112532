from __future__ import annotations

import json
from typing import Any

import orjson
import pyarrow as pa
import pytest
from flagledger.store.columns import to_columns
from flagledger.store.json_texts import canonical, list_texts, string_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import add_evaluation, entries_of, json_values, record_of, texts, value_of


@settings(deadline=None)
@given(json_values, st.sampled_from([None, 2]), st.booleans())
def test_a_text_has_one_form(plain: Any, indent: int | None, ascii_: bool) -> None:  # noqa: FBT001  # drawn
    """JSON written in whatever way becomes the very text that the same value is recorded as."""
    record = record_of()
    add_evaluation(record, value=value_of(plain))
    rows, _ = to_columns(entries_of([record]))

    assert rows.column("value")[0].as_py() == canonical(json.dumps(plain, indent=indent, ensure_ascii=ascii_))


@pytest.mark.parametrize("text", ["", "on", "NaN", "1e400", "[1,]", '"\\ud800"', "[" * 600 + "]" * 600, "[" * 3000])
def test_what_is_never_recorded_has_no_form(text: str) -> None:
    """What is no JSON, or what no double and no depth of ours holds, is refused."""
    with pytest.raises(ValueError):  # noqa: PT011  # the parser's own sentence
        canonical(text)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), texts)), st.integers(0, 3))
def test_strings_become_json(strings: list[str | None], start: int) -> None:
    """Each string is escaped as JSON wants it, and absence stays absence; in a part of a column too."""
    column = pa.array(strings, pa.string()).slice(start)

    assert [None if text is None else orjson.dumps(text).decode() for text in strings[start:]] == string_texts(
        column
    ).to_pylist()


@settings(deadline=None)
@given(st.lists(st.lists(texts, max_size=3)), st.integers(0, 3))
def test_lists_become_json(lists: list[list[str]], start: int) -> None:
    """Each list is an array, an empty one too; in a part of a column too."""
    column = pa.array(lists, pa.list_(pa.string())).slice(start)

    assert [orjson.dumps(each).decode() for each in lists[start:]] == list_texts(column).to_pylist()
