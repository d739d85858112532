"""
An environment's policy: what may be kept of what is sent to it, and how much of it; and how people write one down.

Its fields stand in an environment of the environments file, and in the `policies` of `flagledger.toml`.
"""

from __future__ import annotations

import base64
import hmac
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from flagledger.tomlfile import nearest

MAX_SAMPLE_EVERY: Final = 1_000

_CLIENT_KEY: Final = re.compile(r"(?!ser\.)[!-~]+")
MAX_RATE: Final = 1_000_000_000
POLICY_FIELDS: Final = ("identity", "traits", "metadata", "rate", "origins", "sample_rate")

# Told where a fault is and what is wrong there, without the full stop.
OnFault = Callable[[str, str], None]

# 128 bits: no two of a billion identities meet, and nobody reads one back who lacks the secret.
_PSEUDONYM_BYTES: Final = 16
PSEUDONYM_PREFIX: Final = "hmac:"

_IDENTITIES: Final = ("plain", "hash", "drop")
# As people round: ten digits of 1/3 are meant to be 1/3.
_SAMPLE_TOLERANCE: Final = 1e-9
# RFC 6454, section 6.2, as browsers send it: a host in ASCII, and no port where it is the scheme's own.
_ORIGIN: Final = re.compile(
    r"(?P<site>(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\]))(?::(?P<port>\d{1,5}))?"
)
_OWN_PORTS: Final = {"http": 80, "https": 443}
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """
    What an environment lets be kept.

    It acts before the journal, so that nothing else is ever on disk.

    Attributes:
        identity: `plain` keeps identities as sent, `hash` keeps a pseudonym of each, `drop` keeps none.
        traits: Keys of the traits that are kept; None for all.
        metadata: Keys of the metadata, at its top level, that are kept; None for all.
        rate: Evaluations (entries) a second that are taken, over all fronts together; None for no limit.
        origins: Origins of pages that may send; None for any, since a client key is no secret.
        sample_every: One of so many evaluations is kept, at random, and stands for all of them; 1 keeps each.
    """

    identity: Literal["plain", "hash", "drop"] = "plain"
    traits: frozenset[str] | None = None
    metadata: frozenset[str] | None = None
    rate: int | None = None
    origins: frozenset[str] | None = None
    sample_every: int = 1

    @property
    def rewrites(self) -> bool:
        """Whether evaluations are kept in another form than sent."""
        return self.hides or self.sample_every > 1

    @property
    def hides(self) -> bool:
        """Whether something personal is left out or replaced."""
        return self.identity != "plain" or self.traits is not None or self.metadata is not None


PLAIN: Final = Policy()
"""Everything is kept as it is sent."""


def pseudonym(secret: bytes, environment: str, identity_identifier: str) -> str:
    """
    Return what is kept of an identity under `identity = "hash"`: the same for the same secret, environment and identity.

    HMAC-SHA-256 (RFC 2104), cut to 128 bits, base64url, behind `hmac:`. Environments have pseudonyms of their own, so that
    two of them cannot be joined on it.
    """
    mac = hmac.digest(secret, f"{environment}\0{identity_identifier}".encode("utf-8", "surrogatepass"), "sha256")
    return PSEUDONYM_PREFIX + base64.urlsafe_b64encode(mac[:_PSEUDONYM_BYTES]).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """
    Policies of environments that are declared elsewhere.

    Attributes:
        named: By name of the environment.
        others: That of every other one.
    """

    named: Mapping[str, Policy] = field(default_factory=dict)
    others: Policy = PLAIN

    def of(self, environment_name: str) -> Policy:
        """Return the policy of an environment."""
        return self.named.get(environment_name, self.others)


def read_policies(tables: Sequence[Mapping[str, Any]]) -> Policies:
    """
    Return what *tables* declare: each a policy, for its `environments` or, without them, for all. The first that fits counts.

    Raises:
        ValueError: Something is wrong with them; a line for each fault, with its path (`policies[0].rate`).
    """
    faults: list[str] = []

    def fault(path: str, sentence: str) -> None:
        faults.append(f"{path}: {sentence}.")

    named: dict[str, Policy] = {}
    others: list[Policy] = []
    valid = ("environments", *POLICY_FIELDS)
    for index, table in enumerate(tables):
        path = f"policies[{index}]"
        for name in table:
            if name not in valid:
                fault(f"{path}.{name}", f"is not known here; the nearest valid name is `{nearest(name, valid)}`")
        policy = read_policy(path, table, fault)
        if "environments" not in table:
            others.append(policy)
            continue
        names = _texts(f"{path}.environments", table, fault, "names; leave it out for all environments")
        for number, name in enumerate(table["environments"] if names is not None else ()):
            if isinstance(name, str) and not _CLIENT_KEY.fullmatch(name):
                # It is not repeated: a server key is a secret.
                sentence = "is no client key; a server key is none, nor is what people call an environment"
                fault(f"{path}.environments[{number}]", sentence)
        if table["environments"] == []:
            fault(f"{path}.environments", "must name an environment; leave it out for all of them")
        named = {**dict.fromkeys(names or (), policy), **named}
    if faults:
        raise ValueError("\n".join(faults))
    return Policies(named=named, others=others[0] if others else PLAIN)


def read_policy(path: str, table: Mapping[str, Any], fault: OnFault) -> Policy:
    """
    Return the policy whose fields stand in *table*, beside others; of one that is wrong the default is in it.

    Args:
        path: Where *table* stands.
        table: As read from TOML.
        fault: Called for each fault.
    """
    identity = table.get("identity", "plain")
    if identity not in _IDENTITIES:
        fault(f"{path}.identity", 'must be "plain", "hash" or "drop"')
        identity = "plain"
    return Policy(
        identity=identity,
        traits=_texts(f"{path}.traits", table, fault, "keys; an empty one keeps no trait, leave it out to keep all"),
        metadata=_texts(f"{path}.metadata", table, fault, "keys; an empty one keeps none, leave it out to keep all"),
        rate=_rate(f"{path}.rate", table.get("rate"), fault),
        origins=_origins(f"{path}.origins", table, fault),
        sample_every=_sample_every(f"{path}.sample_rate", table.get("sample_rate", 1), fault),
    )


def _texts(path: str, table: Mapping[str, Any], fault: OnFault, what: str) -> frozenset[str] | None:
    """Return the list of texts that *path* ends in, None where it is absent."""
    texts = table.get(path.rpartition(".")[2])
    if texts is None:
        return None
    if not isinstance(texts, list):
        fault(path, f"must be a list of {what}")
        return frozenset()
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            fault(f"{path}[{index}]", "must be a string")
        elif not text.strip():
            fault(f"{path}[{index}]", "must not be empty or blank")
    return frozenset(text for text in texts if isinstance(text, str))


def _rate(path: str, rate: Any, fault: OnFault) -> int | None:
    if rate is None or (isinstance(rate, int) and not isinstance(rate, bool) and 1 <= rate <= MAX_RATE):
        return rate
    fault(path, f"must be a whole number of evaluations a second, from 1 to {MAX_RATE:,}; leave it out for no limit")
    return None


def _origins(path: str, table: Mapping[str, Any], fault: OnFault) -> frozenset[str] | None:
    origins = _texts(path, table, fault, "origins; leave it out to let every page send")
    if origins is None:
        return None
    # Its place again, for the faults: a set has none.
    listed = table["origins"] if isinstance(table["origins"], list) else []
    return frozenset(
        _origin(f"{path}[{index}]", text, fault)
        for index, text in enumerate(listed)
        if isinstance(text, str) and text.strip()
    )


def _origin(path: str, origin: str, fault: OnFault) -> str:
    """Return *origin* as browsers send it."""
    found = _ORIGIN.fullmatch(origin.lower())
    if "*" in origin:
        fault(path, "must be one origin, without `*`; leave `origins` out to let every page send")
    elif origin.lower() == "null":
        # Any page becomes that in a sandboxed frame.
        fault(path, 'must not be "null", which any page can send as; leave `origins` out to let every page send')
    elif found is None:
        fault(path, "must be scheme://host or scheme://host:port without a path, for example https://app.example.com")
    elif found["port"] is None or int(found["port"]) == _OWN_PORTS.get(found["scheme"]):
        return found["site"]
    elif not 1 <= int(found["port"]) <= _MAX_PORT:
        fault(path, f"must have a port from 1 to {_MAX_PORT}")
    else:
        return f"{found['site']}:{int(found['port'])}"
    return origin


def _sample_every(path: str, rate: Any, fault: OnFault) -> int:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not -math.inf < rate < math.inf:
        fault(path, f"must be a number: 1/N for a whole N from 1 to {MAX_SAMPLE_EVERY:,}")
        return 1
    every = _nearest_every(rate)
    if abs(rate * every - 1) > _SAMPLE_TOLERANCE:
        nearest_rate = f"{1 / every:.12g}" + (f", which is 1/{every}" if every > 1 else "")
        fault(path, f"must be 1/N for a whole N from 1 to {MAX_SAMPLE_EVERY:,}; the nearest is {nearest_rate}")
        return 1
    return every


def _nearest_every(rate: float) -> int:
    if rate >= 1:
        return 1
    if rate <= 1 / MAX_SAMPLE_EVERY:
        return MAX_SAMPLE_EVERY
    fewer = math.floor(1 / rate)
    return min((fewer, fewer + 1), key=lambda every: abs(1 / every - rate))
