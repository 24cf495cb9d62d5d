"""Outputs as they come over the wire."""

from __future__ import annotations

import gzip
import zlib

import pytest

from pingdata_async.exceptions import DecodeError
from pingdata_async.util.encoding import INFLATED_AT_ONCE_BYTES, EncodedBody

CONTENT = b'{"0":{"PG":{"is_success":true,"x":"%b"}}}' % (b"0123456789" * 20_000)


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (CONTENT, ""),
        (CONTENT, "Identity"),
        (gzip.compress(CONTENT), "gzip"),
        (gzip.compress(CONTENT[:99]) + gzip.compress(CONTENT[99:]), " X-GZIP"),
        (gzip.compress(CONTENT) + bytes(7), "gzip"),
        (zlib.compress(CONTENT), "deflate"),
    ],
)
def test_what_is_in_a_body(raw: bytes, encoding: str) -> None:
    """Whatever it says of its size: in one member or more, padded or not."""
    assert EncodedBody(raw, encoding).content() == CONTENT


@pytest.mark.parametrize("size", [0, 1, 1000, len(CONTENT) - 1, len(CONTENT) + 1, 2**32 - 1])
def test_a_size_that_is_not_true_is_damage(size: int) -> None:
    """Gzip says at its end how much there was; it is used as a hint, and believed by nobody."""
    packed = gzip.compress(CONTENT)[:-4] + size.to_bytes(4, "little")
    with pytest.raises(DecodeError, match=r"damaged|cut off"):
        EncodedBody(packed, "gzip").content()


def test_a_body_above_the_limit_is_refused() -> None:
    """By what is in it, and not only by what came."""
    packed = gzip.compress(CONTENT)
    assert EncodedBody(packed, "gzip", "GET x", len(CONTENT)).content() == CONTENT
    with pytest.raises(DecodeError, match="GET x: the answer is larger than"):
        EncodedBody(packed, "gzip", "GET x", len(CONTENT) - 1).content()


def test_a_bomb_is_stopped_early() -> None:
    """A hundred megabytes of nothing, announced as they are or as next to nothing."""
    bomb = gzip.compress(bytes(100 * 1024 * 1024))
    for size in (100 * 1024 * 1024, len(bomb), INFLATED_AT_ONCE_BYTES):
        with pytest.raises(DecodeError, match="compression bomb"):
            EncodedBody(bomb[:-4] + size.to_bytes(4, "little"), "gzip").content()


def test_an_empty_or_broken_body_says_so() -> None:
    """Nothing at all is whole; half of something is not."""
    assert EncodedBody(b"", "gzip").content() == b""
    with pytest.raises(DecodeError, match="cut off"):
        EncodedBody(gzip.compress(CONTENT)[:-9], "gzip").content()
    with pytest.raises(DecodeError, match="unknown encoding"):
        EncodedBody(b"x", "br").content()
