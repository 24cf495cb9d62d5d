"""enhance_table(): a data frame in, the same with answers out; to_arrow() and to_pandas()."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack

import anyio.to_thread

from pingdata_async.api.client import PingDataClient
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.exceptions import InputError
from pingdata_async.locations.fields import AnyLocation, clean_sources
from pingdata_async.models import EnhancedLocation
from pingdata_async.options import EnhancerOptions
from pingdata_async.tables.readers.open import is_arrow_object, open_input, require
from pingdata_async.tables.rows import Batch, ReadOptions, TextColumns
from pingdata_async.tables.schema.output_table import OutputTableScan

if TYPE_CHECKING:
    import pyarrow as pa

P = ParamSpec("P")
T = TypeVar("T")

REMINDER = "enhance_table() (write `await`, or call `pingdata_async.sync.enhance_table()`)"

NO_COLUMNS = TextColumns([])  # the table itself has them


def _reminding(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a coroutine that nobody awaits say what to do: notebooks and warnings show its name."""

    @functools.wraps(function)
    def called(*args: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
        work = function(*args, **options)
        work.__qualname__ = REMINDER  # type: ignore[attr-defined]  # as all that "async def" makes
        return work

    return called


@_reminding
async def enhance_table(
    table: T,
    sources: Iterable[str] | str,
    *,
    client: PingDataClient | None = None,
    reading: ReadOptions | None = None,
    columns: Sequence[str] = (),
    **options: Unpack[EnhancerOptions],
) -> T:
    """Enhance every row of a data frame in memory; needs pyarrow.

    Its columns are understood as those of a file. The rows stay in order, and all columns as they
    are; behind them come `enhance_status`, `enhance_reason`, `enhance_error` and one column for
    each field of each source, such as `pg_latitude`. Table and answers are held in memory, and a
    process that ends loses what was paid for: use `BulkEnhancer.run()` for what takes hours.
    Cancelling stops sending; jobs in flight are abandoned, although the API charges for them.

    Args:
        table: A pyarrow Table or RecordBatch, or a pandas or polars DataFrame. Any other object
            with the Arrow PyCapsule interface comes back as a pyarrow Table.
        sources: Source codes such as PG and PH.
        client: An open client; None to open one, with token and host from the usual places.
        reading: How to read the table; None to find out.
        columns: Names or patterns (`pg_*`) of the new columns to add; () for all but those of use
            to machines only (such as `pg_worker_name`), ("*",) for all.
        options: Other options of `BulkEnhancer`.

    Returns:
        An object of the same kind, with more columns.

    Raises:
        InputError: It is no table, or nothing in it can be looked up; nothing was sent.
        ConfigurationError: pyarrow is missing, or a setting cannot work; likewise.
        PingDataError: It cannot go on; `results` of the error holds what had been answered.
    """
    if not is_arrow_object(table):
        raise InputError(
            f"a {type(table).__name__} is no table; give a pyarrow, pandas or polars one, or "
            "collect a lazy one first"
        )
    headers, batches = await anyio.to_thread.run_sync(_read, table, reading or ReadOptions())
    codes = clean_sources(sources if isinstance(sources, str) else list(sources))
    async with contextlib.AsyncExitStack() as stack:
        opened = client if client is not None else await stack.enter_async_context(PingDataClient())
        enhancer = BulkEnhancer(opened, codes, **options)
        results = await enhancer.enhance(_locations(batches))

    return await anyio.to_thread.run_sync(
        lambda: _beside(table, results, codes, columns, taken_names=headers, batches=batches)
    )


def to_arrow(results: Iterable[EnhancedLocation], *, columns: Sequence[str] = ()) -> pa.Table:
    """Results as a pyarrow Table: a row each, in their order; needs pyarrow.

    Its columns are `row`, `id`, and those that `enhance_table()` adds, with the same types.

    Args:
        results: What `enhance()` returned, or any others.
        columns: As of `enhance_table()`.

    Raises:
        ConfigurationError: When pyarrow is missing.
    """
    require("to_arrow()", "pyarrow", "parquet")
    import pyarrow as pa  # noqa: PLC0415 - optional

    rows = list(results)
    ids = pa.array([result.id for result in rows], pa.string())
    table = pa.table({"row": pa.array([result.row for result in rows], pa.int64()), "id": ids})
    return _beside(table, rows, (), columns, taken_names=table.column_names)


def to_pandas(results: Iterable[EnhancedLocation], *, columns: Sequence[str] = ()) -> Any:
    """Results as a pandas DataFrame; needs pandas and pyarrow, and is otherwise as `to_arrow()`."""
    require("to_pandas()", "pyarrow", "parquet")
    require("to_pandas()", "pandas")
    import pandas as pd  # noqa: PLC0415 - optional

    rows = list(results)
    ids = pd.Series([result.id for result in rows], dtype=object)
    frame = pd.DataFrame({"row": [result.row for result in rows], "id": ids})
    return _beside(frame, rows, (), columns, taken_names=list(frame))


def _beside(
    table: T,
    results: Sequence[EnhancedLocation],
    sources: Sequence[str],
    columns: Sequence[str],
    *,
    taken_names: Iterable[str],
    batches: Iterable[Batch] = (),
) -> T:
    """A table with the answers of its rows beside it."""
    from pingdata_async.tables.schema.arrow import put_beside  # noqa: PLC0415 - optional

    scan = OutputTableScan((), sources)
    scan.input_rows.add(NO_COLUMNS)
    scan.add_answers(result.data for result in results)
    answers = scan.table({}, columns, taken_names=taken_names)
    beside: T = put_beside(table, batches, answers.columns, answers.values(NO_COLUMNS, results))
    return beside


def _read(table: Any, reading: ReadOptions) -> tuple[tuple[str, ...], list[Batch]]:
    with open_input(table, options=reading) as reader:
        batches = list(reader)
        return reader.headers, batches


def _locations(batches: Iterable[Batch]) -> Iterator[AnyLocation]:
    for batch in batches:
        for place in range(len(batch.locations)):
            yield batch.locations[place]
