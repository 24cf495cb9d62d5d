"""When to ask about a job next (pure)."""

from __future__ import annotations

from dataclasses import dataclass

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
