"""How many evaluations a second an environment may send."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flagledger.catalog.base import Environment
from flagledger.errors import FlagledgerError, Reason

# Environments with a rate that are busy at a time; of more, those that were quiet for longest start with a full second again.
_MAX_BUCKETS: Final = 10_000
_MILLISECONDS: Final = 1_000


@dataclass(slots=True)
class _Bucket:
    """Evaluations that may be taken, as of a moment; a debt where negative."""

    level: float
    moment: float


class Rates:
    """
    One bucket for each environment that has a rate. It holds a second's worth, and is filled evenly.

    While something is in it a batch is taken whole, however long it is, and may leave a debt that the next ones wait for: a batch
    longer than a second's worth would never be taken otherwise.

    Args:
        fronts: Processes that take evaluations in; each of them enforces its part of a rate.
        clock: Seconds, monotonic.
    """

    def __init__(self, fronts: int = 1, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._fronts = fronts
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, environment: Environment, evaluations: int) -> None:
        """
        Take a batch of so many *evaluations*, valid or not; an empty one is always taken.

        Raises:
            FlagledgerError: RATE_EXCEEDED, with the time until the next is taken. It costs nothing.
        """
        rate = environment.policy.rate
        if rate is None or not evaluations:
            return
        per_second = rate / self._fronts
        now = self._clock()
        bucket = self._bucket(environment.name, per_second, now)
        # Elapsed first: a rate that has changed counts from here on, and what was saved up is cut to its second.
        bucket.level = min(per_second, bucket.level + (now - bucket.moment) * per_second)
        bucket.moment = now
        if bucket.level <= 0:
            raise _exceeded(rate, -bucket.level / per_second)
        bucket.level -= evaluations

    def _bucket(self, name: str, full: float, now: float) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(level=full, moment=now)
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        return bucket


def _exceeded(rate: int, seconds: float) -> FlagledgerError:
    # To the next millisecond, which is what the answer is told in: at the very moment of zero there is nothing yet.
    delay = (math.floor(seconds * _MILLISECONDS) + 1) / _MILLISECONDS
    return FlagledgerError(
        Reason.RATE_EXCEEDED,
        f"The environment takes {rate:,} evaluations a second, and more were sent. Retry after {delay:g} seconds.",
        retry_after=delay,
    )
