"""enhance_batches(): batches of Arrow in, the same rows with answers beside them out.

A task of a distributed engine runs it over its partition. One event loop, in a thread of its own,
brings all chunks through the `Engine`; the task's own thread reads the input when the engine wants
more, and makes the output. Batches do not wait for each other, and no more is read ahead than the
jobs of the task's share need.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import anyio.lowlevel
import msgspec
import pyarrow as pa
from anyio.from_thread import start_blocking_portal

from pingdata_async.api.client import PingDataClient
from pingdata_async.engine.context import (
    BulkAPI,
    ChunkStore,
    Delivery,
    EngineContext,
    FinishedChunk,
    limits_of,
)
from pingdata_async.engine.engine import Engine
from pingdata_async.engine.flow_control.budget import Budget
from pingdata_async.engine.flow_control.polling import PollPlanner
from pingdata_async.engine.flow_control.retry import CircuitBreaker
from pingdata_async.engine.task import ChunkTask
from pingdata_async.engines.spec import AnswerField, BatchSpec
from pingdata_async.engines.task_store import HandingOver, RecordingStore, StoredOutputs
from pingdata_async.events import EventEmitter, new_run_id
from pingdata_async.exceptions import InputError
from pingdata_async.locations.normalize import BATCH_ROWS, Columns
from pingdata_async.models import NO_DATA, EnhancedLocation
from pingdata_async.tables.readers.arrow import ArrowReader, json_values
from pingdata_async.tables.readers.base import MemoryHash
from pingdata_async.tables.rows import Batch
from pingdata_async.tables.schema.arrow import field_of
from pingdata_async.tables.schema.output_table import STATUS_COLUMNS
from pingdata_async.tables.schema.types import Column, ColumnType, free_name

ANSWER_COLUMNS: Final = (*STATUS_COLUMNS, "enhance_json")
"""All are text: the last one is the API's object, which an engine can parse as it likes."""

UNSORTED = (
    "the rows of a partition are not sorted by {key}: a shuffle that comes back in another order "
    "would be paid for again. Sort each partition by its key, as in "
    "df.repartition(tasks, *key).sortWithinPartitions(*key)"
)


def output_schema(schema: pa.Schema, spec: BatchSpec) -> pa.Schema:
    """The schema of what `enhance_batches()` yields for an input of this schema.

    Behind the input's columns come `ANSWER_COLUMNS`, and the columns that the spec names; a name
    that the input has becomes name_2.
    """
    taken = {name.casefold() for name in schema.names}
    fields = []
    new = [Column(name, ColumnType.TEXT) for name in ANSWER_COLUMNS]
    for column in (*new, *(Column(each.name, each.type) for each in spec.columns)):
        name = free_name(column.name, taken)
        taken.add(name.casefold())
        fields.append(field_of(column, name))
    metadata: Any = schema.metadata
    return pa.schema([*schema, *fields], metadata=metadata)


def enhance_batches(
    batches: Iterator[pa.RecordBatch], spec: BatchSpec, *, task: str = ""
) -> Generator[pa.RecordBatch, None, None]:
    """Enhance the rows of a partition.

    Rows come out with the answers of their chunk, in the order in which chunks finish. What goes
    wrong with a row stands in its columns, and no row fails the task. Closed early, it abandons the
    jobs in flight, although the API charges for them. With a store, another attempt takes them up;
    so submissions under way are waited for, up to the retry policy's `linger_s`.

    Args:
        batches: The rows; all batches have the same schema.
        spec: What to do, the same for all tasks.
        task: The name of the partition, for the records of the store.

    Raises:
        InputError: When the rows are not sorted by the key, or have other columns than were
            settled.
        ConfigurationError: When there is no token, or the store belongs to another run.
        RunError: When the store cannot be used.
        SubmissionInDoubtError: When the retry policy holds submissions in doubt for you to decide,
            and there are some.
        PingDataError: When no further request can succeed: the token is refused, a quota or the
            task's share of the budget is spent, or the API is down for good.
    """
    run = _TaskRun(spec, task)
    rows = _InputRows(batches, spec)
    with start_blocking_portal() as portal:
        future = portal.start_task_soon(run.run)
        future.add_done_callback(lambda _: run.messages.put(None))
        while (message := run.messages.get()) is not None:
            if isinstance(message, _Wanted):
                message.give(rows.read())
                continue
            finished, delivery = message
            results = finished.results
            yield rows.beside(results)
            run.loop.call_soon_threadsafe(delivery.take, len(results))
        future.result()


class _Piece(NamedTuple):
    """Consecutive rows of the input, as they are looked up."""

    begin: int
    locations: Columns


class _Wanted:
    """More rows are wanted; made in the event loop, and answered from the task's own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[list[_Piece] | None] = self._loop.create_future()

    def give(self, pieces: list[_Piece] | None) -> None:
        """Give more rows; None if there are no more."""
        self._loop.call_soon_threadsafe(self._give, pieces)

    def _give(self, pieces: list[_Piece] | None) -> None:
        if not self._answer.done():
            self._answer.set_result(pieces)

    async def wait(self) -> list[_Piece] | None:
        """Wait for them."""
        return await self._answer


_Messages = queue.SimpleQueue[_Wanted | tuple[FinishedChunk, Delivery] | None]


class _TaskRun:
    """The part of a task that is in the event loop."""

    def __init__(self, spec: BatchSpec, task: str) -> None:
        self._spec = spec
        self._task = task
        self._builder = spec.builder()
        self.messages: _Messages = queue.SimpleQueue()

    async def run(self) -> None:
        """Bring all rows through the API."""
        self.loop = asyncio.get_running_loop()
        async with self._spec.client() as client:
            shared = await self._spec.shared_store()
            next_index, hand_over = self._builder.next_index, self._hand_over
            if shared is None:
                context = self._context(client, client, HandingOver(next_index, hand_over))
            else:
                store = RecordingStore(next_index, hand_over, shared, self._spec, self._task)
                context = self._context(client, StoredOutputs(client, shared), store)
            async with contextlib.aclosing(self._tasks()) as tasks:
                await Engine(context).run(tasks)

    def _hand_over(self, finished: FinishedChunk, delivery: Delivery) -> None:
        self.messages.put((finished, delivery))

    def _context(self, client: PingDataClient, api: BulkAPI, store: ChunkStore) -> EngineContext:
        spec, rng = self._spec, random.Random()  # noqa: S311 - jitter, not secrets
        limits = limits_of(client, rng)
        sources = spec.settings.sources
        return EngineContext(
            api=api,
            store=store,
            sources=sources,
            options=spec.options,
            chunk_size=spec.settings.chunk_size,
            job_slots=limits.concurrency.share(spec.max_jobs),
            rate_limiter=limits.rate_limiter,
            max_requests_per_s=spec.max_requests_per_s,
            poll_planner=PollPlanner(spec.schedule),
            policy=spec.policy,
            breaker=CircuitBreaker(spec.policy),
            budget=Budget(spec.caps, sources),
            emit=EventEmitter(run_id=new_run_id()),
            rng=rng,
        )

    async def _tasks(self) -> AsyncGenerator[ChunkTask, None]:
        while True:
            wanted = _Wanted()
            self.messages.put(wanted)
            pieces = await wanted.wait()
            if pieces is None:
                break
            for piece in pieces:
                await anyio.lowlevel.checkpoint()
                for chunk in self._builder.add_batch(piece.begin, piece.locations):
                    yield ChunkTask(chunk)
        rest = self._builder.rest()
        if rest is not None:
            yield ChunkTask(rest)


# -- The input and the output ----------------------------------------------------------------


class _Locations(ArrowReader):
    """What is looked up of the rows of record batches."""

    def __init__(self, schema: pa.Schema, spec: BatchSpec) -> None:
        super().__init__("the table", MemoryHash(), spec.settings.reading)
        if tuple(schema.names) != spec.headers:
            raise InputError(
                f"the table has the columns {', '.join(schema.names)}, but "
                f"{', '.join(spec.headers)} were settled"
            )
        self._schema, self.headers, self.mapping = schema, spec.headers, spec.mapping

    def _batches(self) -> Iterator[Batch]:
        raise NotImplementedError

    def of(self, batch: pa.RecordBatch) -> Columns:
        """Those of a batch."""
        used = self._used_places()
        columns = [
            json_values(batch.column(place)) if place in used else ()
            for place in range(batch.num_columns)
        ]
        located = self._located(columns, are_texts=False, unused=lambda _: ())
        self.rows += batch.num_rows
        return located


class _Held(NamedTuple):
    """Rows that wait for their answers."""

    rows: Sequence[int]
    batch: pa.RecordBatch


class _InputRows:
    """Reads the input, and holds its rows until their answers are there."""

    def __init__(self, batches: Iterable[pa.RecordBatch], spec: BatchSpec) -> None:
        self._batches = iter(batches)
        self._spec = spec
        self._order = _Order(spec)
        self._next_row = 0
        self._held: dict[int, _Held] = {}  # by the first row that a piece had
        self._begins: list[int] = []  # of these, in order
        self._locations: _Locations | None = None
        self._schema: pa.Schema | None = None
        self._fields = _Fields(spec.columns) if spec.columns else None

    def read(self) -> list[_Piece] | None:
        """The next batch that has rows; None if there is none."""
        batch = next((each for each in self._batches if each.num_rows), None)
        if batch is None:
            return None
        if self._locations is None:
            self._locations = _Locations(batch.schema, self._spec)
            self._schema = output_schema(batch.schema, self._spec)
        self._order.check(batch, self._next_row)
        pieces = []
        for begin in range(0, batch.num_rows, BATCH_ROWS):
            piece = batch.slice(begin, BATCH_ROWS)
            pieces.append(_Piece(self._next_row, self._locations.of(piece)))
            self._begins.append(self._next_row)
            end = self._next_row + piece.num_rows
            self._held[self._next_row] = _Held(range(self._next_row, end), piece)
            self._next_row = end
        return pieces

    def beside(self, results: Sequence[EnhancedLocation]) -> pa.RecordBatch:
        """The input's rows, which are held no more, with their answers beside them."""
        taken = self._take([result.row for result in results])
        new = [
            pa.array([result.status.value for result in results], pa.string()),
            pa.array([result.reason and result.reason.value for result in results], pa.string()),
            pa.array([result.error for result in results], pa.string()),
            _texts([None if each.data is NO_DATA else bytes(each.data) for each in results]),
        ]
        if self._fields is not None:
            new += self._fields.arrays(results)
        return pa.RecordBatch.from_arrays([*taken.columns, *new], schema=self._schema)

    def _take(self, rows: Sequence[int]) -> pa.RecordBatch:
        """Some of the rows, in order."""
        parts: list[pa.RecordBatch] = []
        at = 0
        while at < len(rows):
            number = bisect_right(self._begins, rows[at]) - 1
            begin = self._begins[number]
            held = self._held[begin]
            end = bisect_right(rows, held.rows[-1], at)
            own = {bisect_left(held.rows, row) for row in rows[at:end]}
            at = end
            parts += _runs(held.batch, sorted(own))
            left = [place for place in range(len(held.rows)) if place not in own]
            if left:  # a copy: a few rows must not keep a whole batch in memory
                rest = _joined(_runs(held.batch, left))
                self._held[begin] = _Held([held.rows[place] for place in left], rest)
            else:
                del self._held[begin], self._begins[number]
        return parts[0] if len(parts) == 1 else _joined(parts)


def _runs(batch: pa.RecordBatch, places: Sequence[int]) -> list[pa.RecordBatch]:
    """The rows at some places in order, as slices; a view of texts knows no take()."""
    begins = [0, *(n for n, (a, b) in enumerate(pairwise(places), 1) if b != a + 1), len(places)]
    return [batch.slice(places[begin], end - begin) for begin, end in pairwise(begins)]


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    joined: pa.RecordBatch = pa.concat_batches(batches)  # type: ignore[attr-defined]  # not in stubs
    return joined


def _texts(values: list[bytes | None]) -> pa.Array[Any]:
    try:
        return pa.array(values, pa.string())
    except pa.ArrowInvalid:  # not UTF-8
        return pa.array(
            [None if each is None else each.decode("utf-8", "backslashreplace") for each in values],
            pa.string(),
        )


class _Order:
    """Checks that rows come in an order that a second attempt finds again."""

    def __init__(self, spec: BatchSpec) -> None:
        self._key = spec.key
        self._last: tuple[Any, ...] | None = None
        used = {place for column in spec.mapping.columns for place in column.places}
        self._sent = [spec.headers[place] for place in sorted(used)]
        self._last_sent: tuple[Any, ...] = ()

    def check(self, batch: pa.RecordBatch, row: int) -> None:
        """Refuse rows that are not sorted by the key, or differ although their keys are equal.

        Raises:
            InputError: With what to do.
        """
        if not self._key:
            return
        named = ", ".join(self._key)
        columns = [_comparable(batch.column(name).to_pylist()) for name in self._key]
        keys = list(zip(*columns, strict=True))
        if self._last is not None:
            keys.insert(0, self._last)
        first = row - (self._last is not None)
        equal = []
        for place, (before, after) in enumerate(pairwise(keys)):
            if after < before:
                raise InputError(f"{UNSORTED.format(key=named)} (row {first + place + 1})")
            if after == before:
                equal.append(place)
        sent = [batch.column(name) for name in self._sent]

        def sent_at(place: int) -> tuple[Any, ...]:
            own = place - (self._last is not None)
            return self._last_sent if own < 0 else tuple(column[own].as_py() for column in sent)

        for place in equal:
            if sent_at(place) != sent_at(place + 1):
                raise InputError(
                    f"rows {first + place} and {first + place + 1} of a partition have the same "
                    f"{named}, and differ: their order may change, and be paid for again. Add "
                    "columns to the key until it tells all different rows apart"
                )
        self._last_sent, self._last = sent_at(len(keys) - 1), keys[-1]


def _comparable(values: list[Any]) -> list[Any]:
    """Values that can be compared: null comes first, as in Spark."""
    return [(value is not None, 0 if value is None else value) for value in values]


class _Fields:
    """Extracts fields of the answers as columns; a value of another type than declared is null."""

    def __init__(self, fields: Sequence[AnswerField]) -> None:
        self._fields = fields
        self._names = {each.field: f"f{number}" for number, each in enumerate(fields)}
        source = msgspec.defstruct(
            "Source",
            [(name, Any, None) for name in self._names.values()],
            rename={name: field for field, name in self._names.items()},
        )
        self._decode = msgspec.json.Decoder(dict[str, source | None]).decode  # type: ignore[valid-type]  # made above

    def arrays(self, results: Sequence[EnhancedLocation]) -> list[pa.Array[Any]]:
        """A column for each field."""
        answers = [self._read(result) for result in results]
        arrays = []
        for each in self._fields:
            source, name = each.source.casefold(), self._names[each.field]
            fits = _FITS[each.type]
            values = [getattr(answer.get(source), name, None) for answer in answers]
            kept = [value if fits(value) else None for value in values]
            if each.type is ColumnType.TEXT:
                kept = [
                    value if value is None or isinstance(value, str) else _json(value)
                    for value in values
                ]
            arrays.append(pa.array(kept, field_of(Column("", each.type), "").type))
        return arrays

    def _read(self, result: EnhancedLocation) -> dict[str, Any]:
        try:
            return {code.casefold(): each for code, each in self._decode(result.data).items()}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: Final[dict[ColumnType, Callable[[Any], bool]]] = {
    ColumnType.NOTHING: lambda _: False,
    ColumnType.BOOLEAN: lambda value: isinstance(value, bool),
    ColumnType.INTEGER: lambda value: (
        _is_number(value) and -(2**63) <= value < 2**63 and value == int(value)
    ),
    ColumnType.NUMBER: _is_number,
    ColumnType.TEXT: lambda _: True,
}
