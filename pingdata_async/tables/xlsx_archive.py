"""The archive that an XLSX file is, written part by part."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO, Final, cast

# Levels beyond that take half of all time for a tenth of the size.
_COMPRESSION_LEVEL: Final = 1


class ArchiveWriter:
    """Writes the parts of a workbook, one after the other.

    Args:
        file: Where to; still the caller's to close.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = _LastingFile(file)
        self._archive = zipfile.ZipFile(
            cast("IO[bytes]", self._file),  # it needs no more of a file
            "w",
            zipfile.ZIP_DEFLATED,
            compresslevel=_COMPRESSION_LEVEL,
        )

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[IO[bytes]]:
        """Write a part of any size."""
        file = self.begin_part(name)
        yield file
        file.close()

    def begin_part(self, name: str) -> IO[bytes]:
        """Likewise, to be closed before the next one."""
        # By its name it is of no date, so that equal tables make equal files.
        part: IO[bytes] = self._archive.open(name, "w", force_zip64=True)
        return part

    def close(self) -> None:
        """Write what is known of the parts at the end."""
        self._archive.close()

    def abandon(self, part: IO[bytes] | None = None) -> None:
        """Let go of the file, and of a part that is being written.

        The archive would write its end itself when it is forgotten, perhaps after the file was
        closed.
        """
        self._file.give_up()
        with contextlib.suppress(OSError, ValueError):
            if part is not None:
                part.close()
        with contextlib.suppress(OSError, ValueError):
            self._archive.close()


class _LastingFile:
    """A file that can be given up while others go on writing in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | None = file
        self._place = 0

    def give_up(self) -> None:
        """Write nowhere from now on."""
        self._file = None

    def write(self, block: bytes) -> int:
        if self._file is None:
            self._place += len(block)
            return len(block)
        return self._file.write(block)

    def seek(self, offset: int, whence: int = 0) -> int:
        if self._file is None:
            self._place = offset
            return offset
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._place if self._file is None else self._file.tell()

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()
