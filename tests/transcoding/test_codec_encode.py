from __future__ import annotations

from typing import Any

import pytest
from flagledger.transcoding import Codec, CodecOptions, codec_scalars
from google.protobuf import descriptor_pb2, struct_pb2, timestamp_pb2
from transcoding.kitchen import Everything

PLAIN = Codec()
ALWAYS = Codec(CodecOptions(always_print_primitive=True))


def encoded(message: Any) -> Any:
    """Return what orjson writes of *message*."""
    return PLAIN.encoder(message.DESCRIPTOR)(message)


def test_defaults_of_proto2() -> None:
    """A field of proto2 that is not set is not written, whatever its default; one that is set to its default is."""
    message = descriptor_pb2.FileOptions()

    assert {} == PLAIN.encoder(message.DESCRIPTOR)(message)
    message.optimize_for = descriptor_pb2.FileOptions.SPEED
    message.cc_enable_arenas = True
    message.java_multiple_files = False
    assert {"optimizeFor": "SPEED", "ccEnableArenas": True, "javaMultipleFiles": False} == PLAIN.encoder(
        message.DESCRIPTOR
    )(message)


def test_values_that_hold_nothing() -> None:
    """A Value that is set is null where it holds nothing, in a message, a list and a struct; one that is not set is left out."""
    nothing = struct_pb2.Value()

    assert {} == encoded(Everything())
    assert {"value": None} == encoded(Everything(value=nothing))
    assert [None, "a"] == encoded(struct_pb2.ListValue(values=[nothing, struct_pb2.Value(string_value="a")]))
    assert {"a": None} == encoded(struct_pb2.Struct(fields={"a": nothing}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (struct_pb2.Value(string_value=""), '""'),
        (struct_pb2.Value(string_value="a"), '"a"'),
        (struct_pb2.Value(bool_value=False), "false"),
        (struct_pb2.Value(bool_value=True), "true"),
        (struct_pb2.Value(null_value=struct_pb2.NULL_VALUE), "null"),
        (struct_pb2.Value(number_value=0.0), "0"),
        (struct_pb2.Value(number_value=-0.0), "-0.0"),
        (struct_pb2.Value(number_value=7.0), "7"),
        (struct_pb2.Value(number_value=-7.5), "-7.5"),
        (struct_pb2.Value(number_value=2.0**53), "9007199254740992"),
        (struct_pb2.Value(number_value=2.0**54), "1.8014398509481984e+16"),
        (struct_pb2.Value(number_value=1e300), "1e+300"),
        (struct_pb2.Value(list_value=struct_pb2.ListValue()), "[]"),
        (struct_pb2.Value(struct_value=struct_pb2.Struct()), "{}"),
    ],
)
def test_values(value: Any, expected: str) -> None:
    """A Value is written as what it holds, alone and in a field; zero and what is empty are values too."""
    assert expected == PLAIN.serialize(value).decode()
    assert f'{{"value":{expected}}}' == PLAIN.serialize(Everything(value=value)).decode()


@pytest.mark.parametrize("field", ["double_field", "float_field"])
def test_minus_zero_is_set(field: str) -> None:
    """Minus zero is written, since it is not zero; zero is not, unless all primitive fields are."""
    name = field.replace("_f", "F")

    assert f'{{"{name}":-0.0}}'.encode() == PLAIN.serialize(Everything(**{field: -0.0}))
    assert b"{}" == PLAIN.serialize(Everything(**{field: 0.0}))
    assert 0.0 == ALWAYS.encoder(Everything.DESCRIPTOR)(Everything())[name]


@pytest.mark.parametrize(
    ("nanos", "fraction"),
    [
        (0, ""),
        (1, ".000000001"),
        (1_000, ".000001"),
        (1_000_000, ".001"),
        (50_000_000, ".050"),
        (50_001_000, ".050001"),
        (99_999_000, ".099999"),
        (99_999_999, ".099999999"),
        (100_000_000, ".100"),
        (100_001_000, ".100001"),
        (123_456_000, ".123456"),
        (123_456_789, ".123456789"),
        (999_999_000, ".999999"),
        (999_999_999, ".999999999"),
    ],
)
def test_fractions_of_a_second(nanos: int, fraction: str) -> None:
    """A Timestamp is written with 0, 3, 6 or 9 digits of a second, as many as it needs."""
    assert f"2026-02-10T11:00:00{fraction}Z" == encoded(timestamp_pb2.Timestamp(seconds=1_770_721_200, nanos=nanos))


@pytest.mark.parametrize("nanos", [-1, 1_000_000_000, 1_000_001_000])
def test_nanos_beyond_a_second(nanos: int) -> None:
    """A Timestamp whose nanos are not those of a second has no word in JSON."""
    with pytest.raises(ValueError, match="nanos"):
        encoded(timestamp_pb2.Timestamp(seconds=1, nanos=nanos))


def test_seconds_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds that were written once are kept, but no more than a bounded number of them."""
    monkeypatch.setattr(codec_scalars, "_MAX_CACHED_SECONDS", 4)
    monkeypatch.setattr(codec_scalars, "_seconds_cache", {})
    written = [encoded(timestamp_pb2.Timestamp(seconds=seconds)) for seconds in range(10)]

    assert [f"1970-01-01T00:00:0{second}Z" for second in range(10)] == written
    assert 0 < len(codec_scalars._seconds_cache) <= 4
