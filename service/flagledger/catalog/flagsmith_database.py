"""
The catalog that is the database of a Flagsmith, read through a view of ours and nothing else.

One question for each key, on one of four connections at most. The first is made when something is first asked, so that a
database that is down keeps nobody from starting. What is asked twice in a minute is the business of the cache before this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, LiteralString, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from flagledger.catalog.base import SERVER_KEY_PREFIX, UNREACHABLE, Environment, Grant, Inventory, KeyFound, Token
from flagledger.catalog.digest import digest
from flagledger.catalog.document import MAX_KEY_CHARACTERS, CatalogError
from flagledger.catalog.policy import Policy
from flagledger.errors import FlagledgerError, Reason

T = TypeVar("T")
Row = tuple[Any, ...]
Connection = psycopg.AsyncConnection[Row]
Ask = Callable[[Connection], Coroutine[Any, Any, T]]

_MAX_CONNECTIONS: Final = 4
_ACQUIRE_SECONDS: Final = 1.0
_CONNECT_SECONDS: Final = 2
_KEY_SECONDS: Final = 2.0
# All environments of a large Flagsmith, with their features.
_ALL_SECONDS: Final = 30.0
# The pool tries again by itself for no longer than this: whoever asks next makes it try, at once and not after a pause
# that has grown with the outage.
_RECONNECT_SECONDS: Final = 1.0

# An expiry is read as seconds since the epoch: PostgreSQL knows times that Python does not, `infinity` among them.
_ONE_KEY: Final = """\
SELECT environment_key, environment_name, project_name, stop_serving_flags, features, extract(epoch FROM expires_at)::float8
FROM flagledger_environment_keys WHERE sdk_key = %s AND is_active
"""
# The rows of client keys: each environment has one.
_ENVIRONMENTS: Final = """\
SELECT environment_key, environment_name, project_name, stop_serving_flags, features
FROM flagledger_environment_keys WHERE sdk_key = environment_key ORDER BY environment_key
"""
_KEYS: Final = """\
SELECT sdk_key, environment_key, is_active, extract(epoch FROM expires_at)::float8
FROM flagledger_environment_keys ORDER BY environment_key, sdk_key
"""
_KEYS_OF_DIGEST: Final = (
    "SELECT 1 FROM flagledger_environment_keys WHERE sha256(convert_to(sdk_key, 'UTF8')) = %s LIMIT 1"
)
# It fails where the view is missing, is another one, or may not be read.
_REACH: Final = """\
SELECT sdk_key, environment_key, environment_name, project_name, is_active, expires_at, stop_serving_flags, features
FROM flagledger_environment_keys LIMIT 0
"""
_BEYOND_THE_VIEW: Final = """\
SELECT current_user, count(*), min(c.oid::regclass::text)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    AND c.oid <> 'flagledger_environment_keys'::regclass
    AND (has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') OR has_any_column_privilege(c.oid, 'SELECT'))
"""


def view_sql() -> str:
    """Return the SQL that makes the view, with the role's part as a comment."""
    return files("flagledger.catalog").joinpath("flagsmith_view.sql").read_text(encoding="utf-8")


class FlagsmithDatabase:
    """
    The catalog of one Flagsmith, asked in its database.

    It is for one event loop: the one in which it is first asked.

    Args:
        url: `postgresql://ROLE:PASSWORD@HOST:PORT/DATABASE`, with the parameters of libpq.
        tokens: What readers' tokens permit. None of them counts as a key, nor does a client key as one of them: it is public.
        policy_of: The policy of an environment, by its name, which is its client key.

    Raises:
        CatalogError: *url* is none.
    """

    def __init__(self, url: str, *, tokens: Mapping[str, Token], policy_of: Callable[[str], Policy]) -> None:
        self._tokens = {digest(text): token for text, token in tokens.items()}
        self._policy_of = policy_of
        # By digest of a token that was asked for: whether a key is the same text.
        self._is_key: dict[bytes, bool] = {}
        self._reached = False
        self._running: set[asyncio.Task[Any]] = set()
        self._parameters = _parameters(url)
        # It says each time that it cannot connect; the cache reports failures, and not as often.
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            kwargs=self._parameters,
            min_size=0,
            max_size=_MAX_CONNECTIONS,
            open=False,
            configure=_limit,
            timeout=_ACQUIRE_SECONDS,
            reconnect_timeout=_RECONNECT_SECONDS,
            name="flagledger catalog",
        )

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:  # noqa: ARG002 - nothing is remembered here
        """Return what *key* permits. See `Catalog`."""
        if not _may_exist(key) or digest(key) in self._tokens:
            return None
        row = await self._answer(self._pooled(lambda connection: _row_of(connection, key)), _KEY_SECONDS)
        if row is None:
            return None
        *environment, expires_at = row
        grant = Grant(
            environment=self._environment(environment),
            is_server=key.startswith(SERVER_KEY_PREFIX),
            expires_at=expires_at,
        )
        return grant if grant.holds() else None

    async def environments(self) -> dict[str, Environment]:
        """Return every environment by its name."""
        [rows] = await self._answer(self._pooled(lambda connection: _all_of(connection, _ENVIRONMENTS)), _ALL_SECONDS)
        return {environment.name: environment for environment in self._environments(rows)}

    async def token(self, token: str) -> Token | None:
        """
        Return what *token* permits; nothing where it is a key as well, for those ship in browsers.

        Only digests are compared, so that timing tells nothing of a token, and none is ever sent to the database.
        """
        if len(token) > MAX_KEY_CHARACTERS or (found := self._tokens.get(text := digest(token))) is None:
            return None
        if text not in self._is_key:
            try:
                rows = await self._answer(self._pooled(lambda connection: _keys_of(connection, text)), _KEY_SECONDS)
            except FlagledgerError:
                # Readers are not shut out while it is away. It is asked at their next question.
                return found
            self._is_key[text] = bool(rows)
        return None if self._is_key[text] else found

    def ready(self) -> bool:
        """Return whether the view has been read once."""
        return self._reached

    async def reach(self) -> None:
        """
        Ask for a sign of life, for which no row is read.

        Raises:
            FlagledgerError: CATALOG_UNREACHABLE, with a message for operators as that of `inventory`.
        """
        try:
            await self._answer(self._alone(lambda connection: _all_of(connection, _REACH)), _KEY_SECONDS)
        except FlagledgerError as error:
            raise _explained(error) from error.__cause__

    async def inventory(self) -> Inventory:
        """Return everything that there is. See `Source`."""
        ask = self._alone(lambda connection: _all_of(connection, _ENVIRONMENTS, _KEYS, _BEYOND_THE_VIEW))
        try:
            found, keys, [beyond] = await self._answer(ask, _ALL_SECONDS)
        except FlagledgerError as error:
            if (fault := _fault_of_view(error.__cause__)) is not None:
                return Inventory(environments=(), keys=(), faults=(fault,))
            raise _explained(error) from error.__cause__
        environments = tuple(self._environments(found))
        return Inventory(
            environments=environments,
            keys=tuple(_found(keys)),
            faults=(
                *_faults_of_role(*beyond),
                *_faults_of(environments),
                *(
                    f"The key {key.masked} is the same text as a token: it is taken for neither."
                    for key in _found(keys)
                    if digest(key.text) in self._tokens
                ),
            ),
        )

    async def close(self) -> None:
        """Let go of the connections."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._pool.close()

    async def _answer(self, asking: Coroutine[Any, Any, T], seconds: float) -> T:
        """Return what *asking* returns; a database that hangs is waited for *seconds*, and for a connection, and no longer."""
        task = asyncio.create_task(asking, name="catalog query")
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            # Not `asyncio.timeout`: what is cancelled asks the server to end its query first, which may hang as well.
            done, _ = await asyncio.wait({task}, timeout=_CONNECT_SECONDS + seconds)
            if not done:
                raise TimeoutError("no answer in time")
            answer = task.result()
        except (psycopg.Error, OSError) as error:
            raise FlagledgerError(Reason.CATALOG_UNREACHABLE, UNREACHABLE) from error
        finally:
            task.cancel()
        self._reached = True
        return answer

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Whoever waited may have gone: then nobody else takes note of it.
            task.exception()

    async def _pooled(self, ask: Ask[T]) -> T:
        await self._pool.open()
        connection: Connection | None = None
        try:
            async with self._pool.connection() as connection:
                return await ask(connection)
        except psycopg.OperationalError:
            if connection is None or not connection.closed:
                raise
        # It was broken. Where the server was started again, so are the others.
        await self._pool.drain()
        async with self._pool.connection() as connection:
            return await ask(connection)

    async def _alone(self, ask: Ask[T]) -> T:
        # The pool only says that there was no connection in time; who makes one for himself hears why.
        async with await psycopg.AsyncConnection.connect(**self._parameters) as connection:
            return await ask(connection)

    def _environments(self, rows: Iterable[Row]) -> Iterator[Environment]:
        # Environments of one project mostly have the same features: held once, thousands of them take little memory.
        held: dict[frozenset[str], frozenset[str]] = {}
        for *columns, features in rows:
            names = frozenset(features)
            yield self._environment((*columns, held.setdefault(names, names)))

    def _environment(self, columns: Sequence[Any]) -> Environment:
        name, environment_name, project_name, stopped, features = columns
        return Environment(
            name=name,
            features=frozenset(features),
            display_name=f"{project_name} / {environment_name}",
            policy=self._policy_of(name),
            stopped=stopped,
        )


def check_url(url: str) -> None:
    """
    Refuse *url* where it is none of a database.

    Raises:
        CatalogError: It is not; nothing of it is quoted.
    """
    _parameters(url)


def _parameters(url: str) -> dict[str, Any]:
    """Return what connections are made with. Raises CatalogError, which quotes nothing of *url*: it holds a password."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        fault = ": it is no URL of a PostgreSQL database; characters that have a meaning in one are written as %XX."
        raise CatalogError(Path("catalog"), (fault,)) from None
    return {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "flagledger",
        **given,
        "client_encoding": "utf8",
        "autocommit": True,
        # A pooler between us and the database may not keep what was prepared.
        "prepare_threshold": None,
    }


async def _limit(connection: Connection) -> None:
    """Let the server end what takes too long; a parameter of the connection would be refused by some poolers."""
    await connection.execute(f"SET statement_timeout = {round(_KEY_SECONDS * 1000)}")


def _may_exist(key: str) -> bool:
    """Return whether *key* is one that PostgreSQL could hold."""
    if not key or len(key) > MAX_KEY_CHARACTERS or "\0" in key:
        return False
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


async def _keys_of(connection: Connection, text: bytes) -> Sequence[Row]:
    return await (await connection.execute(_KEYS_OF_DIGEST, (text,))).fetchall()


async def _row_of(connection: Connection, key: str) -> Row | None:
    try:
        return await (await connection.execute(_ONE_KEY, (key,))).fetchone()
    except (psycopg.errors.UntranslatableCharacter, psycopg.errors.CharacterNotInRepertoire):
        # The database has no such character, and so no such key.
        return None


async def _all_of(connection: Connection, *questions: LiteralString) -> list[list[Row]]:
    """Return the rows that answer each of *questions*, all as of one moment."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await connection.execute(f"SET LOCAL statement_timeout = {round(_ALL_SECONDS * 1000)}")
        return [await (await connection.execute(question)).fetchall() for question in questions]


def _explained(error: FlagledgerError) -> FlagledgerError:
    """Return *error* with a message for operators."""
    cause = error.__cause__
    fault = _fault_of_view(cause) or f"The database of the Flagsmith cannot be asked: {' '.join(str(cause).split())}."
    return FlagledgerError(error.reason, fault)


def _fault_of_view(error: BaseException | None) -> str | None:
    match error:
        case psycopg.errors.UndefinedTable():
            return "There is no view flagledger_environment_keys in the database; run the SQL that makes it."
        case psycopg.errors.UndefinedColumn():
            return "The view flagledger_environment_keys is that of another version; run the SQL that makes it again."
        case psycopg.errors.InsufficientPrivilege():
            return "The role may not read the view flagledger_environment_keys; GRANT SELECT on it to the role."
    return None


def _faults_of_role(role: str, count: int, example: str | None) -> Iterator[str]:
    if count:
        yield (
            f"The role {role} may read or change more than the view: {count} other tables and views, {example} among them; "
            "use a role that may read flagledger_environment_keys and nothing else."
        )


def _found(rows: Iterable[Row]) -> Iterator[KeyFound]:
    for text, environment, active, expires_at in rows:
        yield KeyFound(text=text, environment=environment, active=active, expires_at=expires_at)


def _faults_of(environments: Sequence[Environment]) -> Iterator[str]:
    if not environments:
        yield "The view is there and has no environment in it. Is this the database, and the schema, of the Flagsmith?"
    for environment in environments:
        if not environment.features:
            yield f"The environment {environment.display_name} has no features, so nothing that is sent to it is recorded."
