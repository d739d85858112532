"""What the servicer does where an environment has a policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flagledger.catalog.base import Grant
from flagledger.catalog.policy import Policy, pseudonym
from flagledger.errors import FlagledgerError, Reason, to_status
from flagledger.ingest.limits import Limits
from flagledger.ingest.servicer import EvaluationServicer
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch
from flagledger.v1.evaluation_service_pb2 import (
    RecordEvaluationsRequest,
    RecordEvaluationsResponse,
    StreamEvaluationsRequest,
)
from support.intake import CLIENT_KEY, NOW, CallContext, MemoryCatalog, MemoryJournal, Tally, valid_evaluation

SECRET = b"a secret of the tests"
ORIGIN = "https://app.example.com"


class Intake:
    """A servicer whose environment has a policy of *fields*."""

    def __init__(self, *, secret: bytes = SECRET, fronts: int = 1, **fields: Any) -> None:
        self.catalog = MemoryCatalog()
        self.journal = MemoryJournal()
        self.tally = Tally()
        self.follow(**fields)
        self.servicer = EvaluationServicer(
            self.catalog,
            self.journal,
            Limits(),
            clock=lambda: NOW,
            metrics=self.tally,
            secret=secret,
            fronts=fronts,
        )

    def follow(self, **fields: Any) -> None:
        """Change the policy to one of *fields*."""
        grant = self.catalog.grants[CLIENT_KEY]
        assert isinstance(grant, Grant)
        environment = replace(grant.environment, policy=Policy(**fields))
        self.catalog.grants[CLIENT_KEY] = self.catalog.fresh = replace(grant, environment=environment)

    async def record(
        self, *evaluations: Evaluation, batch_id: str = "", context: CallContext | None = None
    ) -> RecordEvaluationsResponse:
        """Record one batch."""
        batch = EvaluationBatch(evaluations=evaluations, batch_id=batch_id)
        return await self.servicer.RecordEvaluations(RecordEvaluationsRequest(batch=batch), context or CallContext())

    async def refuse(self, *evaluations: Evaluation, context: CallContext | None = None) -> FlagledgerError:
        """Record one batch that is to be refused, and return how."""
        with pytest.raises(FlagledgerError) as caught:
            await self.record(*evaluations, context=context)
        return caught.value


async def test_only_the_pseudonym_reaches_the_journal() -> None:
    """The journal gets what the policy keeps, and the answer is as ever."""
    intake = Intake(identity="hash", traits=frozenset({"plan"}))
    evaluation = valid_evaluation(identity_identifier="user_1")
    for key in ("plan", "email"):
        evaluation.identity_traits.add(trait_key=key).trait_value.string_value = "of user_1"

    response = await intake.record(
        evaluation,
        valid_evaluation(feature_name="unheard_of", identity_identifier="user_1"),
        valid_evaluation(identity_identifier="user_1\0"),
    )

    [record] = intake.journal.records
    [kept] = record.evaluations
    assert (response.accepted_count, response.filtered_count, response.rejected_count) == (1, 1, 1)
    assert pseudonym(SECRET, "production", "user_1") == kept.identity_identifier
    assert ["plan"] == [trait.trait_key for trait in kept.identity_traits]
    assert b"user_1" not in intake.journal.payloads[0].replace(b"of user_1", b"", 1)
    assert 0.0 == record.envelope.sample_rate


@pytest.mark.parametrize("fields", [{"identity": "hash"}, {"identity": "drop"}, {"traits": frozenset()}])
async def test_digests_are_keyed_where_something_is_hidden(fields: dict[str, Any]) -> None:
    """A digest in the journal confirms no guess of what was hidden; the batch is recognised all the same."""
    plain, hiding, other = Intake(), Intake(**fields), Intake(secret=b"another", **fields)
    for intake in (plain, hiding, other):
        await intake.record(valid_evaluation(identity_identifier="user_1"), batch_id="b1")

    again = await hiding.record(valid_evaluation(identity_identifier="user_1"), batch_id="b1")
    with pytest.raises(FlagledgerError) as caught:
        await hiding.record(valid_evaluation(identity_identifier="user_2"), batch_id="b1")

    assert 3 == len({intake.journal.digests[0] for intake in (plain, hiding, other)})
    assert again.duplicate
    assert Reason.BATCH_ID_REUSED is caught.value.reason


async def test_nothing_is_hashed_without_a_secret() -> None:
    """Without a secret a policy that hashes fails the call, and nothing is recorded."""
    intake = Intake(secret=b"", identity="hash")

    with pytest.raises(RuntimeError, match="no secret"):
        await intake.record(valid_evaluation(identity_identifier="user_1"))

    assert [] == intake.journal.payloads


async def test_what_is_sampled_out_is_accepted() -> None:
    """Sender and sum of counts know nothing of a sample; the journal and the metrics tell what was left out."""
    intake = Intake(sample_every=100)

    response = await intake.record(*(valid_evaluation() for _ in range(1_000)))

    [record] = intake.journal.records
    kept = len(record.evaluations)
    assert RecordEvaluationsResponse(accepted_count=1_000) == response
    assert {100} >= {evaluation.count for evaluation in record.evaluations}
    assert 0 <= kept < 100
    assert 0.01 == record.envelope.sample_rate
    assert [("sampled_out", "", 1_000 - kept)] == [
        (discard.reason, discard.name, discard.entry_count) for discard in record.envelope.discards
    ]
    assert {("accepted", "production"): kept, ("sampled_out", "production"): 1_000 - kept} == dict(intake.tally.counts)


async def test_a_sample_of_one_in_one_is_none() -> None:
    """Where each evaluation is kept nothing is said of a sample."""
    intake = Intake(sample_every=1, identity="drop")
    await intake.record(valid_evaluation())

    [record] = intake.journal.records
    assert (0.0, 0) == (record.envelope.sample_rate, len(record.envelope.discards))
    assert {("accepted", "production"): 1} == dict(intake.tally.counts)


async def test_a_duplicate_is_not_sampled_again() -> None:
    """A batch that comes again is answered with its first outcome, and nothing of it is counted or kept."""
    intake = Intake(sample_every=2)
    batch = [valid_evaluation() for _ in range(50)]
    first = await intake.record(*batch, batch_id="b1")
    counts = dict(intake.tally.counts)

    again = await intake.record(*batch, batch_id="b1")

    assert (50, 50, True) == (first.accepted_count, again.accepted_count, again.duplicate)
    assert counts | {("duplicate", "production"): 1} == dict(intake.tally.counts)
    assert 1 == len(intake.journal.payloads)


async def test_a_batch_beyond_the_rate_is_refused() -> None:
    """In debt an environment takes no batch, whether new, invalid or known; the delay is told, and nothing is recorded."""
    intake = Intake(rate=10)
    await intake.record(*(valid_evaluation() for _ in range(100)), batch_id="b1")

    refusals = [
        await intake.refuse(valid_evaluation()),
        await intake.refuse(Evaluation()),
    ]
    with pytest.raises(FlagledgerError) as caught:
        await intake.record(*(valid_evaluation() for _ in range(100)), batch_id="b1")

    for error in (*refusals, caught.value):
        assert Reason.RATE_EXCEEDED is error.reason
        assert 9.0 == pytest.approx(error.retry_after, abs=1.0)
    assert 1 == len(intake.journal.payloads)
    assert 3 == intake.tally.counts["refused", "RATE_EXCEEDED"]


async def test_a_rate_counts_what_was_sent() -> None:
    """Invalid and unknown evaluations count like any other, and so does a batch that was recorded before."""
    intake = Intake(rate=1_000)
    batch = [valid_evaluation(), *(Evaluation() for _ in range(450)), *(valid_evaluation(feature_name="u"),) * 450]
    await intake.record(*batch, batch_id="b1")
    again = await intake.record(*batch, batch_id="b1")
    error = await intake.refuse(valid_evaluation())

    assert (True, Reason.RATE_EXCEEDED) == (again.duplicate, error.reason)


async def test_a_batch_of_the_wrong_shape_costs_nothing() -> None:
    """What is refused before anything is looked at takes nothing of the rate."""
    intake = Intake(rate=1)
    long = await intake.refuse(*(Evaluation() for _ in range(10_001)))

    assert Reason.BATCH_TOO_LONG is long.reason
    assert 1 == (await intake.record(valid_evaluation())).accepted_count


async def test_fronts_share_the_rate() -> None:
    """One of four fronts takes a quarter of the rate."""
    intake = Intake(rate=400, fronts=4)
    await intake.record(*(valid_evaluation() for _ in range(1_000)))
    error = await intake.refuse(valid_evaluation())

    assert 9.0 == pytest.approx(error.retry_after, abs=1.0)


async def test_a_rate_holds_for_every_way_in() -> None:
    """Streams and older SDKs draw on the same rate: a stream is told in place of the answer, and goes on."""
    intake = Intake(rate=1)
    batch = EvaluationBatch(evaluations=[valid_evaluation()] * 3)

    async def messages() -> Any:
        for _ in range(2):
            yield StreamEvaluationsRequest(batch=batch)
        yield StreamEvaluationsRequest(batch=EvaluationBatch())

    answers = [answer async for answer in intake.servicer.StreamEvaluations(messages(), CallContext())]
    with pytest.raises(FlagledgerError) as caught:
        await intake.servicer.record_of_older_sdk(batch, CallContext())

    refused = to_status(FlagledgerError(Reason.RATE_EXCEEDED, ""))
    assert ["result", "error", "result"] == [answer.WhichOneof("outcome") for answer in answers]
    assert (refused.code, True) == (answers[1].error.code, "1 evaluations" in answers[1].error.message)
    assert Reason.RATE_EXCEEDED is caught.value.reason


@pytest.mark.parametrize(
    ("origins", "sent", "taken"),
    [
        (None, ORIGIN, True),
        (None, "null", True),
        ({ORIGIN}, ORIGIN, True),
        ({ORIGIN}, None, True),
        ({ORIGIN}, "https://app.example.com:8443", False),
        ({ORIGIN}, "http://app.example.com", False),
        ({ORIGIN}, "null", False),
        ({ORIGIN}, "", False),
        (set(), ORIGIN, False),
        (set(), None, True),
    ],
)
async def test_pages_of_other_origins_are_refused(origins: set[str] | None, sent: str | None, taken: bool) -> None:  # noqa: FBT001
    """A page that the key's environment does not list is refused wherever the key is asked; who sends no origin is no page."""
    intake = Intake(origins=None if origins is None else frozenset(origins))
    context = CallContext(*([("origin", sent)] if sent is not None else []))
    batch = EvaluationBatch(evaluations=[valid_evaluation()])

    async def nothing() -> Any:
        return
        yield

    async def stream() -> None:
        async for _ in intake.servicer.StreamEvaluations(nothing(), context):
            pass

    ways = [
        lambda: intake.servicer.authenticate(context),
        lambda: intake.record(valid_evaluation(), context=context),
        lambda: intake.servicer.record_of_older_sdk(batch, context),
        stream,
    ]
    refused = []
    for way in ways:
        try:
            await way()
        except FlagledgerError as error:
            refused.append(error.reason)

    assert ([] if taken else [Reason.ORIGIN_REFUSED] * 4) == refused
    assert (2 if taken else 0) == len(intake.journal.payloads)


async def test_two_origins_must_both_be_listed() -> None:
    """A second header does not smuggle a page in."""
    intake = Intake(origins=frozenset({ORIGIN}))
    context = CallContext(("origin", ORIGIN), ("origin", "https://evil.example"))

    assert Reason.ORIGIN_REFUSED is (await intake.refuse(valid_evaluation(), context=context)).reason


async def test_a_policy_that_has_changed_counts_from_the_second_look() -> None:
    """An evaluation of a feature that is newer than the cache is kept under the policy that came with it."""
    intake = Intake()
    grant = intake.catalog.fresh
    assert isinstance(grant, Grant)
    intake.catalog.fresh = replace(
        grant,
        environment=replace(grant.environment, features=None, policy=Policy(identity="drop", sample_every=1)),
    )

    await intake.record(valid_evaluation(feature_name="new_one", identity_identifier="user_1"))

    [record] = intake.journal.records
    assert not record.evaluations[0].HasField("identity_identifier")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stopped": True}, Reason.ENVIRONMENT_STOPPED),
        ({"policy": Policy(origins=frozenset())}, Reason.ORIGIN_REFUSED),
    ],
)
async def test_what_is_shut_out_meanwhile_is_shut_out(change: dict[str, Any], reason: Reason) -> None:
    """The second look at an environment counts whole, and not only for its features."""
    intake = Intake()
    grant = intake.catalog.fresh
    assert isinstance(grant, Grant)
    intake.catalog.fresh = replace(grant, environment=replace(grant.environment, **change))

    error = await intake.refuse(valid_evaluation(feature_name="new_one"), context=CallContext(("origin", ORIGIN)))

    assert reason is error.reason
    assert [] == intake.journal.payloads
