"""Compressed bodies: whole, in any pieces, bounded, and never taken for whole when they are not."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from pingdata_async import DecodeError
from pingdata_async.util import encoding as inflating
from pingdata_async.util.encoding import BLOCK_BYTES, MAX_RATIO, Inflater
from tests.support.sweeps import sampled


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(b"") + gzip.compress(data[half:])


def padded(data: bytes) -> bytes:
    return gzip.compress(data) + bytes(37)


@pytest.fixture(params=["isal", "zlib"], scope="module", autouse=True)
def library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whoever does it, the promises are the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inflating, "fast_zlib", isal_zlib if request.param == "isal" else zlib)
        yield


WAYS = {
    "none": ("", bytes),
    "identity": ("Identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "gzip in members": ("gzip", members),
    "gzip, padded": ("gzip", padded),
    "deflate": (" deflate ", zlib.compress),
    "bare deflate": ("deflate", bare),
}


def inflated(encoding: str, pieces: list[bytes]) -> bytes:
    inflater = Inflater(encoding, "GET x")
    body = b"".join(itertools.chain.from_iterable(inflater.feed(piece) for piece in pieces))
    inflater.finish()
    assert inflater.bytes_in == sum(map(len, pieces))
    assert inflater.bytes_out == len(body)
    return body


@pytest.mark.parametrize(("encoding", "pack"), WAYS.values(), ids=WAYS)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_body_in_any_pieces(encoding: str, pack: object, data: bytes, cuts: list[int]) -> None:
    """However a body was compressed and cut on its way, it becomes what it was."""
    assert callable(pack)
    packed = pack(data)
    bounds = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    pieces = [packed[start:end] for start, end in itertools.pairwise(bounds)]
    assert inflated(encoding, [piece for piece in pieces if piece]) == data


@pytest.mark.parametrize(("encoding", "pack"), list(WAYS.values())[2:], ids=list(WAYS)[2:])
def test_blocks_are_small(encoding: str, pack: object) -> None:
    """A piece that becomes megabytes comes out in blocks of 256 KiB at most."""
    assert callable(pack)
    body = b"0123456789" * 400_000
    inflater = Inflater(encoding, "GET x")
    blocks = list(inflater.feed(pack(body)))
    inflater.finish()
    assert b"".join(blocks) == body
    assert max(map(len, blocks)) <= BLOCK_BYTES


@pytest.mark.parametrize(("encoding", "pack"), list(WAYS.values())[2:], ids=list(WAYS)[2:])
def test_every_cut_is_noticed(encoding: str, pack: object) -> None:
    """A stream without its end, wherever it stops, is an error."""
    assert callable(pack)
    data = b"an answer of some length, which repeats: of some length"
    packed = pack(data)
    for end in range(1, len(packed)):
        try:
            body = inflated(encoding, [packed[:end]])
        except DecodeError:
            continue
        # Only between two members, or in the padding, can nobody tell.
        assert data.startswith(body)
        assert pack in {members, padded}


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", b"{}"),
        ("gzip", b"\0\0\0"),
        ("gzip", gzip.compress(b"x", mtime=0) + b"{}"),
        ("gzip", gzip.compress(b"x", mtime=0) + b"\0\0{}"),
        ("gzip", gzip.compress(b"x" * 99, mtime=0)[:-6] + b"123456"),
        ("deflate", zlib.compress(b"x") + b"{}"),
        ("deflate", zlib.compress(b"x") + zlib.compress(b"y")),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", b"\x78\x00"),
        ("gzip", gzip.compress(b"", mtime=0) * 1001),
        ("gzip", gzip.compress(b"x", mtime=0) * 2000),
    ],
)
def test_damage(encoding: str, body: bytes) -> None:
    """What is no such stream, has a wrong checksum or something after its end is an error."""
    with pytest.raises(DecodeError, match="damaged"):
        inflated(encoding, [body])


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip\x1b[2J", "x" * 9999])
def test_unknown_encodings(encoding: str) -> None:
    """What was not asked for is refused, in a short and printable sentence."""
    with pytest.raises(DecodeError, match="unknown encoding") as caught:
        Inflater(encoding, "GET x")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 120


def test_many_members_of_some_size() -> None:
    """Block-wise gzip, a member for each 32 KiB, goes through however long it is."""
    member = bytes(range(256)) * 128
    assert len(inflated("gzip", [gzip.compress(member)] * 3000)) == 3000 * len(member)


class Counting:
    """A library of which every byte is counted that it copies."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.copied_bytes = 0

    def decompressobj(self, wbits: int) -> Any:
        counting, stream = self, self._library.decompressobj(wbits)

        class Counted:
            def decompress(self, data: memoryview, max_length: int) -> bytes:
                block: bytes = stream.decompress(data, max_length)
                counting.copied_bytes += len(stream.unused_data) + len(stream.unconsumed_tail)
                return block

            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

        return Counted()


@pytest.mark.parametrize("count", [2_000, 20_000])
def test_many_small_members_take_linear_time(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left after a member is copied a bit at a time, however much it is."""
    counting = Counting(inflating.__dict__["fast_zlib"])  # as `library` chose it
    monkeypatch.setattr(inflating, "fast_zlib", counting)
    raw = gzip.compress(bytes(1024), mtime=0) * count
    assert len(inflated("gzip", [raw])) == 1024 * count
    assert counting.copied_bytes < 4096 * count + len(raw)


def test_an_empty_body_is_whole() -> None:
    """No bytes at all are no broken stream: HTTP says whether that was all."""
    assert inflated("gzip", []) == b""


@pytest.mark.parametrize("pack", sampled([gzip.compress, bare, members], 1))
def test_bombs(pack: object) -> None:
    """Zeros without measure are stopped after 16 MiB, or after 500 times what came."""
    assert callable(pack)
    bomb = pack(bytes(1 << 27))
    inflater = Inflater("deflate" if pack is bare else "gzip", "GET x")
    blocks = (block for piece in _in_pieces(bomb) for block in inflater.feed(piece))
    seen: list[int] = []
    with pytest.raises(DecodeError, match="compression bomb"):
        seen.extend(map(len, blocks))
    assert sum(seen) <= max(1 << 24, MAX_RATIO * inflater.bytes_in)


def _in_pieces(body: bytes) -> Iterator[bytes]:
    return (body[start : start + 1000] for start in range(0, len(body), 1000))


def test_repetitive_answers_are_no_bomb() -> None:
    """40 MB of locations without a match, as alike as can be, go through."""
    row = b'"%d": {"PH": {"is_success": false, "error_message": "No match found", %s}}, '
    nothing = b", ".join(b'"attribute_%d": null' % number for number in range(60))
    body = b"".join(row % (index, nothing) for index in range(30_000))
    packed = gzip.compress(body)
    assert len(body) > 40_000_000
    assert len(body) > 60 * len(packed)
    assert inflated("gzip", [packed]) == body
