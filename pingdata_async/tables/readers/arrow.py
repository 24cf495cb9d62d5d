"""Record batches of Arrow, and data frames, to batches of rows, as a stream.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pingdata_async.exceptions import ConfigurationError, InputError
from pingdata_async.locations.normalize import BATCH_ROWS
from pingdata_async.tables.readers.base import IN_MEMORY, InputReader, MemoryHash
from pingdata_async.tables.rows import ArrowRows, Batch, ReadOptions, write_stream
from pingdata_async.tables.schema.types import whole_number

if TYPE_CHECKING:
    import pyarrow as pa


INSTALL_HINT = 'needs pyarrow: pip install "pingdata-async[parquet]"'

_TEXTS_OR_NUMBERS = (str, int, float, type(None))
_AS_THEY_ARE = {str, int, float, bool, type(None), dict, list}


def load_pyarrow(what: str) -> Any:
    """The package, loaded only where it is used.

    Args:
        what: What it is needed for, at the beginning of a message.

    Raises:
        ConfigurationError: When it is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional, and 100 ms to load
    except ImportError as error:
        raise ConfigurationError(f"{what} {INSTALL_HINT}") from error
    return pa


class ArrowReader(InputReader):
    """What the readers of Arrow's record batches have in common; see `InputReader`."""

    def _take_up(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._map_headers(tuple(schema.names))

    def _pieces(self, batches: Iterable[pa.RecordBatch], rows_at_once: int) -> Iterator[Batch]:
        """Batches of at most as many rows each."""
        used = self._used_places()
        row = 1
        for batch in batches:
            for begin in range(0, batch.num_rows, rows_at_once):
                piece = compacted(batch.slice(begin, rows_at_once))
                try:
                    columns = [
                        python_values(piece.column(place)) if place in used else ()
                        for place in range(piece.num_columns)
                    ]
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{self.name}, rows {row} to {row + piece.num_rows - 1}: a text is not "
                        f"UTF-8 ({error.reason})"
                    ) from error
                located = self._located(
                    columns, are_texts=False, unused=partial(_texts_or_numbers, piece)
                )
                yield Batch(located, ArrowRows(write_stream(piece)))
                row += piece.num_rows
        if row == 1:
            yield self._no_rows()

    def _no_rows(self) -> Batch:
        """A table without rows has columns, and they have types."""
        import pyarrow as pa  # noqa: PLC0415 - optional

        nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
        located = self._located([()] * nothing.num_columns, are_texts=False)
        return Batch(located, ArrowRows(write_stream(nothing)))


def _texts_or_numbers(batch: pa.RecordBatch, place: int) -> Sequence[Any]:
    """A column that is not mapped; nothing where it holds something else."""
    try:
        values = python_values(batch.column(place))
    except UnicodeDecodeError:
        return ()
    return values if all(isinstance(value, _TEXTS_OR_NUMBERS) for value in values) else ()


def compacted(piece: pa.RecordBatch) -> pa.RecordBatch:
    """A piece of a record batch without what belongs to the other rows of it.

    Pieces share dictionaries and the texts of views, so that each would be written with all of
    them. The types stay what they are.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional

    columns: list[Any] = list(piece.columns)
    changed = False
    for place, column in enumerate(columns):
        if pa.types.is_dictionary(column.type) and len(column.dictionary) > len(column):
            columns[place] = _with_own_dictionary(column)
            changed = True
        elif _has_views(column.type):
            columns[place] = _with_own_texts(column)
            changed = True
    return pa.RecordBatch.from_arrays(columns, schema=piece.schema) if changed else piece


def _with_own_dictionary(column: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - optional
    from pyarrow import compute  # noqa: PLC0415 - optional

    # Sorted, so that categories which have an order keep it.
    used = column.indices.unique().drop_null().sort()
    values: Any = column.dictionary
    if _has_views(values.type):  # which cannot be taken
        values = pa.array([values[each].as_py() for each in used.to_pylist()], values.type)
    else:
        values = values.take(used)
    indices = compute.index_in(column.indices, value_set=used)
    return pa.DictionaryArray.from_arrays(
        indices.cast(column.type.index_type), values, ordered=column.type.ordered
    )


def _with_own_texts(column: Any) -> Any:
    """A column of views, or with views in it, over texts that are of these rows alone."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    plain = column.cast(_without_views(column.type))
    # Of what is nested, all is cast that the rows are a part of.
    return plain.take(pa.array(range(len(plain)), pa.int32())).cast(column.type)


def _has_views(kind: Any) -> bool:
    return "_view" in str(kind)


def _without_views(kind: Any) -> Any:
    """The same type, with texts behind each other instead of views."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    types = pa.types
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_list(kind):
        return pa.list_(_field_without_views(kind.value_field))
    if types.is_large_list(kind):
        return pa.large_list(_field_without_views(kind.value_field))
    if types.is_fixed_size_list(kind):
        return pa.list_(_field_without_views(kind.value_field), kind.list_size)
    if types.is_struct(kind):
        return pa.struct([_field_without_views(kind.field(n)) for n in range(kind.num_fields)])
    return kind


def _field_without_views(field: Any) -> Any:
    return field.with_type(_without_views(field.type))


# -- Dictionaries that are to be spread out ---------------------------------------------------


def spread_bytes(column: Any) -> int:
    """How large a column is with each text as often as it is there."""
    import pyarrow as pa  # noqa: PLC0415 - optional
    from pyarrow import compute  # noqa: PLC0415 - optional

    kind = column.type
    if pa.types.is_dictionary(kind) and _is_binary(kind.value_type):
        lengths = compute.binary_length(column.dictionary)
        total: int = compute.sum(lengths.take(column.indices).cast(pa.int64())).as_py() or 0
        return total + int(column.indices.nbytes)
    if pa.types.is_struct(kind):
        return sum(map(spread_bytes, column.flatten()))
    if pa.types.is_map(kind):  # a list of pairs
        column = column.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return spread_bytes(column.flatten()) + int(column.offsets.nbytes)
    return int(column.nbytes)


def in_types(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same rows, in the types of a schema that has no dictionaries for some of theirs."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    columns = [
        column
        if column.type == kind
        # What has views is not made of a dictionary right away.
        else column.cast(_without_views(kind)).cast(kind)
        for column, kind in zip(batch.columns, schema.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _is_binary(kind: Any) -> bool:
    import pyarrow as pa  # noqa: PLC0415 - optional

    types = pa.types
    return any(
        check(kind)
        for check in (
            types.is_string,
            types.is_binary,
            types.is_large_string,
            types.is_large_binary,
        )
    )


# -- Values ----------------------------------------------------------------------------------


def python_values(column: Any) -> Sequence[Any]:
    """A column's values as a location may have them: texts, numbers, booleans, JSON's own.

    Dates, times and decimals become texts, and whole decimals integers.

    Raises:
        UnicodeDecodeError: When a text is not UTF-8.
    """
    import pyarrow as pa  # noqa: PLC0415 - optional

    types = pa.types
    kind = column.type
    if types.is_dictionary(kind):
        words = python_values(column.dictionary)
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        return _as_texts(column)
    from pingdata_async.tables.schema.arrow import objects_in  # noqa: PLC0415 - optional

    values = objects_in(column)
    if types.is_map(kind):
        return [None if value is None else dict(value) for value in values]
    kinds = set(map(type, values))
    if kinds <= _AS_THEY_ARE:
        return values
    if kinds <= {bytes, type(None)}:
        return [None if value is None else value.decode() for value in values]
    return [_plain(value) for value in values]


def _as_texts(column: Any) -> Sequence[Any]:
    import pyarrow as pa  # noqa: PLC0415 - optional

    from pingdata_async.tables.schema.arrow import time_values  # noqa: PLC0415 - optional

    try:
        texts: list[Any] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:  # a time zone that this machine does not know
        return [None if value is None else str(value) for value in time_values(column)]
    return texts


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        is_whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if is_whole else format(value, "f")
    return value if type(value) in _AS_THEY_ARE else str(value)


def one_line(error: BaseException) -> str:
    """What an error of Arrow's, or of a library that hands over to it, says, in one line."""
    # pandas adds the column in which it was as a second argument.
    said = str(error) if isinstance(error, OSError) else "; ".join(map(str, error.args))
    return " ".join(said.split()) or type(error).__name__


def is_arrow_object(source: object) -> bool:
    """Whether an object gives its rows through the Arrow PyCapsule interface."""
    return hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__")


class ArrowObjectReader(ArrowReader):
    """Rows of an object with the Arrow PyCapsule interface; see `InputReader`.

    pandas, polars, pyarrow, DuckDB and others have it. pandas gives the index as a column as
    well, unless it only counts the rows: under its name, or `__index_level_0__`. A column of it
    that holds values of several kinds, as `read_excel()` makes them, is one of texts.

    Args:
        source: The object. A stream that can be read only once is used up.
        options: How it is to be understood.
    """

    def __init__(self, source: Any, options: ReadOptions) -> None:
        self._memory = MemoryHash()
        super().__init__(IN_MEMORY, self._memory, options)
        self._source = source

    def _batches(self) -> Iterator[Batch]:
        pa = load_pyarrow(f"a {type(self._source).__name__}")
        reader = self._opened(pa)
        self._take_up(reader.schema)
        try:
            for batch in self._pieces(reader, BATCH_ROWS):
                self._add_to_hash(batch)
                yield batch
        except pa.ArrowException as error:
            raise self._no_table(error) from error

    def _opened(self, pa: Any) -> Any:
        """The object's record batches."""
        try:
            if hasattr(self._source, "__arrow_c_stream__"):
                try:
                    return pa.RecordBatchReader.from_stream(self._source)
                except (pa.ArrowException, TypeError):
                    if not _is_pandas(self._source):
                        raise
                return pa.RecordBatchReader.from_stream(_with_texts(self._source))
            batch = pa.record_batch(self._source)
            return pa.RecordBatchReader.from_batches(batch.schema, [batch])
        # The library it is of raises what it likes: pandas a ValueError for equal headers.
        except Exception as error:
            raise self._no_table(error) from error

    def _no_table(self, error: Exception) -> InputError:
        return InputError(f"the {type(self._source).__name__} is no table: {one_line(error)}")

    def _add_to_hash(self, batch: Batch) -> None:
        rows = batch.input_rows
        assert isinstance(rows, ArrowRows)  # noqa: S101 - for type checkers
        self._memory.add(rows.stream)


# -- Columns of pandas that Arrow has no type for ---------------------------------------------


def _is_pandas(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "isetitem")


def _with_texts(frame: Any) -> Any:
    """The frame with texts in each column whose values are of no one type; itself unchanged."""
    frame = frame.copy(deep=False)
    for place in range(frame.shape[1]):
        texts = _texts_of(frame.iloc[:, place])
        if texts is not None:
            frame.isetitem(place, texts)
    if frame.index.nlevels == 1:
        texts = _texts_of(frame.index.to_series())
        if texts is not None:
            frame.index = type(frame.index)(texts, name=frame.index.name)
    return frame


def _texts_of(column: Any) -> list[str | None] | None:
    """The values of a pandas Series, each as text; None where Arrow takes them as they are."""
    import pyarrow as pa  # noqa: PLC0415 - optional

    from pingdata_async.tables.schema.arrow import text_of_value  # noqa: PLC0415 - optional

    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, OverflowError):
        missing = column.isna().tolist()
        return [
            None if is_missing else text_of_value(whole_number(value))
            for value, is_missing in zip(column.tolist(), missing, strict=True)
        ]
    return None
