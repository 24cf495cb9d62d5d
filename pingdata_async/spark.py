"""enhance(): a Spark DataFrame in, the same with the answers beside it out; needs pyspark 4."""

# ruff: noqa: E402 - what is optional comes after the hint of how to install it

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Unpack

from pingdata_async.tables.readers.open import require

require("pingdata_async.spark", "pyarrow", "lake")
require("pingdata_async.spark", "pyspark")

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - its usual name
from pyspark.sql import types as T  # noqa: N812 - likewise
from pyspark.sql.pandas.types import from_arrow_schema

from pingdata_async.engines.batches import enhance_batches
from pingdata_async.engines.frames import (
    SAMPLE_ROWS,
    FrameOptions,
    asked_columns,
    new_columns,
)
from pingdata_async.engines.spec import BatchSpec, settle
from pingdata_async.exceptions import InputError

_READABLE = (
    T.StringType,
    T.NumericType,
    T.BooleanType,
    T.DateType,
    T.TimestampType,
    T.TimestampNTZType,
)
"""The types that a part of a location can have."""


def enhance(
    frame: DataFrame,
    sources: Sequence[str] | str,
    *,
    store: str | None,
    tasks: int,
    key: Sequence[str] | str = (),
    **options: Unpack[FrameOptions],
) -> DataFrame:
    """Enhance every row of a Spark DataFrame, where its partitions are.

    Equal locations are asked once, and their answers joined back. The rows asked are partitioned
    and sorted by `key`, so that an attempt that is repeated after a failure finds in the store
    what was paid for. Nothing is sent before the frame that is returned is written, or otherwise
    evaluated; each evaluation reads the store, and pays only for what is not there. What is
    settled once is settled now: the columns, the budget, and the account's limits, for which the
    distinct locations are counted. Each worker finds the token in its own environment, or in the
    `token_file`.

    Args:
        frame: The rows; they must be the same each time that they are computed.
        sources: Source codes such as PG and PH.
        store: A folder of its own on storage that all workers share, such as s3://bucket/prefix;
            None for none, if what is lost with a task may be paid for again.
        tasks: How many partitions there are, each with its share of `max_jobs` and
            of the other limits.
        key: The columns to partition and sort by; () for those that are sent.
        **options: Those of `FrameOptions`.

    Returns:
        The frame, with `enhance_status`, `enhance_reason`, `enhance_error` and `enhance_json`
        (the answers, as text), and the `columns` asked for. A row without an answer says why:
        only what ends all work, such as a refused token, fails a task.

    Raises:
        InputError: Nothing in the frame can be looked up.
        ConfigurationError: A setting cannot work, or the store is another run's.
        PingDataError: The API refuses the token, the rows are beyond the account's limits, or the
            store cannot be used.
    """
    readable = [field.name for field in frame.schema if isinstance(field.dataType, _READABLE)]
    sample = frame.select(*map(_column, readable)).limit(SAMPLE_ROWS).toArrow()
    asked = asked_columns(sample, frame.columns, key=key, reading=options.get("reading"))
    for name in (*asked.sent, *asked.carried):
        if "." in name:
            raise InputError(
                f"Spark cannot hand the column {name!r} to Python, as its name has a dot: rename it"
            )
    distinct = frame.select(*map(_column, asked.sent)).distinct()
    if asked.carried:
        least = [F.min(_column(name)).alias(name) for name in asked.carried]
        distinct = frame.groupBy(*map(_column, asked.sent)).agg(*least)
    sample = sample.select(distinct.columns)
    spec = settle(
        sample,
        sources,
        tasks=tasks,
        store=store,
        key=asked.order,
        locations=distinct.count() if options.get("preflight", True) else None,
        **options,
    )
    added = new_columns(distinct.columns, frame.columns, spec)
    answers = (
        distinct.repartition(tasks, *map(_column, asked.key))
        .sortWithinPartitions(*map(_column, asked.order))
        .mapInArrow(
            functools.partial(_enhance_partition, spec=spec),
            T.StructType([*distinct.schema, *from_arrow_schema(pa.schema(list(added)))]),
        )
    )
    # Names of their own: a join of what has one origin would take one side's for the other's.
    kept = {name: f"__asked_{place}" for place, name in enumerate(asked.sent)}
    new = {field.name: name for field, name in added.items()}
    answers = answers.select(*(_column(name).alias(other) for name, other in (kept | new).items()))
    are_equal = [_column(name).eqNullSafe(_column(other)) for name, other in kept.items()]
    # Not broadcast, as small inputs would be: the driver would hold all answers, and give up after
    # 300 s of waiting for them.
    answers = answers.hint("merge")
    joined = frame.join(answers, functools.reduce(operator.and_, are_equal), "left")
    return joined.select(*map(_column, [*frame.columns, *new.values()]))


def _column(name: str) -> Column:
    """A column whose name may hold dots."""
    return F.col("`" + name.replace("`", "``") + "`")


def _enhance_partition(
    batches: Iterator[pa.RecordBatch], *, spec: BatchSpec
) -> Iterator[pa.RecordBatch]:
    """What a worker does: it finds the token where it runs."""
    context = TaskContext.get()
    task = "" if context is None else str(context.partitionId())
    return enhance_batches(batches, spec, task=task)
