"""The spool: answers on disk, whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import zlib
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.runs.directory import spool as spool_module
from pingdata_async.runs.directory.spool import CHUNKS_A_FOLDER, Spool
from pingdata_async.util import files as filesystem
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.redaction import Secret


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def path_in(spool: Spool, index: int, suffix: str = ".json.zst") -> Path:
    return spool._folder / f"{index // CHUNKS_A_FOLDER:06d}" / f"{index:09d}{suffix}"


async def read(spool: Spool, index: int) -> bytes | None:
    return await anyio.to_thread.run_sync(spool.read, index)


async def test_a_spool_gives_back_what_it_kept(tmp_path: Path) -> None:
    """Bodies come back as they were, also to another process; what was not kept is None."""
    spool = Spool(tmp_path / "spool")
    await spool.keep(0, EncodedBody(b"{}"))
    await spool.keep(CHUNKS_A_FOLDER, EncodedBody(b'{"1":{}}' * 10_000))
    await spool.keep(2, EncodedBody(b"2"))
    again = Spool(tmp_path / "spool")
    assert await read(again, 0) == b"{}"
    assert await read(again, CHUNKS_A_FOLDER) == b'{"1":{}}' * 10_000
    assert await read(again, 2) == b"2"
    assert await read(again, 1) is None
    assert spool.chunks == 3
    assert sum(path.stat().st_size for path in files(tmp_path / "spool")) < 1_000
    assert [str(path.relative_to(tmp_path / "spool")) for path in files(tmp_path / "spool")] == [
        "000000/000000000.json.zst",
        "000000/000000002.json.zst",
        "000001/000001000.json.zst",
    ]


async def test_what_came_compressed_is_kept_as_it_came(tmp_path: Path) -> None:
    """Bit for bit, and readable by gzip; of two answers to a chunk, the last one."""
    spool = Spool(tmp_path / "spool")
    packed = gzip.compress(b'{"1":{}}', mtime=0) + gzip.compress(b" ", mtime=0)
    await spool.keep(1, EncodedBody(packed, "GZIP"))
    assert path_in(spool, 1, ".json.gz").read_bytes() == packed
    assert await read(spool, 1) == b'{"1":{}} '
    await spool.keep(1, EncodedBody(zlib.compress(b"[]"), "deflate"))
    assert files(tmp_path) == [path_in(spool, 1)]
    assert await read(spool, 1) == b"[]"
    await spool.keep(1, EncodedBody(packed, "gzip"))
    assert files(tmp_path) == [path_in(spool, 1, ".json.gz")]


async def test_a_spool_is_private(tmp_path: Path) -> None:
    """Addresses and answers are readable by their owner alone."""
    await Spool(tmp_path / "spool").keep(0, EncodedBody(b"{}"))
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]
    }
    assert modes == {"spool": 0o700, "000000": 0o700, "000000000.json.zst": 0o600}


async def test_a_spool_never_holds_half_an_answer(tmp_path: Path) -> None:
    """Where a body cannot be written there is nothing under its name, and no part is left."""
    spool = Spool(tmp_path / "spool")
    await spool.keep(0, EncodedBody(b"{}"))
    folder = path_in(spool, 1).parent
    path_in(spool, 1).mkdir()  # in the way of the rename
    (path_in(spool, 1) / "x").touch()
    with pytest.raises(OSError, match="directory"):
        await spool.keep(1, EncodedBody(b"{}"))
    assert sorted(path.name for path in folder.iterdir()) == [
        "000000000.json.zst",
        "000000001.json.zst",
    ]
    assert spool.chunks == 1


async def test_a_cancelled_spool_finishes_what_it_writes(tmp_path: Path) -> None:
    """An answer that is being written was paid for: it is written whole, and counted."""
    spool = Spool(tmp_path / "spool")
    for index in range(50):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await spool.keep(index, EncodedBody(b"x" * 100_000))
    kept = files(tmp_path / "spool")
    assert len(kept) == spool.chunks == 50
    assert {path.suffix for path in kept} == {".zst"}


async def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    """A stale part, longer than the answer, does no harm and does not stay."""
    spool = Spool(tmp_path / "spool")
    path = path_in(spool, 0)
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(b"x" * 1_000_000)
    assert await read(spool, 0) is None
    await spool.keep(0, EncodedBody(b"{}"))
    assert files(tmp_path / "spool") == [path]
    assert await read(spool, 0) == b"{}"


async def test_an_answer_and_every_name_on_its_way_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, its folder, and for a new folder those above; the file before it takes its name."""
    spool = Spool(tmp_path / "spool")
    path = path_in(spool, 0)
    synced: list[tuple[int, bool]] = []

    def inode(path: Path) -> int:
        return path.stat().st_ino

    def note(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, path.exists()))

    monkeypatch.setattr(filesystem, "sync_file", note)
    monkeypatch.setattr(os, "fsync", note)
    await spool.keep(0, EncodedBody(b"{}"))
    above = [(inode(tmp_path / "spool"), False), (inode(tmp_path), False)]
    assert synced == [*above, (inode(path), False), (inode(path.parent), True)]
    synced.clear()
    await spool.keep(0, EncodedBody(b"[]"))
    assert synced == [(inode(path), True), (inode(path.parent), True)]


async def test_damage_to_what_is_kept_as_it_came_is_told(tmp_path: Path) -> None:
    """A flipped byte is told, or says nothing about the content; a cut file always is."""
    spool = Spool(tmp_path / "spool")
    content = b'{"7":{"PG":{"is_success":true}}}'
    await spool.keep(7, EncodedBody(gzip.compress(content), "gzip"))
    path = path_in(spool, 7, ".json.gz")
    whole = path.read_bytes()

    def check_all() -> None:
        for place in range(len(whole)):
            path.write_bytes(whole[:place])
            with pytest.raises(RunError, match=r"000000007.*chunk 7, is damaged .*Restore it"):
                spool.read(7)
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
            with contextlib.suppress(RunError):
                assert spool.read(7) == content

    await anyio.to_thread.run_sync(check_all)


async def test_any_damage_is_told(tmp_path: Path) -> None:
    """Each byte flipped, and each length cut to: the file, the chunk and what to do are named."""
    spool = Spool(tmp_path / "spool")
    await spool.keep(7, EncodedBody(b'{"7":{"PG":{"is_success":true}}}'))
    path = path_in(spool, 7)
    whole = path.read_bytes()

    def check(content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"000000007.*chunk 7, is damaged .*Restore it"):
            spool.read(7)

    def check_all() -> None:
        for place in range(len(whole)):
            check(whole[:place])
            check(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        check(whole + b"\0")

    await anyio.to_thread.run_sync(check_all)


async def test_what_can_never_be_read_is_kept_without_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that quotes the request, packed or not; anything else bit for bit."""
    token = Secret("s3cr3t-t0k3n")
    spool = Spool(tmp_path / "spool")
    monkeypatch.setattr(spool_module, "PIECE_BYTES", 8 * 1024)
    far = b"\xff" * (8 * 1024 - 5)  # so that it lies across two pieces
    page = far + b"Authorization: Token " + token.reveal().encode() + b"\x00 <"
    shown = far + b"Authorization: Token ***\x00 <"
    harmless = gzip.compress(b"no JSON", mtime=0)
    bodies = [
        EncodedBody(page),
        EncodedBody(gzip.compress(page), "gzip"),
        EncodedBody(page, "br"),
        EncodedBody(harmless, "gzip"),
        EncodedBody(b"\xef\xbb\xbf\xffno JSON"),
        EncodedBody(b"cut off", "gzip"),
    ]
    first = await spool.keep_unreadable(0, bodies)
    kept = [first.with_name(f"{first.name[:-1]}{n}").read_bytes() for n in range(len(bodies))]
    assert kept == [shown, shown, shown, harmless, b"\xef\xbb\xbf\xffno JSON", b"cut off"]
