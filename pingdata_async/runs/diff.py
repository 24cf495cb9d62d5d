"""Which answers changed between two runs, by location and field: a hash join on disk.

The locations of both runs, with their answers, are put into partitions by the hash of what was
sent. Of a partition the older run's rows are in memory, and each of the newer one finds the row
with the same location, never by the hash alone. What changed is put into other partitions, by row,
and comes out in the order of the newer run. So memory does not grow with the rows.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import anyio.to_thread
import msgspec
from anyio.from_thread import check_cancelled

from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.locations.chunk import Chunk, shown_id
from pingdata_async.locations.normalize import sent_key
from pingdata_async.models import EnhancedLocation, RowStatus
from pingdata_async.runs.comparison import AnswerComparison, ChangeKind, FieldChange, FieldChoice
from pingdata_async.runs.directory.directory import (
    PLAN_NAME,
    SPOOL_NAME,
    check_apart,
    journal_path,
    read_settings,
)
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.settings import differences
from pingdata_async.runs.directory.spool import Spool
from pingdata_async.runs.export.export import Place
from pingdata_async.runs.export.output import (
    absolute_output,
    check_output,
    open_atomic,
    output_spec,
)
from pingdata_async.runs.export.results import DuplicateAnswers, ResultReader, all_outcomes
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.planning.dedupe import Partitions
from pingdata_async.tables.formats import OutputFormat, WriteOptions, check_format, load_package_for
from pingdata_async.tables.schema.output_table import BLOCK_ROWS
from pingdata_async.tables.schema.types import (
    NOTHING,
    Column,
    ColumnType,
    Values,
    narrowest_type,
    text_of_json,
    types_in_json,
)
from pingdata_async.tables.writers.base import Point, TableRows, open_table_writer
from pingdata_async.tables.writers.json import points
from pingdata_async.util.compression import compress, compressed_writer, decompress
from pingdata_async.util.files import absolute
from pingdata_async.util.text import STDOUT

BLOCK_BYTES = 16 * 1024 * 1024  # of records that are in memory before they are written
RECORD_BYTES = 500  # what one takes beside its values, about
ROWS_A_BUCKET, MOST_BUCKETS = 4096, 1024
CHANGES_A_ROW = 16  # that a bucket of changes has room for

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

R = TypeVar("R", bound=msgspec.Struct)


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A field whose value changed, or a location that is in one of the runs only.

    Attributes:
        kind: What became of it.
        source: The data source; None for a location.
        field: Its field; "a.b" is the member b of an object a. None for a location.
        old: The value in the older run; None for none.
        new: The value in the newer one.
        location: What was sent.
        old_id: The user's id of the row in the older run.
        new_id: In the newer one.
        old_row: The number of that row, from 0; None where the location is not in that run.
        new_row: Likewise.
    """

    kind: ChangeKind
    source: str | None = None
    field: str | None = None
    old: Any = None
    new: Any = None
    location: Mapping[str, Any]
    old_id: str | None = None
    new_id: str | None = None
    old_row: int | None = None
    new_row: int | None = None


class DiffSummary(msgspec.Struct, kw_only=True):
    """What a comparison of two runs found; rows are those of the newer one, if not said otherwise.

    Attributes:
        rows_in_both: Rows whose location is in the older run too.
        rows_changed: Of these, rows with a field that changed.
        only_in_old: Rows of the older run whose location is not in the newer one.
        only_in_new: Rows whose location is not in the older run.
        changes: By source and field, how often what happened to it.
        not_compared: By source, rows in both runs for which the older ("old") or the newer run
            ("new") has no answer: it was not asked, or failed in passing.
        unfinished: Rows of the older ("old") and the newer run ("new") without an outcome so far.
        notes: What else the user should know, a few words each.
    """

    rows_in_both: int = 0
    rows_changed: int = 0
    only_in_old: int = 0
    only_in_new: int = 0
    changes: dict[str, dict[str, Counter[str]]] = {}
    not_compared: dict[str, Counter[str]] = {}
    unfinished: dict[str, int] = {}
    notes: list[str] = []


# -- Records on disk -------------------------------------------------------------------------


class _Row(msgspec.Struct, array_like=True, gc=False):
    """A row of a run: `key` tells its location, `data` is b"" where it has no outcome."""

    key: bytes
    row: int
    id: str | None
    location: bytes
    data: bytes


class _Placed(msgspec.Struct, array_like=True):
    """A change, its place in the order, and where on a map it is."""

    place: int
    change: Change
    point: Point | None


class _Records(Partitions, Generic[R]):
    """Takes records of any size, and returns those of a bucket in the order in which they came."""

    def __init__(self, folder: Path, kind: type[R], rows: int) -> None:
        super().__init__(folder)
        self.buckets = max(1, min(MOST_BUCKETS, rows // ROWS_A_BUCKET))
        self._filling: list[list[R]] = [[] for _ in range(self.buckets)]
        self._bytes = 0
        # MessagePack has no integers of more than 64 bits, as a change may have.
        packs = msgspec.msgpack if kind is _Row else msgspec.json
        self._encode = packs.Encoder().encode
        self._decode = packs.Decoder(list[kind]).decode  # type: ignore[valid-type] # a variable

    def add(self, bucket: int, record: R, size_bytes: int) -> None:
        self._filling[bucket].append(record)
        self._bytes += size_bytes + RECORD_BYTES
        if self._bytes >= BLOCK_BYTES:
            self.write([compress(self._encode(each)) if each else b"" for each in self._filling])
            for filled in self._filling:
                filled.clear()
            self._bytes = 0

    def records(self, bucket: int) -> Iterator[R]:
        for piece in self.read(bucket):
            yield from self._decode(decompress(piece))
        yield from self._filling[bucket]


# -- The rows of a run -----------------------------------------------------------------------


class _Run:
    """A run as it is now, open as long as the stack is.

    Attributes:
        unfinished: Of the rows that were read, those without an outcome.
    """

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self.settings = read_settings(path)
        self._place = stack.enter_context(Place(path))
        journal = stack.enter_context(JournalReader(journal_path(path), as_it_is_now=True))
        self._plan = stack.enter_context(Plan(path / PLAN_NAME))
        spool, sources = Spool(path / SPOOL_NAME), self.settings.sources
        self._answers = ResultReader(spool, journal, sources, keep_earlier=True)
        self.total = self._plan.summary.rows
        self.unfinished = 0

    def rows(self, scratch: Path, check: Callable[[], None]) -> Iterator[_Row]:
        """All rows that are locations.

        Raises:
            RunError: When it is damaged, or was moved meanwhile.
        """
        try:
            with DuplicateAnswers(scratch) as duplicate_answers:
                for index in range(self._plan.chunks):
                    check()
                    settled = self._answers.settled(self._plan.read(index))
                    results = all_outcomes(settled, duplicate_answers, finished_only=True)
                    self.unfinished += settled.chunk.total_rows - len(results)
                    data = {result.row: bytes(result.data) for result in results}
                    yield from _rows_of(settled.chunk, data)
        except RunError:
            self._place.check()  # else an answer would be said to be missing
            raise
        self._place.check()


def _rows_of(chunk: Chunk, data: Mapping[int, bytes]) -> Iterator[_Row]:
    sent = list(zip(chunk.rows, chunk.ids, chunk.locations, strict=True))
    sent += [(each.row, each.id, each.location) for each in chunk.duplicates]
    for row, own_id, numbered in sent:
        location = b"{" + numbered.partition(b",")[2]  # without the row's number
        if b'"sources":' in location:  # it is the same location, whichever sources a row asks
            fields = _decode_raw(location)
            fields.pop("sources", None)
            location = _encode(fields)
        yield _Row(sent_key(location), row, shown_id(row, own_id), location, data.get(row, b""))


class _OldRows:
    """The rows of the older run at a location."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.is_in_new = False
        self._by_id: dict[str | None, _Row] = {}

    def add(self, row: _Row) -> None:
        if self.rows and row.data == self.rows[0].data:
            row.data = self.rows[0].data  # once in memory
        self.rows.append(row)

    def beside(self, user_id: str | None) -> _Row:
        """The row with the same id, or else the first."""
        if len(self.rows) > 1 and not self._by_id:
            self._by_id = {row.id: row for row in reversed(self.rows)}
        return self._by_id.get(user_id, self.rows[0])


# -- What changed ----------------------------------------------------------------------------


def _join(
    old: Iterable[_Row],
    new: Iterable[_Row],
    comparison: AnswerComparison,
    summary: DiffSummary,
) -> Iterator[tuple[Change, _Row]]:
    """What changed among rows of two runs, each with the row that the location is of."""
    by_key: dict[bytes, _OldRows] = {}
    for row in old:
        by_key.setdefault(row.key, _OldRows()).add(row)
    for row in new:
        rows = by_key.get(row.key)
        if rows is None:
            summary.only_in_new += 1
            yield _change(FieldChange(ChangeKind.ONLY_IN_NEW), None, row), row
            continue
        rows.is_in_new = True
        summary.rows_in_both += 1
        before = rows.beside(row.id)
        is_changed = False
        for found in comparison.compare(before.data, row.data):
            is_changed = True
            yield _change(found, before, row), row
        summary.rows_changed += is_changed
    for rows in by_key.values():
        for row in () if rows.is_in_new else rows.rows:
            summary.only_in_old += 1
            yield _change(FieldChange(ChangeKind.ONLY_IN_OLD), row, None), row


def _change(found: FieldChange, old: _Row | None, new: _Row | None) -> Change:
    row = new or old
    return Change(
        **msgspec.structs.asdict(found),
        location={} if row is None else _decode(row.location),
        old_id=None if old is None else old.id,
        new_id=None if new is None else new.id,
        old_row=None if old is None else old.row,
        new_row=None if new is None else new.row,
    )


class _Found:
    """What changed, on disk."""

    def __init__(self, records: _Records[_Placed], places: int) -> None:
        self.summary = DiffSummary()
        self.changes = 0
        self.types = NOTHING  # of all values
        self._records = records
        self._places = places

    def add(self, placed: _Placed) -> None:
        size_bytes = 0
        for value in (placed.change.old, placed.change.new):
            if value is not None:
                raw = _encode(value)
                self.types |= types_in_json(raw)
                size_bytes += len(raw)
        self.changes += 1
        self._records.add(placed.place * self._records.buckets // self._places, placed, size_bytes)

    def in_order(self) -> Iterator[_Placed]:
        """In the order of the newer run; what is only in the older one comes last."""
        for bucket in range(self._records.buckets):
            yield from sorted(self._records.records(bucket), key=lambda placed: placed.place)


@contextlib.contextmanager
def _compared(
    run_dirs: tuple[str | Path, str | Path],
    fields: Iterable[str],
    tolerance: float,
    *,
    scratch: Path,
    check: Callable[[], None] = lambda: None,
    with_points: bool = False,
) -> Iterator[_Found]:
    """Compare two runs; blocks. Raises as `diff_runs()`."""
    if not 0 <= tolerance < math.inf:
        raise ConfigurationError(f"a tolerance is a number of 0 or more, not {tolerance}")
    chosen = FieldChoice(fields)
    comparison = AnswerComparison(chosen, tolerance)
    try:
        with contextlib.ExitStack() as stack:
            old, new = (_Run(absolute(run_dir), stack) for run_dir in run_dirs)
            total = max(1, old.total + new.total)
            changes = _Records(scratch, _Placed, total * CHANGES_A_ROW)
            found = _Found(stack.enter_context(changes), total)
            summary = found.summary
            rows = [stack.enter_context(_Records(scratch, _Row, total // 2)) for _ in run_dirs]
            for run, records in zip((old, new), rows, strict=True):
                for row in run.rows(scratch, check):
                    size_bytes = len(row.key) + len(row.location) + len(row.data)
                    records.add(hash(row.key) % records.buckets, row, size_bytes)
            for bucket in range(rows[0].buckets):
                check()
                before, after = (records.records(bucket) for records in rows)
                for change, row in _join(before, after, comparison, summary):
                    place = new.total + row.row if change.new_row is None else row.row
                    point = _point(row, new.settings.sources) if with_points else None
                    found.add(_Placed(place, change, point))
            for records in rows:
                records.close()  # the disk may be needed for the output
            summary.changes, summary.not_compared = comparison.changes, comparison.not_compared
            summary.unfinished = {"old": old.unfinished, "new": new.unfinished}
            summary.notes += differences(new.settings, old.settings)
            unknown = chosen.unmatched if comparison.looked_at else ()
            summary.notes += [f'no answer has a field "{each}"' for each in unknown]
            yield found
    except BrokenPipeError:
        raise
    except OSError as error:
        said = error.strerror or error
        raise RunError(f"what is compared cannot be kept in {scratch}: {said}") from error


def _point(row: _Row, sources: tuple[str, ...]) -> Point | None:
    """Where a row is: as it was answered, or else as it was sent."""
    result = EnhancedLocation(
        None, row.row, RowStatus.OK, None, None, msgspec.Raw(row.data or b"{}")
    )
    [point] = points([result], (), sources)
    sent = _decode(row.location)
    if point is None and "longitude" in sent and "latitude" in sent:
        return sent["longitude"], sent["latitude"]
    return point


def diff_runs(
    old: str | Path, new: str | Path, *, fields: Iterable[str] = (), tolerance: float = 0.0
) -> Iterator[Change]:
    """Compare two runs by location, and yield what changed; costs nothing, and blocks.

    A row of the newer run stands beside the row of the older one at the same location: the one with
    the same id, or else the first. Compared are the answers of the sources that both were asked,
    "no match" included. Changes come in the order of the newer run's rows; what is only in the
    older one comes last.

    Args:
        old: The run directory of the older run. Both may be at work, stopped or finished.
        new: That of the newer one.
        fields: The fields to compare, as names or patterns such as "flood*", "PH.elevation" or
            "ph_elevation"; () for all but those that say nothing about a location.
        tolerance: Numbers that differ by no more are the same.

    Raises:
        ConfigurationError: The tolerance is below 0, or no number.
        RunError: One of them is no run directory, or is damaged, or the disk cannot be used.
    """
    with _compared((old, new), fields, tolerance, scratch=Path(tempfile.gettempdir())) as found:
        for placed in found.in_order():
            yield placed.change


# -- Written down ----------------------------------------------------------------------------


async def write_diff(
    old: Path,
    new: Path,
    output: str | Path,
    *,
    fields: Iterable[str] = (),
    tolerance: float = 0.0,
    overwrite: bool = False,
    writing: WriteOptions | None = None,
) -> DiffSummary:
    """Write what changed between two runs to a file, and count it.

    Arguments and errors as of `diff_runs()` and `export_run()`. Cancelled, it leaves nothing
    behind.
    """
    path = await anyio.to_thread.run_sync(absolute_output, output)
    options = writing or WriteOptions()
    spec = output_spec(path, options, (), {})
    check_format(spec.kind)
    load_package_for(spec.kind)

    def check_place() -> None:
        for run_dir in (old, new):
            check_apart(run_dir, [path])
        check_output(path, None, overwrite=overwrite)

    await anyio.to_thread.run_sync(check_place)
    scratch = Path(tempfile.gettempdir()) if str(path) == STDOUT else Path(path).parent
    async with open_atomic(path) as file:

        def write() -> DiffSummary:
            with (
                _compared(
                    (old, new),
                    fields,
                    tolerance,
                    scratch=scratch,
                    check=check_cancelled,
                    with_points=spec.kind.has_geometry,
                ) as found,
                file.opened() as raw,
                compressed_writer(raw, spec.compression) as packed,
            ):
                _write(packed, found, spec.kind, options)
                return found.summary

        return await anyio.to_thread.run_sync(write)


def _write(file: BinaryIO, found: _Found, kind: OutputFormat, options: WriteOptions) -> None:
    if kind is OutputFormat.JSONL:
        file.writelines(_encode(placed.change) + b"\n" for placed in found.in_order())
        return
    check_format(kind, found.changes)
    of_values = narrowest_type(found.types)
    types = dict.fromkeys(("old_row", "new_row"), ColumnType.INTEGER)
    types |= dict.fromkeys(("old", "new"), of_values)
    names = Change.__struct_fields__
    columns = [Column(name, types.get(name, ColumnType.TEXT)) for name in names]
    with open_table_writer(file, kind, columns, options) as writer:
        changes = found.in_order()
        while block := list(islice(changes, BLOCK_ROWS)):
            rows = [_cells(placed.change, of_values) for placed in block]
            values: list[Values] = list(zip(*rows, strict=True))
            writer.write(TableRows(values, len(block), [placed.point for placed in block]))


def _cells(change: Change, of_values: ColumnType) -> Sequence[Any]:
    """A change as a row of a table."""
    address = [
        str(value)
        for name, value in change.location.items()
        if "__" not in name and not isinstance(value, dict)
    ]
    cells = msgspec.structs.asdict(change) | {
        "kind": change.kind.value,
        "old": _cell(change.old, of_values),
        "new": _cell(change.new, of_values),
        "location": ", ".join(address),
    }
    return list(cells.values())


def _cell(value: Any, type_: ColumnType) -> Any:
    """A value as its column has it."""
    if value is None:
        return None
    if type_ is ColumnType.TEXT:
        return text_of_json(_encode(value))
    return float(value) if type_ is ColumnType.NUMBER else value
