"""The first phase of a run: a plan in its directory, new or as it was made before."""

from __future__ import annotations

import os
from pathlib import Path

import anyio.to_thread
import msgspec

from pingdata_async.bulk.chunking import ChunkBuilder
from pingdata_async.events import Announcer, RunNotice
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.identity import RunSettings
from pingdata_async.runs.output_files import check_output, failures_path, shown_path
from pingdata_async.runs.output_form import OutputForm, output_form
from pingdata_async.runs.plan import AskRules
from pingdata_async.runs.planning import check_beside, check_identity, make_plan
from pingdata_async.runs.run_directory import (
    FINGERPRINT,
    RunDirectory,
    can_set_aside,
    check_apart,
    has_sent,
    new_beside,
    put_in_place,
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
        files = (source if isinstance(source, str | Path) else None, self._output)
        failures = failures_path(self._output)
        await anyio.to_thread.run_sync(check_apart, path, (*files, failures))
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
            if await check_identity(directory, kept, self._settings, source):
                gone = f"{self._settings.source} is gone; the plan of it is enough."
                self._announce(RunNotice(message=gone))
            await self._check_beside(directory, kept)
            # In the run's own order: messages of rows follow it.
            return msgspec.structs.replace(self._settings, sources=kept.sources)

    async def _check_beside(self, directory: RunDirectory, kept: RunSettings) -> None:
        """As when the plan was made: another run may have been paid for since then."""
        if self._options.again or await anyio.to_thread.run_sync(has_sent, directory.path):
            return
        fingerprint = await directory.journal.get_meta(FINGERPRINT)
        if fingerprint is not None:
            settings = msgspec.structs.replace(kept, output=self._settings.output)
            await check_beside(directory.path, settings, msgspec.convert(fingerprint, Fingerprint))

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
        self._announce(RunNotice(message=f"The run that was there is {aside} now."))

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
            dedupe=self._options.dedupe,
            ask_rules=self._ask_rules,
        )
        await anyio.to_thread.run_sync(check_run_output, self._form(), plan)
        directory.discard = False

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
