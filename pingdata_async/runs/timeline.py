"""How a run goes over time, in a few hundred moments however long it takes (pure)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from pingdata_async.events import Event, PauseAsked, RequestRetried
from pingdata_async.progress import RunProgress
from pingdata_async.runs.spending import REFUSALS

MAX_MOMENTS = 400
FIRST_STEP_S = 0.1
KEEP_EVERY_S = 10.0


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """Where a run was at a time; refusals and pauses are counted since the process began.

    Attributes:
        at: In Unix seconds.
        process: Which of the processes that worked on the run, from 0.
        rows: Rows with an outcome.
        in_flight: Jobs in flight.
        queued: Of these, jobs in the API's queue.
        refused: Answers 429 and 503.
        paused_s: Seconds that the API asked to wait.
    """

    at: float
    process: int
    rows: int
    in_flight: int
    queued: int
    refused: int
    paused_s: float


def moments_of(kept: object) -> list[Moment]:
    """What a journal has kept; [] where it has none that can be read, as nothing depends on it."""
    try:
        return msgspec.convert(kept or [], list[Moment])[-MAX_MOMENTS:]
    except msgspec.ValidationError:
        return []


class Timeline:
    """Listens to a run, and notes where it is now and then: half as often whenever it is full.

    Args:
        clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._moments: list[Moment] = []
        self._progress = RunProgress(clock, clock)
        self._process = 0
        self._refused = 0
        self._paused_s = 0.0
        self._paused_until = 0.0
        self._step_s = FIRST_STEP_S
        self._kept_at = clock()

    def begin(self, kept: Sequence[Moment]) -> None:
        """Go on behind the moments of earlier processes."""
        self._moments = [*kept]
        self._process = 1 + max((each.process for each in kept), default=-1)

    def __call__(self, event: Event) -> None:
        """Note an event."""
        self._progress(event)
        now = self._clock()
        if isinstance(event, RequestRetried):
            self._refused += event.status_code in REFUSALS
        elif isinstance(event, PauseAsked):
            until = now + event.pause_s
            self._paused_s += max(0.0, until - max(now, self._paused_until))
            self._paused_until = max(until, self._paused_until)
        last = self._moments[-1] if self._moments else None
        if last is None or last.process != self._process or now - last.at >= self._step_s:
            self._moments.append(self._now(now))
            if len(self._moments) > MAX_MOMENTS:
                self._moments = self._moments[::2]
                self._step_s *= 2

    def _now(self, now: float) -> Moment:
        progress = self._progress
        paused_s = self._paused_s - max(0.0, self._paused_until - now)
        return Moment(
            round(now, 2), self._process, progress.rows_done, progress.jobs_in_flight,
            progress.jobs_queued, self._refused, round(paused_s, 2),
        )  # fmt: skip

    def is_due(self) -> bool:
        """Whether it is time to keep it again; says so once."""
        now = self._clock()
        if now - self._kept_at < KEEP_EVERY_S:
            return False
        self._kept_at = now
        return True

    def moments(self) -> list[Moment]:
        """All of them, and now."""
        return [*self._moments, self._now(self._clock())]
