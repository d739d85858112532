from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.base import Appended, Entry, Journal, Outcome

DIGEST = b"d" * 16
OUTCOME = Outcome(accepted=3, filtered=2, rejected=1)
OTHER_OUTCOME = Outcome(accepted=9, filtered=9, rejected=9)
FRESH = Appended(duplicate=False, outcome=OUTCOME)
AGAIN = Appended(duplicate=True, outcome=OUTCOME)
EVERYTHING = 1 << 30


async def append(
    journal: Journal,
    batch_id: str,
    payload: bytes = b"payload",
    *,
    environment: str = "env",
    digest: bytes = DIGEST,
    outcome: Outcome = OUTCOME,
) -> Appended:
    """Append with everything at its usual value but what matters."""
    return await journal.append(environment, batch_id, digest, outcome, payload)


async def refusal(append: Any) -> Reason:
    """Return why the append was refused."""
    with pytest.raises(FlagledgerError) as caught:
        await append
    return caught.value.reason


class TestConformance:
    """What every journal promises."""

    async def test_keeps_what_is_appended_in_order(self, journal: Any) -> None:
        """Entries come back byte for byte, in the order of appending, at positions 1, 2, 3."""
        for payload in (b"first", b"", b"\x00third\xff"):
            assert await append(journal, f"id-{payload!r}", payload) == FRESH

        assert [
            Entry(position=1, payload=b"first"),
            Entry(position=2, payload=b""),
            Entry(position=3, payload=b"\x00third\xff"),
        ] == journal.read(0, EVERYTHING)

    async def test_answers_a_repeated_batch_with_the_first_outcome(self, journal: Any) -> None:
        """A batch sent again is a duplicate, and is answered as it was the first time."""
        await append(journal, "id")

        assert await append(journal, "id", outcome=OTHER_OUTCOME) == AGAIN
        assert len(journal.read(0, EVERYTHING)) == 1

    async def test_refuses_an_id_with_other_content(self, journal: Any) -> None:
        """An id that comes again with other content is refused, and the first batch stays as it is."""
        await append(journal, "id", b"first")

        assert await refusal(append(journal, "id", b"second", digest=b"e" * 16)) == Reason.BATCH_ID_REUSED
        assert [Entry(position=1, payload=b"first")] == journal.read(0, EVERYTHING)
        assert await append(journal, "id", b"first") == AGAIN

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (("a", "id"), ("b", "id")),
            (("a\0b", "c"), ("a", "b\0c")),
            (("1:a", "b"), ("1", "a:b")),
            (("é", "x"), ("e", "x")),
        ],
    )
    async def test_scopes_ids_by_environment(self, journal: Any, one: tuple[str, str], other: tuple[str, str]) -> None:
        """Two environments may use the same id, however environment and id run together."""
        for environment, batch_id in (one, other):
            assert await append(journal, batch_id, environment=environment) == FRESH

    async def test_never_takes_batches_without_id_for_duplicates(self, journal: Any) -> None:
        """Without an id every batch is a new one."""
        for _ in range(3):
            assert await append(journal, "") == FRESH

        assert [entry.position for entry in journal.read(0, EVERYTHING)] == [1, 2, 3]

    async def test_records_one_of_many_sent_at_once(self, journal: Any) -> None:
        """Of one batch sent many times at the same moment one is recorded, and the others are its duplicates."""
        answers = await asyncio.gather(*(append(journal, f"id-{number % 10}") for number in range(200)))

        assert sum(not answer.duplicate for answer in answers) == 10
        assert {OUTCOME} == {answer.outcome for answer in answers}
        assert len(journal.read(0, EVERYTHING)) == 10

    async def test_refuses_other_content_sent_at_once(self, journal: Any) -> None:
        """Of two contents under one id sent at the same moment one is recorded and the other refused."""
        answers = await asyncio.gather(
            append(journal, "id", digest=b"1" * 16), append(journal, "id", digest=b"2" * 16), return_exceptions=True
        )

        assert answers[0] == FRESH
        assert isinstance(answers[1], FlagledgerError)
        assert answers[1].reason == Reason.BATCH_ID_REUSED
        assert len(journal.read(0, EVERYTHING)) == 1

    async def test_keeps_all_of_many_at_once(self, journal: Any) -> None:
        """Appends in parallel all arrive, each once, without gaps in the positions."""
        payloads = [b"%d" % number * (number % 50) for number in range(1500)]
        await asyncio.gather(*(append(journal, f"{number}", payload) for number, payload in enumerate(payloads)))

        entries = journal.read(0, EVERYTHING)
        assert list(range(1, 1501)) == [entry.position for entry in entries]
        assert sorted(payloads) == sorted(entry.payload for entry in entries)

    async def test_reads_up_to_the_bytes_asked_for(self, journal: Any) -> None:
        """Reading stops before the bytes asked for are exceeded, but returns one entry where there is one."""
        for number in range(5):
            await append(journal, f"{number}", b"x" * 100)

        def positions(after: int, max_bytes: int) -> list[int]:
            return [entry.position for entry in journal.read(after, max_bytes)]

        assert positions(0, 200) == [1, 2]
        assert positions(0, 299) == [1, 2]
        assert positions(2, 1) == [3]
        assert positions(3, EVERYTHING) == [4, 5]
        assert positions(5, EVERYTHING) == []
        assert positions(99, EVERYTHING) == []

    async def test_trims_payloads_and_keeps_ids(self, journal: Any) -> None:
        """Trimmed entries are gone, later ones stay where they are, and every id is still known."""
        for number in range(5):
            await append(journal, f"{number}")
        journal.trim(3)
        journal.trim(2)

        assert [entry.position for entry in journal.read(0, EVERYTHING)] == [4, 5]
        assert [await append(journal, f"{number}") for number in range(5)] == [AGAIN] * 5

    async def test_trims_more_than_a_slice(self, journal: Any) -> None:
        """Trimming goes on until everything asked for is gone."""
        await asyncio.gather(*(append(journal, "") for _ in range(1203)))
        journal.trim(1202)

        assert [entry.position for entry in journal.read(0, EVERYTHING)] == [1203]

    async def test_never_uses_a_position_twice(self, open_journal: Callable[..., Any]) -> None:
        """Positions go on growing when everything was trimmed and the journal opened again."""
        journal = open_journal()
        await append(journal, "1")
        await append(journal, "2")
        journal.trim(2)
        journal.close()
        again = open_journal()
        await append(again, "3", b"third")

        assert [Entry(position=3, payload=b"third")] == again.read(0, EVERYTHING)

    async def test_is_the_same_when_opened_again(self, open_journal: Callable[..., Any]) -> None:
        """Identity, entries, ids and lag outlive the process."""
        journal = open_journal()
        await append(journal, "1", b"first")
        before = (journal.identity, journal.read(0, EVERYTHING), journal.lag().bytes, journal.lag().entries)
        journal.close()
        again = open_journal()

        assert before == (again.identity, again.read(0, EVERYTHING), again.lag().bytes, again.lag().entries)
        assert await append(again, "1", b"first") == AGAIN

    def test_has_an_identity_of_its_own(self, open_journal: Callable[..., Any], tmp_path: Path) -> None:
        """Two journals never have the same identity."""
        (tmp_path / "other").mkdir()

        assert open_journal().identity != open_journal(directory=tmp_path / "other").identity

    async def test_says_what_waits(self, open_journal: Callable[..., Any]) -> None:
        """Lag is zero where nothing waits, grows with what is appended, and shrinks with what is trimmed."""
        now = [1_000_000.0]
        journal = open_journal(clock=lambda: now[0])
        assert (journal.lag().bytes, journal.lag().entries, journal.lag().oldest_age) == (0, 0, 0.0)

        await append(journal, "1", b"x" * 1000)
        now[0] += 30
        await append(journal, "2", b"x" * 10)
        now[0] += 5
        both = journal.lag()
        assert both.bytes >= 1010
        assert (both.entries, both.oldest_age) == (2, 35.0)

        journal.trim(1)
        one = journal.lag()
        assert both.bytes - 1000 > one.bytes >= 10
        assert (one.entries, one.oldest_age) == (1, 5.0)

        journal.trim(2)
        assert (journal.lag().bytes, journal.lag().entries, journal.lag().oldest_age) == (0, 0, 0.0)

    async def test_refuses_at_its_limit_and_goes_on_after_trimming(self, open_journal: Callable[..., Any]) -> None:
        """At the limit new batches are refused, duplicates are still answered, and trimming lets new ones in again."""
        journal = open_journal(max_bytes=2500)
        for number in range(3):
            await append(journal, f"{number}", b"x" * 800)

        assert await refusal(append(journal, "3")) == Reason.JOURNAL_FULL
        assert await refusal(append(journal, "")) == Reason.JOURNAL_FULL
        assert await append(journal, "0", b"x" * 800) == AGAIN
        assert journal.writable()
        journal.close()

        again = open_journal(max_bytes=2500)
        assert await refusal(append(again, "3")) == Reason.JOURNAL_FULL
        again.trim(1)
        assert await append(again, "3") == FRESH
        assert [entry.position for entry in again.read(0, EVERYTHING)] == [2, 3, 4]

    async def test_refuses_at_its_limit_in_the_midst_of_a_group(self, open_journal: Callable[..., Any]) -> None:
        """Of many appends at once those that fit are recorded, the others refused, and a refused one may come again."""
        journal = open_journal(max_bytes=10_000)
        answers = await asyncio.gather(
            *(append(journal, f"{number}", b"x" * 900) for number in range(50)), return_exceptions=True
        )

        refused = [number for number, answer in enumerate(answers) if isinstance(answer, FlagledgerError)]
        entries = journal.read(0, EVERYTHING)
        assert len(entries) + len(refused) == 50
        assert 10_000 <= journal.lag().bytes < 10_000 + 2000
        journal.trim(entries[-1].position)
        assert await append(journal, f"{refused[0]}", b"x" * 900) == FRESH

    async def test_answers_what_is_queued_before_it_closes(self, open_journal: Callable[..., Any]) -> None:
        """Closing commits and answers what was accepted; what comes later is told that the server drains."""
        journal = open_journal()
        under_way = [asyncio.create_task(append(journal, f"{number}")) for number in range(100)]
        await asyncio.sleep(0)
        await asyncio.to_thread(journal.close)

        assert await asyncio.gather(*under_way) == [FRESH] * 100
        assert await refusal(append(journal, "late")) == Reason.DRAINING
        assert not journal.writable()
        assert len(open_journal().read(0, EVERYTHING)) == 100

    async def test_survives_callers_that_go_away(self, journal: Any) -> None:
        """An append whose caller has gone costs its neighbours nothing."""
        tasks = [asyncio.create_task(append(journal, f"{number}")) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)

        assert answers[1::2] == [FRESH] * 10
        assert await append(journal, "next") == FRESH

    async def test_refuses_questions_once_closed(self, open_journal: Callable[..., Any]) -> None:
        """A closed journal says so, and may be closed again."""
        journal = open_journal()
        journal.close()
        journal.close()

        for question in (lambda: journal.read(0, 1), journal.lag, lambda: journal.trim(1)):
            with pytest.raises(FlagledgerError) as caught:
                question()
            assert caught.value.reason == Reason.DRAINING
