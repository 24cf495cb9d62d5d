"""What a run tells whoever watches it: progress, logs, metrics. Listeners only listen.

A listener is a plain function that is called in the event loop, in order, and should
return at once. One that raises is reported once through `logging` and the run goes on:
a broken progress bar must not cost paid answers.
"""

from __future__ import annotations

import functools
import inspect
import logging
from asyncio import CancelledError
from collections.abc import Callable

import msgspec

from pingdata_async.exceptions import ConfigurationError
from pingdata_async.value_notes import ValueNote

logger = logging.getLogger("pingdata_async")


class Event(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Something that happened in a run. Its class name says what, as does `type` in JSON."""


class InputAwaited(Event, frozen=True, kw_only=True):
    """The input is a named pipe into which nobody writes yet."""

    source: str


class InputPlanned(Event, frozen=True, kw_only=True):
    """The input has been read through.

    Attributes:
        rows: Data records found.
        locations: Of those, rows that will be sent.
        repeated: Rows that repeat one of these: they are not sent, and get its answer.
        chunks: Chunks they were split into.
        jobs: Of those, chunks with something to be sent.
        unused_columns: Columns that mean nothing to the API, and are not sent.
        values_left_out: Values that were unreadable, or codes for unknown, and so are not sent.
        value_notes: These, and others that are not sent as they stand, by column.
        is_resumed: Whether the run was begun before, so that not all of it is sent now.
        mapping: Which column was taken for which field, with samples of what is sent, a line each.
        notes: What the user should know of how the input was understood, a sentence each.
        skipped_by_source: Rows that a source is not asked about, as it would surely fail: those
            that repeat others included.
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
    """A run that was begun before goes on.

    Attributes:
        rows: Of its plan.
        rows_done: Those that have their outcome already.
        jobs_in_flight: Jobs that were submitted before, and are asked about now.
    """

    run_dir: str
    rows: int
    rows_done: int
    jobs_in_flight: int


class RunStopped(Event, frozen=True, kw_only=True):
    """A run ends before all is done; it can be gone on with.

    Attributes:
        rows: Of its plan.
        rows_done: Those that have their outcome; None where that cannot be read.
        is_output_closed: Whether it is because nobody reads standard output any more.
        needs: Options without which it would stop at once again; "" for none.
    """

    run_dir: str
    rows: int
    rows_done: int | None
    is_output_closed: bool = False
    needs: str = ""


class RunNotice(Event, frozen=True, kw_only=True):
    """Something about a run that its user should know, a sentence."""

    message: str


class RequestSent(Event, frozen=True, kw_only=True):
    """A request is about to go out. `kind` is submit, poll or fetch."""

    kind: str
    chunk: int
    job_id: str | None = None
    attempt: int = 1


class JobSubmitted(Event, frozen=True, kw_only=True):
    """The API accepted a chunk as a job; its locations are charged from here on.

    Attributes:
        charged_before: Whether the same locations were in an accepted, or possibly
            accepted, job of this run before.
    """

    chunk: int
    job_id: str
    locations: int
    charged_before: bool


class JobPolled(Event, frozen=True, kw_only=True):
    """A job was asked about. Counts are None where the API does not say."""

    chunk: int
    job_id: str
    status: str
    num_requested: int | None
    num_completed: int | None


class JobStalled(Event, frozen=True, kw_only=True):
    """A job at work has made no progress for `idle_s` seconds. It is still asked about.

    After 300 s, and each time after twice as long as before.
    """

    chunk: int
    job_id: str
    idle_s: float


class PauseAsked(Event, frozen=True, kw_only=True):
    """After a 429 or 503 nothing, or nothing of its kind, is sent for `pause_s` seconds.

    Only of pauses of 10 s and more, and once for each.
    """

    kind: str
    pause_s: float


class RequestRetried(Event, frozen=True, kw_only=True):
    """A request failed and will be sent again after `delay_s` seconds."""

    kind: str
    chunk: int
    job_id: str | None
    attempt: int
    error: str
    delay_s: float
    status_code: int | None = None


class SubmissionInDoubt(Event, frozen=True, kw_only=True):
    """A POST may have made a job whose id never arrived; `charged_before` as there."""

    chunk: int
    locations: int
    attempt: int
    error: str
    charged_before: bool


class JobOverdue(Event, frozen=True, kw_only=True):
    """For `late_s` seconds a job has not given what it must; it is still asked about.

    Attributes:
        error: What the API says of it: an undocumented status, that it does not know it, or that
            it is complete although there is no output.
    """

    chunk: int
    job_id: str
    late_s: float
    error: str


class JobKept(Event, frozen=True, kw_only=True):
    """A paid job's answer cannot be had now; it is left for when the run is gone on with."""

    chunk: int
    job_id: str
    locations: int
    error: str


class JobAbandoned(Event, frozen=True, kw_only=True):
    """A job ended without a usable output, or was forgotten by the API."""

    chunk: int
    job_id: str
    error: str
    will_resubmit: bool


class ChunkSplit(Event, frozen=True, kw_only=True):
    """A chunk goes on in parts, as it was refused, its job failed, or it is too large.

    Attributes:
        parts: The numbers of the chunks that take its place.
        error: Why.
    """

    chunk: int
    parts: tuple[int, ...]
    error: str


class LocationsAskedAgain(Event, frozen=True, kw_only=True):
    """Rows that an answer left out, or a source failed for a while, are a chunk of their own."""

    chunk: int
    locations: int


class ChunkHeld(Event, frozen=True, kw_only=True):
    """A chunk whose submission is in doubt is left to the user."""

    chunk: int
    locations: int


class RunStopping(Event, frozen=True, kw_only=True):
    """Nothing more is submitted; the jobs that are already paid for are seen to their end."""

    error: str
    jobs_in_flight: int


class UnexpectedAnswer(Event, frozen=True, kw_only=True):
    """An answer was usable, but not what was expected of it."""

    chunk: int
    job_id: str
    message: str


class ChunkFinished(Event, frozen=True, kw_only=True):
    """No job is needed for a chunk any more, and its answers are safe.

    Attributes:
        job_id: The job that its answers are from; None where no job answered.
        rows: Those that have their outcome now, with those that repeat them.
        asked_again: Locations that have none yet, and will be asked about again.
        reasons: Rows by reason, of those that are not ok.
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
    """That many rows have been written to the output."""

    rows: int


class OutputWritten(Event, frozen=True, kw_only=True):
    """The output is in its place.

    Attributes:
        path: Where.
        rows: Rows in it.
        failures_path: Where the rows without an answer are, to be mended; None if there are none.
    """

    path: str
    rows: int
    failures_path: str | None = None


Listener = Callable[[Event], None]


class NoticeCollector:
    """A listener that keeps what a user should know.

    Attributes:
        messages: That, a sentence each.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, event: Event) -> None:
        """Keep a notice."""
        if isinstance(event, RunNotice):
            self.messages.append(event.message)


def check_listener(listener: object) -> None:
    """Refuse what cannot be told of events, or would have to be awaited.

    Raises:
        ConfigurationError: When it cannot be called like a plain function.
    """
    if listener is None:
        return
    while isinstance(listener, functools.partial):
        listener = listener.func
    if not callable(listener):
        raise ConfigurationError(f"on_event must be a function, not {listener!r}")
    for called in (listener, type(listener).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise ConfigurationError("on_event must be a plain function: it is not awaited")


class EventEmitter:
    """Hands each event to every listener; one that raises is muted and reported."""

    def __init__(self, *listeners: Listener | None) -> None:
        self._listeners = [listener for listener in listeners if listener is not None]

    def __call__(self, event: Event) -> None:
        """Tell every listener."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except (Exception, CancelledError):  # of a future that it asked: nobody awaits here
                self._listeners.remove(listener)
                logger.exception("an event listener failed and is not called again")
