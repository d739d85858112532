"""Who may read what: tokens, and the environments that they reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flagledger.catalog.base import Catalog, Environment, Token
from flagledger.errors import FieldViolation, FlagledgerError, Reason

TOKEN_METADATA: Final = "authorization"  # noqa: S105  # the name of a header

NOWHERE: Final = Environment(name="", features=None)
"""What is asked about where a request does not say; nothing is to be asked then."""

_ADMIN: Final = "admin"
_ROLES: Final = frozenset({"read", _ADMIN})
_SCHEME: Final = "bearer"
_MAX_NAMES_SHOWN: Final = 10


class Access:
    """
    Says what callers may read.

    Args:
        catalog: Which environments and tokens exist.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

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
                "This needs `authorization: Bearer <token>` with a token that is known here; an environment key does not read.",
            )
        if token.role not in _ROLES:
            raise FlagledgerError(Reason.TOKEN_LACKS, "The token does not permit reading.")
        return token

    async def authenticate_admin(self, context: Any) -> Token:
        """
        Return what the caller's token permits, which is everything.

        Raises:
            FlagledgerError: As of `authenticate`; TOKEN_LACKS also where the role is another than `admin`.
        """
        token = await self.authenticate(context)
        if token.role != _ADMIN:
            raise FlagledgerError(Reason.TOKEN_LACKS, "Erasing needs a token of the role `admin`.")
        return token

    async def environments(self, token: Token) -> list[Environment]:
        """Return the environments that *token* reaches, by name."""
        environments = await self._catalog.environments()
        names = environments.keys() if token.environments is None else token.environments & environments.keys()
        return [environments[name] for name in sorted(names)]

    async def environment(self, name: str, token: Token, violations: list[FieldViolation]) -> Environment:
        """
        Return the environment that is asked about; `NOWHERE` with a violation where the request does not say which.

        Args:
            name: Its name, or what people call it where one alone is called so.
            token: Who asks.
            violations: Where to say what is wrong with it.

        Raises:
            FlagledgerError: ENVIRONMENT_UNKNOWN where there is none of this name, TOKEN_LACKS where the token does not
                reach it.
        """
        environments = await self._catalog.environments()
        if name:
            called = _called(name, environments)
            if not called:
                raise FlagledgerError(Reason.ENVIRONMENT_UNKNOWN, "There is no environment of this name.")
            reached = [each for each in called if token.environments is None or each.name in token.environments]
            if not reached:
                raise FlagledgerError(Reason.TOKEN_LACKS, "The token does not permit reading this environment.")
            if len(called) == 1:
                return called[0]
            wrong = f"is what several are called; give the name of one: {_shown(reached)}"
        else:
            reached = await self.environments(token)
            if len(reached) == 1:
                return reached[0]
            if environments and not reached:
                raise FlagledgerError(Reason.TOKEN_LACKS, "The token permits reading no environment that there is.")
            wrong = (
                f"must be set, for there are several: {_shown(reached)}"
                if reached
                else "must be set, and there is none yet"
            )
        violations.append(FieldViolation(field="environment", description=wrong))
        return NOWHERE


def _called(name: str, environments: Mapping[str, Environment]) -> list[Environment]:
    """Return the environment of that *name*; where there is none, those that people call so, by name."""
    if name in environments:
        return [environments[name]]
    return [environments[each] for each in sorted(environments) if environments[each].display_name == name]


def _shown(environments: Sequence[Environment]) -> str:
    """Return the names of the first *environments*, each with what people call it."""
    names = [
        f"{each.name} ({each.display_name})" if each.display_name else each.name
        for each in environments[:_MAX_NAMES_SHOWN]
    ]
    return ", ".join(names) + (", …" if len(environments) > len(names) else "")


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
