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
from flagledger.errors import FlagledgerError, Reason, to_status
from flagledger.ingest import answers
from flagledger.ingest.admission import Verdict, inspect
from flagledger.ingest.envelope import compose_payload
from flagledger.ingest.grammar import compile_grammar
from flagledger.ingest.limits import Limits
from flagledger.ingest.metrics import IngestMetrics, NullMetrics
from flagledger.ingest.privacy import Privacy
from flagledger.ingest.rate import Rates
from flagledger.ingest.sdk import Sdk, parse_user_agent
from flagledger.ingest.stream import OrderedStreams
from flagledger.journal.base import Journal, Outcome
from flagledger.v1.evaluation_pb2 import EvaluationBatch
from flagledger.v1.evaluation_service_pb2 import (
    RecordEvaluationsRequest,
    RecordEvaluationsResponse,
    StreamEvaluationsRequest,
    StreamEvaluationsResponse,
)

KEY_METADATA: Final = "x-environment-key"
BATCH_ID_METADATA: Final = "idempotency-key"
ORIGIN_METADATA: Final = "origin"
SDK_METADATA: Final = ("flagsmith-sdk-user-agent", "user-agent")

# What the HTTP transport answers instead of 200; the contract says so.
_ACCEPTED: Final = (("x-http-code", "202"),)
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
    """What a call says of itself: the one key or none, the batch ids in its metadata, the origins of its page, and its SDK."""

    key: str | None
    batch_ids: frozenset[str]
    origins: frozenset[str]
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
        secret: What policies hide with; empty where none hides anything.
        fronts: Servicers that share an environment's rate.
    """

    def __init__(
        self,
        catalog: Catalog,
        journal: Journal,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
        metrics: IngestMetrics = _NULL_METRICS,
        secret: bytes = b"",
        fronts: int = 1,
    ) -> None:
        self._catalog = catalog
        self._journal = journal
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._privacy = Privacy(secret)
        self._rates = Rates(fronts)
        self._streams = OrderedStreams(limits.unanswered_batches)
        compile_grammar(limits)  # now and not under the first request: it takes a while

    async def authenticate(self, context: CallContext) -> Grant:
        """
        Return what the call's environment key permits.

        Raises:
            FlagledgerError: KEY_INVALID, always the same, where the key is missing, unknown, inactive, expired or
                ambiguous; CATALOG_UNREACHABLE where that cannot be told; ENVIRONMENT_STOPPED or ORIGIN_REFUSED where nothing
                is taken for the environment, or nothing from that page.
        """
        try:
            return await self._grant(_caller(context))
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
            grant = await self._grant(caller)
            batch = _batch(request)
            batch_id = self._check_shape(batch, caller.batch_ids)
            self._rates.take(grant.environment, len(batch.evaluations))
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
            FlagledgerError: As RecordEvaluations, but for NOTHING_VALID: the answer says how many were rejected.
        """
        caller = _caller(context)
        try:
            grant = await self._grant(caller)
            batch_id = self._check_shape(batch, caller.batch_ids)
            self._rates.take(grant.environment, len(batch.evaluations))
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
            await self._grant(caller)
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            raise

        async def answer(item: StreamEvaluationsRequest | FlagledgerError) -> StreamEvaluationsResponse:
            return await self._answer(item, caller)

        responses = self._streams.answers(request_iterator, answer)
        try:
            async for response in responses:
                yield response
        finally:
            await responses.aclose()

    def drain(self) -> None:
        """End every stream once what was read of it is answered, and refuse new ones. Unary calls go on."""
        self._streams.drain()

    async def _answer(
        self, item: StreamEvaluationsRequest | FlagledgerError, caller: _Caller
    ) -> StreamEvaluationsResponse:
        try:
            grant = await self._grant(caller)
            if isinstance(item, FlagledgerError):
                raise item
            batch = _batch(item)
            batch_id = self._check_shape(batch, frozenset())
            self._rates.take(grant.environment, len(batch.evaluations))
            return StreamEvaluationsResponse(result=await self._record(batch, batch_id, grant, caller, ()))
        except FlagledgerError as error:
            self._metrics.refused(error.reason)
            return StreamEvaluationsResponse(error=to_status(error))

    async def _grant(self, caller: _Caller) -> Grant:
        grant = await self._catalog.lookup(caller.key) if caller.key else None
        return _checked(grant, caller)

    def _check_shape(self, batch: EvaluationBatch, ids_in_metadata: frozenset[str]) -> str:
        """Return the batch id, empty for none."""
        if len(batch.evaluations) > self._limits.max_evaluations:
            raise answers.batch_too_long(self._limits.max_evaluations)
        given = ids_in_metadata | {batch.batch_id} if batch.batch_id else ids_in_metadata
        if not given:
            return ""
        if len(given) > 1:
            raise answers.batch_id_invalid("It was given more than once, and differently.")
        (batch_id,) = given
        if len(batch_id) > self._limits.batch_id_characters:
            raise answers.batch_id_invalid(f"It is longer than {self._limits.batch_id_characters:,} characters.")
        if "\0" in batch_id:
            raise answers.batch_id_invalid("It holds U+0000, which cannot be kept.")
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
            grant = await self._look_again(caller, grant)
        verdict = inspection.judge(grant.environment.features)
        environment, outcome = grant.environment.name, verdict.outcome
        # To an older SDK a refusal is no answer: it would send the same again. Readers are told what was wrong with it.
        if outcome.rejected and not outcome.accepted and not outcome.filtered and not older:
            self._count_rejected(environment, verdict)
            raise answers.nothing_valid(verdict)
        if outcome == _NOTHING and not batch_id and not foreign_events:
            return RecordEvaluationsResponse()
        verdict = self._privacy.apply(verdict, grant.environment)
        appended = await self._journal.append(
            environment,
            batch_id,
            inspection.digest(self._privacy.digest_key(grant.environment.policy)) if batch_id else b"",
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
            return answers.answer(appended)
        self._metrics.accepted(environment, outcome.accepted - verdict.sampled_out)
        if verdict.sampled_out:
            self._metrics.sampled_out(environment, verdict.sampled_out)
        if outcome.filtered:
            self._metrics.filtered(environment, outcome.filtered)
        if foreign_events:
            self._metrics.foreign(environment, foreign_events)
        self._count_rejected(environment, verdict)
        return answers.answer(appended, verdict)

    async def _look_again(self, caller: _Caller, grant: Grant) -> Grant:
        """Return the grant as it is now, since a feature may be newer than the cache; as it was if nobody can tell."""
        try:
            fresh = await self._catalog.lookup(caller.key, fresh=True) if caller.key else None
        except FlagledgerError as error:
            if error.reason is not Reason.CATALOG_UNREACHABLE:
                raise
            return grant
        return _checked(fresh, caller)

    def _count_rejected(self, environment: str, verdict: Verdict) -> None:
        for kind, entries in verdict.rejected_by_kind().items():
            self._metrics.rejected(environment, kind, entries)


def _caller(context: CallContext) -> _Caller:
    """Read a call's metadata in one pass."""
    keys: set[str] = set()
    batch_ids: set[str] = set()
    origins: set[str] = set()
    agents: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if name == KEY_METADATA:
            keys.add(value)
        elif name == BATCH_ID_METADATA:
            if value:
                batch_ids.add(value)
        elif name == ORIGIN_METADATA:
            origins.add(value)
        elif name in SDK_METADATA:
            agents.setdefault(name, value)
    agent = next((agents[name] for name in SDK_METADATA if agents.get(name)), "")
    return _Caller(
        key=keys.pop() if len(keys) == 1 else None,
        batch_ids=frozenset(batch_ids),
        origins=frozenset(origins),
        sdk=parse_user_agent(agent),
    )


def _checked(grant: Grant | None, caller: _Caller) -> Grant:
    """Return *grant* where it permits *caller* to send, else raise."""
    if grant is None or not grant.holds():
        raise answers.key_invalid(KEY_METADATA)
    if grant.environment.stopped:
        raise answers.stopped()
    origins = grant.environment.policy.origins
    if origins is not None and not caller.origins <= origins:
        raise answers.origin_refused()
    return grant


def _batch(request: RecordEvaluationsRequest | StreamEvaluationsRequest) -> EvaluationBatch:
    if not request.HasField("batch"):
        raise answers.no_batch()
    return request.batch
