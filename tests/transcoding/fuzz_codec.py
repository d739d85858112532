"""
The target of atheris: each input is compared with json_format, inward, and outward where there is a message in it.

It is a program of its own, since libFuzzer ends the process that it runs in; test_fuzz.py starts it. The first letter of an
input says what it is, see READ_AS; the rest is a JSON text, or after `0` a message on the wire in hexadecimal digits. To run one
again, name its file:

    python tests/transcoding/fuzz_codec.py tests/transcoding/corpus/everything.txt
"""

from __future__ import annotations

import json
import random
import resource
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import atheris

with atheris.instrument_imports(include=["flagledger.transcoding", "google.protobuf.json_format"]):
    from transcoding.conformance import Chain, Lists, Maps, Names, Oneofs
    from transcoding.kitchen import Everything, Nested, Order, Packed, Sizes
    from transcoding.mutations import near
    from transcoding.reference import NAMES, PLAIN, Verdict, check_inward, check_outward

from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message import DecodeError

READ_AS: dict[str, Any] = {
    "C": Chain,
    "E": Everything,
    "a": Maps,
    "l": Lists,
    "n": Names,
    "o": Oneofs,
    "N": Nested,
    "O": Order,
    "P": Packed,
    "Z": Sizes,
    "V": struct_pb2.Value,
    "S": struct_pb2.Struct,
    "L": struct_pb2.ListValue,
    "T": timestamp_pb2.Timestamp,
    "D": duration_pb2.Duration,
    "M": field_mask_pb2.FieldMask,
    "I": wrappers_pb2.Int64Value,
    "F": wrappers_pb2.FloatValue,
    "B": wrappers_pb2.BytesValue,
}
HEXADECIMAL = b"0"
MOST_BYTES = 4096
MOST_MIB = 2048


def instrument_compiled() -> None:
    """Let libFuzzer see the branches of the functions that the codec has compiled, as those of modules."""
    for codec in (PLAIN, NAMES):
        for message_class in READ_AS.values():
            codec.decoder(message_class.DESCRIPTOR)
            codec.encoder(message_class.DESCRIPTOR)
        for compiled in (codec._decoders._globals, codec._encoders._globals):
            for name, value in compiled.items():
                if name[:1] in "de" and name[1:].isdigit():
                    atheris.instrument_func(value)


def one_input(data: bytes) -> None:
    """Compare what is made of one input; whatever comes out but agreement ends the program."""
    if data[:1] == HEXADECIMAL:
        try:
            message = Everything.FromString(bytes.fromhex(data[1:].decode()))
        except (ValueError, DecodeError):
            return
        check_outward(message)
        return
    message_class = READ_AS.get(chr(data[0]) if data else "", Everything)
    text = data[1:].removesuffix(b"\n")
    if check_inward(message_class, text).verdict is Verdict.ACCEPTED:
        check_outward(PLAIN.parse(text, message_class()))


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Return another input: hexadecimal digits stay such, and most texts stay near to JSON that fits."""
    chance = random.Random(seed)
    head, rest = data[:1], data[1:]
    if head == HEXADECIMAL:
        try:
            wire = bytes.fromhex(rest.decode())
        except ValueError:
            return HEXADECIMAL
        return HEXADECIMAL + atheris.Mutate(wire, max_size // 2 - 1).hex().encode()
    message_class = READ_AS.get(head.decode("latin-1"), Everything)
    if chance.random() < 0.1:
        head = chance.choice(list(READ_AS)).encode()
    if chance.random() < 0.2:
        return head + atheris.Mutate(rest, max_size - 1)
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        value = {}
    names = [name for field in message_class.DESCRIPTOR.fields for name in (field.name, field.json_name)]
    try:
        return (head + near(value, names, chance))[:max_size]
    except RecursionError:
        return head + b"{}"


if __name__ == "__main__":
    instrument_compiled()
    # What libFuzzer reads as the most that this process has held begins with what the one that started it has held; so after
    # a large one an input may take more before it counts as too much.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    limits = [f"-max_len={MOST_BYTES}", f"-rss_limit_mb={before + MOST_MIB}", f"-malloc_limit_mb={MOST_MIB}"]
    atheris.Setup([sys.argv[0], *limits, *sys.argv[1:]], one_input, custom_mutator=mutated)
    atheris.Fuzz()
