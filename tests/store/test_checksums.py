from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from flagledger.store.applied import Applied, SetAside
from flagledger.store.checksums import KINDS, Checksum, Since
from flagledger.store.columns import DISCARDS, ROWS, to_columns
from flagledger.v1.evaluation_pb2 import IdentityTrait
from hypothesis import given, settings
from hypothesis import strategies as st
from store import moved
from support.records import START, add_evaluation, entries_of, record_of, value_of


def whole() -> Applied:
    """Return three entries with something in every column, and two that were set aside."""
    records = []
    for number in range(3):
        record = record_of(batch_id=f"batch-{number}", receive_time=START + number)
        record.envelope.sdk_name, record.envelope.sdk_version = "js", "1.0"
        record.envelope.discards.add(reason="unknown_feature", name="chekout", entry_count=2)
        for index in range(2):
            add_evaluation(
                record,
                enabled=True,
                value=value_of("on"),
                identity_identifier=f"u{index}",
                identity_traits=[IdentityTrait(trait_key="plan", trait_value=value_of("pro"))],
                segment_names=["eu", "beta"],
                variant="a",
                reason="SPLIT",
            )
            record.evaluations[-1].metadata.fields["k"].number_value = 1
        records.append(record)
    rows, discards = to_columns(entries_of(records))
    set_aside = tuple(SetAside(position=4 + n, payload=bytes([n]), description=f"broken {n}") for n in range(2))
    return Applied(first=1, last=5, rows=rows, discards=discards, set_aside=set_aside)


def summed(*ranges: Applied, last: int = 5, since: Since | None = None) -> Checksum:
    """Return the checksum of *ranges*."""
    checksum = Checksum(last, since)
    for found in ranges:
        checksum.add(found)
    return checksum


OTHERS: dict[pa.DataType, Any] = {
    pa.int64(): 7,
    pa.int32(): 2,
    pa.uint32(): 9,
    pa.bool_(): False,
    pa.string(): "other",
    pa.float64(): 0.25,
    pa.timestamp("us"): 12_345,
    pa.list_(pa.field("item", pa.string(), nullable=False)): ["eu"],
}


def tampered(batch: pa.RecordBatch, name: str, value: Any = None) -> pa.RecordBatch:
    """Return *batch* with another value in the first row of a column; NULL where the column may hold it and none is given."""
    field = batch.schema.field(name)
    plain = batch.column(name).to_pylist()
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    changed = value if value is not None or field.nullable else OTHERS[kind]
    assert plain[0] != changed
    column = pa.array([changed, *plain[1:]], kind)
    column = column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
    return batch.set_column(batch.schema.get_field_index(name), field, column.cast(field.type))


@pytest.mark.parametrize("name", ROWS.names)
def test_every_column_of_evaluations_counts(name: str) -> None:
    """Another value in a single row, whatever its column, is another checksum, and the stretch is named."""
    found = whole()
    other = summed(replace(found, rows=tampered(found.rows, name)))

    assert summed(found).text() != other.text()
    difference = summed(found).difference(other)
    assert difference is not None
    assert "evaluations" == difference[0]


@pytest.mark.parametrize("name", DISCARDS.names)
def test_every_column_of_discards_counts(name: str) -> None:
    """As of evaluations."""
    found = whole()
    other = summed(replace(found, discards=tampered(found.discards, name)))

    assert summed(found).text() != other.text()
    assert "discards" == summed(found).difference(other)[0]  # type: ignore[index]


@pytest.mark.parametrize("change", [{"position": 5}, {"payload": b"other"}, {"description": "other"}], ids=str)
def test_every_part_of_what_was_set_aside_counts(change: dict[str, Any]) -> None:
    """As of evaluations."""
    found = whole()
    other = summed(replace(found, set_aside=(replace(found.set_aside[0], **change), found.set_aside[1])))

    assert summed(found).text() != other.text()
    assert "set-aside entries" == summed(found).difference(other)[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (["a", "b"], ["b", "a"]),
        (["a", "b"], ["ab"]),
        (["a", ""], ["a"]),
        (["SPLIT"], []),
        ([""], []),
    ],
)
def test_lists_are_told_apart(one: list[str], two: list[str]) -> None:
    """Order and extent of a list count, and where it ends and the next column begins."""
    rows = whole().rows
    found = [
        summed(replace(whole(), rows=tampered(tampered(rows, "segment_names", segments), "variant", variant)))
        for segments, variant in ((one, "x"), (two, "x"))
    ]

    assert found[0].text() != found[1].text()


def test_a_name_does_not_pass_from_column_to_column() -> None:
    """The same texts in other columns are another row."""
    rows = whole().rows
    found = [
        summed(replace(whole(), rows=tampered(tampered(rows, "segment_names", segments), "variant", variant)))
        for segments, variant in ((["p"], "q"), (["p", "q"], ""))
    ]

    assert found[0].text() != found[1].text()


@settings(max_examples=20, deadline=None)
@given(drawn=moved.items(max_size=6), cut=st.integers(0, 6), seed=st.randoms())
def test_order_and_ranges_do_not_count(drawn: list[moved.Item], cut: int, seed: Any) -> None:
    """However entries fall into ranges and rows into batches, the checksum is the same."""
    last = len(drawn)
    one = moved.applied(drawn)
    parts = [moved.applied(drawn[:cut]), moved.applied(drawn[cut:], cut + 1)]
    order = list(range(parts[0].rows.num_rows))
    seed.shuffle(order)
    parts[0] = replace(parts[0], rows=parts[0].rows.take(pa.array(order, pa.int64())))

    assert summed(one, last=last).text() == summed(*reversed(parts), last=last).text()
    assert None is summed(one, last=last).difference(summed(*parts, last=last))
    assert [one.rows.num_rows, one.discards.num_rows, len(one.set_aside)] == [
        summed(*parts, last=last).sum(kind).count for kind in KINDS
    ]


def test_twice_is_not_once() -> None:
    """A row that is there twice is another checksum and another count."""
    found = whole()

    assert ("evaluations", 1, 1, 2, 4) == summed(found).difference(summed(found, found))


def test_where_they_differ_is_known() -> None:
    """Of many entries the stretch is named that the difference lies in, with what there is of it in each."""
    record = record_of()
    add_evaluation(record)
    full = moved.applied([record] * 1_000)
    lacking = moved.applied([record] * 699 + [record_of()] + [record] * 300)
    kind, first, last, here, there = summed(full, last=1_000).difference(summed(lacking, last=1_000))  # type: ignore[misc]

    assert ("evaluations", True) == (kind, first <= 700 <= last)
    assert last - first < 10
    assert (last - first + 1, last - first) == (here, there)


def test_what_was_dropped_of_one_kind_first() -> None:
    """A store drops discards before evaluations of the same time, or the other way round: neither is a difference."""
    found = whole()
    for kept in (replace(found, discards=found.discards.slice(2)), replace(found, rows=found.rows.slice(4))):
        assert None is summed(kept).difference(summed(found, since=summed(kept).since()))


def test_what_is_older_is_left_out() -> None:
    """What is older than all that another store still holds does not belong to the checksum, and is counted."""
    found = whole()
    kept = replace(found, rows=found.rows.slice(4), discards=found.discards.slice(2), set_aside=found.set_aside[1:])
    since = summed(kept).since()

    checksum = summed(found, since=since)

    assert Since(evaluations=START + 2, discards=START + 2, set_aside=5) == since
    assert None is summed(kept).difference(checksum)
    assert (summed(kept).text(), 4 + 2 + 1) == (checksum.text(), checksum.before())
    assert 0 == summed(kept).before()
