from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from flagledger.store import opening
from flagledger.store.applied import Applied, Stream
from flagledger.store.base import Store
from flagledger.store.copying import CopyRefusedError, DifferenceError, Step, copy, open_source, up_to
from flagledger.store.errors import OtherJournalError, StoreError
from hypothesis import given, settings
from store import moved, stores
from store.stores import DAY
from support.records import START, add_evaluation, record_of, value_of

At = Callable[..., Store]

few = settings(max_examples=2, deadline=None)
many = settings(max_examples=10, deadline=None)
PAIRS = list(itertools.product(stores.kinds(), repeat=2))


@pytest.fixture
def at(tmp_path: Path) -> Iterator[At]:
    """Open stores by kind and name, which are closed when the test ends."""
    opened: list[Store] = []

    def open_(kind: str, name: str) -> Store:
        opened.append(stores.open_store(kind, tmp_path / name))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def source(at: At) -> Store:
    """Return an embedded store."""
    return at("duckdb", "source")


@pytest.fixture
def target(at: At) -> Store:
    """Return another one."""
    return at("duckdb", "target")


def silently(_step: Step) -> None:
    """Tell nobody."""


def simple(entries: int, identity: str = "u", *, day: int = 0) -> list[moved.Item]:
    """Return so many *entries* of one evaluation each, received on a day."""
    records: list[moved.Item] = []
    for number in range(entries):
        record = record_of(receive_time=START + day * DAY + number)
        add_evaluation(record, identity_identifier=identity, time=START + number)
        records.append(record)
    return records


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_there_and_back(at: At, one: str, other: str) -> None:
    """Whatever was recorded is the same in a store of another kind, and the same again once it has been copied back."""
    there_and_back(at, one, other, few)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_there_and_back_over_much(at: At, one: str, other: str) -> None:
    """The same over much more."""
    there_and_back(at, one, other, many)


def there_and_back(at: At, one: str, other: str, extent: settings) -> None:
    """Copy, and copy back, over as many examples as *extent* says."""
    number = itertools.count()

    @extent
    @given(drawn=moved.items(min_size=4, max_size=12))
    def copied(drawn: list[moved.Item]) -> None:
        name = str(next(number))
        source, there, back = at(one, f"{name}-source"), at(other, f"{name}-there"), at(one, f"{name}-back")
        moved.apply(source, drawn)
        expected = moved.expected(drawn)

        first = copy(source, there, silently)
        second = copy(there, back, silently)

        assert [expected] * 3 == [moved.content_of(store) for store in (source, there, back)]
        stream = Stream(identity="journal", position=len(drawn))
        assert [stream] * 3 == [store.stream() for store in (source, there, back)]
        counts = {
            "evaluations": len(expected.rows),
            "discards": len(expected.discards),
            "set-aside entries": len(expected.set_aside),
        }
        assert (stream, 0, counts, 0) == (first.stream, first.after, first.counts, first.outlived)
        assert (first.checksum, first.counts, first.rows) == (second.checksum, second.counts, second.rows)
        assert len(expected.rows) == first.rows
        for store in (source, there, back):
            store.close()

    copied()


def copied_now(source: Store, target: Store) -> tuple[int, int]:
    """Copy, and return behind which position that began, and how many evaluations it copied."""
    done = copy(source, target, silently)
    return done.after, done.rows


@pytest.mark.parametrize("kind", stores.kinds())
def test_it_goes_on_where_it_was(at: At, source: Store, kind: str) -> None:
    """What has been recorded since the last copy is added to it; run once more, there is nothing left."""
    target = at(kind, "target")
    items = simple(9)
    moved.apply(source, items[:4])
    assert (0, 4) == copied_now(source, target)
    moved.apply(source, items[4:], 5)

    done = copy(source, target, silently)

    assert (4, 5, 9) == (done.after, done.rows, done.counts["evaluations"])
    assert moved.expected(items) == moved.content_of(target)
    assert (9, 0) == copied_now(source, target)


def test_a_service_goes_on_with_the_copy(source: Store, at: At) -> None:
    """The target is a store as any other: the journal's next entry is applied to it, and one before is not."""
    moved.apply(source, simple(4))
    target = at("duckdb", "target")
    copy(source, target, silently)
    target.close()
    target = at("duckdb", "target")
    target.check_reach("journal", 5)
    moved.apply(target, simple(1, "again"), 4)
    moved.apply(target, simple(1, "next"), 5)

    assert [*["u"] * 4, "next"] == sorted(
        (row["identity_identifier"] for row in moved.content_of(target).rows), key=lambda name: name != "u"
    )
    with pytest.raises(OtherJournalError):
        target.position("another")


class Halting:
    """A store that gives what it holds in ranges of two entries at most."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def applied(self, after: int) -> Iterator[Applied]:
        """Yield ranges behind *after*."""
        known = self._store.stream()
        end = known.position if known else 0
        for behind in range(after, end, 2):
            yield up_to(next(iter(self._store.applied(behind))), min(behind + 2, end))


def test_every_range_is_told(source: Store, target: Store) -> None:
    """Of each phase the first and the last position are told, how far it is, and how many evaluations that were."""
    moved.apply(target, simple(1))
    moved.apply(source, simple(6))
    steps: list[Step] = []

    copy(Halting(source), Halting(target), steps.append)  # type: ignore[arg-type]

    by_phase = {phase: list(each) for phase, each in itertools.groupby(steps, key=lambda step: step.phase)}
    assert ["copying", "checking the source", "checking the target"] == list(by_phase)
    for phase, each in by_phase.items():
        first, rows = (1, 5) if phase == "copying" else (0, 6)
        assert {(first, 6)} == {(step.first, step.last) for step in each}
        assert (6, rows) == (each[-1].position, sum(step.rows for step in each))
        assert len(each) > 1


def test_what_the_source_has_dropped_is_not_there(source: Store, target: Store) -> None:
    """What outlived its retention is not copied; the position is that of the source all the same."""
    moved.apply(source, [*simple(3), *simple(2, "new", day=3)])
    while source.drop_before(START // DAY * DAY + DAY):
        pass

    done = copy(source, target, silently)

    assert ({"evaluations": 2, "discards": 0, "set-aside entries": 0}, 0) == (done.counts, done.outlived)
    assert Stream(identity="journal", position=5) == target.stream()
    assert moved.content_of(source) == moved.content_of(target)


def test_what_the_source_drops_later_is_no_difference(source: Store, target: Store) -> None:
    """Where the source has dropped since what was copied before, the target holds more, all of it older: that is said."""
    moved.apply(source, [*simple(3), b"broken", *simple(2, "new", day=3)])
    copy(source, target, silently)
    while source.drop_before(START // DAY * DAY + DAY):
        pass
    moved.apply(source, simple(1, "newest", day=3), 7)

    done = copy(source, target, silently)

    assert (3, 3) == (done.counts["evaluations"], done.outlived)
    assert 6 == len(moved.content_of(target).rows)


def test_what_was_erased_since_is_a_difference(source: Store, target: Store) -> None:
    """An identity that was erased from the source alone is still in the target: nobody is told that both hold the same."""
    moved.apply(source, [*simple(2), *simple(2, "gone"), *simple(1_500, "later")], at_once=1_504)
    copy(source, target, silently)
    source.erase_identity("production", "gone")

    with pytest.raises(DifferenceError, match=r"there are 4 in the source and 6 in the target.* copy into a new store"):
        copy(source, target, silently)
    target.erase_identity("production", "gone")
    assert 1_502 == copy(source, target, silently).counts["evaluations"]


class Tampering:
    """A store whose answers, or what is applied to it, are changed on the way."""

    def __init__(self, store: Store, change: Callable[[Applied], Applied], *, from_range: int = 0) -> None:
        self._store, self._change, self._from_range = store, change, from_range

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def apply(self, stream, first, last, rows, discards, set_aside) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Apply what was made of it."""
        found = Applied(first=first, last=last, rows=rows, discards=discards, set_aside=tuple(set_aside))
        changed = self._change(found)
        self._store.apply(stream, first, last, changed.rows, changed.discards, changed.set_aside)


def set_column(rows: pa.RecordBatch, name: str, value: object) -> pa.RecordBatch:
    """Return *rows* with *value* in the last row of a column."""
    field = rows.schema.field(name)
    column = pa.array([*rows.column(name).to_pylist()[:-1], value], field.type)
    return rows.set_column(rows.schema.get_field_index(name), field, column)


CHANGES: dict[str, Callable[[Applied], Applied]] = {
    "another value": lambda found: replace(found, rows=set_column(found.rows, "value", '"other"')),
    "no value": lambda found: replace(found, rows=set_column(found.rows, "value", None)),
    "another count": lambda found: replace(found, rows=set_column(found.rows, "count", 2)),
    "a lost row": lambda found: replace(found, rows=found.rows.slice(1)),
    "a lost discard": lambda found: replace(found, discards=found.discards.slice(1)),
    "another discard": lambda found: replace(found, discards=set_column(found.discards, "name", "Chekout")),
    "a lost entry": lambda found: replace(found, set_aside=()),
    "another payload": lambda found: replace(found, set_aside=(replace(found.set_aside[0], payload=b"?"),)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", stores.kinds())
def test_what_is_not_the_same_is_found(at: At, source: Store, kind: str, change: str) -> None:
    """Whatever happens to a single one on its way, the copy does not pass for one."""
    record = record_of()
    record.envelope.discards.add(reason="unknown_feature", name="chekout", entry_count=1)
    add_evaluation(record, value=value_of("on"))
    moved.apply(source, [record, b"broken", record])
    target = at(kind, "target")

    with pytest.raises(
        DifferenceError, match=r"What was copied is not what the source holds: of the (evaluations|disc|set)"
    ):
        copy(source, Tampering(target, CHANGES[change]), silently)  # type: ignore[arg-type]
    # Nor the next time, though there is nothing left to copy.
    with pytest.raises((DifferenceError, CopyRefusedError)):
        copy(source, target, silently)


@pytest.mark.parametrize("kind", stores.kinds())
def test_a_target_of_another_journal_is_refused(at: At, source: Store, kind: str) -> None:
    """A store that knows another journal is left as it is."""
    target = at(kind, "target")
    moved.apply(target, simple(2), stream="another")
    moved.apply(source, simple(3))
    before = moved.content_of(target)

    with pytest.raises(CopyRefusedError, match="records another journal than the source"):
        copy(source, target, silently)
    assert before == moved.content_of(target)
    assert Stream(identity="another", position=2) == target.stream()


@pytest.mark.parametrize("kind", stores.kinds())
def test_a_target_that_is_ahead_is_refused(at: At, source: Store, kind: str) -> None:
    """A store that has come further than the source has recorded something else."""
    target = at(kind, "target")
    moved.apply(target, simple(3))
    moved.apply(source, simple(2))

    with pytest.raises(CopyRefusedError, match="at position 3, ahead of the source, which is at 2"):
        copy(source, target, silently)
    assert 3 == target.position("journal")


@pytest.mark.parametrize("kind", stores.kinds())
def test_a_target_with_other_rows_is_refused(at: At, source: Store, kind: str) -> None:
    """A store that recorded other entries of the same journal, as after a backup was put back, gets nothing more."""
    target = at(kind, "target")
    moved.apply(source, [*simple(2), *simple(3, "ours")])
    moved.apply(target, [*simple(2), *simple(1, "theirs")])

    with pytest.raises(
        CopyRefusedError, match="of the evaluations of entries 3 to 3 there are 1 in both, and they are not"
    ):
        copy(source, target, silently)
    assert 3 == target.position("journal")


def test_nothing_is_copied_of_nothing(source: Store, target: Store) -> None:
    """A source to which nothing was ever applied is told, and the target stays new."""
    with pytest.raises(CopyRefusedError, match="nothing has ever been applied"):
        copy(source, target, silently)
    assert None is target.stream()


class Beginning:
    """A target that notes which range it begins, as one without transactions must; while it is dying it gets no further."""

    def __init__(self, store: Store) -> None:
        self.store, self.range, self.dying = store, (0, 0), False

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def begun(self, _stream: str) -> int | None:
        """Return where the range ends that was begun."""
        return self.range[1] or None

    def withdraw(self, _stream: str) -> None:
        """Forget it."""
        self.range = (0, 0)

    def apply(self, stream, first, last, *rest) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN002
        """Begin, and go on with the very range."""
        assert self.range in ((0, 0), (first, last))
        self.range = (first, last)
        if self.dying:
            raise StoreError("killed")
        self.store.apply(stream, first, last, *rest)
        self.range = (0, 0)


@pytest.mark.parametrize("end", [1, 3, 5])
def test_what_was_begun_is_taken_back(source: Store, target: Store, end: int) -> None:
    """A range that an earlier copy has begun, shorter or longer than what the source gives now, is in nobody's way."""
    moved.apply(source, simple(5))
    beginning = Beginning(target)
    beginning.range = (1, end)

    copy(Halting(source), beginning, silently)  # type: ignore[arg-type]

    assert (0, 0) == beginning.range
    assert moved.expected(simple(5)) == moved.content_of(target)


def test_a_copy_that_fails_goes_on(source: Store, target: Store) -> None:
    """After a failure in the middle of a range the same call ends what was begun."""
    moved.apply(source, simple(5))
    beginning = Beginning(target)
    beginning.dying = True
    with pytest.raises(StoreError, match="killed"):
        copy(source, beginning, silently)  # type: ignore[arg-type]
    beginning.dying = False
    moved.apply(source, simple(2, "later"), 6)

    assert 7 == copy(source, beginning, silently).rows  # type: ignore[arg-type]
    assert moved.content_of(source) == moved.content_of(target)


def test_a_source_goes_on_while_it_is_copied(at: At) -> None:
    """What a live source records during a copy is copied by the next one."""
    source, target = at("postgres", "source"), at("duckdb", "target")
    moved.apply(source, simple(3))
    more = iter([simple(2, "later")])

    def record_more(step: Step) -> None:
        if step.phase == "copying":
            for items in more:
                moved.apply(source, items, 4)

    done = copy(source, target, record_more)
    assert (3, 3) == (done.rows, done.stream.position)
    done = copy(source, target, silently)
    assert (2, 5) == (done.rows, done.stream.position)


def test_a_range_ends_where_it_is_cut() -> None:
    """Of every kind that is left which lies before the end, and nothing behind it."""
    items = [*simple(2), b"broken", *simple(2), b"broken"]
    whole = moved.applied(items)

    for last in range(1, 7):
        part = up_to(whole, last)
        assert moved.expected(items[:last]) == moved.read_back([part], 1, last)


@pytest.mark.parametrize("kind", ["duckdb", "chdb"])
def test_a_source_is_not_made(tmp_path: Path, kind: str) -> None:
    """A path where nothing is, is no source, and nothing is there afterwards."""
    with pytest.raises(CopyRefusedError, match="There is no store at"):
        open_source(f"{kind}:{tmp_path / 'nothing'}")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", stores.kinds())
def test_a_source_is_opened_by_its_url(at: At, tmp_path: Path, kind: str) -> None:
    """A store that others share is opened beside its writer, and only read; a file once that is gone."""
    store = at(kind, "source")
    moved.apply(store, simple(2))
    if kind == "duckdb":
        store.close()
    source = open_source(stores.url_of(kind, tmp_path / "source"))
    target = opening.open_store(f"duckdb:{tmp_path / 'target'}")

    assert 2 == copy(source, target, silently).rows
    source.close()
    target.close()
