"""Columns and values to Arrow and back; needs pyarrow.

Only code that has made sure that pyarrow is installed imports this module.

pyarrow itself reads nanoseconds only with pandas, writes years beyond Python's as something other
than dates, and refuses unknown time zones. Here such a value becomes text in ISO 8601 format, and
any other a Python object.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa

from pingdata_async.tables.rows import ArrowRows, Batch, read_stream
from pingdata_async.tables.schema.types import Column, ColumnType, Values, text_of_cell

T = TypeVar("T", dt.time, dt.datetime)

_PER_SECOND: Final = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - of times without a zone as well
_CALENDAR_YEARS: Final = 400
_CALENDAR_S: Final = 146_097 * 86_400  # the calendar repeats after as many years
_DAY_S: Final = 86_400
_NARROW: Final = 32  # bits of the shorter types


def is_time(kind: Any) -> bool:
    """Whether a type is one of dates, times of day, timestamps or durations."""
    types = pa.types
    return bool(
        types.is_date(kind)
        or types.is_time(kind)
        or types.is_timestamp(kind)
        or types.is_duration(kind)
    )


def time_values(array: Any) -> list[Any]:
    """The values of an array of such a type; null is None."""
    kind = array.type
    try:
        # Not as nanoseconds: with pandas these become objects of its own.
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
    """The function that converts the integers of such a type."""
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
    """Part of a moment; its text if the rest of the second is not whole microseconds."""
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
        return dt.UTC  # in which the value is stored
    return found


def _text_of_any_year(seconds: int) -> str:
    """A moment in seconds since 1970, with as many digits for the year as needed."""
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


_TYPES: Final[dict[ColumnType, pa.DataType]] = {
    # Some readers of Parquet cannot open a column of the null type.
    ColumnType.NOTHING: pa.string(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.NUMBER: pa.float64(),
    ColumnType.TEXT: pa.string(),
    ColumnType.DATE: pa.date32(),
    ColumnType.DATETIME: pa.timestamp("us"),
    ColumnType.TIME: pa.time64("us"),
    ColumnType.DURATION: pa.duration("us"),
}
_COLUMN_TYPES: Final[tuple[tuple[Callable[[Any], bool], ColumnType], ...]] = (
    (pa.types.is_null, ColumnType.NOTHING),
    (pa.types.is_boolean, ColumnType.BOOLEAN),
    (pa.types.is_integer, ColumnType.INTEGER),
    (pa.types.is_floating, ColumnType.NUMBER),
    (pa.types.is_date, ColumnType.DATE),
    (lambda kind: pa.types.is_timestamp(kind) and kind.tz is None, ColumnType.DATETIME),
    (pa.types.is_time, ColumnType.TIME),
    (pa.types.is_duration, ColumnType.DURATION),
)
_TIMES_WITHIN: Final = re.compile("timestamp|date|time|duration")  # in the text of a type


def columns_of(schema: pa.Schema) -> list[Column]:
    """The columns of a schema."""
    return [Column(field.name, _column_type(field.type), field) for field in schema]


def field_of(column: Column, name: str) -> pa.Field[Any]:
    """The Arrow field of a column, under another name."""
    field: pa.Field[Any] = column.arrow_field or pa.field(name, _TYPES[column.type])
    return field.with_name(name)


def python_values(array: Any, type_: ColumnType) -> Values:
    """The values of an Arrow array as Python objects of a type.

    In text columns, times with a zone are in ISO 8601 format, bytes in base64, and lists and
    structs in JSON. A time that Python cannot represent exactly is text as well.
    """
    array = _plain(array)
    values = objects_in(array)
    if type_ is ColumnType.TEXT and not (
        pa.types.is_string(array.type)
        or pa.types.is_large_string(array.type)
        or pa.types.is_string_view(array.type)
    ):
        return [None if value is None else text_of_value(value) for value in values]
    return values


def objects_in(array: Any) -> Values:
    """The values of an array as Python objects, nested times included."""
    array = _plain(array)
    types, kind = pa.types, array.type
    if is_time(kind):
        return time_values(array)
    if not types.is_nested(kind) or not _TIMES_WITHIN.search(str(kind)):
        values: Values = array.to_pylist()
        return values
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in objects_in(chunk)]
    if types.is_struct(kind):
        names = [field.name for field in kind]
        rows = zip(*map(objects_in, array.flatten()), strict=True)
        is_there = array.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if there else None
            for row, there in zip(rows, is_there, strict=True)
        ]
    if types.is_union(kind):
        return [_within_union(value) for value in array]
    # Lists, and maps, which are lists of pairs.
    read = _pairs_in if types.is_map(kind) else objects_in
    return [list(read(value.values)) if value.is_valid else None for value in array]


def _pairs_in(entries: Any) -> Values:
    return list(zip(*map(objects_in, entries.flatten()), strict=True))


def _within_union(value: Any) -> Any:
    member = value.value
    return None if member is None else objects_in(pa.array([member], member.type))[0]


def _column_type(kind: pa.DataType) -> ColumnType:
    if isinstance(kind, pa.BaseExtensionType):
        return _column_type(kind.storage_type)
    if isinstance(kind, pa.DictionaryType | pa.RunEndEncodedType):
        return _column_type(kind.value_type)
    return next((type_ for is_such, type_ in _COLUMN_TYPES if is_such(kind)), ColumnType.TEXT)


def _plain(array: Any) -> Any:
    """The array without extension types and encodings."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(array.cast(kind.storage_type))
    if isinstance(kind, pa.DictionaryType):
        return _plain(array.cast(kind.value_type))
    if isinstance(kind, pa.RunEndEncodedType):
        import pyarrow.compute as pc  # noqa: PLC0415 - 14 MB, for a rare type

        return _plain(pc.call_function("run_end_decode", [array]))
    return array


def text_of_value(value: Any) -> str:
    """A value other than null as text; lists and structs as JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | dict):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return format(value, "f") if isinstance(value, decimal.Decimal) else text_of_cell(value)


def put_beside(
    table: Any, batches: Iterable[Batch], columns: Sequence[Column], values: Sequence[Values]
) -> Any:
    """A data frame with further columns behind its own, of the same class.

    Args:
        table: A pyarrow Table or RecordBatch, or a pandas or polars DataFrame; any other object
            with the Arrow PyCapsule interface becomes a pyarrow Table.
        batches: The rows that were read from it, as it may be used up.
        columns: The new columns; no column of the table has their names.
        values: Their values, in the order of the rows.
    """
    fields = [field_of(column, column.name) for column in columns]
    arrays = list(map(pa.array, values, (field.type for field in fields)))
    new = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    if isinstance(table, pa.RecordBatch):
        return pa.RecordBatch.from_arrays(
            [*table.columns, *arrays], schema=_extended(table.schema, fields)
        )
    library = type(table).__module__.partition(".")[0]
    if library == "polars" and hasattr(table, "hstack"):
        import polars as pl  # noqa: PLC0415 - the caller has it

        frame: Any = pl.from_arrow(new)
        return table.hstack(frame.get_columns())
    if library == "pandas" and hasattr(table, "index"):
        return _beside_pandas(table, new)
    if not isinstance(table, pa.Table):
        table = _read_again(batches)
    return pa.Table.from_arrays(
        [*table.columns, *new.columns], schema=_extended(table.schema, fields)
    )


def _extended(schema: pa.Schema, fields: Iterable[Any]) -> pa.Schema:
    metadata: Any = schema.metadata
    return pa.schema([*schema, *fields], metadata=metadata)


def _read_again(batches: Iterable[Batch]) -> pa.Table:
    kept = [batch.input_rows for batch in batches]
    streams = [rows.stream for rows in kept if isinstance(rows, ArrowRows)]
    return pa.concat_tables(map(read_stream, streams)) if streams else pa.table({})


def _beside_pandas(table: Any, new: pa.Table) -> Any:
    import pandas as pd  # noqa: PLC0415 - the caller has it

    # Otherwise, integers and booleans would become floats and objects beside nulls.
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame = new.to_pandas(types_mapper=nullable.get)
    frame.index = table.index
    return pd.concat([table, frame], axis=1)
