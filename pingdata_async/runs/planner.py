"""The first phase of a run: a plan in its directory, new or as it was made before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import msgspec

from pingdata_async.bulk.chunking import ChunkBuilder
from pingdata_async.events import Announcer, InputAwaited, RunNotice
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.identity import RunSettings
from pingdata_async.runs.output_files import STDOUT, check_output, failures_path, shown_path
from pingdata_async.runs.output_form import OutputForm, output_form
from pingdata_async.runs.plan import AskRules
from pingdata_async.runs.planning import check_beside, check_identity, make_plan
from pingdata_async.runs.run_directory import (
    RunDirectory,
    as_kept,
    begun_with,
    can_set_aside,
    check_apart,
    has_sent,
    new_beside,
    put_in_place,
    run_dir_for,
)
from pingdata_async.runs.run_options import RunOptions
from pingdata_async.runs.run_output import check_run_output
from pingdata_async.tables.outputs import check_format
from pingdata_async.tables.readers import AnyInput
from pingdata_async.tables.sources import Fingerprint


class Planner:
    """Makes a run's plan, or sees that it was made.

    Args:
        settings: With what the run is begun.
        output: Where to, as it was named; "-" for standard output.
        options: What it may do.
        ask_rules: Asks the API what its sources cannot answer.
        announce: Told of what the user should know.

    Attributes:
        has_made: Whether the plan was made now, and not before.
    """

    def __init__(
        self,
        settings: RunSettings,
        output: str | Path,
        options: RunOptions,
        ask_rules: AskRules,
        announce: Announcer,
    ) -> None:
        self._settings = settings
        self._output = output
        self._options = options
        self._ask_rules = ask_rules
        self._announce = announce
        self.has_made = False

    async def plan(self, source: AnyInput, path: Path, builder: ChunkBuilder) -> RunSettings:
        """Read the input through and write down what is to be sent; or see that this was done.

        Args:
            source: The input.
            path: The run directory.
            builder: Makes the chunks.

        Returns:
            The settings with which the run goes on.

        Raises:
            ConfigurationError: When output or run directory cannot be used, or the run there is
                another one.
            InputError: When the input cannot be used.
            RunError: When something cannot be written.
        """
        as_kept(self._settings, path)  # refuses what could not be noted down
        await self._check_apart(path, source)
        # os.path, which says of a name that is too long that it is not there.
        is_begun = await anyio.to_thread.run_sync(os.path.exists, path)
        if self._options.restart or not is_begun:
            await anyio.to_thread.run_sync(self._check_output, source)
        if self._options.restart and await anyio.to_thread.run_sync(can_set_aside, path):
            await self._plan_in_place_of(path, source, builder)
            return self._settings
        async with RunDirectory(path) as directory:
            kept = await directory.settings()
            if kept is None:
                await self._make(directory, source, builder, path)
                return self._settings
            return await self._go_on_with(path, (kept, await directory.fingerprint()), source)

    @contextlib.asynccontextmanager
    async def foreseen(
        self, source: AnyInput, path: Path | None, builder: ChunkBuilder
    ) -> AsyncIterator[Path]:
        """What `plan()` would do, without a change to anything; arguments and errors as there.

        Gives the directory of the run that is there, or one with a plan that is thrown away.

        Args:
            source: As of `plan()`.
            path: As of `plan()`; None for nowhere.
            builder: As of `plan()`.
        """
        begun = None
        if path is not None:
            await self._check_apart(path, source)
            begun = await anyio.to_thread.run_sync(begun_with, path)
            if begun is not None and not self._options.restart:
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
        files = (given, self._output, failures_path(self._output))
        await anyio.to_thread.run_sync(check_apart, path, files)

    async def _go_on_with(
        self, path: Path, begun: tuple[RunSettings, Fingerprint], source: AnyInput
    ) -> RunSettings:
        """The settings with which a run goes on that is the same as this one."""
        if await check_identity(path, begun, self._settings, source, self._say_waiting):
            self._say(f"{self._settings.source} is gone; the plan of it is enough.")
        kept, fingerprint = begun
        # As when the plan was made: another run may have been paid for since then.
        if not (self._options.again or await anyio.to_thread.run_sync(has_sent, path)):
            settings = msgspec.structs.replace(kept, output=self._settings.output)
            await check_beside(path, settings, fingerprint)
        # In the run's own order: messages of rows follow it.
        return msgspec.structs.replace(self._settings, sources=kept.sources)

    async def _plan_in_place_of(self, path: Path, source: AnyInput, builder: ChunkBuilder) -> None:
        """Plan beside a run that was paid for: it stays where it is until there is another."""
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
        plan = await make_plan(
            directory,
            self._settings,
            source,
            builder,
            run_dir=run_dir,
            again=self._options.again,
            restarted=self._options.restart,
            dedupe=self._options.dedupe,
            ask_rules=self._ask_rules,
            on_wait=self._say_waiting,
        )
        await anyio.to_thread.run_sync(check_run_output, self._form(), plan)
        directory.discard = False
        self.has_made = True

    def _say(self, message: str) -> None:
        self._announce(RunNotice(message=message))

    def _say_waiting(self) -> None:
        self._announce(InputAwaited(source=self._settings.source))

    def _form(self) -> OutputForm:
        return output_form(self._output, self._settings.writing, (), {})

    def _check_output(self, source: AnyInput) -> None:
        check_output(
            self._output,
            source if isinstance(source, str | Path) else None,
            overwrite=self._options.overwrite,
            failures=failures_path(self._output),
        )
        check_format(self._form().kind)
