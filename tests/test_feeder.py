from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import structlog
from flagledger import feeder as feeder_module
from flagledger.feeder import Feeder
from flagledger.store.errors import StoreError
from flagledger.store.influxdb.address import parse_address
from flagledger.store.influxdb.connection import Connection
from flagledger.store.influxdb.sink import InfluxSink
from flagledger.store.sink_progress import Progress, ProgressFile
from flagledger.store.sinks import Memory, Sent, SinkError
from support.counted import SECOND, CountsStore, Row, row, sums_of
from support.influxdb_stub import InfluxStub, Reply, influxdb_stub, refusal


class Crash(BaseException):
    """The end of a process, as far as a test can have one within its own."""


class ListSink:
    """
    A sink that keeps what it is sent.

    Attributes:
        sent: Rows and nanoseconds of each range that was taken.
        failures: What the next calls raise; None for nothing.
    """

    def __init__(self, target: str = "host/flags") -> None:
        self.target = target
        self.sent: list[tuple[list[dict[str, Any]], int]] = []
        self.failures: list[Exception | None] = []
        self.refused = 0
        self.closed = False

    def learn(self, counts: pa.Table, memory: Memory) -> Memory:
        """Remember how many ranges were begun."""
        return {"begun": memory.get("begun", 0) + 1}

    def send(self, counts: pa.Table, memory: Memory, nanoseconds: int) -> Sent:
        """Keep *counts*."""
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        self.sent.append((counts.to_pylist(), nanoseconds))
        return Sent(
            taken=counts.num_rows - self.refused, refused=self.refused, reason="too old" if self.refused else ""
        )

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Counting:
    """Metrics that can be looked at, and that may act once nothing is behind."""

    def __init__(self, done: Callable[[], None] = lambda: None) -> None:
        self.lines = self.refused = self.ranges = self.failures = 0
        self.waiting: list[int] = []
        self.done = done

    def sent(self, lines: int, refused: int) -> None:
        """Count."""
        self.ranges += 1
        self.lines += lines
        self.refused += refused

    def sink_failed(self) -> None:
        """Count."""
        self.failures += 1

    def behind(self, entries: int) -> None:
        """Keep."""
        self.waiting.append(entries)
        if not entries:
            self.done()


Start = Callable[..., Feeder]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start feeders that end with the test; they keep their progress in one file."""
    feeders: list[Feeder] = []

    def starter(sink: Any, store: CountsStore | Callable[[], Any], **options: Any) -> Feeder:
        source: Callable[[], Any] = (lambda: store) if isinstance(store, CountsStore) else store
        options = {"pause_seconds": 0.01, "first_backoff_seconds": 0.01, **options}
        feeder = Feeder(sink, source, options.pop("stream", "journal"), tmp_path / "sink.json", **options)
        feeders.append(feeder)
        feeder.start()
        return feeder

    yield starter
    for feeder in feeders:
        feeder.stop()


@pytest.fixture
def stub() -> Iterator[InfluxStub]:
    """Return a stub of an InfluxDB."""
    with influxdb_stub() as running:
        yield running


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.005)


def saved(tmp_path: Path, target: str = "host/flags", stream: str = "journal") -> Progress:
    """Return what the file says."""
    return ProgressFile(tmp_path / "sink.json", stream, target).load()


def influx_of(stub: InfluxStub, **options: Any) -> InfluxSink:
    """Return a sink into *stub*."""
    return InfluxSink(parse_address(f"influxdb://127.0.0.1:{stub.port}/flags"), **options)


def entries(number: int, first: int = 0) -> list[list[Row]]:
    """Return entries that can be told apart, of some features, variants and seconds."""
    return [
        [
            row(feature=f"f{i % 3}", variant=f"v{i % 25:02}", second=SECOND + i // 4, count=i + 1),
            row(feature=f"f{i % 3}", enabled=i % 2 == 0, environment=f"e{i % 2}"),
        ]
        for i in range(first, first + number)
    ]


def test_everything_is_sent_once(start: Start, tmp_path: Path) -> None:
    """What the store holds is sent, and what comes later; the file says how far that is."""
    sink, store, metrics = ListSink(), CountsStore(entries(3)), Counting()
    start(sink, store, metrics=metrics)
    until(lambda: saved(tmp_path).position == 3)
    store.entries += entries(2, first=3)
    until(lambda: saved(tmp_path).position == 5)
    until(lambda: metrics.waiting[-1] == 0)

    assert [(0, 3), (3, 5)] == store.asked
    assert sum(one[-1] for entry in store.entries for one in entry) == sum(
        one["evaluation_count"] for rows, _ in sink.sent for one in rows
    )
    assert (2, 10, 0, 0) == (metrics.ranges, metrics.lines, metrics.refused, metrics.failures)
    assert Progress(position=5, memory={"begun": 2}) == saved(tmp_path)


def test_ranges_are_bounded_and_follow_one_another(start: Start, tmp_path: Path) -> None:
    """What has gathered goes in ranges of so many entries, without a pause between them."""
    sink, store = ListSink(), CountsStore(entries(10))
    start(sink, store, range_entries=4, pause_seconds=30)
    until(lambda: saved(tmp_path).position == 10)

    assert [(0, 4), (4, 8), (8, 10)] == store.asked
    assert 3 == len({nanoseconds for _, nanoseconds in sink.sent})


def test_ranges_of_many_lines_are_cut(start: Start, tmp_path: Path) -> None:
    """
    A range that comes to too many rows is halved before it is begun, without asking for all of them, and those behind it begin as
    small; a single entry is a range whatever it holds.
    """
    store = CountsStore([[row(feature=f"{i}/{j}") for j in range(10)] for i in range(8)])
    sink = ListSink()
    start(sink, store, range_lines=25)
    until(lambda: saved(tmp_path).position == 8)
    assert [20, 20, 20, 20] == [len(rows) for rows, _ in sink.sent]
    assert {26} == set(store.limits)

    store.entries.append([row(feature=str(j)) for j in range(30)])
    until(lambda: saved(tmp_path).position == 9)
    assert 30 == len(sink.sent[-1][0])


def test_entries_without_counts_are_passed(start: Start, tmp_path: Path) -> None:
    """Entries that came to nothing, or that the store has dropped, are no reason to send or to write anything."""
    metrics = Counting()
    store = CountsStore([[], [], []])
    start(ListSink(), store, metrics=metrics)
    until(lambda: metrics.waiting[-1:] == [0])
    assert not (tmp_path / "sink.json").exists()

    store.entries.append([row()])
    until(lambda: metrics.ranges == 1)
    until(lambda: saved(tmp_path).position == 4)
    assert (3, 4) == store.asked[-1]


def test_at_most_one_range_in_a_while(start: Start) -> None:
    """What trickles in is gathered: from one range to the next there is a pause."""
    sink, store = ListSink(), CountsStore()
    start(sink, store, pause_seconds=0.5)
    began = time.monotonic()
    while time.monotonic() < began + 1.2:
        store.entries.append([row()])
        time.sleep(0.01)

    assert 1 <= len(sink.sent) <= 4


def test_two_journals_do_not_overwrite_each_other(start: Start, tmp_path: Path) -> None:
    """The same entries of two journals have timestamps of their own."""
    sink = ListSink()
    for stream in ("a", "b"):
        start(sink, CountsStore(entries(1), identity=stream), stream=stream)
        until(lambda stream=stream: saved(tmp_path, stream=stream).position == 1)

    (_, one), (_, other) = sink.sent
    assert one != other
    assert all(0 <= nanoseconds < 10**9 for nanoseconds in (one, other))


def test_another_target_begins_anew(start: Start, tmp_path: Path) -> None:
    """Another database is sent everything; back at the first, that goes on where it was."""
    store = CountsStore(entries(2))
    first = start(ListSink(), store)
    until(lambda: saved(tmp_path).position == 2)
    first.stop()
    second = start(ListSink("other/flags"), store)
    until(lambda: saved(tmp_path, "other/flags").position == 2)
    second.stop()
    store.entries += entries(1, first=2)
    start(ListSink(), store)
    until(lambda: saved(tmp_path).position == 3)

    assert [(0, 2), (0, 2), (2, 3)] == store.asked
    assert 2 == saved(tmp_path, "other/flags").position


def test_a_range_that_was_begun_is_sent_as_it_was(start: Start, tmp_path: Path) -> None:
    """After a failure, however much has come in the meantime, the same range goes again with the same nanoseconds."""
    sink, store = ListSink(), CountsStore(entries(2))
    sink.failures = [SinkError("Away."), SinkError("Away.")]
    feeder = start(sink, store, metrics=Counting(lambda: None), first_backoff_seconds=0.2)
    until(lambda: feeder.failures)
    assert Progress(position=0, begun=2, memory={"begun": 1}) == saved(tmp_path)
    store.entries += entries(3, first=2)
    until(lambda: saved(tmp_path).position == 5)

    assert [(0, 2), (0, 2), (0, 2), (2, 5)] == store.asked
    assert (2, None) == (feeder.failures, feeder.last_error)


def test_an_outage_backs_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses double while the sink is away, up to a bound, and begin small again after it was there."""
    monkeypatch.setattr(feeder_module, "MAX_BACKOFF_SECONDS", 0.16)
    pauses: list[float] = []
    failed = Feeder._failed

    def noting(self: Feeder, error: Exception, backoff: float) -> float:
        pauses.append(failed(self, error, backoff))
        return 0.0

    monkeypatch.setattr(Feeder, "_failed", noting)
    sink, store = ListSink(), CountsStore(entries(1))
    sink.failures = [SinkError("Away.")] * 6 + [None, SinkError("Away.")]
    start(sink, store)
    until(lambda: len(sink.sent) == 1)
    store.entries += entries(1)
    until(lambda: len(sink.sent) == 2)

    assert [0.01, 0.02, 0.04, 0.08, 0.16, 0.16, 0.01] == pauses


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (SinkError("Wrong password.", lasting=True), 30.0),
        (SinkError("Busy.", retry_after=7.0), 7.0),
        (SinkError("Busy.", retry_after=0.0), 0.5),
        (SinkError("Away."), 0.5),
        (OSError("Whatever."), 0.5),
        (StoreError("Closed."), 0.5),
    ],
)
def test_pauses(tmp_path: Path, error: Exception, pause: float) -> None:
    """What somebody has to change is tried again slowly, and who asks to be left alone is; the rest soon."""
    feeder = Feeder(ListSink(), CountsStore, "journal", tmp_path / "sink.json")

    assert (pause, str(error), 1) == (feeder._failed(error, 0.5), feeder.last_error, feeder.failures)


def test_refused_points_are_counted_and_passed(start: Start, tmp_path: Path) -> None:
    """Points that the sink never takes are counted, said once, and hold up nothing."""
    sink, store, metrics = ListSink(), CountsStore(entries(4)), Counting()
    sink.refused = 1
    with structlog.testing.capture_logs() as logs:
        feeder = start(sink, store, range_entries=1, metrics=metrics)
        until(lambda: saved(tmp_path).position == 4)

    assert (4, 4, 4, 0) == (metrics.refused, feeder.refused_lines, metrics.lines, metrics.failures)
    assert [("the sink refuses counts for good; they are left out there", "too old")] == [
        (log["event"], log["reason"]) for log in logs
    ]


def test_failures_are_said_once(start: Start) -> None:
    """A failure that lasts is one line in the log, another failure another; so is its end."""
    sink, store = ListSink(), CountsStore(entries(1))
    sink.failures = [SinkError("Away."), SinkError("Away."), SinkError("Busy."), SinkError("Busy.")]
    with structlog.testing.capture_logs() as logs:
        feeder = start(sink, store)
        until(lambda: sink.sent and feeder.last_error is None)

    assert ["Away.", "Busy.", None] == [log.get("error") for log in logs]
    assert "the sink takes counts again" == logs[-1]["event"]
    assert 4 == feeder.failures


def test_whatever_happens_the_loop_goes_on(start: Start) -> None:
    """A fault of ours is logged with where it happened, and the range is tried again."""
    sink, store = ListSink(), CountsStore(entries(1))
    sink.failures = [ZeroDivisionError("Oh.")]
    with structlog.testing.capture_logs() as logs:
        start(sink, store)
        until(lambda: sink.sent)

    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


def test_a_store_that_is_not_there_is_waited_for(start: Start, tmp_path: Path) -> None:
    """A store that is not open yet, fails, knows no journal or another one, is asked again; that is no failure of the sink."""
    sink, store = ListSink(), CountsStore(entries(2))
    opened = threading.Event()

    def source() -> CountsStore:
        if not opened.is_set():
            raise StoreError("The store is being opened.")
        return store

    store.failing = StoreError("Closed.")
    feeder = start(sink, source)
    time.sleep(0.05)
    opened.set()
    time.sleep(0.05)
    store.identity, store.failing = None, None
    time.sleep(0.05)
    store.identity = "another"
    time.sleep(0.05)
    assert ([], 0) == (sink.sent, feeder.failures)

    store.identity = "journal"
    until(lambda: saved(tmp_path).position == 2)
    assert [(0, 2)] == store.asked


def test_a_store_that_fails_while_it_counts(start: Start, tmp_path: Path) -> None:
    """A store that is closed in the middle is asked again once it is back."""

    class Closing(CountsStore):
        closed = True

        def tally(self, *arguments: Any) -> pa.Table:
            if self.closed:
                self.closed = False
                raise StoreError("The store is closed.")
            return super().tally(*arguments)

    store = Closing(entries(2))
    feeder = start(ListSink(), store)
    until(lambda: saved(tmp_path).position == 2)
    until(lambda: feeder.last_error is None)

    assert 1 == feeder.failures


def test_a_store_that_went_back(start: Start, tmp_path: Path) -> None:
    """A store that lost its log and applies the same entries once more is waited for, and nothing is sent twice."""
    sink, store = ListSink(), CountsStore(entries(4))
    sink.failures = [None, SinkError("Away."), SinkError("Away.", lasting=True)]
    first = start(sink, store, range_entries=2)
    until(lambda: first.failures == 2)
    first.stop()
    assert Progress(position=2, begun=4, memory={"begun": 2}) == saved(tmp_path)

    store.asked.clear()
    store.position = 3
    with structlog.testing.capture_logs() as logs:
        start(sink, store)
        until(lambda: logs)
    time.sleep(0.05)
    assert ([], 3, 4) == (store.asked, logs[0]["store"], logs[0]["sink"])

    store.position = 4
    until(lambda: saved(tmp_path).position == 4)
    assert [(2, 4)] == store.asked


def test_a_damaged_file_holds_nothing_up(start: Start, tmp_path: Path) -> None:
    """With a damaged file nothing is sent, and the failure says so, until it is mended; the process goes on."""
    path = tmp_path / "sink.json"
    path.write_bytes(b"{")
    sink = ListSink()
    feeder = start(sink, CountsStore(entries(1)))
    until(lambda: feeder.failures)

    assert "is damaged" in str(feeder.last_error)
    assert ([], b"{") == (sink.sent, path.read_bytes())


def test_nothing_is_sent_that_was_not_written_before(start: Start, tmp_path: Path) -> None:
    """Where the beginning of a range cannot be written, it is not sent."""
    sink, store = ListSink(), CountsStore(entries(1))
    (tmp_path / "sink.json.draft").mkdir()
    feeder = start(sink, store)
    until(lambda: feeder.failures > 1)
    assert [] == sink.sent

    (tmp_path / "sink.json.draft").rmdir()
    until(lambda: saved(tmp_path).position == 1)
    assert 1 == len(sink.sent)


def test_stop_ends_a_wait_and_a_count(start: Start) -> None:
    """A stop waits neither for the next attempt nor for the store to have counted."""
    counting = threading.Event()

    class Slow(CountsStore):
        def tally(self, after: int, last: int, interrupt: Any = None, limit: Any = None) -> pa.Table:
            ended = threading.Event()
            with interrupt.ending(ended.set):
                counting.set()
                assert ended.wait(20)
            raise StoreError("It was ended.")

    sink = ListSink()
    feeder = start(sink, Slow(entries(1)))
    assert counting.wait(20)
    feeder.stop()
    waiting = start(sink, CountsStore(), pause_seconds=60)
    time.sleep(0.05)
    waiting.stop()

    assert [False, False] == [feeder._thread.is_alive(), waiting._thread.is_alive()]
    assert (True, [], 0) == (sink.closed, sink.sent, feeder.failures)


def test_stop_does_not_wait_for_an_answer(start: Start, stub: InfluxStub, tmp_path: Path) -> None:
    """A stop waits 2 s for a sink that does not answer, and the range is sent again by who is next."""
    store = CountsStore(entries(1))
    stub.replies.append(Reply(status=503, pause=6))
    feeder = start(influx_of(stub), store)
    until(lambda: stub.requests)
    began = time.monotonic()
    feeder.stop()
    # Twice what it promises.
    assert time.monotonic() - began < 2 * feeder_module.STOP_SECONDS
    assert 1 == saved(tmp_path, f"127.0.0.1:{stub.port}/flags").begun

    start(influx_of(stub), store)
    until(lambda: saved(tmp_path, f"127.0.0.1:{stub.port}/flags").position == 1)
    assert stub.bodies()[0] == stub.bodies()[1]
    assert sums_of(store.entries[0]) == stub.sums()


def shown(rows: list[list[Row]]) -> list[Row]:
    """Return *rows* as they are sent: variants that come after the first 20 of a feature, by entries, are other."""
    known: dict[tuple[str, str], list[str]] = {}
    found: list[Row] = []
    for entry in rows:
        for environment, feature, enabled, variant, second, count in entry:
            names = known.setdefault((environment, feature), [])
            if variant and variant not in names and len(names) < 20:
                names.append(variant)
            named = variant if variant in names or not variant else "other"
            found.append((environment, feature, enabled, named, second, count))
    return found


def feed_until_sent(sink: InfluxSink, store: CountsStore, path: Path) -> None:
    """Run a feeder in this thread until everything was sent."""
    metrics = Counting()
    feeder = Feeder(
        sink,
        lambda: store,  # type: ignore[arg-type,return-value]
        "journal",
        path,
        metrics=metrics,
        range_entries=1,
        first_backoff_seconds=0.0,
    )
    metrics.done = feeder.stop
    feeder.run()
    assert metrics.waiting[-1] == 0


class Steps:
    """Crashes before the step of a number: each fsync, each rename and each post is two, one before it and one behind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for owner, name in ((os, "fsync"), (os, "replace"), (Connection, "post")):
            monkeypatch.setattr(owner, name, self._around(getattr(owner, name)))

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any) -> Any:
            self._step()
            answer = call(*arguments)
            self._step()
            return answer

        return around

    def _step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crash


def test_a_crash_between_any_two_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crashed at any step, and at it again and again, what was begun is sent as the very same points: sums are exact."""
    steps = Steps(monkeypatch)
    expected = sums_of(shown(entries(24)))
    for left in itertools.count():
        with influxdb_stub() as stub:
            crashed = 0
            for grown in (22, 24):
                # As a store that grows meanwhile, in which a range that is read again would not end where it did.
                store = CountsStore(entries(grown))
                # Once through the range of a single entry, in posts of one line.
                store.entries[:21] = [[one for entry in store.entries[:21] for one in entry], *[[] for _ in range(20)]]
                steps.left = left if grown == 22 else None
                try:
                    feed_until_sent(influx_of(stub, post_lines=9), store, tmp_path / f"{left}.json")
                except Crash:
                    crashed += 1
            assert expected == stub.sums(), left
        if not crashed:
            break
    assert left > 20


@pytest.mark.parametrize("seed", range(3))
def test_every_attempt_is_the_same(tmp_path: Path, stub: InfluxStub, seed: int) -> None:
    """Whatever the sink answers in between, all that is ever sent of a series and timestamp is one count."""
    chance = random.Random(seed)
    sent: dict[Any, set[str]] = {}

    def now_and_then(request: Any) -> Reply | None:
        for line in request.body.splitlines():
            series, count, timestamp = line.rsplit(" ", 2)
            sent.setdefault((series, timestamp), set()).add(count)
        replies = [None, None, None, refusal(500, "timeout"), refusal(503, "busy", Retry_After="0")]
        return chance.choice([*replies, Reply(status=413)] if request.body.count("\n") > 1 else replies)

    stub.answer = now_and_then
    store = CountsStore(entries(40))
    feed_until_sent(influx_of(stub, post_lines=5), store, tmp_path / "sink.json")

    assert {1} == {len(counts) for counts in sent.values()}
    assert sums_of(shown(store.entries)) == stub.sums()
