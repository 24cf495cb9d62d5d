"""Phase one: a plan in the run directory, made now or found there.

A plan that is found must be of the same input and settings, and no run beside it may have paid for
the same before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio import from_thread
from anyio.from_thread import check_cancelled

from pingdata_async.events import EventEmitter, InputAwaited, InputProgress, RunNotice
from pingdata_async.exceptions import ConfigurationError, InputError, RunError
from pingdata_async.locations.chunk_builder import ChunkBuilder
from pingdata_async.runs.directory.directory import (
    FINGERPRINT,
    PLAN_NAME,
    SETTINGS,
    RunDirectory,
    as_kept,
    begun_with,
    can_set_aside,
    check_apart,
    failures_path,
    has_sent,
    is_within,
    new_beside,
    put_in_place,
    run_dir_for,
    same_run_beside,
)
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.settings import RunFlags, RunSettings, differences
from pingdata_async.runs.export.export import check_run_output
from pingdata_async.runs.export.output import OutputSpec, check_output, output_spec
from pingdata_async.runs.planning.plan_writer import AskCoverage, write_plan
from pingdata_async.tables.formats import check_format
from pingdata_async.tables.readers.base import fingerprint_of
from pingdata_async.tables.readers.open import AnyInput, open_input
from pingdata_async.tables.rows import STDIN, Fingerprint, ReadOptions
from pingdata_async.util.text import STDOUT, quoted_path, shown_path

CarryOver = Callable[[RunDirectory, Plan], Awaitable[None]]


@dataclasses.dataclass
class Planner:
    """Makes a run's plan, or finds it made.

    Attributes:
        settings: The settings of the run.
        output: The output, as it was named; "-" for standard output.
        options: What the run may do with what is there.
        ask_coverage: Asks the API what its sources cannot answer.
        emit: Takes what the user should know.
        carry_over: Carries answers of earlier runs over to a plan.
        has_made: Whether the plan was made now.
    """

    settings: RunSettings
    output: str | Path
    options: RunFlags
    ask_coverage: AskCoverage
    emit: EventEmitter
    carry_over: CarryOver
    has_made: bool = dataclasses.field(default=False, init=False)

    async def plan(self, source: AnyInput, path: Path, builder: ChunkBuilder) -> RunSettings:
        """Read the input and write the plan, unless there is one.

        Args:
            source: The input.
            path: The run directory.
            builder: Makes the chunks.

        Returns:
            The settings to go on with.

        Raises:
            ConfigurationError: Output or run directory cannot be used, or it holds another run.
            InputError: The input cannot be used.
            RunError: Something cannot be written.
        """
        as_kept(self.settings, path)  # refuses what could not be noted down
        await self._check_apart(path, source)
        # os.path, which says of a name that is too long that it is not there.
        is_begun = await anyio.to_thread.run_sync(os.path.exists, path)
        if self.options.restart or not is_begun:
            await anyio.to_thread.run_sync(self._check_output, source)
        if self.options.restart and await anyio.to_thread.run_sync(can_set_aside, path):
            await self._plan_in_place_of(path, source, builder)
            return self.settings
        async with RunDirectory(path) as directory:
            kept = await directory.settings()
            if kept is None:
                await self._make(directory, source, builder, path)
                return self.settings
            return await self._go_on_with(path, (kept, await directory.fingerprint()), source)

    @contextlib.asynccontextmanager
    async def foreseen(
        self, source: AnyInput, path: Path | None, builder: ChunkBuilder
    ) -> AsyncIterator[Path]:
        """Find out what `plan()` would do, changing nothing; arguments and errors as there.

        Yields the directory of the run that is there, or a temporary one with a plan. With no path,
        there is no run.
        """
        begun = None
        if path is not None:
            await self._check_apart(path, source)
            begun = await anyio.to_thread.run_sync(begun_with, path)
            if begun is not None and not self.options.restart:
                await self._go_on_with(path, begun, source)
                yield path
                return
        await anyio.to_thread.run_sync(self._check_output, source)
        folder = await anyio.to_thread.run_sync(run_dir_for, STDOUT, None)
        async with RunDirectory(folder) as directory:
            await self._make(directory, source, builder, path or folder)
            directory.discard = True
            if begun is not None:
                self._say(f"{shown_path(path or folder)} would be set aside, and is as it was.")
            yield folder

    async def _check_apart(self, path: Path, source: AnyInput) -> None:
        given = source if isinstance(source, str | Path) else None
        files = (given, self.output, failures_path(self.output))
        await anyio.to_thread.run_sync(check_apart, path, files)

    async def _go_on_with(
        self, path: Path, begun: tuple[RunSettings, Fingerprint], source: AnyInput
    ) -> RunSettings:
        """The settings with which a run that is the same as this one goes on."""
        if await check_identity(path, begun, self.settings, source, self._say_waiting):
            self._say(f"{self.settings.source} is gone; the plan of it is enough.")
        kept, fingerprint = begun
        # As when the plan was made: another run may have been paid for since then.
        if not (self.options.pay_again or await anyio.to_thread.run_sync(has_sent, path)):
            settings = msgspec.structs.replace(kept, output=self.settings.output)
            await check_beside(path, settings, fingerprint, reused=self.options.reuse)
        # In the run's own order: messages of rows follow it.
        return msgspec.structs.replace(self.settings, sources=kept.sources)

    async def _plan_in_place_of(self, path: Path, source: AnyInput, builder: ChunkBuilder) -> None:
        """Plan beside a run that was paid for, which stays where it is until the plan is made."""
        new = new_beside(path)
        async with RunDirectory(new) as directory:
            if await anyio.to_thread.run_sync(has_sent, new):
                raise ConfigurationError(
                    f"{shown_path(new)}, where the new run is made, is a run that was paid for; "
                    "give it another name"
                )
            await self._make(directory, source, builder, path)
        aside = await anyio.to_thread.run_sync(put_in_place, new, path)
        self._say(f"The run that was there is {aside} now.")

    async def _make(
        self, directory: RunDirectory, source: AnyInput, builder: ChunkBuilder, run_dir: Path
    ) -> None:
        directory.discard = True  # without a plan nothing was sent
        await anyio.to_thread.run_sync(self._check_output, source)
        path = directory.path / PLAN_NAME
        try:
            # One that was cut off before the journal knew that it is whole: nothing was sent.
            if await anyio.Path(path).exists():
                await directory.forget_plan()
            plan = await write_plan(
                path,
                source,
                builder,
                self.settings.reading,
                self.ask_coverage,
                dedupe=self.options.dedupe,
                on_wait=self._say_waiting,
                on_read=lambda rows, share: self.emit(InputProgress(rows=rows, share=share)),
            )
        except OSError as error:
            raise RunError(f"the plan cannot be written: {error.strerror or error}") from error
        fingerprint = plan.summary.fingerprint
        if not self.options.pay_again:
            await check_beside(
                run_dir,
                self.settings,
                fingerprint,
                restarted=self.options.restart,
                reused=self.options.reuse,
            )
        journal = directory.journal
        await journal.set_planned_chunks(plan.chunks)
        await journal.set_meta(FINGERPRINT, fingerprint)
        if self.options.reuse:
            await self.carry_over(directory, plan)
        # Last: it says that the plan is whole.
        await journal.set_meta(SETTINGS, as_kept(self.settings, run_dir))
        await anyio.to_thread.run_sync(check_run_output, self._output_spec(), plan)
        directory.discard = False
        self.has_made = True

    def _say(self, message: str) -> None:
        self.emit(RunNotice(message=message))

    def _say_waiting(self) -> None:
        self.emit(InputAwaited(source=self.settings.source))

    def _output_spec(self) -> OutputSpec:
        return output_spec(self.output, self.settings.writing, (), {})

    def _check_output(self, source: AnyInput) -> None:
        check_output(
            self.output,
            source if isinstance(source, str | Path) else None,
            overwrite=self.options.overwrite,
            failures=failures_path(self.output),
        )
        check_format(self._output_spec().kind)


async def check_beside(
    run_dir: Path,
    settings: RunSettings,
    fingerprint: Fingerprint,
    *,
    restarted: bool = False,
    reused: Sequence[Path] = (),
) -> None:
    """Refuse to pay again for what a run in the same folder has paid for.

    The ConfigurationError names the commands that return its answers. `restarted` says whether that
    run may have been set aside for this one; what is `reused` is not paid for again.
    """

    def find() -> Path | None:
        other = same_run_beside(run_dir, settings, fingerprint, restarted=restarted)
        if other is not None and any(is_within(other, path) for path in reused):
            return None
        return other

    other = await anyio.to_thread.run_sync(find)
    if other is not None:
        raise ConfigurationError(_same_beside(other, settings.output))


async def check_identity(
    run_dir: Path,
    begun_with: tuple[RunSettings, Fingerprint],
    settings: RunSettings,
    source: AnyInput,
    on_wait: Callable[[], None],
) -> bool:
    """Refuse to go on with another run; returns whether its input is gone.

    The input is hashed only if its size or time of change differs.

    Args:
        run_dir: The directory of the run.
        begun_with: Its settings, and the fingerprint of its input.
        settings: The settings to go on with.
        source: The input that is given now.
        on_wait: Called if nobody writes into a named pipe yet.

    Raises:
        ConfigurationError: Something differs.
        InputError: The input is there, but cannot be read.
    """
    kept, fingerprint = begun_with
    found = differences(kept, settings)
    tell = functools.partial(from_thread.run_sync, on_wait)
    other, is_gone = await anyio.to_thread.run_sync(
        _compare, fingerprint, source, settings.reading, run_dir, tell
    )
    if other is not None:
        found.insert(0, other)
    if found:
        go_on = "Repeat the original command to continue it"
        if source == STDIN:  # which cannot be given again so easily
            go_on = f"To go on with it: {_resume(run_dir)}. Or repeat the original command"
        raise ConfigurationError(
            f"{shown_path(run_dir)} holds another run. It has {'; '.join(found)}. {go_on}; "
            "--restart sets it aside and begins anew, --run-dir names another directory"
        )
    return is_gone


def _compare(
    fingerprint: Fingerprint,
    source: AnyInput,
    reading: ReadOptions,
    run_dir: Path,
    on_wait: Callable[[], None],
) -> tuple[str | None, bool]:
    """How a source differs from the planned input, if it does; and whether it is gone."""
    if not isinstance(source, str | Path):
        return _told_apart(fingerprint, _read_through(source, reading)), False
    if fingerprint.is_same_file(source):
        return None, False
    if fingerprint.is_gone(source):
        return None, True
    try:
        present = fingerprint_of(source, check_cancelled, on_wait)
    except InputError as error:
        raise InputError(f"{error}. To go on without it: {_resume(run_dir)}") from error
    return _told_apart(fingerprint, present), False


def _read_through(source: AnyInput, reading: ReadOptions) -> Fingerprint:
    """The fingerprint of objects in memory."""
    with open_input(source, check_cancelled, reading) as reader:
        for _batch in reader:
            check_cancelled()
        return reader.fingerprint()


def _told_apart(planned: Fingerprint, present: Fingerprint) -> str | None:
    if present.sha256 == planned.sha256:
        return None
    return (
        f"another input: {_input(planned.given)} with {planned.size_bytes} bytes, not "
        f"{_input(present.given)} with {present.size_bytes}"
    )


def _input(source: str) -> str:
    return "standard input" if str(source) == STDIN else shown_path(source)


def _resume(run_dir: Path) -> str:
    return f"pingdata-async resume {quoted_path(run_dir)}"


def _same_beside(other: Path, output: str | Path) -> str:
    place = STDOUT if output == STDOUT else quoted_path(output)
    return (
        f"{shown_path(other)} holds the same input with the same sources and options, and "
        f"its answers are paid for: `{_resume(other)}` if it is not finished, "
        f"`pingdata-async export {quoted_path(other)} -o {place}` for what it has; --pay-again "
        "to pay once more"
    )
