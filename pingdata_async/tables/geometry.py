"""Where the rows are, by the answers (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pingdata_async.models import EnhancedLocation
from pingdata_async.tables.kinds import UNREADABLE

Point = tuple[float, float]
"""Longitude and latitude in degrees (WGS 84), in the order of GeoJSON."""

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
