from __future__ import annotations

from typing import Any

import pytest
from flagledger.store.influxdb.address import parse_address
from flagledger.store.influxdb.sink import InfluxSink
from flagledger.store.sinks import Sent, SinkError
from support.counted import row, sums_of, table
from support.influxdb_stub import InfluxStub, Reply, Request, refusal

CONFLICT = 'partial write: field type conflict: input field "count" on measurement "flag_evaluations" is type integer'
PARSE = "unable to parse 'flag_evaluations…': invalid field format"


def sink_of(stub: InfluxStub, **options: Any) -> InfluxSink:
    """Return a sink into *stub*."""
    return InfluxSink(parse_address(f"influxdb://user:word@127.0.0.1:{stub.port}/flags"), **options)


def rows_of(features: int) -> list[Any]:
    """Return a row for each of so many features, in the order of their lines."""
    return [row(feature=f"f{i:05}", count=i + 1) for i in range(features)]


def sent(taken: int, refused: int = 0, reason: str = "") -> Sent:
    """Return what became of a range."""
    return Sent(taken=taken, refused=refused, reason=reason)


def test_target_has_no_secret(stub: InfluxStub) -> None:
    """The target names host and database alone."""
    assert f"127.0.0.1:{stub.port}/flags" == sink_of(stub).target


def test_everything_is_taken(stub: InfluxStub) -> None:
    """Counts become points, each once, with variants by name."""
    rows = [row(variant=variant, enabled=enabled) for variant in ("", "blue") for enabled in (None, True, False)]
    sink = sink_of(stub)
    memory = sink.learn(table(*rows), {})

    assert sent(6) == sink.send(table(*rows), memory, 5)
    assert sums_of(rows) == stub.sums()
    assert {"variants": {"production": {"checkout": ["blue"]}}} == memory


def test_nothing_to_send(stub: InfluxStub) -> None:
    """Without counts nothing is posted, and nothing learnt."""
    sink = sink_of(stub)

    assert ({}, sent(0), []) == (sink.learn(table(), {}), sink.send(table(), {}, 0), stub.requests)


def test_posts_are_bounded(stub: InfluxStub) -> None:
    """Many lines go in posts of 5,000, in order and with the same nanoseconds."""
    rows = rows_of(12_001)

    assert sent(12_001) == sink_of(stub).send(table(*rows), {}, 77)
    assert [5_000, 5_000, 2_001] == [len(lines) for lines in stub.bodies()]
    lines = [line for body in stub.bodies() for line in body]
    assert sorted(lines) == lines
    assert {"77"} == {line[-9:].lstrip("0") for line in lines}
    assert sums_of(rows) == stub.sums()


def test_a_bad_line_is_found(stub: InfluxStub) -> None:
    """One line that is refused is found by halving and counted; all others are taken."""
    stub.answer = lambda request: refusal(400, PARSE) if "f00123" in request.body else None
    rows = rows_of(1_000)

    assert sent(999, 1, PARSE) == sink_of(stub).send(table(*rows), {}, 0)
    assert sums_of(rows[:123] + rows[124:]) == stub.sums()
    assert len(stub.requests) < 25


def test_all_lines_are_bad(stub: InfluxStub) -> None:
    """Where every line is refused, each is, and that comes to an end."""
    stub.answer = lambda _: refusal(422, PARSE)

    assert sent(0, 8, PARSE) == sink_of(stub).send(table(*rows_of(8)), {}, 0)
    assert 15 == len(stub.requests)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error":"partial write: points beyond retention policy dropped=3"}'),
        (
            422,
            b'{"code":"unprocessable entity","message":"failure writing points: points beyond retention policy dropped=3"}',
        ),
        (
            422,
            b'{"code":"invalid","message":"partial write: dropped 3 points outside retention policy of duration 1h0m0s"}',
        ),
    ],
)
def test_points_beyond_retention(stub: InfluxStub, status: int, body: bytes) -> None:
    """Points that are too old are counted as refused, and not looked for: every version says how many they are."""
    stub.replies.append(Reply(status=status, body=body))

    found = sink_of(stub).send(table(*rows_of(10)), {}, 0)

    assert (7, 3, 1) == (found.taken, found.refused, len(stub.requests))
    assert "retention policy" in found.reason


def test_more_dropped_than_sent(stub: InfluxStub) -> None:
    """No more are refused than were sent, whatever is said."""
    error = "partial write: points beyond retention policy dropped=99"
    stub.replies.append(refusal(400, error))

    assert sent(0, 2, error) == sink_of(stub).send(table(*rows_of(2)), {}, 0)


@pytest.mark.parametrize("said", ["dropped=0", "dropped=3"])
def test_other_partial_writes(stub: InfluxStub, said: str) -> None:
    """Of other reasons the number is not believed: lines that are refused are looked for, and the others sent again."""
    error = f"partial write: max-values-per-tag limit exceeded (60/50): … {said}"
    stub.answer = lambda request: refusal(400, error) if "f00001" in request.body else None
    rows = rows_of(4)

    assert sent(3, 1, error) == sink_of(stub).send(table(*rows), {}, 0)
    assert sums_of([*rows[:1], *rows[2:]]) == stub.sums()


@pytest.mark.parametrize("name", ["points beyond retention policy dropped=1", "field type conflict: input field"])
def test_a_name_that_a_sender_has_chosen_is_no_word_of_the_servers(stub: InfluxStub, name: str) -> None:
    """An error that quotes a feature is read as what it is: only that line is refused, and it is counted."""
    error = f'partial write: max-values-per-tag limit exceeded (60/50): … value="{name}" dropped=3'
    stub.answer = lambda request: refusal(400, error) if "f00001" in request.body else None

    rows = rows_of(4)

    assert sent(3, 1, error) == sink_of(stub).send(table(*rows), {}, 0)
    assert sums_of([*rows[:1], *rows[2:]]) == stub.sums()


def test_posts_become_smaller(stub: InfluxStub) -> None:
    """What is too large is halved until it is not, and later posts are no larger; nothing is lost or refused."""

    def at_most_30(request: Request) -> Reply | None:
        return Reply(status=413) if request.body.count("\n") > 30 else None

    stub.answer = at_most_30
    sink, rows = sink_of(stub), rows_of(100)

    assert sent(100) == sink.send(table(*rows), {}, 0)
    assert sums_of(rows) == stub.sums()
    before = len(stub.requests)
    assert sent(100) == sink.send(table(*rows), {}, 1)
    assert [25, 25, 25, 25] == [len(lines) for lines in stub.bodies()[before:]]


def test_a_line_that_is_too_large(stub: InfluxStub) -> None:
    """A line that is too large by itself is refused, and the others go on."""
    stub.answer = lambda request: Reply(status=413) if "f00001" in request.body else None

    assert sent(3, 1, "it is too large for a post") == sink_of(stub).send(table(*rows_of(4)), {}, 0)


def test_times_that_do_not_fit(stub: InfluxStub) -> None:
    """Counts of a time that InfluxDB cannot hold are refused before they are sent."""
    found = sink_of(stub).send(table(row(), row(second=10**11)), {}, 0)

    assert (1, 1) == (found.taken, found.refused)
    assert "1677 to 2262" in found.reason


@pytest.mark.parametrize(
    ("reply", "sentence", "lasting", "retry_after"),
    [
        (refusal(401, "authorization failed"), "refuses the user and password, or the token", True, None),
        (refusal(403, "not authorized"), "refuses the user and password, or the token", True, None),
        (refusal(404, 'database not found: "flags"'), 'database not found: "flags". Make it with CREATE', True, None),
        (refusal(400, CONFLICT), "holds flag_evaluations with another type of count already", True, None),
        (
            refusal(422, f"failure writing points to database: {CONFLICT}"),
            "give the sink a database or bucket",
            True,
            None,
        ),
        (Reply(status=405), "answers as no InfluxDB does (405)", True, None),
        (Reply(status=400, body=b"plain HTTP to an HTTPS port"), "answers as no InfluxDB does (400)", True, None),
        (Reply(status=302), "answers with a redirect (302)", True, None),
        (Reply(status=408), "cannot take anything now (408)", False, None),
        (refusal(429, "limit", Retry_After="9"), "cannot take anything now (429): limit", False, 9.0),
        (refusal(503, "busy", Retry_After="4"), "cannot take anything now (503): busy", False, 4.0),
        (refusal(500, "timeout"), "cannot take anything now (500): timeout", False, None),
        (Reply(status=502, body=b"<html>"), "cannot take anything now (502).", False, None),
    ],
)
def test_answers_that_are_no_refusal_of_lines(
    stub: InfluxStub, reply: Reply, sentence: str, *, lasting: bool, retry_after: float | None
) -> None:
    """What says nothing of the lines is an error: they have to be sent again, and the sentence says what is wrong."""
    stub.replies.append(reply)

    with pytest.raises(SinkError) as caught:
        sink_of(stub).send(table(*rows_of(3)), {}, 0)

    assert sentence in str(caught.value)
    assert f"InfluxDB at 127.0.0.1:{stub.port}/flags" in str(caught.value)
    assert "word@" not in str(caught.value)
    assert (lasting, retry_after, 1) == (caught.value.lasting, caught.value.retry_after, len(stub.requests))


def test_sent_again_after_an_outage_in_the_middle(stub: InfluxStub) -> None:
    """A range that failed half way and is sent again counts once."""
    rows, sink = rows_of(30), sink_of(stub, post_lines=10)
    stub.replies += [None, None, Reply(status=503)]
    with pytest.raises(SinkError):
        sink.send(table(*rows), {}, 3)
    taken = dict(stub.points)

    assert sent(30) == sink.send(table(*reversed(rows)), {}, 3)
    assert 20 == len(taken)
    assert taken.items() <= stub.points.items()
    assert sums_of(rows) == stub.sums()


def test_closed(stub: InfluxStub) -> None:
    """Once closed, the next post is not made: an error says that the range is not through."""
    sink = sink_of(stub, post_lines=10)

    def close(_: Request) -> None:
        sink.close()

    stub.answer = close

    with pytest.raises(SinkError, match="closed"):
        sink.send(table(*rows_of(30)), {}, 0)
    assert 1 == len(stub.requests)
