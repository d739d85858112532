"""The grammar against the checker: what is known by its bytes is valid, whatever was sent."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable

import pytest
from flagledger.ingest.admission import inspect
from flagledger.ingest.faults import Fault, find_fault
from flagledger.ingest.grammar import compile_grammar
from flagledger.ingest.limits import Limits
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.intake import MOMENT, NOW, valid_evaluation

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(number: int) -> bytes:
    """Return *number* as protobuf writes it."""
    number &= (1 << 64) - 1
    coded = bytearray()
    while number > 0x7F:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    coded.append(number)
    return bytes(coded)


def tag(number: int, wire_type: int) -> bytes:
    """Return the tag of a field."""
    return varint(number << 3 | wire_type)


def of_bytes(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return tag(number, BYTES) + varint(len(content)) + content


def of_int(number: int, value: int) -> bytes:
    """Return a varint field."""
    return tag(number, VARINT) + varint(value)


# Lengths around what the grammar knows and what the limits are, bytes and characters apart.
TEXTS = st.one_of(
    st.sampled_from(["", "a", "new_dashboard", "\0", "a\0b", "\n", '"', "\x12\x04\x1a\x02hi", "\x10\x01"]),
    st.builds(
        lambda unit, length: unit * length,
        st.sampled_from(["a", "ü", "😀"]),
        st.sampled_from([31, 39, 40, 41, 63, 64, 97, 98, 99, 100, 101, 126, 127, 128, 129, 199, 200, 201, 2000, 2001]),
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
).map(str.encode)
NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 1e308, 5e-324]),
).map(lambda number: struct.pack("<d", number)) | st.binary(min_size=8, max_size=8)
SCALARS = st.one_of(
    TEXTS.map(lambda text: of_bytes(3, text)),
    NUMBERS.map(lambda number: tag(2, FIXED64) + number),
    st.sampled_from([of_int(4, 0), of_int(4, 1), of_int(1, 0), of_int(1, 7), b""]),
)
# Whatever field, whatever type: known ones twice or in another place, unknown ones, some made up like known ones.
PAYLOADS = st.sampled_from(
    [
        b"",
        b"hi",
        of_bytes(3, b"hi"),
        of_int(1, MOMENT),
        of_bytes(1, b"new_dashboard"),
        of_bytes(2, of_bytes(3, b"x")),
        of_bytes(1, b"key") + of_bytes(2, of_int(4, 1)),
        of_bytes(1, b"new_dashboard") + of_int(2, 1) + of_bytes(4, of_int(1, MOMENT)),
    ]
)
STRANGERS = st.one_of(
    st.builds(of_bytes, st.integers(1, 17), PAYLOADS),
    st.builds(of_int, st.integers(1, 17), st.sampled_from([0, 1, 127, 128, MOMENT, -1])),
    st.builds(lambda number: tag(number, FIXED64) + b"\0" * 8, st.integers(1, 17)),
    st.builds(lambda number: tag(number, FIXED32) + b"\0" * 4, st.integers(1, 17)),
)


def message(*fields: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return a message of *fields*: mostly as they are, else with some missing or moved, and strangers between."""

    def disturbed(pieces: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
        return (
            st.lists(STRANGERS, max_size=2)
            .flatmap(lambda strangers: st.permutations([*pieces, *strangers]))
            .flatmap(lambda shuffled: st.integers(0, 2).map(lambda missing: b"".join(shuffled[missing:])))
        )

    def behind(pieces: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
        return STRANGERS.map(lambda stranger: b"".join(pieces) + stranger)

    whole = st.tuples(*fields)
    plain = whole.map(b"".join)
    return st.one_of(plain, plain, plain, whole.flatmap(behind), whole.flatmap(disturbed))


def maybe(field: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return the field or nothing."""
    return st.one_of(st.just(b""), field)


def many(field: st.SearchStrategy[bytes], most: int) -> st.SearchStrategy[bytes]:
    """Return the field up to *most* times."""
    return st.lists(field, max_size=most).map(b"".join)


VALUES = st.deferred(
    lambda: st.one_of(
        SCALARS,
        SCALARS,
        SCALARS,
        message(SCALARS),
        many(st.builds(of_bytes, st.just(1), VALUES), 2).map(lambda items: of_bytes(6, items)),
        STRUCTS.map(lambda fields: of_bytes(5, fields)),
    )
)
ENTRIES = message(maybe(TEXTS.map(lambda text: of_bytes(1, text))), maybe(VALUES.map(lambda value: of_bytes(2, value))))
STRUCTS = many(ENTRIES.map(lambda entry: of_bytes(1, entry)), 2)
TRAITS = message(TEXTS.map(lambda text: of_bytes(1, text)), VALUES.map(lambda value: of_bytes(2, value)))
SECONDS = st.sampled_from(
    [
        0, -1, 1_577_836_799, 1_577_836_800, 1_577_836_801, 1 << 28, (1 << 28) - 1, MOMENT, int(NOW), 1 << 35,
        (1 << 35) - 1, int(NOW) + 86_399, int(NOW) + 86_400, int(NOW) + 86_401, int(NOW) + 60_000,
        -(1 << 63), (1 << 63) - 1,
    ]
)  # fmt: skip
NANOS = st.one_of(
    st.sampled_from([0, 1, 127, 128, 16_384, 2_097_152, 268_435_455, 268_435_456, 536_870_912, 805_306_368, -1]),
    st.sampled_from([998_244_351, 998_244_352, 999_981_055, 999_981_056, 999_999_999, 1_000_000_000, 1_073_741_823]),
    st.integers(0, 999_999_999),
)
TIMESTAMPS = message(
    st.one_of(st.just(MOMENT), SECONDS).map(lambda seconds: of_int(1, seconds)),
    maybe(NANOS.map(lambda nanos: of_int(2, nanos))),
)
NAMES = st.one_of(st.just(b"new_dashboard"), st.just(b"unheard_of"), TEXTS)
FIELDS = (
    NAMES.map(lambda name: of_bytes(1, name)),
    st.sampled_from([of_int(2, 0), of_int(2, 1), of_int(2, 1), of_int(2, 2)]),
    maybe(VALUES.map(lambda value: of_bytes(3, value))),
    TIMESTAMPS.map(lambda moment: of_bytes(4, moment)),
    maybe(TEXTS.map(lambda text: of_bytes(5, text))),
    many(TRAITS.map(lambda trait: of_bytes(6, trait)), 2),
    many(TEXTS.map(lambda text: of_bytes(7, text)), 2),
    maybe(TEXTS.map(lambda text: of_bytes(8, text))),
    maybe(TEXTS.map(lambda text: of_bytes(9, text))),
    maybe(STRUCTS.map(lambda fields: of_bytes(10, fields))),
    maybe(
        st.sampled_from([0, 1, 127, 128, 9_983, 9_984, 10_000, 10_001, 1_000_000, 1_000_001]).map(
            lambda count: of_int(11, count)
        )
    ),
)
EVALUATIONS = message(*FIELDS)
BATCHES = message(many(EVALUATIONS.map(lambda evaluation: of_bytes(1, evaluation)), 4))
LIMITS = st.one_of(
    st.just(Limits()),
    st.sampled_from(
        [
            Limits(
                feature_name_characters=13, identity_characters=1, trait_key_characters=31, trait_string_characters=5,
                segment_name_characters=0, label_characters=2, value_bytes=9, metadata_bytes=10, depth=1,
                count_client=127,
            ),
            Limits(feature_name_characters=0, trait_key_characters=0, traits_bytes=300, value_bytes=1, count_server=0),
            Limits(
                trait_string_characters=0, traits_bytes=40, identity_characters=0, label_characters=0, count_client=200,
            ),
        ]
    ),
)  # fmt: skip


def reference(
    batch: EvaluationBatch, limits: Limits, *, is_server: bool
) -> tuple[bytes, list[Fault], list[Evaluation]]:
    """Return content, faults and what is kept, the slow way: everything asked of every evaluation."""
    copy = EvaluationBatch.FromString(batch.SerializeToString())
    copy.DiscardUnknownFields()
    copy.ClearField("batch_id")
    content = copy.SerializeToString(deterministic=True)
    faults, kept = [], []
    for index, evaluation in enumerate(copy.evaluations):
        fault = find_fault(evaluation, index=index, limits=limits, now=NOW, is_server=is_server)
        if fault:
            faults.append(fault)
            continue
        if not evaluation.identity_identifier:
            evaluation.ClearField("identity_identifier")
        kept.append(evaluation)
    return content, faults, kept


def assert_same(batch: EvaluationBatch, limits: Limits, *, is_server: bool = False) -> None:
    """Assert that inspection and judgement say what the slow way says."""
    content, faults, kept = reference(batch, limits, is_server=is_server)
    total = len(batch.evaluations)

    inspection = inspect(batch, limits=limits, now=NOW, is_server=is_server)
    anything = inspection.judge(None)
    known = inspection.judge(frozenset({"new_dashboard"}))

    expected = [evaluation for evaluation in kept if evaluation.feature_name == "new_dashboard"]
    assert inspection.content == content
    assert list(inspection.faults) == faults
    assert anything.evaluations == EvaluationBatch(evaluations=kept).SerializeToString(deterministic=True)
    assert known.evaluations == EvaluationBatch(evaluations=expected).SerializeToString(deterministic=True)
    assert known.outcome.accepted == len(expected)
    assert known.outcome.accepted + known.outcome.filtered + known.outcome.rejected == total
    assert sum(known.filtered.values()) == known.outcome.filtered


def parsed(raw: bytes, instead: bytes = b"") -> EvaluationBatch:
    """Return the batch in *raw*, or the one *instead* where that is no protobuf: the transports' business."""
    try:
        return EvaluationBatch.FromString(raw)
    except DecodeError:
        return EvaluationBatch.FromString(instead)


@given(raw=BATCHES, limits=LIMITS, is_server=st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_fast_verdict_is_the_slow_one(raw: bytes, limits: Limits, is_server: bool) -> None:  # noqa: FBT001
    """Whatever the bytes, known and unknown fields anywhere, the verdict is that of the checker, field by field."""
    assert_same(parsed(raw), limits, is_server=is_server)


@pytest.mark.slow
@pytest.mark.timeout(600)
@given(raw=BATCHES, limits=LIMITS, is_server=st.booleans())
@settings(max_examples=4_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_fast_verdict_is_the_slow_one_at_length(raw: bytes, limits: Limits, is_server: bool) -> None:  # noqa: FBT001
    """The same, for as long as patience lasts."""
    assert_same(parsed(raw), limits, is_server=is_server)


@given(
    evaluations=st.lists(st.one_of(EVALUATIONS, st.deferred(lambda: st.just(TYPICAL))), min_size=1, max_size=3),
    at=st.integers(0, 2000),
    byte=st.integers(0, 255),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_changed_byte_changes_no_more_than_it_should(evaluations: list[bytes], at: int, byte: int) -> None:
    """A byte changed anywhere gets the verdict of the checker too."""
    raw = b"".join(of_bytes(1, evaluation) for evaluation in evaluations)
    at %= len(raw)
    changed = raw[:at] + bytes((byte,)) + raw[at + 1 :]

    assert_same(parsed(changed, instead=of_bytes(1, TYPICAL)), Limits())


TYPICAL_FIELDS = (
    of_bytes(1, b"new_dashboard"),
    of_int(2, 0),
    of_bytes(3, of_bytes(3, b"variant_a")),
    of_bytes(4, of_int(1, MOMENT) + of_int(2, 123_456_000)),
    of_bytes(5, b"user_123"),
    of_bytes(6, of_bytes(1, b"email") + of_bytes(2, of_bytes(3, b"user@example.com")))
    + of_bytes(6, of_bytes(1, b"age") + of_bytes(2, tag(2, FIXED64) + struct.pack("<d", 33.0)))
    + of_bytes(6, of_bytes(1, b"beta") + of_bytes(2, of_int(4, 0))),
    of_bytes(7, b"premium_users"),
    of_bytes(8, b"a"),
    of_bytes(9, b"SPLIT"),
    b"",
    of_int(11, 3),
)
TYPICAL = b"".join(TYPICAL_FIELDS)


@pytest.mark.parametrize("at", range(len(FIELDS)))
@given(data=st.data(), limits=LIMITS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_one_odd_field_gets_the_slow_verdict(at: int, data: st.DataObject, limits: Limits) -> None:
    """A typical evaluation with one field that is odd, missing or followed by an unknown one: the checker's verdict."""
    odd = data.draw(st.one_of(FIELDS[at], FIELDS[at], st.just(b"")))
    stranger = data.draw(st.one_of(st.just(b""), st.just(b""), STRANGERS))
    fields = [*TYPICAL_FIELDS[:at], odd, *TYPICAL_FIELDS[at + 1 :], stranger]

    assert_same(parsed(of_bytes(1, b"".join(fields)) + of_bytes(1, TYPICAL)), limits)


@pytest.mark.parametrize(
    "moment",
    [
        of_int(1, seconds) + of_int(2, nanos)
        for seconds in (int(NOW) + ahead for ahead in (0, 60_000, 70_000, 80_000, 86_399, 86_400, 86_401, 100_000))
        for nanos in (0, 1, 999_999_999)
    ]
    + [of_int(1, 1_577_836_800 + late) + of_int(2, nanos) for late in range(-2, 3) for nanos in (0, 1)]
    + [
        of_int(1, MOMENT) + of_int(2, nanos)
        for bound in (1, 1 << 7, 1 << 14, 1 << 21, 1 << 28, 1 << 29, 3 << 28, 998_244_352, 999_981_056, 10**9, 1 << 30)
        for nanos in (bound - 1, bound, bound + 1)
    ]
    + [of_int(1, MOMENT) + of_int(2, -1)],
    ids=bytes.hex,
)
def test_moments_at_every_bound_get_the_slow_verdict(moment: bytes) -> None:
    """Each side of every bound of the window, of nanos, and of the lengths in which they are written."""
    fields = [*TYPICAL_FIELDS[:3], of_bytes(4, moment), *TYPICAL_FIELDS[4:]]

    assert_same(parsed(of_bytes(1, b"".join(fields)) * 2), Limits())


@pytest.mark.parametrize("most", [0, 1, 127, 128, 200, 254, 255, 256, 383, 384, 10_000, 1 << 20])
def test_counts_at_every_bound_get_the_slow_verdict(most: int) -> None:
    """Each side of every limit on `count`, in one byte and in two."""
    for count in (0, 1, 126, 127, 128, 129, 199, 200, 201, 254, 255, 256, 383, 384, 385, 9_983, 10_000, 10_001):
        fields = [*TYPICAL_FIELDS[:-1], of_int(11, count)]
        raw = of_bytes(1, b"".join(fields))
        assert_same(parsed(raw), Limits(count_client=most))
        assert_same(parsed(raw), Limits(count_server=most), is_server=True)


@pytest.mark.parametrize(
    "number", [0.0, -0.0, 1e308, -1e308, 5e-324, 2.0**1023, math.nan, -math.nan, math.inf, -math.inf]
)
@pytest.mark.parametrize("payload", [0, 1])
def test_odd_numbers_get_the_slow_verdict(number: float, payload: int) -> None:
    """NaN of any payload and the infinities, in a value and in a trait; large numbers are numbers."""
    low, high = struct.pack("<d", number)[:6], struct.pack("<d", number)[6:]
    raw = tag(2, FIXED64) + bytes(byte | payload for byte in low) + high
    trait = of_bytes(6, of_bytes(1, b"k") + of_bytes(2, raw))
    in_value = [*TYPICAL_FIELDS[:2], of_bytes(3, raw), *TYPICAL_FIELDS[3:]]
    in_trait = [*TYPICAL_FIELDS[:5], trait, *TYPICAL_FIELDS[6:]]

    assert_same(parsed(of_bytes(1, b"".join(in_value)) + of_bytes(1, b"".join(in_trait))), Limits())


def known(evaluations: Iterable[bytes], limits: Limits) -> list[bytes]:
    """Return the names that the grammar finds, empty for what it does not know."""
    content = b"".join(of_bytes(1, evaluation) for evaluation in evaluations)
    return [name for name, _ in compile_grammar(limits).findall(content)]


def test_what_sdks_send_is_known() -> None:
    """A typical evaluation needs no look at its fields; else everything would still be right, and slow."""
    assert known([TYPICAL] * 3, Limits()) == [b"\x0dnew_dashboard"] * 3


@pytest.mark.parametrize(
    "stranger",
    [
        of_bytes(2, of_bytes(3, b"hi")),
        of_bytes(12, b"hi"),
        of_int(4, 6),
        tag(1, VARINT) + b"\x0a",
        tag(1, FIXED64) + TYPICAL[:8],
    ],
)
def test_an_unknown_field_is_no_known_one(stranger: bytes) -> None:
    """An evaluation with an unknown field behind it is examined, and so are the ones behind that."""
    assert known([TYPICAL, TYPICAL + stranger, TYPICAL], Limits()) == [b"\x0dnew_dashboard", b""]


LOOKALIKES = (
    of_int(11, 5),
    of_bytes(7, b"hidden"),
    of_bytes(9, b"hidden"),
    of_bytes(2, of_bytes(3, b"hi")),
    of_bytes(6, of_bytes(1, b"k") + of_bytes(2, of_int(4, 1))),
    of_bytes(4, of_int(1, MOMENT)),
)
HOSTS = {
    "value": (2, lambda inside: of_bytes(3, of_bytes(3, b"variant_a") + inside)),
    "number": (2, lambda inside: of_bytes(3, tag(2, FIXED64) + bytes(8) + inside)),
    "timestamp": (3, lambda inside: of_bytes(4, of_int(1, MOMENT) + inside)),
    "timestamp with nanos": (3, lambda inside: of_bytes(4, of_int(1, MOMENT) + of_int(2, 20_000) + inside)),
    "trait": (5, lambda inside: of_bytes(6, of_bytes(1, b"k") + of_bytes(2, of_int(4, 1)) + inside)),
    "trait without value": (5, lambda inside: of_bytes(6, of_bytes(1, b"k")) + inside),
    "evaluation": (10, lambda inside: of_int(11, 3) + inside),
}


@pytest.mark.parametrize("hidden", LOOKALIKES, ids=bytes.hex)
@pytest.mark.parametrize(("at", "host"), HOSTS.values(), ids=HOSTS)
def test_unknown_fields_hide_nowhere(at: int, host: Callable[[bytes], bytes], hidden: bytes) -> None:
    """Unknown fields inside any message are dropped, however much they look like fields of the one around it."""
    if hidden.startswith(of_bytes(6, b"")[:1]) and at == 2:
        hidden = of_bytes(7, hidden)  # in a value, field 6 is known: the array
    head = [*TYPICAL_FIELDS[:at], host(hidden)]

    for rest in (TYPICAL_FIELDS[at + 1 :], TYPICAL_FIELDS[3:4] if at < 3 else (), ()):
        raw = of_bytes(1, b"".join([*head, *rest]))
        assert_same(EvaluationBatch.FromString(raw), Limits())


def test_each_trait_without_its_value_is_examined() -> None:
    """A value behind a trait, in an unknown field of the evaluation, is not taken for the value of the trait."""
    trait_alone = of_bytes(6, of_bytes(1, b"plan"))
    lookalike = of_bytes(2, of_bytes(3, b"hi"))

    assert known([valid_evaluation().SerializeToString() + trait_alone + lookalike], Limits()) == [b""]


def test_unknown_fields_of_the_batch_complete_no_evaluation() -> None:
    """What stands behind the last evaluation, in unknown fields of the batch, does not make it valid."""
    raw = of_bytes(1, of_bytes(1, b"new_dashboard")) + of_int(2, 1) + of_bytes(4, of_int(1, MOMENT))

    inspection = inspect(EvaluationBatch.FromString(raw), limits=Limits(), now=NOW, is_server=False)

    assert [fault.field for fault in inspection.faults] == ["evaluations[0].enabled"]
    assert inspection.content == of_bytes(1, of_bytes(1, b"new_dashboard"))


@pytest.mark.timeout(20)
def test_hostile_bytes_take_linear_time() -> None:
    """Megabytes that look like evaluations inside an evaluation, before many in doubt, end well before the timeout."""
    start = (of_bytes(1, TYPICAL.replace(b"\0", b"\1"))[: len(TYPICAL) // 2] * 20).decode("latin-1")
    hostile = valid_evaluation(segment_names=[start] * 1200)
    batch = EvaluationBatch(evaluations=[hostile, *[valid_evaluation(metadata={"k": 1})] * 9000])

    inspection = inspect(batch, limits=Limits(segments_bytes=8 << 20), now=NOW, is_server=False)

    assert len(inspection.content) > 2_000_000
    assert len(inspection.names) - len(inspection.faults) == 9001
