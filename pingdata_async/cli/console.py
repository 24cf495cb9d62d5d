"""What commands print: results on standard output, a run on standard error, events to files.

Results are tables on a terminal and plain text elsewhere; the display of a run is in `screen`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import shutil
import stat
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import click
import msgspec

from pingdata_async.events import (
    AnswersReused,
    ChunkFinished,
    ChunkHeld,
    ChunkSplit,
    Event,
    InputAwaited,
    InputPlanned,
    JobAbandoned,
    JobKept,
    JobOverdue,
    JobPolled,
    JobStalled,
    JobSubmitted,
    Listener,
    LocationsAskedAgain,
    PauseAsked,
    RequestRetried,
    RunNotice,
    RunResumed,
    RunStopped,
    RunStopping,
    SubmissionInDoubt,
    UnexpectedAnswer,
)
from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.models import RunSummary
from pingdata_async.progress import RunProgress, clock_time, duration, shows_silence
from pingdata_async.runs.directory.directory import failures_path, is_within
from pingdata_async.util.files import check_links
from pingdata_async.util.redaction import masked
from pingdata_async.util.text import STDOUT, counted, one_line, shown_path
from pingdata_async.value_notes import ValueNote, sentence, to_be_told

if TYPE_CHECKING:
    from rich.console import Console


logger = logging.getLogger("pingdata_async")

PLAIN_LINE_INTERVAL_S = 30.0
LIST_AT_MOST_COLUMNS = 10
MOST_VALUE_NOTES = 6

FAULTS: Mapping[type[Event], tuple[str, str]] = {
    JobAbandoned: ("more job was abandoned", "more jobs were abandoned"),
    JobKept: ("more output cannot be fetched now", "more outputs cannot be fetched now"),
    JobOverdue: ("more job was overdue", "more jobs were overdue"),
    JobStalled: ("more job made no progress", "more jobs made no progress"),
    SubmissionInDoubt: ("more submission is in doubt", "more submissions are in doubt"),
    UnexpectedAnswer: ("more unexpected answer", "more unexpected answers"),
}
"""What counts as the same kind of fault, in words for one more and for several."""

Cell = str | int | None


# -- Results on standard output ---------------------------------------------------------------


class Table(NamedTuple):
    """Rows of cells under headings; None is an empty cell."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def check_standard_output() -> None:
    """Refuse to start what nobody could see.

    Raises:
        ConfigurationError: When there is no standard output.
    """
    if sys.stdout is None:
        raise ConfigurationError("standard output is closed")


def show(*parts: str | Table) -> None:
    """Print sentences and tables, one below the other.

    Raises:
        ConfigurationError: When there is no standard output.
        RunError: When it cannot be written.
    """
    check_standard_output()
    if sys.stdout.isatty():
        # Only now: text in a pipe is not drawn, and rich is slow to load.
        from pingdata_async.cli.screen import drawn  # noqa: PLC0415

        _print(drawn(parts))
        return
    _print("\n".join(line for part in parts for line in _plain(part)))


def show_json(value: Any) -> None:
    """Print it as JSON; raises as `show()`."""
    check_standard_output()
    shown = masked(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
    _print(shown.encode())  # as bytes: JSON is UTF-8, whatever the terminal speaks


def show_lines(lines: Iterable[str]) -> None:
    """Print lines, wrapped on a terminal only; raises as `show()`."""
    check_standard_output()
    _print("\n".join(fitted(lines) if sys.stdout.isatty() else lines))


def shown_sentence(text: str) -> str:
    """A sentence on one line, indented and aligned as it is."""
    if text.isprintable():
        return text
    return " " * (len(text) - len(text.lstrip(" "))) + one_line(text)


def _plain(part: str | Table) -> list[str]:
    """A sentence as a line, or a table as lines of cells with tabs between them."""
    if isinstance(part, str):
        return [shown_sentence(part)]
    return ["\t".join(map(_text, row)) for row in (part.headings, *part.rows)]


def _text(cell: Cell) -> str:
    return "" if cell is None else one_line(str(cell))


def _print(text: str | bytes) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    if isinstance(text, str):  # an answer that was paid for is shown as well as it can be
        text = text.encode(encoding, "backslashreplace")
    try:
        with contextlib.suppress(BrokenPipeError):  # the reader wants no more of it
            click.echo(text)
    except OSError as error:
        raise RunError(f"standard output cannot be written: {error.strerror or error}") from error


# -- A run on standard error ------------------------------------------------------------------


@contextlib.contextmanager
def plain_lines(console: Console, interval_s: float = PLAIN_LINE_INTERVAL_S) -> Iterator[Listener]:
    """Print a line of progress now and then, for logs of schedulers and CI."""
    progress = RunProgress()
    has_ended = threading.Event()

    def print_lines() -> None:
        while not has_ended.wait(interval_s):
            console.print(progress.line())

    # A thread, as there is most to say when no event comes: the API pauses, or does not answer.
    printer = threading.Thread(target=print_lines, name="pingdata_async progress", daemon=True)
    printer.start()
    try:
        yield progress
    finally:
        has_ended.set()
        printer.join()


@contextlib.contextmanager
def events_unlogged() -> Iterator[None]:
    """Leave events out of the package's log, whose warnings go to standard error otherwise."""

    def is_no_event(record: logging.LogRecord) -> bool:
        return not hasattr(record, "event")

    logger.addFilter(is_no_event)
    try:
        yield
    finally:
        logger.removeFilter(is_no_event)


@contextlib.contextmanager
def narrate(console: Console, *, verbose: bool) -> Iterator[Listener]:
    """Print what the user should know; with `verbose`, also what happens to each job.

    Of each kind of fault only the first is printed, and at the end how many more there were.
    """
    faults = Counter[type[Event]]()
    is_silent = False  # the API does not answer, which has been said

    def watch(event: Event) -> None:
        nonlocal is_silent
        sentence = _about_the_run(event)
        if verbose:
            sentence = sentence or _about_a_chunk(event)
        elif type(event) in FAULTS:
            faults[type(event)] += 1
            sentence = sentence if faults[type(event)] == 1 else None
        elif isinstance(event, JobSubmitted | JobPolled):
            is_silent = False
        elif isinstance(event, RequestRetried) and not is_silent and shows_silence(event):
            is_silent = True
            until = clock_time(event.gives_up_in_s or 0.0)
            sentence = f"The API does not answer: {event.error}; trying until {until}"
        if sentence is not None:
            lines = sentence.split("\n")
            console.print(
                "\n".join(fitted(lines) if console.is_terminal else lines),
                style="yellow" if isinstance(event, _WARNINGS) else None,
            )

    try:
        yield watch
    finally:
        for kind, number in faults.items():
            if number > 1:
                console.print(f"{counted(number - 1, *FAULTS[kind])}; --log-file has all")


_WARNINGS = (
    ChunkHeld,
    JobAbandoned,
    JobKept,
    JobOverdue,
    JobStalled,
    PauseAsked,
    RunStopping,
    SubmissionInDoubt,
    UnexpectedAnswer,
)


def waiting_for(source: str) -> str:
    """The sentence that the command waits for a named pipe."""
    return f"Waiting for data from the pipe {source}."


def _about_the_run(event: Event) -> str | None:
    match event:
        case InputPlanned(is_resumed=False):
            return _planned(event)
        case AnswersReused():
            return reused_told(event.locations, event.planned, event.oldest_at)
        case InputAwaited():
            return waiting_for(event.source)
        case RunNotice():
            return event.message
        case RunStopped(is_output_closed=True):  # its reader wants no more: no error
            return f"All answers are kept in {event.run_dir}."
        case RunResumed():
            return (
                f"Resuming: {event.rows_done:,} of {counted(event.rows, 'row')} finished, "
                f"{counted(event.jobs_in_flight, 'job')} in flight."
            )
        case JobAbandoned() | JobKept() | JobOverdue() | JobStalled():
            return _about_a_job(event)
        case SubmissionInDoubt():
            return (
                f"chunk {event.chunk}: a submission of {counted(event.locations, 'location')} is "
                f"in doubt and may be charged twice: {event.error}"
            )
        case ChunkHeld():
            locations = counted(event.locations, "location")
            return f"chunk {event.chunk}: {locations} held for your decision"
        case RunStopping() if event.jobs_in_flight:
            return (
                f"Stopping: {event.error}. Waiting for the jobs that are already paid for "
                f"({event.jobs_in_flight} in flight)"
            )
        case PauseAsked():
            return (
                f"the API asked for a pause of {event.pause_s:,.0f} s; the run continues at "
                f"{clock_time(event.pause_s)}"
            )
        case UnexpectedAnswer():
            return f"chunk {event.chunk}, job {event.job_id}: {event.message}"
    return None


def _about_a_job(event: JobAbandoned | JobKept | JobOverdue | JobStalled) -> str:
    match event:
        case JobAbandoned():
            what = "its rows are sent again" if event.will_resubmit else "its rows fail"
            said = f"{event.error}; {what}"
        case JobKept():
            said = (
                f"job {event.job_id} is paid for, but its output cannot be fetched now; `resume` "
                f"fetches it later: {event.error}"
            )
        case JobOverdue():
            said = f"{event.error}; still polling it"
        case JobStalled():
            minutes = counted(round(event.idle_s / 60.0), "minute")
            said = f"job {event.job_id} has made no progress for {minutes}; still polling it"
    return f"chunk {event.chunk}: {said}"


def _about_a_chunk(event: Event) -> str | None:
    match event:
        case RequestRetried():
            return f"chunk {event.chunk}: {event.error}; retrying in {event.delay_s:.1f} s"
        case JobSubmitted():
            return (
                f"chunk {event.chunk}: job {event.job_id}, {counted(event.locations, 'location')}"
            )
        case ChunkSplit():
            return f"chunk {event.chunk}: split into {len(event.parts)} parts: {event.error}"
        case LocationsAskedAgain():
            locations = counted(event.locations, "location")
            return f"chunk {event.chunk}: retrying {locations}"
        case ChunkFinished():
            return (
                f"chunk {event.chunk}: {event.ok} ok, {event.partial} partial, "
                f"{event.failed} failed, {event.asked_again} to retry"
            )
    return None


def _planned(event: InputPlanned) -> str:
    text = f"{counted(event.rows, 'row')}, {event.locations:,} to be sent"
    text += f" in {counted(event.jobs, 'job')}" if event.locations else ""
    text += f"; {counted(event.repeated, 'repeated row')} at no cost." if event.repeated else "."
    lines = [text, *by_source({}, event.skipped_by_source), *mapped_lines(event.mapping)]
    lines += unused_lines(event.unused_columns)
    return "\n".join([*lines, *value_lines(event.value_notes), *event.notes])


def unused_lines(columns: Sequence[str]) -> list[str]:
    """Which columns are not sent, in one line; none if there are none."""
    if not columns:
        return []
    names = ", ".join(map(repr, columns[:LIST_AT_MOST_COLUMNS]))
    more = len(columns) - LIST_AT_MOST_COLUMNS
    return [f"Columns not used: {names}{f' and {more} more' if more > 0 else ''}."]


def reused_told(locations: int, planned: int, oldest_at: dt.datetime) -> str:
    """A sentence on what is not sent, as earlier runs have the answers."""
    days = max(0, (dt.datetime.now(dt.UTC) - oldest_at).days)
    return (
        f"{locations:,} of {counted(planned, 'location')} answered by earlier runs "
        f"(oldest {counted(days, 'day')}); {planned - locations:,} to be sent."
    )


def value_lines(notes: tuple[ValueNote, ...]) -> list[str]:
    """Values that are not sent as they stand, in a few lines; `inspect` shows all."""
    told = to_be_told(notes)
    lines = [sentence(note) for note in told[:MOST_VALUE_NOTES]]
    if len(told) > MOST_VALUE_NOTES:
        values = sum(note.values for note in told[MOST_VALUE_NOTES:])
        lines.append(
            f"{counted(values, 'more value')} in other columns; `pingdata-async inspect` shows all"
        )
    return lines


def mapped_lines(mapping: Iterable[str]) -> list[str]:
    """Which column is which field, with samples: a line each, as wide as the terminal at most."""
    pairs = [one_line(line).partition(" <- ")[::2] for line in mapping]
    longest = max((len(field) for field, _ in pairs), default=0)
    lines = [_cut(f"  {field:<{longest}} <- {column}") for field, column in pairs]
    return ["Columns sent:", *lines] if lines else []


def _cut(line: str) -> str:
    width = shutil.get_terminal_size().columns
    return line if len(line) <= width else f"{line[: width - 3]}..."


def fitted(lines: Iterable[str]) -> list[str]:
    """Lines as they are, but those that a terminal would cut in the middle of a word wrapped."""
    width = shutil.get_terminal_size().columns
    return [
        part
        for line in lines
        for part in (
            [line]
            if len(line) <= width
            else wrapped(line, indent=" " * (len(line) - len(line.lstrip(" "))))
        )
    ]


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """A sentence in lines as wide as the terminal, the second and further ones indented."""
    width = shutil.get_terminal_size().columns
    return textwrap.wrap(
        one_line(text), width, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def describe(summary: RunSummary) -> list[str]:
    """The summary in lines for people."""
    reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in sorted(summary.reasons.items()))
    rows = (
        f"{counted(summary.rows, 'row')}: {summary.ok:,} ok, {summary.partial:,} partial, "
        f"{summary.failed:,} failed"
    )
    effort = (
        f"{counted(summary.jobs, 'job')}, "
        f"{counted(summary.locations_charged, 'location')} charged, "
        f"{counted(summary.requests, 'request')}, "
        f"{counted(summary.retries, 'retry', 'retries')}, "
        f"{summary.refused:,} refused, in {duration(summary.seconds)}"
    )
    lines = [f"{rows} ({reasons})" if reasons else rows, effort]
    if summary.locations_saved:
        lines.append(
            f"{counted(summary.locations_saved, 'location')} saved: these rows repeat others "
            "and got their answers"
        )
    if summary.oldest_reused_at is not None:
        not_sent = counted(summary.locations_reused, "location")
        lines.append(f"{not_sent} not sent, as earlier runs had their answers")
        lines.append(f"reused: {_by_code(summary.reused_by_source)}")
    if summary.submissions_in_doubt or summary.locations_possibly_charged_again:
        lines.append(
            f"{counted(summary.submissions_in_doubt, 'submission')} in doubt, "
            f"{counted(summary.locations_possibly_charged_again, 'location')} possibly charged "
            "again"
        )
    if len(summary.charged_by_source) > 1 or summary.skipped_by_source:
        lines += by_source(summary.charged_by_source, summary.skipped_by_source)
    if summary.environment == "sandbox":
        lines.append("All answers are made up by the sandbox.")
    return lines


def by_source(charged: Mapping[str, int], skipped: Mapping[str, int]) -> list[str]:
    """Charged and skipped locations by source, in lines for people."""
    lines = []
    for what, counts in (
        ("charged", charged),
        ("rows not sent to a source that cannot answer them", skipped),
    ):
        if counts:
            lines.append(f"{what}: {_by_code(counts)}")
    return lines


def _by_code(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {code}" for code, number in counts.items())


# -- Files beside the output ------------------------------------------------------------------


def check_side_files(
    files: Mapping[str, Path | None],
    *,
    source: str | Path | None,
    output: str | Path | None,
    run_dir: str | Path | None,
) -> None:
    """Refuse a side file that cannot be written, or has another use, before anything is paid for.

    Args:
        files: By the option that names it, each file; None where the option is not given.
        source: The input, which none of them may be; None where there is none.
        output: The output, which none of them may be, nor the failures file beside it.
        run_dir: The run directory, in which none of them may be; None for `OUTPUT.run`.

    Raises:
        ConfigurationError: With the option and what is wrong.
    """
    taken = {_real(path): use for path, use in _uses(source, output)}
    if run_dir is None and output is not None and str(output) != STDOUT:
        run_dir = f"{output}.run"
    for option, path in files.items():
        if path is None:
            continue
        if str(path) == STDOUT:
            if option != "--summary" or str(output) == STDOUT:
                raise ConfigurationError(f"{option} - is not possible here; name a file")
            continue
        other = taken.setdefault(_real(path), option)
        if other != option or (source is not None and _is_same(path, Path(source))):
            raise ConfigurationError(
                f"{option} {path} is also used for something else; name another file"
            )
        if run_dir is not None and is_within(path, run_dir):
            raise ConfigurationError(
                f"{option} {path} is inside the run directory; name another file"
            )
        try:
            _check_place(path)
            folder = path.parent
            can_write = os.access(path if path.exists() else folder, os.W_OK)
            if path.is_dir() or not folder.is_dir() or not can_write:
                raise ConfigurationError(f"{option} {path} cannot be written")
        except OSError as error:
            raise ConfigurationError(
                f"{option} {path} cannot be written: {error.strerror or error}"
            ) from error


def open_side_file(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a side file to replace its content, or to append to it. Blocks.

    Raises:
        ConfigurationError: When a link of somebody else, or a hard link, leads to another file.
        OSError: When it cannot be opened.
    """
    _check_place(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else 0)
    if not path.is_symlink():  # nor may it become one now
        flags |= getattr(os, "O_NOFOLLOW", 0)
    file = os.fdopen(os.open(path, flags, 0o666), "ab" if append else "wb")  # by the umask
    if not append and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.truncate(0)
    return file


def _check_place(path: Path) -> None:
    check_links(path)
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            raise ConfigurationError(
                f"{path} has another name (a hard link), whose content would change too; "
                "name another file"
            )


def _uses(source: str | Path | None, output: str | Path | None) -> list[tuple[str | Path, str]]:
    uses: list[tuple[str | Path, str]] = []
    if source is not None:
        uses.append((source, "input"))
    if output is not None and str(output) != STDOUT:
        uses.append((output, "output"))
        failures = failures_path(output)
        if failures is not None:
            uses.append((failures, "failures"))
    return uses


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))  # unlike resolve(), accepts a link to itself


def _is_same(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except OSError:  # one of them does not exist
        return False


class EventLog:
    """Appends every event to a file, one JSON object per line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_side_file(path, append=True)
        self._encoder = msgspec.json.Encoder()
        self._is_whole = True

    def __call__(self, event: Event) -> None:
        """Append an event."""
        line = {"time": round(time.time(), 3)} | msgspec.to_builtins(event)
        with self._no_reason_to_stop():
            self._file.write(self._encoder.encode(line) + b"\n")

    def close(self) -> None:
        """Flush and close the file."""
        with self._no_reason_to_stop():
            self._file.close()

    @contextlib.contextmanager
    def _no_reason_to_stop(self) -> Iterator[None]:
        """Log once that it cannot be written, and carry on: there may be space again later."""
        try:
            yield
        except OSError as error:
            if self._is_whole:
                logger.error(  # noqa: TRY400 - one line
                    "%s is incomplete: %s", shown_path(self._path), error.strerror or error
                )
            self._is_whole = False


@contextlib.contextmanager
def event_log(path: Path | None) -> Iterator[EventLog | None]:
    """Open a log file; None for no file. A later failure to write does not stop the run.

    Raises:
        ConfigurationError: When it cannot be opened.
    """
    if path is None:
        yield None
        return
    try:
        log = EventLog(path)
    except OSError as error:
        raise ConfigurationError(
            f"--log-file {shown_path(path)} cannot be written: {error.strerror or error}"
        ) from error
    with contextlib.closing(log):
        yield log
