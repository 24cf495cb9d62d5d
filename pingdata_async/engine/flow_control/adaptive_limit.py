"""AdaptiveLimit: how many jobs the API can take, found as TCP finds what a path can (pure).

Nobody knows that number beforehand, and it changes. What was taken from where, and why:

- *Jacobson's slow start and AIMD* (TCP): double each round trip until there is trouble, because
  growing by one from a small start costs a tenth of a short run; then grow by steps and cut by a
  factor, because only that brings many clients of one API to fair shares. After a cut, double up
  to where the cut led, as TCP does up to `ssthresh`: an outage that took the limit to 1 must not
  be climbed out of one by one.
- *DCTCP*: cut in proportion to the share of requests that failed. All of them: half; one in five:
  a tenth. An API sheds load gradually, and random errors should not cost much.
- *TCP Vegas*: a queue is an estimated number of jobs (Little's law: jobs in flight x time in the
  queue / time in all), held between two bounds, alpha and beta; the smallest time seen is taken
  for the path's own. An API that queues instead of refusing never shows an error, so errors alone
  would always lead to the user's ceiling. Alpha is above 0, so that no worker of the API runs dry;
  beta is far away, since waiting there does no harm.
- *Netflix's concurrency-limits* (gradient2): the allowed queue is in proportion to the limit, and
  the limit does not grow while it is not used. Its gradient is not taken: it compares whole
  latencies, and locations may get slower for reasons of their own, while the API says which jobs
  wait.
- *AWS's adaptive retry mode* (and CUBIC): remember where submissions were refused, stay below that
  for long, then look once whether it still holds. A limit on jobs is a wall, not a slope: plain
  AIMD would run into it every few round trips.
- *Scrapy's AutoThrottle*: bad answers come faster than good ones, so they must never count as a
  sign that all is well: only jobs that have begun let the limit grow.
- *rclone's pacer*: cut at once, recover slowly, judge by retries alone. Too little here, where one
  lost request in fifty is normal: failures are weighed against what was answered well.

A round trip is over when enough of the jobs submitted in it are known to have begun, which is long
before they end. Where the API does not show that, it takes as long as a job.

The time that a job waited (`QueueEstimator`) is known exactly where the API gives dates. Else it
lies between the last poll that found the job waiting and the first that did not, which may be far
apart: the lower bound is taken, so that too few polls lead to a longer queue there, never to idle
workers. Even that bound says nothing where the API never shows a job at work (PENDING until
COMPLETE): then no wait is assumed, and the limit goes to the user's ceiling, as it does where the
API hides its queue the other way (IN_PROGRESS at once).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pingdata_async.engine.flow_control.job_timing import JobProgress
from pingdata_async.models import RequestKind

NO_LIMIT = 1_000_000
FIRST_LIMIT = 8
USED = 0.8  # of the limit was in flight: it is used, and may grow
GROWTH_OVER_USE = 2  # times what was in flight, at most
STEP = 1 / 8  # of the limit at the time of the trouble: what it grows by then
DECIDING_SHARE = 1 / 4  # of the limit: as many jobs begun make a round trip
MAX_ROUND_TRIP_S = 60.0  # between two cuts

FEW_WAITING = 2.0  # or
FEW_WAITING_SHARE = 0.15  # of the limit: fewer, and it grows
SHRINKING = 0.9  # where far too many wait: more than 8 + 2 x those at work
EMPTY_ROUND_TRIPS = 2  # one after the other, until an empty queue is believed

TROUBLED_SHARE = 0.1  # of the requests of a kind may fail
CHANCE = 2.5  # standard deviations above that are needed
FEWEST_BAD = 3  # and as many failures: two of the first four come by chance now and then
MIN_ANSWERS = 4  # of a kind, before counting begins anew
ANSWERS_WINDOW_S = 30.0  # or a round trip, if that is shorter
BEYOND_TROUBLE = 1.5  # times where the trouble was: it is not true any more

REFUSED_CUT = 0.9  # of what is in flight, where that is refused
WALL_ROUND_TRIPS = 16  # before looking whether there is still a limit on jobs
MAX_WALL_ROUND_TRIPS = 64  # and at most, where there still was one

IDLE_S = 60.0  # without news, with nothing in flight: what was found out is old
FORGOTTEN_S = 3600.0  # the same, without any news at all

ROUND_TRIP_S = 1.0  # before any is known
SHOWN_SHARE = 0.1  # of the jobs were seen at work: the API shows when they begin
SHOWN_OF = 16  # jobs: so far back it goes
WORK_OF = 32  # the same for the time at work
ROUND_TRIPS_OF = 8  # the same for the round trip


class ConcurrencyLimit:
    """Says how many jobs may be in flight. This one sets no limit; `AdaptiveLimit` learns one.

    A `ConcurrencyLimiter` reads `limit` before each submission and reports all that happens. The
    number allowed is the smaller of `limit` and the user's `max_jobs`.
    """

    @property
    def limit(self) -> int:
        """Jobs in flight, at most; at least 1."""
        return NO_LIMIT

    def note_job(self, job: JobProgress, now: float, *, in_flight: int) -> None:
        """A poll was answered; `job.ended_at` is set if the job has ended."""

    def on_success(self, kind: RequestKind, now: float) -> None:
        """A request was answered well."""

    def on_error(self, kind: RequestKind, now: float, *, in_flight: int) -> None:
        """A request was answered 5xx, or not at all: the API may be overloaded."""

    def on_job_limit(self, now: float, *, in_flight: int) -> None:
        """Submissions are refused (429) while other requests pass: these are too many jobs."""


class AdaptiveLimit(ConcurrencyLimit):
    """Allows as many jobs as keep the API's workers busy with a few waiting; see the module.

    All times are the caller's `now`, in seconds, which does not go back. Each call takes constant
    time, and memory does not grow.
    """

    def __init__(self) -> None:
        self._limit = FIRST_LIMIT
        self._noted_at = -math.inf
        self._in_flight = self._peak = 0
        self._forget(0.0)

    def _forget(self, now: float) -> None:
        """Forget everything learnt."""
        self._since = now  # jobs accepted earlier belong to an earlier run
        self._goal = math.inf  # below it the limit doubles
        self._step = 1  # above it, it grows by this
        self._has_grown = True  # since the last cut
        self._cut_at = -math.inf
        self._troubled_at: int | None = None  # the limit at which it was cut
        self._wall: int | None = None  # the number of jobs that was refused
        self._patience = WALL_ROUND_TRIPS  # until the wall may be tried again
        self._since_refused = 0  # round trips since the wall was met
        self._empty = 0  # round trips in a row with an empty queue
        self._at_work = 0  # jobs known to be at work
        self._queue = QueueEstimator()
        self._answers: dict[RequestKind, _Answers] = {}
        self._begin_round_trip(now, grown_by=self._limit)

    @property
    def limit(self) -> int:
        """Jobs in flight, at most; at least 1."""
        return self._limit

    def note_job(self, job: JobProgress, now: float, *, in_flight: int) -> None:
        """A poll was answered; each job is reported until it has ended, and once when it has.

        If `job.working_at` is `now`, it has just begun; `in_flight` includes it.
        """
        self._hear(now, in_flight, job)
        is_fresh = job.accepted_at >= self._since
        if job.working_at == now:
            self._note_begun(job, now, is_fresh=is_fresh)
        if job.ended_at is not None:
            was_seen_at_work = job.working_at is not None and job.working_at < job.ended_at
            self._at_work = max(0, self._at_work - was_seen_at_work)
            self._queue.note_ended(job, is_fresh=is_fresh)
            self._in_flight -= 1
        if self._queue.begun >= self._needed:
            before = self._limit
            self._judge(in_flight)
            self._begin_round_trip(now, grown_by=self._limit - before)

    def on_success(self, kind: RequestKind, now: float) -> None:
        """A request was answered well."""
        self._hear(now)
        if kind == RequestKind.SUBMIT:
            self._in_flight += 1  # until it is told anew: there is a job, it is not idle
        self._answers_of(kind, now).good += 1

    def on_error(self, kind: RequestKind, now: float, *, in_flight: int) -> None:
        """A request was answered 5xx, or not at all: the API may be overloaded."""
        self._hear(now, in_flight)
        answers = self._answers_of(kind, now)
        answers.bad += 1
        if answers.show_overload and self._may_cut(now, in_flight):
            cut = int(self._limit * (1.0 - answers.bad_share / 2))
            # (Where only downloads are left, nothing is in flight.)
            self._cut(cut if kind == RequestKind.FETCH else min(cut, in_flight), now)

    def on_job_limit(self, now: float, *, in_flight: int) -> None:
        """Submissions are refused (429) while other requests pass: these are too many jobs."""
        self._hear(now, in_flight)
        if not self._may_cut(now, in_flight):
            return
        is_still_there = self._wall is not None and self._limit >= self._wall
        self._patience = (
            min(MAX_WALL_ROUND_TRIPS, 2 * self._patience) if is_still_there else WALL_ROUND_TRIPS
        )
        self._wall = max(2, min(self._limit, in_flight))
        self._since_refused = 0
        self._cut(int(self._wall * REFUSED_CUT), now)

    def _hear(
        self, now: float, in_flight: int | None = None, job: JobProgress | None = None
    ) -> None:
        """Note an answer; after a long silence, forget what was known."""
        silence_s = now - self._noted_at
        if silence_s > (FORGOTTEN_S if self._in_flight > 0 else IDLE_S):
            self._limit = max(FIRST_LIMIT, self._limit // 2)
            # The first news may be of a job that was accepted just before.
            is_recent = job is not None and now - job.accepted_at < IDLE_S
            self._forget(job.accepted_at if job is not None and is_recent else now)
        self._noted_at = now
        if in_flight is not None:
            self._in_flight = in_flight
            self._peak = max(self._peak, in_flight)

    def _note_begun(self, job: JobProgress, now: float, *, is_fresh: bool) -> None:
        if job.ended_at is None:
            self._at_work = min(self._in_flight, self._at_work + 1)
            if self._goal == math.inf:  # the API takes those of a resumed run, too
                self._limit = max(self._limit, self._at_work)
        if is_fresh:
            in_round_trip = job.accepted_at >= self._round_trip_at
            self._queue.note_begun(job, now, in_round_trip=in_round_trip)

    def _begin_round_trip(self, now: float, grown_by: int = 0) -> None:
        self._round_trip_at = now
        self._peak = self._in_flight  # the most jobs in flight during it
        # Jobs that must have begun before it is over.
        self._needed = max(grown_by, math.ceil(self._limit * DECIDING_SHARE))
        self._queue.begin_round_trip()

    def _judge(self, in_flight: int) -> None:
        """Change the limit at the end of a round trip."""
        self._since_refused += 1
        if self._wall is not None and self._limit >= self._wall:
            self._wall = None  # nothing was refused there any more
        if self._troubled_at is not None and self._limit >= BEYOND_TROUBLE * self._troubled_at:
            self._troubled_at = None
            self._goal = math.inf
        waiting = self._queue.waiting(in_flight)
        few = max(FEW_WAITING, FEW_WAITING_SHARE * self._limit)
        if waiting >= few:
            self._hold(in_flight, waiting)
            return
        self._empty = self._empty + 1 if waiting < few / 4 else 0
        if self._troubled_at is None and self._empty >= EMPTY_ROUND_TRIPS:
            self._goal = math.inf
        if self._peak >= USED * self._limit:
            self._grow()

    def _hold(self, in_flight: int, waiting: float) -> None:
        """Enough jobs wait in the API's queue; more would only wait longer."""
        if self._limit < self._goal:
            self._goal = self._limit
            self._step = max(1, int(self._limit * STEP))
        self._troubled_at = None
        self._empty = 0
        if waiting > 8.0 + 2.0 * (in_flight - waiting):
            self._limit = max(1, int(min(self._limit, in_flight) * SHRINKING))

    def _grow(self) -> None:
        limit = self._limit
        grown = min(2 * limit, self._goal) if limit < self._goal else limit + self._step
        grown = min(grown, GROWTH_OVER_USE * self._peak)
        if self._wall is not None:
            may_look = self._since_refused >= self._patience
            grown = min(grown, self._wall if may_look else self._wall - 1)
        if grown > limit:
            self._limit = int(grown)
            self._has_grown = True

    def _may_cut(self, now: float, in_flight: int) -> bool:
        """Whether the last cut has had time to take effect."""
        if in_flight <= self._limit:
            wait_s = self._queue.round_trip_s
        else:  # its effect is still to come, but not for ever
            wait_s = max(self._queue.round_trip_s, self._queue.job_s)
        return now - self._cut_at >= min(MAX_ROUND_TRIP_S, wait_s)

    def _cut(self, to: int, now: float) -> None:
        if self._has_grown:  # else this is the same trouble as before
            self._has_grown = False
            self._troubled_at = self._limit
            self._step = max(1, int(self._limit * STEP))
            self._goal = to
        self._limit = max(1, min(self._limit, to))
        self._cut_at = now
        self._empty = 0
        self._answers.clear()
        self._begin_round_trip(now)

    def _answers_of(self, kind: RequestKind, now: float) -> _Answers:
        answers = self._answers.get(kind)
        window_s = min(ANSWERS_WINDOW_S, max(ROUND_TRIP_S, self._queue.round_trip_s))
        if answers is None or (
            answers.good + answers.bad >= MIN_ANSWERS and now - answers.since >= window_s
        ):
            answers = self._answers[kind] = _Answers(since=now)
        return answers


@dataclass(slots=True)
class _Answers:
    """Recent answers to requests of one kind."""

    since: float
    good: int = 0
    bad: int = 0

    @property
    def bad_share(self) -> float:
        return self.bad / (self.good + self.bad)

    @property
    def show_overload(self) -> bool:
        """Whether significantly more failed than the tolerated share."""
        allowed = TROUBLED_SHARE * (self.good + self.bad)
        return self.bad >= FEWEST_BAD and self.bad > allowed + CHANCE * math.sqrt(allowed)


class QueueEstimator:
    """How long jobs wait in the API's queue.

    Attributes:
        begun: Jobs submitted in this round trip that have begun.
        round_trip_s: From a job's acceptance to the answer that shows it has begun.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.round_trip_s = ROUND_TRIP_S
        self._lowest_s = math.inf  # what an idle API takes to begin a job
        self._queued_s = 0.0  # of those that have begun together
        self._ended = 0
        self._work_s = 0.0
        self._shown = 0.0  # the share of jobs that were seen at work before they had ended
        self._last_queue_s = 0.0

    def begin_round_trip(self) -> None:
        """Count only jobs that are accepted from now on."""
        if self.begun:
            self._last_queue_s = self._queued_s / self.begun
        self.begun = 0
        self._queued_s = 0.0

    @property
    def job_s(self) -> float:
        """How long a job takes, from acceptance to its end; infinite while none has ended."""
        return self._last_queue_s + self._work_s if self._ended else math.inf

    def note_begun(self, job: JobProgress, now: float, *, in_round_trip: bool) -> None:
        """An answer shows for the first time that a job has begun, or ended.

        `in_round_trip` tells whether it was accepted in the present round trip.
        """
        queue_s = self._queue_s_of(job)
        self._lowest_s = min(self._lowest_s, queue_s)
        self.round_trip_s += (now - job.accepted_at - self.round_trip_s) / ROUND_TRIPS_OF
        if in_round_trip:
            self.begun += 1
            self._queued_s += queue_s

    def note_ended(self, job: JobProgress, *, is_fresh: bool) -> None:
        """A job has ended; of one that is not fresh, only the API's dates are believed."""
        if job.ended_at is None or job.working_at is None:
            return
        if is_fresh or job.work_s is not None:
            work_s = job.work_s
            if work_s is None:
                work_s = job.ended_at - job.accepted_at - self._queue_s_of(job)
            self._ended += 1
            self._work_s += (max(0.0, work_s) - self._work_s) / min(self._ended, WORK_OF)
        self._shown += ((job.working_at < job.ended_at) - self._shown) / SHOWN_OF

    def _queue_s_of(self, job: JobProgress) -> float:
        if job.queue_s is not None:
            return max(0.0, job.queue_s)
        was_seen_at_work = job.ended_at is None or job.working_at != job.ended_at
        if was_seen_at_work or self._shown > SHOWN_SHARE:
            return job.waiting_at - job.accepted_at
        return 0.0

    def waiting(self, in_flight: int) -> float:
        """How many jobs wait in the API's queue, as this round trip shows (Little's law)."""
        if not self.begun or not self._ended:
            return 0.0  # jobs that begin before any has ended did not wait for a worker
        queue_s = self._queued_s / self.begun
        total_s = queue_s + self._work_s
        return in_flight * max(0.0, queue_s - self._lowest_s) / total_s if total_s > 0.0 else 0.0
