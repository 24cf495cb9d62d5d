"""What a reader gave, all of it together."""

from __future__ import annotations

import contextlib
import random
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pingdata_async.exceptions import InputError
from pingdata_async.tables.readers.base import InputReader
from pingdata_async.tables.readers.open import AnyInput, open_input
from pingdata_async.tables.rows import (
    ArrowRows,
    CellColumns,
    InputRows,
    JSONRows,
    ReadOptions,
    TextColumns,
)


class Given(NamedTuple):
    """An input, read to its end.

    Attributes:
        reader: What read it.
        locations: What is looked up.
        rows: The rows as they came.
        errors: By row, why it cannot be sent.
    """

    reader: InputReader
    locations: list[Any]
    rows: list[Any]
    errors: dict[int, str]


def read_all(source: AnyInput | Any, **options: Any) -> Given:
    locations: list[Any] = []
    rows: list[Any] = []
    errors: dict[int, str] = {}
    with open_input(source, options=ReadOptions(**options)) as reader:
        for batch in reader:
            errors |= {len(rows) + place: error for place, error in batch.errors.items()}
            locations += [batch.locations[place] for place in range(len(batch.locations))]
            rows += rows_of(batch.input_rows)
            assert len(rows) == len(locations)
    return Given(reader, locations, rows, errors)


def rows_of(input_rows: InputRows) -> Sequence[Any]:
    if isinstance(input_rows, TextColumns | CellColumns):
        return [list(row) for row in zip(*input_rows.columns, strict=True)]
    if isinstance(input_rows, JSONRows):
        return input_rows.rows
    assert isinstance(input_rows, ArrowRows)
    with pa.ipc.open_stream(input_rows.stream) as reader:
        return [row for batch in reader for row in batch.to_pylist()]


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@contextlib.contextmanager
def parts_of(path: Path) -> Iterator[dict[str, bytes]]:
    """The parts of a workbook, which are written back as they are changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    yield parts
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)


def check_damage_is_one_line(whole: Path, others: Sequence[bytes], *, least: int) -> None:
    """Cut anywhere and flipped anywhere, a file is read or refused in one line."""
    content = whole.read_bytes()
    dice = random.Random(3)
    spoilt = [content[: dice.randrange(4, len(content))] for _ in range(20)]
    for _ in range(60):
        place = dice.randrange(4, len(content))
        spoilt.append(content[:place] + bytes([dice.randrange(256)]) + content[place + 1 :])
    told = []
    for each in (*spoilt, *others):
        whole.write_bytes(each)
        try:
            read_all(whole)
        except InputError as error:
            told.append(str(error))
    assert len(told) > least
    assert all(text.startswith(str(whole)) and "\n" not in text for text in told)
