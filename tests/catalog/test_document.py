from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from flagledger.catalog.base import Environment, Token
from flagledger.catalog.document import CatalogError, DeclaredKey, Document, parse_document, read_tokens
from flagledger.catalog.policy import PLAIN, Policy
from hypothesis import given
from hypothesis import strategies as st

FILE = Path("environments.toml")

GOOD = """
[[environments]]
name = "production"
keys = ["client-key", "ser.server-key", {key = "ser.old", expires_at = 2026-12-01T00:00:00Z, active = false}]
features = ["new_dashboard", "checkout"]

[[environments]]
name = "development"
keys = []
features = "any"

[[tokens]]
token = "reads-all"
role = "read"

[[tokens]]
token = "administers-one"
role = "admin"
environments = ["production"]
"""


def parse(text: str) -> Document:
    """Parse *text* as the file."""
    return parse_document(text.encode("utf-8", "surrogatepass"), FILE)


def faults(text: str) -> str:
    """Return what is said of *text*."""
    with pytest.raises(CatalogError) as caught:
        parse(text)
    return str(caught.value)


def environment(extra: str = "", *, name: str = '"a"', keys: str = '["k"]', features: str = '["f"]') -> str:
    """Return one environment as TOML."""
    return f"[[environments]]\nname = {name}\nkeys = {keys}\nfeatures = {features}\n{extra}\n"


def test_a_valid_file_declares_what_it_says() -> None:
    """Every field that the file may hold comes out of it."""
    production = Environment(name="production", features=frozenset({"new_dashboard", "checkout"}))
    development = Environment(name="development", features=None)
    expires_at = dt.datetime(2026, 12, 1, tzinfo=dt.UTC).timestamp()

    assert parse(GOOD) == Document(
        environments={"production": production, "development": development},
        keys=(
            DeclaredKey(text="client-key", environment=production),
            DeclaredKey(text="ser.server-key", environment=production),
            DeclaredKey(text="ser.old", environment=production, active=False, expires_at=expires_at),
        ),
        tokens={
            "reads-all": Token(role="read"),
            "administers-one": Token(role="admin", environments=frozenset({"production"})),
        },
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("x = \n", "environments.toml, line 1, column 5: Invalid value.", id="syntax"),
        pytest.param('a = 1\nb = "', "environments.toml, line 2: ", id="ends in a string"),
        pytest.param("[[", "environments.toml, line 1", id="ends in a heading"),
        pytest.param(
            "", ": there is no environment in it; it needs at least one [[environments]].", id="empty file"
        ),
        pytest.param(
            environment() + "[[token]]\n", ": token: is not known here; the nearest valid name is `tokens`.", id="table"
        ),
        pytest.param(
            environment("feature = []"),
            ": environments[0].feature: is not known here; the nearest valid name is `features`.",
            id="unknown field",
        ),
        pytest.param(
            environment(keys='[{key = "k", expire = 1}]'),
            ": environments[0].keys[0].expire: is not known here; the nearest valid name is `expires_at`.",
            id="unknown field of a key",
        ),
        pytest.param(
            environment() + '[[tokens]]\ntoken = "t"\nrole = "read"\nenvironment = []\n',
            ": tokens[0].environment: is not known here; the nearest valid name is `environments`.",
            id="unknown field of a token",
        ),
        pytest.param("environments = 3", ": environments: must be a list of tables", id="no list"),
        pytest.param("environments = [3]", ": environments[0]: must be a table", id="no table"),
        pytest.param("[environments]\nname = 'a'", ": environments: must be a list of tables", id="one bracket"),
        pytest.param(environment(name="3"), ": environments[0].name: must be a string.", id="name is a number"),
        pytest.param(environment(name='""'), ": environments[0].name: must not be empty or blank.", id="empty name"),
        pytest.param(environment(name='" "'), ": environments[0].name: must not be empty or blank.", id="blank name"),
        pytest.param(
            environment(name='"a\\u0000"'), ": environments[0].name: must not hold the character U+0000.", id="NUL"
        ),
        pytest.param(
            environment(name=f'"{"a" * 201}"'), "name: must have at most 200 characters, not 201.", id="long name"
        ),
        pytest.param(
            '[[environments]]\nkeys = ["k"]\nfeatures = []', ": environments[0].name: is missing.", id="no name"
        ),
        pytest.param(
            '[[environments]]\nname = "a"\nfeatures = []',
            ": environments[0].keys: must be a list of keys",
            id="no keys",
        ),
        pytest.param(
            '[[environments]]\nname = "a"\nkeys = []',
            ': environments[0].features: must be a list of feature names, or "any".',
            id="no features",
        ),
        pytest.param(
            environment() + environment(keys='["l"]'),
            ": environments[1].name: names an environment that is there already.",
            id="same name",
        ),
        pytest.param(environment(keys='"k"'), ": environments[0].keys: must be a list of keys", id="keys no list"),
        pytest.param(environment(keys="[3]"), ": environments[0].keys[0]: must be a string.", id="key no string"),
        pytest.param(environment(keys="[{}]"), ": environments[0].keys[0].key: is missing.", id="key without key"),
        pytest.param(environment(keys='[""]'), ": environments[0].keys[0]: must not be empty", id="empty key"),
        pytest.param(environment(keys='["a b"]'), ": environments[0].keys[0]: must be visible ASCII", id="space"),
        pytest.param(environment(keys='["ä"]'), ": environments[0].keys[0]: must be visible ASCII", id="umlaut"),
        pytest.param(environment(keys='["a\\n"]'), ": environments[0].keys[0]: must be visible ASCII", id="newline"),
        pytest.param(
            environment(keys=f'["{"k" * 513}"]'), "keys[0]: must have at most 512 characters, not 513.", id="long key"
        ),
        pytest.param(
            environment(keys='["k", "k"]'),
            ": environments[0].keys[1]: is the same key as environments[0].keys[0]; a key must belong to",
            id="same key twice",
        ),
        pytest.param(
            environment() + environment(name='"b"'),
            ": environments[1].keys[0]: is the same key as environments[0].keys[0]",
            id="same key in two environments",
        ),
        pytest.param(
            environment(keys='[{key = "k", active = "no"}]'),
            ": environments[0].keys[0].active: must be true or false.",
            id="active",
        ),
        pytest.param(
            environment(keys='[{key = "k", expires_at = 2026-12-01}]'),
            ": environments[0].keys[0].expires_at: must be a date and time with an offset",
            id="a date alone",
        ),
        pytest.param(
            environment(keys='[{key = "k", expires_at = 2026-12-01T00:00:00}]'),
            ": environments[0].keys[0].expires_at: must be a date and time with an offset",
            id="no offset",
        ),
        pytest.param(
            environment(keys='[{key = "k", expires_at = "2026-12-01T00:00:00Z"}]'),
            ": environments[0].keys[0].expires_at: must be a date and time with an offset",
            id="quoted",
        ),
        pytest.param(
            environment(features='"all"'), ': environments[0].features: must be a list of feature names, or "any".',
            id="neither list nor any",
        ),
        pytest.param(environment(features="[1]"), ": environments[0].features[0]: must be a string.", id="feature"),
        pytest.param(environment(features='["a", ""]'), ": environments[0].features[1]: must not be empty", id="blank"),
        pytest.param(
            environment(features='["a\\u0000"]'), ": environments[0].features[0]: must not hold", id="NUL in a feature"
        ),
        pytest.param(
            environment(features=f'["{"f" * 2001}"]'),
            ": environments[0].features[0]: must have at most 2,000 characters, not 2,001.",
            id="long feature",
        ),
        pytest.param(
            environment() + '[[tokens]]\nrole = "read"\n', ": tokens[0].token: is missing.", id="token without token"
        ),
        pytest.param(
            environment() + '[[tokens]]\ntoken = "t"\nrole = "write"\n',
            ': tokens[0].role: must be "read" or "admin".',
            id="role",
        ),
        pytest.param(
            environment() + '[[tokens]]\ntoken = "t"\nrole = "read"\nenvironments = ["a", "b"]\n',
            ": tokens[0].environments[1]: there is no environment b.",
            id="token of no environment",
        ),
        pytest.param(
            environment() + '[[tokens]]\ntoken = "t"\nrole = "read"\nenvironments = "a"\n',
            ": tokens[0].environments: must be a list of names",
            id="environments no list",
        ),
        pytest.param(
            environment() + '[[tokens]]\ntoken = "k"\nrole = "read"\n',
            ": tokens[0].token: is the same text as environments[0].keys[0]; a token must be no environment's key.",
            id="token is a key",
        ),
        pytest.param(
            environment() + '[[tokens]]\ntoken = "t"\nrole = "read"\n' * 2,
            ": tokens[1].token: is the same text as a token before it.",
            id="token twice",
        ),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_place(text: str, expected: str) -> None:
    """Each fault names the file, and the line or the path, and says what is wrong there."""
    message = faults(text)

    assert message.startswith("environments.toml")
    assert expected in message


def test_an_environment_has_its_policy() -> None:
    """The fields of a policy stand beside the others, and those that are wrong are named as the others are."""
    document = parse(environment('identity = "hash"\nrate = 5\nsample_rate = 0.5') + environment(name='"b"', keys="[]"))
    message = faults(environment('identity = "none"\norigins = ["https://a/b"]'))

    assert Policy(identity="hash", rate=5, sample_every=2) == document.environments["a"].policy
    assert Policy(identity="hash", rate=5, sample_every=2) == document.keys[0].environment.policy
    assert PLAIN == document.environments["b"].policy
    assert [
        'environments.toml: environments[0].identity: must be "plain", "hash" or "drop".',
        "environments.toml: environments[0].origins[0]",
    ] == [message.splitlines()[0], message.splitlines()[1].rpartition(": ")[0]]


def test_a_privacy_setting_elsewhere_is_no_promise_either() -> None:
    """The same names outside of an environment are unknown names."""
    assert "identity: is not known here" in faults('identity = "drop"\n' + environment())


def test_bytes_that_are_no_text_name_their_line() -> None:
    """A file in another encoding is refused with the line of the first such byte."""
    with pytest.raises(CatalogError) as caught:
        parse_document(b'a = 1\nb = "\xff"\n', FILE)

    assert str(caught.value) == "environments.toml, line 2: this is not UTF-8 text."


def test_every_fault_is_named_at_once() -> None:
    """Two mistakes take one round of mending, and a file that is all mistakes does not fill a screen."""
    assert len(faults(environment(name='""', features="3")).splitlines()) == 2
    assert faults(environment(keys="[1]") * 30).splitlines()[-1].endswith("more faults.")


def test_tokens_from_elsewhere() -> None:
    """Tokens read alike where no environments stand beside them; whether those exist cannot be told there."""
    tables = [{"token": "t", "role": "read"}, {"token": "u", "role": "admin", "environments": ["nowhere"]}]

    assert {
        "t": Token(role="read"),
        "u": Token(role="admin", environments=frozenset({"nowhere"})),
    } == read_tokens(tables)


def test_faults_of_tokens_from_elsewhere() -> None:
    """All of them are named at once, with their paths, and quote no token."""
    with pytest.raises(ValueError, match="tokens") as caught:
        read_tokens([{"token": "SECRET", "role": "x"}, {"token": "SECRET", "role": "read"}, {"roles": "read"}])

    assert [
        'tokens[0].role: must be "read" or "admin".',
        "tokens[1].token: is the same text as a token before it.",
        "tokens[2].roles: is not known here; the nearest valid name is `role`.",
        "tokens[2].token: is missing.",
        'tokens[2].role: must be "read" or "admin".',
    ] == str(caught.value).splitlines()


def test_no_fault_quotes_a_key_or_token() -> None:
    """What the log says of a broken file gives no secret away."""
    secret = "ser.SECRET"
    message = faults(
        environment(keys=f'["{secret}", "{secret}", "{secret} "]') + f'[[tokens]]\ntoken = "{secret}"\nrole = "x"\n'
    )

    assert secret not in message


@given(st.text(max_size=60))
def test_any_text_is_either_declared_or_refused(text: str) -> None:
    """Whatever the file holds, reading it ends in a document or in a CatalogError."""
    try:
        found = len(parse(text).environments)
    except CatalogError as error:
        found = len(error.faults)

    assert found > 0


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(str.strip)))
def test_feature_names_are_kept_exactly(names: list[str]) -> None:
    """Names come out as they were written: no trimming, no folding."""
    listed = ", ".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)

    assert parse(environment(features=f"[{listed}]")).environments["a"].features == frozenset(names)
