"""
The catalog that is a TOML file, followed while it changes.

The file is looked at (one `stat`) at most once a second, and at each `fresh` lookup. Reading and parsing happen in a
thread. A new file that is broken or unreadable, or none at all, leaves what the last good one said in force.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flagledger.catalog.base import SERVER_KEY_PREFIX, Environment, Grant, Inventory, KeyFound, Token
from flagledger.catalog.digest import digest as digest_of
from flagledger.catalog.document import MAX_KEY_CHARACTERS, CatalogError, Document, parse_document
from flagledger.errors import FlagledgerError, Reason

OnReload = Callable[[bool, CatalogError | None], None]

# A file written less than this ago may be written again within one tick of its file system's clock, so its signature
# proves nothing yet. Two seconds is the coarsest such clock.
_RACY_SECONDS: Final = 2.0

# Editors that write in place truncate first: a file is read once it has been left alone for this long, or after the
# patience below.
_SETTLED_SECONDS: Final = 0.02
_SETTLE_LOOKS: Final = 10

# Editors that replace by rename leave a moment without the file.
_GONE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signature:
    """What `stat` tells of a file's version."""

    mtime_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Signature:
        return cls(mtime_ns=status.st_mtime_ns, size=status.st_size, inode=status.st_ino)

    def age(self) -> float:
        """Seconds since the file was written, by the machine's clock; negative where that is ahead of it."""
        return time.time() - self.mtime_ns / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """A document made ready to be looked up: digests of keys and tokens to what they permit."""

    environments: dict[str, Environment]
    grants: dict[bytes, Grant]
    tokens: dict[bytes, Token]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """One reading of the file: its content's digest and, where that is new, the index or what is wrong."""

    signature: _Signature
    digest: bytes
    index: _Index | None = None
    error: CatalogError | None = None


def read_document(path: Path, *, tokens: Collection[str] = ()) -> Document:
    """
    Return what the environments file at *path* declares.

    Args:
        path: The file.
        tokens: Tokens from elsewhere, of which none may be a key of the file.

    Raises:
        CatalogError: It cannot be read, or is broken.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    document = parse_document(content, path)
    _refuse_shared(document, path, tokens)
    return document


class FileCatalog:
    """
    The catalog of one environments file.

    Args:
        path: The file.
        extra_tokens: Tokens that are valid besides those of the file, such as the one in the data directory.
        check_interval: Seconds between two looks at an unchanged file, `fresh` lookups apart.
        on_reload: Called once for each new version of the file, in the event loop: with True, or False and the fault. A
            file that is gone or cannot be read is reported likewise, once.
        must_load: Whether a file that is broken now is an error. A process that is started anew while the service runs
            says False: the fault is reported, the catalog is not ready, and lookups raise CATALOG_UNREACHABLE until
            the file is mended.

    Attributes:
        generation: Grows when another version of the file comes into force; what was looked up before is stale then.

    Raises:
        CatalogError: With `must_load`, the file cannot be read or is broken.
    """

    def __init__(
        self,
        path: Path,
        extra_tokens: Mapping[str, Token] | None = None,
        *,
        check_interval: float = 1.0,
        on_reload: OnReload | None = None,
        must_load: bool = True,
    ) -> None:
        self.path = path
        self.generation = 0
        self._extra_tokens = dict(extra_tokens or {})
        self._check_interval = check_interval
        self._on_reload = on_reload
        self._index: _Index | None = None
        self._signature: _Signature | None = None
        self._digest: bytes | None = None
        self._racy = False
        self._unreadable: str | None = None
        self._gone_since: float | None = None
        self._next_check = 0.0
        self._reloading: asyncio.Task[None] | None = None
        try:
            read = self._read()
            if read.error is not None and must_load:
                raise read.error
            self._take(read, at_start=True)
        except CatalogError as error:
            if must_load:
                raise
            self._lose(error)

    async def lookup(self, key: str, *, fresh: bool = False) -> Grant | None:
        """Return what *key* permits. See `Catalog`; *fresh* sees any change made before the call."""
        index = await self._current(fresh=fresh)
        if len(key) > MAX_KEY_CHARACTERS:
            return None
        grant = index.grants.get(digest_of(key))
        return grant if grant is not None and grant.holds() else None

    async def environments(self) -> dict[str, Environment]:
        """Return every environment by its name. The caller MUST NOT change the answer."""
        return (await self._current()).environments

    async def token(self, token: str) -> Token | None:
        """Return what *token* permits. Only digests are compared, so that timing tells nothing of a token."""
        index = await self._current()
        return index.tokens.get(digest_of(token)) if len(token) <= MAX_KEY_CHARACTERS else None

    def ready(self) -> bool:
        """Return whether a valid file has been read."""
        return self._index is not None

    def poll(self) -> None:
        """
        Look at the file if the last look is `check_interval` ago, and start to read it in the background if it changed.

        Needs a running event loop.
        """
        if time.monotonic() >= self._next_check and self._changed():
            self._start_reload()

    async def inventory(self) -> Inventory:
        """Return everything that stands in the file now, also where that did not come into force. See `Source`."""
        try:
            document = await asyncio.to_thread(read_document, self.path, tokens=self._extra_tokens)
        except CatalogError as error:
            raise FlagledgerError(Reason.CATALOG_UNREACHABLE, str(error)) from error
        return Inventory(
            environments=tuple(document.environments.values()),
            keys=tuple(
                KeyFound(text=key.text, environment=key.environment.name, active=key.active, expires_at=key.expires_at)
                for key in document.keys
            ),
        )

    async def close(self) -> None:
        """Wait for a reading that is under way."""
        if self._reloading is not None:
            await asyncio.wait({self._reloading})

    async def _current(self, *, fresh: bool = False) -> _Index:
        if fresh or self._index is None:
            # A reading that is under way may have begun before the change that the caller asks for.
            if self._reloading is not None:
                await asyncio.shield(self._reloading)
            if self._changed():
                await asyncio.shield(self._start_reload())
        else:
            self.poll()
        if self._index is None:
            raise FlagledgerError(
                Reason.CATALOG_UNREACHABLE, "The environments file cannot be used at the moment; try again later."
            )
        return self._index

    def _changed(self) -> bool:
        """Look at the file; return whether it has to be read."""
        now = time.monotonic()
        self._next_check = now + self._check_interval
        try:
            signature = _Signature.of(self.path.stat())
        except OSError as error:
            if self._gone_since is None:
                self._gone_since = now
            elif now - self._gone_since >= _GONE_SECONDS:
                self._lose(_unreadable(self.path, error))
            return False
        self._gone_since = None
        return self._racy or signature != self._signature

    def _start_reload(self) -> asyncio.Task[None]:
        # One at a time. A change that comes while it reads is seen by the next look: the signature is from before.
        if self._reloading is None:
            self._reloading = asyncio.create_task(self._reload(), name="environments file")
        return self._reloading

    async def _reload(self) -> None:
        try:
            self._take(await asyncio.to_thread(self._read_settled))
        except CatalogError as error:
            self._lose(error)
        finally:
            self._reloading = None

    def _take(self, read: _Read, *, at_start: bool = False) -> None:
        unchanged = read.digest == self._digest
        self._signature, self._digest, self._unreadable = read.signature, read.digest, None
        self._racy = abs(read.signature.age()) < _RACY_SECONDS
        if unchanged:
            return
        if read.index is not None:
            self._index = read.index
            self.generation += 1
        if read.error is not None or not at_start:
            self._report(read.error)

    def _lose(self, error: CatalogError) -> None:
        """Note that the file cannot be read, and report it once. Whatever is there later counts as new."""
        self._signature = self._digest = None
        if self._unreadable != str(error):
            self._unreadable = str(error)
            self._report(error)

    def _report(self, error: CatalogError | None) -> None:
        if self._on_reload is not None:
            self._on_reload(error is None, error)

    def _read_settled(self) -> _Read:
        for _ in range(_SETTLE_LOOKS):
            try:
                age = _Signature.of(self.path.stat()).age()
            except OSError:
                break
            if not 0 <= age < _SETTLED_SECONDS:
                break
            time.sleep(_SETTLED_SECONDS - age)
        return self._read()

    def _read(self) -> _Read:
        try:
            with self.path.open("rb") as file:
                signature = _Signature.of(os.fstat(file.fileno()))
                content = file.read()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            return _Read(signature=signature, digest=digest)
        try:
            index = self._indexed(parse_document(content, self.path))
        except CatalogError as error:
            return _Read(signature=signature, digest=digest, error=error)
        return _Read(signature=signature, digest=digest, index=index)

    def _indexed(self, document: Document) -> _Index:
        _refuse_shared(document, self.path, self._extra_tokens)
        grants = {
            digest_of(key.text): Grant(
                environment=key.environment,
                is_server=key.text.startswith(SERVER_KEY_PREFIX),
                expires_at=key.expires_at,
            )
            for key in document.keys
            if key.active
        }
        tokens = {digest_of(text): token for text, token in {**document.tokens, **self._extra_tokens}.items()}
        return _Index(environments=dict(document.environments), grants=grants, tokens=tokens)


def _refuse_shared(document: Document, path: Path, tokens: Collection[str]) -> None:
    # A client key ships in browsers: as a token it would let everybody read.
    if any(key.text in tokens for key in document.keys):
        fault = ": environments: a key is the same text as a token; a token must be no environment's key."
        raise CatalogError(path, (fault,))


def _unreadable(path: Path, error: OSError) -> CatalogError:
    return CatalogError(path, (f": cannot be read: {error.strerror or 'unknown fault'}.",))
