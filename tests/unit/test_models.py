"""What every status and result of a job amounts to."""

from __future__ import annotations

import pytest

from pingdata_async.models import JobPhase, phase_of

P = JobPhase

RESULTS = (None, "SUCCESS", "FAILED", "PARTIAL")
#: By status: the phase for each of these results, without outputs; then with outputs.
TABLE: dict[str, tuple[list[JobPhase], list[JobPhase]]] = {
    "PENDING": ([P.WAITING] * 4, [P.WAITING] * 4),
    "QUEUED": ([P.WAITING] * 4, [P.WAITING] * 4),
    "IN_PROGRESS": ([P.WORKING] * 4, [P.WORKING] * 4),
    "COMPLETE": (
        [P.COMPLETE, P.COMPLETE, P.FAILED, P.COMPLETE],
        [P.COMPLETE, P.COMPLETE, P.FAILED, P.COMPLETE],
    ),
    "FAILED": ([P.FAILED] * 4, [P.FAILED] * 4),
    "CANCELED": (
        [P.BROKEN_OFF, P.COMPLETE, P.FAILED, P.BROKEN_OFF],
        [P.COMPLETE, P.COMPLETE, P.FAILED, P.COMPLETE],
    ),
    "ON_HOLD": (
        [P.UNKNOWN, P.COMPLETE, P.FAILED, P.UNKNOWN],
        [P.COMPLETE, P.COMPLETE, P.FAILED, P.COMPLETE],
    ),
    "": (
        [P.UNKNOWN, P.COMPLETE, P.FAILED, P.UNKNOWN],
        [P.COMPLETE, P.COMPLETE, P.FAILED, P.COMPLETE],
    ),
}


@pytest.mark.parametrize("status", TABLE)
def test_every_status_with_every_result(status: str) -> None:
    """The whole table."""
    for names_outputs, phases in zip((False, True), TABLE[status], strict=True):
        found = [phase_of(status, result, names_outputs=names_outputs) for result in RESULTS]
        assert found == phases


@pytest.mark.parametrize("status", ["ERROR", "EXPIRED", "CANCELLED", "ABORTED", "TIMED_OUT"])
def test_words_for_an_end(status: str) -> None:
    """Without a result they are an end that nobody documents."""
    assert phase_of(status, None, names_outputs=False) is P.BROKEN_OFF
