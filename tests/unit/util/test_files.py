"""Locks, and files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pingdata_async.exceptions import RunError
from pingdata_async.util import files as filesystem
from pingdata_async.util.files import (
    RunLock,
    free_bytes,
    is_locked,
    sync_file,
    sync_folder,
    write_whole,
)
from tests.support.probes import disk_steps

HOLD_THE_LOCK = """
import sys
from pathlib import Path
from pingdata_async.util.files import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_a_run(tmp_path: Path) -> None:
    """The message has the other's pid; after kill -9 the run is free again."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=rf"pid {other.pid} on .*`status` and `export` work"):
            RunLock(tmp_path).__enter__()
        other.send_signal(signal.SIGKILL)
    with RunLock(tmp_path):
        pass


def test_one_process_cannot_take_a_lock_twice(tmp_path: Path) -> None:
    """Two runs in one process are kept apart too; afterwards it is free."""
    with RunLock(tmp_path), pytest.raises(RunError, match=f"pid {os.getpid()}"):
        RunLock(tmp_path).__enter__()
    with RunLock(tmp_path) as lock:
        assert lock.path.read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    assert lock.path.read_text() == ""


def test_a_lock_is_of_the_folder_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose folder was moved away just before it was got keeps nobody off the new one."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    really_lock = RunLock._lock
    moves = 0

    def lock(self: RunLock, file: int) -> None:
        nonlocal moves
        if moves < 2:
            moves += 1
            run_dir.rename(tmp_path / f"aside{moves}")
            run_dir.mkdir()
        really_lock(self, file)

    with monkeypatch.context() as patch:
        patch.setattr(RunLock, "_lock", lock)
        taken = RunLock(run_dir)
        taken.__enter__()
    with pytest.raises(RunError, match="in use"), RunLock(run_dir):
        pass
    taken.__exit__(None, None, None)
    with RunLock(tmp_path / "aside1"), RunLock(tmp_path / "aside2"):
        pass


def test_a_lock_is_private(tmp_path: Path) -> None:
    """Nobody else may read it, whatever the umask."""
    before = os.umask(0)
    try:
        with RunLock(tmp_path) as lock:
            assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The message says what to do."""

    def refuse(_file: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filesystem._fcntl, "flock", refuse)
    with pytest.raises(RunError, match="use --run-dir on a local disk"):
        RunLock(tmp_path).__enter__()


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no flock at all, a run is refused when it is made."""
    monkeypatch.setattr(filesystem, "_fcntl", None)
    with pytest.raises(RunError, match="need Linux or macOS"):
        RunLock(tmp_path).__enter__()


def test_a_missing_folder_has_no_lock(tmp_path: Path) -> None:
    """It is an error of ours, in one line."""
    with pytest.raises(RunError, match="cannot be opened"):
        RunLock(tmp_path / "nowhere").__enter__()


def test_a_file_is_written_whole_and_private(tmp_path: Path) -> None:
    """All blocks are in it, nobody else may read it, and it replaces what was there."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_whole(path, b"a", b"", b"bc")
    assert path.read_bytes() == b"abc"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(tmp_path.glob("file*")) == [path]


def test_a_part_of_an_earlier_crash_is_in_nobodys_way(tmp_path: Path) -> None:
    """What a killed process left is replaced, and made private."""
    part = tmp_path / "file.part"
    part.write_bytes(b"much longer than what comes now")
    part.chmod(0o644)
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an error the old file stays as it was, and no part is left."""

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert sorted(tmp_path.glob("file*")) == [path]


def test_content_is_on_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the file is synced, then it is renamed, then the folder is synced."""
    steps = disk_steps(monkeypatch)
    write_whole(tmp_path / "file", b"content")
    assert steps == ["content", "name", "folder"]


def test_macos_is_asked_for_a_full_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There fsync() alone stops at the drive's own cache."""
    asked: list[int] = []

    class MacOS:
        F_FULLFSYNC = 51

        @staticmethod
        def fcntl(_file: int, operation: int) -> None:
            asked.append(operation)

    monkeypatch.setattr(filesystem, "_fcntl", MacOS)
    with (tmp_path / "file").open("wb") as file:
        sync_file(file.fileno())
    assert asked == [51]


def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems know no fsync of a folder: nothing to be done; other errors count."""
    code = errno.EINVAL

    def refuse(_file: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)
    code = errno.EIO
    with pytest.raises(OSError, match=r"[Ii]nput/output"):
        sync_folder(tmp_path)


def test_free_space(tmp_path: Path) -> None:
    """It is what the user may still write."""
    assert free_bytes(tmp_path) > 0
    with pytest.raises(OSError, match="nowhere"):
        free_bytes(tmp_path / "nowhere")


def test_who_asks_keeps_nobody_out(tmp_path: Path) -> None:
    """A run begins although `status` looks at its lock again and again."""
    with RunLock(tmp_path):
        pass
    ends = threading.Event()

    def keep_asking() -> None:
        while not ends.is_set():
            is_locked(tmp_path)

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        for _ in range(50):
            with RunLock(tmp_path):
                assert is_locked(tmp_path)
    finally:
        ends.set()
        thread.join()


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_pieces_are_written_whole_however_little_goes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """A signal, or the last of a disk, may cut any write short."""
    writev = os.writev

    def some(file: int, pieces: Sequence[bytes | memoryview]) -> int:
        return writev(file, [b"".join(pieces)[:at_once]])

    monkeypatch.setattr(os, "writev", some)
    pieces: list[bytes | memoryview] = [b"abc", memoryview(b"defgh")[1:], b"", b"x" * 3000] * 700
    with (tmp_path / "file").open("wb", 0) as file:
        filesystem.write_pieces(file.fileno(), pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
