"""
Records evaluations: the one servicer that every transport calls.

It knows no transport. A call's context is asked for its metadata and, where it has them, for the errors that a
transport met while it read the elements of a batch; a refusal is a `FlagledgerError`, which the transport turns into
its own form.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from flagledger.catalog.base import Catalog, Grant
from flagledger.errors import MAX_VIOLATIONS, FieldViolation, FlagledgerError, Reason, to_status
from flagledger.ingest.admission import Verdict, inspect
from flagledger.ingest.envelope import compose_payload
from flagledger.ingest.grammar import compile_grammar
from flagledger.ingest.limits import Limits
from flagledger.ingest.metrics import IngestMetrics, NullMetrics
from flagledger.ingest.sdk import Sdk, parse_user_agent
from flagledger.ingest.stream import OrderedStreams
from flagledger.journal.base import Appended, Journal, Outcome
from flagledger.v1.evaluation_pb2 import EvaluationBatch
from flagledger.v1.evaluation_service_pb2 import (
    RecordEvaluationsRequest,
    RecordEvaluationsResponse,
    RejectedEvaluation,
    StreamEvaluationsRequest,
    StreamEvaluationsResponse,
)

KEY_METADATA: Final = "x-environment-key"
BATCH_ID_METADATA: Final = "idempotency-key"
SDK_METADATA: Final = ("flagsmith-sdk-user-agent", "user-agent")

# What the HTTP transport answers instead of 200; the contract says so.
_ACCEPTED: Final = (("x-http-code", "202"),)
_MAX_REJECTED: Final = 100
_MAX_UNKNOWN_NAMES: Final = 20
_NOTHING: Final = Outcome(accepted=0, filtered=0, rejected=0)
_NULL_METRICS: Final = NullMetrics()


class CallContext(Protocol):
    """
    What is asked of a call. `grpc.aio.ServicerContext` is one.

    It may have an attribute `element_errors`: tuples (index, path, description) of what the transport could not read as
    an evaluation, each with an empty evaluation left at its index.
    """

    def invocation_metadata(self) -> Any:
        """Return pairs of name, in lower case, and value; or None."""

    def set_trailing_metadata(self, trailing_metadata: Any, /) -> None:
        """Send these pairs with the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caller:
    """What a call says of itself: the one key or none, the batch ids in its metadata, and its SDK."""

    key: str | None
    batch_ids: frozenset[str]
    sdk: Sdk


class EvaluationServicer:
    """
    Implements flagledger.v1.EvaluationService: authenticate, admit, append to the journal, answer.

    Args:
        catalog: Which keys and features exist.
        journal: Where batches become durable.
        limits: What a batch may hold.
        clock: Epoch seconds of the server.
        metrics: What counts.
    """

    def __init__(
        self,
        catalog: Catalog,
        journal: Journal,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
        metrics: IngestMetrics = _NULL_METRICS,
    ) -> None:
        self._catalog = catalog
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._streams = OrderedStreams(limits.unanswered_batches)
        compile_grammar(limits)  # now and not under the first request: it takes a while

    async def authenticate(self, context: CallContext) -> Grant:
        """
        Return what the call's environment key permits.

        Raises:
            FlagledgerError: KEY_INVALID, always the same, where the key is missing, unknown, inactive, expired or
                ambiguous; CATALOG_UNREACHABLE where that cannot be told.
        """
        try:
            return await self._grant(_caller(context).key)
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            raise

    async def RecordEvaluations(
        self, request: RecordEvaluationsRequest, context: CallContext
    ) -> RecordEvaluationsResponse:
        """
        Record one batch, and return once what was admitted is on disk. The batch of *request* is used up.

        Raises:
            FlagledgerError: Nothing was recorded; the reason says why.
        """
        caller = _caller(context)
        try:
            grant = await self._grant(caller.key)
            batch = _batch(request)
            batch_id = self._check_shape(batch, caller.batch_ids)
            errors = getattr(context, "element_errors", ())
            response = await self._record(batch, batch_id, grant, caller, errors)
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            raise
        context.set_trailing_metadata(_ACCEPTED)
        return response

    async def record_of_older_sdk(
        self, batch: EvaluationBatch, context: CallContext, *, foreign_events: int = 0
    ) -> RecordEvaluationsResponse:
        """
        Record what an SDK sent by a protocol older than the contract: `Limits.of_older_sdks` hold, and *context* is only read.

        Args:
            batch: As far as it could be read; used up.
            context: Of the call, with `element_errors` for what could not.
            foreign_events: Events beside the evaluations that are none; counted as not kept, in no field of the answer.

        Raises:
            FlagledgerError: As RecordEvaluations.
        """
        caller = _caller(context)
        try:
            grant = await self._grant(caller.key)
            batch_id = self._check_shape(batch, caller.batch_ids)
            errors = getattr(context, "element_errors", ())
            return await self._record(batch, batch_id, grant, caller, errors, foreign_events=foreign_events, older=True)
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            raise

    async def StreamEvaluations(
        self, request_iterator: AsyncIterable[StreamEvaluationsRequest | FlagledgerError], context: CallContext
    ) -> AsyncGenerator[StreamEvaluationsResponse, None]:
        """
        Record batches as they come, and yield one answer for each, in their order.

        A batch that is refused ends nothing. Several are on their way to the disk at once, so that they share its
        syncs; past the limit of unanswered ones reading pauses.

        Args:
            request_iterator: Batches; a `FlagledgerError` in place of one that the transport could not read.
            context: Of the whole stream.

        Raises:
            FlagledgerError: Before the first batch, where the key does not count; DRAINING once the server drains.
        """
        caller = _caller(context)
        try:
            if self._streams.draining:
                raise FlagledgerError(Reason.DRAINING, "The server is shutting down. Open a new stream.")
            await self._grant(caller.key)
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            raise

        async def answer(item: StreamEvaluationsRequest | FlagledgerError) -> StreamEvaluationsResponse:
            return await self._answer(item, caller)

        answers = self._streams.answers(request_iterator, answer)
        try:
            async for response in answers:
                yield response
        finally:
            await answers.aclose()

    def drain(self) -> None:
        """End every stream once what was read of it is answered, and refuse new ones. Unary calls go on."""
        self._streams.drain()

    async def _answer(
        self, item: StreamEvaluationsRequest | FlagledgerError, caller: _Caller
    ) -> StreamEvaluationsResponse:
        try:
            grant = await self._grant(caller.key)
            if isinstance(item, FlagledgerError):
                raise item
            batch = _batch(item)
            batch_id = self._check_shape(batch, frozenset())
            return StreamEvaluationsResponse(result=await self._record(batch, batch_id, grant, caller, ()))
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            return StreamEvaluationsResponse(error=to_status(error))

    async def _grant(self, key: str | None) -> Grant:
        grant = await self._catalog.lookup(key) if key else None
        if grant is None or not grant.holds():
            raise _key_invalid()
        if grant.environment.stopped:
            raise FlagledgerError(
                Reason.ENVIRONMENT_STOPPED,
                "Nothing is taken for this environment: its organisation is disabled. Do not retry.",
            )
        return grant

    def _check_shape(self, batch: EvaluationBatch, ids_in_metadata: frozenset[str]) -> str:
        """Return the batch id, empty for none."""
        if len(batch.evaluations) > self._limits.max_evaluations:
            most = f"{self._limits.max_evaluations:,}"
            raise FlagledgerError(
                Reason.BATCH_TOO_LONG,
                f"The batch has more than {most} evaluations. Send smaller batches.",
                violations=(FieldViolation(field="evaluations", description=f"There are more than {most}."),),
            )
        given = ids_in_metadata | {batch.batch_id} if batch.batch_id else ids_in_metadata
        if not given:
            return ""
        if len(given) > 1:
            raise _batch_id_invalid("It was given more than once, and differently.")
        (batch_id,) = given
        if len(batch_id) > self._limits.batch_id_characters:
            raise _batch_id_invalid(f"It is longer than {self._limits.batch_id_characters:,} characters.")
        if "\0" in batch_id:
            raise _batch_id_invalid("It holds U+0000, which cannot be kept.")
        return batch_id

    async def _record(
        self,
        batch: EvaluationBatch,
        batch_id: str,
        grant: Grant,
        caller: _Caller,
        errors: Iterable[tuple[int, str, str]],
        *,
        foreign_events: int = 0,
        older: bool = False,
    ) -> RecordEvaluationsResponse:
        now = self._clock()
        inspection = inspect(
            batch, limits=self._limits, now=now, is_server=grant.is_server, element_errors=errors, older=older
        )
        if inspection.unknown(grant.environment.features):
            grant = await self._look_again(caller.key, grant)
        verdict = inspection.judge(grant.environment.features)
        environment, outcome = grant.environment.name, verdict.outcome
        if outcome.rejected and not outcome.accepted and not outcome.filtered:
            self._count_rejected(environment, verdict)
            raise _nothing_valid(verdict)
        if outcome == _NOTHING and not batch_id and not foreign_events:
            return RecordEvaluationsResponse()
        appended = await self._journal.append(
            environment,
            batch_id,
            inspection.digest() if batch_id else b"",
            outcome,
            compose_payload(
                batch_id=batch_id,
                grant=grant,
                sdk=caller.sdk,
                receive_time=now,
                verdict=verdict,
                foreign_events=foreign_events,
            ),
        )
        if appended.duplicate:
            self._metrics.duplicate(environment)
            return _response(appended)
        self._metrics.accepted(environment, outcome.accepted)
        if outcome.filtered:
            self._metrics.filtered(environment, outcome.filtered)
        if foreign_events:
            self._metrics.foreign(environment, foreign_events)
        self._count_rejected(environment, verdict)
        return _response(appended, verdict)

    async def _look_again(self, key: str | None, grant: Grant) -> Grant:
        """Return the grant as it is now, since a feature may be newer than the cache; as it was if nobody can tell."""
        try:
            fresh = await self._catalog.lookup(key, fresh=True) if key else None
        except FlagledgerError as error:
            if error.reason is not Reason.CATALOG_UNREACHABLE:
                raise
            return grant
        if fresh is None or not fresh.holds():
            raise _key_invalid()
        return fresh

    def _count_rejected(self, environment: str, verdict: Verdict) -> None:
        for kind, entries in verdict.rejected_by_kind().items():
            self._metrics.rejected(environment, kind, entries)


def _caller(context: CallContext) -> _Caller:
    """Read a call's metadata in one pass."""
    keys: set[str] = set()
    batch_ids: set[str] = set()
    agents: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if name == KEY_METADATA:
            keys.add(value)
        elif name == BATCH_ID_METADATA:
            if value:
                batch_ids.add(value)
        elif name in SDK_METADATA:
            agents.setdefault(name, value)
    agent = next((agents[name] for name in SDK_METADATA if agents.get(name)), "")
    return _Caller(
        key=keys.pop() if len(keys) == 1 else None, batch_ids=frozenset(batch_ids), sdk=parse_user_agent(agent)
    )


def _batch(request: RecordEvaluationsRequest | StreamEvaluationsRequest) -> EvaluationBatch:
    if not request.HasField("batch"):
        raise FlagledgerError(
            Reason.MALFORMED,
            "The request holds no batch.",
            violations=(FieldViolation(field="batch", description="It is required; it may be empty."),),
        )
    return request.batch


def _response(appended: Appended, verdict: Verdict | None = None) -> RecordEvaluationsResponse:
    outcome = appended.outcome
    response = RecordEvaluationsResponse(
        accepted_count=outcome.accepted,
        filtered_count=outcome.filtered,
        rejected_count=outcome.rejected,
        duplicate=appended.duplicate,
    )
    if verdict is not None and (verdict.faults or verdict.filtered):
        response.rejected_evaluations.extend(
            RejectedEvaluation(index=fault.index, field=fault.field, description=fault.description)
            for fault in verdict.faults[:_MAX_REJECTED]
        )
        response.unknown_feature_names.extend([*verdict.filtered][:_MAX_UNKNOWN_NAMES])
    return response


def _key_invalid() -> FlagledgerError:
    # One answer for every cause: which keys once existed is nobody's business.
    return FlagledgerError(
        Reason.KEY_INVALID, f"The call carries no valid environment key in {KEY_METADATA}. Do not retry."
    )


def _batch_id_invalid(description: str) -> FlagledgerError:
    return FlagledgerError(
        Reason.BATCH_ID_INVALID,
        "The batch id is not valid.",
        violations=(FieldViolation(field="batch_id", description=description),),
    )


def _nothing_valid(verdict: Verdict) -> FlagledgerError:
    first = verdict.faults[:MAX_VIOLATIONS]
    return FlagledgerError(
        Reason.NOTHING_VALID,
        # Many a client shows the message alone, and leaves the details in their trailer.
        f"Not one of the {verdict.outcome.rejected:,} evaluations is valid. The first fault, in {first[0].field}: "
        f"{first[0].description}",
        violations=tuple(FieldViolation(field=fault.field, description=fault.description) for fault in first),
    )
