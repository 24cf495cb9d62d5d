"""How much is let in: requests a second, jobs at once, a quota; and who came too early.

Here a refusal is no matter of luck: it follows from what was asked before. Whatever names a time
to come back is remembered, those of injected faults as well, and who comes before it is counted.
"""

import math
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Final

from pingdata_async.sandbox.checks import Refusal
from pingdata_async.sandbox.settings import SandboxSettings
from pingdata_async.sandbox.stats import KINDS, SandboxStats

BULK_KINDS: Final = frozenset({"submit", "status", "output"})
"""The kinds of requests that ``requests_per_s`` limits."""

# A 429 is about the account, a 503 about this kind of request.
_BOUND: Final = {429: KINDS, 503: ("submit",)}


class Gate:
    """Lets requests in, or refuses them and says when to come back.

    Args:
        settings: The limits.
        counts: Where refusals and those that came too early are counted.
        wall_offset_s: What to add to the clock for seconds since 1970.
    """

    def __init__(
        self, settings: SandboxSettings, counts: SandboxStats, wall_offset_s: float
    ) -> None:
        self._settings = settings
        self._counts = counts
        self._wall_offset_s = wall_offset_s
        self._watches = {kind: _Watch(settings.early_grace_s) for kind in KINDS}
        # Of one-second windows: which it is, and what is left of it; of the bucket: since when.
        self._since_s = -math.inf
        self._left = 0.0
        self._quota_until_s = -math.inf
        self._quota_used = 0

    def arrived(self, kind: str, now_s: float) -> None:
        """A request of that kind came: was it asked to come later?"""
        lead_s, is_crossing = self._watches[kind].look(now_s)
        if lead_s > 0:
            self._counts.early[kind] += 1
            self._counts.longest_lead_s = max(self._counts.longest_lead_s, lead_s)
        elif is_crossing:
            self._counts.crossing[kind] += 1

    def admit(self, now_s: float) -> None:
        """Let a bulk request in.

        Raises:
            Refusal: 429, above ``requests_per_s``.
        """
        rate = self._settings.requests_per_s
        if rate is None:
            return
        if self._settings.rate_window == "bucket":
            earned = (now_s - self._since_s) * rate
            self._left = min(max(rate, 1.0), self._left + earned)
            self._since_s = now_s
        elif math.floor(now_s) != self._since_s:
            self._since_s, self._left = math.floor(now_s), rate
        if self._left < 1.0:
            status = HTTPStatus.TOO_MANY_REQUESTS
            refusal = self._refusal("requests_per_s", status, "Request was throttled.")
            refusal.headers = self.hold_back(self._settings.retry_after_s, now_s)
            raise refusal
        self._left -= 1.0

    def admit_job(self, num_in_flight: int, now_s: float) -> None:
        """Let a job in beside those in flight.

        Raises:
            Refusal: ``max_jobs_status``, where there are ``max_jobs_in_flight`` already.
        """
        most = self._settings.max_jobs_in_flight
        if most is not None and num_in_flight >= most:
            status = self._settings.max_jobs_status
            message = f"Too many jobs: {num_in_flight} are in flight"
            refusal = self._refusal("max_jobs_in_flight", status, message)
            kinds = _BOUND[status]
            refusal.headers = self.hold_back(self._settings.retry_after_s, now_s, kinds)
            raise refusal

    def admit_locations(self, number: int, now_s: float) -> None:
        """Let the locations of a job in, if the quota has room for all of them.

        Raises:
            Refusal: 429, beyond ``quota``.
        """
        quota = self._settings.quota
        if quota is None:
            return
        if now_s >= self._quota_until_s:
            self._quota_until_s, self._quota_used = self._renewal_s(now_s), 0
        if self._quota_used + number > quota:
            window = self._settings.quota_window
            message = (
                f"The {window} quota of {quota} locations is exceeded: {number} asked, "
                f"{quota - self._quota_used} left"
            )
            refusal = self._refusal("quota", HTTPStatus.TOO_MANY_REQUESTS, message)
            if self._settings.quota_retry_after:
                seconds = math.ceil(self._quota_until_s - now_s)
                # Jobs that are paid for can be fetched meanwhile.
                refusal.headers = self.hold_back(seconds, now_s, ["submit"])
            raise refusal

    def charge(self, number: int) -> None:
        """Count the locations of an accepted job."""
        self._quota_used += number

    def hold_back(
        self, retry_after_s: int | None, now_s: float, kinds: Iterable[str] = KINDS
    ) -> dict[str, str]:
        """The headers that ask requests of some kinds to come later; from now on it is watched.

        Args:
            retry_after_s: Seconds; None: it is not said when, and nobody is watched.
            now_s: The time.
            kinds: Whose requests are meant.
        """
        if retry_after_s is None:
            return {}
        until_s = now_s + retry_after_s
        value = str(retry_after_s)
        if self._settings.retry_after_form == "date":
            # A date has no fractions of a second; up to the next whole one, nobody is early.
            ahead_s = self._wall_offset_s + self._settings.date_skew_s
            named_s = math.ceil(until_s + ahead_s)
            until_s = named_s - ahead_s
            value = format_datetime(datetime.fromtimestamp(named_s, UTC), usegmt=True)
        for kind in kinds:
            self._watches[kind].told(now_s, until_s)
        return {"Retry-After": value}

    def date_header(self, now_s: float) -> str | None:
        """The ``Date`` of an answer, by a clock that may be wrong; None: that of the machine."""
        skew_s = self._settings.date_skew_s
        if not skew_s and self._settings.retry_after_form == "seconds":
            return None
        seconds = math.floor(now_s + self._wall_offset_s + skew_s)
        return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)

    def _refusal(self, reason: str, status: int, message: str) -> Refusal:
        self._counts.held_back[reason] += 1
        return Refusal(status, message)

    def _renewal_s(self, now_s: float) -> float:
        """When the quota's UTC day or month is over."""
        now = datetime.fromtimestamp(now_s + self._wall_offset_s, UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if self._settings.quota_window == "daily":
            renewal = midnight + timedelta(days=1)
        else:
            # 32 days after the first of a month is in the next one, whichever it is.
            renewal = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        return renewal.timestamp() - self._wall_offset_s


class _Watch:
    """Until when one kind of requests was asked to stay away.

    Whoever comes less than the grace after having been told may have been on the way already.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._until_s = -math.inf
        # What was said less than the grace ago; what is older is in the number above.
        self._fresh: deque[tuple[float, float]] = deque()

    def told(self, now_s: float, until_s: float) -> None:
        self._fold(now_s)
        self._fresh.append((now_s, until_s))

    def look(self, now_s: float) -> tuple[float, bool]:
        """By how many seconds it is too early, and whether it may have been on its way."""
        self._fold(now_s)
        is_crossing = any(until_s > now_s for _, until_s in self._fresh)
        return max(0.0, self._until_s - now_s), is_crossing

    def _fold(self, now_s: float) -> None:
        while self._fresh and self._fresh[0][0] + self._grace_s <= now_s:
            self._until_s = max(self._until_s, self._fresh.popleft()[1])
