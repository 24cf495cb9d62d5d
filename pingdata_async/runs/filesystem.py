"""What differs by operating system and file system: locks, and getting things onto the disk.

Made for Linux and macOS. Elsewhere the package can be imported and used in memory, and a run
of files is refused.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pingdata_async.exceptions import RunError

PRIVATE_FILE = 0o600
LOCK_NAME = "lock"

# Not a plain import: there is no such module on Windows.
_fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_TAKEN = frozenset({errno.EAGAIN, errno.EACCES})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


class RunLock:
    """Keeps a second process off a run directory; a context manager that never waits.

    On a file of its own, so that whoever only reads needs no lock. The system gives it up when
    the process ends, however it ends; the file stays, as removing it would let two in.

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
        """Take it; blocks for as long as opening a file does.

        Raises:
            RunError: When another process has it, or there are no locks here.
        """
        if _fcntl is None:
            raise RunError("runs of files need Linux or macOS; enhance() and stream() work here")
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            raise RunError(f"{self.path} cannot be opened: {error.strerror or error}") from error
        try:
            self._lock(file)
            # For people, and for the message that the next one gets.
            os.ftruncate(file, 0)
            os.pwrite(file, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            os.close(file)
            raise RunError(f"{self.path} cannot be written: {error.strerror or error}") from error
        except BaseException:
            os.close(file)
            raise
        self._file = file
        return self

    def _lock(self, file: int) -> None:
        try:
            _fcntl.flock(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                raise RunError(
                    f"{self._run_dir} is in use by {_holder(file)}; wait for it or stop it "
                    "(`status` and `export` work meanwhile)"
                ) from error
            if error.errno in _NO_LOCKS:
                raise RunError(
                    f"{self._run_dir}: its file system has no locks ({error.strerror}); "
                    "use --run-dir on a local disk"
                ) from error
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None


def _holder(file: int) -> str:
    try:
        pid = os.pread(file, 32, 0).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        pid = ""
    return f"another process (pid {pid})" if pid else "another process"


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


def write_whole(path: Path, *blocks: bytes) -> None:
    """Write a file so that under its name there is only ever a whole one, also after a crash.

    When this returns, content and name are on the disk. A file of that name is replaced.

    Args:
        path: Its name; what is written meanwhile is `NAME.part` beside it.
        blocks: Its content, one behind the other.

    Raises:
        OSError: When it cannot be written; then nothing has changed under its name.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        # Addresses and answers are the user's own: for the owner alone.
        with open(part, "wb", opener=_private) as file:
            file.writelines(blocks)
            file.flush()
            sync_file(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync_folder(path.parent)


def free_bytes(path: Path) -> int:
    """Bytes that the present user may still write where this file or folder is.

    Raises:
        OSError: When it does not exist.
    """
    space = os.statvfs(path)
    return space.f_bavail * space.f_frsize


def _private(path: str, flags: int) -> int:
    file = os.open(path, flags, PRIVATE_FILE)
    os.fchmod(file, PRIVATE_FILE)  # where a part was left by somebody with other habits
    return file
