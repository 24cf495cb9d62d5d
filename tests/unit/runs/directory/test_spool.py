"""The spool: outputs in segments, on the disk before the journal speaks of them."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import sqlite3
import stat
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.runs.directory import spool as spool_module
from pingdata_async.runs.directory.spool import Spool, packed_output
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.records import ChunkState, PackedOutput, SpoolPlace
from pingdata_async.util import files as filesystem
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.redaction import Secret
from tests.support.answers import keep_output
from tests.support.journals import counts, make_journal, planned, submit

GZIP = gzip.compress(b'{"1":{}}', mtime=0)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_spool_gives_back_what_it_kept(tmp_path: Path) -> None:
    """Outputs come back as they were, also to another process that reads while it is written."""
    with Spool(tmp_path / "spool") as spool:
        bodies = [b"{}", b'{"1":{}}' * 10_000, b"2"]
        places = [keep_output(spool, EncodedBody(body)) for body in bodies]
        for index, body in enumerate(bodies):
            assert Spool(tmp_path / "spool").read(index, places[index]) == body
    assert files(tmp_path) == ["spool/000000.json.zst"]
    assert (tmp_path / "spool" / "000000.json.zst").stat().st_size < 1_000


def test_what_came_compressed_is_kept_as_it_came(tmp_path: Path) -> None:
    """Bit for bit, one behind the other; whatever else came is packed, and has segments apart."""
    members = GZIP + gzip.compress(b" ", mtime=0)
    with Spool(tmp_path) as spool:
        first = keep_output(spool, EncodedBody(members, "GZIP"))
        other = keep_output(spool, EncodedBody(zlib.compress(b"[]"), "deflate"))
        second = keep_output(spool, EncodedBody(GZIP, "gzip"))
        assert spool.read(0, first) == b'{"1":{}} '
        assert spool.read(1, other) == b"[]"
        assert spool.read(2, second) == b'{"1":{}}'
    assert (tmp_path / "000000.json.gz").read_bytes() == members + GZIP
    assert files(tmp_path) == ["000000.json.gz", "000001.json.zst"]


def test_zcat_reads_a_segment(tmp_path: Path) -> None:
    """All answers in it; and by its place, a single one."""
    with Spool(tmp_path) as spool:
        for row in range(3):
            place = keep_output(spool, EncodedBody(gzip.compress(b'{"%d":{}}' % row), "gzip"))
    path = tmp_path / place.segment

    def said(command: str) -> bytes:
        return subprocess.check_output(["sh", "-c", command, "sh", path])

    assert said('zcat "$1"') == b'{"0":{}}{"1":{}}{"2":{}}'
    one = f'tail -c +{place.begin + 1} "$1" | head -c {place.size} | zcat'
    assert said(one) == b'{"2":{}}'


def test_a_spool_is_private(tmp_path: Path) -> None:
    """Addresses and answers are readable by their owner alone."""
    with Spool(tmp_path / "spool") as spool:
        keep_output(spool, EncodedBody(b"{}"))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"spool": 0o700, "000000.json.zst": 0o600}


def test_segments_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has reached the bound is followed by another one; all are synced before a commit."""
    monkeypatch.setattr(spool_module, "MAX_SEGMENT_BYTES", 2 * len(GZIP))
    synced: list[int] = []
    monkeypatch.setattr(
        spool_module, "sync_content", lambda file: synced.append(os.fstat(file).st_size)
    )
    with Spool(tmp_path) as spool:
        places = [spool.append(PackedOutput(".json.gz", GZIP)) for _ in range(5)]
        assert synced == []
        spool.sync()
        assert len(spool._segments) == 1
        for index, place in enumerate(places):
            assert spool.read(index, place) == b'{"1":{}}'
    assert [place.segment[:6] for place in places] == ["000000"] * 2 + ["000001"] * 2 + ["000002"]
    assert synced == [2 * len(GZIP), 2 * len(GZIP), len(GZIP)]


def test_nobody_appends_to_what_another_process_left(tmp_path: Path) -> None:
    """A tail that was cut off is never followed by an answer."""
    torn = tmp_path / "000007.json.gz"
    torn.write_bytes(GZIP[:10])
    with Spool(tmp_path) as spool:
        place = keep_output(spool, EncodedBody(GZIP, "gzip"))
    assert place == SpoolPlace("000008.json.gz", 0, len(GZIP))
    assert torn.read_bytes() == GZIP[:10]


def test_a_link_in_the_place_of_a_segment_is_not_followed(tmp_path: Path) -> None:
    """Neither written nor read."""
    victim = tmp_path / "victim"
    victim.write_bytes(GZIP)
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    (folder / "000000.json.gz").symlink_to(victim)
    with Spool(folder) as spool:
        with pytest.raises(RunError, match="cannot be read: it is a link"):
            spool.read(0, SpoolPlace("000000.json.gz", 0, len(GZIP)))
        spool._next_number = 0
        with pytest.raises(OSError, match="File exists"):
            spool.append(PackedOutput(".json.gz", GZIP))
    assert victim.read_bytes() == GZIP


@pytest.mark.parametrize(
    "place",
    [
        SpoolPlace("../journal.sqlite3", 0, 10),
        SpoolPlace("/etc/passwd", 0, 10),
        SpoolPlace("000000.json.gz", -1, 10),
        SpoolPlace("000000.json.gz", 0, 0),
        SpoolPlace("000000.json.gz", 0, -1),
        SpoolPlace("000000.json.gz", 0, 2**62),
        SpoolPlace("000000.json.gz", len(GZIP) - 4, 5),
        SpoolPlace("000000.json.gz", 1, len(GZIP) - 1),
        SpoolPlace("000000.json.gz", 0, len(GZIP) - 1),
    ],
)
def test_a_hostile_place_is_damage(tmp_path: Path, place: SpoolPlace) -> None:
    """A journal from anywhere names no file outside of the spool, and nothing that is not there."""
    with Spool(tmp_path) as spool:
        keep_output(spool, EncodedBody(GZIP, "gzip"))
        with pytest.raises(RunError, match=r"chunk 3 from byte .*, is damaged there .*Restore it"):
            spool.read(3, place)


@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_any_damage_is_told(tmp_path: Path, encoding: str) -> None:
    """A flipped byte is told, or says nothing about the content; a cut file always is."""
    content = b'{"7":{"PG":{"is_success":true}}}'
    body = EncodedBody(gzip.compress(content) if encoding else content, encoding)
    with Spool(tmp_path) as spool:
        place = keep_output(spool, body)
    path = tmp_path / place.segment
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        with pytest.raises(RunError, match=r"chunk 7 from byte 0, is damaged there .*Restore it"):
            spool.read(7, place)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with contextlib.suppress(RunError):
            assert spool.read(7, place) == content


# -- with the journal ------------------------------------------------------------------------


async def spooled(journal: Journal, index: int, body: EncodedBody) -> None:
    await submit(journal, index)
    await journal.completed(planned(index), ())
    await journal.spooled(index, counts(10), output=packed_output(body))


async def place_of(journal: Journal, index: int) -> SpoolPlace:
    record = await journal.record(index)
    assert record is not None
    assert record.place is not None
    return record.place


async def test_answers_are_on_the_disk_before_the_journal_speaks_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sync for all outputs of a commit; the name of a new segment is there before."""
    seen: list[tuple[str, int]] = []
    synced = 0
    path = await make_journal(tmp_path)
    spool = Spool(tmp_path / "spool")

    def note(what: str, act: Callable[..., object]) -> Callable[..., object]:
        def noted(*args: object) -> object:
            nonlocal synced
            with contextlib.closing(sqlite3.connect(path)) as other:
                states = "SELECT count(*) FROM chunks WHERE state = 'spooled'"
                assert other.execute(states).fetchone() == (synced // len(GZIP),)
            grown = sum(segment.end - segment.synced for segment in spool._segments)
            seen.append((what, grown))
            synced += grown
            return act(*args)

        return noted

    monkeypatch.setattr(spool_module, "sync_content", note("sync", os.fsync))
    monkeypatch.setattr(spool_module, "sync_folder", note("name", lambda _path: None))
    async with Journal(path, spool) as journal:
        for index in range(4):
            await submit(journal, index)
            await journal.completed(planned(index), ())
        await journal.set_meta("before", 1)
        seen.clear()
        async with anyio.create_task_group() as tasks:
            for index in range(4):
                output = PackedOutput(".json.gz", GZIP)
                tasks.start_soon(journal.spooled, index, counts(10), (), None, output)
    kinds = [kind for kind, _ in seen]
    assert kinds[:2] == ["name", "name"]  # of the folder, and of the segment
    assert kinds.count("sync") <= 2
    assert sum(grown for kind, grown in seen if kind == "sync") == 4 * len(GZIP)


async def test_a_full_disk_fails_one_answer_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written of it is cut off, and the journal knows nothing of it."""
    spool, is_full = Spool(tmp_path / "spool"), True
    write_at = filesystem.write_at

    def full(file: int, content: bytes, offset: int) -> None:
        if is_full:
            write_at(file, content[:9], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(file, content, offset)

    monkeypatch.setattr(spool_module, "write_at", full)
    async with Journal(await make_journal(tmp_path), spool) as journal:
        with pytest.raises(RunError, match="answer to chunk 0 cannot be kept: No space left"):
            await spooled(journal, 0, EncodedBody(GZIP, "gzip"))
        record = await journal.record(0)
        assert record is not None
        assert (record.state, record.place) == (ChunkState.COMPLETE, None)
        assert (tmp_path / "spool" / "000000.json.gz").read_bytes() == b""
        is_full = False
        await spooled(journal, 1, EncodedBody(GZIP, "gzip"))
        assert await place_of(journal, 1) == SpoolPlace("000000.json.gz", 0, len(GZIP))
        assert await anyio.to_thread.run_sync(spool.read, 1, await place_of(journal, 1))


async def test_what_cannot_be_synced_is_not_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second sync could say that all is well: what comes later goes into another segment."""
    spool, is_failing = Spool(tmp_path / "spool"), True

    def sync(file: int) -> None:
        if is_failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(file)

    monkeypatch.setattr(spool_module, "sync_content", sync)
    async with Journal(await make_journal(tmp_path), spool) as journal:
        with pytest.raises(RunError, match=r"000000\.json\.gz cannot be written: Input/output"):
            await spooled(journal, 0, EncodedBody(GZIP, "gzip"))
        record = await journal.record(0)
        assert record is not None
        assert (record.state, record.place) == (ChunkState.COMPLETE, None)
        is_failing = False
        await spooled(journal, 1, EncodedBody(GZIP, "gzip"))
        assert (await place_of(journal, 1)).segment == "000001.json.gz"
    assert (tmp_path / "spool" / "000000.json.gz").stat().st_size == 0


class _FailingCommit:
    """A connection on which a commit fails, and turns out to have been made."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: Any) -> object:
        done = self._connection.execute(statement, *values)
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return done

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


async def test_an_answer_stays_where_its_commit_failed(tmp_path: Path) -> None:
    """SQLite may have written all of it but for the sync: then it is there after a crash."""
    spool = Spool(tmp_path / "spool")
    async with Journal(await make_journal(tmp_path), spool) as journal:
        await submit(journal, 0)
        await journal.completed(planned(0), ())
        await journal.set_meta("before", 1)
        writer = journal._writer
        assert writer is not None
        connection = writer._connection
        writer._connection = _FailingCommit(connection)  # type: ignore[assignment]  # as far as used
        with pytest.raises(RunError, match="disk I/O error"):
            await journal.spooled(0, counts(10), output=PackedOutput(".json.gz", GZIP))
        writer._connection = connection
        assert spool.read(0, await place_of(journal, 0)) == b'{"1":{}}'


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
