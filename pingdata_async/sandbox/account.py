"""The account behind the token: what it used, what it may use."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from pingdata_async.sandbox.checks import Refusal
from pingdata_async.sandbox.whole_numbers import check_whole

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
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        since = midnight if window == "daily" else midnight.replace(day=1)
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
