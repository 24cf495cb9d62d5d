"""Record batches of Arrow to batches of rows, as a stream: Parquet files and data frames.

Only code that has made sure that pyarrow is installed imports this module. Everything here blocks,
and runs in a worker thread.
"""

from __future__ import annotations

import contextlib
import decimal
import functools
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa

from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import BATCH_ROWS
from pingdata_async.tables.readers.base import (
    HASH_BLOCK_BYTES,
    FileInput,
    InputReader,
    MemoryHash,
)
from pingdata_async.tables.rows import IN_MEMORY, ArrowRows, Batch, ReadOptions, write_stream
from pingdata_async.tables.schema.arrow import objects_in, text_of_value, time_values
from pingdata_async.tables.schema.types import whole_number

_MAX_LIST_ITEMS: Final = 1_000_000  # as in Arrow
_READ_BUFFER_BYTES: Final = 64 * 1024  # for each column; unbuffered, a whole row group is read
_MAX_BATCH_BYTES: Final = 4 * 1024 * 1024  # large rows must not pile up in memory
_ROWS_READ_AT_ONCE: Final = 8 * BATCH_ROWS  # Arrow builds the dictionaries anew for each read
_ROWS_OF_SHARED_TEXTS: Final = 32  # a text that shares the one before it may have any size
_ITEM_BYTES: Final = 8  # of a number, or of the offset of a text

MAX_RATIO: Final = 100  # of a table's size in memory to that of its file; real tables reach 20
BYTES_EACH_CELL: Final = 40  # besides: short texts and numbers may repeat in millions of rows
MAX_SPREAD_BYTES: Final = 32 * 1024 * 1024  # besides, for the file as a whole
MAX_PAGES_BYTES: Final = 64 * 1024 * 1024  # for one page of each column; they are in memory at once

_TEXTS_OR_NUMBERS = (str, int, float, type(None))
_JSON_TYPES = {str, int, float, bool, type(None), dict, list}


class ArrowReader(InputReader):
    """Reads the records of Arrow record batches; see `InputReader`."""

    def _take_up(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._map_headers(tuple(schema.names))

    def _pieces(self, batches: Iterable[pa.RecordBatch], rows_at_once: int) -> Iterator[Batch]:
        """Batches of at most so many rows each."""
        used = self._used_places()
        row = 1
        for batch in batches:
            for begin in range(0, batch.num_rows, rows_at_once):
                piece = _compacted(batch.slice(begin, rows_at_once))
                try:
                    columns = [
                        json_values(piece.column(place)) if place in used else ()
                        for place in range(piece.num_columns)
                    ]
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{self.name}, rows {row} to {row + piece.num_rows - 1}: a text is not "
                        f"UTF-8 ({error.reason})"
                    ) from error
                located = self._located(
                    columns, are_texts=False, unused=functools.partial(_texts_or_numbers, piece)
                )
                yield Batch(located, ArrowRows(write_stream(piece)))
                row += piece.num_rows
        if row == 1:
            yield self._no_rows()

    def _no_rows(self) -> Batch:
        """A batch without rows, which still has columns and their types."""
        nothing = pa.RecordBatch.from_pylist([], schema=self._schema)
        located = self._located([()] * nothing.num_columns, are_texts=False)
        return Batch(located, ArrowRows(write_stream(nothing)))


def _texts_or_numbers(batch: pa.RecordBatch, place: int) -> Sequence[Any]:
    """The values of a column that is not mapped; () if any is neither text nor number."""
    try:
        values = json_values(batch.column(place))
    except UnicodeDecodeError:
        return ()
    return values if all(isinstance(value, _TEXTS_OR_NUMBERS) for value in values) else ()


# -- Parquet files ------------------------------------------------------------------------------


class ParquetReader(ArrowReader):
    """Reads the records of a Parquet file; see `InputReader`.

    The file is hashed first, then read a second time. A pipe is copied to an unnamed temporary
    file, since the end of a Parquet file has to be read first.
    """

    def __init__(self, file: FileInput, options: ReadOptions) -> None:
        super().__init__(file.name, file.source, options)
        self._file = file

    def _batches(self) -> Iterator[Batch]:
        with contextlib.ExitStack() as stack:
            file = self._hashed(stack)
            try:
                yield from self._read(file)
            except (pa.ArrowException, OSError) as error:
                raise InputError(
                    f"{self.name} is damaged, or not a Parquet file: {_one_line(error)}"
                ) from error
            if self._has_changed():
                raise InputError(f"{self.name} changed while it was read; run the command again")

    def _hashed(self, stack: contextlib.ExitStack) -> IO[bytes] | io.FileIO:
        """Hash the input; returns a seekable file with its bytes."""
        file = self._file.source.file
        if file is None:
            spooled = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack's
            shutil.copyfileobj(self._file.content, spooled, HASH_BLOCK_BYTES)
            return spooled
        buffer = bytearray(HASH_BLOCK_BYTES)
        while self._file.content.readinto(buffer):
            self._file.keep_waiting()
        return file

    def _has_changed(self) -> bool:
        file, found = self._file.source.file, self._file.source.fingerprint()
        if file is None:
            return False
        now = os.fstat(file.fileno())
        return (now.st_size, now.st_mtime_ns) != (found.size_bytes, found.mtime_ns)

    def _read(self, file: Any) -> Iterator[Batch]:
        from pyarrow import parquet  # noqa: PLC0415 - data frames do without it

        open_ = functools.partial(
            parquet.ParquetFile,
            file,
            pre_buffer=False,
            buffer_size=_READ_BUFFER_BYTES,
            # Arrow makes room for as many items as a list says it has.
            thrift_container_size_limit=_footer_bytes(file),
        )
        opened = open_()
        metadata, schema = opened.metadata, opened.schema_arrow
        self._take_up(schema)
        texts, shares_texts = self._check_pages(file, metadata)
        rows = _rows_at_once(metadata, shares_texts=shares_texts)
        # A dictionary holds each text once; only pieces of bounded size are decoded.
        opened = open_(metadata=metadata, read_dictionary=texts)
        batches = opened.iter_batches(batch_size=rows, use_threads=False)
        yield from self._pieces(self._decoded(batches, schema), min(rows, BATCH_ROWS))

    def _decoded(self, batches: Iterable[Any], schema: Any) -> Iterator[Any]:
        """The same rows in the types of the schema, in pieces that fit into memory."""
        left_bytes = self._most_bytes()
        for batch in batches:
            left_bytes += BYTES_EACH_CELL * batch.num_rows * batch.num_columns
            for piece, size_bytes in _small_pieces(batch):
                left_bytes -= size_bytes
                if left_bytes < 0:
                    raise self._too_large()
                yield _in_types(piece, schema)

    def _check_pages(self, file: IO[bytes], metadata: Any) -> tuple[list[str], bool]:
        """Check the sizes of all pages, which are decompressed whole.

        Returns the text columns with a dictionary, and whether texts share the ones before them.
        """
        texts: set[str] = set()
        shares_texts = False
        left_bytes = self._most_bytes()
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            at_once_bytes = 0  # one page of each column
            for column in map(group.column, range(group.num_columns)):
                largest_bytes = 0
                for page in pages(file, column):
                    largest_bytes = max(largest_bytes, page.size_bytes)
                    left_bytes -= max(0, page.size_bytes - BYTES_EACH_CELL * page.values)
                    shares_texts |= page.shares_texts
                    if page.is_dictionary and column.physical_type == "BYTE_ARRAY":
                        texts.add(column.path_in_schema)
                at_once_bytes += largest_bytes
                if left_bytes < 0 or at_once_bytes > MAX_PAGES_BYTES + self._most_bytes():
                    raise self._too_large()
        return sorted(texts), shares_texts

    def _most_bytes(self) -> int:
        return MAX_SPREAD_BYTES + MAX_RATIO * self._file.source.size_bytes

    def _too_large(self) -> InputError:
        return InputError(
            f"{self.name} would take more than {MAX_RATIO} times its size in memory, as it "
            "repeats long texts; leave out their columns"
        )


def _small_pieces(batch: Any) -> Iterator[tuple[Any, int]]:
    """Pieces of a batch that are small when decoded, or single rows; with their sizes."""
    size_bytes = sum(map(_decoded_bytes, batch.columns))
    if size_bytes <= _MAX_BATCH_BYTES or batch.num_rows == 1:
        yield batch, size_bytes
        return
    half = batch.num_rows // 2
    yield from _small_pieces(batch.slice(0, half))
    yield from _small_pieces(batch.slice(half))


def _footer_bytes(file: IO[bytes]) -> int:
    """The length of what the file says of itself, within what Arrow takes for a limit."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
    return min(max(int.from_bytes(file.read(4), "little"), 1), _MAX_LIST_ITEMS)


def _rows_at_once(metadata: Any, *, shares_texts: bool) -> int:
    """The number of rows to read at once: fewer if they are large."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    largest = max(map(_row_bytes, groups), default=0)
    most = _ROWS_OF_SHARED_TEXTS if shares_texts else _ROWS_READ_AT_ONCE
    return max(1, min(most, int(_MAX_BATCH_BYTES / max(largest, 1))))


def _row_bytes(group: Any) -> float:
    """The approximate size of a row in memory. Equal items of lists take no space in a file."""
    items = sum(group.column(n).num_values for n in range(group.num_columns))
    size_bytes: int = max(group.total_byte_size, _ITEM_BYTES * items)
    return size_bytes / (group.num_rows or 1)


# -- Pages of Parquet ---------------------------------------------------------------------------

# A page is decompressed whole, to the size in its own header; the end of the file may claim less.

_HEADER_BYTES: Final = 256  # mostly enough; statistics of texts may take more
_MAX_HEADER_BYTES: Final = 16 * 1024 * 1024  # as in Arrow
_DELTA_BYTE_ARRAY: Final = 7

# Fields of a header: sizes, and what is said of each kind of page.
_DECOMPRESSED, _COMPRESSED = 2, 3
_DATA, _DICTIONARY, _DATA_V2 = 5, 7, 8
_VALUES, _ENCODING, _ENCODING_V2 = 1, 2, 4


class Page(NamedTuple):
    """A page."""

    size_bytes: int  # decompressed
    values: int  # in it
    is_dictionary: bool  # whether it holds texts that the other pages refer to
    shares_texts: bool  # whether its texts share the beginnings of those before them


def pages(file: IO[bytes], column: Any) -> Iterator[Page]:
    """The pages of a column chunk that Arrow reads; an ArrowInvalid if one has no header."""
    place, left = column.data_page_offset, column.num_values
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < place:
        place = column.dictionary_page_offset
    end = place + column.total_compressed_size
    while place < end and left > 0:
        try:
            header, length = _header(file, place)
            page = _page(header)
            place += length + _natural(header[_COMPRESSED])
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise pa.ArrowInvalid(f"a page of {column.path_in_schema} has no header") from error
        left -= 0 if page.is_dictionary else page.values
        yield page


def _page(header: dict[int, Any]) -> Page:
    [said] = [header[field] for field in (_DATA, _DICTIONARY, _DATA_V2) if field in header]
    encoding = said.get(_ENCODING_V2 if _DATA_V2 in header else _ENCODING)
    return Page(
        _natural(header[_DECOMPRESSED]),
        _natural(said[_VALUES]),
        is_dictionary=_DICTIONARY in header,
        shares_texts=encoding == _DELTA_BYTE_ARRAY,
    )


def _natural(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("not a size")
    return value


def _header(file: IO[bytes], place: int) -> tuple[dict[int, Any], int]:
    """The header of a page, and its length."""
    wanted = _HEADER_BYTES
    while True:
        file.seek(place)
        data = file.read(wanted)
        try:
            return _struct(data, 0)
        except IndexError:
            if len(data) < wanted or wanted >= _MAX_HEADER_BYTES:
                raise
            wanted *= 16


# Thrift's compact protocol, as far as headers of pages need it.
_INTEGERS: Final = (4, 5, 6)
_BYTES: Final = 8
_STRUCT: Final = 12
_SIZES: Final = {1: 0, 2: 0, 3: 1, 7: 8}  # true, false, a byte, a float; there are no lists
_MORE: Final = 128  # the bit of a byte that others follow


def _struct(data: bytes, place: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by their numbers, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while head := data[place]:
        place += 1
        if head >> 4:
            number += head >> 4
        else:
            number, place = _integer(data, place)
        fields[number], place = _value(data, place, head & 15)
    return fields, place + 1


def _value(data: bytes, place: int, kind: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        return _integer(data, place)
    if kind == _STRUCT:
        return _struct(data, place)
    if kind == _BYTES:
        length, place = _varint(data, place)
        return None, place + length
    return None, place + _SIZES[kind]


def _integer(data: bytes, place: int) -> tuple[int, int]:
    value, place = _varint(data, place)
    return (value >> 1) ^ -(value & 1), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte % _MORE) << shift
        if byte < _MORE:
            return value, place
    raise ValueError("too long a number")


# -- Data frames ---------------------------------------------------------------------------------


class ArrowObjectReader(ArrowReader):
    """Reads an object with the Arrow PyCapsule interface; see `InputReader`.

    pandas, polars, pyarrow, DuckDB and others have it. pandas adds its index as a column, unless it
    only counts the rows: under its name, or `__index_level_0__`. A pandas column of mixed types,
    such as `read_excel()` makes, becomes text. A stream that can be read only once is used up.
    """

    def __init__(self, source: Any, options: ReadOptions) -> None:
        self._memory = MemoryHash()
        super().__init__(IN_MEMORY, self._memory, options)
        self._source = source

    def _batches(self) -> Iterator[Batch]:
        reader = self._opened()
        self._take_up(reader.schema)
        try:
            for batch in self._pieces(reader, BATCH_ROWS):
                rows: Any = batch.input_rows
                self._memory.add(rows.stream)
                yield batch
        except pa.ArrowException as error:
            raise self._no_table(error) from error

    def _opened(self) -> Any:
        """A reader of the object's record batches."""
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
        # Its library may raise anything: pandas raises a ValueError for equal headers.
        except Exception as error:
            raise self._no_table(error) from error

    def _no_table(self, error: Exception) -> InputError:
        return InputError(f"the {type(self._source).__name__} is not a table: {_one_line(error)}")


def _is_pandas(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "isetitem")


def _with_texts(frame: Any) -> Any:
    """A copy of the frame whose columns of mixed types are text."""
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
    """The values of a pandas Series as text; None if Arrow has a type for them."""
    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, OverflowError):
        missing = column.isna().tolist()
        return [
            None if is_missing else text_of_value(whole_number(value))
            for value, is_missing in zip(column.tolist(), missing, strict=True)
        ]
    return None


def _one_line(error: BaseException) -> str:
    """The message of an error of Arrow, or of a library that uses it, on one line."""
    # pandas adds the column as a second argument.
    said = str(error) if isinstance(error, OSError) else "; ".join(map(str, error.args))
    return " ".join(said.split()) or type(error).__name__


# -- Types --------------------------------------------------------------------------------------


def _compacted(piece: pa.RecordBatch) -> pa.RecordBatch:
    """A piece of a record batch without the values of other rows, in the same types.

    Pieces share dictionaries and the texts of views; each would be written with all of them.
    """
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
    from pyarrow import compute  # noqa: PLC0415 - 14 MB

    # Sorted, so that ordered categories keep their order.
    used = column.indices.unique().drop_null().sort()
    values: Any = column.dictionary
    if _has_views(values.type):  # which take() does not support
        values = pa.array([values[each].as_py() for each in used.to_pylist()], values.type)
    else:
        values = values.take(used)
    indices = compute.index_in(column.indices, value_set=used)
    return pa.DictionaryArray.from_arrays(
        indices.cast(column.type.index_type), values, ordered=column.type.ordered
    )


def _with_own_texts(column: Any) -> Any:
    """A column of views, perhaps nested, over the texts of these rows alone."""
    plain = column.cast(_without_views(column.type))
    # The cast of a nested column keeps the values of other rows.
    return plain.take(pa.array(range(len(plain)), pa.int32())).cast(column.type)


def _has_views(kind: Any) -> bool:
    return "_view" in str(kind)


def _without_views(kind: Any) -> Any:
    """The type with contiguous texts instead of views."""
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


def _decoded_bytes(column: Any) -> int:
    """The size of a column when its dictionaries are decoded."""
    from pyarrow import compute  # noqa: PLC0415 - 14 MB

    kind = column.type
    if pa.types.is_dictionary(kind) and _is_binary(kind.value_type):
        lengths = compute.binary_length(column.dictionary)
        total: int = compute.sum(lengths.take(column.indices).cast(pa.int64())).as_py() or 0
        return total + int(column.indices.nbytes)
    if pa.types.is_struct(kind):
        return sum(map(_decoded_bytes, column.flatten()))
    if pa.types.is_map(kind):  # a list of pairs
        column = column.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return _decoded_bytes(column.flatten()) + int(column.offsets.nbytes)
    return int(column.nbytes)


def _in_types(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The same rows in the types of the schema, which has fewer dictionaries."""
    columns = [
        column
        if column.type == kind
        # A dictionary cannot be cast to views directly.
        else column.cast(_without_views(kind)).cast(kind)
        for column, kind in zip(batch.columns, schema.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _is_binary(kind: Any) -> bool:
    return kind in {pa.string(), pa.large_string(), pa.binary(), pa.large_binary()}


# -- Values -------------------------------------------------------------------------------------


def json_values(column: Any) -> Sequence[Any]:
    """The values of a column as values of JSON; a UnicodeDecodeError for a text that is not UTF-8.

    Dates, times and decimals become text; whole decimals become integers.
    """
    types = pa.types
    kind = column.type
    if types.is_dictionary(kind):
        words = json_values(column.dictionary)
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        return _as_texts(column)
    values = objects_in(column)
    if types.is_map(kind):
        return [None if value is None else dict(value) for value in values]
    kinds = set(map(type, values))
    if kinds <= _JSON_TYPES:
        return values
    if kinds <= {bytes, type(None)}:
        return [None if value is None else value.decode() for value in values]
    return [_plain(value) for value in values]


def _as_texts(column: Any) -> Sequence[Any]:
    try:
        texts: list[Any] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException:  # an unknown time zone
        return [None if value is None else str(value) for value in time_values(column)]
    return texts


def _plain(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        is_whole = value.is_finite() and value == value.to_integral_value()
        return int(value) if is_whole else format(value, "f")
    return value if type(value) in _JSON_TYPES else str(value)
