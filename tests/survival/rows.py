"""Inputs, and what must come of them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

POISON = "POISON"


def write_rows(
    path: Path,
    rows: int,
    poisoned: Collection[int] = (),
    word: str = POISON,
    distinct: int | None = None,
) -> None:
    """That many different addresses as CSV; those poisoned have the word in theirs.

    Args:
        path: Where.
        rows: How many.
        poisoned: These.
        word: This one.
        distinct: How many addresses there are, which come in turn; None where all are different.
    """
    distinct = distinct or rows
    with path.open("w", encoding="utf-8") as file:
        file.write("id,address\n")
        for row in range(rows):
            street = word if row in poisoned else "Oak"
            file.write(f'r{row},"{row % distinct} {street} Ave, Salem, MA 01970"\n')


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def check_rows(output: Path, rows: int, distinct: int | None = None) -> list[dict[str, Any]]:
    """Every row once, in input order, under its own id, with the answer for its own address.

    Raises:
        AssertionError: When one is not.
    """
    lines = read_lines(output)
    assert [line["row"] for line in lines] == list(range(rows))
    assert [line["id"] for line in lines] == [f"r{row}" for row in range(rows)]
    for line in lines:
        for source in (line.get("location_data") or {}).values():
            if source["is_success"]:
                number = line["row"] % (distinct or rows)
                assert source["formatted_address"].startswith(f"{number} ")
    return lines


def leftover_parts(folder: Path) -> list[Path]:
    """Files that are only there while something is being written."""
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]
