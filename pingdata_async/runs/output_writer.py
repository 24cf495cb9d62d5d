"""The output of a run in the making: planned chunks, in input order, each once.

While a run is under way, chunks are written as their answers come, as long as they come about in
order: what was just checked is in memory then, and need not be read and inflated a second time.
Whatever comes otherwise (late, in parts, with rows that are asked about again) is written from
plan and spool at the end, together with all that comes after it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable

from pingdata_async.bulk.chunks import Chunk
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.tally import Tally
from pingdata_async.exceptions import RunError
from pingdata_async.one_thread import OneThread
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.carried_answers import CarriedAnswers
from pingdata_async.runs.output_files import OutputFile
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.rendering import Rendered, render, render_layout

AHEAD = 4  # chunks that are kept in memory because the next one is not there yet


class OutputWriter:
    """Takes planned chunks.

    Args:
        file: Where the lines are written.
        failures: Where the rows without an answer are written; None for nowhere.
        thread: Does it.
        carried: What was answered of rows that recur.
        may_begin_early: Whether what is written can be taken back.

    Attributes:
        counts: How the rows ended that are written.
    """

    def __init__(
        self,
        file: OutputFile,
        failures: OutputFile | None,
        thread: OneThread,
        *,
        carried: CarriedAnswers,
        may_begin_early: bool,
    ) -> None:
        self._file = file
        self._failures = failures
        self._thread = thread
        self._carried = carried
        self._takes_early = may_begin_early
        self._early: dict[int, tuple[Chunk, Layout, bytes]] = {}
        self._next_index = 0
        self.counts = Tally()

    # -- while the run is under way ------------------------------------------------------

    async def offer(self, chunk: Chunk, layout: Layout, content: bytes) -> None:
        """A planned chunk is answered, and safe: write it, if it is its turn.

        What cannot be written is no reason to stop a run: it is tried again at the end.

        Args:
            chunk: The chunk; none of its rows is asked about again.
            layout: Where each row's answer is.
            content: In this.
        """
        is_soon = 0 <= chunk.index - self._next_index < AHEAD
        if not (self._takes_early and chunk.is_planned and is_soon):
            return
        self._early[chunk.index] = chunk, layout, content
        try:
            # Whoever comes meanwhile finds that the next one is taken.
            while (taken := self._early.pop(self._next_index, None)) is not None:
                await self._write(functools.partial(render_layout, *taken, self._carried))
        except RunError:
            self._takes_early = False
            self._early.clear()
            with contextlib.suppress(RunError):  # the answers need the disk more
                await self._begin_again()

    # -- at its end ----------------------------------------------------------------------

    async def write_rest(
        self,
        plan: Plan,
        answers: Answers,
        *,
        on_rows: Callable[[int], None],
        finished_only: bool = False,
    ) -> None:
        """Write every chunk that is not written yet.

        Args:
            plan: What was planned, inside its `with` block.
            answers: What was answered.
            on_rows: Told of the number of rows after each chunk.
            finished_only: Leave out rows without an outcome, instead of refusing them.

        Raises:
            RunError: When it cannot be written, or a row has no outcome.
            BrokenPipeError: When nobody reads standard output any more.
        """
        self._early.clear()
        if not self._takes_early:
            await self._begin_again()
        self._takes_early = False
        on_rows(self.counts.rows)

        def render_next() -> Rendered:
            return render(
                plan.read(self._next_index), answers, self._carried, finished_only=finished_only
            )

        while self._next_index < plan.chunks:
            on_rows(await self._write(render_next))

    async def _begin_again(self) -> None:
        """Take back what there is, of which the last chunk may be cut off."""
        self._next_index = 0
        self.counts = Tally()
        await self._thread.run(self._empty_files)

    def _empty_files(self) -> None:
        self._carried.begin_again()
        for file in (self._file, self._failures):
            if file is not None:
                file.empty()

    async def _write(self, make: Callable[[], Rendered]) -> int:
        """Render a chunk and write it, all in one visit to the thread; returns its rows."""

        def write() -> Tally:
            rendered = make()
            self._file.write(rendered.lines)
            if self._failures is not None and rendered.failures:
                self._failures.write([rendered.failures])
            return rendered.counts

        counts = await self._thread.run(write)
        self._next_index += 1
        self.counts.add(counts)
        return counts.rows
