"""A run's rows as they came, beside how they ended, a planned chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pingdata_async.bulk.chunks import Chunk
from pingdata_async.exceptions import RunError
from pingdata_async.models import EnhancedLocation
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.carried_answers import CarriedAnswers
from pingdata_async.runs.kept_input import KeptInput
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.rendering import all_outcomes
from pingdata_async.tables.inputs import Originals
from pingdata_async.tables.originals import joined, rows_in, sliced


class ChunkRows(msgspec.Struct, frozen=True):
    """The rows of a planned chunk.

    Attributes:
        chunk: The chunk.
        originals: All of its rows, as they came.
        results: How those ended that have ended, in order.
        places: Where these are among the originals; None where all have ended.
    """

    chunk: Chunk
    originals: Originals
    results: list[EnhancedLocation]
    places: list[int] | None


class RowsByChunk:
    """Reads a run's chunks in their order, once. Blocks.

    Args:
        plan: What was planned, inside its `with` block.
        kept: The input's rows, likewise.
        answers: What was answered.
        carried: What was answered of rows that recur.
        finished_only: Leave out rows without an outcome, instead of refusing them.
    """

    def __init__(
        self,
        plan: Plan,
        kept: KeptInput,
        answers: Answers,
        carried: CarriedAnswers,
        *,
        finished_only: bool,
    ) -> None:
        self._plan = plan
        self._answers = answers
        self._carried = carried
        self._finished_only = finished_only
        self._originals = _Taker(iter(kept))
        self._next_index = 0
        self._first_row = 0

    def read_next(self) -> ChunkRows:
        """The rows of the next chunk.

        Raises:
            RunError: When a row has no outcome, or something is missing or damaged.
        """
        chunk = self._plan.read(self._next_index)
        self._next_index += 1
        results = all_outcomes(
            chunk, self._answers, self._carried, finished_only=self._finished_only
        )
        originals = self._originals.take(chunk.total_rows)
        places = None
        if len(results) != chunk.total_rows:
            places = [result.row - self._first_row for result in results]
        self._first_row += chunk.total_rows
        return ChunkRows(chunk, originals, results, places)


class _Taker:
    """Gives as many rows as are asked for, from batches of any size."""

    def __init__(self, batches: Iterator[Originals]) -> None:
        self._batches = batches
        self._rest: Originals | None = None

    def take(self, rows: int) -> Originals:
        parts: list[Originals] = []
        while rows:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise RunError("the kept input has fewer rows than the plan; please report this")
            size = rows_in(batch)
            if size > rows:
                self._rest = sliced(batch, rows, size)
                batch, size = sliced(batch, 0, rows), rows
            else:
                self._rest = None
            parts.append(batch)
            rows -= size
        return joined(parts)
