"""Compressed texts, the whole ones and the others."""

from __future__ import annotations

import gzip
import hashlib
import random
import tracemalloc
from pathlib import Path
from unittest import mock

import pytest
import zstandard

from pingdata_async.exceptions import InputError
from pingdata_async.tables.readers import jsonl as jsonl_reading
from pingdata_async.tables.readers.base import fingerprint_of
from tests.support.reading import read_all, written
from tests.support.sweeps import sampled

CSV = b"address\n" + b"".join(b"%d Main St\n" % n for n in range(30_000))
SKIPPED = b"\x50\x2a\x4d\x18\x04\0\0\0skip"


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


PACKED = {
    "one gzip member": gzip.compress(CSV),
    "several, of which one is empty": b"".join(
        map(gzip.compress, (CSV[:7], b"", CSV[7:100_000], CSV[100_000:]))
    ),
    "padded": gzip.compress(CSV) + bytes(200_000),
    "one zstd frame": zstd(CSV),
    "several, of which some hold nothing": b"".join(
        (SKIPPED, zstd(CSV[:9]), zstd(b""), SKIPPED, zstd(CSV[9:]))
    ),
}


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("name", sampled(["in", "in.csv", "in.csv.gz"], 1))
def test_it_is_known_by_its_bytes(tmp_path: Path, how: str, name: str) -> None:
    """Whatever its name; the fingerprint is that of the file as it is, to its last byte."""
    path = written(tmp_path, name, PACKED[how])
    found = read_all(path)
    assert len(found.locations) == 30_000
    assert found.locations[-1] == {"address": "29999 Main St"}
    assert found.reader.fingerprint() == fingerprint_of(path)
    assert found.reader.fingerprint().sha256 == hashlib.sha256(PACKED[how]).hexdigest()


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_jsonl(tmp_path: Path, pack: object) -> None:
    """The suffix before that of the compression tells the form."""
    assert callable(pack)
    path = written(tmp_path, "in.jsonl.zst", pack(b'"1 Main St"\n'))
    assert read_all(path).locations == ["1 Main St"]


@pytest.mark.parametrize(("pack", "what"), [(gzip.compress, "gzip"), (zstd, "zstd")])
def test_damage_is_one_line(tmp_path: Path, pack: object, what: str) -> None:
    """Cut anywhere, flipped anywhere, or with something behind it."""
    assert callable(pack)
    whole = pack(CSV)
    spoilt = [whole[:length] for length in (5, 12, len(whole) // 2, len(whole) - 1)]
    rng = random.Random(5)
    for _ in range(10):
        place = rng.randrange(len(whole) // 2, len(whole))
        spoilt.append(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
    spoilt.append(whole + b"something else")
    for content in spoilt:
        with pytest.raises(InputError, match=rf"in\.csv: its {what} is damaged: ") as caught:
            read_all(written(tmp_path, "in.csv", content))
        assert "\n" not in str(caught.value)


def test_other_things_inside(tmp_path: Path) -> None:
    """What has to be read from its end cannot be read on the way."""
    for content in (zstd(b"PAR1xxxx"), gzip.compress(b"PK\x03\x04"), zstd(zstd(CSV))):
        with pytest.raises(InputError, match="no text inside its"):
            read_all(written(tmp_path, "in.csv.gz", content))
    with pytest.raises(InputError, match="is empty"):
        read_all(written(tmp_path, "in.csv.gz", gzip.compress(b"")))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_bomb_does_not_fill_the_memory(tmp_path: Path, pack: object) -> None:
    """A line without end, from a few kilobytes, ends at the limit of a line."""
    assert callable(pack)
    path = written(tmp_path, "in.jsonl", pack(b'"' + b"x" * 100_000_000))
    tracemalloc.start()
    try:
        with (
            mock.patch.object(jsonl_reading, "MAX_LINE_BYTES", 1_000_000),
            pytest.raises(InputError, match="line 1: longer than"),
        ):
            read_all(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
