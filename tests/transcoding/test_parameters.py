from __future__ import annotations

from typing import Any

import pytest
from flagledger.transcoding.codec import CodecError
from flagledger.transcoding.parameters import QueryBinder
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from transcoding.conformance import Chain
from transcoding.kitchen import Everything


def bind(query: str, *, taken: frozenset[str] = frozenset(), everything_taken: bool = False) -> Any:
    """Return what *query* makes of an empty message, as JSON."""
    message = Everything()
    QueryBinder(Everything.DESCRIPTOR, taken=taken, everything_taken=everything_taken).bind(message, query.encode())
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("string_field=a+b%20c%2B", {"string_field": "a b c+"}),
        ("stringField=%C3%A9", {"string_field": "é"}),
        ("string_field=a=b", {"string_field": "a=b"}),
        ("string_field", {}),
        ("&&string_field=a&", {"string_field": "a"}),
        ("string%5Ffield=a", {"string_field": "a"}),
        (
            "int32_field=-5&uint64_field=18446744073709551615",
            {"int32_field": -5, "uint64_field": "18446744073709551615"},
        ),
        ("bool_field=true&optional_bool=false", {"bool_field": True, "optional_bool": False}),
        ("double_field=1.5&float_field=2", {"double_field": 1.5, "float_field": 2.0}),
        ("color=COLOR_RED&optional_color=2", {"color": "COLOR_RED", "optional_color": "COLOR_BLUE"}),
        ("bytes_field=_-8", {"bytes_field": "/+8="}),
        ("strings=a&strings=b", {"strings": ["a", "b"]}),
        ("int32s=1&int32s=2", {"int32s": [1, 2]}),
        ("colors=COLOR_RED&colors=1", {"colors": ["COLOR_RED", "COLOR_RED"]}),
        ("bools=true&bools=false", {"bools": [True, False]}),
        ("nested.name=a&nested.inner.size=3", {"nested": {"name": "a", "inner": {"size": 3}}}),
        ("time=2026-02-10T11:00:00Z", {"time": "2026-02-10T11:00:00Z"}),
        ("time=2026-02-10T13:00:00%2B02:00", {"time": "2026-02-10T11:00:00Z"}),
        ("duration=1.5s", {"duration": "1.500s"}),
        ("mask=a,bC", {"mask": "a,bC"}),
        (
            "string_value=x&int64_value=5&bool_value=false",
            {"string_value": "x", "int64_value": "5", "bool_value": False},
        ),
        ("choice_string=a", {"choice_string": "a"}),
        ("from=a&class.name=b&another=c", {"from": "a", "class": {"name": "b"}, "renamed": "c"}),
    ],
)
def test_bind(query: str, expected: dict[str, Any]) -> None:
    """Parameters set fields by their dotted paths, in either spelling, each kind from its text."""
    assert expected == bind(query)


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("nope=1", "nope"),
        ("nested.nope=1", "nested.nope"),
        ("string_field.x=1", "string_field.x"),
        ("=1", ""),
        (".=1", "."),
        ("int32_field=x", "int32_field"),
        ("int32_field=", "int32_field"),
        ("int32_field=1_0", "int32_field"),
        ("int32_field=%D9%A1", "int32_field"),
        ("int32_field=2147483648", "int32_field"),
        ("nested.size=x", "nested.size"),
        ("bool_field=1", "bool_field"),
        ("bool_field=True", "bool_field"),
        ("color=red", "color"),
        ("time=2026-02-10T11:00:00+02:00", "time"),
        ("double_field=nan", "double_field"),
        ("string_field=a&stringField=b", "string_field"),
        ("time=2026-02-10T11:00:00Z&time=2026-02-10T11:00:00Z", "time"),
        ("choice_string=a&choice_int=1", "choice_int"),
        ("choice_nested.name=a&choice_int=1", "choice_int"),
        ("nested=a", "nested"),
        ("nesteds=a", "nesteds"),
        ("nesteds.name=a", "nesteds.name"),
        ("times=2026-02-10T11:00:00Z", "times"),
        ("string_map=a", "string_map"),
        ("string_map.a=b", "string_map.a"),
        ("value=a", "value"),
        ("struct=a", "struct"),
        ("value.string_value=a", "value.string_value"),
        ("empty=a", "empty"),
        ("string_field=%zz", ""),
        ("string_field=%ff", ""),
        ("string_field=%2", ""),
        ("=3", ""),
        ("&".join("strings=a" for _ in range(1001)), ""),
        (".".join(["nested", *["inner"] * 100, "name=a"]), (".".join(["nested", *["inner"] * 100]) + ".name")[:100]),
    ],
)
def test_refused(query: str, path: str) -> None:
    """What is unknown, impossible, repeated or malformed is refused by the name it came under."""
    with pytest.raises(CodecError) as caught:
        bind(query)

    assert path == caught.value.path


def test_names_without_end() -> None:
    """A message that holds itself has names without end, in two spellings: they are not all kept."""
    binder = QueryBinder(Chain.DESCRIPTOR, taken=frozenset(), everything_taken=False)
    for number in range(1100):
        spelled = "".join(f"{'left_node' if number >> bit & 1 else 'leftNode'}." for bit in range(11))
        binder.bind(Chain(), f"{spelled}nodeName=a".encode())

    assert 1000 == len(binder._known)


def test_a_oneof_that_is_taken() -> None:
    """A parameter cannot set another member of a oneof that the path or the body sets."""
    binder = QueryBinder(
        Everything.DESCRIPTOR,
        taken=frozenset({"choice_string"}),
        everything_taken=False,
        oneofs={("", "choice"): "choice_string"},
    )
    with pytest.raises(CodecError, match="second member of the oneof 'choice'"):
        binder.bind(Everything(), b"choiceInt=3")


def test_without_a_name() -> None:
    """A parameter without a name is called one."""
    with pytest.raises(CodecError, match="a parameter that has no name"):
        bind("=3")


@pytest.mark.parametrize("name", ["nested.name", "nested.inner.name", "string_field", "stringField"])
def test_taken(name: str) -> None:
    """What the path or the body sets cannot be set by a parameter as well."""
    with pytest.raises(CodecError, match="the path or the body") as caught:
        bind(f"{name}=x", taken=frozenset({"nested", "string_field"}))
    assert name == caught.value.path


def test_everything_taken() -> None:
    """Where the body is the whole request there are no parameters."""
    with pytest.raises(CodecError, match="whole request"):
        bind("string_field=x", everything_taken=True)


@given(st.text(alphabet="abcdefnstrig_.=&%+;1\x00é", max_size=40) | st.just("strings=") | st.text(max_size=20))
def test_nothing_but_codec_errors(query: str) -> None:
    """Whatever query comes, it is bound or a CodecError."""
    try:
        bind(query.encode("utf-8", "surrogatepass").decode("latin-1"))
    except CodecError as error:
        assert error.description  # noqa: PT017  # either outcome is right
