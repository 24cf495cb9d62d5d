"""What a store holds: its progress and charges, and its rows as a file in any format.

Both read the store alone, at any time, and send nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import anyio.to_thread
import msgspec

from pingdata_async.engines.store import Manifest, SharedStore, StoredAnswer
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.results.outcomes import Tally, tally
from pingdata_async.runs.export.export import ExportedRun
from pingdata_async.runs.export.output import (
    OutputSpec,
    absolute_output,
    check_output,
    open_atomic,
    output_spec,
)
from pingdata_async.tables.formats import (
    OutputFormat,
    WriteOptions,
    check_format,
    load_package_for,
)
from pingdata_async.tables.rows import JSONRows
from pingdata_async.tables.schema.output_table import OutputTableScan
from pingdata_async.tables.writers.base import TableRows, open_table_writer
from pingdata_async.tables.writers.json import encode_lines, points
from pingdata_async.util.compression import compressed_writer

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class TaskStatus(msgspec.Struct, kw_only=True):
    """What is known of a partition, or of all.

    Attributes:
        rows: Rows with an outcome, by how they ended.
        chunks: Chunks by the state that they are in.
        jobs: Jobs that were made.
        locations_charged: Locations in these.
        locations_in_doubt: Locations that may have been charged besides.
    """

    rows: Tally = msgspec.field(default_factory=Tally)
    chunks: dict[str, int] = {}
    jobs: int = 0
    locations_charged: int = 0
    locations_in_doubt: int = 0


class StoreStatus(TaskStatus, kw_only=True):
    """What a store says of its run.

    Attributes:
        store: Its url.
        sources: The run's sources.
        api: What its answers depend on: the API's origin, or "sandbox".
        tasks: The number of partitions.
        by_task: What is known of each partition of which there is anything.
    """

    store: str
    sources: tuple[str, ...]
    api: str
    tasks: int
    by_task: dict[str, TaskStatus] = {}


def read_store_status(url: str) -> StoreStatus:
    """Read all that a store knows of its run. Blocks.

    Rows of chunks in which nothing could be sent are not in the store.

    Raises:
        ConfigurationError: When there is no run in it.
        RunError: When it cannot be read.
    """
    store, manifest = _opened(url)
    settings = manifest.settings
    status = StoreStatus(
        store=url, sources=settings.sources, api=settings.api, tasks=manifest.tasks
    )
    for chunk in store.chunks():
        for each in (status, status.by_task.setdefault(chunk.task, TaskStatus())):
            if chunk.counts is not None:
                each.rows.add(chunk.counts)
            each.chunks[chunk.state] = each.chunks.get(chunk.state, 0) + 1
            each.jobs += chunk.cost.jobs
            each.locations_charged += chunk.cost.charged
            each.locations_in_doubt += chunk.cost.in_doubt
    return status


async def export_store(
    url: str, output: str | Path, *, overwrite: bool, writing: WriteOptions
) -> ExportedRun:
    """Write the rows of a store that have an outcome, in no order that means anything.

    Each row has its `task`, its number there, and the location as it was sent.

    Args:
        url: The store.
        output: A path, or "-" for standard output.
        overwrite: Whether an existing output may be replaced.
        writing: How it is written.

    Returns:
        What was written. How many rows have no outcome yet, the store does not know.

    Raises:
        ConfigurationError: When there is no run in the store, or the output cannot be used.
        RunError: When the store cannot be read, or the output cannot be written.
    """
    output = await anyio.to_thread.run_sync(absolute_output, output)
    store, manifest = await anyio.to_thread.run_sync(_opened, url)
    spec = output_spec(output, writing, manifest.settings.sources, {})
    check_format(spec.kind)
    load_package_for(spec.kind)
    await anyio.to_thread.run_sync(lambda: check_output(output, None, overwrite=overwrite))
    async with open_atomic(output) as file:

        def write() -> ExportedRun:
            with file.opened() as opened, compressed_writer(opened, spec.compression) as packed:
                write_rows = _write_lines if spec.kind is OutputFormat.JSONL else _write_table
                return write_rows(store, packed, spec)

        return await anyio.to_thread.run_sync(write)


def _opened(url: str) -> tuple[SharedStore, Manifest]:
    """A store that is there; one that is not, is not made."""
    parts = urlsplit(url)
    is_missing = parts.scheme == "file" and not Path(unquote(parts.path)).is_dir()
    store = None if is_missing else SharedStore.open(url)
    manifest = None if store is None else store.manifest()
    if store is None or manifest is None:
        raise ConfigurationError(f"there is no run in the store {url}")
    return store, manifest


def _given(answer: StoredAnswer) -> list[dict[str, Any]]:
    """By place of the result, what the row was: its task, and the location as it was sent."""
    chunk = answer.chunk
    locations = dict(zip(chunk.rows, chunk.locations, strict=True))
    locations |= {invalid.row: invalid.given for invalid in chunk.invalid}
    given: list[dict[str, Any]] = []
    for result in answer.results:
        fields = _fields.decode(locations[result.row])
        fields.pop("id", None)  # the row's number, by which the answer is known
        given.append({"task": answer.task, **fields})
    return given


def _write_lines(store: SharedStore, file: BinaryIO, spec: OutputSpec) -> ExportedRun:
    del spec
    counts = Tally()
    for answer in store.answers():
        file.write(encode_lines(answer.results, _given(answer)))
        counts.add(tally(answer.results))
    return ExportedRun(counts.rows, counts.no_answer, 0)


def _table_rows(answer: StoredAnswer) -> JSONRows:
    return JSONRows(
        [
            msgspec.json.encode({"id": result.id, "row": result.row, **given})
            for result, given in zip(answer.results, _given(answer), strict=True)
        ]
    )


def _write_table(store: SharedStore, file: BinaryIO, spec: OutputSpec) -> ExportedRun:
    """Read the store twice: which columns there are depends on all answers."""
    scan, counts = OutputTableScan((), spec.sources), Tally()
    # Answers that come meanwhile are left out: they may have columns of their own.
    digests = store.answered()
    for answer in store.answers(digests):
        scan.input_rows.add(_table_rows(answer))
        scan.add_answers(result.data for result in answer.results)
        counts.add(tally(answer.results))
    table = scan.table(spec.declared, spec.options.columns)
    if not table.columns:
        raise ConfigurationError("there is no column to be written; name others with --columns")
    check_format(spec.kind, counts.rows, columns=len(table.columns))
    sources = spec.options.geocode_sources
    with open_table_writer(file, spec.kind, table.columns, spec.options) as writer:
        for answer in store.answers(digests):
            for results, values in table.blocks(_table_rows(answer), answer.results):
                where = None
                if spec.kind.has_geometry:
                    where = points(results, sources, spec.sources)
                ids = [result.id for result in results]
                writer.write(TableRows(values, len(results), where, ids))
    missing = [f'There is no column "{pattern}" to be written.' for pattern in table.unmatched]
    return ExportedRun(counts.rows, counts.no_answer, 0, (*missing, *writer.notes))
