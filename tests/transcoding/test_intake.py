from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from itertools import pairwise

import pytest
from flagledger.transcoding import body as bodies
from flagledger.transcoding.intake import Inflater
from hypothesis import given
from hypothesis import strategies as st


def inflated(pieces: Iterable[bytes]) -> list[bytes]:
    """Return the parts that come out for pieces."""
    inflater = Inflater()
    parts: list[bytes] = []
    for piece in pieces:
        inflater.feed(piece)
        while part := inflater.take():
            parts.append(part)
    inflater.finish()
    return parts


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return *data* in pieces."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.lists(st.integers(0, 10_000), max_size=10))
def test_any_pieces(contents: list[bytes], cuts: list[int]) -> None:
    """Members one after the other come out whole, wherever they are cut."""
    data = b"".join(gzip.compress(content) for content in contents)

    assert b"".join(contents) == b"".join(inflated(split(data, cuts)))


@given(st.binary(min_size=1, max_size=300), st.integers(1, 10_000), st.lists(st.integers(0, 10_000), max_size=5))
def test_cut_short(content: bytes, short: int, cuts: list[int]) -> None:
    """A body that ends early is none, wherever it is cut."""
    data = gzip.compress(content)

    with pytest.raises(bodies.BodyMalformedError):
        inflated(split(data[: len(data) - 1 - short % len(data)], cuts))


@given(st.binary(min_size=1, max_size=300))
def test_what_is_no_gzip(data: bytes) -> None:
    """What is not gzip raises nothing else, at the beginning and behind a member."""
    for before in (b"", gzip.compress(b"x")):
        with pytest.raises(bodies.BodyMalformedError):
            inflated([before + b"\x00" + data])


def test_steps() -> None:
    """However much is in a few bytes comes out in small parts, none of them empty, and whole."""
    content = b"x" * 10_000_000
    parts = inflated([gzip.compress(content)])

    assert content == b"".join(parts)
    assert max(map(len, parts)) <= 256 * 1024


def test_full_step_at_the_end() -> None:
    """A member whose content is a step to the byte ends there."""
    content = b"x" * (2 * 256 * 1024)

    assert content == b"".join(inflated([gzip.compress(content)]))


def test_flushed() -> None:
    """What was flushed comes out before more is there."""
    packer = zlib.compressobj(wbits=31)
    inflater = Inflater()
    inflater.feed(packer.compress(b"first") + packer.flush(zlib.Z_SYNC_FLUSH))

    assert (b"first", b"") == (inflater.take(), inflater.take())


def test_nothing_is_held_back() -> None:
    """Whatever can be known of a piece comes out before the next, also where it fills a step."""
    data = gzip.compress(b"x" * 600_000)
    for cut in range(1, len(data)):
        inflater = Inflater()
        inflater.feed(data[:cut])
        size = 0
        while part := inflater.take():
            size += len(part)

        assert len(zlib.decompressobj(wbits=31).decompress(data[:cut])) == size


def test_empty_members() -> None:
    """Empty members in a row are an attack from 64 on; in between others they are not."""
    empty = gzip.compress(b"")
    assert [] == inflated([empty * 64])
    assert b"x" * 3 == b"".join(inflated([(empty * 60 + gzip.compress(b"x")) * 3]))

    with pytest.raises(bodies.BodyMalformedError):
        inflated([empty * 66])
