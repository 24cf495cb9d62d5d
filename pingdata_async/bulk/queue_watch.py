"""How long jobs wait in the API's queue, and how many do (pure).

How long a job has waited is known exactly where the API gives dates. Else it is known only to lie
between the last poll that found it waiting and the first that did not, which may be far apart:
the lower bound is taken, so that too few polls make for a longer queue there, never for idle
workers. Even that bound says nothing where the API never shows a job at work (PENDING until
COMPLETE): it counts as no wait then, and the limit goes to the user's ceiling, as it does where
the API hides its queue the other way (IN_PROGRESS at once).
"""

from __future__ import annotations

import math

from pingdata_async.bulk.job_progress import JobProgress

ROUND_TRIP_S = 1.0  # before any is known
BASE_ROUND_TRIPS = 32  # after one to two times as many the smallest queue time is forgotten
BASE_RISE_SHARE = 1 / 4  # of a job's time at work: it cannot be forgotten for more
SHOWN_SHARE = 0.1  # of the jobs were seen at work: the API shows when they begin
SHOWN_OF = 16  # jobs: so far back it goes
WORK_OF = 32  # likewise for the time at work
ROUND_TRIPS_OF = 8  # likewise for the round trip


class QueueWatch:
    """How long jobs wait in the API's queue.

    Attributes:
        begun: Jobs that were submitted in this round trip and have begun.
        round_trip_s: From a job's acceptance until it is heard that it has begun.
        lowest_s: The smallest queue time ever.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.round_trip_s = ROUND_TRIP_S
        self.lowest_s = math.inf
        self._queued_s = 0.0  # of those that have begun together
        self._round_trips = 0
        self._recent_s = math.inf  # the smallest queue time of this window
        self._earlier_s = math.inf  # and of the one before
        self._ended = 0
        self._work_s = 0.0
        self._shown = 0.0  # the share of jobs that were seen at work before they had ended
        self._last_queue_s = 0.0

    def begin_round_trip(self) -> None:
        """From now on, jobs are counted that are accepted from now on."""
        if self.begun:
            self._last_queue_s = self._queued_s / self.begun
        self.begun = 0
        self._queued_s = 0.0
        self._round_trips += 1
        if self._round_trips % BASE_ROUND_TRIPS == 0:
            self._earlier_s, self._recent_s = self._recent_s, math.inf

    @property
    def base_s(self) -> float:
        """The smallest queue time lately: what an idle API takes to begin.

        A queue that stands for long looks like that too, so it is not believed to have risen by
        much: else the limit would creep up to the user's ceiling in a day.
        """
        lately_s = min(self._recent_s, self._earlier_s)
        return min(lately_s, self.lowest_s + BASE_RISE_SHARE * self._work_s)

    @property
    def job_s(self) -> float:
        """How long a job takes, from acceptance to its end; infinite while none has ended."""
        return self._last_queue_s + self._work_s if self._ended else math.inf

    def note_begun(self, job: JobProgress, now: float, *, in_round_trip: bool) -> None:
        """A job was heard of as having begun, or ended, for the first time.

        Args:
            job: What is known of it.
            now: When it was heard.
            in_round_trip: Whether it was accepted in the present round trip.
        """
        queue_s = self._queue_s_of(job)
        self._recent_s = min(self._recent_s, queue_s)
        self.lowest_s = min(self.lowest_s, queue_s)
        self.round_trip_s += (now - job.accepted_at - self.round_trip_s) / ROUND_TRIPS_OF
        if in_round_trip:
            self.begun += 1
            self._queued_s += queue_s

    def note_ended(self, job: JobProgress, *, is_fresh: bool) -> None:
        """A job has ended; where it is not fresh, how long it took is only what the API says."""
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

    def waiting(self, in_flight: int, base_s: float) -> float:
        """How many jobs wait in the API's queue, as this round trip shows (Little's law)."""
        if not self.begun or not self._ended:
            return 0.0  # what begins before any has ended did not wait for a worker
        queue_s = self._queued_s / self.begun
        total_s = queue_s + self._work_s
        return in_flight * max(0.0, queue_s - base_s) / total_s if total_s > 0.0 else 0.0
