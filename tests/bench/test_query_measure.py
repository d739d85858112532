from __future__ import annotations

import os
from typing import Any

import grpc
import psutil
import pytest
import query_measure
from query_bare import NoAnswerError
from query_measure import Plan
from query_questions import Answer, Question

PLAN = Plan(calls=7, seconds=60.0)


class _Bare:
    """Answers with what it is told to, or takes too long."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers
        self.asked: list[Any] = []

    def ask(self, statements: tuple[str, ...]) -> Any:
        self.asked.append(statements)
        (mask,) = statements
        answer = self._answers[0 if mask else -1]
        if isinstance(answer, Exception):
            raise answer
        return answer


class _RefusedError(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "too long"


def _question(said: Answer, **changes: Any) -> Question:
    fields: dict[str, Any] = {
        "name": "one",
        "ask": lambda _: said,
        "said": lambda answer: answer,
        "statements": lambda mask: (mask,),
        "found": lambda answer: answer,
        "rows": lambda _: 10_000_000,
    }
    return Question(**fields | changes)


def _ask(question: Question, bare: _Bare, plan: Plan = PLAN, *, compare: bool = True) -> query_measure.Asked:
    return query_measure.ask(question, None, bare, plan, compare=compare)


def test_both_are_asked_as_often() -> None:
    """The service and DuckDB alone are asked as often as planned, beside the call that warms up."""
    answer = Answer(exact=1)
    bare = _Bare(answer)
    asked = _ask(_question(answer), bare)

    assert (7, 7, 0, "") == (len(asked.ours), len(asked.bare), len(asked.exact), asked.failure)
    assert [(0,)] * 8 == bare.asked


def test_answers_that_differ_are_a_failure() -> None:
    """An answer that is not DuckDB's is a failure where they are compared, and none while evaluations arrive."""
    question = _question(Answer(exact=1, identities={"a": 5}))
    bare = _Bare(Answer(exact=1, identities={"a": 6}))

    assert "do not say the same" in _ask(question, bare).failure
    assert 7 == len(_ask(question, bare, compare=False).ours)


def test_estimates_are_told_apart() -> None:
    """An estimate is compared with a sample as large, may differ in identities alone, and is told beside the exact answer."""
    bare = _Bare(Answer(exact=1, identities={"a": 96}), Answer(exact=1, identities={"a": 100}))
    asked = _ask(_question(Answer(exact=1, identities={"a": 98}, estimated=True)), bare)

    assert (7, 7, 7) == (len(asked.ours), len(asked.bare), len(asked.exact))
    assert asked.estimated
    assert asked.off == pytest.approx(0.02)
    assert "do not say the same" in _ask(_question(Answer(exact=2, estimated=True)), bare).failure


def test_an_exact_answer_that_takes_too_long_is_given_up() -> None:
    """Where DuckDB alone cannot tell every identity apart in time, all the rest is still measured."""
    bare = _Bare(Answer(exact=1), NoAnswerError("too long"))
    asked = _ask(_question(Answer(exact=1, estimated=True)), bare)

    assert (7, 7, [], None, "") == (len(asked.ours), len(asked.bare), asked.exact, asked.off, asked.failure)


def test_a_refusal_ends_the_question_alone() -> None:
    """A question that is refused says so, and no error goes further."""

    def refuse(_: object) -> None:
        raise _RefusedError

    asked = _ask(_question(Answer(exact=1), ask=refuse), _Bare(Answer(exact=1)))

    assert ([], "UNAVAILABLE: too long") == (asked.ours, asked.failure)


def test_time_is_bounded() -> None:
    """Once the time is over a question is asked no more, after a few calls."""
    answer = Answer(exact=1)
    asked = _ask(_question(answer), _Bare(answer), Plan(calls=1000, seconds=0.0))

    assert 1 <= len(asked.ours) <= 3
    assert len(asked.ours) == len(asked.bare)


def test_quantiles() -> None:
    """The p50 is the median, the p95 the time that 95 of 100 stayed within, and of nothing there is neither."""
    times = [float(number) for number in range(100, 0, -1)]

    assert (50.5, 95.0) == (query_measure.p50(times), query_measure.p95(times))
    assert (2.0, 3.0) == (query_measure.p50([1.0, 2.0, 3.0]), query_measure.p95([1.0, 2.0, 3.0]))
    assert (None, None) == (query_measure.p50([]), query_measure.p95([]))


def test_the_peak_is_seen() -> None:
    """Memory that was held for a while is in the peak, though it has been given back, and in what the kernel has kept."""
    own = psutil.Process(os.getpid())
    before = own.memory_info().rss
    with query_measure.peaks(own) as most:
        held = bytearray(os.urandom(64 << 20))
        deadline = query_measure.time.monotonic() + 30
        while most[0] < before + (48 << 20) and query_measure.time.monotonic() < deadline:
            query_measure.time.sleep(0.01)
        del held

    assert before + (48 << 20) <= most[0] <= query_measure.most_resident(own)
