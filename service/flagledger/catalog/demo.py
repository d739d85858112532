"""What the first start makes in the data directory: a demo environment with keys of its own, a read token, a secret."""

from __future__ import annotations

import os
import secrets
import string
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flagledger.catalog.base import SERVER_KEY_PREFIX
from flagledger.catalog.document import CatalogError, Document
from flagledger.catalog.file import read_document

ENVIRONMENTS_FILE: Final = "environments.toml"
READ_TOKEN_FILE: Final = "read-token"  # noqa: S105 - the name of a file
IDENTITY_SECRET_FILE: Final = "identity-secret"  # noqa: S105 - the same

DEMO_ENVIRONMENT: Final = "demo"
DEMO_FEATURES: Final = ("new_dashboard", "checkout_v2", "dark_mode", "search_ranking")

# 22 letters and digits are 130 bits, and none of them needs quoting in a shell.
_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET_CHARACTERS: Final = 22

_TEMPLATE: Final = """\
# Environments: which keys may send evaluations, and of which features.
#
# A change of this file is seen within a second, without a restart. A file with a mistake in it changes nothing: the
# version before it stays in force, and the log says where the mistake is. `flagledger config check` says it too.

[[environments]]
name = "{environment}"

# The first key is public: browsers and apps carry it. The second is for servers, which keep it to themselves.
# Both only send. To read, one needs a token.
keys = ["{client_key}", "{server_key}"]

# To add a feature of your own, write its exact name here. Evaluations of other names are not recorded, and whoever sent
# them is told. To take every name:  features = "any"
features = [
{features}
]

# Another environment is another [[environments]] table, with a name and keys of its own.

# The token in the file read-token reads everything. Whoever else may read gets one of their own, here for one
# environment. Make it with  python3 -c 'import secrets; print(secrets.token_urlsafe(24))'
#
# [[tokens]]
# token = "at-least-twenty-random-characters"
# role = "read"
# environments = ["{environment}"]

# To erase a person (`flagledger delete-identity`) one needs a token of the role admin. It reads as well.
#
# [[tokens]]
# token = "at-least-twenty-other-random-characters"
# role = "admin"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoKeys:
    """
    What somebody needs to send a first evaluation.

    Attributes:
        file: The environments file.
        environment: Name of the environment: `demo`, or the first one where the file has no demo any more.
        client_key: A public key of it that counts now; None where it has none.
        server_key: A server key of it that counts now; None where it has none.
        feature: A feature to try: `new_dashboard`, or the first by name; None where it has none.
        created: Whether the file was made by this call.
    """

    file: Path
    environment: str
    client_key: str | None
    server_key: str | None
    feature: str | None
    created: bool


def ensure_demo(data: Path) -> DemoKeys:
    """
    Return keys to try from `environments.toml` in *data*. Where it is missing, it is made, with a demo environment.

    Raises:
        CatalogError: The file is there and broken, or cannot be read or made.
    """
    file = data / ENVIRONMENTS_FILE
    content = _TEMPLATE.format(
        environment=DEMO_ENVIRONMENT,
        client_key=_random(),
        server_key=SERVER_KEY_PREFIX + _random(),
        features="\n".join(f'  "{feature}",' for feature in DEMO_FEATURES),
    )
    created = _create(file, content)
    return _keys(file, read_document(file), created=created)


def ensure_read_token(data: Path) -> str:
    """
    Return the token in `read-token` in *data*. It is made, at random, where it is missing.

    Raises:
        CatalogError: The file is there and holds no token, or cannot be read or made.
    """
    return _ensure_secret(data / READ_TOKEN_FILE, "token")


def ensure_identity_secret(data: Path) -> str:
    """
    Return the secret in `identity-secret` in *data*, which pseudonyms are made with. It is made, at random, where it is missing.

    Raises:
        CatalogError: The file is there and holds no secret, or cannot be read or made.
    """
    return _ensure_secret(data / IDENTITY_SECRET_FILE, "secret")


def _ensure_secret(file: Path, noun: str) -> str:
    _create(file, _random() + "\n")
    return _read_secret(file, noun)


def read_token_file(file: Path) -> str:
    """
    Return the token that *file* holds.

    Raises:
        CatalogError: It cannot be read, or holds no token.
    """
    return _read_secret(file, "token")


def _read_secret(file: Path, noun: str) -> str:
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        raise CatalogError(file, (f": cannot be read: {error.strerror}.",)) from error
    if not token or any(not 0x21 <= byte <= 0x7E for byte in token):  # noqa: PLR2004 - visible ASCII
        raise CatalogError(file, (f": holds no {noun}; remove the file, and the next start makes another.",))
    return token.decode("ascii")


def _keys(file: Path, document: Document, *, created: bool) -> DemoKeys:
    environments = document.environments
    environment = environments.get(DEMO_ENVIRONMENT) or next(iter(environments.values()))
    usable = [key.text for key in document.keys if key.environment.name == environment.name and key.counts()]
    features = environment.features
    if features is None or DEMO_FEATURES[0] in features:
        feature: str | None = DEMO_FEATURES[0]
    else:
        feature = min(features, default=None)
    return DemoKeys(
        file=file,
        environment=environment.name,
        client_key=next((key for key in usable if not key.startswith(SERVER_KEY_PREFIX)), None),
        server_key=next((key for key in usable if key.startswith(SERVER_KEY_PREFIX)), None),
        feature=feature,
        created=created,
    )


def _create(file: Path, content: str) -> bool:
    """Make *file* whole or not at all, for its owner alone; return False where it is there already."""
    if file.exists():
        return False
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unmade(file, error) from error
    try:
        # A name of its own, readable by its owner alone from the start.
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as temporary:
                temporary.write(content)
                temporary.flush()
                os.fsync(temporary.fileno())
            # A link, other than a rename, replaces nothing: of two that start at once, one wins.
            os.link(name, file)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)  # noqa: PTH108 - the name is a string here
    except FileExistsError:
        return False
    except OSError as error:
        raise _unmade(file, error) from error
    return True


def _unmade(file: Path, error: OSError) -> CatalogError:
    return CatalogError(file, (f": cannot be made: {error.strerror}.",))


def _random() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARACTERS))
