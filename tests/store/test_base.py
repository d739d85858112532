"""The conformance suite of the store's seam, run against every implementation."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.base import (
    BehindJournalError,
    Cursor,
    Features,
    FeatureTotals,
    Filter,
    Interrupt,
    OtherJournalError,
    OverlapError,
    Page,
    QuestionEndedError,
    RecordedRow,
    SetAside,
    Store,
    StoreError,
)
from flagledger.store.columns import to_columns
from flagledger.store.duckdb import DuckDBStore
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import START, add_evaluation, entries_of, record_of, simple_entry

Open = Callable[..., Store]


@pytest.fixture(params=[DuckDBStore], ids=["duckdb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Open the store of this test, again and again where the test closes it."""
    opened: list[Store] = []

    def open_(**options: object) -> Store:
        opened.append(request.param(tmp_path / "store", **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


def apply(store: Store, first: int, last: int, *, stream: str = "journal") -> None:
    """Apply simple entries *first* to *last*."""
    rows, discards = to_columns([simple_entry(position) for position in range(first, last + 1)])
    store.apply(stream, first, last, rows, discards)


def identities(store: Store, **filters: object) -> list[str | None]:
    """Return the identities of every recorded evaluation, the newest first."""
    found: list[str | None] = []
    cursor: Cursor | None = None
    while True:
        page = store.list_evaluations(Filter(environment="production", **filters), 7, cursor)  # type: ignore[arg-type]
        found += [row.identity_identifier for row in page.rows]
        if page.next is None:
            return found
        cursor = page.next


def expected_identities(first: int, last: int) -> list[str]:
    """Return the identities of simple entries *first* to *last*, the newest first."""
    return [f"{position}/{i}" for position in range(last, first - 1, -1) for i in (2, 1, 0)]


def test_a_new_store_is_at_the_beginning(open_store: Open) -> None:
    """A new store has applied nothing of any journal, and answers that it holds nothing."""
    store = open_store()

    assert 0 == store.position("journal")
    assert 0 == store.trimmable("journal")
    assert Features(totals=(), data_since=None) == store.list_features("production", None, None)
    assert Page(rows=(), next=None) == store.list_evaluations(Filter(environment="production"), 10, None)


def test_applied_survives_reopening(open_store: Open) -> None:
    """Rows and position are there after the store was closed and opened again."""
    store = open_store()
    apply(store, 1, 4)
    store.close()

    store = open_store()

    assert 4 == store.position("journal")
    assert expected_identities(1, 4) == identities(store)


def test_applying_twice_records_once(open_store: Open) -> None:
    """A range that was applied, and any part of the past, is applied once."""
    store = open_store()
    apply(store, 1, 3)
    apply(store, 1, 3)
    apply(store, 4, 5)
    apply(store, 1, 2)
    apply(store, 5, 5)

    assert 5 == store.position("journal")
    assert expected_identities(1, 5) == identities(store)


def test_overlap_is_refused(open_store: Open) -> None:
    """A range that begins within the past and ends beyond it is refused, and nothing of it is recorded."""
    store = open_store()
    apply(store, 1, 3)

    with pytest.raises(OverlapError):
        apply(store, 3, 4)

    assert 3 == store.position("journal")
    assert expected_identities(1, 3) == identities(store)


def test_a_gap_is_refused_by_its_name(open_store: Open) -> None:
    """Entries that are missing are named, and nothing behind them is recorded."""
    store = open_store()
    apply(store, 1, 3)

    with pytest.raises(BehindJournalError) as refusal:
        apply(store, 6, 7)

    assert "4-5" == refusal.value.gap
    assert "4-5" in str(refusal.value)
    assert 3 == store.position("journal")


def test_an_empty_store_does_not_begin_in_the_middle(open_store: Open) -> None:
    """A new store refuses a journal whose first entries are gone: history does not restart empty in silence."""
    with pytest.raises(BehindJournalError) as refusal:
        apply(open_store(), 5, 6)

    assert "1-4" == refusal.value.gap


def test_a_gap_can_be_accepted_by_its_name(open_store: Open) -> None:
    """The very gap that was named is passed over; another one is refused."""
    store = open_store(accept_gap="4-5")
    apply(store, 1, 3)
    apply(store, 6, 7)

    assert 7 == store.position("journal")
    assert expected_identities(6, 7) + expected_identities(1, 3) == identities(store)
    with pytest.raises(BehindJournalError):
        apply(store, 10, 10)


def test_another_journal_is_refused(open_store: Open) -> None:
    """A store that knows a journal has no position in another one and applies nothing of it, also after reopening."""
    store = open_store()
    apply(store, 1, 2)
    for _ in range(2):
        with pytest.raises(OtherJournalError):
            store.position("another")
        with pytest.raises(OtherJournalError):
            apply(store, 3, 3, stream="another")
        with pytest.raises(OtherJournalError):
            store.trimmable("another")
        store.close()
        store = open_store()

    assert expected_identities(1, 2) == identities(store)


def test_trimming_follows_checkpoints(open_store: Open) -> None:
    """What was applied is trimmable once a checkpoint has covered it, not before."""
    store = open_store()
    apply(store, 1, 3)
    assert 0 == store.trimmable("journal")
    store.checkpoint()
    apply(store, 4, 4)

    assert 3 == store.trimmable("journal")


def test_maintenance_makes_things_trimmable_in_time(open_store: Open) -> None:
    """With nothing more arriving, maintenance makes a checkpoint once its time has come."""
    store = open_store(checkpoint_seconds=3600.0)
    apply(store, 1, 3)
    store.maintain()
    assert 0 == store.trimmable("journal")
    store.close()

    store = open_store(checkpoint_seconds=0.0)
    apply(store, 4, 4)
    store.maintain()

    assert 4 == store.trimmable("journal")


def test_entries_set_aside_move_the_position(open_store: Open) -> None:
    """An entry that was set aside is done with: the position is behind it, and the next one is applied."""
    store = open_store()
    rows, discards = to_columns([])
    apart = SetAside(position=1, payload=b"\xff\x00", description="not a message")
    store.apply("journal", 1, 1, rows, discards, (apart,))
    apply(store, 2, 2)

    assert 2 == store.position("journal")
    assert expected_identities(2, 2) == identities(store)


def test_a_closed_store_says_so(open_store: Open) -> None:
    """Every method of a closed store raises StoreError."""
    store = open_store()
    store.close()
    for call in (
        lambda: store.position("journal"),
        lambda: apply(store, 1, 1),
        lambda: store.trimmable("journal"),
        store.checkpoint,
        store.maintain,
        lambda: store.list_features("production", None, None),
        lambda: store.list_evaluations(Filter(environment="production"), 1, None),
    ):
        with pytest.raises(StoreError):
            call()


def test_a_question_that_was_ended_is_not_begun(open_store: Open) -> None:
    """An interrupt that was asked before ends its question; others are answered."""
    store = open_store()
    apply(store, 1, 1)
    interrupt = Interrupt()
    interrupt.ask()

    with pytest.raises(QuestionEndedError):
        store.list_features("production", None, None, interrupt)
    with pytest.raises(QuestionEndedError):
        store.list_evaluations(Filter(environment="production"), 1, None, interrupt)
    assert 1 == len(store.list_evaluations(Filter(environment="production"), 1, None, Interrupt()).rows)
    assert expected_identities(1, 1) == identities(store)


def test_pages_survive_new_data(open_store: Open) -> None:
    """Pages read on where they were, whatever newer evaluations arrive in between."""
    store = open_store()
    apply(store, 1, 4)
    first = store.list_evaluations(Filter(environment="production"), 5, None)
    apply(store, 5, 9)
    second = store.list_evaluations(Filter(environment="production"), 100, first.next)

    assert expected_identities(1, 4) == [row.identity_identifier for row in first.rows + second.rows]


def test_questions_are_answered_while_rows_arrive(open_store: Open) -> None:
    """Questions from several threads see whole transactions, at the same time as others are applied and checkpointed."""
    store = open_store()
    apply(store, 1, 1)
    done = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while not done.is_set():
                found = identities(store)
                assert len(found) % 3 == 0
                assert len(found) == len(set(found))
        except BaseException as error:  # noqa: BLE001  # told to the test
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for position in range(2, 40):
        apply(store, position, position)
        if position % 5 == 0:
            store.checkpoint()
    done.set()
    for thread in threads:
        thread.join()

    assert [] == failures
    assert expected_identities(1, 39) == identities(store)


FEATURES_ASKED = ("a", "b", "c")
SEGMENTS = ("eu", "beta", "x y")


@st.composite
def small_records(draw: st.DrawFn) -> JournalRecord:
    """Draw a record over few names and times, so that questions hit and times tie."""
    receive_time = START + draw(st.integers(0, 5))
    record = record_of(environment=draw(st.sampled_from(["production", "staging"])), receive_time=receive_time)
    for _ in range(draw(st.integers(0, 5))):
        fields: dict[str, object] = {}
        if draw(st.booleans()):
            fields["enabled"] = draw(st.booleans())
        if draw(st.booleans()):
            fields["identity_identifier"] = draw(st.sampled_from(["u1", "u2", "é'\"\x01"]))
        add_evaluation(
            record,
            feature_name=draw(st.sampled_from(FEATURES_ASKED)),
            time=START + draw(st.integers(0, 6)),
            segment_names=draw(st.lists(st.sampled_from(SEGMENTS), max_size=2)),
            count=draw(st.integers(0, 4)),
            **fields,
        )
        if draw(st.booleans()):
            record.evaluations[-1].value.string_value = draw(st.sampled_from(["on", "off", 'q"']))
    return record


filters = st.builds(
    Filter,
    environment=st.sampled_from(["production", "staging", "nowhere"]),
    feature_name=st.sampled_from([None, *FEATURES_ASKED]),
    identity_identifier=st.sampled_from([None, None, "u1", "é'\"\x01"]),
    segment_name=st.sampled_from([None, None, *SEGMENTS]),
    start=st.one_of(st.none(), st.integers(START - 1, START + 6)),
    end=st.one_of(st.none(), st.integers(START, START + 8)),
)


def naive_rows(records: list[JournalRecord]) -> list[RecordedRow]:
    """Return what was recorded, straight from the messages."""
    return [
        RecordedRow(
            position=((number + 1) << 16) + i,
            feature_name=evaluation.feature_name,
            enabled=evaluation.enabled if evaluation.HasField("enabled") else None,
            value=json.dumps(evaluation.value.string_value) if evaluation.HasField("value") else None,
            evaluation_time=evaluation.evaluation_timestamp.ToMicroseconds(),
            identity_identifier=evaluation.identity_identifier if evaluation.HasField("identity_identifier") else None,
            traits=None,
            segment_names=list(evaluation.segment_names),
            variant="",
            reason="",
            metadata=None,
            count=evaluation.count or 1,
            environment=record.envelope.environment,
            batch_id="",
            receive_time=record.envelope.receive_time.ToMicroseconds(),
            origin=1,
            sdk_name="",
            sdk_version="",
        )
        for number, record in enumerate(records)
        for i, evaluation in enumerate(record.evaluations)
    ]


def within(row: RecordedRow, start: int | None, end: int | None) -> bool:
    """Return whether *row* lies in [start, end)."""
    return (start is None or row.evaluation_time >= start) and (end is None or row.evaluation_time < end)


def naive_page(rows: list[RecordedRow], asked: Filter) -> list[RecordedRow]:
    """Return every row that *asked* asks for, in order."""
    hits = [
        row
        for row in rows
        if row.environment == asked.environment
        and asked.feature_name in (None, row.feature_name)
        and asked.identity_identifier in (None, row.identity_identifier)
        and (asked.segment_name is None or asked.segment_name in row.segment_names)
        and within(row, asked.start, asked.end)
    ]
    return sorted(hits, key=lambda row: (row.evaluation_time, row.position), reverse=True)


def naive_features(rows: list[RecordedRow], asked: Filter) -> Features:
    """Return the totals of the environment and period that *asked* names."""
    mine = [row for row in rows if row.environment == asked.environment]
    totals = []
    for name in FEATURES_ASKED:
        hits = [row for row in mine if row.feature_name == name and within(row, asked.start, asked.end)]
        if hits:
            last = max(hits, key=lambda row: (row.evaluation_time, row.position))
            totals.append(
                FeatureTotals(
                    feature_name=name,
                    evaluation_count=sum(row.count for row in hits),
                    enabled_count=sum(row.count for row in hits if row.enabled),
                    identity_count=len({row.identity_identifier for row in hits} - {None}),
                    first_evaluation_time=min(row.evaluation_time for row in hits),
                    last_evaluation_time=last.evaluation_time,
                    last_value=last.value,
                )
            )
    return Features(totals=tuple(totals), data_since=min((row.receive_time for row in mine), default=None))


questions = {
    "drawn": st.lists(small_records(), min_size=1, max_size=8),
    "asked": st.lists(filters, min_size=3, max_size=3),
    "page_size": st.integers(1, 6),
    "seed": st.integers(0, 100),
}


def check_answers(store: Store, drawn: list[JournalRecord], asked: list[Filter], page_size: int, seed: int) -> None:
    """Apply *drawn* in pieces and compare every answer with the naive one."""
    entries, chance = entries_of(drawn), random.Random(seed)
    while entries:
        size = chance.randint(1, len(entries))
        taken, entries = entries[:size], entries[size:]
        store.apply("journal", taken[0].position, taken[-1].position, *to_columns(taken))
    rows = naive_rows(drawn)
    for question in asked:
        found: list[RecordedRow] = []
        cursor: Cursor | None = None
        while True:
            page = store.list_evaluations(question, page_size, cursor)
            assert len(page.rows) == page_size or page.next is None
            found += page.rows
            cursor = page.next
            if cursor is None:
                break

        assert naive_page(rows, question) == found
        assert naive_features(rows, question) == store.list_features(question.environment, question.start, question.end)
    store.close()


@pytest.mark.parametrize("open_", [DuckDBStore], ids=["duckdb"])
@settings(max_examples=10, deadline=None)
@given(**questions)
def test_answers_equal_a_naive_computation(
    tmp_path_factory: pytest.TempPathFactory,
    open_: Open,
    drawn: list[JournalRecord],
    asked: list[Filter],
    page_size: int,
    seed: int,
) -> None:
    """Every question gets the answer that a loop over the messages gives, however they were cut into transactions and pages."""
    check_answers(open_(tmp_path_factory.mktemp("store") / "store"), drawn, asked, page_size, seed)


@pytest.mark.slow
@pytest.mark.parametrize("open_", [DuckDBStore], ids=["duckdb"])
@settings(max_examples=150, deadline=None)
@given(**questions)
def test_more_answers_equal_a_naive_computation(
    tmp_path_factory: pytest.TempPathFactory,
    open_: Open,
    drawn: list[JournalRecord],
    asked: list[Filter],
    page_size: int,
    seed: int,
) -> None:
    """The same over more of them."""
    check_answers(open_(tmp_path_factory.mktemp("store") / "store"), drawn, asked, page_size, seed)
