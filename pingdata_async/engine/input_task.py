"""The one task in which an input is iterated and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol, Self

import anyio

from pingdata_async.engine.task import ChunkTask
from pingdata_async.exceptions import InputError

if TYPE_CHECKING:
    from types import TracebackType


logger = logging.getLogger("pingdata_async")

CLOSE_INPUT_WITHIN_S = 5.0


class Source(Protocol):
    """Chunks of an input."""

    async def __anext__(self) -> ChunkTask:
        """The next one."""
        ...

    async def aclose(self) -> None:
        """Let go of the input."""
        ...


class InputTask(AsyncIterator[ChunkTask]):
    """Reads an input in a task of its own, and closes it there.

    What a generator holds across a `yield` belongs to the task that went into it: a task group, a
    time-out, a context variable, a span of a tracer. Leaving it in another task is an error. So
    whoever wants a chunk asks this task, and at the end has it close the input.

    It is a plain task of asyncio: cancelled once, it leaves the clean-up of the input free to
    await, for `CLOSE_INPUT_WITHIN_S`. In a cancelled scope of anyio every further await would fail.

    Used with `async with`, at the end of which the input is closed. An error from that does not
    take the place of the block's own: it becomes a note of it, or is logged.

    Args:
        source: What is read; closed also where it was never asked for anything.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._task: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[ChunkTask | None] | None = None
        self._is_reading = False
        self._is_ending = False
        self._failure: BaseException | None = None  # with which the task ended

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()
        failure = self._failure
        if failure is None or failure is exc:
            return
        if isinstance(exc, Exception):
            exc.add_note(f"The input failed as well: {type(failure).__name__}: {failure}")
        else:
            logger.warning("the input failed when it was closed: %s", failure, exc_info=failure)

    async def __anext__(self) -> ChunkTask:
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="pingdata_async input")
            self._task.add_done_callback(self._ended)
        self._answer = asyncio.get_running_loop().create_future()
        self._asked.set()
        if self._task.done():
            self._ended(self._task)
        try:
            task = await self._answer
        except asyncio.CancelledError:
            self._end()  # nobody will ask again
            raise
        if task is None:
            raise StopAsyncIteration
        return task

    async def _read(self) -> None:
        answer = None
        try:
            while True:
                await self._asked.wait()
                if self._is_ending:
                    return
                self._asked.clear()
                answer = self._answer
                assert answer is not None  # noqa: S101 - for type checkers
                self._is_reading = True
                try:
                    task = await anext(self._source, None)
                except Exception as error:
                    if answer.done():
                        raise
                    answer.set_exception(error)
                else:
                    if not answer.done():
                        answer.set_result(task)
                finally:
                    self._is_reading = False
        finally:
            if answer is not None and not answer.done():
                answer.set_exception(InputError("the task that reads the locations was cancelled"))
            await self._source.aclose()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody answers any more: not who asks now, nor who asks later.

        Between two chunks the input may end the task by itself: what fails in a task group that a
        generator holds, or a time-out there, cancels whoever went into it.
        """
        if self._failure is None and not task.cancelled():
            self._failure = task.exception()
            if isinstance(self._failure, BaseExceptionGroup):
                # A task group inside a generator wraps also what only says that this is closed.
                self._failure = self._failure.split((GeneratorExit, asyncio.CancelledError))[1]
        if self._answer is not None and not self._answer.done():
            cancelled = InputError("the task that reads the locations was cancelled")
            self._answer.set_exception(self._failure or cancelled)

    def _end(self) -> None:
        if self._is_ending or self._task is None:
            return
        self._is_ending = True
        self._asked.set()
        if self._is_reading:
            self._task.cancel()

    async def _close(self) -> None:
        """Have the input closed."""
        task = self._task
        if task is None:
            return
        self._end()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task], timeout=CLOSE_INPUT_WITHIN_S)
            if not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=CLOSE_INPUT_WITHIN_S)
        if task.done():
            self._ended(task)
        else:
            logger.warning("the input does not let itself be closed, and is left behind")
