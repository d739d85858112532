from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from flagledger.errors import FlagledgerError, Reason
from flagledger.journal.base import Appended, Outcome
from flagledger.journal.group import ENTRY_OVERHEAD
from flagledger.journal.sqlite import SqliteJournal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

HOUR = 3600.0
WINDOW_BATCHES = 40
MAX_BYTES = 4000

environments = st.sampled_from(["a", "b"])
batch_ids = st.sampled_from(["", "1", "2", "3", "4", "5"])
digests = st.sampled_from([b"1" * 16, b"2" * 16])
payloads = st.binary(max_size=600)
counts = st.integers(min_value=0, max_value=10_000)
batches = st.tuples(environments, batch_ids, digests, st.tuples(counts, counts, counts), payloads)
Batch = tuple[str, str, bytes, tuple[int, int, int], bytes]


@dataclass(frozen=True)
class Known:
    """What the model remembers of a batch id."""

    digest: bytes
    outcome: Outcome
    at: float
    number: int


class JournalMachine(RuleBasedStateMachine):
    """The journal beside a model of it in plain Python: dictionaries, a list, and the sentences of the interface."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.now = 1_800_000_000.0
        self.entries: dict[int, bytes] = {}
        self.last = 0
        self.ids: dict[tuple[str, str], Known] = {}
        self.recorded_ids = 0
        self.open()
        self.identity = self.journal.identity

    def open(self) -> None:
        """Open the journal of this run, anew or again."""
        self.journal = SqliteJournal.open(
            self.directory / "journal.db",
            max_bytes=MAX_BYTES,
            dedup_hours=24,
            dedup_max_batches=WINDOW_BATCHES,
            reserve_bytes=0,
            clock=lambda: self.now,
        )

    def outstanding(self) -> int:
        """Return what waits, as the size limit counts it."""
        return sum(len(payload) + ENTRY_OVERHEAD for payload in self.entries.values())

    async def send(self, group: list[Batch]) -> list[Appended | BaseException]:
        """Send batches at one moment and return answers and refusals."""
        return await asyncio.gather(
            *(
                self.journal.append(
                    environment,
                    batch_id,
                    digest,
                    Outcome(accepted=outcome[0], filtered=outcome[1], rejected=outcome[2]),
                    payload,
                )
                for environment, batch_id, digest, outcome, payload in group
            ),
            return_exceptions=True,
        )

    @rule(group=st.lists(batches, min_size=1, max_size=8))
    def append(self, group: list[Batch]) -> None:
        """Each answer follows from what was recorded before it, those of the same moment included."""
        for batch, answer in zip(group, self.runner.run(self.send(group)), strict=True):
            self.check(batch, answer)

    def check(self, batch: Batch, answer: Appended | BaseException) -> None:
        """Compare an answer with what the model says, and let the model record what was recorded."""
        environment, batch_id, digest, counts, payload = batch
        name = (environment, batch_id)
        known = self.ids.get(name)
        if known is not None and self.may_be_forgotten(known) and not self.recalls(known, digest, answer):
            known = None
        if known is not None:
            if known.digest == digest:
                assert Appended(duplicate=True, outcome=known.outcome) == answer
            else:
                assert isinstance(answer, FlagledgerError)
                assert answer.reason == Reason.BATCH_ID_REUSED
            return
        if self.outstanding() >= MAX_BYTES:
            assert isinstance(answer, FlagledgerError)
            assert answer.reason == Reason.JOURNAL_FULL
            return
        outcome = Outcome(accepted=counts[0], filtered=counts[1], rejected=counts[2])
        assert Appended(duplicate=False, outcome=outcome) == answer
        self.last += 1
        self.entries[self.last] = payload
        if batch_id:
            self.recorded_ids += 1
            self.ids[name] = Known(digest, outcome, self.now, self.recorded_ids)

    def may_be_forgotten(self, known: Known) -> bool:
        """Outside the window the journal may know a batch still, or not any more."""
        return self.now - known.at > 24 * HOUR or self.recorded_ids - known.number >= WINDOW_BATCHES

    def recalls(self, known: Known, digest: bytes, answer: Appended | BaseException) -> bool:
        """Return whether the journal still knows a batch that it may have forgotten; False where it has to have."""
        if self.now - known.at > 26 * HOUR or self.recorded_ids - known.number > WINDOW_BATCHES * 5 // 4 + 2:
            return False
        if isinstance(answer, FlagledgerError):
            return answer.reason is Reason.BATCH_ID_REUSED and digest != known.digest
        return isinstance(answer, Appended) and answer.duplicate

    @precondition(lambda self: self.last > 0)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        """Everything up to the position is forgotten, nothing behind it."""
        up_to = data.draw(st.integers(min_value=0, max_value=self.last))
        self.journal.trim(up_to)
        self.entries = {position: payload for position, payload in self.entries.items() if position > up_to}

    @rule(hours=st.sampled_from([0.4, 1, 5, 12, 30]))
    def let_time_pass(self, hours: float) -> None:
        """Time goes on."""
        self.now += hours * HOUR

    @rule()
    def open_again(self) -> None:
        """Closing and opening changes nothing."""
        self.journal.close()
        self.open()
        assert self.identity == self.journal.identity

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        """Entries and lag are those of the model."""
        read = {entry.position: entry.payload for entry in self.journal.read(0, 1 << 30)}
        assert self.entries == read
        assert list(read) == sorted(read)
        lag = self.journal.lag()
        assert (self.outstanding(), len(self.entries)) == (lag.bytes, lag.entries)
        assert self.last == self.journal.last_position()
        assert min(self.entries, default=self.last + 1) == self.journal.first_position()

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.journal.close()
        self.runner.close()
        shutil.rmtree(self.directory)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
