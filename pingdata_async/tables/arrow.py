"""Arrow tables to what the other formats take, and back; needs pyarrow.

Only what has made sure that pyarrow is there imports this module.
"""

from __future__ import annotations

import base64
import decimal
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from pingdata_async.tables.arrow_times import is_time, time_values
from pingdata_async.tables.kinds import text_of_cell
from pingdata_async.tables.schema import FlatColumn, Kind, Values

_TYPES: Final[dict[Kind, pa.DataType]] = {
    # Some readers of Parquet cannot open a column of Arrow's type for nothing.
    Kind.NOTHING: pa.string(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.TEXT: pa.string(),
    Kind.DATE: pa.date32(),
    Kind.DATETIME: pa.timestamp("us"),
    Kind.TIME: pa.time64("us"),
    Kind.DURATION: pa.duration("us"),
}
_KINDS: Final[tuple[tuple[Callable[[Any], bool], Kind], ...]] = (
    (pa.types.is_null, Kind.NOTHING),
    (pa.types.is_boolean, Kind.BOOLEAN),
    (pa.types.is_integer, Kind.INTEGER),
    (pa.types.is_floating, Kind.NUMBER),
    (pa.types.is_date, Kind.DATE),
    (lambda kind: pa.types.is_timestamp(kind) and kind.tz is None, Kind.DATETIME),
    (pa.types.is_time, Kind.TIME),
    (pa.types.is_duration, Kind.DURATION),
)
_TIMES_WITHIN: Final = re.compile("timestamp|date|time|duration")  # in a type, as Arrow shows it


# -- Streams --------------------------------------------------------------------------------


def read_stream(stream: bytes) -> pa.Table:
    """The rows of an Arrow IPC stream."""
    with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
        return reader.read_all()


def write_stream(table: pa.Table) -> bytes:
    """An Arrow IPC stream of some rows."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def columns_of(schema: pa.Schema) -> list[FlatColumn]:
    """The columns of a table, and what they are without Arrow."""
    return [FlatColumn(field.name, _kind_of(field.type), field) for field in schema]


def joined_tables(streams: Sequence[bytes]) -> bytes:
    """One stream of several of the same columns."""
    return write_stream(pa.concat_tables(map(read_stream, streams)))


# -- Values ---------------------------------------------------------------------------------


def field_of(column: FlatColumn, name: str) -> pa.Field[Any]:
    """What a column is in Arrow, under a name that may be another one."""
    field: pa.Field[Any] = column.arrow_field or pa.field(name, _TYPES[column.kind])
    return field.with_name(name)


def arrow_values(values: Values, column: FlatColumn) -> Any:
    """A column's values as an Arrow array."""
    if column.arrow_field is not None:
        return values
    return pa.array(values, _TYPES[column.kind])


def python_values(array: Any, kind: Kind) -> Values:
    """An Arrow array's values as Python objects of a kind.

    In columns of texts, times with a zone are in ISO 8601 form, bytes in base64, and lists and
    structures JSON. A time that Python cannot hold to the nanosecond, or at all, is a text too.
    """
    array = _plain(array)
    values = objects_in(array)
    if kind is Kind.TEXT and not (
        pa.types.is_string(array.type)
        or pa.types.is_large_string(array.type)
        or pa.types.is_string_view(array.type)
    ):
        return [None if value is None else text_of_value(value) for value in values]
    return values


def objects_in(array: Any) -> Values:
    """An array's values as Python objects, with Python's own times, also within lists and such."""
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
    # Lists of any kind, and maps, which are lists of pairs.
    read = _pairs_in if types.is_map(kind) else objects_in
    return [list(read(value.values)) if value.is_valid else None for value in array]


def _pairs_in(entries: Any) -> Values:
    return list(zip(*map(objects_in, entries.flatten()), strict=True))


def _within_union(value: Any) -> Any:
    member = value.value
    return None if member is None else objects_in(pa.array([member], member.type))[0]


def _kind_of(kind: pa.DataType) -> Kind:
    if isinstance(kind, pa.BaseExtensionType):
        return _kind_of(kind.storage_type)
    if isinstance(kind, pa.DictionaryType | pa.RunEndEncodedType):
        return _kind_of(kind.value_type)
    return next((kind_ for is_such, kind_ in _KINDS if is_such(kind)), Kind.TEXT)


def _plain(array: Any) -> Any:
    """The array without anything around its values."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(array.cast(kind.storage_type))
    if isinstance(kind, pa.DictionaryType):
        return _plain(array.cast(kind.value_type))
    if isinstance(kind, pa.RunEndEncodedType):
        import pyarrow.compute as pc  # noqa: PLC0415 - 14 MB, for a type that hardly anybody has

        return _plain(pc.call_function("run_end_decode", [array]))
    return array


def text_of_value(value: Any) -> str:
    """A value that is not null, as text; of what is nested, JSON."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | dict):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return format(value, "f") if isinstance(value, decimal.Decimal) else text_of_cell(value)
