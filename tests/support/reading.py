"""What a reader gave, all of it together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

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
