"""Whether there is space for what a run will write (pure, but for asking the file system)."""

from __future__ import annotations

import os
from pathlib import Path

from pingdata_async.exceptions import RunError
from pingdata_async.runs.filesystem import free_bytes

# As measured on answers like those documented: 1 KB for a geocoder, 3 to 4 KB for a hazard
# source; in the spool about a ninth of it.
OUTPUT_BYTES_A_SOURCE = 2_500
SPOOL_BYTES_A_SOURCE = 300


def check_space(
    run_dir: Path,
    output: Path | None,
    *,
    locations: int,
    rows: int,
    sources: int,
    recurring: int = 0,
) -> None:
    """Refuse a run whose answers will not fit on the disk, before it costs anything.

    Args:
        run_dir: Where the spool grows, and answers wait that come again in the output.
        output: Where the output will be; None for standard output.
        locations: Rows that are still to be answered.
        rows: Rows of the output: all of them are written in the end.
        sources: Sources a row.
        recurring: Locations that more than one row is at, at most.

    Raises:
        RunError: With what is needed and what is free.
    """
    needs = space_needs(
        run_dir, output, locations=locations, rows=rows, sources=sources, recurring=recurring
    )
    by_device: dict[int, list[tuple[Path, int]]] = {}
    for folder, size_bytes in needs:
        by_device.setdefault(folder.stat().st_dev, []).append((folder, size_bytes))
    for folders in by_device.values():
        needed = sum(size_bytes for _, size_bytes in folders)
        free = free_bytes(folders[0][0])
        if needed > free:
            places = " and ".join(str(folder) for folder, _ in folders)
            raise RunError(
                f"{places}: the answers will need about {shown_bytes(needed)}, but only "
                f"{shown_bytes(free)} are free; make room, or use --no-space-check"
            )


def space_needs(
    run_dir: Path,
    output: Path | None,
    *,
    locations: int,
    rows: int,
    sources: int,
    recurring: int = 0,
) -> list[tuple[Path, int]]:
    """The bytes that the answers will take, about, by folder; arguments as of `check_space()`."""
    kept_bytes = locations * SPOOL_BYTES_A_SOURCE + recurring * OUTPUT_BYTES_A_SOURCE
    needs = [(run_dir, sources * kept_bytes)]
    if output is not None:
        # Behind a link: there the file is made that replaces it.
        needs.append(
            (Path(os.path.realpath(output)).parent, rows * sources * OUTPUT_BYTES_A_SOURCE)
        )
    return needs


def shown_bytes(size_bytes: float) -> str:
    """A size for people, such as 3.7 GB."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size_bytes < 1000:  # noqa: PLR2004 - what the units mean
            return f"{size_bytes:.1f} {unit}" if unit != "bytes" else f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"
