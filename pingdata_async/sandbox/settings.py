"""The settings of a sandbox, checked when they are made."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pingdata_async.sandbox.faults import FaultPlan
from pingdata_async.sandbox.jobs import PROGRESS, Progress
from pingdata_async.sandbox.validation import check_whole

_CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "spacing": ("spaced", "compact"),
    "shape": ("list", "object"),
    "progress": PROGRESS,
    "rate_window": ("second", "bucket"),
    "max_jobs_status": (429, 503),
    "retry_after_form": ("seconds", "date"),
    "quota_window": ("daily", "monthly"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SandboxSettings:
    """How a sandbox behaves; :class:`SandboxServer` takes these as keywords.

    Attributes:
        token: The only token accepted; None: any that is not empty.
        workers: How many jobs are worked on at once.
        worker_schedule: Pairs of seconds after the server is made, ascending, and the number of
            workers from then on.
        locations_per_s: How fast each worker is; a location of many sources takes no longer.
            Infinity: at once.
        job_s: Seconds of work of each job, whatever its size; None: by ``locations_per_s``.
        job_spread: The sigma of a lognormal factor, of median 1, on the work time of each job,
            by the seed and the order of acceptance; 0: none.
        progress: How ``num_completed`` grows: ``"even"``; with a ``"stall"`` before the end, a
            ``"fast_start"``, in ``"steps"`` of 10-25 % or by ``"batches"`` that take unequal
            times; ``"uneven"``: each job in one of these four ways. It never falls.
        dates: Whether the status of a job has dates; else they are null.
        queue_delay_s: Seconds that a job is PENDING and QUEUED even when a worker is free.
        faults: What goes wrong, and how often.
        seed: Of the faults, of the job ids and of what differs from job to job.
        spacing: The look of the JSON: ``"spaced"`` has a blank after commas and colons.
        shape: ``outputs`` and ``sources`` of a result as lists, or as the one object of the
            published schema.
        relative_urls: Output urls are paths instead of absolute.
        no_match_share: The share, from 0 to 1, of addresses that no source finds.
        max_locations: The most locations that a job may have (413 above); None: any number.
        max_body_bytes: The largest request body, also when unpacked (413 above).
        limits: By source code, the locations of the windows ``daily`` and ``monthly``; more are
            refused with 402. None: no limits.
        allowed_sources: Other sources are refused with 403; None: all are allowed.
        source_configs: By source code, members of its configuration that are others than usual,
            such as ``supported_countries``. Only ``datasources`` tells them.
        not_served: By name, ``limits`` and ``datasources``, the status that they are refused with.
        requests_per_s: Submissions, status requests and outputs together that are let in; more
            are answered 429. None: any number. See ``rate_window``.
        rate_window: How these are counted: ``"second"``: as many in each whole second of the
            clock; ``"bucket"``: a bucket of one second's worth, filled evenly.
        max_jobs_in_flight: Accepted jobs that have not ended, above which submissions (nothing
            else) are refused; None: any number.
        max_jobs_status: What those are answered: 429 or 503.
        retry_after_s: Seconds that the ``Retry-After`` of these refusals names; None: there is
            none. Injected faults have one of their own.
        retry_after_form: The ``Retry-After`` of all refusals as ``"seconds"``, or as the ``"date"``
            of HTTP, rounded up to a whole second.
        date_skew_s: Seconds by which the clock of the ``Date`` header, and of such a date, is
            fast; negative: slow.
        early_grace_s: Requests that come within so many seconds after a ``Retry-After`` was sent
            are taken to have been on their way and are not counted as early.
        quota: Locations that are accepted in a UTC day or month; a submission that would exceed
            it is answered 429 with a message that names the quota. None: any number.
        quota_window: ``"daily"`` or ``"monthly"``.
        quota_retry_after: Whether that 429 names, in its ``Retry-After``, the end of the window.
        retention_s: Seconds after its end at which a job and its output are forgotten (404).
        clock: The time in seconds, on any scale; what a job shows depends on it.
        wall_clock: The time in seconds since 1970, read once when the server is made: the dates
            in the answers go on from there with ``clock``.
        sleep: Waits for a number of seconds, for slow answers; None: ``asyncio.sleep``.

    Raises:
        ValueError: A value is out of its range.
    """

    token: str | None = field(default=None, repr=False)
    workers: int = 4
    worker_schedule: Sequence[tuple[float, int]] = ()
    locations_per_s: float = 500.0
    job_s: float | None = None
    job_spread: float = 0.0
    progress: Progress = "even"
    dates: bool = True
    queue_delay_s: float = 0.05
    faults: FaultPlan = field(default_factory=FaultPlan)
    seed: int = 0
    spacing: Literal["spaced", "compact"] = "spaced"
    shape: Literal["list", "object"] = "list"
    relative_urls: bool = False
    no_match_share: float = 0.02
    max_locations: int | None = None
    max_body_bytes: int = 256 * 1024 * 1024
    limits: Mapping[str, Mapping[str, int]] | None = None
    allowed_sources: Collection[str] | None = None
    source_configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    not_served: Mapping[str, int] = field(default_factory=dict)
    requests_per_s: float | None = None
    rate_window: Literal["second", "bucket"] = "second"
    max_jobs_in_flight: int | None = None
    max_jobs_status: Literal[429, 503] = 429
    retry_after_s: int | None = 1
    retry_after_form: Literal["seconds", "date"] = "seconds"
    date_skew_s: float = 0.0
    early_grace_s: float = 0.05
    quota: int | None = None
    quota_window: Literal["daily", "monthly"] = "daily"
    quota_retry_after: bool = False
    retention_s: float = 3600.0
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "max_locations", "max_body_bytes", "max_jobs_in_flight", "quota"):
            if getattr(self, name) is not None or name in {"workers", "max_body_bytes"}:
                check_whole(name, getattr(self, name))
        if self.retry_after_s is not None:
            check_whole("retry_after_s", self.retry_after_s, at_least=0)
        if not self.locations_per_s > 0:
            raise ValueError(f"locations_per_s must be positive, not {self.locations_per_s}")
        for name in ("queue_delay_s", "job_s", "job_spread", "early_grace_s"):
            number = getattr(self, name)
            if number is not None and not 0 <= number < math.inf:
                raise ValueError(f"{name} must be 0 or more, not {number}")
        if not self.retention_s >= 0:
            raise ValueError(f"retention_s must be 0 or more, not {self.retention_s}")
        if not 0 <= self.no_match_share <= 1:
            raise ValueError(f"no_match_share must be from 0 to 1, not {self.no_match_share}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                known = ", ".join(map(repr, choices))
                raise ValueError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
        if self.token == "":
            raise ValueError("token must not be empty; None accepts any")
        self._check_rate()
        self._check_schedule()

    def _check_rate(self) -> None:
        rate = self.requests_per_s
        if rate is not None:
            if not 0 < rate < math.inf:
                raise ValueError(f"requests_per_s must be positive, not {rate}")
            if self.rate_window == "second" and rate % 1:
                raise ValueError(f"{rate} requests_per_s need rate_window='bucket'")
        if not math.isfinite(self.date_skew_s):
            raise ValueError(f"date_skew_s must be a number of seconds, not {self.date_skew_s}")

    def _check_schedule(self) -> None:
        before_s = 0.0
        for after_s, workers in self.worker_schedule:
            if not before_s <= after_s < math.inf:
                raise ValueError(
                    f"worker_schedule must name times of 0 or more, ascending, not {after_s}"
                )
            check_whole("each number of workers in worker_schedule", workers)
            before_s = after_s
