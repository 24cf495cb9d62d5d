"""New columns beside those of a data frame of any library.

Only what has made sure that pyarrow is there imports this module.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from pingdata_async.tables.arrow import arrow_values, field_of, read_stream
from pingdata_async.tables.inputs import ArrowRows, Batch
from pingdata_async.tables.schema import FlatColumn, Values


def put_beside(
    table: Any, batches: Iterable[Batch], columns: Sequence[FlatColumn], values: Sequence[Values]
) -> Any:
    """A data frame with more columns behind its own, of the kind that it is.

    Args:
        table: A pyarrow Table or RecordBatch, a pandas or polars DataFrame, or something else
            with the Arrow PyCapsule interface, of which a pyarrow Table is made.
        batches: What was read from it; it may be used up.
        columns: The new columns; their names are free.
        values: Their values, in the order of the table's rows.
    """
    fields = [field_of(column, column.name) for column in columns]
    arrays = [arrow_values(each, column) for each, column in zip(values, columns, strict=True)]
    new = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    if isinstance(table, pa.RecordBatch):
        return pa.RecordBatch.from_arrays(
            [*table.columns, *arrays], schema=_extended(table.schema, fields)
        )
    library = type(table).__module__.partition(".")[0]
    if library == "polars" and hasattr(table, "hstack"):
        return table.hstack(_polars_columns(new))
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
    kept = [batch.originals for batch in batches]
    streams = [rows.stream for rows in kept if isinstance(rows, ArrowRows)]
    return pa.concat_tables(map(read_stream, streams)) if streams else pa.table({})


def _polars_columns(new: pa.Table) -> list[Any]:
    import polars as pl  # noqa: PLC0415 - the caller has it

    frame: Any = pl.from_arrow(new)
    columns: list[Any] = frame.get_columns()
    return columns


def _beside_pandas(table: Any, new: pa.Table) -> Any:
    import pandas as pd  # noqa: PLC0415 - the caller has it

    # With nulls among them, integers and booleans would become floats and objects otherwise.
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame = new.to_pandas(types_mapper=nullable.get)
    frame.index = table.index
    return pd.concat([table, frame], axis=1)
