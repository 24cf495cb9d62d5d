"""What an answer means for a row: ok, partial or failed, and why (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pingdata_async.models import NO_DATA, EnhancedLocation, Reason, RowStatus
from pingdata_async.secrecy import masked


class _Head(msgspec.Struct):
    """The part of a source's object that says how it went; the rest is skipped, not decoded."""

    is_success: Any = None
    error_message: Any = None
    status_code: Any = None


_heads = msgspec.json.Decoder(dict[str, _Head | None])
_anything = msgspec.json.Decoder(dict[str, Any])

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_TIME_OUT_STATUSES = frozenset({408, 504})
PASSING_REASONS = frozenset({Reason.MISSING, Reason.TIME_OUT, Reason.SOURCE_ERROR})
"""Reasons that may be gone when the same is asked again."""

_REASONS_BY_WEIGHT = (Reason.MISSING, Reason.TIME_OUT, Reason.SOURCE_ERROR, Reason.NO_MATCH)


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
    for code in sources:
        head = heads.get(code)
        if head is None or head.is_success is not True:
            return _judge_failure(row, user_id, data, sources, heads, skipped)
    return _all_succeeded(row, user_id, data, skipped)


def _all_succeeded(
    row: int, user_id: str | None, data: msgspec.Raw, skipped: Sequence[str]
) -> EnhancedLocation:
    if skipped:
        said = "; ".join(skipped)
        return EnhancedLocation(user_id, row, RowStatus.PARTIAL, Reason.SKIPPED, said, data)
    return EnhancedLocation(user_id, row, RowStatus.OK, None, None, data)


def passing_failures(data: bytes | msgspec.Raw, sources: Sequence[str]) -> tuple[str, ...]:
    """Of the sources asked for, those that may answer another time: missing, or in trouble."""
    return tuple(
        code
        for code, head in _unsuccessful(data, sources)
        if head is None or _source_reason(head) in PASSING_REASONS
    )


def unsuccessful(data: bytes | msgspec.Raw, sources: Sequence[str]) -> tuple[str, ...]:
    """Of the sources asked for, those that did not succeed."""
    return tuple(code for code, _ in _unsuccessful(data, sources))


def _unsuccessful(
    data: bytes | msgspec.Raw, sources: Sequence[str]
) -> list[tuple[str, _Head | None]]:
    heads = _read_heads(data)
    by_folded = {code.casefold(): head for code, head in heads.items()}
    found = [(code, heads.get(code) or by_folded.get(code.casefold())) for code in sources]
    return [(code, head) for code, head in found if head is None or head.is_success is not True]


def unanswered(*, row: int, user_id: str | None, reason: Reason, error: str) -> EnhancedLocation:
    """The outcome of a row for which there is no answer."""
    return EnhancedLocation(user_id, row, RowStatus.FAILED, reason, error, NO_DATA)


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


def _judge_failure(  # noqa: PLR0917 - each of them once
    row: int,
    user_id: str | None,
    data: msgspec.Raw,
    sources: Sequence[str],
    heads: dict[str, _Head | None],
    skipped: Sequence[str],
) -> EnhancedLocation:
    by_folded = {code.casefold(): head for code, head in heads.items()}
    reasons: set[Reason] = set()
    errors: list[str] = []
    for code in sources:
        head = heads.get(code) or by_folded.get(code.casefold())
        if head is None:
            reasons.add(Reason.MISSING)
            errors.append(f"{code}: missing from the answer")
        elif head.is_success is not True:
            reasons.add(_source_reason(head))
            errors.append(f"{code}: {head.error_message or 'failed without a message'}")
    if not errors:
        return _all_succeeded(row, user_id, data, skipped)
    status = RowStatus.PARTIAL if len(errors) < len(sources) else RowStatus.FAILED
    reason = next(reason for reason in _REASONS_BY_WEIGHT if reason in reasons)
    if Reason.MISSING in reasons and not heads:
        data = NO_DATA
    # The sources' own words, which become ours here; in the data they stay as they are.
    error = masked("; ".join([*errors, *skipped]))
    return EnhancedLocation(user_id, row, status, reason, error, data)


def _source_reason(head: _Head) -> Reason:
    said = str(head.error_message or "").lower()
    if head.status_code in _TIME_OUT_STATUSES or "timed out" in said or "timeout" in said:
        return Reason.TIME_OUT
    # 429 and 5xx of the source itself: it might answer another time.
    if isinstance(head.status_code, int) and (head.status_code == 429 or head.status_code >= 500):  # noqa: PLR2004 - HTTP statuses
        return Reason.SOURCE_ERROR
    return Reason.NO_MATCH
