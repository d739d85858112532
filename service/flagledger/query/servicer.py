"""
Answers questions about what was recorded: the one servicer that every transport calls.

It knows no transport. A call's context is asked for its metadata, and takes that of an export; a refusal is a
`FlagledgerError`, which the transport turns into its own form. The store blocks, so it is asked in threads, a bounded number of
them; a question whose caller has gone, or that takes too long, is ended there too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from google.api import httpbody_pb2

from flagledger.catalog.base import Catalog, Environment, Token
from flagledger.errors import FieldViolation, FlagledgerError, Reason
from flagledger.query import answers, requests
from flagledger.query.access import Access
from flagledger.query.export import Exports
from flagledger.query.identities import Identities
from flagledger.query.journal_state import Backlog, JournalState
from flagledger.query.threads import Threads, end
from flagledger.store.base import Store
from flagledger.store.errors import Interrupt, StoreError, TooManyBucketsError
from flagledger.store.questions import Cursor, ExposureCursor
from flagledger.telemetry.logging import Sparing, get_logger
from flagledger.v1.query_service_pb2 import (
    CountEvaluationsRequest,
    CountEvaluationsResponse,
    DeleteIdentityRequest,
    DeleteIdentityResponse,
    EnvironmentSummary,
    ExportEvaluationsRequest,
    GetIntakeRequest,
    GetIntakeResponse,
    ListEnvironmentsRequest,
    ListEnvironmentsResponse,
    ListEvaluationsRequest,
    ListEvaluationsResponse,
    ListExposuresRequest,
    ListExposuresResponse,
    ListFeaturesRequest,
    ListFeaturesResponse,
    ListUnknownFeaturesRequest,
    ListUnknownFeaturesResponse,
)

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000
DEFAULT_FEATURES: Final = 1_000
MAX_FEATURES: Final = 10_000
DEFAULT_EXPOSURES: Final = 100
MAX_EXPOSURES: Final = 10_000
MAX_CHECKED_FEATURES: Final = 100
MAX_UNKNOWN_FEATURES: Final = 1_000

MAX_IDENTITY_CHARACTERS: Final = 2_000
"""What intake takes at most; tests hold the two equal."""

_THREADS: Final = 4
# Less than what a front waits for an answer, so that it hears why there is none.
_SECONDS: Final = 25.0

_WITHOUT_STORE: Final = frozenset({Reason.STORE_UNAVAILABLE, Reason.QUESTION_TOO_LONG})
_UNREAD_FOR_NOW: Final = "What was recorded cannot be read at the moment. Evaluations go on being recorded; ask again."
_UNREAD_UNTIL_MENDED: Final = (
    "What was recorded cannot be read until the store is put right; the log of the service says what is wrong with it. "
    "Evaluations go on being recorded."
)

_T = TypeVar("_T")


class QueryServicer:
    """
    Implements flagledger.v1.QueryService.

    Args:
        catalog: Which environments, features and tokens exist.
        store_provider: Returns the store, or raises StoreError while there is none.
        threads: Questions that are worked on at the same time.
        seconds: How long a question may take, its time of waiting for a thread included.
        journal_state: Returns how the journal is; may block. None where that is not known.
        backlog: Returns what the journal holds that may not have been applied; may block. None where that is not known.
        erase: Erases what was recorded in an environment of an identity, and returns how many rows of the store that were;
            blocks until that is done, or raises StoreError. None where nothing can be erased.
        retention_days: Days that evaluations are kept, 0 for ever: what readers are told.
        secret: What pseudonyms of identities are made with; empty where none are.
    """

    def __init__(
        self,
        catalog: Catalog,
        store_provider: Callable[[], Store],
        *,
        threads: int = _THREADS,
        seconds: float = _SECONDS,
        journal_state: Callable[[], JournalState] | None = None,
        backlog: Callable[[], Backlog] | None = None,
        erase: Callable[[str, str], int] | None = None,
        retention_days: int = 0,
        secret: bytes = b"",
    ) -> None:
        self._access = Access(catalog)
        self._identities = Identities(secret)
        self._store_provider = store_provider
        self._seconds = seconds
        self._journal_state = journal_state
        self._backlog = backlog
        self._erase = erase
        self._retention_days = retention_days
        self._log = Sparing()
        self._threads = Threads("query", threads)
        self._exports = Exports(store_provider)
        # Its own, so that an order does not wait for questions; orders wait for each other in any case.
        self._erasing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="erase")

    def close(self) -> None:
        """End every question and export that is left, and the threads; an erasure under way ends by itself."""
        self._erasing.shutdown(wait=False, cancel_futures=True)
        self._exports.close()
        self._threads.close()

    async def authenticate(self, context: Any) -> Token:
        """
        Return what the caller's token permits.

        Raises:
            FlagledgerError: TOKEN_INVALID where there is none or it is unknown, whatever else was sent; TOKEN_LACKS
                where its role does not read.
        """
        return await self._access.authenticate(context)

    async def ListEnvironments(
        self,
        request: ListEnvironmentsRequest,  # noqa: ARG002  # the rpc has it, and it says nothing
        context: Any,
    ) -> ListEnvironmentsResponse:
        """Answer with the environments that the token reaches, by name."""
        token = await self.authenticate(context)
        return ListEnvironmentsResponse(
            environments=[
                EnvironmentSummary(
                    name=environment.name,
                    feature_count=len(environment.features or ()),
                    takes_any_feature=environment.features is None,
                    display_name=environment.display_name,
                    identity_policy=environment.policy.identity,
                    sample_rate=1 / environment.policy.sample_every,
                )
                for environment in await self._access.environments(token)
            ]
        )

    async def ListFeatures(self, request: ListFeaturesRequest, context: Any) -> ListFeaturesResponse:
        """Answer with one page of the features of an environment and their totals, by name."""
        environment, violations = await self._begin(request.environment, context)
        start, end_ = requests.period(request, violations)
        size = requests.page_size(
            request.page_size, default=DEFAULT_FEATURES, maximum=MAX_FEATURES, violations=violations
        )
        requests.refuse(violations)
        name = request.feature_name or None
        listed = environment.features
        if name is not None and listed is not None:
            listed &= {name}
        question = (environment.name, start, end_, name)
        after = requests.place(request.page_token, question, str)

        def answer(store: Store, interrupt: Interrupt) -> ListFeaturesResponse:
            features = store.list_features(environment.name, start, end_, interrupt, name)
            unseen = (listed or frozenset()) - {totals.feature_name for totals in features.totals}
            # Before a period without a beginning there is nothing.
            seen = store.last_seen(environment.name, unseen, end_, interrupt) if unseen and start is not None else {}
            return answers.features_response(features, listed, seen, question=question, size=size, after=after)

        return await self._ask(answer)

    async def CountEvaluations(self, request: CountEvaluationsRequest, context: Any) -> CountEvaluationsResponse:
        """Answer with counts over time and by groups."""
        environment, violations = await self._begin(request.environment, context)
        question = requests.count_question(request, environment.name, violations)
        requests.refuse(violations)
        question = replace(question, filter=self._identities.as_kept(environment, question.filter))
        names = tuple(request.group_by)

        def answer(store: Store, interrupt: Interrupt) -> CountEvaluationsResponse:
            return answers.counts_response(store.count_evaluations(question, interrupt), question, names)

        return await self._ask(answer)

    async def ListEvaluations(self, request: ListEvaluationsRequest, context: Any) -> ListEvaluationsResponse:
        """Answer with one page of recorded evaluations, the newest first."""
        environment, violations = await self._begin(request.environment, context)
        question = self._identities.as_kept(environment, requests.filter_of(request, environment.name, violations))
        size = requests.page_size(
            request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE, violations=violations
        )
        requests.refuse(violations)
        cursor = requests.place(request.page_token, question, Cursor)

        def answer(store: Store, interrupt: Interrupt) -> ListEvaluationsResponse:
            return answers.evaluations_response(store.list_evaluations(question, size, cursor, interrupt), question)

        return await self._ask(answer)

    async def ListExposures(self, request: ListExposuresRequest, context: Any) -> ListExposuresResponse:
        """Answer with one page of exposures, the first one with the checks of shares."""
        environment, violations = await self._begin(request.environment, context)
        question = self._identities.as_kept(
            environment, requests.exposure_question(request, environment.name, violations)
        )
        weights = requests.weights(request, violations)
        size = requests.page_size(
            request.page_size, default=DEFAULT_EXPOSURES, maximum=MAX_EXPOSURES, violations=violations
        )
        requests.refuse(violations)
        whole = (question, tuple(request.weights))
        cursor = requests.place(request.page_token, whole, ExposureCursor)

        def answer(store: Store, interrupt: Interrupt) -> ListExposuresResponse:
            arms = () if cursor is not None else store.count_arms(question, MAX_CHECKED_FEATURES, interrupt)
            page = store.list_exposures(question, size, cursor, interrupt)
            return answers.exposures_response(page, arms, weights, whole)

        return await self._ask(answer)

    async def ListUnknownFeatures(
        self, request: ListUnknownFeaturesRequest, context: Any
    ) -> ListUnknownFeaturesResponse:
        """Answer with the names that the environment does not have, the most frequent first."""
        environment, violations = await self._begin(request.environment, context)
        start, end_ = requests.period(request, violations)
        requests.refuse(violations)
        listed = environment.features
        if listed is None:
            return ListUnknownFeaturesResponse()

        def answer(store: Store, interrupt: Interrupt) -> ListUnknownFeaturesResponse:
            unknown = store.list_unknown_features(
                environment.name, start, end_, listed, MAX_UNKNOWN_FEATURES, interrupt
            )
            return answers.unknown_features_response(unknown, listed)

        return await self._ask(answer)

    async def GetIntake(self, request: GetIntakeRequest, context: Any) -> GetIntakeResponse:
        """Answer with what came in, and how far the store is behind."""
        environment, violations = await self._begin(request.environment, context)
        question = requests.intake_question(request, environment.name, violations, now=time.time_ns() // 1000)
        requests.refuse(violations)
        journal_state = self._journal_state

        def answer(store: Store, interrupt: Interrupt) -> GetIntakeResponse:
            intake = store.intake(question, interrupt)
            journal = None if journal_state is None else journal_state()
            return answers.intake_response(intake, journal, self._retention_days)

        try:
            return await self._ask(answer)
        except FlagledgerError as error:
            if error.reason not in _WITHOUT_STORE or self._backlog is None:
                raise
            # Whoever asks this while the store is away wants to know how long that may go on.
            message = error.message
            with suppress(FlagledgerError):
                message += f" {(await asyncio.to_thread(self._backlog)).sentence()}"
            raise FlagledgerError(error.reason, message) from error

    async def ExportEvaluations(
        self, request: ExportEvaluationsRequest, context: Any
    ) -> AsyncGenerator[httpbody_pb2.HttpBody, None]:
        """Yield the pieces of a file of recorded evaluations; how far it goes is in the metadata before them."""
        environment, violations = await self._begin(request.environment, context)
        question = self._identities.as_kept(environment, requests.filter_of(request, environment.name, violations))
        format_ = requests.export_format(request.format, violations)
        requests.refuse(violations)
        async with aclosing(self._exports.pieces(question, request.after_position, format_, context)) as pieces:
            async for piece in pieces:
                yield piece

    async def DeleteIdentity(self, request: DeleteIdentityRequest, context: Any) -> DeleteIdentityResponse:
        """Erase what was recorded of an identity; what was begun is finished even where the caller has gone."""
        token = await self._access.authenticate_admin(context)
        violations: list[FieldViolation] = []
        environment = await self._access.environment(request.environment, token, violations)
        if not request.identity_identifier:
            violations.append(FieldViolation(field="identity_identifier", description="must not be empty"))
        elif len(request.identity_identifier) > MAX_IDENTITY_CHARACTERS:
            violations.append(
                FieldViolation(
                    field="identity_identifier",
                    description=f"has more than {MAX_IDENTITY_CHARACTERS:,} characters: none is kept",
                )
            )
        requests.refuse(violations)
        erase, forms = self._erase, self._identities.forms(environment, request.identity_identifier)
        if erase is None:
            raise FlagledgerError(Reason.STORE_UNAVAILABLE, "What was recorded cannot be erased here.")
        erased = self._erasing.submit(lambda: sum(erase(environment.name, form) for form in forms))
        try:
            return DeleteIdentityResponse(deleted_evaluation_count=await asyncio.wrap_future(erased))
        except StoreError as error:
            get_logger().warning("an identity could not be erased", error=str(error))
            raise FlagledgerError(
                Reason.STORE_UNAVAILABLE,
                "The identity could not be erased, or not everywhere. Send the same again: what is gone stays gone.",
            ) from error

    async def _begin(self, environment: str, context: Any) -> tuple[Environment, list[FieldViolation]]:
        """Return which environment the caller asks about, and what is wrong with that; refuse who may not."""
        token = await self.authenticate(context)
        violations: list[FieldViolation] = []
        return await self._access.environment(environment, token, violations), violations

    async def _ask(self, question: Callable[[Store, Interrupt], _T]) -> _T:
        interrupt = Interrupt()
        asked: Future[_T] | None = None
        try:
            asked = self._threads.submit(lambda: question(self._store_provider(), interrupt), interrupt)
            # A deadline of the caller's own, like its going away, arrives as a cancellation.
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(asked)
        except TimeoutError:
            raise FlagledgerError(
                Reason.QUESTION_TOO_LONG,
                f"The question took longer than {self._seconds:g} s and was ended: narrow its period, unless it is the store "
                "that does not answer.",
            ) from None
        except TooManyBucketsError as error:
            requests.refuse([FieldViolation(field="bucket", description=str(error))])
            raise
        except StoreError as error:
            self._log.warning("a question could not be answered", error=str(error))
            raise FlagledgerError(
                Reason.STORE_UNAVAILABLE, _UNREAD_FOR_NOW if error.temporary else _UNREAD_UNTIL_MENDED
            ) from error
        finally:
            if asked is not None:
                end(asked, interrupt)
