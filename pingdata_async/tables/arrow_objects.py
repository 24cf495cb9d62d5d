"""Data frames and Arrow tables in memory to batches of records, streaming.

Everything here blocks, and runs in a worker thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from pingdata_async.exceptions import InputError
from pingdata_async.location_batches import BATCH_ROWS
from pingdata_async.tables.arrow_batches import ArrowReader, load_pyarrow, one_line
from pingdata_async.tables.inputs import ArrowRows, Batch, ReadOptions
from pingdata_async.tables.jsonl_reading import IN_MEMORY
from pingdata_async.tables.kinds import whole_number
from pingdata_async.tables.sources import Fingerprint


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
        super().__init__(IN_MEMORY, options)
        self._source = source
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    def fingerprint(self) -> Fingerprint:
        """Of the rows as Arrow streams, as far as they have been read."""
        return Fingerprint(
            sha256=self._hash.hexdigest(), size_bytes=self._size_bytes, given=IN_MEMORY
        )

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
        rows = batch.originals
        assert isinstance(rows, ArrowRows)  # noqa: S101 - for type checkers
        self._hash.update(rows.stream)
        self._size_bytes += len(rows.stream)


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

    from pingdata_async.tables.arrow import text_of_value  # noqa: PLC0415 - optional

    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowException, TypeError, OverflowError):
        missing = column.isna().tolist()
        return [
            None if is_missing else text_of_value(whole_number(value))
            for value, is_missing in zip(column.tolist(), missing, strict=True)
        ]
    return None
