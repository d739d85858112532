"""
The catalog that is the API of a Flagsmith.

A server key opens the document of its environment, which names every feature and the client key. Each server key that is known
here, configured or presented by a sender, is followed: its document is asked for again before it is `refresh_seconds` old, and
what was known stays in force while nothing answers. Both keys of a document count from memory then.

A client key that no document names is asked about at `/flags/`, which proves it and tells nothing else: that answer hides
features, so that as a filter it would drop what was rightly evaluated. Any name of a feature is taken under such a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from flagledger.catalog.base import SERVER_KEY_PREFIX, UNREACHABLE, Environment, Grant, Inventory, KeyFound, Token
from flagledger.catalog.digest import digest
from flagledger.catalog.document import MAX_KEY_CHARACTERS
from flagledger.catalog.flagsmith_client import (
    Document,
    FlagsmithClient,
    NotFlagsmithError,
    Refusal,
    can_be_carried,
)
from flagledger.catalog.policy import Policy
from flagledger.errors import FlagledgerError, Reason

# The part of `refresh_seconds` after which a document is asked for again, so that it is there before the whole has passed.
_EARLY: Final = 0.75

# Until each configured key has been answered once, it is asked for again after no more than this.
_SOON_SECONDS: Final = 5.0

_FIRST_SECONDS: Final = 2.0  # that a caller waits for that
_MIN_FRESH_SECONDS: Final = 5.0
# Between two requests of one round: a process asks for 25 documents a second at most.
_PACE_SECONDS: Final = 0.04
_MAX_AT_ONCE: Final = 16

# Server keys that senders presented, of which the least used is forgotten first; it is learnt anew when it comes again.
_MAX_LEARNT: Final = 1_000
_MAX_ENVIRONMENTS: Final = 10_000


@dataclass(slots=True, kw_only=True)
class _Followed:
    """
    A server key that is followed.

    Attributes:
        key: The key.
        is_configured: Whether it is from the configuration; then it is followed whatever is answered.
        environment: What its document said last; None before there was one, and once the key is refused.
        since: What to ask with so that only a change is answered.
        answered: Whether it was ever answered, be it with a refusal.
        lock: Held while it is asked about, so that the newest answer is the last one taken.
        look: The last look out of turn, and when it began.
    """

    key: str = field(repr=False)
    is_configured: bool = False
    environment: Environment | None = None
    since: str | None = None
    answered: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    look: asyncio.Task[FlagledgerError | None] | None = None
    looked_at: float = 0.0


class FlagsmithApi:
    """
    The catalog of one Flagsmith, asked over its API.

    It belongs to the event loop that runs when it is first asked, where a task of its own follows the server keys until
    `close`.

    Args:
        url: Where the API is: `https://flagsmith.example.com/api/v1/`.
        server_keys: A server key for each environment whose features are to be known from the start.
        tokens: What readers' tokens permit. None of them is ever sent to the Flagsmith, also where it comes as a key.
        policy_of: The policy of an environment, by its name, which is its client key.
        refresh_seconds: Age by which a document is asked for again.
        on_failure: Called, at most once in each round, with what keeps a document from being known. Nobody else is told:
            lookups go on with what is known.

    Attributes:
        generation: Grows when something that was said before is stale: a key that went, features that changed.
    """

    def __init__(
        self,
        url: str,
        *,
        server_keys: Sequence[str],
        tokens: Mapping[str, Token],
        policy_of: Callable[[str], Policy],
        refresh_seconds: float,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.generation = 0
        self._client = FlagsmithClient(url)
        self._tokens = {digest(text): token for text, token in tokens.items()}
        self._policy_of = policy_of
        self._refresh_seconds = refresh_seconds
        self._on_failure = on_failure
        usable = [key for key in server_keys if key.startswith(SERVER_KEY_PREFIX) and can_be_carried(key)]
        self._unusable = [key for key in server_keys if key not in usable]
        self._followed = {key: _Followed(key=key, is_configured=True) for key in usable}
        # By client key, with those that no document stands for any more.
        self._environments: dict[str, Environment] = {}
        self._following: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Return what *key* permits. See `Catalog`; *fresh* asks for the document anew, at most every five seconds."""
        if not can_be_carried(key) or digest(key) in self._tokens:
            return None
        await self._followed_once()
        if fresh:
            await self._look_again(key)
        try:
            return await self._granted(key)
        except FlagledgerError as error:
            raise FlagledgerError(Reason.CATALOG_UNREACHABLE, UNREACHABLE) from error

    async def _granted(self, key: str) -> Grant | None:
        if key.startswith(SERVER_KEY_PREFIX):
            followed = self._followed.get(key)
            if followed is None or followed.environment is None:
                return await self._learn(key)
            self._use(followed)
            return Grant(environment=self._newest(followed.environment), is_server=True)
        voucher = self._voucher(key)
        if voucher is None or voucher.environment is None:
            return await self._prove(key)
        return Grant(environment=self._newest(voucher.environment), is_server=False)

    async def environments(self) -> dict[str, Environment]:
        """Return every environment by its name: those of documents, and those of client keys that were proven."""
        await self._followed_once()
        if not self.ready():
            raise FlagledgerError(Reason.CATALOG_UNREACHABLE, UNREACHABLE)
        return dict(self._environments)

    async def token(self, token: str) -> Token | None:
        """Return what *token* permits. Only digests are compared; a client key, which is public, never reads."""
        if len(token) > MAX_KEY_CHARACTERS or token in self._environments:
            return None
        return self._tokens.get(digest(token))

    def ready(self) -> bool:
        """Return whether every configured key has been asked about, and one was answered."""
        configured = [followed for followed in self._followed.values() if followed.is_configured]
        return self._asked.is_set() and (not configured or any(followed.answered for followed in configured))

    def poll(self) -> None:
        """Begin to follow the server keys, where that has not begun. Needs a running event loop."""
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="flagsmith api")

    async def inventory(self) -> Inventory:
        """Return everything that there is, asked anew. See `Source`."""
        keys = list(self._followed)
        asked = (self._client.document(key) for key in keys)
        answers = dict(zip(keys, await asyncio.gather(*asked, return_exceptions=True), strict=True))
        errors = [answer for answer in answers.values() if isinstance(answer, BaseException)]
        if not keys:
            errors += await self._is_no_flagsmith()
        is_silent = bool(errors) and len(errors) >= len(answers)
        for error in errors:
            # No answer to one of several keys is a fault among others, and so is an answer that no Flagsmith gives.
            if not isinstance(error, FlagledgerError) or (is_silent and not isinstance(error, NotFlagsmithError)):
                raise error
        environments = dict(self._environments)
        found: list[KeyFound] = []
        for key, answer in answers.items():
            name = answer.client_key if isinstance(answer, Document) else ""
            found.append(KeyFound(text=key, environment=name, active=answer is not Refusal.UNKNOWN))
            if isinstance(answer, Document):
                environments[name] = self._environment(answer)
        found += [KeyFound(text=name, environment=name) for name in environments]
        return Inventory(
            environments=tuple(environments.values()),
            keys=tuple(found),
            faults=tuple(dict.fromkeys(self._faults(answers, environments, errors))),
        )

    async def close(self) -> None:
        """Stop following, and close the connections."""
        tasks = [followed.look for followed in self._followed.values() if followed.look is not None]
        if self._following is not None:
            tasks.append(self._following)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _followed_once(self) -> None:
        """Wait until each configured key has been asked about once: before that a key may seem to be in no document."""
        self.poll()
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            raise FlagledgerError(Reason.CATALOG_UNREACHABLE, UNREACHABLE) from None

    async def _follow(self) -> None:
        pause = self._refresh_seconds * _EARLY
        while True:
            began = time.monotonic()
            await self._round()
            self._asked.set()
            is_new = any(followed.is_configured and not followed.answered for followed in self._followed.values())
            due = began + (min(pause, _SOON_SECONDS) if is_new else pause)
            await asyncio.sleep(max(due - time.monotonic(), 0.0))

    async def _round(self) -> None:
        """Ask about every server key, and report the first failure."""
        places = asyncio.Semaphore(_MAX_AT_ONCE)

        async def poll(number: int, followed: _Followed) -> FlagledgerError | None:
            await asyncio.sleep(number * _PACE_SECONDS)
            async with places:
                return await self._poll(followed)

        polls = [poll(number, followed) for number, followed in enumerate(self._followed.values())]
        results = await asyncio.gather(*polls, return_exceptions=True)
        error = next((result for result in results if isinstance(result, Exception)), None)
        if error is not None and self._on_failure is not None:
            self._on_failure(error)

    async def _poll(self, followed: _Followed) -> FlagledgerError | None:
        """Ask about one key. Return what failed; what was known stays then."""
        try:
            answer = await self._ask(followed)
        except FlagledgerError as error:
            return error
        if answer is Refusal.UNKNOWN and followed.is_configured:
            masked = KeyFound(text=followed.key, environment="").masked
            return FlagledgerError(Reason.CATALOG_UNREACHABLE, f"The Flagsmith refuses the server key {masked}")
        return None

    async def _ask(self, followed: _Followed) -> Document | Refusal | None:
        async with followed.lock:
            answer = await self._client.document(followed.key, since=followed.since)
            followed.answered = True
            if isinstance(answer, Document):
                followed.since = answer.last_modified
                self._take(followed, self._environment(answer))
            elif answer is Refusal.STOPPED:
                # The next document counts, also where nothing else has changed in it.
                followed.since = None
                if followed.environment is not None:
                    self._take(followed, replace(followed.environment, stopped=True))
            elif answer is Refusal.UNKNOWN:
                await self._drop(followed)
            return answer

    def _take(self, followed: _Followed, environment: Environment) -> None:
        before = self._environments.get(environment.name)
        has_moved = followed.environment is not None and followed.environment.name != environment.name
        followed.environment = environment
        self._keep(environment)
        if has_moved or (before is not None and before != environment):
            self.generation += 1

    async def _drop(self, followed: _Followed) -> None:
        """Take the key's grant away. The environment's other keys go on where something else speaks for them."""
        environment, followed.environment, followed.since = followed.environment, None, None
        if not followed.is_configured:
            self._followed.pop(followed.key, None)
        if environment is None:
            return
        self.generation += 1
        if self._voucher(environment.name) is None:
            # Else it would be told of for ever. Where that is not answered, the next lookup asks again.
            with contextlib.suppress(FlagledgerError):
                await self._prove(environment.name)

    async def _look_again(self, key: str) -> None:
        """Ask for the document that speaks for *key* now, or wait for the look that is under way."""
        followed = self._followed.get(key)
        environment = None if followed is None else followed.environment
        voucher = self._voucher(key if environment is None else environment.name)
        if voucher is None:
            return
        now = time.monotonic()
        if voucher.look is None or (voucher.look.done() and now >= voucher.looked_at + _MIN_FRESH_SECONDS):
            voucher.looked_at = now
            voucher.look = asyncio.create_task(self._poll(voucher), name="flagsmith api: fresh look")
        await asyncio.wait({voucher.look})

    async def _learn(self, key: str) -> Grant | None:
        """Ask with a server key that stands for nothing here, and follow it where it opens a document."""
        followed = self._followed.get(key) or _Followed(key=key)
        answer = await self._ask(followed)
        if followed.environment is not None:
            self._use(followed)
            return Grant(environment=self._newest(followed.environment), is_server=True)
        if answer is Refusal.STOPPED:
            # Of which environment is not told, and nothing is taken for it.
            return Grant(environment=Environment(name="", features=None, stopped=True), is_server=True)
        return None

    async def _prove(self, key: str) -> Grant | None:
        """Ask with a client key that no document names. What an earlier one said of its features is no filter any more."""
        refusal = await self._client.prove(key)
        if refusal is Refusal.UNKNOWN:
            self._forget(key)
            return None
        known = self._environments.get(key) or Environment(name=key, features=None, policy=self._policy_of(key))
        environment = replace(known, features=None, stopped=refusal is Refusal.STOPPED)
        self._keep(environment)
        return Grant(environment=environment, is_server=False)

    def _use(self, followed: _Followed) -> None:
        """Count a learnt key as used, and forget the one that was not for the longest time where there are too many."""
        if followed.is_configured:
            return
        self._followed.pop(followed.key, None)
        self._followed[followed.key] = followed
        learnt = [other for other in self._followed.values() if not other.is_configured]
        for unused in learnt[: max(len(learnt) - _MAX_LEARNT, 0)]:
            del self._followed[unused.key]
            if unused.environment is not None:
                # What it said of the features grows old from now on, and must not become a filter.
                self._forget(unused.environment.name)

    def _forget(self, name: str) -> None:
        """Let go of an environment that no document stands for."""
        if self._voucher(name) is None:
            self._environments.pop(name, None)

    def _keep(self, environment: Environment) -> None:
        self._environments[environment.name] = environment
        if len(self._environments) > _MAX_ENVIRONMENTS:
            vouched = {other.environment.name for other in self._followed.values() if other.environment is not None}
            oldest = next((name for name in self._environments if name not in vouched), environment.name)
            del self._environments[oldest]

    def _voucher(self, name: str) -> _Followed | None:
        """Return a server key whose document stands for the environment; None where none does any more."""
        for followed in self._followed.values():
            if followed.environment is not None and followed.environment.name == name:
                return followed
        return None

    def _newest(self, environment: Environment) -> Environment:
        """Return what was said last of an environment, whichever of its keys it was said to."""
        return self._environments.get(environment.name, environment)

    def _environment(self, document: Document) -> Environment:
        return Environment(
            name=document.client_key,
            features=document.features,
            display_name=document.display_name,
            policy=self._policy_of(document.client_key),
            stopped=document.stopped,
        )

    async def _is_no_flagsmith(self) -> list[FlagledgerError]:
        """Return what speaks against a Flagsmith being there, which refuses whoever shows no key."""
        try:
            if await self._client.prove("") is None:
                return [NotFlagsmithError(Reason.CATALOG_UNREACHABLE, "It takes any key, which no Flagsmith does.")]
        except FlagledgerError as error:
            return [error]
        return []

    def _faults(
        self, answers: Mapping[str, object], environments: Mapping[str, Environment], errors: Sequence[BaseException]
    ) -> Iterator[str]:
        for key in self._unusable:
            if key.startswith(SERVER_KEY_PREFIX):
                yield f"The server key {_masked(key)} cannot be one: it must be visible ASCII characters without spaces."
            else:
                yield f"{_masked(key)} is no server key (ser.…); a client key does not show every feature."
        yield from (str(error) for error in errors if isinstance(error, NotFlagsmithError))
        for key, answer in answers.items():
            if isinstance(answer, FlagledgerError) and not isinstance(answer, NotFlagsmithError):
                yield f"The server key {_masked(key)} could not be looked up: {answer}"
            elif answer is Refusal.UNKNOWN:
                yield f"The Flagsmith refuses the server key {_masked(key)}: it was deleted, or is another Flagsmith's."
            elif answer is Refusal.STOPPED:
                yield f"The organisation of the server key {_masked(key)} is disabled: nothing is taken for it."
        for name in environments:
            if digest(name) in self._tokens:
                yield f"A client key, {_masked(name)}, is the same text as a token: it is taken for neither."


def _masked(key: str) -> str:
    return KeyFound(text=key, environment="").masked
