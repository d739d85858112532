"""The environments file: what may stand in it, and what is wrong with one. Standard library only."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flagledger.catalog.base import Environment, Token
from flagledger.catalog.policy import POLICY_FIELDS, read_policy
from flagledger.tomlfile import TomlSyntaxError, nearest, parse_toml

MAX_KEY_CHARACTERS: Final = 512
MAX_FEATURE_CHARACTERS: Final = 2000
MAX_NAME_CHARACTERS: Final = 200

# A file that is wrong from end to end is shown by its first faults.
_MAX_FAULTS: Final = 20

# What an HTTP header and gRPC metadata carry unchanged.
_KEY: Final = re.compile(r"[!-~]+")
_FILE_FIELDS: Final = ("environments", "tokens")
_ENVIRONMENT_FIELDS: Final = ("name", "keys", "features", *POLICY_FIELDS)
_KEY_FIELDS: Final = ("key", "expires_at", "active")
_TOKEN_FIELDS: Final = ("token", "role", "environments")
_ROLES: Final = ("read", "admin")


class CatalogError(Exception):
    """
    An environments file that cannot be used.

    Its text is for people: a line for each fault, naming the file and the line or the path (`environments[1].keys[0]`).
    It quotes no key and no token.
    """

    def __init__(self, file: Path, faults: tuple[str, ...]) -> None:
        super().__init__("\n".join(f"{file}{fault}" for fault in faults))
        self.file = file
        self.faults = faults


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredKey:
    """A key as the file declares it. `expires_at` is in epoch seconds, None for never."""

    text: str
    environment: Environment
    active: bool = True
    expires_at: float | None = None

    def counts(self) -> bool:
        """Return whether the key is active and has not expired by now."""
        return self.active and (self.expires_at is None or time.time() < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A valid environments file: environments by name, in the file's order; keys; what each token permits."""

    environments: Mapping[str, Environment]
    keys: tuple[DeclaredKey, ...]
    tokens: Mapping[str, Token]


def parse_document(content: bytes, file: Path) -> Document:
    """
    Return what *content*, read from *file*, declares.

    Raises:
        CatalogError: It is not TOML, or not an environments file. All its faults are named, up to 20.
    """
    try:
        table = parse_toml(content)
    except TomlSyntaxError as error:
        raise CatalogError(file, (f", {error}.",)) from None
    reader = _Reader()
    document = reader.read(table)
    if reader.faults:
        more = len(reader.faults) - _MAX_FAULTS
        tail = (f": and {more} more faults.",) if more > 0 else ()
        raise CatalogError(file, (*(f": {fault}" for fault in reader.faults[:_MAX_FAULTS]), *tail))
    return document


def read_tokens(tables: Sequence[Mapping[str, Any]]) -> dict[str, Token]:
    """
    Return what the tokens in *tables*, from elsewhere than an environments file, permit. Their environments may not exist.

    Raises:
        ValueError: Something is wrong with them; a line for each fault, with its path (`tokens[0].role`).
    """
    reader = _Reader()
    for index, table in enumerate(tables):
        reader.read_token(f"tokens[{index}]", table, None)
    if reader.faults:
        raise ValueError("\n".join(reader.faults))
    return reader.tokens


class _Reader:
    """Walks the document once and gathers every fault on the way."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.tokens: dict[str, Token] = {}
        self._environments: dict[str, Environment] = {}
        self._places: dict[str, str] = {}
        self._keys: list[DeclaredKey] = []

    def read(self, table: dict[str, Any]) -> Document:
        self._check_fields("", table, _FILE_FIELDS)
        for path, entry in self._tables(table, "environments"):
            self._read_environment(path, entry)
        if not table.get("environments"):
            # Also what an editor that writes in place leaves for a moment: an empty file must not lock everybody out.
            self._fault("", "there is no environment in it; it needs at least one [[environments]]")
        for path, entry in self._tables(table, "tokens"):
            self.read_token(path, entry, self._environments)
        return Document(environments=self._environments, keys=tuple(self._keys), tokens=self.tokens)

    def _fault(self, path: str, sentence: str) -> None:
        self.faults.append(f"{path}: {sentence}." if path else f"{sentence}.")

    def _tables(self, table: dict[str, Any], field: str) -> Iterator[tuple[str, dict[str, Any]]]:
        entries = table.get(field, [])
        if not isinstance(entries, list):
            self._fault(field, f"must be a list of tables; write [[{field}]] with two brackets")
            return
        for index, entry in enumerate(entries):
            path = f"{field}[{index}]"
            if isinstance(entry, dict):
                yield path, entry
            else:
                self._fault(path, f"must be a table; write [[{field}]]")

    def _check_fields(self, path: str, table: Mapping[str, Any], valid: tuple[str, ...]) -> None:
        for field in table:
            if field in valid:
                continue
            place = f"{path}.{_shown(field)}" if path else _shown(field)
            self._fault(place, f"is not known here; the nearest valid name is `{nearest(field, valid)}`")

    def _read_environment(self, path: str, entry: dict[str, Any]) -> None:
        self._check_fields(path, entry, _ENVIRONMENT_FIELDS)
        name = self._text(f"{path}.name", entry.get("name"), MAX_NAME_CHARACTERS)
        features = self._features(f"{path}.features", entry.get("features"))
        if name is not None and name in self._environments:
            self._fault(f"{path}.name", "names an environment that is there already")
        policy = read_policy(path, entry, self._fault)
        environment = Environment(name=name or "", features=features, policy=policy)
        if name is not None:
            self._environments.setdefault(name, environment)
        keys = entry.get("keys")
        if not isinstance(keys, list):
            self._fault(f"{path}.keys", "must be a list of keys; an empty one takes nothing in")
            return
        for index, key in enumerate(keys):
            self._read_key(f"{path}.keys[{index}]", key, environment)

    def _features(self, path: str, features: Any) -> frozenset[str] | None:
        if features == "any":
            return None
        if not isinstance(features, list):
            self._fault(path, 'must be a list of feature names, or "any"')
            return frozenset()
        names = (
            self._text(f"{path}[{index}]", feature, MAX_FEATURE_CHARACTERS) for index, feature in enumerate(features)
        )
        return frozenset(name for name in names if name is not None)

    def _read_key(self, path: str, key: Any, environment: Environment) -> None:
        if isinstance(key, dict):
            self._check_fields(path, key, _KEY_FIELDS)
            text = self._secret(f"{path}.key", key.get("key"))
            active = key.get("active", True)
            if not isinstance(active, bool):
                self._fault(f"{path}.active", "must be true or false")
            expires_at = self._moment(f"{path}.expires_at", key.get("expires_at"))
        else:
            text, active, expires_at = self._secret(path, key), True, None
        if text is None:
            return
        if (first := self._places.setdefault(text, path)) != path:
            self._fault(path, f"is the same key as {first}; a key must belong to one environment, once")
        self._keys.append(DeclaredKey(text=text, environment=environment, active=active is True, expires_at=expires_at))

    def read_token(self, path: str, entry: Mapping[str, Any], known: Container[str] | None) -> None:
        """Read the token at *path*; its environments must be among those *known*, None for any."""
        self._check_fields(path, entry, _TOKEN_FIELDS)
        text = self._secret(f"{path}.token", entry.get("token"))
        role = entry.get("role")
        if role not in _ROLES:
            self._fault(f"{path}.role", 'must be "read" or "admin"')
        names = self._token_environments(f"{path}.environments", entry.get("environments"), known)
        if text is None:
            return
        if text in self._places:
            # A client key ships in browsers: as a token it would let everybody read.
            self._fault(
                f"{path}.token", f"is the same text as {self._places[text]}; a token must be no environment's key"
            )
        elif text in self.tokens:
            self._fault(f"{path}.token", "is the same text as a token before it")
        else:
            self.tokens[text] = Token(role=str(role), environments=names)

    def _token_environments(self, path: str, names: Any, known: Container[str] | None) -> frozenset[str] | None:
        if names is None:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._fault(path, "must be a list of names; leave it out for all environments")
            return frozenset()
        for index, name in enumerate(names):
            if known is not None and name not in known:
                self._fault(f"{path}[{index}]", f"there is no environment {_shown(name)}")
        return frozenset(names)

    def _text(self, path: str, text: Any, limit: int) -> str | None:
        """Return *text* where it is one that can be stored and shown, else None after naming the fault."""
        if not isinstance(text, str):
            self._fault(path, "must be a string" if text is not None else "is missing")
        elif not text.strip():
            self._fault(path, "must not be empty or blank")
        elif "\0" in text:
            self._fault(path, "must not hold the character U+0000")
        elif len(text) > limit:
            self._fault(path, f"must have at most {limit:,} characters, not {len(text):,}")
        else:
            return text
        return None

    def _secret(self, path: str, text: Any) -> str | None:
        """Return *text* where a header can carry it, else None after naming the fault."""
        if not isinstance(text, str):
            self._fault(path, "must be a string" if text is not None else "is missing")
        elif not text.strip():
            self._fault(path, "must not be empty or blank")
        elif not _KEY.fullmatch(text):
            self._fault(path, "must be visible ASCII characters without spaces: a header has to carry it")
        elif len(text) > MAX_KEY_CHARACTERS:
            self._fault(path, f"must have at most {MAX_KEY_CHARACTERS} characters, not {len(text):,}")
        else:
            return text
        return None

    def _moment(self, path: str, moment: Any) -> float | None:
        if moment is None:
            return None
        if not isinstance(moment, dt.datetime) or moment.tzinfo is None:
            self._fault(path, "must be a date and time with an offset, unquoted, for example 2026-12-01T00:00:00Z")
            return None
        return moment.timestamp()


def _shown(name: str) -> str:
    """Return *name* as a fault may quote it: short, and without control characters."""
    clipped = name if len(name) <= MAX_NAME_CHARACTERS else name[: MAX_NAME_CHARACTERS - 1] + "…"
    return f'"{clipped}"' if clipped.isprintable() and clipped.isascii() and " " in clipped else _escaped(clipped)


def _escaped(name: str) -> str:
    return name if name.isprintable() and name else repr(name)
