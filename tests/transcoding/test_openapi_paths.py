from __future__ import annotations

import pytest
from flagledger.transcoding import PathTemplate
from flagledger.transcoding.openapi_paths import openapi_path


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/v1/shelves", "/v1/shelves"),
        ("/v1/{name}", "/v1/{name}"),
        ("/v1/{nested.name}/{nested.size}", "/v1/{nested_name}/{nested_size}"),
        ("/v1/{a.b}/{a_b}", "/v1/{a_b}/{a_b_2}"),
        ("/v1/{name=shelves/*}", "/v1/shelves/{name}"),
        ("/v1/{name=shelves/*/books/*}", "/v1/shelves/{name}/books/{name_2}"),
        ("/v1/{name=shelves/*/books/**}:lend", "/v1/shelves/{name}/books/{name_2}:lend"),
        ("/v1/{name=shelves}/x", "/v1/shelves/x"),
        ("/v1/*/{name}/*", "/v1/{segment}/{name}/{segment_2}"),
        ("/v1/{a}:b%3Ac", "/v1/{a}:b%3Ac"),
        ("/v1/%7Bx%7D/a%2Fb/(c)", "/v1/%7Bx%7D/a%2Fb/(c)"),
        ("/**", "/{segment}"),
    ],
)
def test_paths(template: str, path: str) -> None:
    """Each wildcard is a parameter of one segment; literals, the verb and what is escaped in them stay."""
    made = openapi_path(PathTemplate.parse(template))

    assert path == made.text(made.names)


def test_wildcards() -> None:
    """A wildcard tells which field it is of, all of it or a part, and whether it takes many segments."""
    made = openapi_path(PathTemplate.parse("/v1/{whole}/{name=shelves/*/books/**}"))

    assert [
        ("whole", "whole", True, "", False),
        ("name", "name", False, "shelves/*/books/**", False),
        ("name_2", "name", False, "shelves/*/books/**", True),
    ] == [(each.name, each.field_path, each.whole, each.pattern, each.deep) for each in made.wildcards]
    assert made.deep


def test_shapes() -> None:
    """Templates that differ in the names of their variables alone have one shape, under whatever names."""
    first, second = (openapi_path(PathTemplate.parse(text)) for text in ("/v1/{a}/x", "/v1/{name=*}/x"))

    assert first.shape == second.shape
    assert "/v1/{a}/x" == second.text(first.names)
    assert first.shape != openapi_path(PathTemplate.parse("/v1/{a}/y")).shape
