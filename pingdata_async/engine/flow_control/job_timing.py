"""JobProgress: what polls tell about one job. JobTimes: how long jobs take (pure).

Work times are taken to be log-normal, as they are products of many things. The belief of one job's
time joins two kinds of evidence, weighed by precision (one step of a Kalman filter on a constant):
jobs that ended lately, and the job's own counts. A count tells a total, elapsed time by share
completed. But counts stall, jump and slow down, each API in its own way, so how far and how surely
they mislead at each tenth of the way is learnt from ended jobs as well. Older jobs count for less
and less, so the belief follows a server whose pace changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from pingdata_async.models import JobPhase, JobStatus

MARKS = 8  # kept of each job: there may be 20,000 jobs at once
KNOWN_WELL = 0.1  # a wait is known if its bounds are as close as this share of it


@dataclass(slots=True, eq=False)
class JobProgress:
    """What is known of one job under way; all times are by the client's clock, in seconds.

    Attributes:
        locations: In the job.
        accepted_at: When the API accepted it.
        waiting_at: When it was last known not to have begun.
        working_at: When it was first known to have begun, or ended; None if it has not been.
        queue_s: How long it waited before it began, by the API's dates or by two answers close to
            each other; None if neither tells.
        work_s: How long it was at work, by the API's dates, once it has ended; None if they do not
            tell.
        completed: The highest count of completed locations so far; 0 if there was none.
        changed_at: When anything about it was last seen to change: begun, or more completed.
        going_at: When it was last known not to have ended.
        ended_at: When it was first seen to have ended; None while it has not.
        marks: Time and share completed, alternately, of a few answers with a higher count than
            before; None if there were none.
    """

    locations: int
    accepted_at: float
    waiting_at: float = 0.0
    working_at: float | None = None
    queue_s: float | None = None
    work_s: float | None = None
    completed: int = 0
    changed_at: float = 0.0
    going_at: float = 0.0
    ended_at: float | None = None
    marks: list[float] | None = None

    def __post_init__(self) -> None:
        self.waiting_at = self.changed_at = self.going_at = self.accepted_at

    @property
    def is_waiting(self) -> bool:
        """Whether it is not known to have begun."""
        return self.working_at is None

    @property
    def idle_s(self) -> float:
        """Seconds at work without progress, up to the last answer; 0 while it waits.

        It counts to the last answer and not to now: a poll that failed, or was not sent yet, says
        nothing of the job.
        """
        if self.working_at is None or self.ended_at is not None:
            return 0.0
        return max(0.0, self.going_at - self.changed_at)

    def hear(self, status: JobStatus, now: float) -> None:
        """Note the answer to a poll."""
        if status.is_finished:
            if self.ended_at is None:
                self._ended(status, now)
            return
        self.going_at = now
        self.ended_at = None  # a server may change its mind
        if status.phase is JobPhase.WAITING:
            self._back_in_queue(now)
            return
        self._begun(status, now)
        if self._count(status, now):
            self._mark(self.completed / max(1, status.num_requested or self.locations), now)

    def _back_in_queue(self, now: float) -> None:
        """It has not begun, or will begin anew: a server may give a job to another worker."""
        self.waiting_at = self.changed_at = now
        self.working_at = self.queue_s = self.marks = None
        self.completed = 0

    def _begun(self, status: JobStatus, now: float) -> None:
        shortest_s = self.waiting_at - self.accepted_at
        if self.working_at is None:
            self.working_at = self.changed_at = now
            longest_s = now - self.accepted_at
            # Not of one that was never seen at work: it may have been for all of that time.
            if self.ended_at is None and longest_s - shortest_s <= KNOWN_WELL * shortest_s:
                self.queue_s = (shortest_s + longest_s) / 2
        longest_s = self.working_at - self.accepted_at
        said_s = _span_s(status.requested_at, status.progress_started_at, shortest_s, longest_s)
        if said_s is not None:
            self.queue_s = said_s

    def _count(self, status: JobStatus, now: float) -> bool:
        """Whether the count is higher than ever before; a lower one is old or nonsense."""
        completed = status.num_completed or 0
        if completed <= self.completed:
            return False
        self.completed = completed
        self.changed_at = now
        return True

    def _mark(self, share: float, now: float) -> None:
        if self.marks is None:
            self.marks = []
        elif len(self.marks) >= 2 * MARKS:
            del self.marks[-2:]  # the early ones stay: they show best how long it will take
        self.marks += (now, min(1.0, share))

    def _ended(self, status: JobStatus, now: float) -> None:
        self.ended_at = now
        self._begun(status, now)
        self._count(status, now)
        waited_s = self.queue_s if self.queue_s is not None else now - self.accepted_at
        began_at = self.accepted_at + waited_s
        self.work_s = _span_s(
            status.progress_started_at,
            status.completed_at,
            max(0.0, self.going_at - began_at),
            now - (began_at if self.queue_s is not None else self.accepted_at),
        )


def _span_s(
    begin: str | None, end: str | None, shortest_s: float, longest_s: float
) -> float | None:
    """Seconds between two dates of the API, ISO 8601 or anything; None if they make no sense.

    Its clock is not ours, so only differences count. Dates in whole seconds tell less of a short
    time than the answers do, by which it took between the shortest and the longest time.
    """
    if not begin or not end:
        return None
    try:
        since, until = datetime.fromisoformat(begin), datetime.fromisoformat(end)
        since = since if since.tzinfo else since.replace(tzinfo=UTC)
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        span_s = (until - since).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    if not 0.0 <= span_s <= 1.0 + 2.0 * longest_s:
        return None
    if since.microsecond or until.microsecond:
        return span_s
    return max(shortest_s, min(longest_s, span_s))


CELLS = 10  # tenths of the way, each with its own error
WORK_WINDOW = 40.0  # jobs that count
QUEUE_WINDOW = 12.0  # a queue changes faster than what stands in it
SURPRISE_WINDOW = 8.0
SURPRISING = 3.0  # standard errors: the pace has changed
# Assumed before anything is known: standard deviations of logs, each with a weight in jobs.
WORK_SPREAD, WORK_WORTH = 0.5, 3.0
MARK_SPREAD, MARK_SPREAD_AT_0, MARK_WORTH = 0.2, 0.7, 2.0
MISFIT_WORTH = 5.0
SIZE_SPREAD = 0.3  # of a job e times larger or smaller than those seen, beside the other spread
SIZE_WORTH = 0.05  # of the assumption that time goes with size, as a variance of log sizes
LEAST_SPREAD = 0.01
EXACT_SPREAD = 0.1  # an end known worse than this (log of the total) says nothing of counts
NARROW = 0.2  # bounds of a log as close as this need no belief to choose between them
UNLIKELY = 1e-6
USELESS = 0.95  # of the variance is left: bounds so wide tell nothing
LOG_LIMIT = 100.0  # e to this is more seconds than anything takes, and far from overflow


@dataclass(slots=True)
class Recent:
    """Mean and variance of recent values; older ones count for less and less.

    Attributes:
        window: How many values count, about.
        count: How many count now.
        mean: Their mean.
        variance: Their variance.
    """

    window: float
    count: float = 0.0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float, blur: float = 0.0) -> None:
        """Add a value whose own variance is `blur`."""
        self.count = min(self.count + 1.0, self.window)
        share = 1.0 / self.count
        off = value - self.mean
        self.mean += share * off
        self.variance += share * (off * off * (1.0 - share) + blur - self.variance)


class JobTimes:
    """What ended jobs show: time in the queue, time at work, and how counts grow.

    Args:
        unwatched_s: No first poll comes this late. If the first answer came later, the job was
            submitted by an earlier process, and its times teach nothing unless the API dates them.
    """

    def __init__(self, unwatched_s: float) -> None:
        self._unwatched_s = unwatched_s
        self._work = Recent(WORK_WINDOW)  # log of the time
        self._size = Recent(WORK_WINDOW)  # log of the locations
        self._together = 0.0  # covariance of the two
        self._surprise = Recent(SURPRISE_WINDOW)
        self._queue = Recent(QUEUE_WINDOW)
        self._marks = [Recent(WORK_WINDOW) for _ in range(CELLS)]
        self._misfit = Recent(WORK_WINDOW)

    @property
    def count(self) -> float:
        """How many jobs count."""
        return self._work.count

    def work_belief(self, locations: int) -> tuple[float, float] | None:
        """Mean and standard deviation of the log of a job's work time; None if unknown."""
        work = self._work
        if not work.count:
            return None
        # Linear regression of log time on log size: from "the same for any size" to "by the
        # location"; the latter where all jobs had one size.
        slope = (self._together + SIZE_WORTH) / (self._size.variance + SIZE_WORTH)
        slope = min(1.0, max(0.0, slope))
        beyond = math.log(max(1, locations)) - self._size.mean
        own = max(0.0, work.variance - slope * self._together)
        variance = (own * work.count + WORK_SPREAD**2 * WORK_WORTH) / (work.count + WORK_WORTH)
        spread = math.sqrt(variance + (SIZE_SPREAD * beyond) ** 2)
        return work.mean + slope * beyond, spread

    def queue_belief(self) -> tuple[float, float] | None:
        """Mean and standard deviation of waits in seconds; None if nothing is known."""
        if not self._queue.count:
            return None
        return self._queue.mean, math.sqrt(self._queue.variance)

    def total_belief(self, job: JobProgress, began_at: float) -> tuple[float, float] | None:
        """The belief of the work time of a job that is at work; as `work_belief()`."""
        prior = self.work_belief(job.locations)
        weight = total = 0.0
        if prior is not None:
            weight = 1.0 / (prior[1] * prior[1])
            total = prior[0] * weight
        if job.marks is not None:
            for cell, told in _told(job.marks, began_at):
                seen = self._marks[cell]
                assumed = MARK_SPREAD + (MARK_SPREAD_AT_0 - MARK_SPREAD) * (1.0 - cell / CELLS)
                variance = seen.variance * seen.count + assumed * assumed * MARK_WORTH
                variance = max(LEAST_SPREAD**2, variance / (seen.count + MARK_WORTH))
                weight += 1.0 / variance
                total += (told - seen.mean) / variance
        if not weight:
            return None
        return total / weight, math.sqrt(self._misfit_factor() / weight)

    def _misfit_factor(self) -> float:
        """How much wider beliefs must be, as the counts of one job all mislead alike."""
        misfit = self._misfit
        return (misfit.mean * misfit.count + MISFIT_WORTH) / (misfit.count + MISFIT_WORTH)

    def waited_s(self, job: JobProgress) -> float | None:
        """How long a job waited before it began: the best guess.

        Returns:
            Seconds: what the API says; else what others waited and, once the job has ended, what
            a job of its size leaves of the whole time, within what the answers show. None while
            it waits. 0 if no job was ever seen waiting.
        """
        if job.queue_s is not None:
            return job.queue_s
        if job.working_at is None:
            return None
        shortest_s = max(0.0, job.waiting_at - job.accepted_at)
        longest_s = max(shortest_s, job.working_at - job.accepted_at)
        queue = self.queue_belief()
        if queue is None:
            return (shortest_s + longest_s) / 2 if shortest_s else 0.0
        guess_s, spread_s = queue
        work = self.work_belief(job.locations)
        if job.ended_at is not None and work is not None:
            work_s = math.exp(min(LOG_LIMIT, work[0]))
            left_s = job.ended_at - job.accepted_at - work_s
            surer = spread_s**2 / (spread_s**2 + (work_s * work[1]) ** 2)
            # A job that was never seen waiting can only have waited less.
            if shortest_s or left_s < guess_s:
                guess_s += (left_s - guess_s) * surer
        return max(shortest_s, min(longest_s, guess_s))

    def learn(self, job: JobProgress) -> None:
        """Learn from a job that has ended well."""
        if job.ended_at is None or job.working_at is None:
            return
        if job.queue_s is None and job.working_at - job.waiting_at > self._unwatched_s:
            return
        waited_s = self.waited_s(job) or 0.0
        began_at = job.accepted_at + waited_s
        shortest_s = max(0.0, job.going_at - began_at)
        longest_s = max(shortest_s, job.ended_at - began_at, 1e-6)
        if job.work_s is not None:
            shortest_s = longest_s = max(1e-6, job.work_s)
        prior = self.work_belief(job.locations)
        known = _between(shortest_s, longest_s, prior)
        # If the first answer was the job's end, its wait is only a guess from others. It counts for
        # half, or a queue that is gone would be believed in for ever: the later jobs are polled,
        # the less is seen of their waits.
        is_seen = job.queue_s is not None or job.going_at > job.accepted_at
        self._queue.add(waited_s if is_seen else waited_s / 2)
        if known is None:
            return
        log_total, blur = known
        if blur <= EXACT_SPREAD**2:
            self._learn_counts(job, began_at, log_total)
        self._learn_work(math.log(max(1, job.locations)), log_total, blur)
        if prior is not None:
            self._follow(log_total - prior[0], prior[1])

    def _learn_counts(self, job: JobProgress, began_at: float, log_total: float) -> None:
        belief = self.total_belief(job, began_at)
        if belief is None or job.marks is None:
            return
        error = (log_total - belief[0]) / belief[1]
        self._misfit.add(min(25.0, error * error) * self._misfit_factor())
        for cell, told in _told(job.marks, began_at):
            self._marks[cell].add(told - log_total)

    def _learn_work(self, log_size: float, log_total: float, blur: float) -> None:
        off_size, off_total = log_size - self._size.mean, log_total - self._work.mean
        self._size.add(log_size)
        self._work.add(log_total, blur)
        share = 1.0 / self._work.count
        self._together += share * (off_size * off_total * (1.0 - share) - self._together)

    def _follow(self, surprise: float, spread: float) -> None:
        """Forget the past after a plain change of pace (a CUSUM test, with a short memory)."""
        lately = self._surprise
        lately.add(surprise)
        if lately.count < SURPRISE_WINDOW:
            return
        if abs(lately.mean) > SURPRISING * spread / math.sqrt(SURPRISE_WINDOW):
            self._work.count = self._size.count = min(self._work.count, 2.0)
            self._surprise = Recent(SURPRISE_WINDOW)


def _told(marks: list[float], began_at: float) -> list[tuple[int, float]]:
    """For each mark its tenth of the way, and the log of the total time that it tells."""
    return [
        (
            min(CELLS - 1, int(marks[at + 1] * CELLS)),
            math.log(max(1e-6, marks[at] - began_at) / max(1e-9, marks[at + 1])),
        )
        for at in range(0, len(marks), 2)
    ]


def _between(
    shortest_s: float, longest_s: float, prior: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Mean and variance of the log of a time between two bounds; None if that tells nothing.

    The end of a job is seen some time after it, perhaps by the first poll. The middle of the bounds
    would draw beliefs to the times of polls, and leaving such jobs out would leave only long ones.
    So this is the mean over the part of the belief within the bounds (the E step of EM for censored
    data, Dempster, Laird and Rubin 1977).
    """
    high = math.log(longest_s)
    low = math.log(shortest_s) if shortest_s > 0.0 else -LOG_LIMIT
    if high - low < NARROW:
        return (low + high) / 2, (high - low) ** 2 / 12
    if prior is None:
        return (low + high) / 2 if high - low < 1.0 else high - 0.5, 0.25
    mean, spread = prior
    a, b = (low - mean) / spread, (high - mean) / spread
    mass = (math.erfc(a / math.sqrt(2)) - math.erfc(b / math.sqrt(2))) / 2
    if mass < UNLIKELY:  # a surprise: the bound that is the least of one
        return low if a > 0.0 else high, spread * spread
    density_a = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    density_b = math.exp(-b * b / 2) / math.sqrt(2 * math.pi)
    shift = (density_a - density_b) / mass
    variance = 1.0 + (a * density_a - b * density_b) / mass - shift * shift
    if variance > USELESS:
        return None
    return mean + spread * shift, spread * spread * max(0.0, variance)
