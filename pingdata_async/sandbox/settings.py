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


def _says(help: str, option: str | None = None) -> dict[str, str | None]:  # noqa: A002 - an option's
    """The metadata of a setting: what it does, and the option of the command `sandbox` for it."""
    return {"help": help, "option": option}


@dataclass(frozen=True, kw_only=True, eq=False)
class SandboxSettings:
    """How a sandbox behaves; :class:`SandboxServer` takes these as keywords.

    The metadata of each field say what it does. None, where the type allows it, sets no limit
    unless they say otherwise.

    Raises:
        ValueError: A value is out of its range.
    """

    token: str | None = field(
        default=None, repr=False, metadata=_says("Accept only this token; None accepts any.")
    )
    workers: int = field(
        default=4, metadata=_says("Run at most this many jobs at once.", "--workers")
    )
    worker_schedule: Sequence[tuple[float, int]] = field(
        default=(),
        metadata=_says(
            "Have N workers from this many seconds after the start. Repeatable.", "--workers-at"
        ),
    )
    locations_per_s: float = field(
        default=500.0,
        metadata=_says(
            "Let each worker complete this many locations per second, whatever their sources.",
            "--locations-per-second",
        ),
    )
    job_s: float | None = field(
        default=None,
        metadata=_says(
            "Let each job take this many seconds of work, whatever its size.  [default: by its "
            "locations]",
            "--job-seconds",
        ),
    )
    job_spread: float = field(
        default=0.0,
        metadata=_says(
            "Vary the work time of each job by a lognormal factor with median 1 and this sigma.",
            "--job-spread",
        ),
    )
    progress: Progress = field(
        default="even",
        metadata=_says(
            "Let the count of completed locations grow like this; uneven picks one of the last "
            "four for each job. It never falls.",
            "--progress",
        ),
    )
    dates: bool = field(
        default=True, metadata=_says("Include dates in a job's status, or nulls.", "--dates")
    )
    queue_delay_s: float = field(
        default=0.05,
        metadata=_says("Seconds that a job is PENDING and QUEUED even if a worker is free."),
    )
    requests_per_s: float | None = field(
        default=None,
        metadata=_says(
            "Answer 429 to bulk requests (submit, status, output) above this rate.  [default: no "
            "limit]",
            "--requests-per-second",
        ),
    )
    rate_window: Literal["second", "bucket"] = field(
        default="second",
        metadata=_says(
            "Count these per second of the clock, or in a bucket of one second's worth that fills "
            "evenly.",
            "--rate-window",
        ),
    )
    max_jobs_in_flight: int | None = field(
        default=None,
        metadata=_says(
            "Refuse submissions while this many jobs are in flight.  [default: no limit]",
            "--max-jobs-in-flight",
        ),
    )
    max_jobs_status: Literal[429, 503] = field(
        default=429, metadata=_says("Refuse those with this status.", "--max-jobs-status")
    )
    retry_after_s: int | None = field(
        default=1,
        metadata=_says(
            "Name this many seconds in the Retry-After of such refusals (injected faults have "
            "their own).",
            "--retry-after",
        ),
    )
    retry_after_form: Literal["seconds", "date"] = field(
        default="seconds",
        metadata=_says(
            "Write every Retry-After in this form; a date is rounded up to a second.",
            "--retry-after-form",
        ),
    )
    date_skew_s: float = field(
        default=0.0,
        metadata=_says(
            "Set the clock of the Date header, and of such dates, this many seconds ahead.",
            "--date-skew",
        ),
    )
    early_grace_s: float = field(
        default=0.05,
        metadata=_says(
            "Seconds after a Retry-After during which requests count as already on their way, "
            "not as early."
        ),
    )
    limits: Mapping[str, Mapping[str, int]] | None = field(
        default=None,
        metadata=_says(
            "Refuse (402) to ask a source about more locations than this per day, or month. "
            "Repeatable.",
            "--limit",
        ),
    )
    allowed_sources: Collection[str] | None = field(
        default=None,
        metadata=_says("Refuse (403) all other sources. Repeatable.", "--allowed-source"),
    )
    source_configs: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict,
        metadata=_says(
            "By source code, members of its configuration that differ from the usual, such as "
            "``supported_countries``. Only ``datasources`` tells them."
        ),
    )
    not_served: Mapping[str, int] = field(
        default_factory=dict,
        metadata=_says("By name, ``limits`` or ``datasources``, the status that refuses it."),
    )
    quota: int | None = field(
        default=None,
        metadata=_says(
            "Answer 429, with a message that names the quota, to submissions above this many "
            "locations per UTC day or month.  [default: no quota]",
            "--quota",
        ),
    )
    quota_window: Literal["daily", "monthly"] = field(
        default="daily", metadata=_says("Reset the quota daily or monthly.", "--quota-window")
    )
    quota_retry_after: bool = field(
        default=False,
        metadata=_says(
            "Name the end of that day or month in its Retry-After.", "--quota-retry-after"
        ),
    )
    seed: int = field(
        default=0,
        metadata=_says("Seed the faults, job ids and differences between jobs.", "--seed"),
    )
    faults: FaultPlan = field(
        default_factory=FaultPlan,
        metadata=_says(
            "Let this share (0 to 1) of requests, jobs, locations or answers go wrong, such as "
            "rate_limit=0.05, lost_answer=0.02 or all=0.02; or refuse rows that contain a word: "
            "poison=WORD. Repeatable; a wrong name lists all.",
            "--fault",
        ),
    )
    spacing: Literal["spaced", "compact"] = field(
        default="spaced",
        metadata=_says("Write JSON with blanks after commas and colons, or without.", "--spacing"),
    )
    shape: Literal["list", "object"] = field(
        default="list",
        metadata=_says(
            "Write outputs and sources of a job's result as lists, or as the one object of the "
            "published schema.",
            "--shape",
        ),
    )
    relative_urls: bool = field(
        default=False, metadata=_says("Give paths instead of absolute URLs for outputs.")
    )
    no_match_share: float = field(
        default=0.02, metadata=_says("The share, from 0 to 1, of addresses that no source finds.")
    )
    max_locations: int | None = field(
        default=None,
        metadata=_says(
            "Refuse (413) jobs with more locations than this.  [default: no limit]",
            "--max-locations",
        ),
    )
    max_body_bytes: int = field(
        default=256 * 1024 * 1024,
        metadata=_says("The largest request body, also when unpacked (413 above)."),
    )
    retention_s: float = field(
        default=3600.0,
        metadata=_says("Seconds after its end at which a job and its output are forgotten (404)."),
    )
    clock: Callable[[], float] = field(
        default=time.monotonic,
        metadata=_says("The time in seconds, on any scale; what a job shows depends on it."),
    )
    wall_clock: Callable[[], float] = field(
        default=time.time,
        metadata=_says(
            "The Unix time, read once when the server is made; ``clock`` moves it on from there."
        ),
    )
    sleep: Callable[[float], Awaitable[object]] | None = field(
        default=None,
        metadata=_says(
            "Waits for a number of seconds, for slow answers; None for ``asyncio.sleep``."
        ),
    )

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
