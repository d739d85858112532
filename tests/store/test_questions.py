"""Answers of every store, compared with those of a naive computation over the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from flagledger.store import json_texts
from flagledger.store.base import Store
from flagledger.store.errors import TooManyBucketsError
from flagledger.store.intake import MAX_REJECTIONS, IntakeQuestion
from flagledger.store.questions import (
    EXPORT,
    MAX_ARMS,
    MAX_SDKS,
    CountQuestion,
    Counts,
    Cursor,
    Exposure,
    ExposureQuestion,
    Filter,
    Group,
    Page,
    RecordedRow,
    Series,
)
from flagledger.v1.evaluation_pb2 import IdentityTrait
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store import naive, naive_buckets, stores
from store.recorded import Recorded, pages
from support import askable
from support.askable import Example
from support.records import add_evaluation, record_of, value_of

# One store serves all examples of a test.
quick = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
long = settings(quick, max_examples=40)


def recorded(store: Store, example: Example, cut: int | None = None) -> Recorded:
    """Apply the records of *example*, in two transactions where they are *cut*."""
    ledger = Recorded(store)
    for part in (example.records[:cut], example.records[cut:] if cut else ()):
        ledger.apply(part)
    return ledger


def test_environments(store: Store) -> None:
    """Those that hold evaluations are named, in order, and no others."""
    assert () == store.environments()

    ledger = Recorded(store)
    for environment in ("shop", "blog", "shop"):
        record = record_of(environment=environment)
        add_evaluation(record)
        ledger.apply([record])

    assert (ledger.environment("blog"), ledger.environment("shop")) == store.environments()


def check_features(store: Store, example: Example) -> None:
    """Compare the totals of features."""
    ledger = recorded(store, example, 2)
    for question in map(ledger.asked, example.questions):
        asked = of_features(question)
        found = store.list_features(asked.environment, asked.start, asked.end, None, asked.feature_name)

        assert naive.list_features(ledger.rows, asked) == found


def of_features(asked: Filter) -> Filter:
    """Return what of *asked* can be asked about features."""
    return Filter(environment=asked.environment, feature_name=asked.feature_name, start=asked.start, end=asked.end)


def check_counts(store: Store, example: Example) -> None:
    """Compare counts, and refusals of too many buckets."""
    ledger = recorded(store, example, 2)
    for question in example.questions:
        asked = replace(question, filter=ledger.asked(question.filter))
        expected = naive.count_evaluations(ledger.rows, asked)
        if expected is None:
            with pytest.raises(TooManyBucketsError, match="1,500"):
                store.count_evaluations(asked)
        else:
            assert expected == as_kept(store.count_evaluations(asked), asked)


def as_kept(counts: Counts, question: CountQuestion) -> Counts:
    """Return *counts*, the JSON of groups in the form in which it is kept: a store may write it otherwise."""

    def series(each: Series) -> Series:
        groups = [
            json_texts.canonical(value) if group.kind in ("value", "trait") and isinstance(value, str) else value
            for group, value in zip(question.group_by, each.groups, strict=False)
        ]
        return replace(each, groups=tuple(groups))

    return replace(counts, series=tuple(map(series, counts.series)))


def check_evaluations(store: Store, example: Example, page_size: int) -> None:
    """Compare evaluations, page by page; between the first page and the second more are recorded."""
    ledger = Recorded(store)
    ledger.apply(example.records[:-1])
    first = [(asked, ask_page(store, asked, page_size, None)) for asked in map(ledger.asked, example.questions)]
    for asked, page in first:
        assert naive.list_evaluations(ledger.rows, asked)[:page_size] == list(page.rows)
    ledger.apply(example.records[-1:])
    for asked, page in first:
        found = pages(lambda cursor, asked=asked: ask_page(store, asked, page_size, cursor))
        assert naive.list_evaluations(ledger.rows, asked) == found
        if page.next is not None:
            after = (page.next.evaluation_time, page.next.position)
            behind = pages(
                lambda cursor, asked=asked, page=page: ask_page(store, asked, page_size, cursor or page.next)
            )
            assert [row for row in found if (row.evaluation_time, row.position) < after] == behind


def ask_page(store: Store, asked: Filter, page_size: int, cursor: Cursor | None) -> Page:
    """Return a page of *store*, which is full unless it is the last one."""
    page = store.list_evaluations(asked, page_size, cursor)
    assert page_size == len(page.rows) or page.next is None
    return page


def check_exposures(store: Store, example: Example, page_size: int) -> None:
    """Compare exposures, page by page, and arms."""
    ledger = recorded(store, example, 2)
    for asked in map(ledger.asked, example.questions):
        found = list(store.list_exposures(asked, 100, None).rows)

        assert naive.list_exposures(ledger.rows, asked) == in_order(found)
        first = store.list_exposures(asked, page_size, None)
        behind = store.list_exposures(asked, page_size, first.next)
        sampled = naive.exposures_sampled(ledger.rows, asked)
        assert [sampled, sampled] == [page.identities_lower_bound for page in (first, behind)]
        assert found == pages(lambda cursor, asked=asked: store.list_exposures(asked, page_size, cursor))
        assert naive.count_arms(ledger.rows, asked, page_size) == store.count_arms(asked, page_size)


def in_order(exposures: Sequence[Exposure]) -> list[Exposure]:
    """Return *exposures* by identity too; a store has them by feature, and of one feature in an order of its own."""
    assert sorted(row.feature_name for row in exposures) == [row.feature_name for row in exposures]
    return sorted(exposures, key=lambda row: (row.feature_name, row.identity_identifier))


def check_intake(store: Store, example: Example, known: frozenset[str], limit: int) -> None:
    """Compare intake and unknown names."""
    ledger = recorded(store, example, 2)
    for asked in map(ledger.asked, example.questions):
        expected = naive.intake(ledger.rows, ledger.discards, asked)
        if expected is None:
            with pytest.raises(TooManyBucketsError, match="1,500"):
                store.intake(asked)
        else:
            assert expected == store.intake(asked)
        period = (asked.environment, asked.start, asked.end, known, limit)
        assert naive.list_unknown_features(ledger.discards, *period) == store.list_unknown_features(*period)


def check_export(store: Store, example: Example, cut: int) -> None:
    """Compare exports, and what a second one adds once more has been recorded."""
    ledger = Recorded(store)
    before = 0
    ledger.apply(example.records[:cut])
    first = {}
    for number, asked in enumerate(map(ledger.asked, example.questions)):
        export = store.export(asked, before)
        found = exported(export.batches)
        assert naive.export(ledger.rows, asked, before) == found
        first[number] = export.last_position, found
    ledger.apply(example.records[cut:])
    for number, asked in enumerate(map(ledger.asked, example.questions)):
        last_position, found = first[number]
        more = exported(store.export(asked, last_position).batches)

        assert naive.export(ledger.rows, asked, 0) == found + more
        assert naive.export(ledger.rows, asked, last_position) == more


def exported(batches: Iterator[pa.RecordBatch]) -> list[RecordedRow]:
    """Return the rows of *batches* in order; a batch begins behind the one before."""
    found: list[RecordedRow] = []
    for batch in batches:
        assert EXPORT == batch.schema
        rows = sorted((exported_row(row) for row in batch.to_pylist()), key=lambda row: row.position)
        assert not found or not rows or found[-1].position < rows[0].position
        found += rows
    return found


def exported_row(fields: dict[str, Any]) -> RecordedRow:
    """Return a row of an export as the other questions have it."""
    times = {
        name: (fields.pop(column) - naive_buckets.EPOCH.replace(tzinfo=None)) // naive_buckets.MICROSECOND
        for name, column in (("evaluation_time", "evaluation_timestamp"), ("receive_time", "receive_time"))
    }
    return RecordedRow(traits=fields.pop("identity_traits"), **times, **fields)


def check_erasure(store: Store, example: Example, identity: str) -> None:
    """Compare what is left of everything once an identity has been erased from an environment."""
    ledger = recorded(store, example)
    environment = ledger.environment("production")
    gone = [row for row in ledger.rows if (row.environment, row.identity_identifier) == (environment, identity)]

    assert len(gone) == store.erase_identity(environment, identity)
    assert 0 == store.erase_identity(environment, identity)
    ledger.rows = [row for row in ledger.rows if row not in gone]
    check_what_is_left(ledger)


def check_dropping(store: Store, example: Example) -> None:
    """Compare what is left of everything once old rows have been dropped: all of them, or those of whole days."""
    while store.drop_before(1 << 52):
        pass
    ledger = recorded(store, example)
    received = example.questions[0].start or example.questions[0].end or 0
    end = stores.end_of_dropped(store, received)
    old = [each for each in (*ledger.rows, *ledger.discards) if each.receive_time < end]

    dropped = 0
    while more := store.drop_before(received):
        dropped += more

    assert len(old) == dropped
    ledger.rows = [row for row in ledger.rows if row not in old]
    ledger.discards = [discard for discard in ledger.discards if discard not in old]
    check_what_is_left(ledger)


def check_what_is_left(ledger: Recorded) -> None:
    """Compare answers about everything."""
    store = ledger.store
    for environment in map(ledger.environment, askable.ENVIRONMENTS):
        everything = Filter(environment=environment)
        rows = naive.list_evaluations(ledger.rows, everything)
        assert rows == pages(lambda cursor, asked=everything: store.list_evaluations(asked, 10, cursor))
        assert sorted(rows, key=lambda row: row.position) == exported(store.export(everything, 0).batches)
        assert naive.list_features(ledger.rows, everything) == store.list_features(environment, None, None)
        counts = CountQuestion(filter=everything, group_by=(Group(kind="value"), Group(kind="segment")))
        assert naive.count_evaluations(ledger.rows, counts) == store.count_evaluations(counts)
        exposures = ExposureQuestion(environment=environment)
        found = store.list_exposures(exposures, 100, None).rows
        assert naive.list_exposures(ledger.rows, exposures) == in_order(found)
        intake = IntakeQuestion(environment=environment)
        assert naive.intake(ledger.rows, ledger.discards, intake) == store.intake(intake)


CHECKS: dict[str, tuple[Callable[..., None], dict[str, st.SearchStrategy[Any]]]] = {
    "features": (check_features, {"example": askable.examples(askable.filters)}),
    "counts": (check_counts, {"example": askable.examples(askable.count_questions)}),
    "evaluations": (
        check_evaluations,
        {"example": askable.examples(askable.filters), "page_size": st.integers(1, 9)},
    ),
    "exposures": (
        check_exposures,
        {"example": askable.examples(askable.exposure_questions), "page_size": st.integers(1, 4)},
    ),
    "intake": (
        check_intake,
        {
            "example": askable.examples(askable.intake_questions),
            "known": st.frozensets(st.sampled_from(askable.UNKNOWN), max_size=2),
            "limit": st.integers(1, 3),
        },
    ),
    "export": (check_export, {"example": askable.examples(askable.filters), "cut": st.integers(0, 3)}),
    "erasure": (
        check_erasure,
        {"example": askable.examples(askable.filters), "identity": st.sampled_from(askable.IDENTITIES)},
    ),
    "dropping": (check_dropping, {"example": askable.examples(askable.filters)}),
}


# Some seconds, unless an example fails and is made smaller.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("about", CHECKS)
def test_answers_equal_a_naive_computation(store: Store, about: str) -> None:
    """Whatever is recorded, erased and asked, the answer is that of a loop over the rows."""
    compare(store, about, quick)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("about", CHECKS)
def test_many_answers_equal_a_naive_computation(store: Store, about: str) -> None:
    """The same over many more rows."""
    compare(store, about, long)


def compare(store: Store, about: str, extent: settings) -> None:
    """Compare answers about something over as many examples as *extent* says."""
    check, drawn = CHECKS[about]

    @extent
    @given(**drawn)
    def compared(**arguments: Any) -> None:
        check(store, **arguments)

    compared()


def test_any_key_names_its_trait(store: Store) -> None:
    """A trait is found by its key, whatever characters that is made of, and no other is taken for it."""
    record = record_of(environment="production")
    for number, key in enumerate(askable.KEYS):
        traits = [(key, number), *((other, -1) for other in askable.KEYS if other != key), (key, -2)]
        add_evaluation(
            record,
            identity_identifier=str(number),
            identity_traits=[
                IdentityTrait(trait_key=name, trait_value=value_of(float(value))) for name, value in traits
            ],
        )
    add_evaluation(record)
    ledger = Recorded(store)
    ledger.apply([record])
    for number, key in enumerate(askable.KEYS):
        asked = Filter(environment=ledger.environment("production"), trait_key=key, trait_value=str(number))
        assert [str(number)] == [row.identity_identifier for row in store.list_evaluations(asked, 100, None).rows]
        question = CountQuestion(
            filter=replace(asked, trait_key=None, trait_value=None), group_by=(Group(kind="trait", trait_key=key),)
        )
        counts = store.count_evaluations(question)
        assert naive.count_evaluations(ledger.rows, question) == as_kept(counts, question)
        assert {("-1",): len(askable.KEYS) - 1, (str(number),): 1, (None,): 1} == {
            series.groups: series.total.evaluation_count for series in counts.series
        }


def test_only_the_most_frequent_are_named(store: Store) -> None:
    """Of too many SDKs, arms and wrong fields the most frequent are named, of equally frequent ones the first by name."""
    records = []
    for number in range(130):
        record = record_of(environment="production")
        record.envelope.sdk_name = f"sdk-{number % 25:02}"
        for reason, name in (("unknown_feature", "Checkout"), ("invalid", f"evaluations[].metadata.{number:03}")):
            record.envelope.discards.add(reason=reason, name=name, entry_count=1 + number % 3)
        for each in range(2):
            identity = f"{number}/{each}"
            add_evaluation(record, variant=f"arm-{number % 60:02}", identity_identifier=identity, count=1 + number % 3)
        records.append(record)
    ledger = Recorded(store)
    ledger.apply(records)
    environment = ledger.environment("production")

    assert naive.list_features(ledger.rows, Filter(environment=environment)) == store.list_features(
        environment, None, None
    )
    question = ExposureQuestion(environment=environment)
    (arms,) = store.count_arms(question, 1)
    assert (arms,) == naive.count_arms(ledger.rows, question, 1)
    assert MAX_ARMS + 1 == len(arms.arms)
    period = (environment, None, None, frozenset[str](), 10)
    unknown = store.list_unknown_features(*period)
    assert naive.list_unknown_features(ledger.discards, *period) == unknown
    assert MAX_SDKS == len(unknown.names[0].sdks)
    intake = store.intake(IntakeQuestion(environment=environment))
    assert naive.intake(ledger.rows, ledger.discards, IntakeQuestion(environment=environment)) == intake
    assert MAX_REJECTIONS == len(intake.rejections)
