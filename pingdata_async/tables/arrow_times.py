"""Arrow's dates, times and durations as Python's, whatever their unit; needs pyarrow.

Arrow itself gives nanoseconds only where pandas is there, puts years beyond Python's in texts that
are no dates, and refuses a time zone that the machine does not know. Here such a value is a text in
ISO 8601 form, and everything else Python's own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pyarrow as pa

T = TypeVar("T", dt.time, dt.datetime)

_PER_SECOND: Final = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - of times without a zone as well
_CALENDAR_YEARS: Final = 400
_CALENDAR_S: Final = 146_097 * 86_400  # in as many years it comes back to where it was
_DAY_S: Final = 86_400
_NARROW: Final = 32  # bits of Arrow's shorter ones


def is_time(kind: Any) -> bool:
    """Whether values of a type are dates, times of day, moments or durations."""
    types = pa.types
    return bool(
        types.is_date(kind)
        or types.is_time(kind)
        or types.is_timestamp(kind)
        or types.is_duration(kind)
    )


def time_values(array: Any) -> list[Any]:
    """The values of an array of such a type, None for null."""
    kind = array.type
    try:
        # Not as nanoseconds: with pandas these would become objects of its own.
        return list(array.cast(_in_microseconds(kind)).to_pylist())
    except (ValueError, OverflowError, LookupError):  # Arrow's own errors are ValueErrors
        pass
    convert = _conversion(kind)
    integers = array.cast(pa.int32() if kind.bit_width == _NARROW else pa.int64())
    return [None if value is None else convert(value) for value in integers.to_pylist()]


def _in_microseconds(kind: Any) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_time(kind):
        return pa.time64("us")
    return pa.duration("us") if pa.types.is_duration(kind) else kind


def _conversion(kind: Any) -> Callable[[int], Any]:
    """What makes a value of such a type of the integer that Arrow keeps."""
    if pa.types.is_date32(kind):
        return lambda days: _date(days * _DAY_S)
    if pa.types.is_date64(kind):
        return lambda milliseconds: _date(milliseconds // 1000)
    per_second = _PER_SECOND[kind.unit]
    if pa.types.is_time(kind):
        return lambda value: _time(value, per_second)
    if pa.types.is_duration(kind):
        return lambda value: _duration(value, per_second)
    zone = _zone(kind.tz)
    return lambda value: _moment(value, per_second, zone)


def _date(seconds: int) -> dt.date | str:
    try:
        return (_EPOCH + dt.timedelta(seconds=seconds)).date()
    except OverflowError:
        return _text_of_any_year(seconds)[: -len("T00:00:00")]


def _time(value: int, per_second: int) -> dt.time | str:
    seconds, rest = divmod(value, per_second)
    if not 0 <= seconds < _DAY_S:
        return _text_of_seconds(seconds) + _fraction(rest, per_second)
    moment = _EPOCH + dt.timedelta(seconds=seconds)
    return _with_rest(moment, rest, per_second, dt.datetime.time)


def _duration(value: int, per_second: int) -> dt.timedelta | str:
    seconds, rest = divmod(abs(value), per_second)
    microseconds, beyond = divmod(rest * 1_000_000, per_second)
    if not beyond:
        try:
            duration = dt.timedelta(seconds=seconds, microseconds=microseconds)
        except OverflowError:
            pass
        else:
            return -duration if value < 0 else duration
    sign = "-" if value < 0 else ""
    return sign + _text_of_seconds(seconds) + _fraction(rest, per_second)


def _moment(value: int, per_second: int, zone: dt.tzinfo | None) -> dt.datetime | str:
    seconds, rest = divmod(value, per_second)
    try:
        moment = _EPOCH + dt.timedelta(seconds=seconds)
        if zone is not None:
            moment = moment.replace(tzinfo=dt.UTC).astimezone(zone)
    except OverflowError:
        utc = "" if zone is None else "+00:00"
        return _text_of_any_year(seconds) + _fraction(rest, per_second) + utc
    return _with_rest(moment, rest, per_second, lambda exact: exact)


def _with_rest(
    moment: dt.datetime, rest: int, per_second: int, wanted: Callable[[dt.datetime], T]
) -> T | str:
    """A part of a moment, or its text where the rest of the second is none of microseconds."""
    microseconds, beyond = divmod(rest * 1_000_000, per_second)
    if not beyond:
        return wanted(moment.replace(microsecond=microseconds))
    text = wanted(moment).isoformat()
    # Before the zone, if there is one.
    at = text.index(f"{moment:%H:%M:%S}") + len("00:00:00")
    return text[:at] + _fraction(rest, per_second) + text[at:]


def _zone(name: str | None) -> dt.tzinfo | None:
    if name is None:
        return None
    try:
        found: dt.tzinfo = pa.lib.string_to_tzinfo(name)
    except (ValueError, LookupError):
        return dt.UTC  # in which the value is kept, and where it is certain
    return found


def _text_of_any_year(seconds: int) -> str:
    """A moment in seconds since 1970, with as many digits for the year as it takes."""
    calendars, within = divmod(seconds, _CALENDAR_S)
    moment = _EPOCH + dt.timedelta(seconds=within)
    year = moment.year + calendars * _CALENDAR_YEARS
    sign = "-" if year < 0 else ""
    return f"{sign}{abs(year):04d}{moment:-%m-%dT%H:%M:%S}"


def _text_of_seconds(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _fraction(rest: int, per_second: int) -> str:
    digits = len(str(per_second)) - 1
    return f".{rest:0{digits}d}" if rest else ""
