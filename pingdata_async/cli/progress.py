"""What is said of a run while it goes on and at its end, in words; the bar is in `screen`."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pingdata_async.cli.side_files import open_side_file
from pingdata_async.events import (
    ChunkFinished,
    ChunkHeld,
    ChunkSplit,
    Event,
    InputAwaited,
    InputPlanned,
    JobAbandoned,
    JobKept,
    JobOverdue,
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
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.models import RunSummary
from pingdata_async.plurals import counted
from pingdata_async.runs.output_files import shown_path
from pingdata_async.value_notes import ValueNote, sentence, to_be_told

if TYPE_CHECKING:
    from rich.console import Console

logger = logging.getLogger("pingdata_async")

PLAIN_LINE_EVERY_S = 10.0
LIST_AT_MOST_COLUMNS = 10
MOST_VALUE_NOTES = 6


class RunState:
    """What there is to show, counted from events."""

    def __init__(self) -> None:
        self.rows_total = 0
        self.rows_done = 0
        self._rows_before = 0  # done by earlier processes
        self.in_flight = 0
        self.problems = 0
        self.began = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Count an event."""
        match event:
            case InputPlanned():
                self.rows_total = event.rows
                self.began = time.monotonic()
            case RunResumed():
                self.rows_done = self._rows_before = event.rows_done
                self.in_flight = event.jobs_in_flight
            case JobSubmitted():
                self.in_flight += 1
            case JobAbandoned() | JobKept():
                self.in_flight -= 1
                self.problems += 1
            case ChunkFinished():
                self.rows_done += event.rows
                self.in_flight -= event.job_id is not None
            case RequestRetried() | UnexpectedAnswer() | JobStalled():
                self.problems += 1
            case _:
                pass

    @property
    def rows_per_s(self) -> float:
        """Rows finished a second, since the planning ended or the run went on."""
        return (self.rows_done - self._rows_before) / max(time.monotonic() - self.began, 0.001)


@contextlib.contextmanager
def plain_lines(console: Console) -> Iterator[Listener]:
    """A line now and then, for logs of schedulers and continuous integration."""
    state = RunState()
    last_line = time.monotonic()

    def watch(event: Event) -> None:
        nonlocal last_line
        state(event)
        if isinstance(event, ChunkFinished):
            now = time.monotonic()
            if now - last_line >= PLAIN_LINE_EVERY_S:
                last_line = now
                console.print(_plain_line(state))

    yield watch


def _plain_line(state: RunState) -> str:
    rate = state.rows_per_s
    left_s = (state.rows_total - state.rows_done) / max(rate, 0.001)
    return (
        f"{state.rows_done:,} of {counted(state.rows_total, 'row')}, {rate:,.0f} rows/s, "
        f"{counted(state.in_flight, 'job')} in flight, {counted(state.problems, 'problem')}, "
        f"about {duration(left_s)} left"
    )


def narrate(console: Console, *, verbose: bool) -> Listener:
    """Say what a person should know; with `verbose`, what happens to each job."""

    def watch(event: Event) -> None:
        sentence = _about_the_run(event)
        if sentence is None and verbose:
            sentence = _about_a_chunk(event)
        if sentence is not None:
            console.print(sentence)

    return watch


def waiting_for(source: str) -> str:
    """That a named pipe is waited for, a sentence."""
    return f"Waiting for somebody to write into the pipe {source}."


def _about_the_run(event: Event) -> str | None:
    match event:
        case InputPlanned(is_resumed=False):
            return _planned(event)
        case InputAwaited():
            return waiting_for(event.source)
        case RunNotice():
            return event.message
        case RunStopped(is_output_closed=True):  # whoever read it wants no more: no error
            return f"Every answer is kept in {event.run_dir}."
        case RunResumed():
            return (
                f"Going on: {event.rows_done:,} of {counted(event.rows, 'row')} with an "
                f"outcome, {counted(event.jobs_in_flight, 'job')} in flight."
            )
        case JobAbandoned() | JobKept() | JobOverdue() | JobStalled():
            return _about_a_job(event)
        case SubmissionInDoubt():
            return (
                f"chunk {event.chunk}: a submission of {counted(event.locations, 'location')} is "
                f"in doubt and may be charged twice: {event.error}"
            )
        case ChunkHeld():
            return f"chunk {event.chunk}: held, with {counted(event.locations, 'location')}"
        case RunStopping() if event.jobs_in_flight:
            return (
                f"Stopping: {event.error}. Waiting for what is already paid for "
                f"({event.jobs_in_flight} in flight)"
            )
        case PauseAsked():
            return f"the API is not to be asked for {event.pause_s:,.0f} s; going on then"
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
                f"job {event.job_id} is paid for, but its answer cannot be had now, so it is left "
                f"for later: {event.error}"
            )
        case JobOverdue():
            said = f"{event.error}; it is still asked about"
        case JobStalled():
            minutes = counted(round(event.idle_s / 60.0), "minute")
            said = f"job {event.job_id} has made no progress for {minutes}; it is still asked about"
    return f"chunk {event.chunk}: {said}"


def _about_a_chunk(event: Event) -> str | None:
    match event:
        case RequestRetried():
            return f"chunk {event.chunk}: {event.error}; again in {event.delay_s:.1f} s"
        case JobSubmitted():
            return (
                f"chunk {event.chunk}: job {event.job_id}, {counted(event.locations, 'location')}"
            )
        case ChunkSplit():
            return f"chunk {event.chunk} goes on in {len(event.parts)} parts: {event.error}"
        case LocationsAskedAgain():
            locations = counted(event.locations, "location")
            return f"chunk {event.chunk}: asks about {locations} again"
        case ChunkFinished():
            return (
                f"chunk {event.chunk}: {event.ok} ok, {event.partial} partial, "
                f"{event.failed} failed, {event.asked_again} to be asked again"
            )
    return None


def _planned(event: InputPlanned) -> str:
    text = f"{counted(event.rows, 'row')}, {event.locations:,} to be sent"
    text += f" in {counted(event.jobs, 'job')}" if event.locations else ""
    text += f"; {counted(event.repeated, 'repeated row')} at no cost." if event.repeated else "."
    lines = [text, *by_source({}, event.skipped_by_source), *mapped_lines(event.mapping)]
    if event.unused_columns:
        names = ", ".join(map(repr, event.unused_columns[:LIST_AT_MOST_COLUMNS]))
        more = len(event.unused_columns) - LIST_AT_MOST_COLUMNS
        lines.append(f"Columns not used: {names}{f' and {more} more' if more > 0 else ''}.")
    return "\n".join([*lines, *value_lines(event.value_notes), *event.notes])


def value_lines(notes: tuple[ValueNote, ...]) -> list[str]:
    """Which values are not sent as they stand, in a few lines; `columns` shows all of them."""
    told = to_be_told(notes)
    lines = [sentence(note) for note in told[:MOST_VALUE_NOTES]]
    if len(told) > MOST_VALUE_NOTES:
        values = sum(note.values for note in told[MOST_VALUE_NOTES:])
        lines.append(
            f"{counted(values, 'more value')} in other columns; `pingdata-async columns` shows all"
        )
    return lines


def mapped_lines(mapping: tuple[str, ...]) -> list[str]:
    """Which column is which field; that of one that is named like it goes without saying."""
    lines = []
    for line in mapping:
        field, _, column = line.partition(" <- ")
        as_named, samples = f'"{field}"', column.partition(": ")[2]
        is_as_named = column in {as_named, f"{as_named}: {samples}"}
        shown = f"{field}: {samples}".removesuffix(": ") if is_as_named else line
        lines.append(f"  {shown}")
    return ["Columns sent:", *lines] if lines else []


class EventLog:
    """Appends every event to a file, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_side_file(path, append=True)
        self._encoder = msgspec.json.Encoder()
        self._is_whole = True

    def __call__(self, event: Event) -> None:
        """Write an event down."""
        line = {"time": round(time.time(), 3)} | msgspec.to_builtins(event)
        with self._no_reason_to_stop():
            self._file.write(self._encoder.encode(line) + b"\n")

    def close(self) -> None:
        """Write what is left of it."""
        with self._no_reason_to_stop():
            self._file.close()

    @contextlib.contextmanager
    def _no_reason_to_stop(self) -> Iterator[None]:
        """Say once that it cannot be written; more may be written later, if there is room."""
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
    """A log file; None for no file. One that cannot be written on is no reason to stop.

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
            f"{counted(summary.locations_saved, 'location')} saved: these rows repeat others, and "
            "were sent with them"
        )
    if summary.submissions_in_doubt or summary.locations_possibly_charged_again:
        lines.append(
            f"{counted(summary.submissions_in_doubt, 'submission')} in doubt, "
            f"{counted(summary.locations_possibly_charged_again, 'location')} possibly charged "
            "again"
        )
    if len(summary.charged_by_source) > 1 or summary.skipped_by_source:
        lines += by_source(summary.charged_by_source, summary.skipped_by_source)
    if summary.environment == "sandbox":
        lines.append("Every answer is made up by the sandbox.")
    return lines


def by_source(charged: Mapping[str, int], skipped: Mapping[str, int]) -> list[str]:
    """What was charged, and what was spared, in lines for people."""
    lines = []
    for what, counts in (("charged", charged), ("rows not sent, as sure to fail", skipped)):
        if counts:
            said = ", ".join(f"{number:,} {code}" for code, number in counts.items())
            lines.append(f"{what}: {said}")
    return lines


def duration(seconds: float) -> str:
    """A span of time for people, such as 2 h 05 min."""
    if seconds < 100:  # noqa: PLR2004 - up to here seconds read best
        return f"{seconds:.1f} s"
    minutes, hours = round(seconds / 60) % 60, round(seconds / 60) // 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
