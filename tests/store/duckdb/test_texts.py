from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from flagledger.store.columns import ROWS, to_columns
from flagledger.store.duckdb import texts as duckdb_texts
from flagledger.store.duckdb.store import DuckDBStore
from flagledger.store.questions import Cursor, Filter
from flagledger.v1.evaluation_pb2 import IdentityTrait
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import START, add_evaluation, entries_of, record_of, value_of

LENGTHS = st.sampled_from([None, 0, 1, 4090, 4093, 4094, 4095, 8190, 8192, 20_000])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(LENGTHS, LENGTHS, LENGTHS, st.sampled_from("x\x01é😀")), min_size=1, max_size=8))
def test_texts_of_any_length_come_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int | None, int | None, int | None, str]]
) -> None:
    """What is kept in pieces and what is not reads the same, and no long text is left in a row."""
    record = record_of()
    for i, (value, trait, metadata, character) in enumerate(drawn):
        add_evaluation(record, time=START + i)
        evaluation = record.evaluations[-1]
        if value is not None:
            evaluation.value.string_value = character * value
        if trait is not None:
            evaluation.identity_traits.append(IdentityTrait(trait_key="k", trait_value=value_of(character * trait)))
        if metadata is not None:
            evaluation.metadata["k"] = character * metadata
    rows, discards = to_columns(entries_of([record]))
    store = DuckDBStore(tmp_path_factory.mktemp("store") / "store")
    store.apply("journal", 1, 1, rows, discards)
    store.checkpoint()

    page = store.list_evaluations(Filter(environment="production"), 100, None)
    totals = store.list_features("production", None, None).totals

    store.close()
    expected = [rows.column(name).to_pylist() for name in duckdb_texts.COLUMNS]
    found = list(reversed(page.rows))
    assert expected == [[row.value for row in found], [row.traits for row in found], [row.metadata for row in found]]
    assert [expected[0][-1]] == [total.last_value for total in totals]
    short, _ = duckdb_texts.split(rows)
    assert [] == [
        text
        for name in duckdb_texts.COLUMNS
        for text in short.column(name).to_pylist()
        if text is not None and len(text.encode()) > 4096
    ]


def test_short_texts_stay_where_they_are() -> None:
    """Rows without a long text are handed on as they are; so are none at all."""
    record = record_of()
    add_evaluation(record, value=value_of("x" * 4094))
    for batch in (to_columns(entries_of([record]))[0], pa.RecordBatch.from_pylist([], ROWS)):
        short, pieces = duckdb_texts.split(batch)

        assert batch is short
        assert 0 == pieces.num_rows


@pytest.mark.slow
@pytest.mark.parametrize("entries_each", [1, 8])
def test_the_longest_texts_fit_into_memory(tmp_path: Path, entries_each: int) -> None:
    """Rows of texts that are as long as they get, and far longer as JSON, are applied, checkpointed and read."""
    value = "\x01" * (127 << 10)
    store = DuckDBStore(tmp_path / "store", memory_limit="256MB", checkpoint_seconds=3600.0)
    for first in range(1, 25, entries_each):
        records = []
        for position in range(first, first + entries_each):
            record = record_of()
            for i in range(25):
                add_evaluation(record, time=START + position * 100 + i, identity_identifier=f"{position}/{i}")
                record.evaluations[-1].value.string_value = value
            records.append(record)
        store.apply("journal", first, first + entries_each - 1, *to_columns(entries_of(records, first)))
        store.maintain()
    store.checkpoint()

    assert 24 == store.trimmable("journal")
    found: list[str | None] = []
    cursor: Cursor | None = None
    while cursor is not None or not found:
        page = store.list_evaluations(Filter(environment="production"), 1_000, cursor)
        found += [row.identity_identifier for row in page.rows]
        cursor = page.next
    assert [f"{position}/{i}" for position in range(24, 0, -1) for i in range(24, -1, -1)] == found
    assert 1 == sum(total.last_value is not None for total in store.list_features("production", None, None).totals)
    store.close()
