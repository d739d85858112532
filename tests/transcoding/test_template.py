from __future__ import annotations

import pytest
from flagledger.transcoding import PathTemplate, TemplateError
from flagledger.transcoding.template import Segment, Variable

BAD = [
    # text, column
    ("", 1),
    ("v1", 1),
    ("/", 2),
    ("//", 2),
    ("/a/", 4),
    ("/a//b", 4),
    ("/a/b/", 6),
    ("/{", 3),
    ("/{}", 3),
    ("/{a", 4),
    ("/{a.", 5),
    ("/{a.}", 5),
    ("/{.a}", 3),
    ("/{1a}", 3),
    ("/{a=}", 5),
    ("/{a=b", 6),
    ("/{a=b/}", 7),
    ("/{a}}", 5),
    ("/{a}b", 5),
    ("/{a}{b}", 5),
    ("/a{b}", 3),
    ("/{a={b}}", 5),
    ("/{a=x/{b}}", 7),
    ("/{a}/{a}", 7),
    ("/**/a", 2),
    ("/{a=**}/b", 5),
    ("/{a=**/b}", 5),
    ("/***", 4),
    ("/*a", 3),
    ("/a*", 3),
    ("/a:", 4),
    ("/a:b:c", 5),
    ("/a:b/c", 5),
    ("/:a", 2),
    ("/a:*", 4),
    ("/a:{b}", 4),
    ("/a b", 3),
    ("/a?b", 3),
    ("/a#b", 3),
    ("/%", 2),
    ("/%4", 2),
    ("/a%zz", 3),
    ("/%ff", 2),
    ("/é", 2),
]


@pytest.mark.parametrize(("text", "column"), BAD)
def test_bad(text: str, column: int) -> None:
    """What is no template is refused with the column of the first offending character."""
    with pytest.raises(TemplateError) as caught:
        PathTemplate.parse(text)

    assert (text, column) == (text, caught.value.column)
    assert caught.value.message
    assert isinstance(caught.value, ValueError)


def test_parts() -> None:
    """A template gives its segments, its variables with what they capture, and its verb."""
    template = PathTemplate.parse("/v1/{a.b=x/*/**}:go")

    assert ("v1", "x", "*", "**") == tuple(segment.text for segment in template.segments)
    assert (Variable(field_path="a.b", start=1, end=None),) == template.variables
    assert "go" == template.verb


@pytest.mark.parametrize(
    ("text", "multi"), [("/{a}", False), ("/{a=*}", False), ("/{a=x}", False), ("/{a=x/*}", True), ("/{a=**}", True)]
)
def test_multi(text: str, *, multi: bool) -> None:
    """A variable of more than one segment is told from one of a single one."""
    assert multi is PathTemplate.parse(text).variables[0].multi


def test_escaped_literal() -> None:
    """An escape in a literal is that character, and an escaped star is no wildcard."""
    assert (Segment(text="*"),) == PathTemplate.parse("/%2A").segments
    assert (Segment(text="a b"),) == PathTemplate.parse("/a%20b").segments
