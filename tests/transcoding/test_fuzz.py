"""The codec beside json_format, both directions, over 100,000 inputs in the slow tests: a table has all that may differ."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import duration_pb2, field_mask_pb2, json_format, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transcoding.conformance import Chain, Lists, Maps, Names, Oneofs
from transcoding.differences import ANY
from transcoding.kitchen import Everything, Nested, Order, Sizes
from transcoding.mutations import near
from transcoding.reference import PLAIN, Verdict, alike, check_inward, check_outward, wire
from transcoding.strategies import messages

HERE = Path(__file__).parent
# Near texts, or near bytes, of each message that hypothesis makes.
EACH = 20
FUZZED = 80_000
TOP = [
    *[Everything] * 8,
    Chain,
    Lists,
    Maps,
    Names,
    Nested,
    Oneofs,
    Order,
    Sizes,
    duration_pb2.Duration,
    field_mask_pb2.FieldMask,
    struct_pb2.Struct,
    struct_pb2.Value,
    struct_pb2.ListValue,
    timestamp_pb2.Timestamp,
    wrappers_pb2.BytesValue,
    wrappers_pb2.FloatValue,
    wrappers_pb2.Int64Value,
]
quick = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
long = settings(quick, max_examples=1_000)
SAMPLES = st.sampled_from(TOP).flatmap(lambda message_class: messages(message_class.DESCRIPTOR))
SEEDS = st.integers(0, 2**32 - 1)


def check_near_texts(message: Any, seed: int) -> None:
    """Check the JSON of *message*, and texts that are near to it."""
    chance = random.Random(seed)
    value = json_format.MessageToDict(message)
    names = [name for field in message.DESCRIPTOR.fields for name in (field.name, field.json_name)]
    for _ in range(EACH):
        check_inward(type(message), near(value, names, chance))


def check_near_bytes(message: Any, seed: int) -> None:
    """Check *message*, which comes back from its JSON, and those that bytes near to its own spell, fit for JSON or not."""
    chance = random.Random(seed)
    data = wire(message)
    written = check_outward(message)
    read = check_inward(type(message), PLAIN.serialize(message))
    if read.verdict is Verdict.ACCEPTED:
        # As JSON, where every NaN is the same.
        assert alike(written, check_outward(type(message).FromString(read.message)))
    else:
        assert ANY in read.rows
    for _ in range(EACH):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(damaged) + 1)
            piece = chance.choice((b"", chance.randbytes(1), chance.randbytes(4), b"\xff" * 9 + b"\x01", b"\xf0\x7f"))
            damaged[at : at + chance.randrange(4)] = piece
        try:
            near_message = type(message).FromString(bytes(damaged))
        except DecodeError:
            continue
        check_outward(near_message)


@quick
@given(SAMPLES, SEEDS)
def test_inward(message: Any, seed: int) -> None:
    """Texts near to JSON become the message that json_format makes of them, or are refused, by the table of differences."""
    check_near_texts(message, seed)


@quick
@given(SAMPLES, SEEDS)
def test_outward(message: Any, seed: int) -> None:
    """Messages become the JSON that json_format makes of them, and come back from it; what has no JSON is a ValueError."""
    check_near_bytes(message, seed)


@pytest.mark.slow
@long
@given(SAMPLES, SEEDS)
def test_inward_at_length(message: Any, seed: int) -> None:
    """The same over 20,000 texts."""
    check_near_texts(message, seed)


@pytest.mark.slow
@long
@given(SAMPLES, SEEDS)
def test_outward_at_length(message: Any, seed: int) -> None:
    """The same over 20,000 messages."""
    check_near_bytes(message, seed)


def atheris(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the target of atheris, which leaves an input that fails in *folder*."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("There is no wheel of atheris for this platform: `pip install atheris` has to build it.")
    command = [sys.executable, HERE / "fuzz_codec.py", f"-artifact_prefix={folder}/", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=900, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_atheris(tmp_path: Path) -> None:
    """80,000 inputs that libFuzzer makes of the corpus, led by the branches that they take, end in agreement, each of them."""
    (tmp_path / "new").mkdir()
    ran = atheris(tmp_path, f"-runs={FUZZED}", tmp_path / "new", HERE / "corpus")

    assert 0 == ran.returncode, ran.stderr[-4_000:]
    assert [str(FUZZED)] == re.findall(r"Done (\d+) runs", ran.stderr)


def test_the_corpus() -> None:
    """Every input of the corpus says what it is, and is a message."""
    letters = {path.name: path.read_text()[0] for path in (HERE / "corpus").iterdir()}
    texts = [path.read_bytes()[1:].strip() for path in (HERE / "corpus").iterdir() if path.read_text()[0] == "E"]

    assert set("CENOPZVSLTDMIFBalno0") == set(letters.values())
    assert {Verdict.ACCEPTED} == {check_inward(Everything, text).verdict for text in texts}
