from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from flagledger.catalog.policy import PLAIN, Policies, Policy, pseudonym, read_policies, read_policy
from hypothesis import given
from hypothesis import strategies as st


def read(**fields: Any) -> Policy:
    """Return the policy of *fields*, in which nothing is wrong."""
    faults: list[tuple[str, str]] = []
    policy = read_policy("environments[0]", fields, lambda path, sentence: faults.append((path, sentence)))
    assert [] == faults
    return policy


def faults(**fields: Any) -> str:
    """Return what is said of *fields*, in a table of policies."""
    with pytest.raises(ValueError, match="policies") as caught:
        read_policies([fields])
    return str(caught.value)


def test_pseudonym() -> None:
    """A pseudonym is HMAC-SHA-256 over environment and identity, cut to 128 bits."""
    mac = hmac.new(b"secret", b"production\0user_1", hashlib.sha256).digest()[:16]

    assert "hmac:" + base64.urlsafe_b64encode(mac).decode().rstrip("=") == pseudonym(b"secret", "production", "user_1")


def test_pseudonyms_of_environments_differ() -> None:
    """Neither another secret nor another environment has the same pseudonym for one identity."""
    found = {
        pseudonym(secret, environment, "user_1") for secret in (b"a", b"b") for environment in ("production", "test")
    }

    assert 4 == len(found)


def test_no_field_is_plain() -> None:
    """Whoever writes nothing keeps everything as it is sent."""
    assert PLAIN == read()


def test_every_field_is_read() -> None:
    """What is written is what the policy says, origins as browsers write them."""
    policy = read(
        identity="hash",
        traits=["plan", "country"],
        metadata=[],
        rate=50_000,
        origins=["https://App.Example.com", "http://localhost:03000", "https://a.b:443", "http://[::1]:80", "app://x"],
        sample_rate=0.1,
        name="not ours",
    )

    assert policy == Policy(
        identity="hash",
        traits=frozenset({"plan", "country"}),
        metadata=frozenset(),
        rate=50_000,
        origins=frozenset(
            {"https://app.example.com", "http://localhost:3000", "https://a.b", "http://[::1]", "app://x"}
        ),
        sample_every=10,
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"identity": "hashed"}, 'identity: must be "plain", "hash" or "drop".'),
        ({"identity": ["hash"]}, 'identity: must be "plain", "hash" or "drop".'),
        ({"identity": None}, 'identity: must be "plain", "hash" or "drop".'),
        ({"traits": "plan"}, "traits: must be a list of keys; an empty one keeps no trait, leave it out to keep all."),
        ({"traits": ["plan", 1]}, "traits[1]: must be a string."),
        ({"traits": [" "]}, "traits[0]: must not be empty or blank."),
        ({"metadata": {}}, "metadata: must be a list of keys; an empty one keeps none, leave it out to keep all."),
        ({"rate": 0}, "rate: must be a whole number of evaluations a second, from 1 to 1,000,000,000; leave it out"),
        ({"rate": 1_000_000_001}, "rate: must be a whole number"),
        ({"rate": 1.0}, "rate: must be a whole number"),
        ({"rate": True}, "rate: must be a whole number"),
        ({"rate": "1"}, "rate: must be a whole number"),
        ({"origins": "https://a"}, "origins: must be a list of origins; leave it out to let every page send."),
        ({"origins": ["*"]}, "origins[0]: must be one origin, without `*`; leave `origins` out to let every page send."),
        ({"origins": ["https://a", "https://*.a"]}, "origins[1]: must be one origin, without `*`"),
        ({"origins": ["null"]}, 'origins[0]: must not be "null", which any page can send as; leave `origins` out'),
        ({"origins": ["https://a/"]}, "origins[0]: must be scheme://host or scheme://host:port without a path"),
        ({"origins": ["https://a/b"]}, "without a path"),
        ({"origins": ["a.example"]}, "without a path"),
        ({"origins": [" https://a"]}, "without a path"),
        ({"origins": ["https://u@a"]}, "without a path"),
        ({"origins": ["https://bücher.example"]}, "without a path"),
        ({"origins": ["https://a:0"]}, "origins[0]: must have a port from 1 to 65535."),
        ({"origins": ["https://a:65536"]}, "origins[0]: must have a port from 1 to 65535."),
        ({"origins": [1, ""]}, "origins[0]: must be a string.\npolicies[0].origins[1]: must not be empty or blank."),
        ({"sample_rate": 0.4}, "sample_rate: must be 1/N for a whole N from 1 to 1,000; the nearest is 0.333333333333, w"),
        ({"sample_rate": 0.45}, "the nearest is 0.5, which is 1/2."),
        ({"sample_rate": 0.3333}, "the nearest is 0.333333333333, which is 1/3."),
        ({"sample_rate": 0.0001}, "the nearest is 0.001, which is 1/1000."),
        ({"sample_rate": 0}, "the nearest is 0.001, which is 1/1000."),
        ({"sample_rate": -1}, "the nearest is 0.001, which is 1/1000."),
        ({"sample_rate": 10}, "the nearest is 1."),
        ({"sample_rate": 10**400}, "the nearest is 1."),
        ({"sample_rate": float("nan")}, "sample_rate: must be a number: 1/N for a whole N from 1 to 1,000."),
        ({"sample_rate": float("inf")}, "sample_rate: must be a number"),
        ({"sample_rate": True}, "sample_rate: must be a number"),
        ({"sample_rate": "0.1"}, "sample_rate: must be a number"),
        ({"trait": []}, "trait: is not known here; the nearest valid name is `traits`."),
        ({"environments": "a"}, "environments: must be a list of names; leave it out for all environments."),
        ({"environments": []}, "environments: must name an environment; leave it out for all of them."),
        ({"environments": [1]}, "environments[0]: must be a string."),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], expected: str) -> None:
    """Each fault has its path, and says what would be right."""
    said = faults(**fields)

    assert said.startswith("policies[0].")
    assert expected in said


@given(st.integers(1, 1000), st.integers(12, 17))
def test_every_sample_rate_can_be_written(every: int, digits: int) -> None:
    """1/N is understood for each N, in twelve digits and in as many as there are."""
    assert every == read(sample_rate=float(f"{1 / every:.{digits}g}")).sample_every


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_nearest_sample_rate_is_a_valid_one(rate: float) -> None:
    """Whatever is written, it is read, or the fault names a rate that would be."""
    try:
        every = read_policies([{"sample_rate": rate}]).others.sample_every
    except ValueError as error:
        nearest = float(str(error).rpartition("the nearest is ")[2].partition(",")[0].rstrip("."))
        every = read(sample_rate=nearest).sample_every
        distance = min(abs(1 / other - rate) for other in range(1, 1001))
        assert distance == pytest.approx(abs(1 / every - rate))
    else:
        assert rate == pytest.approx(1 / every, rel=1e-9)


def test_policies_of_environments() -> None:
    """The first table that names an environment counts, then the first for all, then none."""
    policies = read_policies(
        [
            {"environments": ["a", "b"], "identity": "hash"},
            {"traits": []},
            {"environments": ["b", "c"], "rate": 1},
            {"identity": "drop"},
        ]
    )

    assert [
        Policy(identity="hash"),
        Policy(identity="hash"),
        Policy(rate=1),
        Policy(traits=frozenset()),
    ] == [policies.of(name) for name in "abcd"]
    assert {"a", "b", "c"} == set(policies.named)


def test_no_policies() -> None:
    """Where none is declared everything is kept."""
    assert Policies() == read_policies([])
    assert PLAIN is read_policies([{"environments": ["a"], "rate": 1}]).of("b")


def test_all_faults_at_once() -> None:
    """Two mistakes take one round of mending."""
    with pytest.raises(ValueError, match="policies") as caught:
        read_policies([{"identity": "x"}, {"rate": 0}])

    assert ["policies[0].identity", "policies[1].rate"] == [
        line.partition(": ")[0] for line in str(caught.value).splitlines()
    ]


@pytest.mark.parametrize(
    ("policy", "hides", "rewrites"),
    [
        (PLAIN, False, False),
        (Policy(rate=1, origins=frozenset()), False, False),
        (Policy(sample_every=2), False, True),
        (Policy(identity="hash"), True, True),
        (Policy(identity="drop"), True, True),
        (Policy(traits=frozenset()), True, True),
        (Policy(metadata=frozenset()), True, True),
    ],
)
def test_what_a_policy_does(policy: Policy, hides: bool, rewrites: bool) -> None:  # noqa: FBT001
    """Limits change nothing of an evaluation; a sample changes its count, and all else hides something."""
    assert (hides, rewrites) == (policy.hides, policy.rewrites)
