"""Files that survive a crash: fsync, atomic writes, unnamed temporary files, locks.

Made for Linux and macOS. Elsewhere the package can be imported and used in memory, and a run
of files is refused.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import re
import socket
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.util.text import quoted, shown_path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
LOCK_NAME = "lock"
# `is_locked()` holds a run's lock for a moment.
ASKED_ABOUT_AT_MOST = 10
ASKED_AGAIN_AFTER_S = 0.02
LINKS_AT_MOST = 40  # as Linux has it
PIECES_AT_ONCE = 1024  # what Linux and macOS take (IOV_MAX)

# Not a plain import: there is no such module on Windows.
_fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# Neither through a link, nor waiting for the other end of a pipe; there are none on Windows.
_AS_IT_IS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_HOLDER = re.compile(rb"(\d{1,10}) ([0-9A-Za-z._-]{1,64})\n")
_HOLDER_BYTES = 128


class Closing(ABC):
    """A context manager that is closed on leaving, with or without an error."""

    @abstractmethod
    def close(self) -> None:
        """Give up what is open; harmless when it is closed already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class AsyncClosing(ABC):
    """As `Closing`, for what takes the event loop to close."""

    @abstractmethod
    async def aclose(self) -> None:
        """Give up what is open; harmless when it is closed already."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class RunLock(Closing):
    """Keeps a second process off a run directory; a context manager.

    The lock is a file of its own, so that who only reads needs none. The system releases it when
    the process ends, however that ends; the file stays, as removing it would let two in.

    Args:
        run_dir: The run directory, which exists.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._file: int | None = None

    @property
    def path(self) -> Path:
        """The lock's file."""
        return self._run_dir / LOCK_NAME

    def __enter__(self) -> Self:
        """Take the lock; blocks for a fifth of a second where another process holds it.

        Raises:
            RunError: When another process has it, or there are no locks here.
        """
        if _fcntl is None:
            raise RunError("runs of files need Linux or macOS; enhance() and stream() work here")
        for _ in range(ASKED_ABOUT_AT_MOST):
            file = self._take()
            if file is not None:
                self._file = file
                return self
        raise RunError(f"{self._run_dir} is moved again and again by another process")

    def _take(self) -> int | None:
        """The lock's file, locked; None where it is no longer the one under its name."""
        try:
            file = open_regular(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RunError(f"{self.path} cannot be opened: {error.strerror or error}") from error
        try:
            self._lock(file)
            if not is_under(file, self.path):  # the folder was moved or removed meanwhile
                os.close(file)
                return None
            os.fchmod(file, PRIVATE_FILE)
            # For people, and for the message that the next one gets.
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
        except OSError as error:
            os.close(file)
            raise RunError(f"{self.path} cannot be written: {error.strerror or error}") from error
        except BaseException:
            os.close(file)
            raise
        return file

    def _lock(self, file: int) -> None:
        for attempt in range(ASKED_ABOUT_AT_MOST):
            try:
                _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            except OSError as error:
                self._refuse(file, error, is_last=attempt == ASKED_ABOUT_AT_MOST - 1)
                time.sleep(ASKED_AGAIN_AFTER_S)
            else:
                return

    def _refuse(self, file: int, error: OSError, *, is_last: bool) -> None:
        if error.errno in _TAKEN and is_last:
            raise RunError(
                f"{self._run_dir} is in use by {_holder(file)}; wait for it or stop it "
                "(`status` and `export` work meanwhile)"
            ) from error
        if error.errno in _NO_LOCKS:
            raise RunError(
                f"{self._run_dir}: its file system has no locks ({error.strerror}); "
                "use --run-dir on a local disk"
            ) from error
        if error.errno not in _TAKEN:
            raise error

    def close(self) -> None:
        """Release it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def is_under(file: int, path: Path) -> bool:
    """Whether an open file is the one under this name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))  # noqa: PTH116 - beside fstat
    except FileNotFoundError:
        return False


def _holder(file: int) -> str:
    try:
        found = _HOLDER.fullmatch(os.pread(file, _HOLDER_BYTES, 0))
    except OSError:
        found = None
    if found is None:
        return "another process"
    pid, host = (part.decode("ascii") for part in found.groups())
    # The pid of one container means nothing to another, nor to the machine around them.
    return f"another process (pid {pid} on {host})"


def is_locked(run_dir: Path) -> bool:
    """Whether a process works on a run directory; blocks for a moment."""
    return _is_held(run_dir / LOCK_NAME) is True


def is_left_over(path: Path) -> bool:
    """Whether a file is our own, and surely held by no process; blocks for a moment."""
    with contextlib.suppress(OSError):
        is_own = os.name != "posix" or path.lstat().st_uid == os.geteuid()
        return is_own and _is_held(path) is False
    return False


def hold(file: int, path: Path) -> bool:
    """Hold an open file for as long as it is open, if its file system has locks.

    The system releases it when the process ends, in whatever container.

    Returns:
        Whether it is the file under its name; if not, somebody took it for an abandoned one.
    """
    if _fcntl is not None:
        try:
            _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            if error.errno not in _NO_LOCKS:
                raise
    return is_under(file, path)


def _is_held(path: Path) -> bool | None:
    """Whether a process holds a file; None where that is not known.

    A shared lock is tried for a moment, which no reader minds.
    """
    if _fcntl is None:
        return None
    try:
        file = open_regular(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        _fcntl.flock(file, _fcntl.LOCK_SH | _fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in _TAKEN else None
    finally:
        os.close(file)
    return False


def check_links(path: Path) -> None:
    """Refuse a name that leads somewhere by a link of somebody else's.

    In a folder that others can write in, such a link leads into a file of one's own.

    Raises:
        ConfigurationError: With the link.
        OSError: When one of the links is out of reach.
    """
    for _ in range(LINKS_AT_MOST):
        if os.name != "posix" or not path.is_symlink():
            return
        owner = path.lstat().st_uid
        if owner not in {os.geteuid(), 0}:
            raise ConfigurationError(
                f"{shown_path(path)} is a link that belongs to another user (uid {owner}); name "
                "another file"
            )
        path = path.parent / path.readlink()


def sync_file(file: int) -> None:
    """Get a file's content onto the disk itself; takes a file descriptor."""
    full_sync = getattr(_fcntl, "F_FULLFSYNC", None)
    if full_sync is not None:  # on macOS fsync() stops at the drive's own cache
        try:
            _fcntl.fcntl(file, full_sync)
        except OSError as error:
            if error.errno not in _NO_LOCKS and error.errno not in _NO_FOLDER_SYNC:
                raise
        else:
            return
    os.fsync(file)


def sync_content(file: int) -> None:
    """As `sync_file()`, without times and rights; takes a file descriptor."""
    if hasattr(os, "fdatasync"):  # not on macOS
        os.fdatasync(file)
    else:
        sync_file(file)


def sync_folder(path: Path) -> None:
    """Get the names in a folder onto the disk: a file that was renamed has its name only then."""
    if os.name != "posix":  # folders cannot be opened there
        return
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network file systems: nothing to be done
            raise
    finally:
        os.close(folder)


@contextlib.contextmanager
def writing_whole(path: Path, buffer_bytes: int = -1) -> Iterator[BinaryIO]:
    """Write a file so that its name only ever stands for a whole one, even after a crash.

    It is for its owner alone: addresses and answers are private. When the block ends without an
    error, content and name are on the disk, and a file of that name is replaced.

    Args:
        path: Its name. It is written as `NAME.part` beside it; what a killed process left there
            is overwritten.
        buffer_bytes: How many are written at a time; -1 for the system's choice.

    Raises:
        OSError: When it cannot be written; then nothing has changed under its name.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with open(part, "xb", buffer_bytes, opener=open_private) as file:
            yield file
            file.flush()
            sync_file(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def write_whole(path: Path, *blocks: bytes) -> None:
    """Write blocks to a file, one behind the other, as `writing_whole()` does."""
    with writing_whole(path) as file:
        file.writelines(blocks)


def write_pieces(file: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Write many pieces to a file descriptor, without joining them in memory.

    Raises:
        OSError: When they cannot be written; some of them may have been.
    """
    for begin in range(0, len(pieces), PIECES_AT_ONCE):
        batch = pieces[begin : begin + PIECES_AT_ONCE]
        if not hasattr(os, "writev"):  # Windows
            batch = [b"".join(batch)]
        left = sum(map(len, batch)) - _write(file, batch)
        while left:  # a signal came, or it is the last of the disk
            rest = b"".join(batch)[-left:]
            left -= os.write(file, rest)


def _write(file: int, pieces: Sequence[bytes | memoryview]) -> int:
    return os.writev(file, pieces) if len(pieces) > 1 else os.write(file, pieces[0])


def write_at(file: int, content: bytes, offset: int) -> None:
    """Write all of it to a file descriptor, at a place.

    Raises:
        OSError: When it cannot be written; a part of it may have been.
    """
    left = memoryview(content)
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


def absolute(path: str | Path) -> Path:
    """A path that means the same in whatever folder.

    Raises:
        ConfigurationError: When the current folder is gone.
    """
    try:
        return Path(path).absolute()
    except OSError as error:
        raise ConfigurationError(
            f"{shown_path(Path(path))} cannot be found: the current folder is out of reach "
            f"({error.strerror or error})"
        ) from error


def free_bytes(path: Path) -> int:
    """Bytes that we may still write where this file or folder is.

    Raises:
        OSError: When it does not exist.
    """
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize


def open_private(path: str | Path, flags: int) -> int:
    """Open a file for its owner alone, whatever the umask."""
    file = open_regular(path, flags)
    os.fchmod(file, PRIVATE_FILE)
    return file


def open_regular(path: str | Path, flags: int) -> int:
    """Open a regular file that is no link; one that is made is for its owner alone.

    Raises:
        OSError: When it is something else, or cannot be opened.
    """
    try:
        file = os.open(path, flags | _AS_IT_IS | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link") from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def open_nameless(folder: Path) -> io.FileIO:
    """An unnamed file for its owner alone; it is gone when it is closed or the process ends.

    Raises:
        OSError: When it cannot be made.
    """
    return tempfile.TemporaryFile(dir=folder, buffering=0)


def make_private_folder(path: Path, *, exist_ok: bool = False) -> None:
    """Make a folder for its owner alone, whatever the umask; an existing one stays as it is.

    Raises:
        ConfigurationError: When an existing one could be somebody else's work.
        OSError: When it cannot be made.
    """
    try:
        path.mkdir(mode=PRIVATE_FOLDER)
    except FileExistsError:
        if not exist_ok:
            raise
        check_own_folder(path)
        return
    path.chmod(PRIVATE_FOLDER)


def check_own_folder(path: Path) -> None:
    """Refuse a folder that somebody else made, or can write in.

    Anyone who can write in it can replace a file that is about to be written by a link.

    Raises:
        ConfigurationError: With what is wrong, and the command that repairs it if there is one.
        OSError: When it is out of reach.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise ConfigurationError(f"{shown_path(path)} is a link; name the folder that it leads to")
    if os.name != "posix":  # elsewhere the mode does not say who may write
        return
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{shown_path(path)} belongs to another user (uid {found.st_uid}), who alone "
            "can use it; name another with --run-dir"
        )
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise ConfigurationError(
            f"others can write in {shown_path(path)} (mode {stat.S_IMODE(found.st_mode):04o}), so "
            "what is in it may be theirs. If you know that it is not: "
            f"chmod 700 {quoted(path)}; else name another with --run-dir"
        )


def check_own_file(path: Path) -> None:
    """Refuse what is no regular file of ours, or has another name as well.

    Raises:
        ConfigurationError: With what is wrong.
        OSError: When it is out of reach.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        is_link = stat.S_ISLNK(found.st_mode)
        what = "a link" if is_link else "not a regular file"
        raise ConfigurationError(
            f"{shown_path(path)} is {what}, which no run makes; nothing was done"
        )
    if os.name == "posix" and found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{shown_path(path)} belongs to another user (uid {found.st_uid}); nothing was done"
        )
    if found.st_nlink > 1:
        raise ConfigurationError(
            f"{shown_path(path)} has another name too (a hard link), whose content would change "
            "with it; copy the run directory (cp -r), and use the copy"
        )
