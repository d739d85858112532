"""Random damage to JSON texts: values that do not fit, other spellings, keys twice, escapes, extreme numbers, stray bytes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from transcoding.strategies import JUNK

# As they stand in a text, JSON or not.
TOKENS = (
    *(json.dumps(value, ensure_ascii=False) for value in JUNK), "NaN", "Infinity", "-Infinity", "1e400", "-1e400",
    "1e-400", "0e999", "-0", "-0.0", "00", "+1", ".5", "5.", "0x5", "1e", "9" * 25, "9" * 310, "1" * 4500,
    "2147483648", "-2147483649", "4294967297", "1.0000000000000000000001", "0.99999999999999999999", "1e19",
    "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "-9223372036854775808.0",
    "9223372036854775807.0", "3.4028234663852886e38", "3.4028235e38", "3.4028235677973366e38", "-3.5e38",
    "340282346638528859811704183484516925440", "1e308", '"1_0"', '"+5"', '"007"', '"5."', '".5"', '" 5"', '"5\\t"',
    '"5\\n"', '"\u0665"', '"\uff15"', '"0x5"', '"1e400"', '"-1e-400"', '"0e-999999999999999999999"',
    '"9007199254740993.0"', '"18446744073709551615"', '"18446744073709551615.0"', '"9223372036854775808"', '"1e18"',
    '"-0"', '"3.5e38"', '"nan"', '"-nan"', '"inf"', '"INFINITY"', '"+Infinity"', '"1.5E+3"',
    '"0.00000000000000000000000000000000000000000000000000"', '"\\ud83d"', '"\\ude00\\ud83d"', '"\\ud83d\\ude00"',
    '"\\u0000"', '"\\x"', '"\\u12"', '"\t"', '"\x7f"', '"é€\U0001f600"', "'x'", "x", '"2026-2-1T0:0:0Z"',
    '"2026-02-10T11:00:00.1e0Z"', '"2026-02-10T11:00:00.Z"', '"2026-02-10T11:00:00+99:99"', '"2026-02-29T00:00:00Z"',
    '"2026-02-10T11:00:00+23:59"', '"2026-02-10T11:00:00+24:00"', '"0001-01-01T00:00:00+00:01"',
    '"9999-12-31T23:59:59.999999999Z"', '"2026-02-10T11:00:00.1_0Z"', '"2026-02-10T11:00:60Z"',
    '"\uff12026-02-10T11:00:00Z"', '"2026-02-10t11:00:00z"', '"2026-02-10T11:00:00.1234567890Z"', '"1.s"', '" 1s"',
    '"+1s"', '"1_0s"', '"1e1s"', '"-.5s"', '"1.0000000001s"', '"0000000000001s"', '"315576000001s"',
    '"-315576000000.999999999s"', '"a,,b"', '"a_b"', '"aB.cD"', '","', '"YQ="', '"YQ==="', '"Y W I"', '"YWJj!!!!"', '"-_+/"',
    '"YR"', '"NULL_VALUE"', '"0"', '"COLOR_AZURE"', '" 1"', "[[]]", "[" * 30 + "]" * 30,
    '{"a":' * 30 + "1" + "}" * 30, "[" * 300 + "]" * 300, "{}", '{"a":1,"a":2}', '{"1":1,"01":2}',
    '{"@type":"type.googleapis.com/kitchen.v1.Nested","name":"x"}', '{"name":"a","inner":{"size":"x"}}',
    '{"inner":null,"nope":1}',
)  # fmt: skip
_SPACES = ("", "", "", "", " ", "\n", "\t \r", "\f", "\ufeff", "/**/", ",")


class Token(str):
    """A value as it stands in the text."""

    __slots__ = ()


class Object(list[tuple[str, Any]]):
    """An object that may have a key twice."""

    __slots__ = ()


def near(value: Any, names: Sequence[str], chance: random.Random) -> bytes:
    """Return a text that is near to the JSON of *value*, or has one member of *names* that may not fit."""
    if names and chance.random() < 0.3:
        token = Token(chance.choice(TOKENS))
        value = {chance.choice(names): chance.choice((token, token, [token], [1, token], {"1": token, "true": token}))}
    damaged = _pairs(value)
    for _ in range(chance.choice((0, 0, 1, 1, 1, 2, 2, 4))):
        damaged = _damaged(damaged, chance)
    noise = chance.random() < 0.1
    text = _written(damaged, chance, noise=noise).encode("utf-8", "surrogatepass")
    return _bytes_damaged(text, chance) if chance.random() < 0.08 else text


def _pairs(value: Any) -> Any:
    if isinstance(value, dict):
        return Object((name, _pairs(item)) for name, item in value.items())
    return [_pairs(item) for item in value] if isinstance(value, list) else value


def _damaged(value: Any, chance: random.Random) -> Any:
    """Return *value* with one part of it changed, at a random depth."""
    if isinstance(value, Object) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        return Object([*value[:at], *_members(*value[at], chance), *value[at + 1 :]])
    if isinstance(value, list) and not isinstance(value, Object) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return [*value[:at], _damaged(value[at], chance), *value[at + 1 :]]
    return _other(value, chance)


def _members(name: str, value: Any, chance: random.Random) -> list[tuple[str, Any]]:
    """Return what comes to stand where the member of an object was."""
    kind = chance.random()
    if kind < 0.7:
        return [(name, _damaged(value, chance))]
    if kind < 0.76:
        return [(_respelled(name), value)]
    if kind < 0.84:
        both = [(name, value), (_respelled(name), _damaged(value, chance))]
        return both if chance.random() < 0.5 else both[::-1]
    if kind < 0.92:
        both = [(name, value), (name, _damaged(value, chance))]
        return both if chance.random() < 0.5 else both[::-1]
    if kind < 0.95:
        return []
    return [(name + chance.choice(("x", "_", "é", "\ud83d", "0")), value)]


def _respelled(name: str) -> str:
    if "_" in name:
        return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


def _other(value: Any, chance: random.Random) -> Any:
    """Return something else instead of *value*."""
    kind = chance.random()
    if kind < 0.6:
        return Token(chance.choice(TOKENS))
    if kind < 0.7:
        return None
    if kind < 0.75:
        return [value]
    if kind < 0.8:
        return Object([(chance.choice(("a", "name", "value", "1")), value)])
    if kind < 0.9 and isinstance(value, str) and not isinstance(value, Token) and value:
        at = chance.randrange(len(value) + 1)
        return value[:at] + chance.choice(" _+-.0e9zT:é=,") + value[at + chance.randrange(2) :]
    if isinstance(value, (int, float)):
        return chance.choice((str(value), str(value) + "0", value * 2 + 1, -value))
    return chance.choice(JUNK)


def _written(value: Any, chance: random.Random, *, noise: bool) -> str:
    """Return *value* as text, with stray spaces and needless escapes where there is to be *noise*."""
    space = chance.choice(_SPACES) if noise else ""
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, Object):
        members = [f"{_string(name, chance)}:{space}{_written(item, chance, noise=noise)}" for name, item in value]
        return "{" + space + ",".join(members) + "}"
    if isinstance(value, (list, dict)):
        items = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            return json.dumps(value)
        return "[" + ",".join(_written(item, chance, noise=noise) for item in items) + space + "]"
    return _string(value, chance) if isinstance(value, str) else space + json.dumps(value)


def _string(text: str, chance: random.Random) -> str:
    if text and chance.random() < 0.05:
        return '"' + "".join(f"\\u{ord(unit):04x}" for unit in _units(text)) + '"'
    return json.dumps(text, ensure_ascii=chance.random() < 0.5)


def _units(text: str) -> str:
    """Return *text* with a character per unit of its UTF-16."""
    data = text.encode("utf-16-be", "surrogatepass")
    return "".join(chr(data[at] << 8 | data[at + 1]) for at in range(0, len(data), 2))


def _bytes_damaged(text: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(text) + 1)
    piece = chance.choice(
        (b"", b"\x00", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b'"', b"{", b"]", b"\\", bytes([chance.randrange(256)]))
    )
    return text[:at] + piece + text[at + chance.choice((0, 1, 1, len(text))) :]
