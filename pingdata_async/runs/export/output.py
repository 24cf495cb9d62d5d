"""Output files: their form, and how they get their names.

An output has its name only when it is whole and on the disk.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import stat
import sys
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.runs.directory.directory import failures_path
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.tables.formats import OutputFormat, WriteOptions, output_format
from pingdata_async.util.files import (
    absolute,
    check_links,
    hold,
    is_left_over,
    sync_file,
    sync_folder,
    write_pieces,
)
from pingdata_async.util.loop import SingleThreadExecutor
from pingdata_async.util.standard_output import StandardOutput, open_standard_output
from pingdata_async.util.text import STDOUT, quoted_path, shown_path

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

WRITE_BUFFER_BYTES = 256 * 1024
ANYBODYS_RIGHTS = 0o777  # without those that make a program run as its owner

BeforeMove = Callable[[Path, Path], Awaitable[None]]


class AtomicFile(Protocol):
    """Takes lines in pieces.

    Attributes:
        can_be_emptied: Whether what was written can be taken back.
    """

    can_be_emptied: bool

    def write(self, pieces: Sequence[bytes | memoryview], /) -> None:
        """Write the pieces in order; blocks.

        Raises:
            RunError: When that cannot be done.
            BrokenPipeError: When nobody reads any more.
        """
        ...

    async def write_lines(
        self, pieces: Iterable[bytes | memoryview], thread: SingleThreadExecutor, /
    ) -> None:
        """As `write()`, in a thread, which makes the pieces; a cancellation waits for its end."""
        ...

    def empty(self) -> None:
        """Remove what was written, if possible; blocks."""
        ...

    def opened(self) -> contextlib.AbstractContextManager[BinaryIO]:
        """The file as what writers of tables take; blocks, and raises like `write()`.

        What is written to it later than in the block's own frame is to be `blamed()`.
        """
        ...

    def blamed(self) -> contextlib.AbstractContextManager[None]:
        """Raise what the system says as `write()` does."""
        ...


class _File:
    """A file that nobody else writes in, without a buffer: it gets large blocks alone.

    Args:
        output: Its name in messages.

    Attributes:
        path: The name that it takes at last.
        part: The one that it has until then.

    Raises:
        OSError: When it cannot be made.
    """

    can_be_emptied = True

    def __init__(self, output: Path) -> None:
        check_links(output)
        self._path = output
        self.path = Path(os.path.realpath(output))
        _remove_stale_parts(self.path)
        self.part, self._raw = _new_part(self.path)
        self._at_work = self._raw.at_work
        self._lines: AsyncFileIO | None = None

    def write(self, pieces: Sequence[bytes | memoryview], /) -> None:
        with blamed_on(self._path):
            self._raw.writelines(pieces)

    async def write_lines(
        self, pieces: Iterable[bytes | memoryview], thread: SingleThreadExecutor, /
    ) -> None:
        if self._lines is None:
            from aiofiles.threadpool import wrap  # noqa: PLC0415 - only a file of lines needs it

            self._lines = wrap(self._raw, executor=thread.executor)
        with blamed_on(self._path), anyio.CancelScope(shield=True):
            await self._lines.writelines(pieces)

    def empty(self) -> None:
        with self._at_work, blamed_on(self._path):
            self._raw.seek(0)
            self._raw.truncate()

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        guarded = _Guarded(self._raw, self._at_work)
        buffered = io.BufferedWriter(guarded, WRITE_BUFFER_BYTES)
        with blamed_on(self._path):
            try:
                yield buffered
                buffered.flush()
            except BaseException:
                guarded.is_wanted = False
                raise

    def blamed(self) -> contextlib.AbstractContextManager[None]:
        return blamed_on(self._path)

    def written_down(self) -> bool:
        """Sync to disk before the rename; returns whether the file holds anything."""
        with blamed_on(self._path):
            with contextlib.suppress(FileNotFoundError):
                mode = stat.S_IMODE(self.path.lstat().st_mode)  # of the file that is replaced
                os.fchmod(self._raw.fileno(), mode & ANYBODYS_RIGHTS)
            sync_file(self._raw.fileno())  # a crash must not leave an empty output
            return self._raw.tell() > 0

    def close(self) -> None:
        """Close the file after the write that is under way."""
        with self._at_work:
            self._raw.close()


class _PartFile(io.FileIO):
    """A file in the making, which takes many pieces by few system calls.

    Attributes:
        at_work: Held while it is written or closed. A task that asyncio itself cancels leaves its
            thread at work: what that writes must not go to whoever is given the number of the
            closed file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "xb")
        self.at_work = threading.Lock()

    def writelines(self, pieces: Iterable[Any], /) -> None:
        """Write the pieces in order."""
        with self.at_work:
            write_pieces(self.fileno(), list(pieces))


class _Guarded(io.RawIOBase):
    """A file that is closed only between two writes, by whoever else has it."""

    def __init__(self, raw: io.FileIO, at_work: threading.Lock) -> None:
        self._raw = raw
        self._at_work = at_work
        self.is_wanted = True  # if not, what buffers still hold is dropped
        # Some writers keep what they are not done with beside it.
        self.name = os.fsdecode(raw.name)

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        with self._at_work:
            return self._raw.write(block) if self.is_wanted else len(block)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)


class _Stream:
    """Standard output as a file of lines."""

    can_be_emptied = False

    def __init__(self, raw: StandardOutput) -> None:
        self._raw = raw

    def write(self, pieces: Sequence[bytes | memoryview], /) -> None:
        with blamed_on(STDOUT):
            self._raw.write(b"".join(pieces))

    async def write_lines(
        self, pieces: Iterable[bytes | memoryview], thread: SingleThreadExecutor, /
    ) -> None:
        await thread.run(lambda: self.write(list(pieces)))

    def empty(self) -> None:
        pass  # what is out is out

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        with blamed_on(STDOUT):
            yield cast("BinaryIO", self._raw)

    def blamed(self) -> contextlib.AbstractContextManager[None]:
        return blamed_on(STDOUT)


def absolute_output(output: str | Path) -> str | Path:
    """An output that means the same whatever folder the process goes to; "-" stays. Blocks.

    Raises:
        ConfigurationError: When it names no file, or the folder that the process is in is gone.
    """
    return output if failures_path(output) is None else absolute(output)


def check_output(
    output: str | Path,
    source: str | Path | None,
    *,
    overwrite: bool,
    failures: Path | None = None,
) -> None:
    """Refuse an output that could not be written, before anything is paid for.

    Args:
        output: A path, or "-" for standard output.
        source: The input, which must not be replaced; None where it is not at hand.
        overwrite: Whether what is there already may be replaced.
        failures: Where the rows without an answer go; None for nowhere.

    Raises:
        ConfigurationError: With what is wrong.
    """
    if str(output) == STDOUT and sys.stdout is None:
        raise ConfigurationError("standard output is closed")
    paths = [] if str(output) == STDOUT else [Path(output)]
    if failures is not None:
        if failures in paths:
            raise ConfigurationError(f"{shown_path(output)} cannot hold output and failures both")
        paths.append(failures)
    for path in paths:
        try:
            _check_file(path, source, overwrite=overwrite)
        except OSError as error:
            raise ConfigurationError(
                f"{shown_path(path)} cannot be written: {error.strerror or error}"
            ) from error


def _check_file(path: Path, source: str | Path | None, *, overwrite: bool) -> None:
    check_links(path)
    if Path(os.path.realpath(path)).is_symlink():
        raise ConfigurationError(f"{path} is a link that leads nowhere but to itself")
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder, not a file")
    if not path.parent.is_dir():
        raise ConfigurationError(
            f"{path}: the folder {path.parent} does not exist; make it, or name another output "
            "with -o"
        )
    if path.exists():
        if not path.is_file():
            raise ConfigurationError(f'{path} is not a regular file; for a pipe, use "-o -"')
        if source is not None and _is_same(path, source):
            raise ConfigurationError(f"{path} is the input itself")
        if not overwrite:
            raise ConfigurationError(f"{path} exists already; use --overwrite to replace it")
    # Only trying tells: rights, read-only file systems, names that are too long.
    part = _part_name(path)
    part.open("xb").close()
    part.unlink(missing_ok=True)  # somebody may have taken it for a remnant


def _is_same(path: Path, source: str | Path) -> bool:
    return str(source) != STDOUT and Path(source).exists() and path.samefile(source)


@contextlib.contextmanager
def blamed_on(path: str | Path) -> Iterator[None]:
    """Turn what the system says into a RunError that names the file; a closed pipe stays one."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        shown = "standard output" if str(path) == STDOUT else shown_path(path)
        raise RunError(f"{shown} cannot be written: {error.strerror or error}") from error


@contextlib.asynccontextmanager
async def open_atomic(
    output: str | Path, *, keep_empty: bool = True, before_move: BeforeMove | None = None
) -> AsyncIterator[AtomicFile]:
    """A file that takes its name when it is left without an error, whole and on the disk.

    Args:
        output: A path, or "-" for standard output.
        keep_empty: Whether it is written also when there is nothing in it; if not, one that
            is there already is removed then.
        before_move: Told of the file's name and where it is until then, when it is whole.

    Raises:
        RunError: When it cannot be opened or moved into place.
    """
    if str(output) == STDOUT:
        async with open_standard_output(sys.stdout.buffer) as raw:
            yield _Stream(raw)
            with blamed_on(output):
                await anyio.to_thread.run_sync(raw.flush)
        return
    # What goes wrong in the block is not the file's fault, unless the file says so.
    with blamed_on(output):
        file = await anyio.to_thread.run_sync(_File, Path(output))
    try:
        yield file
        is_wanted = await anyio.to_thread.run_sync(file.written_down) or keep_empty
        if is_wanted and before_move is not None:
            await before_move(Path(output), file.part)
        with blamed_on(output):
            finish = _move_into_place if is_wanted else _remove_both
            await anyio.to_thread.run_sync(finish, file.part, file.path)
    except BaseException:
        with contextlib.suppress(OSError), anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(file.part.unlink)
        raise
    finally:
        # Not sooner: as long as it is open, nobody takes it for a remnant.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(file.close)


def _part_name(path: Path) -> Path:
    # Behind a link, beside the file itself: that is what will be replaced.
    path = Path(os.path.realpath(path))
    # Its own for each: a run that is under way may be exported meanwhile.
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def _new_part(path: Path) -> tuple[Path, _PartFile]:
    """A file beside another one, held by this process alone."""
    while True:
        part = _part_name(path)
        file = _PartFile(part)
        try:
            if hold(file.fileno(), part):
                return part, file
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise
        file.close()


def _remove_stale_parts(path: Path) -> None:
    """Remove the half-written files of killed processes."""
    # With the folders that writers of workbooks had beside them.
    name = re.compile(rf"(\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.part)(-\w+)?")
    # Tidying alone: a folder that can be written but not listed is no reason to stop.
    with contextlib.suppress(OSError):
        found = (match for entry in path.parent.iterdir() if (match := name.fullmatch(entry.name)))
        for match in sorted(found, key=lambda match: match[0]):  # files before their folders
            entry = path.with_name(match[0])
            if match[2] is None:
                if is_left_over(entry):
                    entry.unlink(missing_ok=True)
            elif not os.path.lexists(path.with_name(match[1])):
                shutil.rmtree(entry, ignore_errors=True)


def _move_into_place(part: Path, path: Path) -> None:
    part.replace(path)
    sync_folder(path.parent)


def _remove_both(part: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    part.unlink()
    sync_folder(path.parent)


DeclaredTypes = Mapping[str, Mapping[str, str]]
"""The type that the API declares, by source and field."""


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a run's output is to be written.

    Attributes:
        kind: Its format.
        compression: "gz", "zst" or "".
        options: What else the user asks for.
        sources: The run's sources.
        declared: What the API says of its fields; used by flat tables.
    """

    kind: OutputFormat = OutputFormat.JSONL
    compression: str = ""
    options: WriteOptions = WriteOptions()
    sources: tuple[str, ...] = ()
    declared: DeclaredTypes = {}


class UnwritableError(ConfigurationError):
    """Raised when the answers turn out not to fit into the form that was asked for.

    Attributes:
        is_for_columns: Whether other columns would do; if not, another format would.
    """

    def __init__(self, message: str, *, is_for_columns: bool) -> None:
        super().__init__(message)
        self.is_for_columns = is_for_columns


def needed_for(error: Exception, output: str | Path) -> str:
    """The options with which an output can be written that cannot be as it was asked for.

    Args:
        error: Why it cannot be.
        output: The output.
    """
    if not isinstance(error, UnwritableError):
        return ""
    if error.is_for_columns:
        return "--columns '*'"
    if str(output) == STDOUT:
        return f"--output-format {OutputFormat.PARQUET}"
    return output_option(Path(output).with_suffix(".parquet"))


def output_option(output: str | Path) -> str:
    """An output as the option that names it, ready to be pasted."""
    return f"--output={STDOUT if str(output) == STDOUT else quoted_path(output)}"


def writing_elsewhere(
    output: str | Path, given_format: str | None, settings: RunSettings
) -> WriteOptions:
    """How a run's rows are written to another output, where nothing else is asked for.

    As to its own, but for what is only of that: the format, and columns that were chosen for
    another form. The run's own output, named again, is no other.

    Args:
        output: The other output.
        given_format: The format it is to have; None to go by its name.
        settings: The run's.

    Raises:
        ConfigurationError: When there is no such format.
    """
    kept = settings.writing
    named = str(output) if str(output) == STDOUT else str(Path(output).absolute())
    if named == settings.output:
        return kept
    own, _ = output_format(settings.output, kept.format)
    other, _ = output_format(str(output), given_format)
    columns = kept.columns if own is other else ()
    return msgspec.structs.replace(kept, format=None, columns=columns)


def output_spec(
    output: str | Path, options: WriteOptions, sources: tuple[str, ...], declared: DeclaredTypes
) -> OutputSpec:
    """The form of an output, by its name and the options.

    Raises:
        ConfigurationError: When it is none that there is.
    """
    kind, compression = output_format(str(output), options.format)
    return OutputSpec(
        kind=kind, compression=compression, options=options, sources=sources, declared=declared
    )
