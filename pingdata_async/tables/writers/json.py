"""JSON lines of outcomes and of failures; GeoJSON (RFC 7946), and the point of a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, BinaryIO, Final

import msgspec

from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.tables.formats import FAILURE_NOTES
from pingdata_async.tables.schema.types import (
    UNREADABLE,
    Column,
    ColumnType,
    Values,
    text_of_cell,
    unique_names,
)
from pingdata_async.tables.writers.base import Point, TableRows, TableWriter

_encoder = msgspec.json.Encoder()
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Line(msgspec.Struct, omit_defaults=True):  # the order is that of the line
    id: str | None
    row: int
    status: RowStatus
    location_data: msgspec.Raw
    reason: Reason | None = None
    error: str | None = None
    reused: Mapping[str, str] | None = None
    input: Mapping[str, object] | None = None


def encode_lines(
    results: Sequence[EnhancedLocation],
    inputs: Sequence[Mapping[str, object] | None] | None = None,
) -> bytes:
    """A line for each outcome; each source's object stays as the API sent it.

    `inputs` holds cells of each row by their header; None if they are not wanted.
    """
    return _encoder.encode_lines(
        [
            _Line(
                result.id,
                result.row,
                result.status,
                result.data,
                result.reason,
                result.error,
                result.reused,
                cells,
            )
            for result, cells in zip(results, inputs or repeat(None), strict=False)
        ]
    )


class RowNote(msgspec.Struct, frozen=True):
    """What a line says of a row that is not ok."""

    status: RowStatus
    reason: Reason
    error: str


def frame_lines(
    ids: Sequence[str | None],
    rows: Sequence[int],
    answers: Sequence[bytes | memoryview],
    notes: Mapping[int, RowNote],
) -> list[bytes | memoryview]:
    """The same lines in pieces, with the answers between them as they are, without being copied.

    Args:
        ids: The id of each row; None if it has none.
        rows: Their numbers.
        answers: The API's object for each.
        notes: Notes on the rows that are not ok, by place.

    Returns:
        Pieces to write one behind the other. Those with even numbers end a line and begin the next
            one.
    """
    heads = [
        f'}}\n{{"id":{shown_id},"row":{row},"status":"ok","location_data":'.encode()
        for shown_id, row in zip(_as_json(ids), rows, strict=True)
    ]
    pieces: list[bytes | memoryview] = [_LINE_END] * (2 * len(heads) + 1)
    pieces[0:-1:2] = heads
    pieces[1::2] = answers
    pieces[0] = heads[0].removeprefix(_LINE_END)
    for place, note in notes.items():
        begin, end = bytes(pieces[2 * place]), bytes(pieces[2 * place + 2])
        pieces[2 * place] = b'%b"%b","location_data":' % (
            begin.removesuffix(b'"ok","location_data":'),
            note.status.encode(),
        )
        pieces[2 * place + 2] = b',"reason":%b,"error":%b%b' % (
            _encoder.encode(note.reason),
            _encoder.encode(note.error),
            end,
        )
    return pieces


_LINE_END = b"}\n"


def _as_json(ids: Sequence[str | None]) -> list[str]:
    together = "".join(filter(None, ids))
    is_plain = together.isprintable() and '"' not in together and "\\" not in together
    if is_plain and None not in ids:
        return [f'"{shown_id}"' for shown_id in ids]
    return [_encoder.encode(shown_id).decode() for shown_id in ids]


def insert_lines(pieces: list[bytes | memoryview], place: int, lines: bytes) -> None:
    """Insert whole lines before that of a row, or behind the last one, into framed lines."""
    piece = bytes(pieces[2 * place])
    at = piece.index(b"\n") + 1 if place else 0
    pieces[2 * place] = piece[:at] + lines + piece[at:]


def encode_failures(results: Sequence[EnhancedLocation], given: Mapping[int, bytes]) -> bytes:
    """A line for each row without an answer, which is itself a valid input.

    `given` holds each of these rows as it was given, by number: a JSON object with the user's own
    id.
    """
    lines: list[dict[str, object]] = []
    for result in results:
        fields: dict[str, object] = {
            name: value
            for name, value in _fields.decode(given[result.row]).items()
            if name not in FAILURE_NOTES  # those of an earlier file of failures
        }
        fields |= {"row": result.row, "reason": result.reason, "error": result.error}
        lines.append(fields)
    return _encoder.encode_lines(lines)


def json_values(values: Values, column: Column) -> Values:
    """Values that can be encoded as JSON; those that it has no form for become text."""
    if column.arrow_field is not None:
        from pingdata_async.tables.schema.arrow import python_values  # noqa: PLC0415 - optional

        values = python_values(values, column.type)
    if column.type is ColumnType.DURATION:
        return [None if value is None else text_of_cell(value) for value in values]
    if column.type is ColumnType.NUMBER and not math.isfinite(sum(filter(None, values))):
        # JSON has no word for what is not a number; a text is better than to lose it.
        return [value if value is None or math.isfinite(value) else str(value) for value in values]
    return values


# -- The point of a row -------------------------------------------------------------------------

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
    """The coordinates of each row, from the first source that has any; None for rows without.

    A source has them if they are numbers (or texts of numbers) in the range of latitude and
    longitude, in an answer that is not said to be a failure. Exactly 0, 0 is what geocoders say for
    "nowhere". How sure a source is does not count, as each has a measure of its own. Geocoders come
    before other sources, which have their coordinates from one of them.

    Args:
        results: The rows.
        geocode_sources: The sources to take coordinates from, best first; if empty, geocoders and
            then the rest, in the order of `sources`.
        sources: The requested sources, in order.

    Returns:
        Longitude and latitude.
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


# -- GeoJSON ------------------------------------------------------------------------------------

_BEGIN: Final = b'{"type":"FeatureCollection","features":['
_END: Final = b"\n]}\n"


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
        file: The output.
        columns: The columns.
        is_collection: Whether the features are one JSON value, as most programs open it, instead of
            a line each.
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
