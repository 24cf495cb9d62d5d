"""The events of a run, for progress bars, logs and metrics.

Each is also a record of the logger `pingdata_async`, which has it as `event`: at the level WARNING
what may cost money or time, at INFO what becomes of rows and jobs, at DEBUG every request.

A listener is a plain function. It is called in the event loop, with one event after the other, and
must return at once. If it raises, that is logged once, it is not called again, and the run goes on:
a broken progress bar must not cost paid answers.
"""

from __future__ import annotations

import datetime as dt
import functools
import inspect
import logging
import secrets
from asyncio import CancelledError
from collections.abc import Callable

import msgspec

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.models import RequestKind
from pingdata_async.value_notes import ValueNote

logger = logging.getLogger("pingdata_async")


class Event(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Something that happened in a run: its class name, and `type` in JSON, say what.

    Attributes:
        run_id: Of the call that it happened in, as its summary has it; each call, also one that
            resumes a run, has an id of its own, and calls that share jobs have one together.
    """

    run_id: str = ""


class InputAwaited(Event, frozen=True, kw_only=True):
    """The run waits for data: its input is a named pipe that nobody writes to yet."""

    source: str


class InputProgress(Event, frozen=True, kw_only=True):
    """So many rows of the input have been read.

    Attributes:
        rows: Rows so far.
        share: The part of the file that they are, from 0 to 1; None where that is not known.
    """

    rows: int
    share: float | None = None


class InputPlanned(Event, frozen=True, kw_only=True):
    """The input has been read to its end.

    Attributes:
        rows: Data records in the input.
        locations: Of those, rows that will be sent.
        repeated: Rows that repeat one of these: they are not sent, and get its answer.
        chunks: Chunks that the rows were split into.
        jobs: Of those, chunks with something to send.
        unused_columns: Columns that are no field of the API, and are not sent.
        values_left_out: Values not sent because they are unreadable or codes for "unknown".
        value_notes: These, and others that are not sent as they stand, by column.
        is_resumed: Whether an earlier process began the run, so that only a part is left to send.
        mapping: Which column is which field, with samples of what is sent, a line each.
        notes: What else was found in the input, a sentence each.
        skipped_by_source: Rows, repeated ones included, that are not sent to a source because it
            surely cannot answer them.
    """

    rows: int
    locations: int
    chunks: int
    jobs: int
    repeated: int = 0
    is_resumed: bool = False
    unused_columns: tuple[str, ...] = ()
    values_left_out: int = 0
    value_notes: tuple[ValueNote, ...] = ()
    mapping: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped_by_source: dict[str, int] = {}


class RunResumed(Event, frozen=True, kw_only=True):
    """A run that an earlier process began is resumed.

    Attributes:
        run_dir: The run directory.
        rows: Rows of the plan.
        rows_done: Those that have an outcome: ok + partial + failed.
        jobs_in_flight: Jobs submitted before, which are polled now.
        charged_by_source: Locations charged so far, by source.
    """

    run_dir: str
    rows: int
    rows_done: int
    jobs_in_flight: int
    ok: int = 0
    partial: int = 0
    failed: int = 0
    charged_by_source: dict[str, int] = {}


class AnswersReused(Event, frozen=True, kw_only=True):
    """Earlier runs had answers that are not asked for again.

    Attributes:
        planned: Locations of the plan.
        locations: Those of them that are not sent at all.
        by_source: Reused answers by source, also those of locations that are sent to others.
        oldest_at: When the oldest of these was given (UTC).
        rows_done: Rows that have an outcome without anything being sent: ok + partial + failed.
    """

    planned: int
    locations: int
    by_source: dict[str, int]
    oldest_at: dt.datetime
    rows_done: int
    ok: int
    partial: int
    failed: int


class RunStopped(Event, frozen=True, kw_only=True):
    """A run stops before its end, and can be resumed.

    Attributes:
        run_dir: The run directory.
        rows: Rows of the plan.
        rows_done: Those that have an outcome; None if that cannot be read.
        is_output_closed: Whether it stops because nobody reads standard output any more.
        needs: Command-line options that `resume` needs to get past the error, such as
            `--output=...`; "" for none.
    """

    run_dir: str
    rows: int
    rows_done: int | None
    is_output_closed: bool = False
    needs: str = ""


class RunNotice(Event, frozen=True, kw_only=True):
    """A sentence that the user of a run should read."""

    message: str


class RequestSent(Event, frozen=True, kw_only=True):
    """A request is about to leave."""

    kind: RequestKind
    chunk: int
    job_id: str | None = None
    attempt: int = 1


class JobSubmitted(Event, frozen=True, kw_only=True):
    """The API accepted a chunk as a job, and charges its locations.

    Attributes:
        charged_before: Whether an earlier job of this run with any of these locations was, or may
            have been, accepted.
        charged_by_source: Of these locations, those that each source is asked about.
        queued_s: Seconds from when the chunk could be sent until it was.
    """

    chunk: int
    job_id: str
    locations: int
    charged_before: bool
    charged_by_source: dict[str, int] = {}
    queued_s: float = 0.0


class JobPolled(Event, frozen=True, kw_only=True):
    """A job was polled. Counts that the API does not give are None."""

    chunk: int
    job_id: str
    status: str
    num_requested: int | None
    num_completed: int | None


class JobStalled(Event, frozen=True, kw_only=True):
    """A running job has made no progress for `idle_s` seconds; it is still polled.

    Emitted after 300 s, then each time after twice as long.
    """

    chunk: int
    job_id: str
    idle_s: float


class PauseAsked(Event, frozen=True, kw_only=True):
    """The API asked for a pause of `pause_s` seconds: a 429 for all requests, a 503 for its kind.

    Emitted once for each pause of 10 s and more.
    """

    kind: RequestKind
    pause_s: float


class RequestRetried(Event, frozen=True, kw_only=True):
    """A request failed, and is sent again after `delay_s` seconds.

    Attributes:
        status_code: The HTTP status of the answer; None if there was none.
        gives_up_in_s: Seconds until the run stops, if every request of this kind fails until
            then; None where one failure does not lead to that.
    """

    kind: RequestKind
    chunk: int
    job_id: str | None
    attempt: int
    error: str
    delay_s: float
    status_code: int | None = None
    gives_up_in_s: float | None = None


class SubmissionInDoubt(Event, frozen=True, kw_only=True):
    """A submission may have created a job whose id never arrived.

    Attributes:
        charged_before: As of `JobSubmitted`.
    """

    chunk: int
    locations: int
    attempt: int
    error: str
    charged_before: bool


class JobOverdue(Event, frozen=True, kw_only=True):
    """The API has reported a contradictory state of a job for `late_s` seconds.

    The job is still polled.

    Attributes:
        error: The state: an undocumented end, an unknown job, completion without an output, or an
            output that cannot be fetched.
    """

    chunk: int
    job_id: str
    late_s: float
    error: str


class JobKept(Event, frozen=True, kw_only=True):
    """The output of a paid job cannot be fetched now.

    The job is paid for, and not replaced; `resume` fetches the output later.
    """

    chunk: int
    job_id: str
    locations: int
    error: str


class JobAbandoned(Event, frozen=True, kw_only=True):
    """The run gives up on a job.

    It failed, the API forgot it, its output can never be read, or it made no progress for
    `job_timeout_s` (it may then still be running).

    Attributes:
        will_resubmit: Whether another job will be submitted for its locations.
    """

    chunk: int
    job_id: str
    error: str
    will_resubmit: bool


class ChunkSplit(Event, frozen=True, kw_only=True):
    """A chunk is split, because it was refused, is too large, or its job failed.

    Attributes:
        parts: The numbers of the chunks that take its place.
        error: Why.
    """

    chunk: int
    parts: tuple[int, ...]
    error: str


class LocationsAskedAgain(Event, frozen=True, kw_only=True):
    """Locations without a usable answer are retried, as a chunk of their own."""

    chunk: int
    locations: int


class ChunkHeld(Event, frozen=True, kw_only=True):
    """A chunk whose submission is in doubt is held for the user to decide."""

    chunk: int
    locations: int


class RunStopping(Event, frozen=True, kw_only=True):
    """Nothing more is submitted; the answers of jobs in flight are still fetched."""

    error: str
    jobs_in_flight: int


class UnexpectedAnswer(Event, frozen=True, kw_only=True):
    """An answer was usable, but not what the API documents."""

    chunk: int
    job_id: str
    message: str


class ChunkFinished(Event, frozen=True, kw_only=True):
    """A chunk needs no further job, and its answers are safe.

    Attributes:
        job_id: The job that answered; None if none did.
        rows: Rows that have an outcome now, with those that repeat them.
        asked_again: Locations without an outcome, which will be retried.
        reasons: Rows that are not ok, by reason.
    """

    chunk: int
    job_id: str | None
    rows: int
    ok: int
    partial: int
    failed: int
    no_answer: int
    reasons: dict[str, int]
    asked_again: int = 0


class OutputProgress(Event, frozen=True, kw_only=True):
    """So many rows have been written to the output."""

    rows: int


class OutputWritten(Event, frozen=True, kw_only=True):
    """The output is complete.

    Attributes:
        path: The output.
        rows: Rows in it.
        failures_path: The file of the rows without an answer; None if there are none.
    """

    path: str
    rows: int
    failures_path: str | None = None


Listener = Callable[[Event], None]
Progress = Callable[[int, int | None], None]
"""Called with the rows that have an outcome, and with how many there are; None if unknown."""


def new_run_id() -> str:
    """An id for a call."""
    return secrets.token_hex(8)


class NoticeCollector:
    """A listener that keeps the notices.

    Attributes:
        messages: Their sentences.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, event: Event) -> None:
        """Keep a notice."""
        if isinstance(event, RunNotice):
            self.messages.append(event.message)


class ProgressListener:
    """Tells a `progress` function of each step.

    Args:
        progress: The function.
        total: How many rows there are; None if this is unknown, until an event tells.
    """

    def __init__(self, progress: Progress, total: int | None = None) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def __call__(self, event: Event) -> None:
        """Count an event, and tell."""
        match event:
            case InputPlanned():
                self._total = event.rows
            case RunResumed() | AnswersReused():
                self._done = event.rows_done
            case ChunkFinished():
                self._done += event.rows
            case _:
                return
        self._progress(self._done, self._total)


def check_listener(listener: object, name: str = "on_event") -> None:
    """Refuse a listener that is not a plain function.

    Args:
        listener: What is given for it.
        name: Of the option.

    Raises:
        ConfigurationError: When it cannot be called, or would have to be awaited.
    """
    if listener is None:
        return
    while isinstance(listener, functools.partial):
        listener = listener.func
    if not callable(listener):
        raise ConfigurationError(f"{name} must be a function, not {listener!r}")
    for called in (listener, type(listener).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise ConfigurationError(f"{name} must be a plain function: it is not awaited")


_LOGGED_AS_INFO = (
    InputAwaited
    | InputPlanned
    | RunResumed
    | RunStopped
    | RunNotice
    | JobSubmitted
    | RequestRetried
    | ChunkSplit
    | LocationsAskedAgain
    | ChunkFinished
    | OutputWritten
)
_LOGGED_AS_WARNING = (
    JobStalled
    | PauseAsked
    | SubmissionInDoubt
    | JobOverdue
    | JobKept
    | JobAbandoned
    | ChunkHeld
    | RunStopping
    | UnexpectedAnswer
)


def _log_level(event: Event) -> int:
    is_paid_again = isinstance(event, JobSubmitted) and event.charged_before
    if is_paid_again or isinstance(event, _LOGGED_AS_WARNING):
        return logging.WARNING
    return logging.INFO if isinstance(event, _LOGGED_AS_INFO) else logging.DEBUG


class EventEmitter:
    """Hands each event to every listener; one that raises is logged and not called again.

    Args:
        listeners: Each of them, or None.
        run_id: Put into every event, which is then logged as well; "" where another one does that.
    """

    def __init__(self, *listeners: Listener | None, run_id: str = "") -> None:
        self._listeners = [listener for listener in listeners if listener is not None]
        self._run_id = run_id

    def __call__(self, event: Event) -> None:
        """Hand an event to every listener."""
        if self._run_id:
            msgspec.structs.force_setattr(event, "run_id", self._run_id)  # nobody has seen it yet
            level = _log_level(event)
            if logger.isEnabledFor(level):
                logger.log(level, "%r", event, extra={"event": event})
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except (Exception, CancelledError):  # the latter of a future that it read
                self._listeners.remove(listener)
                logger.exception("an event listener failed and is not called again")
