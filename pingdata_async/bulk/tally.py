"""How rows ended, counted (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from pingdata_async.models import ANSWERED_REASONS, EnhancedLocation, Reason, RowStatus

_NO_COPIES: Mapping[int, int] = MappingProxyType({})


class Tally(msgspec.Struct):
    """How many rows ended how."""

    rows: int = 0
    ok: int = 0
    partial: int = 0
    failed: int = 0
    no_answer: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, other: Tally, *, sign: int = 1) -> None:
        """Count other rows too; with a sign of -1, no more."""
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
        """Count rows that are not, all of which ended alike."""
        is_failed = status is RowStatus.FAILED
        self.rows += rows
        self.failed += rows * is_failed
        self.partial += rows * (not is_failed)
        self.no_answer += rows * (is_failed and reason not in ANSWERED_REASONS)
        self.reasons[reason.value] = self.reasons.get(reason.value, 0) + rows


def tally(results: Sequence[EnhancedLocation], copies: Mapping[int, int] = _NO_COPIES) -> Tally:
    """Count outcomes.

    Args:
        results: Those.
        copies: By row, how many others end as it does, and are counted with it.
    """
    counts = _tally(results)
    if copies:
        for result in results:
            more = copies.get(result.row, 0)
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
