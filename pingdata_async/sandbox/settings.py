"""The settings of a sandbox, checked when they are made."""

import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pingdata_async.sandbox.faults import FaultPlan


@dataclass(frozen=True, kw_only=True, eq=False)
class SandboxSettings:
    """How a sandbox behaves; :class:`SandboxServer` takes these as keywords.

    Attributes:
        token: The only token accepted; None: any that is not empty.
        workers: How many jobs are worked on at once.
        locations_per_s: How fast each worker is; a location of many sources takes no longer.
            Infinity: at once.
        queue_delay_s: Seconds that a job is PENDING and QUEUED even when a worker is free.
        faults: What goes wrong, and how often.
        seed: Of the faults and of the job ids.
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
    locations_per_s: float = 500.0
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
    retention_s: float = 3600.0
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "max_locations", "max_body_bytes"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        if not self.locations_per_s > 0:
            raise ValueError(f"locations_per_s must be positive, not {self.locations_per_s}")
        if not (self.queue_delay_s >= 0 and math.isfinite(self.queue_delay_s)):
            raise ValueError(f"queue_delay_s must be 0 or more, not {self.queue_delay_s}")
        if not self.retention_s >= 0:
            raise ValueError(f"retention_s must be 0 or more, not {self.retention_s}")
        if not 0 <= self.no_match_share <= 1:
            raise ValueError(f"no_match_share must be from 0 to 1, not {self.no_match_share}")
        if self.spacing not in {"spaced", "compact"}:
            raise ValueError(f"spacing must be 'spaced' or 'compact', not {self.spacing!r}")
        if self.shape not in {"list", "object"}:
            raise ValueError(f"shape must be 'list' or 'object', not {self.shape!r}")
        if self.token == "":
            raise ValueError("token must not be empty; None accepts any")
