"""When a simulated API refuses: too many requests, too many jobs, out of order."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

from pingdata_async.exceptions import PingDataError, RateLimitError, ServerError, TransportError
from tests.simulation.faults import Moment

UNAVAILABLE = 503
EVERY_MOMENT = (Moment.SUBMIT, Moment.POLL, Moment.FETCH)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outage:
    """A time in which requests fail.

    Attributes:
        begins_s: In seconds since the first request.
        ends_s: Likewise.
        has_connection: Whether they are answered 503; if not, there is no connection.
        retry_after_s: What the 503 names; None for nothing.
        moments: Which kinds of requests.
    """

    begins_s: float
    ends_s: float
    has_connection: bool = True
    retry_after_s: float | None = None
    moments: Collection[Moment] = EVERY_MOMENT

    def error(self) -> PingDataError:
        """What a request in that time ends with."""
        if not self.has_connection:
            return TransportError("no connection", maybe_sent=False)
        return ServerError(
            "503 for a while", status_code=UNAVAILABLE, retry_after_s=self.retry_after_s
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What the API can take.

    Attributes:
        requests_per_s: Of all kinds together; infinite for no limit.
        burst: Requests at once, where tokens fill up again; None for what a second allows.
        window_s: If above 0, so many seconds' worth of requests are counted anew at the end
            of each such window, instead of by tokens.
        retry_after_s: What the 429 names; None for nothing.
        max_in_flight: Jobs that have not ended; None for no limit. A submission above it is
            refused.
        too_many_status: What that is refused with, 429 or 503.
        too_many_retry_after_s: What that names; None for nothing.
    """

    requests_per_s: float = math.inf
    burst: float | None = None
    window_s: float = 0.0
    retry_after_s: float | None = 1.0
    max_in_flight: int | None = None
    too_many_status: int = 429
    too_many_retry_after_s: float | None = None

    def too_many_jobs(self, in_flight: int) -> PingDataError | None:
        """Why a submission is refused while there are so many jobs; None if it is not."""
        if self.max_in_flight is None or in_flight < self.max_in_flight:
            return None
        if self.too_many_status == UNAVAILABLE:
            return ServerError(
                "503: too many jobs",
                status_code=UNAVAILABLE,
                retry_after_s=self.too_many_retry_after_s,
            )
        return RateLimitError(
            "429: too many jobs", status_code=429, retry_after_s=self.too_many_retry_after_s
        )


class Gatekeeper:
    """Refuses requests as they arrive.

    Args:
        limits: What the API can take.
        outages: When it is out of order.
    """

    def __init__(self, limits: Limits, outages: Sequence[Outage]) -> None:
        self._limits = limits
        self._outages = outages
        self._began = 0.0
        self._tokens = self._full = limits.burst or max(1.0, limits.requests_per_s)
        self._counted_at = 0.0
        self._window = -1
        self._in_window = 0

    def begin(self, now: float) -> None:
        """The first request has come: outages count from here."""
        self._began = self._counted_at = now

    def refusal(self, moment: Moment, now: float) -> PingDataError | None:
        """Why a request is refused that arrives now; None if it is not."""
        since_s = now - self._began
        for outage in self._outages:
            if outage.begins_s <= since_s < outage.ends_s and moment in outage.moments:
                return outage.error()
        if math.isinf(self._limits.requests_per_s) or self._is_let_in(now):
            return None
        return RateLimitError(
            "429: too many requests",
            status_code=429,
            retry_after_s=self._limits.retry_after_s,
        )

    def _is_let_in(self, now: float) -> bool:
        limits = self._limits
        if limits.window_s > 0:
            window = int((now - self._began) / limits.window_s)
            if window != self._window:
                self._window, self._in_window = window, 0
            self._in_window += 1
            return self._in_window <= limits.requests_per_s * limits.window_s
        refill = (now - self._counted_at) * limits.requests_per_s
        self._tokens, self._counted_at = min(self._full, self._tokens + refill), now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
