"""What the API's words on a job amount to: one table for every status and result (pure)."""

from __future__ import annotations

import enum


class JobPhase(enum.Enum):
    """How far a job is."""

    WAITING = enum.auto()  # in the API's queue
    WORKING = enum.auto()
    COMPLETE = enum.auto()  # it is paid for, and has its outputs, or is about to
    FAILED = enum.auto()  # it will never have any
    BROKEN_OFF = enum.auto()  # a word for an end that is not documented, and no result
    UNKNOWN = enum.auto()  # any other word, and no result: it may be at work


_DOCUMENTED = {
    "PENDING": JobPhase.WAITING,
    "QUEUED": JobPhase.WAITING,
    "IN_PROGRESS": JobPhase.WORKING,
    "COMPLETE": JobPhase.COMPLETE,
    "FAILED": JobPhase.FAILED,
}
_ENDS = frozenset(
    {
        "ABORTED",
        "CANCELED",
        "CANCELLED",
        "DELETED",
        "ERROR",
        "ERRORED",
        "EXPIRED",
        "FAILURE",
        "KILLED",
        "REJECTED",
        "REVOKED",
        "TERMINATED",
        "TIMED_OUT",
        "TIMEOUT",
    }
)


def phase_of(status: str, result_status: str | None, *, names_outputs: bool) -> JobPhase:
    """How far a job is, by what the API says of it.

    Args:
        status: The request's, in capitals.
        result_status: The result's, likewise; None while there is no result.
        names_outputs: Whether the result names any.
    """
    documented = _DOCUMENTED.get(status)
    if documented is JobPhase.COMPLETE and result_status == "FAILED":
        return JobPhase.FAILED
    if documented is not None:
        return documented
    if result_status == "FAILED":
        return JobPhase.FAILED
    if result_status == "SUCCESS" or names_outputs:
        return JobPhase.COMPLETE
    return JobPhase.BROKEN_OFF if status in _ENDS else JobPhase.UNKNOWN
