"""CircuitBreaker: whether rows or the API are at fault, and when a run stops (pure).

A refusal can be the fault of one row, and splitting finds it. But where the request itself is
wrong, or the API refuses everything, splitting would only send thousands of requests, and
failing jobs cost money each. So what goes wrong in a row, with nothing going right in
between, is counted: soon requests go out one at a time, until one passes or enough is enough.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.exceptions import APIStatusError, PingDataError


@dataclass(slots=True, eq=False)
class Bisection:
    """The parts of one refused chunk: the rows at fault are looked for.

    Attributes:
        has_passed: Whether one of them was accepted, so that it cannot be the API alone.
    """

    has_passed: bool = False


class Evidence(enum.Enum):
    """What shows that trouble with some rows is theirs, and not the API's."""

    ACCEPTED = enum.auto()  # it accepts other jobs
    ANSWERED = enum.auto()  # it answers other jobs


class CircuitBreaker:
    """Counts troubles in a row.

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
        """A submission was refused for what it holds; says whether to stop.

        Refusals within a search that has passed something show less: there may be many bad
        rows side by side. Rows from elsewhere are tried all the while, if there are any; where
        there are none, this ends too.
        """
        self._refusals += 1
        if search is None or not search.has_passed:
            self._unexplained += 1
        limit = self._policy.max_refusals_in_a_row
        if not self._unexplained:
            limit *= self.MORE_WITHIN_A_BISECTION
        return self._refusals >= limit

    def note_doubt(self, *, is_page: bool = False, is_garbled: bool = False) -> bool:
        """A submission was lost; says whether to stop.

        Args:
            is_page: Whether a page was the answer: a portal, or a proxy's own. Few of them tell
                enough, as such a one stays until somebody does something about it.
            is_garbled: Whether an answer came whose head is no HTTP: the job was accepted, most
                likely, and charged for, and so will be the next one. The second in a row is
                the last.
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
        """A job failed; says whether to stop."""
        self._failed_jobs += 1
        return self._failed_jobs >= self._policy.max_failed_jobs_in_a_row

    def note_lost_chunk(self) -> bool:
        """A chunk was charged for nothing as often as may be; says whether to stop."""
        self._lost_chunks += 1
        return self._lost_chunks >= self._policy.max_lost_chunks_in_a_row

    @property
    def doubts_in_a_row(self) -> int:
        """Submissions lost since the last one that was accepted."""
        return self._doubts

    @property
    def is_half_open(self) -> bool:
        """Whether requests had better go out one at a time."""
        troubles = max(self._refusals, self._doubts)
        return not self.any_accepted or troubles >= self.HALF_OPEN_AFTER

    @property
    def wants_probe(self) -> bool:
        """Whether it is time to see if a row from elsewhere is accepted."""
        return self._refusals > 0 and self._refusals % self.TRY_ANOTHER_AFTER_REFUSALS == 0

    @property
    def should_try_another(self) -> bool:
        """Whether rows from elsewhere would tell more than the next ones of the same chunk."""
        jobs = self._failed_jobs
        return self.wants_probe or (jobs > 0 and jobs % self.TRY_ANOTHER_AFTER_FAILED_JOBS == 0)

    def has(self, evidence: Evidence) -> bool:
        """Whether that was ever seen in this run."""
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
