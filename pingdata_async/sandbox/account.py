"""What the account used and may use, and the throttling of requests, jobs and locations.

Refusals here are not random: they follow from earlier requests. Every Retry-After that was sent,
also that of an injected fault, is remembered, and requests that come too early are counted.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any, Final

from pingdata_async.sandbox.settings import SandboxSettings
from pingdata_async.sandbox.stats import KINDS, SandboxStats
from pingdata_async.sandbox.validation import Refusal, check_whole

_SLOT_S: Final = 300
_RELATIVE: Final = re.compile(r"-(\d{1,6})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
# Up to which time range the buckets have which size.
_GRANULARITIES: Final = (
    (timedelta(hours=6), "5m", timedelta(minutes=5)),
    (timedelta(days=7), "1h", timedelta(hours=1)),
    (timedelta.max, "1d", timedelta(days=1)),
)


def iso(moment: datetime) -> str:
    """A date the way the API writes it: UTC, ending in Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _window(name: str, now: datetime) -> tuple[datetime, datetime]:
    """The beginning and the end of the day, if that is its name, or else of the month."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if name == "daily":
        return midnight, midnight + timedelta(days=1)
    first = midnight.replace(day=1)
    # 32 days after the first of a month is in the next one, whichever it is.
    return first, (first + timedelta(days=32)).replace(day=1)


class Account:
    """Counts what was asked of each source, and says what is left.

    Args:
        limits: By source code, the number of locations of the windows ``daily`` and ``monthly``
            (UTC calendar days and months); None or a missing source: without limit.
        allowed_sources: The only sources that may be asked; None: all.
    """

    def __init__(
        self,
        limits: Mapping[str, Mapping[str, int]] | None,
        allowed_sources: Iterable[str] | None,
    ) -> None:
        self._limits = {code: dict(windows) for code, windows in (limits or {}).items()}
        for code, windows in self._limits.items():
            if unknown := windows.keys() - {"daily", "monthly"}:
                raise ValueError(f"limits of {code}: no such window: {', '.join(sorted(unknown))}")
            for window, limit in windows.items():
                check_whole(f"the {window} limit of {code}", limit, at_least=0)
        self._allowed = None if allowed_sources is None else sorted(set(allowed_sources))
        self._used: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def charge(self, asked: Mapping[str, int], now: datetime) -> None:
        """Count locations by source, or refuse all of them.

        Raises:
            Refusal: 403 for a source that is not allowed, 402 for one whose limit is exceeded.
        """
        for code, number in asked.items():
            if self._allowed is not None and code not in self._allowed:
                raise Refusal(HTTPStatus.FORBIDDEN, f"You do not have access to the source {code}")
            for window, left in self._remaining(code, now).items():
                if number > left:
                    raise Refusal(
                        HTTPStatus.PAYMENT_REQUIRED,
                        f"The {window} limit of {code} is exceeded: {number} asked, {left} left",
                    )
        slot = int(now.timestamp()) // _SLOT_S
        for code, number in asked.items():
            self._used[slot][code] += number

    def limits(self, now: datetime) -> dict[str, Any]:
        """The answer of ``/limits``."""
        return {
            "scope": "user",
            "subject": "sandbox",
            "allowlist": {
                "mode": "unrestricted" if self._allowed is None else "restricted",
                "source": "user",
                "sources": self._allowed or [],
            },
            "sources": {
                code: {
                    "limits": limits,
                    "usage": {window: self._usage(code, window, now) for window in limits},
                    "remaining": self._remaining(code, now),
                }
                for code, limits in self._limits.items()
            },
        }

    def usage(self, query: Mapping[str, str], now: datetime) -> dict[str, Any]:
        """The answer of ``/usage``.

        Raises:
            Refusal: 400 for dates that cannot be read or stand in the wrong order, an unknown
                parameter, or both a user and an organisation.
        """
        known = {"start", "end", "username", "org_short_name", "delegate_to"}
        if unknown := query.keys() - known:
            raise Refusal(
                HTTPStatus.BAD_REQUEST, f"unknown parameters: {', '.join(sorted(unknown))}"
            )
        if "username" in query and "org_short_name" in query:
            raise Refusal(HTTPStatus.BAD_REQUEST, "username and org_short_name exclude each other")
        start = _read_date("start", query.get("start", "-30d"), now)
        end = _read_date("end", query["end"], now) if "end" in query else now
        if start > end:
            raise Refusal(HTTPStatus.BAD_REQUEST, "start is after end")
        granularity, size_s = next(
            (name, int(size.total_seconds()))
            for longest, name, size in _GRANULARITIES
            if end - start <= longest
        )
        buckets, totals = self._count(start, end, size_s)
        return {
            "granularity": granularity,
            "start": iso(start),
            "end": iso(end),
            "buckets": [
                {"bucket": iso(datetime.fromtimestamp(at, UTC)), "counts": _with_total(counts)}
                for at, counts in sorted(buckets.items())
            ],
            "totals": _with_total(totals),
        }

    def _count(
        self, start: datetime, end: datetime, size_s: int
    ) -> tuple[dict[int, Counter[str]], Counter[str]]:
        buckets: defaultdict[int, Counter[str]] = defaultdict(Counter)
        totals: Counter[str] = Counter()
        first, last = (int(moment.timestamp()) // _SLOT_S for moment in (start, end))
        for slot, counts in self._used.items():
            if first <= slot <= last:
                buckets[slot * _SLOT_S // size_s * size_s].update(counts)
                totals.update(counts)
        return buckets, totals

    def _usage(self, code: str, window: str, now: datetime) -> int:
        since, _ = _window(window, now)
        first = int(since.timestamp()) // _SLOT_S
        return sum(counts[code] for slot, counts in self._used.items() if slot >= first)

    def _remaining(self, code: str, now: datetime) -> dict[str, int]:
        return {
            window: max(0, limit - self._usage(code, window, now))
            for window, limit in self._limits.get(code, {}).items()
        }


def _with_total(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items())) | {"total": counts.total()}


def _read_date(name: str, text: str, now: datetime) -> datetime:
    if found := _RELATIVE.fullmatch(text):
        try:
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            f"{name} must be an offset such as -5m, -1h or -30d, or an ISO 8601 date, not {text!r}",
        ) from None


BULK_KINDS: Final = frozenset({"submit", "status", "output"})
"""The kinds of requests that ``requests_per_s`` limits."""

# A request this soon after a refusal may have been on its way already.
_GRACE_S: Final = 0.05
# A 429 is about the account, a 503 about this kind of request.
_BOUND: Final = {429: KINDS, 503: ("submit",)}


class Throttle:
    """Admits requests, or refuses them and says when to come back.

    Args:
        settings: The limits.
        counts: Where refusals and those that came too early are counted.
        wall_offset_s: What to add to the clock for Unix time.
    """

    def __init__(
        self, settings: SandboxSettings, counts: SandboxStats, wall_offset_s: float
    ) -> None:
        self._settings = settings
        self._counts = counts
        self._wall_offset_s = wall_offset_s
        # By kind, the pauses that were asked for: when it was told, and until when.
        self._pauses: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        # Of one-second windows: which it is, and what is left of it; of the bucket: since when.
        self._since_s = -math.inf
        self._left = 0.0
        self._quota_until_s = -math.inf
        self._quota_used = 0

    def arrived(self, kind: str, now_s: float) -> None:
        """Count a request of that kind if it comes before a pause is over."""
        pauses = [(told_s, until_s) for told_s, until_s in self._pauses[kind] if until_s > now_s]
        self._pauses[kind] = pauses
        leads_s = [until_s - now_s for told_s, until_s in pauses if told_s + _GRACE_S <= now_s]
        if leads_s:
            self._counts.early[kind] += 1
            self._counts.longest_lead_s = max(self._counts.longest_lead_s, *leads_s)

    def admit(self, now_s: float) -> None:
        """Admit a bulk request.

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
            self._counts.held_back["requests_per_s"] += 1
            headers = self.hold_back(self._settings.retry_after_s, now_s)
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "Request was throttled.", headers=headers)
        self._left -= 1.0

    def admit_job(self, num_in_flight: int, now_s: float) -> None:
        """Admit a job beside those in flight.

        Raises:
            Refusal: ``max_jobs_status``, where there are ``max_jobs_in_flight`` already.
        """
        most = self._settings.max_jobs_in_flight
        if most is not None and num_in_flight >= most:
            self._counts.held_back["max_jobs_in_flight"] += 1
            status = self._settings.max_jobs_status
            headers = self.hold_back(self._settings.retry_after_s, now_s, _BOUND[status])
            message = f"Too many jobs: {num_in_flight} are in flight"
            raise Refusal(status, message, headers=headers)

    def admit_locations(self, number: int, now_s: float) -> None:
        """Admit the locations of a job, if the quota has room for all of them.

        Raises:
            Refusal: 429, beyond ``quota``.
        """
        quota = self._settings.quota
        if quota is None:
            return
        if now_s >= self._quota_until_s:
            now = datetime.fromtimestamp(now_s + self._wall_offset_s, UTC)
            _, renewal = _window(self._settings.quota_window, now)
            self._quota_until_s = renewal.timestamp() - self._wall_offset_s
            self._quota_used = 0
        if self._quota_used + number > quota:
            window = self._settings.quota_window
            message = (
                f"The {window} quota of {quota} locations is exceeded: {number} asked, "
                f"{quota - self._quota_used} left"
            )
            self._counts.held_back["quota"] += 1
            headers = {}
            if self._settings.quota_retry_after:
                seconds = math.ceil(self._quota_until_s - now_s)
                # Jobs that are paid for can be fetched meanwhile.
                headers = self.hold_back(seconds, now_s, ["submit"])
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, message, headers=headers)

    def charge(self, number: int) -> None:
        """Count the locations of an accepted job."""
        self._quota_used += number

    def hold_back(
        self, retry_after_s: int | None, now_s: float, kinds: Iterable[str] = KINDS
    ) -> dict[str, str]:
        """The headers that ask requests of some kinds to come later; early ones are counted.

        Without a number of seconds no pause is named.
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
            self._pauses[kind].append((now_s, until_s))
        return {"Retry-After": value}

    def date_header(self, now_s: float) -> str | None:
        """The ``Date`` of an answer, by a clock that may be wrong; None: that of the machine."""
        skew_s = self._settings.date_skew_s
        if not skew_s and self._settings.retry_after_form == "seconds":
            return None
        seconds = math.floor(now_s + self._wall_offset_s + skew_s)
        return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)
