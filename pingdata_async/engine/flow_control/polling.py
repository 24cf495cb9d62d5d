"""PollPlanner: when to poll a job next (pure).

The end of a job is like a failure that only an inspection finds, and when to inspect is an old
question of reliability (Barlow, Hunter and Proschan 1963; Keller 1974): poll when the expected time
that the end has gone unseen has grown to the cost of a poll. That is often around the likely end of
the job, and seldom long before and after it. What is believed of the end comes from `JobTimes`. A
part of the belief is kept wide, so that a job that surprises is polled at intervals that grow
geometrically, like one of which nothing is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pingdata_async.engine.flow_control.job_timing import LOG_LIMIT, JobProgress, JobTimes
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.util.validation import check_amount

# The price of a poll where requests are not scarce, as a share of the job's expected time: the
# higher it is, the fewer polls there are and the later the end is seen. (With a belief of spread
# s, the number of polls times the mean lag is about 1.0 s of the time, whatever the price.)
PRICE = 0.003
PRICE_OF_SPREAD = 0.003
PRICE_OF_IGNORANCE = 4.0  # times as much on top before any job has ended, half of that after 5
# Shortest intervals until the first poll, if nothing is known: of a small job fewer, as somebody
# waits for it, and jobs take longer the larger they are.
FIRST_INTERVALS, FIRST_INTERVALS_OF_NONE, LOCATIONS_AN_INTERVAL = 10.0, 2.0, 10.0
SURPRISE, SURPRISE_SPREAD = 0.03, 1.0  # weight and spread of the wide part of a belief
FEW_JOBS = 15.0  # while fewer have ended, no wait is longer than the job's age
STEPS = 16
ABANDONED_FOR_S = 900.0  # at most: it may have ended long ago, and nobody polls it
OUTLIVED = 1e-12  # a belief so wrong is worthless
PRECISION = 0.005  # of a wait


@dataclass(frozen=True, kw_only=True)
class PollSchedule:
    """Bounds of the poll interval, and the interval while nothing is known.

    Then the interval grows geometrically with the job's age: a fixed one polls short jobs too late
    and long ones too often. An interval that is a share of the age keeps both the number of polls
    (logarithmic in the job's length) and the lag (at most that share) in proportion.

    Attributes:
        min_interval_s: The shortest interval. The first poll comes after ten times as long, if
            nothing is known; after a fifth of that for a few locations.
        max_interval_s: The longest interval.
        share_of_age: The interval as a share of the job's age, as long as neither earlier jobs nor
            the job's own progress say more.
    """

    min_interval_s: float = 0.1
    max_interval_s: float = 30.0
    share_of_age: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_interval_s", "max_interval_s", "share_of_age"):
            check_amount(name, getattr(self, name))
        if self.min_interval_s > self.max_interval_s:
            raise ConfigurationError(
                f"min_interval_s is {self.min_interval_s}, above max_interval_s, which is "
                f"{self.max_interval_s}"
            )

    def next_interval_s(self, age_s: float) -> float:
        """Seconds until the next poll of a job that was accepted `age_s` ago."""
        return self.bounded_s(age_s * self.share_of_age)

    def bounded_s(self, interval_s: float) -> float:
        """The interval, held within its bounds; the shortest for NaN."""
        if not interval_s > self.min_interval_s:
            return self.min_interval_s
        return min(self.max_interval_s, interval_s)


class PollPlanner:
    """Says when to poll each job, and learns from those that have ended.

    Args:
        schedule: The bounds of the interval, and the interval while nothing is known.
    """

    def __init__(self, schedule: PollSchedule) -> None:
        self._schedule = schedule
        self._times = JobTimes(unwatched_s=2.0 * schedule.max_interval_s)

    def next_poll_in_s(self, job: JobProgress, now: float, *, poll_cost_s: float = 0.0) -> float:
        """Seconds until a job is best polled.

        They count from the last answer: a poll that failed says nothing of the job. Calling this
        changes nothing.

        Args:
            job: What is known of the job.
            now: The present time.
            poll_cost_s: The cost of a poll: so much later may the end of a job be seen for one poll
                less. It is above 0 where requests are scarce.
        """
        if job.ended_at is not None:  # but it names no outputs yet
            return self._schedule.next_interval_s(now - job.ended_at)
        wait_s = self._wait_s(job, max(0.0, poll_cost_s))
        return self._schedule.bounded_s(job.going_at + wait_s - now)

    def learn(self, job: JobProgress) -> None:
        """Learn from a job that has ended well: others may take as long."""
        self._times.learn(job)

    def likely_end(self, job: JobProgress, now: float) -> float:
        """When a job that nobody polls any more has likely ended.

        That is one standard deviation later than the expected end. If nothing is known, it is as
        much later than now as the job is old, but at least twice the longest interval. It is at
        most a quarter of an hour from now.
        """
        if job.is_waiting:
            since, belief = job.going_at, self._rest_belief(job)
        else:
            since = job.accepted_at + (self._times.waited_s(job) or 0.0)
            belief = self._times.total_belief(job, since)
        unknown_s = max(2.0 * self._schedule.max_interval_s, now - job.accepted_at)
        ends_at = now + unknown_s
        if belief is not None:
            likely_at = since + math.exp(min(LOG_LIMIT, belief[0] + belief[1]))
            ends_at = likely_at if likely_at > now else ends_at
        return min(ends_at, now + ABANDONED_FOR_S)

    def _wait_s(self, job: JobProgress, poll_cost_s: float) -> float:
        """Seconds from the last answer to the next poll."""
        if job.is_waiting:
            age_s = 0.0
            belief = self._rest_belief(job)
        else:
            began_at = job.accepted_at + (self._times.waited_s(job) or 0.0)
            age_s = max(0.0, job.going_at - began_at)
            belief = self._times.total_belief(job, began_at)
        known_for_s = job.going_at - job.accepted_at
        if belief is None:
            intervals = FIRST_INTERVALS_OF_NONE + job.locations / LOCATIONS_AN_INTERVAL
            first_s = min(FIRST_INTERVALS, intervals) * self._schedule.min_interval_s
            return max(first_s, self._schedule.share_of_age * known_for_s) + poll_cost_s
        ignorance = 5.0 / (5.0 + self._times.count)
        price = (PRICE + PRICE_OF_SPREAD * belief[1]) * (1.0 + PRICE_OF_IGNORANCE * ignorance)
        wait_s = inspection_s(belief, age_s, price, poll_cost_s)
        if wait_s is None:
            return self._schedule.share_of_age * known_for_s + poll_cost_s
        if job.marks is not None and self._times.count < FEW_JOBS:
            # What counts mean here is not known yet: a first step of 25 % may tell a time that
            # is far too long.
            wait_s = min(wait_s, known_for_s + poll_cost_s)
        return wait_s

    def _rest_belief(self, job: JobProgress) -> tuple[float, float] | None:
        """The belief of the log of the time from the last answer to a waiting job's end.

        That is the rest of the wait and the work. The sum of the two log-normals is approximated
        by another one with the same mean and variance (Fenton 1960).
        """
        work = self._times.work_belief(job.locations)
        if work is None:
            return None
        variance = min(LOG_LIMIT, work[1] * work[1])
        work_s = math.exp(max(-LOG_LIMIT, min(LOG_LIMIT, work[0] + variance / 2)))
        left_s, left_spread_s = self._rest_of_queue(job)
        mean_s = work_s + left_s
        variance = (work_s * work_s * math.expm1(variance) + left_spread_s**2) / (mean_s * mean_s)
        variance = math.log1p(variance)
        return math.log(mean_s) - variance / 2, math.sqrt(max(1e-4, variance))

    def _rest_of_queue(self, job: JobProgress) -> tuple[float, float]:
        """Mean and standard deviation of the rest of a wait, in seconds."""
        waited_s = max(0.0, job.waiting_at - job.accepted_at)
        queue = self._times.queue_belief()
        if queue is None:  # half as long again, as far as anybody knows
            return waited_s / 2, waited_s / 2
        mean_s, spread_s = queue
        # A wait that is longer than others' goes on for about another of their spreads: a
        # hyperbola from "mean less waited" to nothing, 0.8 spreads high where it is due.
        off_s = mean_s - waited_s
        left_s = (off_s + math.hypot(off_s, 1.6 * spread_s)) / 2
        return left_s, min(spread_s, left_s)


def inspection_s(
    belief: tuple[float, float], age_s: float, price: float, poll_cost_s: float
) -> float | None:
    """How long to wait until a job is best polled.

    The smallest x with E[(x - R)+] = price, where R is the time left: a log-normal of the whole,
    mixed with a wide one, of which the past is cut off. Newton's method from above, which
    cannot overstep: the expectation is convex in x.

    Args:
        belief: Mean and standard deviation of the log of the job's whole time.
        age_s: How long it has been going on.
        price: The cost of a poll as a share of the expected whole time.
        poll_cost_s: The cost of a poll in seconds, at least.

    Returns:
        Seconds; None if the job has gone on for so long that the belief is worthless.
    """
    log_mean, spread = belief
    log_mean = max(-LOG_LIMIT, min(LOG_LIMIT, log_mean))
    root = math.sqrt(0.5)
    log_age = math.log(age_s) if age_s > 0.0 else -2.0 * LOG_LIMIT
    parts: list[tuple[float, float, float, float, float, float]] = []
    alive = mean = 0.0
    wide = max(SURPRISE_SPREAD, 2.0 * spread)
    for weight, sigma in ((1.0 - SURPRISE, spread), (SURPRISE, wide)):
        half, scale = weight / 2, root / sigma
        area = half * math.exp(min(2.0 * LOG_LIMIT, log_mean + sigma * sigma / 2))
        z = (log_age - log_mean) * scale
        left, left_s = half * math.erfc(z), area * math.erfc(z - sigma * root)
        alive += left
        mean += left_s
        parts.append((half, scale, sigma * root, area, left, left_s))
    if alive < OUTLIVED:
        return None
    cost_s = max(price * mean / alive, poll_cost_s)
    wait_s = max(0.0, mean / alive - age_s) + cost_s
    for _ in range(STEPS):
        whole_s = age_s + wait_s
        log_whole = math.log(whole_s)
        ended = unseen_s = 0.0
        for half, scale, shift, area, left, left_s in parts:
            z = (log_whole - log_mean) * scale
            gone = left - half * math.erfc(z)
            ended += gone
            unseen_s += whole_s * gone - left_s + area * math.erfc(z - shift)
        over_s = unseen_s - cost_s * alive
        if ended <= 0.0 or over_s <= 0.0:
            break
        step_s = over_s / ended
        wait_s -= step_s
        if step_s < PRECISION * wait_s:
            break
    return wait_s
