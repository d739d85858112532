from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from flagledger.catalog.base import Grant
from flagledger.errors import FlagledgerError, Reason, to_status
from flagledger.ingest.limits import Limits
from flagledger.ingest.servicer import EvaluationServicer
from flagledger.journal.sqlite import SqliteJournal
from flagledger.v1.evaluation_pb2 import Evaluation, EvaluationBatch
from flagledger.v1.evaluation_service_pb2 import (
    RecordEvaluationsRequest,
    RecordEvaluationsResponse,
    RejectedEvaluation,
    StreamEvaluationsRequest,
    StreamEvaluationsResponse,
)
from support.intake import (
    CLIENT_KEY,
    NOW,
    SERVER_KEY,
    CallContext,
    MemoryCatalog,
    MemoryJournal,
    Tally,
    valid_evaluation,
)


class Intake:
    """A servicer with all that stands around it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.catalog = MemoryCatalog()
        self.journal = MemoryJournal()
        self.tally = Tally()
        self.servicer = EvaluationServicer(
            self.catalog, self.journal, limits or Limits(), clock=lambda: NOW, metrics=self.tally
        )

    async def record(
        self, *evaluations: Evaluation, batch_id: str = "", context: CallContext | None = None
    ) -> RecordEvaluationsResponse:
        """Record one batch."""
        batch = EvaluationBatch(evaluations=evaluations, batch_id=batch_id)
        return await self.servicer.RecordEvaluations(RecordEvaluationsRequest(batch=batch), context or CallContext())

    async def refuse(
        self, *evaluations: Evaluation, batch_id: str = "", context: CallContext | None = None
    ) -> FlagledgerError:
        """Record one batch that is to be refused, and return how."""
        context = context or CallContext()
        with pytest.raises(FlagledgerError) as caught:
            await self.record(*evaluations, batch_id=batch_id, context=context)
        assert context.trailing == ()
        assert self.journal.payloads == []
        assert self.tally.counts["refused", caught.value.reason.name] == 1
        return caught.value


@pytest.fixture
async def intake() -> Intake:
    """Return an intake with two features, under the default limits."""
    return Intake()


def batch_of(*evaluations: Evaluation, batch_id: str = "") -> StreamEvaluationsRequest:
    """Return one message of a stream."""
    return StreamEvaluationsRequest(batch=EvaluationBatch(evaluations=evaluations, batch_id=batch_id))


def unreachable() -> FlagledgerError:
    """Return what a catalog raises that cannot be asked."""
    return FlagledgerError(Reason.CATALOG_UNREACHABLE, "The catalog does not answer.")


async def test_an_accepted_batch_is_in_the_journal(intake: Intake) -> None:
    """What was accepted is appended before the answer, and the transport is told of 202."""
    context = CallContext(("user-agent", "curl/8"), ("flagsmith-sdk-user-agent", "flagsmith-python-sdk/3.8.0"))

    response = await intake.record(valid_evaluation(), valid_evaluation(feature_name="checkout"), context=context)

    (record,) = intake.journal.records
    assert response == RecordEvaluationsResponse(accepted_count=2)
    assert context.trailing == (("x-http-code", "202"),)
    assert [evaluation.feature_name for evaluation in record.evaluations] == ["new_dashboard", "checkout"]
    assert (record.envelope.environment, record.envelope.sdk_name) == ("production", "flagsmith-python-sdk")
    assert record.envelope.receive_time.ToNanoseconds() == NOW * 10**9
    assert intake.journal.digests == [b""]
    assert dict(intake.tally.counts) == {("accepted", "production"): 2}


async def test_mixed_verdicts_are_told(intake: Intake) -> None:
    """Some accepted, some filtered, some rejected: counts, paths and unknown names come back, and the good one is kept."""
    response = await intake.record(
        valid_evaluation(feature_name="unheard_of"), valid_evaluation(), valid_evaluation(variant="\0")
    )

    rejected = RejectedEvaluation(
        index=2, field="evaluations[2].variant", description="It holds U+0000, which cannot be kept."
    )
    assert response == RecordEvaluationsResponse(
        accepted_count=1,
        filtered_count=1,
        rejected_count=1,
        rejected_evaluations=[rejected],
        unknown_feature_names=["unheard_of"],
    )
    assert [len(record.evaluations) for record in intake.journal.records] == [1]
    assert dict(intake.tally.counts) == {
        ("accepted", "production"): 1,
        ("filtered", "production"): 1,
        ("rejected", "production", "variant"): 1,
    }


async def test_an_invalid_evaluation_of_an_unknown_feature_is_rejected(intake: Intake) -> None:
    """Invalid counts before unknown."""
    response = await intake.record(valid_evaluation(feature_name="unheard_of", variant="\0"), valid_evaluation())

    assert (response.rejected_count, response.filtered_count, response.unknown_feature_names) == (1, 0, [])
    assert intake.catalog.looks[True] == 0


async def test_lists_in_the_answer_are_bounded(intake: Intake) -> None:
    """The first 100 rejected and the first 20 unknown names are told; the counts are of all."""
    response = await intake.record(
        *(Evaluation() for _ in range(150)), *(valid_evaluation(feature_name=f"u{n}") for n in range(30))
    )

    assert (response.rejected_count, response.filtered_count) == (150, 30)
    assert [rejected.index for rejected in response.rejected_evaluations] == list(range(100))
    assert list(response.unknown_feature_names) == [f"u{n}" for n in range(20)]


async def test_nothing_valid_refuses_the_batch(intake: Intake) -> None:
    """Where every evaluation is invalid the batch is refused with the first 20 fields, and nothing is appended."""
    error = await intake.refuse(*(Evaluation() for _ in range(30)), batch_id="b1")

    assert error.reason is Reason.NOTHING_VALID
    assert [violation.field for violation in error.violations] == [
        f"evaluations[{index}].feature_name" for index in range(20)
    ]
    assert intake.tally.counts["rejected", "production", "feature_name"] == 30


async def test_errors_of_the_transport_reject_their_elements(intake: Intake) -> None:
    """What JSON could not be read as is rejected by index and path beside what is invalid, in order."""
    context = CallContext()
    context.element_errors = ((1, "evaluations[1].enabled", "It is no boolean."),)

    response = await intake.record(Evaluation(), Evaluation(), valid_evaluation(), context=context)

    assert [rejected.field for rejected in response.rejected_evaluations] == [
        "evaluations[0].feature_name",
        "evaluations[1].enabled",
    ]
    assert response.accepted_count == 1


@pytest.mark.parametrize("batch_id", ["", "b1"])
async def test_an_empty_batch_is_fine(intake: Intake, batch_id: str) -> None:
    """An empty list is answered with zeros; it is recorded only where it has an id."""
    context = CallContext()

    assert await intake.record(batch_id=batch_id, context=context) == RecordEvaluationsResponse()
    assert context.trailing == (("x-http-code", "202"),)
    assert [record.batch_id for record in intake.journal.records] == ([batch_id] if batch_id else [])


async def test_a_batch_that_was_filtered_whole_is_recorded_as_such(intake: Intake) -> None:
    """Filtered is no error: the answer says so, and the journal learns which names were asked for."""
    response = await intake.record(valid_evaluation(feature_name="unheard_of"))

    (record,) = intake.journal.records
    assert (response.filtered_count, list(response.unknown_feature_names)) == (1, ["unheard_of"])
    assert [(discard.name, discard.entry_count) for discard in record.envelope.discards] == [("unheard_of", 1)]
    assert len(record.evaluations) == 0


KEYS = {
    "missing": CallContext(key=None),
    "empty": CallContext(key=""),
    "unknown": CallContext(key="unknown"),
    "two different": CallContext(("x-environment-key", SERVER_KEY)),
    "one empty": CallContext(("x-environment-key", "")),
    "expired": CallContext(key="expired"),
}


@pytest.mark.parametrize("context", KEYS.values(), ids=KEYS)
async def test_every_bad_key_gets_one_answer(intake: Intake, context: CallContext) -> None:
    """Missing, empty, unknown, expired, ambiguous: the same bytes, before the batch is looked at, over calls and streams."""
    good = intake.catalog.grants[CLIENT_KEY]
    assert isinstance(good, Grant)
    intake.catalog.grants["expired"] = replace(good, expires_at=1.0)
    missing = await Intake().refuse(context=CallContext(key=None))

    refused = await intake.refuse(*(Evaluation() for _ in range(3)), batch_id="x" * 999, context=context)
    with pytest.raises(FlagledgerError) as authenticating:
        await intake.servicer.authenticate(context)
    with pytest.raises(FlagledgerError) as streaming:
        await anext(intake.servicer.StreamEvaluations(stream_of(), context))

    answers = {
        to_status(error).SerializeToString() for error in (missing, refused, authenticating.value, streaming.value)
    }
    assert len(answers) == 1
    assert refused.reason is Reason.KEY_INVALID


async def test_the_same_key_twice_is_one_key(intake: Intake) -> None:
    """A key that is repeated is not ambiguous."""
    grant = await intake.servicer.authenticate(CallContext(("x-environment-key", CLIENT_KEY)))

    assert grant.environment.name == "production"


async def test_an_unreachable_catalog_is_no_bad_key(intake: Intake) -> None:
    """Where the catalog cannot tell, the caller is asked to come back."""
    intake.catalog.grants["k"] = unreachable()

    error = await intake.refuse(valid_evaluation(), context=CallContext(key="k"))

    assert (error.reason, error.retry_after) == (Reason.CATALOG_UNREACHABLE, 5.0)


SHAPES = {
    "id of 129 characters": ("x" * 129, (), Reason.BATCH_ID_INVALID),
    "id in metadata of 129 characters": ("", (("idempotency-key", "x" * 129),), Reason.BATCH_ID_INVALID),
    "id with U+0000": ("a\0", (), Reason.BATCH_ID_INVALID),
    "two ids": ("a", (("idempotency-key", "b"),), Reason.BATCH_ID_INVALID),
    "two ids in metadata": ("", (("idempotency-key", "a"), ("idempotency-key", "b")), Reason.BATCH_ID_INVALID),
}


@pytest.mark.parametrize(("batch_id", "metadata", "reason"), SHAPES.values(), ids=SHAPES)
async def test_a_bad_batch_id_refuses_the_batch(
    intake: Intake, batch_id: str, metadata: tuple[tuple[str, str], ...], reason: Reason
) -> None:
    """An id that is too long, holds U+0000, or comes twice and differently refuses the batch and names the field."""
    error = await intake.refuse(valid_evaluation(), batch_id=batch_id, context=CallContext(*metadata))

    assert (error.reason, [violation.field for violation in error.violations]) == (reason, ["batch_id"])


@pytest.mark.parametrize(
    ("batch_id", "header"), [("x" * 128, None), ("", "b1"), ("b1", "b1"), ("b1", ""), ("ü" * 128, None)]
)
async def test_a_good_batch_id_may_come_in_either_place(intake: Intake, batch_id: str, header: str | None) -> None:
    """Up to 128 characters, in the batch or in the metadata, or the same in both."""
    metadata = [] if header is None else [("idempotency-key", header)]

    await intake.record(valid_evaluation(), batch_id=batch_id, context=CallContext(*metadata))

    assert [record.batch_id for record in intake.journal.records] == [batch_id or header]
    assert [len(digest) for digest in intake.journal.digests] == [16]


async def test_a_request_without_a_batch_is_malformed(intake: Intake) -> None:
    """An absent batch is not an empty one."""
    with pytest.raises(FlagledgerError) as caught:
        await intake.servicer.RecordEvaluations(RecordEvaluationsRequest(), CallContext())

    assert caught.value.reason is Reason.MALFORMED


async def test_a_batch_may_hold_so_many_evaluations() -> None:
    """At the limit a batch is recorded, beyond it refused as a whole."""
    intake = Intake(Limits(max_evaluations=3))

    error = await intake.refuse(*[valid_evaluation()] * 4)
    response = await intake.record(*[valid_evaluation()] * 3)

    assert (error.reason, error.violations[0].field) == (Reason.BATCH_TOO_LONG, "evaluations")
    assert response.accepted_count == 3


async def test_counts_follow_the_kind_of_key(intake: Intake) -> None:
    """A server key may report more evaluations in one entry than a client key."""
    response = await intake.record(
        valid_evaluation(count=1_000_000), valid_evaluation(), context=CallContext(key=SERVER_KEY)
    )

    assert response.accepted_count == 2
    assert (await intake.record(valid_evaluation(count=1_000_000), valid_evaluation())).rejected_count == 1


async def test_a_repeated_batch_is_answered_as_the_first_time(intake: Intake) -> None:
    """The second answer says duplicate, has the first counts and empty lists, and appends and counts nothing more."""
    evaluations = [valid_evaluation(), valid_evaluation(feature_name="unheard_of"), Evaluation()]

    first = await intake.record(*evaluations, batch_id="b1")
    intake.catalog.add_feature("unheard_of")
    second = await intake.record(*evaluations, context=CallContext(("idempotency-key", "b1")))

    assert (first.duplicate, first.accepted_count, len(first.rejected_evaluations)) == (False, 1, 1)
    assert second == RecordEvaluationsResponse(accepted_count=1, filtered_count=1, rejected_count=1, duplicate=True)
    assert len(intake.journal.payloads) == 1
    assert dict(intake.tally.counts) == {
        ("accepted", "production"): 1,
        ("filtered", "production"): 1,
        ("rejected", "production", "feature_name"): 1,
        ("duplicate", "production"): 1,
    }


async def test_an_id_with_other_content_is_refused(intake: Intake) -> None:
    """A batch id that was used for another content is an error, and counted."""
    await intake.record(valid_evaluation(), batch_id="b1")

    with pytest.raises(FlagledgerError) as caught:
        await intake.record(valid_evaluation(variant="b"), batch_id="b1")

    assert caught.value.reason is Reason.BATCH_ID_REUSED
    assert intake.tally.counts["refused", "BATCH_ID_REUSED"] == 1


@pytest.mark.parametrize("reason", [Reason.JOURNAL_FULL, Reason.DISK_FAILING, Reason.DRAINING])
async def test_what_the_journal_refuses_is_refused(intake: Intake, reason: Reason) -> None:
    """A refusal of the journal goes to the caller as it is; nothing is counted as accepted."""
    intake.journal.refusal = FlagledgerError(reason, "Not now.")

    error = await intake.refuse(valid_evaluation())

    assert error is intake.journal.refusal
    assert ("accepted", "production") not in intake.tally.counts


async def test_a_new_feature_loses_nothing(intake: Intake) -> None:
    """On unknown names the environment is looked up afresh, once a batch, before anything is filtered."""
    intake.catalog.add_feature("brand_new")

    response = await intake.record(
        valid_evaluation(feature_name="brand_new"),
        valid_evaluation(feature_name="unheard_of"),
        valid_evaluation(feature_name="brand_new"),
    )

    assert (response.accepted_count, list(response.unknown_feature_names)) == (2, ["unheard_of"])
    assert intake.catalog.looks[True] == 1


async def test_known_features_need_no_second_look(intake: Intake) -> None:
    """The usual batch costs one look at the cache."""
    await intake.record(valid_evaluation())

    assert dict(intake.catalog.looks) == {False: 1}


async def test_the_second_look_does_not_need_the_source(intake: Intake) -> None:
    """Where the source cannot be asked, what is known decides: old SDKs that send unknown names do not stop the rest."""
    intake.catalog.fresh = unreachable()

    response = await intake.record(valid_evaluation(), valid_evaluation(feature_name="unheard_of"))

    assert (response.accepted_count, response.filtered_count) == (1, 1)


async def test_a_key_that_is_gone_at_the_second_look_is_invalid(intake: Intake) -> None:
    """A key that was withdrawn meanwhile counts no more."""
    intake.catalog.fresh = None

    error = await intake.refuse(valid_evaluation(feature_name="unheard_of"))

    assert error.reason is Reason.KEY_INVALID


async def stream_of(
    *messages: StreamEvaluationsRequest | FlagledgerError,
) -> AsyncIterator[StreamEvaluationsRequest | FlagledgerError]:
    """Yield *messages*, then end."""
    for message in messages:
        yield message


async def test_a_bad_batch_ends_nothing(intake: Intake) -> None:
    """One answer a batch, in order: results and errors, also for what the transport could not read."""
    malformed = FlagledgerError(Reason.MALFORMED, "No protobuf.")
    stream = stream_of(
        batch_of(valid_evaluation()),
        malformed,
        batch_of(Evaluation()),
        StreamEvaluationsRequest(),
        batch_of(valid_evaluation(), batch_id="x" * 129),
        batch_of(valid_evaluation(), valid_evaluation(), batch_id="b1"),
    )
    context = CallContext(("idempotency-key", "not read here"))

    answers = [answer async for answer in intake.servicer.StreamEvaluations(stream, context)]

    assert [answer.WhichOneof("outcome") for answer in answers] == ["result", *["error"] * 4, "result"]
    assert answers[1] == StreamEvaluationsResponse(error=to_status(malformed))
    assert [answer.result.accepted_count for answer in answers] == [1, 0, 0, 0, 0, 2]
    assert [answer.error.code for answer in answers] == [0, 3, 3, 3, 3, 0]
    assert [record.batch_id for record in intake.journal.records] == ["", "b1"]
    assert intake.tally.counts["refused", "MALFORMED"] == 2


async def test_batches_of_a_stream_are_committed_together() -> None:
    """Up to the bound of batches wait for the journal at once; reading pauses there; answers keep the order."""
    intake = Intake(Limits(unanswered_batches=8))
    intake.journal.open.clear()
    messages = [batch_of(*[valid_evaluation()] * (n + 1)) for n in range(20)]

    async def run() -> list[int]:
        answers = intake.servicer.StreamEvaluations(stream_of(*messages), CallContext())
        return [answer.result.accepted_count async for answer in answers]

    stream = asyncio.create_task(run())
    await asyncio.sleep(0.05)
    assert (intake.journal.waiting, intake.journal.payloads) == (8, [])
    intake.journal.open.set()

    assert await stream == list(range(1, 21))
    assert intake.journal.most_waiting == 8


async def test_the_key_is_checked_for_each_batch(intake: Intake) -> None:
    """A key that is withdrawn in the middle of a stream records nothing from then on; one that returns does again."""
    grant = intake.catalog.grants[CLIENT_KEY]

    async def messages() -> AsyncIterator[StreamEvaluationsRequest]:
        for state in (grant, None, unreachable(), grant):
            if state is None:
                del intake.catalog.grants[CLIENT_KEY]
            else:
                intake.catalog.grants[CLIENT_KEY] = state
            yield batch_of(valid_evaluation())

    one_by_one = EvaluationServicer(
        intake.catalog, intake.journal, Limits(unanswered_batches=1), clock=lambda: NOW, metrics=intake.tally
    )
    codes = [answer.error.code async for answer in one_by_one.StreamEvaluations(messages(), CallContext())]

    assert codes == [0, 16, 14, 0]
    assert len(intake.journal.payloads) == 2


async def test_a_draining_server_ends_its_streams(intake: Intake) -> None:
    """What was read is answered, then the stream ends; a new stream is told to come back, a single batch is recorded."""

    async def messages() -> AsyncIterator[StreamEvaluationsRequest]:
        yield batch_of(valid_evaluation())
        yield batch_of(valid_evaluation())
        await asyncio.Event().wait()

    async def run() -> list[int]:
        answers = intake.servicer.StreamEvaluations(messages(), CallContext())
        return [answer.result.accepted_count async for answer in answers]

    intake.journal.open.clear()
    stream = asyncio.create_task(run())
    await asyncio.sleep(0.05)
    intake.servicer.drain()
    intake.journal.open.set()

    assert await asyncio.wait_for(stream, 5) == [1, 1]
    with pytest.raises(FlagledgerError) as caught:
        await anext(intake.servicer.StreamEvaluations(stream_of(), CallContext()))
    assert (caught.value.reason, caught.value.retry_after) == (Reason.DRAINING, 1.0)
    assert (await intake.record(valid_evaluation())).accepted_count == 1


async def test_a_cancelled_stream_leaves_nothing_behind(intake: Intake) -> None:
    """A call that is cancelled while batches wait for the journal leaves no task."""
    intake.journal.open.clear()

    async def run() -> None:
        stream = stream_of(*[batch_of(valid_evaluation())] * 3)
        async for _ in intake.servicer.StreamEvaluations(stream, CallContext()):
            pass

    call = asyncio.create_task(run())
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)

    assert intake.journal.waiting == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_with_the_journal_on_disk(tmp_path: Path) -> None:
    """Over the SQLite journal a batch is durable, once, and refused where its id comes with other content."""
    journal = await asyncio.to_thread(SqliteJournal.open, tmp_path / "journal.db", max_bytes=1 << 20, reserve_bytes=0)
    servicer = EvaluationServicer(MemoryCatalog(), journal, Limits(), clock=lambda: NOW)

    async def record(*evaluations: Evaluation) -> RecordEvaluationsResponse:
        batch = EvaluationBatch(evaluations=evaluations, batch_id="b1")
        return await servicer.RecordEvaluations(RecordEvaluationsRequest(batch=batch), CallContext())

    try:
        first = await record(valid_evaluation(), Evaluation())
        second = await record(valid_evaluation(), Evaluation())
        with pytest.raises(FlagledgerError) as caught:
            await record(valid_evaluation())
        entries = await asyncio.to_thread(journal.read, 0, 1 << 20)
    finally:
        await asyncio.to_thread(journal.close)

    assert (first.accepted_count, first.rejected_count, first.duplicate) == (1, 1, False)
    assert second == RecordEvaluationsResponse(accepted_count=1, rejected_count=1, duplicate=True)
    assert caught.value.reason is Reason.BATCH_ID_REUSED
    assert len(entries) == 1


def test_intake_imports_no_transport_and_no_store() -> None:
    """The servicer can be had without a transport or a store."""
    code = (
        "import sys, flagledger.ingest.servicer;"
        "print(sorted({'grpc', 'starlette', 'duckdb', 'sqlite3', 'uvicorn'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
