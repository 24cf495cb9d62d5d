"""What a reader gave, all of it together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pingdata_async.tables.input_reader import InputReader
from pingdata_async.tables.inputs import (
    ArrowRows,
    CellColumns,
    JSONRows,
    Originals,
    ReadOptions,
    TextColumns,
)
from pingdata_async.tables.readers import AnyInput, open_input


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
            rows += rows_of(batch.originals)
            assert len(rows) == len(locations)
    return Given(reader, locations, rows, errors)


def rows_of(originals: Originals) -> Sequence[Any]:
    if isinstance(originals, TextColumns | CellColumns):
        return [list(row) for row in zip(*originals.columns, strict=True)]
    if isinstance(originals, JSONRows):
        return originals.rows
    assert isinstance(originals, ArrowRows)
    with pa.ipc.open_stream(originals.stream) as reader:
        return [row for batch in reader for row in batch.to_pylist()]


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
