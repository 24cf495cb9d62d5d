"""The run directory, which all phases of a run share and which outlives a crash.

Its lock, its files, and how runs are found.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.engine.flow_control.budget import Caps
from pingdata_async.exceptions import ConfigurationError, PingDataError, RunError
from pingdata_async.runs.directory.input_copy import INPUT_NAME
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.reused import REUSED_NAME
from pingdata_async.runs.directory.settings import RunSettings, differences
from pingdata_async.runs.directory.spool import SEGMENT_NAME, UNREADABLE, Spool
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.schema import JOURNAL_NAME
from pingdata_async.tables.rows import IN_MEMORY, STDIN, Fingerprint
from pingdata_async.util.files import (
    LOCK_NAME,
    PRIVATE_FOLDER,
    RunLock,
    check_own_file,
    check_own_folder,
    is_locked,
    make_private_folder,
    sync_folder,
)
from pingdata_async.util.text import STDOUT, quoted, shown_path

SUFFIX = ".run"
ASIDE = ".old-"
PLAN_NAME = "plan"
ANSWER_INDEX_NAME = "answers"
SPOOL_NAME = "spool"
SETTINGS = "settings"
FINGERPRINT = "fingerprint"
FINISHED = "finished"
DECLARED = "declared"
PACE = "pace"
TIMELINE = "timeline"
_NO_FILES = frozenset({STDIN, IN_MEMORY})


class RunDirectory:
    """A run's directory, locked against other processes; an async context manager.

    Args:
        path: Where; made, for its owner alone, if there is none.

    Attributes:
        journal: What has become of each chunk.
        spool: Their answers.
        plan: What was planned; None until it is made.
        discard: Whether it is removed on leaving, while nobody else can have it.
        left_behind: Files that a discarded one still holds, as no run made them; known once it
            is left.

    Raises:
        ConfigurationError: On entering, when the path is something else.
        RunError: On entering, when another process has it, or it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = Spool(path / SPOOL_NAME)
        self.journal = Journal(journal_path(path), self.spool)
        self.plan: Plan | None = None
        self.discard = False
        self.left_behind: list[str] = []
        self._lock = RunLock(path)
        self._is_left = False

    async def __aenter__(self) -> Self:
        try:
            with anyio.CancelScope(shield=True):
                is_new = await anyio.to_thread.run_sync(self._lock_and_look)
            self.journal = Journal(journal_path(self.path), self.spool, create=is_new)
            await self.journal.__aenter__()
        except BaseException:
            self._is_left = True
            self._lock.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.journal.__aexit__(exc_type, exc, traceback)
            if self.discard:
                with anyio.CancelScope(shield=True):
                    self.left_behind = await anyio.to_thread.run_sync(_remove, self.path)
        finally:
            self.spool.close()
            if self.plan is not None:
                self.plan.close()
            self._lock.close()

    def _lock_and_look(self) -> bool:
        """Make the directory and take the lock; says whether the journal is still to be made."""
        path = self.path
        try:
            if not os.path.lexists(path):
                make_private_folder(path)
                sync_folder(path.parent)
            check_own_run(path)
            is_foreign = not _may_be_run(path)
        except OSError as error:
            raise _unusable(path, error) from error
        if is_foreign:
            raise _foreign(path)
        self._lock.__enter__()
        if self._is_left:  # cancelled by asyncio itself, which does not wait for threads
            self._lock.close()
        # Another process may have made it just before.
        return not journal_path(path).exists()

    async def forget_plan(self) -> None:
        """Remove a plan that was cut off before anything was sent, with all that was made of it."""
        await self.journal.forget_plan()
        await anyio.to_thread.run_sync(self._remove_plan)

    def _remove_plan(self) -> None:
        for name in (REUSED_NAME, PLAN_NAME):
            (self.path / name).unlink(missing_ok=True)
        self.spool.clear()

    async def settings(self) -> RunSettings | None:
        """The settings that the run was begun with; None before the plan is made."""
        found = await self.journal.get_meta(SETTINGS)
        return None if found is None else _settings_of(found, self.path)

    async def keep_settings(self, settings: RunSettings) -> None:
        """Store the settings from now on."""
        await self.journal.set_meta(SETTINGS, as_kept(settings, self.path))

    async def keep_caps(self, caps: Caps) -> None:
        """Store the caps from now on."""
        settings = await self.settings()
        if settings is not None and settings.caps != caps:
            await self.keep_settings(msgspec.structs.replace(settings, caps=caps))

    async def fingerprint(self) -> Fingerprint:
        """Of the input that was planned.

        Raises:
            RunError: When it is not there, or cannot be read.
        """
        return _fingerprint_of(await self.journal.get_meta(FINGERPRINT), self.path)


def check_own_run(path: Path) -> None:
    """Refuse a run directory that could be somebody else's work; blocks.

    What is written in one must not end up in another file, and what is read there is believed.

    Raises:
        ConfigurationError: With what is wrong, and what mends it.
        OSError: When it is out of reach, or no folder.
    """
    check_own_folder(path)
    for entry in path.iterdir():
        if entry.name == SPOOL_NAME:
            check_own_folder(entry)
            for file in entry.iterdir():
                with contextlib.suppress(FileNotFoundError):  # a .part, gone meanwhile
                    check_own_file(file)
        elif _OWN_NAMES.fullmatch(entry.name):
            with contextlib.suppress(FileNotFoundError):  # one of SQLite's, gone meanwhile
                check_own_file(entry)


_OWN_NAMES = re.compile(
    rf"{LOCK_NAME}|{re.escape(JOURNAL_NAME)}.*|({PLAN_NAME}|{INPUT_NAME}|{REUSED_NAME}"
    rf"|{ANSWER_INDEX_NAME})(\.part)?|{SPOOL_NAME}"
)


def _may_be_run(path: Path) -> bool:
    """Whether a folder is a run directory, or one that was cut off while it was made."""
    names = {entry.name for entry in path.iterdir()} - {LOCK_NAME}
    # The journal is the first thing in it, made under another name.
    return JOURNAL_NAME in names or all(name.startswith(f"{JOURNAL_NAME}.part") for name in names)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    said = error.strerror or error
    return ConfigurationError(f"the run directory {shown_path(path)} cannot be used: {said}")


def _foreign(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{shown_path(path)} exists, but is not a run directory; name another with --run-dir"
    )


def journal_path(run_dir: Path) -> Path:
    """Where a run's journal is."""
    return run_dir / JOURNAL_NAME


def kept_path(path: str | Path, run_dir: Path) -> str:
    """A file as a run directory keeps its name.

    One beside it has no folder in it, so that both can be moved or copied together.
    """
    absolute = Path(path).absolute()
    return shown_path(absolute.name if absolute.parent == run_dir.absolute().parent else absolute)


def as_kept(settings: RunSettings, run_dir: Path) -> RunSettings:
    """Settings as a run directory keeps them: files beside it without their folder.

    Raises:
        ConfigurationError: When the output's name cannot be written down.
    """
    output, source = settings.output, settings.source
    if output != STDOUT:
        output = kept_path(output, run_dir)
        if not settings.output.endswith(output):
            raise ConfigurationError(
                f"{shown_path(settings.output)} is not UTF-8; a run could not note it down"
            )
    if source not in _NO_FILES:
        source = kept_path(source, run_dir)
    return msgspec.structs.replace(settings, output=output, source=source)


def check_own_place(settings: RunSettings, run_dir: Path) -> None:
    """Refuse an output that only the run directory names, where it is not beside it; blocks.

    A run directory may come from anywhere: it is not for it to say what is overwritten.

    Raises:
        ConfigurationError: With the words to give.
    """
    if settings.output == STDOUT:
        return
    output = Path(settings.output)
    try:
        is_beside = output.parent.samefile(run_dir.absolute().parent)
    except OSError:
        is_beside = False
    failures = failures_path(output)
    links = [path for path in (output, failures) if path is not None and path.is_symlink()]
    if is_beside and not links:
        return
    shown = shown_path(output)
    why = f"of which {shown_path(links[0])} is a link" if links else "in another folder than itself"
    raise ConfigurationError(
        f"{shown_path(run_dir)} has the output {shown}, {why}; if that is where to write, name it "
        f"again: -o {quoted(output)}"
    )


def read_settings(run_dir: Path) -> RunSettings:
    """The settings that a run was begun with; blocks for a moment.

    Raises:
        RunError: When it is no run directory, has no plan, or is damaged.
    """
    try:
        check_own_run(run_dir)
    except OSError as error:
        raise RunError(
            f"{shown_path(run_dir)} is not a run directory that can be read: "
            f"{error.strerror or error}"
        ) from error
    with JournalReader(journal_path(run_dir), at_a_glance=True) as journal:
        kept = journal.meta(SETTINGS)
    if kept is None and is_locked(run_dir):
        raise RunError(f"{run_dir}: its plan is still being made; ask again a little later")
    if kept is None:
        raise RunError(
            f"{run_dir}: its plan was never finished and nothing was sent; give the `enhance` "
            "command again"
        )
    return _settings_of(kept, run_dir)


def _settings_of(kept: object, run_dir: Path) -> RunSettings:
    try:
        settings = msgspec.convert(kept, RunSettings)
    except msgspec.ValidationError as error:
        raise RunError(
            f"{run_dir}: its settings cannot be read ({error}); was it made by another version of "
            "pingdata-async?"
        ) from error
    output = settings.output
    if not output or "\0" in output:
        raise RunError(f"{run_dir}: its settings name no output that can be")
    folder = run_dir.absolute().parent
    if output != STDOUT:
        output = str(folder / output)  # where it has no folder of its own
    source = settings.source
    if source not in _NO_FILES:
        source = shown_path(folder / source)
    return msgspec.structs.replace(settings, output=output, source=source)


def _fingerprint_of(kept: object, run_dir: Path) -> Fingerprint:
    try:
        return msgspec.convert(kept, Fingerprint)
    except msgspec.ValidationError as error:
        raise RunError(f"{run_dir}: its fingerprint cannot be read ({error})") from error


def run_dir_for(output: str | Path, run_dir: str | Path | None) -> Path:
    """The run directory: the one named, else `OUTPUT.run`.

    For standard output a temporary one, which is new.

    Raises:
        ConfigurationError: When output and run directory are the same.
    """
    if run_dir is not None:
        path = Path(run_dir)
        if str(output) != STDOUT and path.absolute() == Path(output).absolute():
            raise ConfigurationError(f"{path} cannot be both output and run directory")
        return path
    if str(output) == STDOUT:
        made = Path(tempfile.mkdtemp(prefix="pingdata-async-", suffix=SUFFIX))
        made.chmod(PRIVATE_FOLDER)  # whatever the umask
        return made
    return Path(f"{output}{SUFFIX}")


def can_set_aside(path: Path) -> bool:
    """Whether there is a run directory that can be set aside; not where nothing is in it yet.

    Raises:
        ConfigurationError: When it is something else.
        RunError: When a process is at work on it.
    """
    if not os.path.lexists(path):
        return False
    try:
        check_own_run(path)
        # Also what is left of one whose journal is lost.
        names = {entry.name for entry in path.iterdir()}
    except NotADirectoryError:
        names = {""}
    except OSError as error:
        raise ConfigurationError(
            f"{shown_path(path)} cannot be set aside: {error.strerror or error}"
        ) from error
    if not all(map(_OWN_NAMES.fullmatch, names)):
        raise ConfigurationError(f"{path} is not a run directory, and is not set aside")
    if not names - {LOCK_NAME}:
        return False
    with RunLock(path):
        return True


def new_beside(path: Path) -> Path:
    """The path at which a run directory's replacement is made."""
    return path.with_name(f"{path.name}.new")


def put_in_place(new: Path, path: Path) -> Path:
    """Give a new run directory the name of another; returns the name that this one has now.

    Raises:
        RunError: When a process is at work on the old one, or they cannot be renamed.
    """
    aside = set_aside(path)
    try:
        new.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.rename(path)
        raise RunError(f"{new} cannot become {path}: {error.strerror or error}") from error
    return aside


def set_aside(path: Path) -> Path:
    """Give a run directory another name.

    Raises:
        RunError: When a process is at work on it, or it cannot be renamed.
    """
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{ASIDE}{number}")):
        number += 1
    with RunLock(path):
        try:
            path.rename(aside)
            sync_folder(path.parent)
        except OSError as error:
            raise RunError(f"{path} cannot be set aside: {error.strerror or error}") from error
    return aside


_MADE = re.compile(
    rf"{LOCK_NAME}|({re.escape(JOURNAL_NAME)}|{PLAN_NAME}|{INPUT_NAME}|{REUSED_NAME}"
    rf"|{ANSWER_INDEX_NAME})(\.part)?(-(wal|shm|journal))?"
    rf"|{SPOOL_NAME}(/({SEGMENT_NAME}|\d{{9}}{re.escape(UNREADABLE)}\d+(\.part)?))?"
)
"""What runs make in their directory."""


def _remove(path: Path) -> list[str]:
    """Remove a run directory, and in it what runs made, by name; returns what else is there."""
    files: list[Path] = []
    folders: list[Path] = [path]
    others: list[str] = []
    for here, subfolders, names in os.walk(path):
        for entry in (Path(here, name) for name in (*subfolders, *names)):
            name = str(entry.relative_to(path))
            if not _MADE.fullmatch(name) or entry.is_symlink():
                others.append(shown_path(name))
            else:
                (folders if entry.name in subfolders else files).append(entry)
        subfolders[:] = [name for name in subfolders if Path(here, name) in folders]
    # Cut off before the journal is gone, it is still the directory of a finished run.
    for file in sorted(files, key=lambda file: file.name.startswith(JOURNAL_NAME)):
        with contextlib.suppress(OSError):
            file.unlink()
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return others


def check_apart(run_dir: Path, files: Iterable[str | Path | None]) -> None:
    """Refuse files in a run directory, which is for the run's own files alone.

    Args:
        run_dir: The run directory; it need not be there yet.
        files: What is read and written; None and "-" are no files.

    Raises:
        ConfigurationError: When one of them is in it.
    """
    for file in files:
        if file is not None and str(file) != STDOUT and is_within(file, run_dir):
            raise ConfigurationError(
                f"{shown_path(file)} is in the run directory {shown_path(run_dir)}, which is for "
                "the run alone; name another place for one of them"
            )


def is_within(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is a folder, or leads into it, whatever links there are on the way."""
    real = Path(os.path.realpath(path))  # unlike resolve(), at ease with a link to itself
    return any(_is_same_folder(each, Path(folder)) for each in (real, *real.parents))


def _is_same_folder(one: Path, other: Path) -> bool:
    if str(one) == os.path.realpath(other):
        return True
    try:
        return one.samefile(other)  # under another name: case, another mount
    except OSError:  # one of them is not there
        return False


def runs_beside(path: Path) -> list[Path]:
    """The run directories in a run directory's folder, itself and those set aside too. Blocks.

    Whatever they are called: a run can be kept in any folder.
    """
    with contextlib.suppress(OSError), os.scandir(path.absolute().parent) as entries:
        # Not Path.is_file(), which raises for a folder of somebody else's.
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_dir() and os.path.isfile(journal_path(Path(entry.path)))  # noqa: PTH113
        )
    return []


def same_run_beside(
    path: Path, settings: RunSettings, fingerprint: Fingerprint, *, restarted: bool
) -> Path | None:
    """Another run in the same folder with the same input and settings; None if none.

    One that sent nothing, and is not at work, has no answers to be had: it is only a plan.

    Args:
        path: The run directory.
        settings: The run's.
        fingerprint: Of its input.
        restarted: Whether the user asked for it although there was one of its own name: those
            that were set aside for it are not meant then.
    """
    for other in runs_beside(path):
        is_earlier = other.name.startswith(f"{path.name}{ASIDE}")
        if other == path.absolute() or (restarted and is_earlier):
            continue
        # A run that cannot be read is not ours to complain about.
        with contextlib.suppress(PingDataError, OSError, msgspec.ValidationError):
            check_own_run(other)
            with JournalReader(journal_path(other), at_a_glance=True) as journal:
                found = journal.meta(SETTINGS), journal.meta(FINGERPRINT)
            if None in found:
                continue
            theirs = msgspec.convert(found[0], RunSettings)
            print_of_theirs = msgspec.convert(found[1], Fingerprint)
            is_same_input = print_of_theirs.sha256 == fingerprint.sha256
            is_same = is_same_input and not differences(theirs, settings)
            if is_same and (is_locked(other) or has_sent(other)):
                return other
    return None


def begun_with(path: Path) -> tuple[RunSettings, Fingerprint] | None:
    """The settings and the input of a run; None where there is no plan. Blocks.

    It changes nothing.

    Raises:
        ConfigurationError: When something else is there.
        RunError: When it cannot be read.
    """
    try:
        check_own_run(path)
        is_run = _may_be_run(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    if not is_run:
        raise _foreign(path)
    if not journal_path(path).exists():
        return None
    with JournalReader(journal_path(path), at_a_glance=True) as journal:
        kept, fingerprint = journal.meta(SETTINGS), journal.meta(FINGERPRINT)
    if kept is None:
        return None
    return _settings_of(kept, path), _fingerprint_of(fingerprint, path)


def has_sent(run_dir: Path) -> bool:
    """Whether a run sent anything that was not surely refused; blocks.

    Raises:
        RunError: When its journal cannot be read.
    """
    with JournalReader(journal_path(run_dir), at_a_glance=True) as journal:
        return journal.has_sent()


def failures_path(output: str | Path) -> Path | None:
    """Where the rows without an answer go, beside an output; None for standard output.

    `out.jsonl` has them in `out.jsonl.failures.jsonl`, as its run is in `out.jsonl.run`.

    Raises:
        ConfigurationError: When the output names no file.
    """
    if str(output) == STDOUT:
        return None
    path = Path(output)
    if not path.name:
        raise ConfigurationError(f"{str(output)!r} names no file")
    return path.with_name(f"{path.name}.failures.jsonl")
