"""APIs that differ in kind, and what a client would take there that loses no time."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.policies.trial import Trial
from tests.simulation.limits import Limits, Outage
from tests.simulation.queueing import Work, ideal_s

MAX_JOBS = 64  # of the ideal client
REQUESTS_A_JOB = 4  # that a rate limit is reckoned with: submit, two polls, fetch


@dataclass(frozen=True)
class Profile:
    """A kind of API.

    Attributes:
        name: Shown.
        about: A sentence.
        trial: What is run.
    """

    name: str
    about: str
    trial: Trial

    def ideal_s(self, seed: int) -> float:
        """What a client would take that loses no time, and needs four requests a job."""
        trial = self.trial
        no_time_lost_s = ideal_s(
            trial.work,
            jobs=trial.jobs,
            locations=trial.locations,
            max_jobs=MAX_JOBS,
            seed=seed,
            outages=trial.outages,
        )
        return max(no_time_lost_s, REQUESTS_A_JOB * trial.jobs / trial.limits.requests_per_s)


def _work(workers: int, job_s: float, sigma: float, locations: int = 60) -> Work:
    return Work(workers=workers, locations_per_s=locations / job_s, sigma=sigma)


PROFILES = (
    Profile(
        "fast and idle",
        "200 workers, jobs of 1 s (sigma 0.3): nothing ever waits.",
        Trial(work=_work(200, 1.0, 0.3), jobs=1000),
    ),
    Profile(
        "a slow queue",
        "4 workers, jobs of 20 s (sigma 0.3): whatever is submitted waits.",
        Trial(work=_work(4, 20.0, 0.3), jobs=120),
    ),
    Profile(
        "16 workers, uneven jobs",
        "16 workers, jobs of 6 s (sigma 0.5).",
        Trial(work=_work(16, 6.0, 0.5), jobs=480),
    ),
    Profile(
        "30 requests/s",
        "More than 30 requests in a second, of any kind, are refused: 429, Retry-After 1; "
        "200 workers, jobs of 3 s (sigma 0.3).",
        Trial(
            work=_work(200, 3.0, 0.3),
            jobs=750,
            limits=Limits(requests_per_s=30, window_s=1.0, retry_after_s=1.0),
        ),
    ),
    Profile(
        "outages",
        "16 workers, jobs of 6 s (sigma 0.5); 503 from 30 to 45 s (Retry-After 5) and from "
        "120 to 140 s (without one), no connection from 80 to 95 s.",
        Trial(
            work=_work(16, 6.0, 0.5),
            jobs=480,
            outages=(
                Outage(begins_s=30, ends_s=45, retry_after_s=5.0),
                Outage(begins_s=80, ends_s=95, has_connection=False),
                Outage(begins_s=120, ends_s=140),
            ),
        ),
    ),
)
