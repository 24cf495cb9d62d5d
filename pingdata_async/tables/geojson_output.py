"""Flat tables to GeoJSON (RFC 7946): a collection of features, or a feature a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO, Final

import msgspec

from pingdata_async.tables.geometry import Point
from pingdata_async.tables.json_values import json_values
from pingdata_async.tables.schema import FlatColumn, Values, unique_names

_BEGIN: Final = b'{"type":"FeatureCollection","features":['
_END: Final = b"\n]}\n"

_encoder = msgspec.json.Encoder()


class _Geometry(msgspec.Struct):
    coordinates: Point
    type: str = "Point"


class _Feature(msgspec.Struct):
    id: str | int | msgspec.UnsetType
    geometry: _Geometry | None
    properties: dict[str, Any]
    type: str = "Feature"


class GeoJSONWriter:
    """Writes a flat table as features, with the columns as their properties.

    Args:
        file: Where to.
        columns: Its columns.
        is_collection: Whether the features are one JSON value, as most programs open it, instead
            of a line each.
    """

    def __init__(
        self, file: BinaryIO, columns: Sequence[FlatColumn], *, is_collection: bool
    ) -> None:
        self._file = file
        self._is_collection = is_collection
        self._columns = columns
        self._names = unique_names([column.name for column in columns])
        self._rows = 0
        if is_collection:
            file.write(_BEGIN)

    @property
    def notes(self) -> list[str]:
        """Everything can be written."""
        return []

    def write(
        self,
        values: Sequence[Values],
        rows: int,
        points: Sequence[Point | None] | None = None,
        ids: Sequence[str | None] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Add some rows; see `TableWriter`."""
        del numbers  # of the whole input
        begin = self._rows
        self._rows += rows
        columns = list(map(json_values, values, self._columns))
        properties = zip(*columns, strict=True) if columns else [()] * rows
        places = points or [None] * rows
        shown_ids: Sequence[str | int | None] = ids or range(begin, begin + rows)
        features = [
            _Feature(
                msgspec.UNSET if id_ is None else id_,
                _Geometry(point) if point else None,
                dict(zip(self._names, row, strict=True)),
            )
            for id_, point, row in zip(shown_ids, places, properties, strict=True)
        ]
        if not self._is_collection:
            self._file.write(_encoder.encode_lines(features))
        elif features:
            self._file.write(b"," if begin else b"")
            self._file.write(b"\n" + b",\n".join(map(_encoder.encode, features)))

    def close(self) -> None:
        """End the collection."""
        if self._is_collection:
            self._file.write(_END)

    def abandon(self) -> None:
        """Nothing is held that is not written."""
