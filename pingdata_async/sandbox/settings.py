"""The settings of a sandbox, checked when they are made."""

# ruff: noqa: RUF009 - _setting() makes fields, as field() does

from __future__ import annotations

import functools
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from pingdata_async.sandbox.faults import FaultPlan
from pingdata_async.sandbox.validation import check_whole

# What a number must be, beside those that must be whole.
_AMOUNTS: Final[dict[str, tuple[str, Callable[[float], bool]]]] = {
    "locations_per_s": ("positive", lambda number: number > 0),
    "requests_per_s": ("positive", lambda number: 0 < number < math.inf),
    "retention_s": ("0 or more", lambda number: number >= 0),
    "date_skew_s": ("a number of seconds", math.isfinite),
    "no_match_share": ("from 0 to 1", lambda number: 0 <= number <= 1),
    **dict.fromkeys(
        ("queue_delay_s", "job_s", "job_spread"),
        ("0 or more", lambda number: 0 <= number < math.inf),
    ),
}


def _setting(default: Any, help: str, option: str | None = None, **more: Any) -> Any:  # noqa: A002 - an option's
    """A field with what it does, and the option of the command `sandbox` for it."""
    return field(default=default, metadata={"help": help, "option": option}, **more)


@dataclass(frozen=True, kw_only=True, eq=False)
class SandboxSettings:
    """How a sandbox behaves; :class:`SandboxServer` takes these as keywords.

    The metadata of each field say what it does. None, where the type allows it, sets no limit
    unless they say otherwise.

    Raises:
        ValueError: A value is out of its range.
    """

    token: str | None = _setting(None, "Accept only this token; None accepts any.", repr=False)
    workers: int = _setting(4, "Run at most this many jobs at once.", "--workers")
    worker_schedule: Sequence[tuple[float, int]] = _setting(
        (), "Have N workers from this many seconds after the start. Repeatable.", "--workers-at"
    )
    locations_per_s: float = _setting(
        500.0,
        "Let each worker complete this many locations per second, whatever their sources.",
        "--locations-per-second",
    )
    job_s: float | None = _setting(
        None,
        "Let each job take this many seconds of work, whatever its size.  [default: by its "
        "locations]",
        "--job-seconds",
    )
    job_spread: float = _setting(
        0.0,
        "Vary the work time of each job by a lognormal factor with median 1 and this sigma.",
        "--job-spread",
    )
    progress: Literal["even", "uneven"] = _setting(
        "even",
        "Let the count of completed locations grow evenly, or in each job at another pace.",
        "--progress",
    )
    dates: bool = _setting(True, "Include dates in a job's status; else send nulls.", "--dates")
    queue_delay_s: float = _setting(
        0.05, "Seconds that a job is PENDING and QUEUED even if a worker is free."
    )
    requests_per_s: float | None = _setting(
        None,
        "Answer 429 to bulk requests (submit, status, output) above this rate.  [default: no "
        "limit]",
        "--requests-per-second",
    )
    rate_window: Literal["second", "bucket"] = _setting(
        "second",
        "Count these requests per second of the clock, or with a token bucket that holds one "
        "second's worth.",
        "--rate-window",
    )
    max_jobs_in_flight: int | None = _setting(
        None,
        "Refuse submissions while this many jobs are in flight.  [default: no limit]",
        "--max-jobs-in-flight",
    )
    max_jobs_status: Literal[429, 503] = _setting(
        429, "Refuse these submissions with this status.", "--max-jobs-status"
    )
    retry_after_s: int | None = _setting(
        1,
        "Send a Retry-After of this many seconds with these refusals (injected faults have their "
        "own).",
        "--retry-after",
    )
    retry_after_form: Literal["seconds", "date"] = _setting(
        "seconds",
        "Write every Retry-After in this form; a date is rounded up to a second.",
        "--retry-after-form",
    )
    date_skew_s: float = _setting(
        0.0,
        "Run the clock of the Date header, and of Retry-After dates, this many seconds ahead.",
        "--date-skew",
    )
    limits: Mapping[str, Mapping[str, int]] | None = _setting(
        None,
        "Refuse (402) more locations than this per day, or month, for a source. Repeatable.",
        "--limit",
    )
    allowed_sources: Collection[str] | None = _setting(
        None, "Refuse (403) all other sources. Repeatable.", "--allowed-source"
    )
    source_configs: Mapping[str, Mapping[str, Any]] | None = _setting(
        None,
        "By source code, members of its configuration that differ from the usual, such as "
        "``supported_countries``. Only ``datasources`` tells them.",
    )
    not_served: Mapping[str, int] | None = _setting(
        None, "By name, ``limits`` or ``datasources``, the status that refuses it."
    )
    quota: int | None = _setting(
        None,
        "Answer 429, with a message that names the quota, to submissions above this many "
        "locations per UTC day or month.  [default: no quota]",
        "--quota",
    )
    quota_window: Literal["daily", "monthly"] = _setting(
        "daily", "Reset the quota daily or monthly.", "--quota-window"
    )
    quota_retry_after: bool = _setting(
        False, "Name the end of that day or month in its Retry-After.", "--quota-retry-after"
    )
    seed: int = _setting(0, "Seed the faults, job ids and differences between jobs.", "--seed")
    faults: FaultPlan = _setting(
        FaultPlan(),
        "Let this share (0 to 1) of requests, jobs, locations or answers go wrong, such as "
        "rate_limit=0.05, lost_answer=0.02 or all=0.02; or refuse rows that contain a word: "
        "poison=WORD. Repeatable; a wrong name lists all.",
        "--fault",
    )
    spacing: Literal["spaced", "compact"] = _setting(
        "spaced", "Write JSON with blanks after commas and colons, or without.", "--spacing"
    )
    shape: Literal["list", "object"] = _setting(
        "list",
        "Write outputs and sources of a job's result as lists, or as the one object of the "
        "published schema.",
        "--shape",
    )
    relative_urls: bool = _setting(False, "Give paths instead of absolute URLs for outputs.")
    no_match_share: float = _setting(
        0.02, "The share, from 0 to 1, of addresses that no source finds."
    )
    edition: int = _setting(
        0,
        "Answer with this edition of the data: in each, a tenth of the answers differ in some "
        "fields.",
        "--edition",
    )
    max_body_bytes: int = _setting(
        256 * 1024 * 1024, "The largest request body, also when unpacked (413 above)."
    )
    retention_s: float = _setting(
        3600.0, "Seconds after its end at which a job and its output are forgotten (404)."
    )
    clock: Callable[[], float] = _setting(
        time.monotonic, "The time in seconds, on any scale; what a job shows depends on it."
    )
    wall_clock: Callable[[], float] = _setting(
        time.time,
        "The Unix time, read once when the server is made; ``clock`` moves it on from there.",
    )
    sleep: Callable[[float], Awaitable[object]] | None = _setting(
        None, "Waits for a number of seconds, for slow answers; None for ``asyncio.sleep``."
    )

    def __post_init__(self) -> None:
        for name in ("workers", "max_body_bytes", "max_jobs_in_flight", "quota"):
            if getattr(self, name) is not None or name in {"workers", "max_body_bytes"}:
                check_whole(name, getattr(self, name))
        if self.retry_after_s is not None:
            check_whole("retry_after_s", self.retry_after_s, at_least=0)
        for name, (kind, fits) in _AMOUNTS.items():
            number = getattr(self, name)
            if number is not None and not fits(number):
                raise ValueError(f"{name} must be {kind}, not {number}")
        for name, choices in _choices().items():
            if getattr(self, name) not in choices:
                known = ", ".join(map(repr, choices))
                raise ValueError(f"{name} must be one of {known}, not {getattr(self, name)!r}")
        if self.token == "":
            raise ValueError("token must not be empty; None accepts any")
        if self.rate_window == "second" and (self.requests_per_s or 0) % 1:
            raise ValueError(f"{self.requests_per_s} requests_per_s need rate_window='bucket'")
        before_s = 0.0
        for after_s, workers in self.worker_schedule:
            if not before_s <= after_s < math.inf:
                raise ValueError(
                    f"worker_schedule must name times of 0 or more, ascending, not {after_s}"
                )
            check_whole("each number of workers in worker_schedule", workers)
            before_s = after_s


@functools.cache
def _choices() -> dict[str, tuple[Any, ...]]:
    """By name, the values of each setting that takes one of a few."""
    hints = get_type_hints(SandboxSettings)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
