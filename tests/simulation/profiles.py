"""What a simulated API says of a job that is not done: statuses, counts, dates."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import random
from collections.abc import Callable
from typing import Any

from pingdata_async.models import JobOutput, JobStatus
from tests.simulation.faults import Fault
from tests.simulation.queueing import SimulatedJob

OUTPUT_AFTER = 3  # polls of a finished job whose output is named late
ON_HOLD_S = 120.0
MOODS = ("FAILED", "QUEUED", "COMPLETE", "CANCELED", "FAILED", "IN_PROGRESS")


class Progress(enum.Enum):
    """How `num_completed` grows while a job is at work."""

    NONE = enum.auto()  # it is null
    EVEN = enum.auto()  # as the time does
    STALL = enum.auto()  # 95 % in the first half of the time, the rest in the other
    STEPS = enum.auto()  # by a quarter at a time
    UNEVEN = enum.auto()  # slow first and fast then, or the other way, by job
    LATE = enum.auto()  # 0 until the very end

    def completed(self, share: float, total: int, number: int) -> int | None:
        """The count after a share of the time that the job takes at work."""
        if self is Progress.NONE:
            return None
        if self is Progress.LATE:
            done = 0.0
        elif self is Progress.STALL:
            done = 1.9 * share if share < 0.5 else 0.95 + 0.1 * (share - 0.5)
        elif self is Progress.STEPS:
            done = int(share * 4) / 4
        elif self is Progress.UNEVEN:
            done = share ** random.Random(f"power/{number}").lognormvariate(0.0, 0.7)
        else:
            done = share
        return min(total, int(done * total))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Telling:
    """What the API says of its jobs.

    Attributes:
        origin: Where the outputs are; "" for the API's own.
        waiting: The status of a job that no worker has taken up: PENDING, QUEUED, ...
        progress: How its counts grow.
        dates: Whether it says when the job was accepted, begun and ended.
        clock_s: The Unix time that the server's clock shows at 0 of ours.
    """

    origin: str = ""
    waiting: str = "IN_PROGRESS"
    progress: Progress = Progress.NONE
    dates: bool = False
    clock_s: float = 1_800_000_000.0

    def status(self, job: SimulatedJob, now: float, outputs: Callable[[], int]) -> JobStatus:
        """The answer to a question about a job.

        Args:
            job: The job.
            now: The present time.
            outputs: Says how many it has, once it is done.
        """
        total = len(job.sources)
        if job.ends_at > now:
            is_waiting = job.begins_at > now
            share = 0.0 if is_waiting else (now - job.begins_at) / (job.ends_at - job.begins_at)
            return JobStatus(
                status=self.waiting if is_waiting else "IN_PROGRESS",
                num_requested=total,
                num_completed=self.progress.completed(share, total, job.number),
                requested_at=self._date(job.accepted_at),
                progress_started_at=None if is_waiting else self._date(job.begins_at),
            )
        dates: dict[str, Any] = {
            "requested_at": self._date(job.accepted_at),
            "progress_started_at": self._date(job.begins_at),
            "completed_at": self._date(job.ends_at),
        }
        job.last_words += 1
        if job.fate is Fault.UNDOCUMENTED:
            return JobStatus(status="CANCELED")
        if job.fate is Fault.ON_HOLD and now < job.ends_at + ON_HOLD_S:
            return JobStatus(status="ON_HOLD", num_requested=total)
        if job.fate is Fault.CHANGES_ITS_MIND and job.last_words <= len(MOODS):
            return JobStatus(status=MOODS[job.last_words - 1], num_requested=total)
        if job.fate is Fault.FAILED_JOB:
            return JobStatus(status="FAILED", num_requested=total, message="out of luck", **dates)
        if job.fate is Fault.FAILED_RESULT:
            return JobStatus(
                status="COMPLETE", result_status="FAILED", message="out of luck", **dates
            )
        names_outputs = job.fate is not Fault.NO_OUTPUT and (
            job.fate is not Fault.LATE_OUTPUT or job.polls > OUTPUT_AFTER
        )
        named = range(outputs() if names_outputs else 0)
        return JobStatus(
            status="COMPLETE",
            result_status="SUCCESS",
            num_requested=total,
            num_completed=total,
            outputs=tuple(
                JobOutput(url=f"{self.origin}/{n}", filename=f"output-{n}.json") for n in named
            ),
            **dates,
        )

    def _date(self, at: float) -> str | None:
        if not self.dates:
            return None
        moment = dt.datetime.fromtimestamp(self.clock_s + at, dt.UTC)
        return moment.isoformat().replace("+00:00", "Z")
