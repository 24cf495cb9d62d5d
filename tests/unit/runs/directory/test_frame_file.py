"""Plans, kept inputs and answers that no run wrote: bombs, and places that are nowhere."""

from __future__ import annotations

import gzip
import os
import struct
from array import array
from pathlib import Path

import msgspec
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.runs.directory.frame_file import FileKind, Footer, FrameReader, writing
from pingdata_async.runs.directory.plan import PLAN_KIND, Plan
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.journal.records import SpoolPlace
from pingdata_async.util import compression
from pingdata_async.util.compression import (
    MAX_PACKED_BYTES,
    DamagedFrameError,
    compress,
    decompress,
    unpacked_at_most,
)
from pingdata_async.util.encoding import EncodedBody
from tests.support.answers import keep_output
from tests.support.plans import summary_of

KIND = FileKind("the file", b"PINGXXX", b"1")
DECODER = msgspec.msgpack.Decoder(Footer)


def test_a_bomb_is_known_before_it_goes_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is unpacked that holds 500 times as much as its frame."""
    monkeypatch.setattr(compression, "USUAL_BYTES", 1 << 20)
    with pytest.raises(DamagedFrameError, match="its size is wrong"):
        decompress(compress(bytes(1 << 23)))
    content = os.urandom(1 << 21)
    assert decompress(compress(content)) == content


def test_answers_that_are_a_bomb_are_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In gzip, as answers are kept as they came; the usual ones have no bound in practice."""
    monkeypatch.setattr(compression, "USUAL_BYTES", 1 << 20)
    path = tmp_path / "000000.json.gz"

    def read(content: bytes) -> bytes:
        packed = gzip.compress(content)
        path.write_bytes(packed)
        return Spool(tmp_path).read(0, SpoolPlace(path.name, 0, len(packed)))

    with pytest.raises(RunError, match="answers to chunk 0 from byte 0, is damaged"):
        read(bytes(1 << 23))
    content = os.urandom(1 << 21)
    assert read(content) == content
    assert unpacked_at_most(1 << 21) == 500 << 21


def test_whatever_is_taken_from_the_api_can_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However well it is packed."""
    monkeypatch.setattr(compression, "USUAL_BYTES", 1 << 20)
    content = (os.urandom(1 << 10) + bytes(300 << 10)) * 60
    body = EncodedBody(gzip.compress(content), "gzip")
    assert 100 < len(content) / len(body.raw) < 500
    assert body.content() == content
    with Spool(tmp_path) as spool:
        assert spool.read(0, keep_output(spool, body)) == content


def test_answers_without_an_end_are_not_read_through(tmp_path: Path) -> None:
    """A file with a hole of terabytes takes no disk."""
    path = tmp_path / "000000.json.gz"
    with path.open("wb") as file:
        file.truncate(MAX_PACKED_BYTES + 1)
    with pytest.raises(RunError, match="its size is wrong"):
        Spool(tmp_path).read(0, SpoolPlace(path.name, 0, MAX_PACKED_BYTES + 1))


def tampered(path: Path, offsets: bytes, length: int | None = None) -> None:
    """A file of two frames whose table of contents says something else."""
    with writing(path, KIND) as frames:
        frames.add(b"one")
        frames.add(b"two")
        begin = frames.packed_offsets()[-8:]
        frames.end(Footer(offsets=offsets + begin if offsets else offsets))
    if length is not None:
        content = path.read_bytes()
        path.write_bytes(content[:-16] + struct.pack("<Q", length) + content[-8:])


@pytest.mark.parametrize(
    ("offsets", "length"),
    [
        pytest.param(b"", None, id="no frames"),
        pytest.param(b"1234567", None, id="half an offset"),
        pytest.param(b"", 1 << 63, id="a table of contents without an end"),
    ],
)
def test_a_table_of_contents_that_cannot_be_is_damage(
    tmp_path: Path, offsets: bytes, length: int | None
) -> None:
    """Told when the file is opened."""
    tampered(tmp_path / "file", offsets, length)
    with pytest.raises(RunError, match="is damaged"):
        FrameReader(tmp_path / "file", KIND, DECODER)


@pytest.mark.parametrize("place", [0, 1 << 62, (1 << 64) - 1])
def test_a_frame_that_is_nowhere_is_damage(tmp_path: Path, place: int) -> None:
    """Nothing is read, nor is memory taken for it."""
    tampered(tmp_path / "file", array("Q", [place, place]).tobytes())
    with (
        FrameReader(tmp_path / "file", KIND, DECODER) as reader,
        pytest.raises(DamagedFrameError, match="its place is wrong"),
    ):
        reader.read(0)


def test_a_plan_whose_rows_are_not_all_there_is_damage(tmp_path: Path) -> None:
    """Each has its id and its location."""
    path = tmp_path / "plan"
    with writing(path, PLAN_KIND) as frames:
        frames.add(msgspec.msgpack.encode([0, [1, 2], ["a", "b"], b"{}"]))
        frames.end(summary_of([], (), frames.packed_offsets()))
    with Plan(path) as opened, pytest.raises(RunError, match="rows are not all there"):
        opened.read(0)
