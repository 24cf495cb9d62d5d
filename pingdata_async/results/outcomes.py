"""The outcome of a row: ok, partial or failed, and why; counts of outcomes (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from pingdata_async.models import ANSWERED_REASONS, NO_DATA, EnhancedLocation, Reason, RowStatus
from pingdata_async.util.redaction import masked

PASSING_REASONS = frozenset({Reason.MISSING, Reason.TIME_OUT, Reason.SOURCE_ERROR})
"""Reasons that may be gone when the same is asked again."""

_REASONS_BY_WEIGHT = (Reason.MISSING, Reason.TIME_OUT, Reason.SOURCE_ERROR, Reason.NO_MATCH)
_TIME_OUT_STATUSES = frozenset({408, 504})
_TOO_MANY_REQUESTS, _SERVER_ERRORS = 429, 500
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NO_DUPLICATES: Mapping[int, int] = MappingProxyType({})


class _Head(msgspec.Struct):
    """The part of a source's object that says how it went; the rest is skipped, not decoded."""

    is_success: Any = None
    error_message: Any = None
    status_code: Any = None


_heads = msgspec.json.Decoder(dict[str, _Head | None])
_anything = msgspec.json.Decoder(dict[str, Any])

_Failures = list[tuple[str, _Head | None]]
"""Codes of sources that did not succeed, and what they said; None where nothing."""


def judge_location(
    *,
    row: int,
    user_id: str | None,
    data: msgspec.Raw,
    sources: Sequence[str],
    skipped: Sequence[str] = (),
) -> EnhancedLocation:
    """The outcome of a row from the API's object for it.

    ok only when every source asked for is there and says true in so many words.

    Args:
        row: The row's number.
        user_id: The id that the user knows it by; None where it has none.
        data: The API's `{SOURCE: {...}}`, undecoded.
        sources: The sources that were asked for.
        skipped: Why others were not asked although they were wanted, a few words each.
    """
    heads = _read_heads(data)
    failures = _failures(heads, sources)
    if not failures:
        if skipped:
            said = "; ".join(skipped)
            return EnhancedLocation(user_id, row, RowStatus.PARTIAL, Reason.SKIPPED, said, data)
        return EnhancedLocation(user_id, row, RowStatus.OK, None, None, data)
    status = RowStatus.PARTIAL if len(failures) < len(sources) else RowStatus.FAILED
    reasons = {_reason(head) for _, head in failures}
    errors = [f"{code}: {_said(head)}" for code, head in failures]
    # The sources' own words, which become ours here; in the data they stay as they are.
    error = masked("; ".join([*errors, *skipped]))
    reason = next(reason for reason in _REASONS_BY_WEIGHT if reason in reasons)
    return EnhancedLocation(user_id, row, status, reason, error, data if heads else NO_DATA)


def unanswered(*, row: int, user_id: str | None, reason: Reason, error: str) -> EnhancedLocation:
    """The outcome of a row that has no answer."""
    return EnhancedLocation(user_id, row, RowStatus.FAILED, reason, error, NO_DATA)


def unsuccessful(data: bytes | msgspec.Raw, sources: Sequence[str]) -> tuple[str, ...]:
    """The sources asked for that did not succeed."""
    return tuple(code for code, _ in _failures(_read_heads(data), sources))


def passing_failures(data: bytes | msgspec.Raw, sources: Sequence[str]) -> tuple[str, ...]:
    """The sources asked for that may answer another time: missing, or in trouble."""
    failures = _failures(_read_heads(data), sources)
    return tuple(code for code, head in failures if _reason(head) in PASSING_REASONS)


def _read_heads(data: bytes | msgspec.Raw) -> dict[str, _Head | None]:
    try:
        return _heads.decode(data)
    except _UNREADABLE:
        # A source that is not an object: judge the others all the same.
        try:
            decoded = _anything.decode(data)
        except _UNREADABLE:
            return {}
        return {
            code: _Head(
                value.get("is_success"), value.get("error_message"), value.get("status_code")
            )
            for code, value in decoded.items()
            if isinstance(value, dict)
        }


def _failures(heads: Mapping[str, _Head | None], sources: Sequence[str]) -> _Failures:
    """The sources asked for that did not succeed, and what each says; case does not matter."""
    found: _Failures = [(code, heads.get(code)) for code in sources]
    if any(head is None for _, head in found):
        by_folded = {code.casefold(): head for code, head in heads.items()}
        found = [(code, head or by_folded.get(code.casefold())) for code, head in found]
    return [(code, head) for code, head in found if head is None or head.is_success is not True]


def _said(head: _Head | None) -> str:
    if head is None:
        return "missing from the answer"
    return str(head.error_message or "failed without a message")


def _reason(head: _Head | None) -> Reason:
    """Why a source did not succeed."""
    if head is None:
        return Reason.MISSING
    said = str(head.error_message or "").lower()
    status = head.status_code if isinstance(head.status_code, int | float) else 0
    if status in _TIME_OUT_STATUSES or "timed out" in said or "timeout" in said:
        return Reason.TIME_OUT
    # The source itself is in trouble: it might answer another time.
    if status == _TOO_MANY_REQUESTS or status >= _SERVER_ERRORS:
        return Reason.SOURCE_ERROR
    return Reason.NO_MATCH


# -- Counts ----------------------------------------------------------------------------------


class Tally(msgspec.Struct):
    """How many rows ended how."""

    rows: int = 0
    ok: int = 0
    partial: int = 0
    failed: int = 0
    no_answer: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, other: Tally, *, sign: int = 1) -> None:
        """Add other counts; with a sign of -1, take them away."""
        self.rows += sign * other.rows
        self.ok += sign * other.ok
        self.partial += sign * other.partial
        self.failed += sign * other.failed
        self.no_answer += sign * other.no_answer
        for reason, rows in other.reasons.items():
            left = self.reasons.get(reason, 0) + sign * rows
            if left:
                self.reasons[reason] = left
            else:
                self.reasons.pop(reason, None)

    def add_ok(self, rows: int) -> None:
        """Count rows that are ok."""
        self.rows += rows
        self.ok += rows

    def add_not_ok(self, status: RowStatus, reason: Reason, rows: int = 1) -> None:
        """Count rows that are not ok, all with the same outcome."""
        is_failed = status is RowStatus.FAILED
        self.rows += rows
        self.failed += rows * is_failed
        self.partial += rows * (not is_failed)
        self.no_answer += rows * (is_failed and reason not in ANSWERED_REASONS)
        self.reasons[reason.value] = self.reasons.get(reason.value, 0) + rows


def tally(
    results: Sequence[EnhancedLocation], duplicate_counts: Mapping[int, int] = _NO_DUPLICATES
) -> Tally:
    """Count outcomes.

    Args:
        results: The outcomes.
        duplicate_counts: By row, how many others repeat it, and are counted with it.
    """
    counts = _tally(results)
    if duplicate_counts:
        for result in results:
            more = duplicate_counts.get(result.row, 0)
            if not more:
                continue
            if result.reason is None:
                counts.add_ok(more)
            else:
                counts.add_not_ok(result.status, result.reason, more)
    return counts


def _tally(results: Sequence[EnhancedLocation]) -> Tally:
    statuses = Counter(result.status for result in results)
    reasons = Counter(result.reason.value for result in results if result.reason is not None)
    return Tally(
        rows=len(results),
        ok=statuses[RowStatus.OK],
        partial=statuses[RowStatus.PARTIAL],
        failed=statuses[RowStatus.FAILED],
        no_answer=sum(not result.is_answered for result in results),
        reasons=dict(reasons),
    )
