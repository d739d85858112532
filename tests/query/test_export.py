from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
import structlog
from flagledger.errors import FlagledgerError, Reason
from flagledger.query.export import PIECE_BYTES, Exports
from flagledger.query.export_formats import FORMATS
from flagledger.store.errors import Interrupt, QuestionEndedError, StoreError
from flagledger.store.questions import Export, Filter
from google.api import httpbody_pb2
from support.querying import Call, FakeStore, batches_of, export_batch, refusal

EVERYTHING = Filter(environment="production")
NDJSON = FORMATS["ndjson"]

Serve = Callable[..., Exports]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Make exports over a store."""
    made: list[Exports] = []

    def serve_(store: Any, **options: int) -> Exports:
        made.append(Exports(lambda: store, **options))
        return made[-1]

    yield serve_
    for exports in made:
        exports.close()


def exporting(*batches: pa.RecordBatch, last_position: int = 9) -> FakeStore:
    """Return a store with something to export."""
    return FakeStore(export=Export(last_position=last_position, batches=batches_of(*batches)))


async def read(pieces: AsyncIterator[httpbody_pb2.HttpBody]) -> list[httpbody_pb2.HttpBody]:
    """Return all *pieces*."""
    return [piece async for piece in pieces]


class Stepping:
    """A store whose export has batch after batch without end, and says when it is left."""

    def __init__(self, batch: pa.RecordBatch, *, slow: bool = False) -> None:
        self.left = threading.Event()
        self.reading = threading.Event()
        self.read = 0
        self._batch = batch
        self._slow = slow

    def export(self, filter_: Filter, after_position: int, interrupt: Interrupt) -> Export:
        """Return what has no end."""
        return Export(last_position=1, batches=self._batches(interrupt))

    def _batches(self, interrupt: Interrupt) -> Iterator[pa.RecordBatch]:
        try:
            while True:
                self.read += 1
                yield self._batch
                if self._slow:
                    self._wait(interrupt)
        finally:
            self.left.set()

    def _wait(self, interrupt: Interrupt) -> None:
        ended = threading.Event()
        with interrupt.ending(ended.set):
            self.reading.set()
            assert ended.wait(30)
        raise QuestionEndedError("ended")


async def test_pieces_behind_each_other_are_the_file(serve: Serve) -> None:
    """The file comes whole, in pieces that any client can receive, each with the content type."""
    batches = [
        export_batch(*({"position": 1000 * i + k, "variant": "x" * 999} for k in range(1_000))) for i in range(3)
    ]
    whole = b"".join(NDJSON.encode(batches_of(*batches)))

    pieces = await read(serve(exporting(*batches)).pieces(EVERYTHING, 0, NDJSON, Call()))

    assert whole == b"".join(piece.data for piece in pieces)
    assert len(whole) > 3 * PIECE_BYTES
    assert max(len(piece.data) for piece in pieces) == PIECE_BYTES
    assert {"application/x-ndjson"} == {piece.content_type for piece in pieces}


async def test_the_store_is_asked_for_what_is_wanted(serve: Serve) -> None:
    """The filter and the position reach the store, however large the position is."""
    store = exporting(last_position=2**63 - 1)
    exports = serve(store)
    for position in (0, 7, 2**64 - 1):
        await read(exports.pieces(EVERYTHING, position, NDJSON, Call()))

    assert [("export", EVERYTHING, 0), ("export", EVERYTHING, 7), ("export", EVERYTHING, 2**63 - 1)] == store.asked


async def test_a_position_that_nothing_has_come_to(serve: Serve) -> None:
    """To go on from where nothing has come to would leave out what is to come: it is refused, and the end is not."""
    assert await read(serve(exporting(last_position=9)).pieces(EVERYTHING, 9, NDJSON, Call()))
    assert (Reason.QUERY_INVALID, ["after_position"]) == await refusal(
        read(serve(exporting(last_position=9)).pieces(EVERYTHING, 10, NDJSON, Call()))
    )


async def test_how_far_it_goes_is_told_first(serve: Serve) -> None:
    """Before the first piece the caller has the position from which the next export goes on."""
    context = Call()
    pieces = serve(exporting(export_batch({"position": 5}), last_position=77)).pieces(EVERYTHING, 0, NDJSON, context)
    first = await anext(pieces)

    assert [(("x-last-position", "77"),)] == context.sent
    assert first.data.startswith(b'{"position":5,')
    await pieces.aclose()


@pytest.mark.parametrize("name", FORMATS)
async def test_nothing_is_a_file_too(serve: Serve, name: str) -> None:
    """Where there is nothing to export there still is a piece, with its content type."""
    pieces = await read(serve(exporting()).pieces(EVERYTHING, 0, FORMATS[name], Call()))

    assert [FORMATS[name].content_type] == [piece.content_type for piece in pieces]


async def test_a_store_that_is_not_there_is_a_clear_answer(serve: Serve) -> None:
    """Without a store nothing is sent, and the caller hears when to come back, and no path; the log has it, once."""
    context = Call()
    store = FakeStore(export=StoreError("/secret/path cannot be read"))
    exports = serve(store)
    with structlog.testing.capture_logs() as logs, pytest.raises(FlagledgerError) as caught:
        await read(exports.pieces(EVERYTHING, 0, NDJSON, context))
    with structlog.testing.capture_logs() as later, pytest.raises(FlagledgerError):
        await read(exports.pieces(EVERYTHING, 0, NDJSON, context))

    assert [("an export broke off", "/secret/path cannot be read")] == [(log["event"], log["error"]) for log in logs]
    assert [] == later
    assert (Reason.STORE_UNAVAILABLE, []) == (caught.value.reason, context.sent)
    assert caught.value.retry_after is not None
    assert "/secret" not in caught.value.message


async def test_an_export_that_breaks_off_ends_with_an_error(serve: Serve) -> None:
    """What comes before a fault is sent, and the end of it is no end of a file."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield export_batch({"position": 1})
        raise StoreError("the file cannot be read")

    pieces = serve(FakeStore(export=Export(last_position=2, batches=batches()))).pieces(EVERYTHING, 0, NDJSON, Call())

    assert (await anext(pieces)).data
    with pytest.raises(FlagledgerError, match="incomplete"):
        await anext(pieces)


async def test_batches_are_read_in_threads_one_at_a_time(serve: Serve) -> None:
    """The event loop never waits for the store, and nothing is read ahead of the reader."""
    store = Stepping(export_batch({"position": 1}))
    threads: set[str] = set()

    def export(*arguments: Any) -> Export:
        threads.add(threading.current_thread().name.rsplit("_", 1)[0])
        return Stepping.export(store, *arguments)

    store.export = export  # type: ignore[method-assign]
    pieces = serve(store).pieces(EVERYTHING, 0, NDJSON, Call())
    for _ in range(3):
        await anext(pieces)

    assert ({"export"}, 3) == (threads, store.read)
    await pieces.aclose()


async def test_a_reader_that_goes_away_ends_its_export(serve: Serve) -> None:
    """Between two pieces the store is left at once, by the thread and not by the collector."""
    store = Stepping(export_batch({"position": 1}))
    pieces = serve(store).pieces(EVERYTHING, 0, NDJSON, Call())
    await anext(pieces)
    await pieces.aclose()

    assert await asyncio.to_thread(store.left.wait, 10)


async def test_a_call_that_is_cancelled_interrupts_the_store(serve: Serve) -> None:
    """While the store is at work for a caller that has gone, it is interrupted, and the thread is free again."""
    store = Stepping(export_batch({"position": 1}), slow=True)
    exports = serve(store, threads=1)
    call = asyncio.create_task(read(exports.pieces(EVERYTHING, 0, NDJSON, Call())))
    assert await asyncio.to_thread(store.reading.wait, 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert await asyncio.to_thread(store.left.wait, 10)
    async with asyncio.timeout(10):
        other = exports.pieces(EVERYTHING, 0, NDJSON, Call())
        assert (await anext(other)).data
        await other.aclose()


async def test_closing_ends_exports(serve: Serve) -> None:
    """Exports that are closed wait for no reader and for no store."""
    slow, idle = Stepping(export_batch({"position": 1}), slow=True), Stepping(export_batch({"position": 1}))
    first, second = serve(slow), serve(idle)
    call = asyncio.create_task(read(first.pieces(EVERYTHING, 0, NDJSON, Call())))
    pieces = second.pieces(EVERYTHING, 0, NDJSON, Call())
    await anext(pieces)
    assert await asyncio.to_thread(slow.reading.wait, 10)
    async with asyncio.timeout(10):
        await asyncio.to_thread(first.close)
        await asyncio.to_thread(second.close)

    with pytest.raises(FlagledgerError) as caught:
        await call
    assert Reason.STORE_UNAVAILABLE == caught.value.reason
    with pytest.raises(FlagledgerError) as caught:
        await anext(pieces)
    assert Reason.STORE_UNAVAILABLE == caught.value.reason


async def test_few_exports_are_open_at_a_time(serve: Serve) -> None:
    """What goes beyond the limit is refused with a delay, and taken once another is done: nobody knows how long readers take."""
    exports = serve(Stepping(export_batch({"position": 1})), open_=2)
    opened = [exports.pieces(EVERYTHING, 0, NDJSON, Call()) for _ in range(3)]
    for pieces in opened[:2]:
        await anext(pieces)
    context = Call()

    with pytest.raises(FlagledgerError, match="2 exports") as caught:
        await anext(exports.pieces(EVERYTHING, 0, NDJSON, context))
    assert (Reason.CALLS_IN_FLIGHT, 10.0, []) == (caught.value.reason, caught.value.retry_after, context.sent)
    await opened[0].aclose()
    assert (await anext(opened[2])).data
    await opened[1].aclose()
    await opened[2].aclose()
