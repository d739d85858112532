"""Who may read what: tokens, and the environments that they reach."""

from __future__ import annotations

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
            raise FlagledgerError(
                Reason.TOKEN_LACKS, "Erasing needs a token of the role `admin`, from the environments file."
            )
        return token

    async def environments(self, token: Token) -> list[Environment]:
        """Return the environments that *token* reaches, by name."""
        environments = await self._catalog.environments()
        names = environments.keys() if token.environments is None else token.environments & environments.keys()
        return [environments[name] for name in sorted(names)]

    async def environment(self, name: str, token: Token, violations: list[FieldViolation]) -> Environment:
        """
        Return the environment that is asked about; `NOWHERE` with a violation where the request does not say which.

        Raises:
            FlagledgerError: ENVIRONMENT_UNKNOWN where there is none of this name, TOKEN_LACKS where the token does not
                reach it.
        """
        environments = await self._catalog.environments()
        if name:
            environment = environments.get(name)
        else:
            reached = await self.environments(token)
            if len(reached) == 1:
                return reached[0]
            if environments and not reached:
                raise FlagledgerError(Reason.TOKEN_LACKS, "The token permits reading no environment that there is.")
            names = [environment.name for environment in reached[:_MAX_NAMES_SHOWN]]
            shown = ", ".join(names) + (", …" if len(reached) > len(names) else "")
            violations.append(
                FieldViolation(
                    field="environment",
                    description=f"must be set, for there are several: {shown}"
                    if names
                    else "must be set, and there is none yet",
                )
            )
            return NOWHERE
        if environment is None:
            raise FlagledgerError(Reason.ENVIRONMENT_UNKNOWN, "There is no environment of this name.")
        if token.environments is not None and environment.name not in token.environments:
            raise FlagledgerError(Reason.TOKEN_LACKS, "The token does not permit reading this environment.")
        return environment


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
