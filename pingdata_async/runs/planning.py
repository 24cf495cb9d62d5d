"""The first phase of a run: the input becomes a plan, once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
from anyio import from_thread
from anyio.from_thread import check_cancelled

from pingdata_async.bulk.chunking import ChunkBuilder
from pingdata_async.exceptions import ConfigurationError, InputError, RunError
from pingdata_async.runs.identity import RunSettings, differences
from pingdata_async.runs.output_files import STDOUT, shown_path
from pingdata_async.runs.plan import AskRules, Plan
from pingdata_async.runs.run_directory import (
    FINGERPRINT,
    PLAN_NAME,
    SETTINGS,
    RunDirectory,
    as_kept,
    same_run_beside,
)
from pingdata_async.shell_words import quoted_path
from pingdata_async.tables.inputs import ReadOptions
from pingdata_async.tables.readers import AnyInput, open_input
from pingdata_async.tables.sources import STDIN, Fingerprint, fingerprint_of


async def make_plan(
    directory: RunDirectory,
    settings: RunSettings,
    source: AnyInput,
    builder: ChunkBuilder,
    *,
    run_dir: Path,
    again: bool,
    restarted: bool,
    dedupe: bool,
    ask_rules: AskRules,
    on_wait: Callable[[], None],
) -> Plan:
    """Read the input through and write down what is to be sent.

    Args:
        directory: The run directory, without a plan.
        settings: Kept with it.
        source: The input.
        builder: Makes the chunks.
        run_dir: Where the run directory will be, if it is not there yet.
        again: Whether a run beside it may have the same input and settings.
        restarted: Whether one may that was set aside for it.
        dedupe: Whether what is the same location is sent once.
        ask_rules: Asks the API what its sources cannot answer.
        on_wait: Called where nobody writes into a named pipe yet.

    Raises:
        ConfigurationError: When there is such a run.
        InputError: When the input cannot be used.
        RunError: When the plan cannot be written.
    """
    plan = Plan(directory.path / PLAN_NAME)
    try:
        # One that was cut off before the journal knew of it: nothing was sent.
        await anyio.Path(plan.path).unlink(missing_ok=True)
        await plan.make(
            source, builder, settings.reading, ask_rules, dedupe=dedupe, on_wait=on_wait
        )
    except OSError as error:
        raise RunError(f"the plan cannot be written: {error.strerror or error}") from error
    fingerprint = plan.fingerprint
    if fingerprint is not None and not again:
        await check_beside(run_dir, settings, fingerprint, restarted=restarted)
    journal = directory.journal
    await journal.set_planned_chunks(plan.chunks)
    await journal.set_meta(FINGERPRINT, fingerprint)
    # Last: it says that the plan is whole.
    await journal.set_meta(SETTINGS, as_kept(settings, run_dir))
    return plan


async def check_beside(
    run_dir: Path, settings: RunSettings, fingerprint: Fingerprint, *, restarted: bool = False
) -> None:
    """Refuse to pay for what a run beside this one has paid for.

    Args:
        run_dir: This one's directory.
        settings: Its settings.
        fingerprint: Of its input.
        restarted: Whether one may have that was set aside for it.

    Raises:
        ConfigurationError: When there is such a run; with the commands that give its answers.
    """
    other = await anyio.to_thread.run_sync(
        lambda: same_run_beside(run_dir, settings, fingerprint, restarted=restarted)
    )
    if other is not None:
        raise ConfigurationError(_same_beside(other, settings.output))


async def check_identity(
    run_dir: Path,
    begun_with: tuple[RunSettings, Fingerprint],
    settings: RunSettings,
    source: AnyInput,
    on_wait: Callable[[], None],
) -> bool:
    """Refuse to go on with a run of something else; says whether its input is gone.

    The input is hashed only where its size or time say that it may be another one.

    Args:
        run_dir: Where the run is.
        begun_with: Its settings, and of which input it is.
        settings: With what it would go on.
        source: The input that is given now.
        on_wait: Called where nobody writes into a named pipe yet.

    Raises:
        ConfigurationError: With what differs.
        InputError: When the input is there, but cannot be read.
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
        go_on = "Give the same again to go on with it"
        if source == STDIN:  # which cannot be given again so easily
            go_on = f"To go on with it: {_resume(run_dir)}. Or give the same again"
        raise ConfigurationError(
            f"{shown_path(run_dir)} holds another run. It has {'; '.join(found)}. {go_on}, "
            "--restart to set it aside and begin anew, or another --run-dir"
        )
    return is_gone


def _compare(
    fingerprint: Fingerprint,
    source: AnyInput,
    reading: ReadOptions,
    run_dir: Path,
    on_wait: Callable[[], None],
) -> tuple[str | None, bool]:
    """What tells a source from the input that was planned, if anything; and whether it is gone."""
    if not isinstance(source, str | Path):
        return _told_apart(fingerprint, _read_through(source, reading)), False
    if fingerprint.is_same_file(source):
        return None, False
    if fingerprint.is_of(source) and fingerprint.is_gone():
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
        f"{shown_path(other)} holds the same input with the same sources and options, so its "
        f"answers are there for nothing: `{_resume(other)}` if it is not finished, "
        f"`pingdata-async export {quoted_path(other)} -o {place}` for what it has; --again "
        "to pay once more"
    )
