"""Flat tables to GeoJSON (RFC 7946), and the point of a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO, Final

import msgspec

from pingdata_async.models import EnhancedLocation
from pingdata_async.tables.schema.types import UNREADABLE, Column, unique_names
from pingdata_async.tables.writers.base import Point, TableRows, TableWriter
from pingdata_async.tables.writers.jsonl import json_values

_MAX_LATITUDE: Final = 90.0
_MAX_LONGITUDE: Final = 180.0


class _Fields(msgspec.Struct, gc=False):
    latitude: Any = None
    longitude: Any = None
    is_success: Any = None
    location_type: Any = None
    precision: Any = None

    @property
    def is_geocoder(self) -> bool:
        """Whether it says how it found the place, as only geocoders do."""
        return self.location_type is not None or self.precision is not None


_decode_fields: Final = msgspec.json.Decoder(_Fields).decode
_decode_all: Final = msgspec.json.Decoder(dict[str, _Fields]).decode
_decode_sources: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def points(
    results: Iterable[EnhancedLocation], geocode_sources: Sequence[str], sources: Sequence[str]
) -> list[Point | None]:
    """The coordinates of each row, from the first source that has any.

    That a source has them means numbers (or texts of numbers) in the range of latitude and
    longitude, and an answer that is not said to be a failure. Exactly 0, 0 is what geocoders say
    for "nowhere", and is none. How sure a source is does not count: each has a measure of its own.
    Geocoders go before other sources, which have their coordinates from one of them.

    Args:
        results: The rows.
        geocode_sources: The codes of the sources to take them from, the best first; where there
            are none, geocoders and then the rest, in the order of `sources`.
        sources: The codes of the sources that were asked, in their order.

    Returns:
        Longitude and latitude; None for rows without.
    """
    order = [source.casefold() for source in geocode_sources or sources]
    return [_point(result.data, order, is_open=not geocode_sources) for result in results]


def _point(data: msgspec.Raw, order: Sequence[str], *, is_open: bool) -> Point | None:
    answers = {source.casefold(): fields for source, fields in _answers(data).items()}
    found = [answers.pop(source) for source in order if source in answers]
    if is_open:
        found += answers.values()
        found.sort(key=lambda fields: not fields.is_geocoder)  # those alike stay in their order
    return next(filter(None, map(_of, found)), None)


def _answers(data: msgspec.Raw) -> Mapping[str, _Fields]:
    try:
        return _decode_all(data)
    except UNREADABLE:
        pass
    # One of them may be no object: the others count all the same.
    answers = {}
    try:
        raws = _decode_sources(data)
    except UNREADABLE:
        return {}
    for source, raw in raws.items():
        try:
            answers[source] = _decode_fields(raw)
        except UNREADABLE:
            continue
    return answers


def _of(fields: _Fields) -> Point | None:
    if fields.is_success is False:
        return None
    latitude, longitude = _degrees(fields.latitude), _degrees(fields.longitude)
    # A comparison with what is not a number is never true.
    if latitude is None or longitude is None or not (latitude or longitude):
        return None
    if abs(latitude) <= _MAX_LATITUDE and abs(longitude) <= _MAX_LONGITUDE:
        return longitude, latitude
    return None


def _degrees(value: Any) -> float | None:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


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


class GeoJSONWriter(TableWriter):
    """Writes a flat table as features, with the columns as their properties.

    Args:
        file: Where to.
        columns: Its columns.
        is_collection: Whether the features are one JSON value, as most programs open it, instead
            of a line each.
    """

    def __init__(self, file: BinaryIO, columns: Sequence[Column], *, is_collection: bool) -> None:
        self._file = file
        self._is_collection = is_collection
        self._columns = columns
        self._names = unique_names([column.name for column in columns])
        self._rows = 0
        if is_collection:
            file.write(_BEGIN)

    def write(self, rows: TableRows) -> None:
        """Add some rows; see `TableWriter`."""
        begin = self._rows
        self._rows += rows.count
        columns = list(map(json_values, rows.values, self._columns))
        properties = zip(*columns, strict=True) if columns else [()] * rows.count
        points = rows.points or [None] * rows.count
        ids: Sequence[str | int | None] = rows.ids or range(begin, self._rows)
        features = [
            _Feature(
                msgspec.UNSET if id_ is None else id_,
                _Geometry(point) if point else None,
                dict(zip(self._names, row, strict=True)),
            )
            for id_, point, row in zip(ids, points, properties, strict=True)
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
