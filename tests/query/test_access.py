from __future__ import annotations

import pytest
from flagledger.catalog.base import Environment, Token
from flagledger.errors import FieldViolation, FlagledgerError, Reason
from flagledger.query.access import NOWHERE, Access
from support.querying import TableCatalog

SHOP = Environment(name="key-1", display_name="Shop", features=None)
OTHER_SHOP = Environment(name="key-2", display_name="Shop", features=None)
BLOG = Environment(name="key-3", display_name="Blog", features=None)
# What people call it is the name of another one.
MISLED = Environment(name="key-4", display_name="key-3", features=None)
PLAIN = Environment(name="plain", features=None)
ALL = Token(role="read")


def reaching(*names: str) -> Token:
    """Return a token that reaches the environments of these names."""
    return Token(role="read", environments=frozenset(names))


async def found(name: str, token: Token = ALL) -> tuple[Environment, list[FieldViolation]]:
    """Return which environment is meant by *name*, and what is wrong with that."""
    violations: list[FieldViolation] = []
    access = Access(TableCatalog(SHOP, OTHER_SHOP, BLOG, MISLED, PLAIN))
    return await access.environment(name, token, violations), violations


@pytest.mark.parametrize(
    ("name", "environment"),
    [("key-1", SHOP), ("plain", PLAIN), ("Blog", BLOG), ("key-3", BLOG)],
    ids=["a name", "a name without another", "what one is called", "a name that another is called"],
)
async def test_an_environment_is_named(name: str, environment: Environment) -> None:
    """An environment is found by its name and, where no name is that, by what it alone is called."""
    assert (environment, []) == await found(name)
    assert (environment, []) == await found(name, reaching(environment.name))


@pytest.mark.parametrize(
    ("token", "candidates"),
    [
        (ALL, "key-1 (Shop), key-2 (Shop)"),
        (reaching("key-1", "key-2", "plain"), "key-1 (Shop), key-2 (Shop)"),
        (reaching("key-2", "plain"), "key-2 (Shop)"),
    ],
    ids=["all", "both", "one"],
)
async def test_what_several_are_called_names_none(token: Token, candidates: str) -> None:
    """Where several are called so, the names of those that the token reaches are told, and no others."""
    description = f"is what several are called; give the name of one: {candidates}"

    assert (NOWHERE, [FieldViolation(field="environment", description=description)]) == await found("Shop", token)


@pytest.mark.parametrize("name", ["Shop", "Blog", "key-1"])
async def test_a_token_that_lacks_it_hears_nothing_else(name: str) -> None:
    """However an environment is named, a token that does not reach it hears that alone, and no name of another."""
    with pytest.raises(FlagledgerError) as caught:
        await found(name, reaching("plain"))

    assert Reason.TOKEN_LACKS == caught.value.reason
    assert "The token does not permit reading this environment." == caught.value.message
    assert () == caught.value.violations


@pytest.mark.parametrize("name", ["shop", "nowhere", "key-1 (Shop)"])
async def test_what_none_is_called_is_unknown(name: str) -> None:
    """What is neither a name nor what one is called exactly is unknown."""
    with pytest.raises(FlagledgerError) as caught:
        await found(name)

    assert Reason.ENVIRONMENT_UNKNOWN == caught.value.reason


async def test_names_come_with_what_people_call_them() -> None:
    """Where one of several has to be named, they are listed as far as the token reaches, with what they are called."""
    environment, (violation,) = await found("", reaching("key-1", "key-3", "plain"))

    assert NOWHERE == environment
    assert "must be set, for there are several: key-1 (Shop), key-3 (Blog), plain" == violation.description


async def test_a_list_of_names_ends() -> None:
    """Of very many the first ten are told."""
    many = [Environment(name=f"key-{number:02}", display_name="Shop", features=None) for number in range(12)]
    descriptions: list[str] = []
    for name in ("", "Shop"):
        violations: list[FieldViolation] = []
        await Access(TableCatalog(*many)).environment(name, ALL, violations)
        descriptions += [violation.description for violation in violations]

    shown = ", ".join(f"key-{number:02} (Shop)" for number in range(10)) + ", …"
    assert [True, True] == [description.endswith(f": {shown}") for description in descriptions]
