"""enhance(): a Dask DataFrame in, the same with the answers beside it out; needs dask."""

# ruff: noqa: E402 - what is optional comes after the hint of how to install it

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Unpack

from pingdata_async.tables.readers.open import require

require("pingdata_async.dask", "pyarrow", "lake")
require("pingdata_async.dask", "dask.dataframe")

import dask.dataframe as dd
import pandas as pd
import pyarrow as pa

from pingdata_async.engines.frames import (
    SAMPLE_ROWS,
    FrameOptions,
    asked_columns,
    enhance_table,
    new_columns,
)
from pingdata_async.engines.spec import BatchSpec, settle

PLACE: Final = "__place__"
"""The column with the place of a row in its partition, while it is away."""


def enhance(
    frame: dd.DataFrame,
    sources: Sequence[str] | str,
    *,
    store: str | None,
    tasks: int,
    key: Sequence[str] | str = (),
    **options: Unpack[FrameOptions],
) -> dd.DataFrame:
    """Enhance every row of a Dask DataFrame, where its partitions are.

    What is said of `pingdata_async.spark.enhance()` holds here too, with these differences: a
    partition is in memory as a whole, and the index and the order of rows are not kept.

    Args:
        frame: The rows; they must be the same each time that they are computed.
        sources: Source codes such as PG and PH.
        store: As of `spark.enhance()`, and so are `tasks` and `key`.
        tasks: See there.
        key: See there.
        **options: Those of `FrameOptions`.

    Returns:
        The frame, with the same new columns.

    Raises:
        PingDataError: As `spark.enhance()`.
    """
    sample = _sample(frame)
    asked = asked_columns(sample, list(frame.columns), key=key, reading=options.get("reading"))
    distinct = frame[asked.sent].drop_duplicates(split_out=tasks)
    if asked.carried:
        equal = frame[[*asked.sent, *asked.carried]].groupby(asked.sent, dropna=False)
        distinct = equal.min(split_out=tasks).reset_index()
    headers = [*distinct.columns, PLACE]
    spec = settle(
        pa.schema([pa.field(name, pa.null()) for name in headers]).empty_table(),
        sources,
        tasks=tasks,
        store=store,
        key=asked.order,
        locations=len(distinct) if options.get("preflight", True) else None,
        **options,
    )
    added = new_columns(headers, list(frame.columns), spec)
    meta = {field.name: pd.Series([], dtype=pd.ArrowDtype(field.type)) for field in added}
    new = {field.name: name for field, name in added.items()}
    partitions = distinct.shuffle(on=asked.key, npartitions=tasks)
    answers = partitions.map_partitions(
        _enhance_partition,
        spec=spec,
        meta=distinct._meta.assign(**meta),  # noqa: SLF001 - the usual way to say what comes
    )
    answers = answers[[*asked.sent, *new]].rename(columns=new)
    return frame.merge(answers, on=asked.sent, how="left")


def _sample(frame: dd.DataFrame) -> pa.Table:
    """The first rows, with the columns that Arrow has a type for."""
    rows = frame.get_partition(0).head(SAMPLE_ROWS)
    columns = {}
    for name in rows.columns:
        try:
            columns[name] = pa.array(rows[name], from_pandas=True)
        except pa.ArrowException:  # objects of several kinds: no part of a location
            continue
    return pa.table(columns)


def _enhance_partition(
    frame: pd.DataFrame, *, spec: BatchSpec, partition_info: dict[str, Any] | None = None
) -> pd.DataFrame:
    """The rows of a partition with their answers; Dask says which one it is."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    numbered = table.append_column(PLACE, pa.array(range(len(frame)), pa.int64()))
    task = "" if partition_info is None else str(partition_info["number"])
    answers = enhance_table(numbered, spec, task=task)
    rows = frame.iloc[answers[PLACE].to_numpy()].reset_index(drop=True)
    names = answers.column_names[len(numbered.column_names) :]
    new = answers.select(names).to_pandas(types_mapper=pd.ArrowDtype)
    return pd.concat([rows, new], axis="columns")
