"""Planned rows and spooled answers to the output, in input order."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import aiofiles
import aiofiles.os
import anyio
import anyio.to_thread

from pingdata_async.bulk.checking import Failure, Tally, check_body, fail_chunk, tally
from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.models import EnhancedLocation, Reason
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.spool import Spool
from pingdata_async.tables.jsonl import encode_lines

STDOUT = "-"
_FOREIGN_SUFFIXES = frozenset({".csv", ".tsv", ".xlsx", ".xls", ".parquet", ".geojson", ".gz"})


class _Output(Protocol):
    async def write(self, block: bytes, /) -> object: ...


def check_output(output: str | Path, source: str | Path, *, overwrite: bool) -> None:
    """Refuse an output that could not be written, before anything is paid for.

    Raises:
        ConfigurationError: With what is wrong.
    """
    if str(output) == STDOUT:
        if sys.stdout is None:
            raise ConfigurationError("standard output is closed")
        return
    try:
        _check_file(Path(output), source, overwrite=overwrite)
    except OSError as error:
        raise ConfigurationError(
            f"{shown_path(output)} cannot be written: {error.strerror or error}"
        ) from error


def _check_file(path: Path, source: str | Path, *, overwrite: bool) -> None:
    if path.suffix.lower() in _FOREIGN_SUFFIXES:
        raise ConfigurationError(f"{path}: only JSONL is written; name it .jsonl")
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder, not a file")
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path}: the folder {path.parent} does not exist")
    if path.exists():
        if not path.is_file():
            raise ConfigurationError(f'{path} is not a regular file; for a pipe, use "-o -"')
        if str(source) != STDOUT and Path(source).exists() and path.samefile(source):
            raise ConfigurationError(f"{path} is the input itself")
        if not overwrite:
            raise ConfigurationError(f"{path} exists already; use --overwrite to replace it")
    # Only trying tells: rights, read-only file systems, names that are too long.
    part = _part_name(path)
    part.open("xb").close()
    part.unlink()


def shown_path(path: str | Path) -> str:
    """A path as text that can be encoded, also where its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _part_name(path: Path) -> Path:
    # Behind a link, beside the file itself: that is what will be replaced.
    path = path.resolve()
    return path.with_name(f".{path.name}.{os.getpid()}.part")


async def export(
    plan: Plan,
    spool: Spool,
    output: str | Path,
    sources: tuple[str, ...],
    on_rows: Callable[[int], None],
    *,
    finished_only: bool = False,
) -> Tally:
    """Write every row of the plan, in input order.

    Args:
        plan: What was planned.
        spool: What was answered.
        output: A path, moved into place when it is whole, or "-" for standard output.
        sources: The run's sources.
        on_rows: Told of the number of rows after each chunk.
        finished_only: Leave out chunks without an answer, instead of refusing them.

    Returns:
        The count of the rows written.

    Raises:
        RunError: When it cannot be written, or a chunk has no answer.
    """
    total = Tally()
    try:
        async with _opened(output) as file:
            for index in range(plan.chunks):
                rendered = await anyio.to_thread.run_sync(_render, plan, spool, index, sources)
                if rendered is None:
                    if finished_only:
                        continue
                    raise RunError(f"chunk {index} has no answer; this should not happen")
                block, counts = rendered
                await file.write(block)
                _add(total, counts)
                on_rows(counts.rows)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RunError(
            f"{shown_path(output)} cannot be written: {error.strerror or error}"
        ) from error
    return total


def _render(
    plan: Plan, spool: Spool, index: int, sources: tuple[str, ...]
) -> tuple[bytes, Tally] | None:
    """One chunk's lines, all in one visit to a thread."""
    chunk = plan.read(index)
    answer = spool.read(index)
    results: list[EnhancedLocation]
    if isinstance(answer, bytes):
        results = check_body(chunk, answer, sources)
    elif answer is not None:
        results = fail_chunk(chunk, answer)
    elif not chunk.rows:
        results = fail_chunk(chunk, Failure(Reason.INVALID_INPUT, ""))
    else:
        return None
    return encode_lines(results), tally(results)


def _add(total: Tally, counts: Tally) -> None:
    total.rows += counts.rows
    total.ok += counts.ok
    total.partial += counts.partial
    total.failed += counts.failed
    total.no_answer += counts.no_answer
    for reason, rows in counts.reasons.items():
        total.reasons[reason] = total.reasons.get(reason, 0) + rows


@contextlib.asynccontextmanager
async def _opened(output: str | Path) -> AsyncIterator[_Output]:
    if str(output) == STDOUT:
        yield anyio.wrap_file(sys.stdout.buffer)
        await anyio.to_thread.run_sync(sys.stdout.buffer.flush)
        return
    path, part = await anyio.to_thread.run_sync(_target, Path(output))
    try:
        async with aiofiles.open(part, "wb") as file:
            yield file
            await file.flush()
            # On disk before it takes its name: a crash must not leave an empty output.
            await anyio.to_thread.run_sync(os.fsync, file.fileno())
        await anyio.to_thread.run_sync(_move_into_place, part, path)
    except BaseException:
        with contextlib.suppress(OSError), anyio.CancelScope(shield=True):
            await aiofiles.os.remove(part)
        raise


def _target(output: Path) -> tuple[Path, Path]:
    return output.resolve(), _part_name(output)


def _move_into_place(part: Path, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        part.chmod(stat.S_IMODE(path.stat().st_mode))  # of the file that is replaced
    part.replace(path)
