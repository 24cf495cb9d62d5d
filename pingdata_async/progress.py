"""How far a run is, counted from its events, and the lines that say so (pure).

Events come in the event loop's thread, and lines are asked for in another: nothing that an event
changes is iterated over.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pingdata_async.events import (
    AnswersReused,
    ChunkFinished,
    Event,
    InputAwaited,
    InputPlanned,
    InputProgress,
    JobAbandoned,
    JobKept,
    JobPolled,
    JobStalled,
    JobSubmitted,
    OutputProgress,
    OutputWritten,
    PauseAsked,
    RequestRetried,
    RunResumed,
    RunStopping,
    SubmissionInDoubt,
    UnexpectedAnswer,
)
from pingdata_async.models import JobPhase, RequestKind, phase_of
from pingdata_async.util.text import counted

RATE_WINDOW_S = 120.0
FEWEST_SAMPLES = 2
READING, SENDING, WRITING = "Reading", "Sending", "Writing"


@dataclass(slots=True)
class _Job:
    locations: int
    completed: int = 0  # as the API counts
    is_queued: bool = True


class RunProgress:
    """The progress of a run.

    Args:
        clock: Seconds that do not go back.
        wall_clock: Unix seconds.

    Attributes:
        phase: What is done now: READING, SENDING or WRITING.
        rows: The rows of the input; while it is read, those so far. 0 if that is not known; of a
            call in memory it is for the caller to say.
        rows_done: Rows with an outcome.
        rows_written: Rows in the output, while it is written.
        charged: Locations charged so far, by source.
        problems: Faults that did not stop the run.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._began_at = clock()
        self.phase = READING
        self.rows = 0
        self.rows_done = 0
        self.rows_written = 0
        self.charged = Counter[str]()
        self.problems = 0
        self._share_read: float | None = None
        self._has_plan = False  # there is an output to be written
        self._outcomes = {"ok": 0, "partial": 0, "failed": 0}
        self._jobs: dict[str, _Job] = {}
        self._jobs_unseen = 0  # of an earlier process, not polled yet
        self._completed = 0  # locations of jobs in flight
        self._queued = 0  # jobs
        self._waiting = ""
        self._waiting_until = 0.0
        self._is_silent = False  # the API does not answer: that is what is waited for
        self._samples: deque[tuple[float, int]] = deque()  # times, and rows done by then

    def __call__(self, event: Event) -> None:  # noqa: PLR0912 - a case for each event
        """Count an event."""
        match event:
            case InputAwaited():
                self._wait_for("data from the pipe")
            case InputProgress():
                self.rows, self._share_read = event.rows, event.share
                self._waiting = ""
            case InputPlanned():
                self.phase, self.rows, self._waiting = SENDING, event.rows, ""
                self._has_plan = True
                self._sample()
            case RunResumed():
                self._jobs_unseen = event.jobs_in_flight
                self.charged.update(event.charged_by_source)
                self._begin_with(event)
            case AnswersReused():
                self._begin_with(event)
            case JobSubmitted():
                self._note_submission(event)
            case JobPolled():
                self._note_poll(event)
            case JobAbandoned() | JobKept():
                self._end_job(event.job_id)
                self.problems += 1
            case ChunkFinished():
                if event.job_id is not None:
                    self._end_job(event.job_id)
                self.rows_done += event.rows
                for outcome in self._outcomes:
                    self._outcomes[outcome] += getattr(event, outcome)
                self._sample()
                if self._has_plan and self.rows_done == self.rows:
                    self.phase = WRITING
            case RequestRetried():
                self.problems += 1
                if shows_silence(event):
                    self._wait_for("an answer of the API", event.gives_up_in_s or 0.0)
                    self._is_silent = True
            case UnexpectedAnswer() | JobStalled() | SubmissionInDoubt():
                self.problems += 1
            case PauseAsked():
                self._wait_for("the end of a pause that the API asked for", event.pause_s)
            case RunStopping():
                self._wait_for("the jobs that are already paid for")
            case OutputProgress():
                self.rows_written += event.rows
            case OutputWritten():
                self.rows_written = event.rows
            case _:
                pass

    def _note_poll(self, event: JobPolled) -> None:
        if self._is_silent:
            self._is_silent, self._waiting = False, ""
        job = self._jobs.get(event.job_id)
        if job is None:
            self._jobs_unseen = max(0, self._jobs_unseen - 1)
            job = self._add_job(event.job_id, event.num_requested or 0)
        completed = min(job.locations, event.num_completed or 0)
        self._completed += completed - job.completed
        job.completed = completed
        self._queued -= job.is_queued
        phase = phase_of(event.status, None, names_outputs=False)
        job.is_queued = phase is JobPhase.WAITING
        self._queued += job.is_queued
        self._sample()

    def _begin_with(self, event: RunResumed | AnswersReused) -> None:
        self.rows_done = event.rows_done
        self._outcomes = {"ok": event.ok, "partial": event.partial, "failed": event.failed}
        self._samples.clear()
        self._sample()

    def _note_submission(self, event: JobSubmitted) -> None:
        if self.phase == READING:  # a call in memory has no plan
            self.phase = SENDING
        self._add_job(event.job_id, event.locations)
        self.charged.update(event.charged_by_source)
        self._waiting = ""

    def _add_job(self, job_id: str, locations: int) -> _Job:
        job = self._jobs[job_id] = _Job(locations)
        self._queued += 1
        return job

    def _end_job(self, job_id: str) -> None:
        job = self._jobs.pop(job_id, None)
        if job is None:
            self._jobs_unseen = max(0, self._jobs_unseen - 1)
        else:
            self._completed -= job.completed
            self._queued -= job.is_queued

    def _wait_for(self, what: str, seconds: float | None = None) -> None:
        self._is_silent = False
        self._waiting = f"waiting for {what}"
        self._waiting_until = 0.0
        if seconds is not None:
            self._waiting_until = self._wall_clock() + seconds
            self._waiting += f" until {clock_time(seconds, self._wall_clock())}"

    @property
    def waiting(self) -> str:
        """What the run waits for, and until when; "" for nothing."""
        is_over = self._waiting_until and self._wall_clock() > self._waiting_until
        return "" if is_over else self._waiting

    @property
    def jobs_in_flight(self) -> int:
        """Jobs that the API has not answered yet."""
        return len(self._jobs) + self._jobs_unseen

    @property
    def jobs_queued(self) -> int:
        """Of these, jobs in the API's queue."""
        return self._queued

    @property
    def share(self) -> float | None:
        """How much of the present phase is done, from 0 to 1; None where that is not known."""
        if self.phase == READING:
            return self._share_read
        if not self.rows:
            return None
        done = self.rows_written if self.phase == WRITING else self._rows_answered
        return min(1.0, done / self.rows)

    @property
    def _rows_answered(self) -> int:
        """Rows done, and those that the API has done of the jobs in flight."""
        return self.rows_done + self._completed

    def _sample(self) -> None:
        now = self._clock()
        self._samples.append((now, self._rows_answered))
        while len(self._samples) > FEWEST_SAMPLES and now - self._samples[1][0] > RATE_WINDOW_S:
            self._samples.popleft()

    @property
    def rows_per_s(self) -> float | None:
        """Rows answered per second in the last two minutes; None before any is."""
        if not self._samples:
            return None
        (since, before), now = self._samples[0], self._clock()
        answered = self._rows_answered - before
        return answered / (now - since) if answered > 0 and now > since else None

    def lines(self) -> tuple[str, str, str]:
        """The progress in three lines; the first goes beside a bar."""
        share, rate = self.share, self.rows_per_s
        first = [] if share is None else [f"{share:.0%}"]
        if self.waiting:
            first.append(self.waiting)
        elif self.phase == SENDING and rate is not None:
            left_s = (self.rows - self._rows_answered) / rate
            first.append(f"{rate:,.0f} rows/s")
            if left_s >= 1.0:  # (negative where it is not known how many rows there are)
                first.append(f"about {duration(left_s)} left")
        return ", ".join(first), self._about_rows(), self._about_jobs()

    def _about_rows(self) -> str:
        elapsed = duration(self._clock() - self._began_at)
        if self.phase == READING:
            return f"{counted(self.rows, 'row')} read in {elapsed}" if self.rows else ""
        if not self.rows:  # of a generator it is not known how many will come
            done = counted(self.rows_done, "row")
        elif self.phase == WRITING and self.rows_written:
            done = f"{self.rows_written:,} of {counted(self.rows, 'row')} written"
        else:
            done = f"{self.rows_done:,} of {counted(self.rows, 'row')}"
        outcomes = ", ".join(f"{rows:,} {name}" for name, rows in self._outcomes.items())
        return f"{done} in {elapsed}: {outcomes}"

    def _about_jobs(self) -> str:
        if self.phase == READING:
            return ""
        said = [f"{counted(self.jobs_in_flight, 'job')} in flight"]
        if self._queued:
            said[0] += f" ({self._queued:,} queued)"
        return ", ".join([*said, *self._spent()])

    def _spent(self) -> list[str]:
        said = []
        charged = list(self.charged.items())  # at once: an event may come meanwhile
        if charged:
            said.append("charged " + " ".join(f"{number:,} {code}" for code, number in charged))
        if self.problems:
            said.append(counted(self.problems, "problem"))
        return said

    def last_line(self, *, has_failed: bool) -> str:
        """What stays to be seen once all is over."""
        how = "Stopped" if has_failed else "Finished"
        return f"{how}: " + ", ".join(filter(None, [self._about_rows(), *self._spent()]))

    def line(self) -> str:
        """The progress in one line, for a log."""
        return f"{self.phase}: " + "; ".join(filter(None, self.lines()))


def shows_silence(event: RequestRetried) -> bool:
    """Whether the API did not answer; of an output that came damaged it did."""
    is_of_an_output = event.kind is RequestKind.FETCH
    return event.status_code is None and event.gives_up_in_s is not None and not is_of_an_output


def clock_time(in_s: float, now: float | None = None) -> str:
    """The time of day in so many seconds, on this machine's clock; `now` in Unix seconds."""
    at = datetime.fromtimestamp((time.time() if now is None else now) + in_s).astimezone()
    return f"{at:%H:%M:%S}"


def duration(seconds: float) -> str:
    """A span of time for people, such as 2 h 05 min."""
    if seconds < 100:  # noqa: PLR2004 - up to here seconds read best
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"  # noqa: PLR2004
    minutes, hours = round(seconds / 60) % 60, round(seconds / 60) // 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
