"""
Answers questions about what was recorded: the one servicer that every transport calls.

It knows no transport. A call's context is asked for its metadata alone; a refusal is a `FlagledgerError`, which the
transport turns into its own form. The store blocks, so it is asked in threads, a bounded number of them; a question whose
caller has gone, or that takes too long, is ended there too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from google.protobuf import timestamp_pb2

from flagledger.catalog.base import Catalog, Environment, Token
from flagledger.errors import FieldViolation, FlagledgerError, Reason
from flagledger.query import page_token
from flagledger.query.values import feature_summary, recorded_evaluation, timestamp
from flagledger.store.base import (
    LAST_VALUES_BYTES,
    PAGE_BYTES,
    Cursor,
    Features,
    Filter,
    Interrupt,
    Page,
    Store,
    StoreError,
)
from flagledger.telemetry.logging import get_logger
from flagledger.v1.query_service_pb2 import (
    FeatureSummary,
    ListEvaluationsRequest,
    ListEvaluationsResponse,
    ListFeaturesRequest,
    ListFeaturesResponse,
)

TOKEN_METADATA: Final = "authorization"  # noqa: S105  # the name of a header
DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000

_ROLES: Final = frozenset({"read", "admin"})
_SCHEME: Final = "bearer"
_MAX_NAMES_SHOWN: Final = 10
_THREADS: Final = 4
# Less than what a front waits for an answer, so that it hears why there is none.
_SECONDS: Final = 25.0
_INTERRUPT_AGAIN_SECONDS: Final = 0.05

# Years 1 to 9999, and the nanoseconds of a second: what google.protobuf.Timestamp holds.
_MIN_SECONDS: Final = -62_135_596_800
_MAX_SECONDS: Final = 253_402_300_799
_MAX_NANOS: Final = 999_999_999

_T = TypeVar("_T")


class QueryServicer:
    """
    Implements flagledger.v1.QueryService.

    Args:
        catalog: Which environments, features and tokens exist.
        store_provider: Returns the store, or raises StoreError while there is none.
        threads: Questions that are worked on at the same time.
        seconds: How long a question may take, its time of waiting for a thread included.
    """

    def __init__(
        self,
        catalog: Catalog,
        store_provider: Callable[[], Store],
        *,
        threads: int = _THREADS,
        seconds: float = _SECONDS,
    ) -> None:
        self._catalog = catalog
        self._store_provider = store_provider
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="query")
        self._asked: dict[Future[Any], Interrupt] = {}

    def close(self) -> None:
        """End every question that is left, and the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while self._asked:
            for interrupt in list(self._asked.values()):
                interrupt.ask()
            time.sleep(_INTERRUPT_AGAIN_SECONDS)
        self._threads.shutdown(wait=True)

    async def authenticate(self, context: Any) -> Token:
        """
        Return what the caller's token permits.

        Raises:
            FlagledgerError: TOKEN_INVALID where there is none or it is unknown, whatever else was sent; TOKEN_LACKS
                where its role does not read.
        """
        credentials = _credentials(context)
        token = None if credentials is None else await self._catalog.token(credentials)
        if token is None:
            raise FlagledgerError(
                Reason.TOKEN_INVALID,
                "Reading needs `authorization: Bearer <token>` with a token of the role `read`; an environment key is none.",
            )
        if token.role not in _ROLES:
            raise FlagledgerError(Reason.TOKEN_LACKS, "The token does not permit reading.")
        return token

    async def ListFeatures(self, request: ListFeaturesRequest, context: Any) -> ListFeaturesResponse:
        """Answer with the features of an environment and their totals, by name."""
        token = await self.authenticate(context)
        violations: list[FieldViolation] = []
        environment = await self._environment(request.environment, token, violations)
        start, end = _period(request, violations)
        if environment is None or violations:
            raise _invalid(violations)
        name, listed = environment.name, environment.features

        def answer(store: Store, interrupt: Interrupt) -> ListFeaturesResponse:
            return _features_response(store.list_features(name, start, end, interrupt), listed)

        return await self._ask(answer)

    async def ListEvaluations(self, request: ListEvaluationsRequest, context: Any) -> ListEvaluationsResponse:
        """Answer with one page of recorded evaluations, the newest first."""
        token = await self.authenticate(context)
        violations: list[FieldViolation] = []
        environment = await self._environment(request.environment, token, violations)
        start, end = _period(request, violations)
        if request.page_size < 0:
            violations.append(FieldViolation(field="page_size", description="must not be negative; 0 means 100"))
        if environment is None or violations:
            raise _invalid(violations)
        question = Filter(
            environment=environment.name,
            feature_name=request.feature_name or None,
            identity_identifier=request.identity_identifier or None,
            segment_name=request.segment_name or None,
            start=start,
            end=end,
        )
        cursor = _cursor(request.page_token, question)
        page_size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)

        def answer(store: Store, interrupt: Interrupt) -> ListEvaluationsResponse:
            return _page_response(store.list_evaluations(question, page_size, cursor, interrupt), question)

        return await self._ask(answer)

    async def _environment(self, name: str, token: Token, violations: list[FieldViolation]) -> Environment | None:
        """Return the environment that is asked about; None with a violation where the request does not say which."""
        environments = await self._catalog.environments()
        if name:
            environment = environments.get(name)
        elif len(environments) == 1:
            environment = next(iter(environments.values()))
        else:
            names = sorted(environments if token.environments is None else token.environments & environments.keys())
            shown = ", ".join(names[:_MAX_NAMES_SHOWN]) + (", …" if len(names) > _MAX_NAMES_SHOWN else "")
            violations.append(
                FieldViolation(field="environment", description=f"must be set, for there are several: {shown}")
            )
            return None
        if environment is None:
            raise FlagledgerError(Reason.ENVIRONMENT_UNKNOWN, "There is no environment of this name.")
        if token.environments is not None and environment.name not in token.environments:
            raise FlagledgerError(Reason.TOKEN_LACKS, "The token does not permit reading this environment.")
        return environment

    async def _ask(self, question: Callable[[Store, Interrupt], _T]) -> _T:
        interrupt = Interrupt()
        asked = self._threads.submit(lambda: question(self._store_provider(), interrupt))
        self._asked[asked] = interrupt
        asked.add_done_callback(self._asked.pop)
        try:
            # A deadline of the caller's own, like its going away, arrives as a cancellation.
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(asked)
        except TimeoutError:
            raise FlagledgerError(
                Reason.STORE_UNAVAILABLE,
                f"The question took longer than {self._seconds:g} s and was ended. Narrow its period.",
                retry_after=self._seconds,
            ) from None
        except StoreError as error:
            get_logger().warning("a question could not be answered", error=str(error))
            raise FlagledgerError(
                Reason.STORE_UNAVAILABLE,
                "What was recorded cannot be read at the moment. Evaluations go on being recorded; ask again.",
            ) from error
        finally:
            _end(asked, interrupt)


def _end(asked: Future[Any], interrupt: Interrupt) -> None:
    """Interrupt the question, if it has not returned, until it does."""
    if not asked.done():
        interrupt.ask()
        asyncio.get_running_loop().call_later(_INTERRUPT_AGAIN_SECONDS, _end, asked, interrupt)


def _credentials(context: Any) -> str | None:
    """Return the bearer token of a call; None where there is none, or where there is more than one."""
    values = {value for name, value in context.invocation_metadata() or () if name.lower() == TOKEN_METADATA}
    if len(values) != 1:
        return None
    (value,) = values
    if not isinstance(value, str):
        return None
    scheme, _, credentials = value.partition(" ")
    return credentials.strip() or None if scheme.lower() == _SCHEME else None


def _period(
    request: ListFeaturesRequest | ListEvaluationsRequest, violations: list[FieldViolation]
) -> tuple[int | None, int | None]:
    start = _microseconds(request.start_time, "start_time", violations) if request.HasField("start_time") else None
    end = _microseconds(request.end_time, "end_time", violations) if request.HasField("end_time") else None
    if start is not None and end is not None and end < start:
        violations.append(FieldViolation(field="end_time", description="must not lie before start_time"))
    return start, end


def _microseconds(time: timestamp_pb2.Timestamp, field: str, violations: list[FieldViolation]) -> int | None:
    if not (_MIN_SECONDS <= time.seconds <= _MAX_SECONDS and 0 <= time.nanos <= _MAX_NANOS):
        violations.append(
            FieldViolation(field=field, description="must lie in the years 1 to 9999, with nanos from 0 to 999,999,999")
        )
        return None
    return time.seconds * 1_000_000 + time.nanos // 1000


def _cursor(token: str, question: Filter) -> Cursor | None:
    if not token:
        return None
    try:
        return page_token.decode(token, question)
    except ValueError as error:
        raise _invalid([FieldViolation(field="page_token", description=str(error))]) from error


def _invalid(violations: list[FieldViolation]) -> FlagledgerError:
    fields = ", ".join(dict.fromkeys(violation.field for violation in violations))
    return FlagledgerError(
        Reason.QUERY_INVALID,
        f"The question cannot be answered as it was asked: {fields}.",
        violations=tuple(violations),
    )


def _features_response(features: Features, listed: frozenset[str] | None) -> ListFeaturesResponse:
    summaries = {
        totals.feature_name: feature_summary(totals, in_catalog=listed is None or totals.feature_name in listed)
        for totals in features.totals
    }
    for name in (listed or frozenset()) - summaries.keys():
        summaries[name] = FeatureSummary(feature_name=name, in_catalog=True)
    # JSON texts of small numbers grow as messages, so that the store's own limit does not hold for the answer.
    used = 0
    for name in sorted(summaries):
        used += summaries[name].last_value.ByteSize()
        if used > LAST_VALUES_BYTES:
            summaries[name].ClearField("last_value")
    return ListFeaturesResponse(
        features=[summaries[name] for name in sorted(summaries)],
        data_since=None if features.data_since is None else timestamp(features.data_since),
    )


def _page_response(page: Page, question: Filter) -> ListEvaluationsResponse:
    response = ListEvaluationsResponse()
    following, used = page.next, 0
    for index, row in enumerate(page.rows):
        evaluation = recorded_evaluation(row)
        # The store has measured texts; as messages they may be longer.
        used += evaluation.ByteSize()
        if index and used > PAGE_BYTES:
            before = page.rows[index - 1]
            following = Cursor(evaluation_time=before.evaluation_time, position=before.position)
            break
        response.evaluations.append(evaluation)
    if following is not None:
        response.next_page_token = page_token.encode(question, following)
    return response
