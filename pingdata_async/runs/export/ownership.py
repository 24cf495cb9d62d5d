"""Which output files are a run's own, and may be replaced by it.

A run replaces a file that it wrote itself, and another one only where the user says so.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.directory.directory import RunDirectory, failures_path, kept_path
from pingdata_async.runs.export.output import check_output
from pingdata_async.util.encoding import fast_zlib
from pingdata_async.util.text import STDOUT, shown_path

EXPORTED = "exported"
BLOCK_BYTES = 1024 * 1024


class FileStamp(msgspec.Struct, frozen=True, array_like=True):
    """The identity of a file, as against a later one of the same name.

    A copy has another time: there the content tells. To read it through takes a moment, so the
    same time is proof enough.
    """

    size_bytes: int
    mtime_ns: int
    crc32: int | None = None


_Stamps = dict[str, tuple[FileStamp, ...]]


class OutputOwnership:
    """The files that a run wrote, as its journal has them.

    Args:
        directory: The run directory, entered.
        output: Where the run writes now; "-" for standard output.
    """

    def __init__(self, directory: RunDirectory, output: str | Path) -> None:
        self._directory = directory
        self._output = output

    async def about_to_move(self, path: Path, part: Path) -> None:
        """A file of the run is about to take its name; told of before, as a crash may follow.

        Until it has it, what it replaces may be replaced as well.
        """
        before = await anyio.to_thread.run_sync(_stamp, path)
        new = await anyio.to_thread.run_sync(_stamp_with_content, part)
        await self._keep(path, tuple(stamp for stamp in (new, before) if stamp is not None))

    async def moved(self) -> None:
        """The run's files have their names now: what they replaced is of no interest any more."""
        for path in self._paths():
            if stamps := (await self._kept()).get(self._key(path)):
                await self._keep(path, stamps[:1])

    async def is_own(self) -> bool:
        """Whether the output is there as the run wrote it."""
        if str(self._output) == STDOUT:
            return False
        return await self._is_own(Path(self._output), await self._kept())

    async def check(self, source: str, *, overwrite: bool, planned_overwrite: bool) -> None:
        """Refuse an output that cannot be written, or that is not the run's to replace.

        Args:
            source: The input, which must not be replaced.
            overwrite: Whether anything may be replaced.
            planned_overwrite: Whether that was so when the run began; it holds until the run
                has written the output once.

        Raises:
            ConfigurationError: With what is wrong.
        """
        kept = await self._kept()
        may_overwrite = overwrite
        paths = self._paths()
        if not may_overwrite and paths:
            if planned_overwrite and self._key(paths[0]) not in kept:
                may_overwrite = True
            else:
                may_overwrite = await self._check_own(paths, kept)
        await anyio.to_thread.run_sync(
            lambda: check_output(
                self._output, source, overwrite=may_overwrite, failures=failures_path(self._output)
            )
        )

    async def _check_own(self, paths: list[Path], kept: _Stamps) -> bool:
        """Whether the files that exist are the run's own."""
        for path in paths:
            is_there = await anyio.to_thread.run_sync(os.path.exists, path)
            if not is_there or await self._is_own(path, kept):
                continue
            if self._key(path) in kept:
                if path != paths[0]:  # failures, which are there to be mended: they stay its own
                    continue
                raise ConfigurationError(
                    f"{shown_path(path)} was changed since this run wrote it; --overwrite to "
                    "replace it, or -o another"
                )
            return False
        return True

    async def _is_own(self, path: Path, kept: _Stamps) -> bool:
        return await anyio.to_thread.run_sync(_is_one_of, path, kept.get(self._key(path), ()))

    def _paths(self) -> list[Path]:
        failures = failures_path(self._output)
        return [] if failures is None else [Path(self._output), failures]

    def _key(self, path: Path) -> str:
        return kept_path(path, self._directory.path)

    async def _kept(self) -> _Stamps:
        found = await self._directory.journal.get_meta(EXPORTED)
        try:
            return msgspec.convert(found or {}, _Stamps)
        except msgspec.ValidationError:
            return {}  # then nothing is the run's own, and --overwrite helps

    async def _keep(self, path: Path, stamps: tuple[FileStamp, ...]) -> None:
        kept = await self._kept() | {self._key(path): stamps}
        await self._directory.journal.set_meta(EXPORTED, kept)


def _stamp(path: Path) -> FileStamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return FileStamp(found.st_size, found.st_mtime_ns)


def _stamp_with_content(path: Path) -> FileStamp | None:
    stamp = _stamp(path)
    return stamp and msgspec.structs.replace(stamp, crc32=_crc32(path))


def _is_one_of(path: Path, stamps: tuple[FileStamp, ...]) -> bool:
    found = _stamp(path)
    if found is None:
        return False
    alike = [stamp for stamp in stamps if stamp.size_bytes == found.size_bytes]
    if any(stamp.mtime_ns == found.mtime_ns for stamp in alike):
        return True
    sums = {stamp.crc32 for stamp in alike} - {None}
    return bool(sums) and _crc32(path) in sums


def _crc32(path: Path) -> int | None:
    crc32 = 0
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                crc32 = fast_zlib.crc32(block, crc32)
    except OSError:
        return None
    return crc32
