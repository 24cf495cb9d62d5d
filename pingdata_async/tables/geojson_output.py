"""Flat tables to newline-delimited GeoJSON: a feature (RFC 7946) a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from pingdata_async.tables.geometry import Point
from pingdata_async.tables.json_values import json_values
from pingdata_async.tables.schema import FlatColumn, Values, unique_names

_encoder = msgspec.json.Encoder()


class _Geometry(msgspec.Struct):
    coordinates: Point
    type: str = "Point"


class _Feature(msgspec.Struct):
    id: str | int
    geometry: _Geometry | None
    properties: dict[str, Any]
    type: str = "Feature"


class GeoJSONWriter:
    """Writes a flat table as features, with the columns as their properties.

    Args:
        file: Where to.
        columns: Its columns.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[FlatColumn]) -> None:
        self._file = file
        self._columns = columns
        self._names = unique_names([column.name for column in columns])
        self._rows = 0

    @property
    def notes(self) -> list[str]:
        """Everything can be written."""
        return []

    def write(
        self,
        values: Sequence[Values],
        rows: int,
        points: Sequence[Point | None] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Add some rows; see `TableWriter`."""
        numbers = range(self._rows, self._rows + rows)
        self._rows += rows
        columns = list(map(json_values, values, self._columns))
        properties = zip(*columns, strict=True) if columns else [()] * rows
        places = points or [None] * rows
        shown_ids: Sequence[str | int] = ids or numbers
        features = [
            _Feature(
                id_, _Geometry(point) if point else None, dict(zip(self._names, row, strict=True))
            )
            for id_, point, row in zip(shown_ids, places, properties, strict=True)
        ]
        self._file.write(_encoder.encode_lines(features))

    def close(self) -> None:
        """Nothing is kept back."""

    def abandon(self) -> None:
        """Likewise."""
