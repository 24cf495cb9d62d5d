"""What the adapters of engines share: which columns of a frame are asked, partitions in order.

Only code that has made sure that pyarrow is installed imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pingdata_async.api.config import Environment
from pingdata_async.engines.batches import enhance_batches, output_schema
from pingdata_async.engines.spec import BatchSpec
from pingdata_async.exceptions import InputError
from pingdata_async.options import EnhancerOptions
from pingdata_async.tables.mapping.headers import shown_headers
from pingdata_async.tables.readers.open import open_input
from pingdata_async.tables.rows import ReadOptions

SAMPLE_ROWS: Final = 1000
"""Rows that show how the columns are to be understood."""


class FrameOptions(EnhancerOptions, total=False):
    """Options of `spark.enhance()` and `dask.enhance()`, besides those of `BulkEnhancer`.

    Those of `BulkEnhancer`, such as `max_jobs` (64) and `chunk_size` (1000), are for all tasks
    together; `on_event` and `rng` cannot be sent to workers.

    Attributes:
        columns: Fields of the answers to have as typed columns, such as `pg_latitude`. Default ().
        reading: How to read the columns. Default None, to find out.
        max_locations: Send at most so many locations; a task may send its share of them. Default
            None, for any number.
        budget: The same for single sources, by code. Default None.
        preflight: Count the locations, and check the account's limits before any is sent. Default
            True.
        store_options: Options of the store, such as `endpoint`; none of them secret. Default none.
        environment: The API's environment, as of `PingDataClient`. Default None.
        api_url: The API's url, likewise. Default None.
        token_file: A file on each worker that holds the token. Default None, for the usual places.
        submit_timeout_s: As of `PingDataClient`. A submission that a task left behind counts as in
            doubt when it is a little older.
    """

    columns: Sequence[str]
    reading: ReadOptions | None
    max_locations: int | None
    budget: Mapping[str, int] | None
    preflight: bool
    store_options: Mapping[str, str]
    environment: Environment | None
    api_url: str | None
    token_file: str | None
    submit_timeout_s: float


class AskedColumns(NamedTuple):
    """What is asked of a frame, each location once.

    Attributes:
        sent: The columns that a location is made of.
        carried: The others that are needed beside these: of the key, and the user's id. Of equal
            locations the least value is taken.
        key: The columns to partition by.
    """

    sent: list[str]
    carried: list[str]
    key: list[str]

    @property
    def order(self) -> list[str]:
        """The columns to sort by; no two locations are equal in them."""
        return list(dict.fromkeys([*self.key, *self.sent]))


def asked_columns(
    sample: pa.Table,
    headers: Sequence[str],
    *,
    key: Sequence[str] | str,
    reading: ReadOptions | None,
) -> AskedColumns:
    """Find the columns that are asked.

    Args:
        sample: Some rows of the frame; only columns that can hold part of a location.
        headers: All columns of the frame.
        key: The columns to partition and sort by; () for those that are sent.
        reading: How to read the columns; None to find out.

    Raises:
        InputError: When the columns cannot be used.
    """
    for place, name in enumerate(headers):
        if name in headers[:place]:
            raise InputError(f"two columns are named {shown_headers([name])}: rename one")
    with open_input(sample, options=reading or ReadOptions()) as reader:
        for _ in reader:  # to the end, as a reader may find something missing only then
            pass
    read = {name for each in reader.mapping.columns for name in each.headers}
    ids = {name for each in reader.mapping.columns if each.field == "id" for name in each.headers}
    sent = [name for name in headers if name in read - ids]
    key = [key] if isinstance(key, str) else list(key)
    for name in key:
        if name not in sample.column_names:
            raise InputError(f"the key {name!r} is no column that can be sorted by")
    carried = [name for name in headers if name in {*key, *ids} and name not in sent]
    return AskedColumns(sent, carried, key or sent)


def new_columns(
    asked: Sequence[str], headers: Sequence[str], spec: BatchSpec
) -> dict[pa.Field[pa.DataType], str]:
    """What tasks add to the columns that are asked, and its name beside all of the frame's."""
    ours, beside = (
        [*output_schema(pa.schema([pa.field(name, pa.null()) for name in names]), spec)][
            len(names) :
        ]
        for names in (asked, headers)
    )
    return {own: other.name for own, other in zip(ours, beside, strict=True)}


def enhance_table(table: pa.Table, spec: BatchSpec, *, task: str = "") -> pa.Table:
    """Enhance one partition of any engine that hands it over whole, such as Ray Data.

    Args:
        table: Its rows, in any order.
        spec: What `settle()` returned; its `key` has to name each row.
        task: Names the partition in the store's records.

    Returns:
        The same rows with the new columns, as chunks finish.

    Raises:
        PingDataError: As `enhance_batches()`.
    """
    if spec.key:
        table = table.take(_places_in_order(table.select(list(spec.key))))
    batches = enhance_batches(iter(table.combine_chunks().to_batches()), spec, task=task)
    return pa.Table.from_batches(batches, output_schema(table.schema, spec))


def _places_in_order(keys: pa.Table) -> pa.Array[Any]:
    """Where the rows are that come first, second and so on; null comes first, as in Spark."""
    columns: dict[str, Any] = {}
    for place, column in enumerate(keys.columns):
        columns |= {f"{place} is there": pc.is_valid(column), f"{place}": column}
    order: list[tuple[str, Literal["ascending"]]] = [(name, "ascending") for name in columns]
    return pc.sort_indices(pa.table(columns), sort_keys=order)
