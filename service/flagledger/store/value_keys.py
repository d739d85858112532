"""
Keys by which long texts are told apart: what groups of evaluations are called by, and arms.

A text of more than 4,096 bytes is known by a JSON string: `#` and the MD5 of the MD5s, in hexadecimal digits one behind the
other, of its pieces of 4,096 characters. The embedded store keeps long texts in such pieces, and has their key from them;
others compute it once, when a row arrives.
"""

from __future__ import annotations

import hashlib
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

LONG_BYTES: Final = 4_096
"""Bytes of a text beyond which its key stands for it."""

_PIECE: Final = 4_096
_LONGEST: Final = pa.scalar(LONG_BYTES, pa.int32())
_NO: Final = pa.scalar(False, pa.bool_())  # noqa: FBT003  # a kernel's operand


def long_keys(texts: pa.Array) -> pa.Array:
    """Return the key of each of *texts* that is long, NULL for the others."""
    long = pc.fill_null(pc.greater(pc.binary_length(texts), _LONGEST), _NO)
    keys = pa.nulls(len(texts), pa.string())
    if not pc.any(long).as_py():
        return keys
    return pc.replace_with_mask(keys, long, pa.array(map(long_key, texts.filter(long).to_pylist()), pa.string()))


def long_key(text: str) -> str:
    """Return the key of the long *text*."""
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return f'"#{_md5("".join(map(_md5, pieces)))}"'


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
