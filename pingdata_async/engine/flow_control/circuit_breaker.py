"""CircuitBreaker: whether rows or the API are at fault, and when a run stops (pure).

A refusal can be the fault of one row, which splitting finds. But if the request itself is wrong, or
the API refuses everything, splitting would only send thousands of requests, and each failing job
costs money. So failures in a row, with no success in between, are counted. After a few the breaker
is half-open: submissions are sent one at a time, until one passes or the run stops.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.exceptions import APIStatusError, PingDataError


@dataclass(slots=True, eq=False)
class Bisection:
    """The search for the rows at fault among the parts of one refused chunk.

    Attributes:
        has_passed: Whether a part was accepted, so that the API alone cannot be at fault.
    """

    has_passed: bool = False


class Evidence(enum.Enum):
    """What shows that a failure is the fault of the rows, and not of the API."""

    ACCEPTED = enum.auto()  # it accepts other jobs
    ANSWERED = enum.auto()  # it answers other jobs


class CircuitBreaker:
    """Counts failures in a row, and says when a run is to stop.

    Args:
        policy: How many are too many.
        any_accepted: Whether the API has ever accepted a job of this run.
        any_answered: Whether it has ever answered one.
    """

    HALF_OPEN_AFTER = 3
    MAX_PAGES_IN_A_ROW = 3
    MAX_GARBLED_IN_A_ROW = 2
    MORE_WITHIN_A_BISECTION = 10  # a hundred bad rows side by side are refused 200 times
    # About what it takes to find one bad row in a chunk; jobs that fail cost money.
    TRY_ANOTHER_AFTER_REFUSALS = 10
    TRY_ANOTHER_AFTER_FAILED_JOBS = 4

    def __init__(
        self, policy: RetryPolicy, *, any_accepted: bool = False, any_answered: bool = False
    ) -> None:
        self._policy = policy
        self.any_accepted = any_accepted or any_answered
        self.any_answered = any_answered
        self._refusals = 0
        self._unexplained = 0
        self._doubts = 0
        self._pages = 0
        self._garbled = 0
        self._failed_jobs = 0
        self._lost_chunks = 0

    def note_accepted(self) -> None:
        """A job was accepted."""
        self.any_accepted = True
        self._refusals = self._unexplained = self._doubts = 0
        self._pages = self._garbled = 0

    def on_success(self) -> None:
        """A job's output was usable."""
        self.any_answered = True
        self._failed_jobs = self._lost_chunks = 0

    def note_refused(self, search: Bisection | None = None) -> bool:
        """A submission was refused for its content; returns whether to stop.

        Refusals within a search that has passed something count for less, as there may be many
        bad rows side by side. Rows from elsewhere are tried meanwhile, if there are any; if there
        are none, this ends too.
        """
        self._refusals += 1
        if search is None or not search.has_passed:
            self._unexplained += 1
        limit = self._policy.max_refusals_in_a_row
        if not self._unexplained:
            limit *= self.MORE_WITHIN_A_BISECTION
        return self._refusals >= limit

    def note_doubt(self, *, is_page: bool = False, is_garbled: bool = False) -> bool:
        """A submission is in doubt; returns whether to stop.

        Args:
            is_page: Whether the answer was a page, of a portal or a proxy. A few are enough, as
                such a page stays until somebody removes its cause.
            is_garbled: Whether the head of the answer was not HTTP. Most likely the job was
                accepted and charged for, and so would be the next one: two in a row are enough.
        """
        self._doubts += 1
        self._pages += is_page
        self._garbled += is_garbled
        return (
            self._doubts >= self._policy.max_doubts_in_a_row
            or self._pages >= self.MAX_PAGES_IN_A_ROW
            or self._garbled >= self.MAX_GARBLED_IN_A_ROW
        )

    def note_failed_job(self) -> bool:
        """A job failed; returns whether to stop."""
        self._failed_jobs += 1
        return self._failed_jobs >= self._policy.max_failed_jobs_in_a_row

    def note_lost_chunk(self) -> bool:
        """A chunk used up its attempts and was charged for nothing; returns whether to stop."""
        self._lost_chunks += 1
        return self._lost_chunks >= self._policy.max_lost_chunks_in_a_row

    @property
    def doubts_in_a_row(self) -> int:
        """Submissions in doubt since the last one that was accepted."""
        return self._doubts

    @property
    def is_half_open(self) -> bool:
        """Whether submissions are to be sent one at a time."""
        failures = max(self._refusals, self._doubts)
        return not self.any_accepted or failures >= self.HALF_OPEN_AFTER

    @property
    def wants_probe(self) -> bool:
        """Whether a row from elsewhere should be tried now."""
        return self._refusals > 0 and self._refusals % self.TRY_ANOTHER_AFTER_REFUSALS == 0

    @property
    def should_try_another(self) -> bool:
        """Whether rows from elsewhere would tell more than the next rows of this chunk."""
        jobs = self._failed_jobs
        return self.wants_probe or (jobs > 0 and jobs % self.TRY_ANOTHER_AFTER_FAILED_JOBS == 0)

    def has(self, evidence: Evidence) -> bool:
        """Whether this evidence was ever seen in this run."""
        return self.any_answered if evidence is Evidence.ANSWERED else self.any_accepted


def at_fault_itself(error: PingDataError) -> PingDataError:
    """The error of a run that stops because everything is refused."""
    if not isinstance(error, APIStatusError):
        return error
    return type(error)(
        "submissions are refused one after the other, so the request or the API seems to be at "
        f"fault; no more are sent, and no row is marked as failed: {error}",
        status_code=error.status_code,
        api_message=error.api_message,
        retry_after_s=error.retry_after_s,
        available_at=error.available_at,
    )
