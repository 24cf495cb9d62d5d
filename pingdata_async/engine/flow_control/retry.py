"""Which errors are retried, when, and when to give up (pure).

May this be tried again, and when; what is in doubt (pure).

Whether 429s are about the rate of requests or about the number of jobs (pure).
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass

from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    ClientClosedError,
    DecodeError,
    NotFoundError,
    OutputUnavailableError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.util.validation import check_amount, check_count, check_flag

SERVICE_UNAVAILABLE = 503
LONGEST_GAP_S = 60.0  # between two requests of a kind that fails, besides the pauses named


class Verdict(enum.Enum):
    """What a failed request means."""

    RETRY = enum.auto()  # nothing happened: send it again later
    IN_DOUBT = enum.auto()  # a paid job may have been made
    REJECTED = enum.auto()  # the same again would be refused again
    UNKNOWN_JOB = enum.auto()  # the API does not know the job
    NO_ACCESS = enum.auto()  # final where it was never granted; else for a while perhaps
    STOP = enum.auto()  # no request of this run can succeed


_NOT_READ_STATUSES = frozenset({408, 425})  # the server had not read the request, or not acted


def judge_submission(error: PingDataError) -> Verdict:
    """What an error after a POST means.

    429 and 503 say that nothing was accepted. Every other 5xx can come from a proxy that lost
    the answer of an API that had accepted; so can a success that holds no job id.
    """
    if isinstance(error, UnexpectedRedirectError):
        return Verdict.STOP
    if isinstance(error, TransportError):
        return Verdict.IN_DOUBT if error.maybe_sent else Verdict.RETRY
    if isinstance(error, RateLimitError):
        return Verdict.RETRY
    if isinstance(error, ServerError):
        refused = error.status_code == SERVICE_UNAVAILABLE
        return Verdict.RETRY if refused else Verdict.IN_DOUBT
    if isinstance(error, DecodeError):
        return Verdict.IN_DOUBT
    if isinstance(error, RequestRejectedError):
        return Verdict.RETRY if error.status_code in _NOT_READ_STATUSES else Verdict.REJECTED
    if isinstance(error, QuotaExceededError):
        return Verdict.STOP
    if isinstance(error, AuthenticationError | AccessDeniedError):
        return Verdict.NO_ACCESS
    return Verdict.STOP


def judge_question(error: PingDataError) -> Verdict:
    """What an error after a GET means: asking again costs nothing, dropping a paid job does.

    Only the API's own word on a job makes it unknown: an output that cannot be had does not.
    """
    if isinstance(error, OutputUnavailableError):
        return Verdict.UNKNOWN_JOB if error.is_job_unknown else Verdict.RETRY
    if isinstance(error, NotFoundError):
        return Verdict.UNKNOWN_JOB
    if isinstance(error, AuthenticationError):
        return Verdict.NO_ACCESS
    if isinstance(error, ClientClosedError):
        return Verdict.STOP
    return Verdict.RETRY


def shows_overload(error: PingDataError) -> bool:
    """Whether it is what an API gives that has too much to do: 5xx, or no answer at all."""
    return isinstance(error, ServerError | TransportError)


def refuses_access(error: PingDataError) -> bool:
    """Whether it says that whoever asks may not: it is meant where it goes on for a minute."""
    return isinstance(error, AuthenticationError | AccessDeniedError | UnexpectedRedirectError)


def retry_after_s(error: PingDataError) -> float | None:
    """Seconds for which the answer asked to wait; None if it did not."""
    return error.retry_after_s if isinstance(error, APIStatusError) else None


def closes_its_kind(error: PingDataError) -> bool:
    """Whether no request of its kind should be sent for a while.

    A 503 says so, and any other error of a server that names a time to come back at.
    """
    if not isinstance(error, ServerError):
        return False
    return error.status_code == SERVICE_UNAVAILABLE or bool(error.retry_after_s)


_ABOVE_ZERO = (
    "base_delay_s",
    "max_delay_s",
    "give_up_after_s",
    "first_contact_s",
    "max_wait_s",
)
_FROM_ZERO = ("late_after_s", "forgotten_after_s", "linger_s")
_AT_LEAST_ZERO = ("in_doubt_retries", "location_retries")
_AT_LEAST_ONE = (
    "job_attempts",
    "forgotten_attempts",
    "fetch_attempts",
    "max_refusals_in_a_row",
    "max_doubts_in_a_row",
    "max_failed_jobs_in_a_row",
    "max_lost_chunks_in_a_row",
)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how long things are tried.

    Attributes:
        base_delay_s: Before the first retry; each further one waits twice as long.
        max_delay_s: The longest wait of our own choosing.
        in_doubt_retries: How often a chunk is sent again after submissions in doubt.
        hold_in_doubt: Leave a chunk whose submission is in doubt to the user at once instead.
        job_attempts: How many jobs a chunk gets that fail, before it is split.
        forgotten_attempts: How many jobs a chunk gets that the API forgets.
        location_retries: How often a location is asked about again, if the answer left it or
            a source out, or a source failed for a passing reason.
        max_refusals_in_a_row: Submissions refused for what they hold, before the run stops.
        max_doubts_in_a_row: Likewise, submissions in doubt.
        max_failed_jobs_in_a_row: Likewise, jobs that failed.
        max_lost_chunks_in_a_row: Likewise, chunks charged for nothing, attempts and all.
        fetch_attempts: How often one output is fetched that arrives, but is the same useless
            thing each time, before its rows fail (about a minute).
        late_after_s: Of nothing but "unknown job" before it counts as forgotten, of "cancelled" and
            the like before it counts as failed, or of a complete job that shows no output
            before its rows fail: a part of the API may learn of it late. At most
            `give_up_after_s`.
        forgotten_after_s: The same where questions about other jobs are answered meanwhile.
        linger_s: When a durable run is stopped, how long an answer to a submission that is on
            its way is still waited for.
        give_up_after_s: Of nothing but failures for one request, before its chunk is given
            up, or the run if no other request of its kind succeeded either. For a refused
            access `late_after_s` counts.
        first_contact_s: Instead of that, while the API has never answered at all: then more likely
            the address is wrong.
        job_timeout_s: A job is given up that is at work and makes no progress for so long;
            None for never. Time in the API's queue does not count. Where the API shows no
            counts, it must be longer than a whole job. It keeps its job slot for a while.
        max_wait_s: A `Retry-After` above it is not waited for: the run stops.
    """

    base_delay_s: float = 0.5
    max_delay_s: float = 30.0
    in_doubt_retries: int = 3
    hold_in_doubt: bool = False
    job_attempts: int = 2
    forgotten_attempts: int = 3
    location_retries: int = 3
    max_refusals_in_a_row: int = 25
    max_doubts_in_a_row: int = 10
    max_failed_jobs_in_a_row: int = 10
    max_lost_chunks_in_a_row: int = 3
    fetch_attempts: int = 8
    late_after_s: float = 60.0
    forgotten_after_s: float = 10.0
    linger_s: float = 30.0
    give_up_after_s: float = 900.0
    max_wait_s: float = 600.0
    job_timeout_s: float | None = None
    first_contact_s: float = 60.0

    def __post_init__(self) -> None:
        for name in _ABOVE_ZERO:
            check_amount(name, getattr(self, name))
        for name in _FROM_ZERO:
            check_amount(name, getattr(self, name), may_be_zero=True)
        if self.job_timeout_s is not None:
            check_amount("job_timeout_s", self.job_timeout_s)
        for name in _AT_LEAST_ZERO:
            check_count(name, getattr(self, name), at_least=0)
        for name in _AT_LEAST_ONE:
            check_count(name, getattr(self, name))
        check_flag("hold_in_doubt", self.hold_in_doubt)

    @property
    def patience_s(self) -> float:
        """Of answers that cannot stay so, before they are believed."""
        return min(self.late_after_s, self.give_up_after_s)

    def delay_s(self, attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
        """Seconds to wait before the next attempt.

        Args:
            attempt: How often it has failed, from 1.
            retry_after_s: What the API asked for, which wins; None if nothing.
            rng: For jitter, so that many do not come back at once.
        """
        if retry_after_s:  # 0 names no time: our own choice then
            # Later, never earlier, than named.
            return retry_after_s + rng.uniform(0.0, min(1.0, 0.1 + 0.1 * retry_after_s))
        ceiling = min(self.max_delay_s, self.base_delay_s * 2.0 ** min(attempt - 1, 30))
        return ceiling * rng.uniform(0.5, 1.0)


class GiveUp(enum.Enum):
    """What has failed for too long."""

    NOTHING = enum.auto()
    CHUNK = enum.auto()  # this request, while others of its kind succeed
    RUN = enum.auto()  # every request of its kind


class Health:
    """What is known of how the API answers a run.

    Args:
        policy: How patient to be.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._last_success: dict[str, float] = {}
        self._failing: dict[str, _Failing] = {}
        self._refused: dict[str, _Failing] = {}
        self._has_answered = False

    def note_success(self, kind: str, now: float) -> None:
        """A request of this kind (submit, poll, fetch) succeeded."""
        self._has_answered = True
        self._last_success[kind] = now
        self._failing.pop(kind, None)
        self._refused.pop(kind, None)

    def note_answer(self) -> None:
        """The API answered, be it with an error: it is there."""
        self._has_answered = True

    @property
    def has_let_in(self) -> bool:
        """Whether a request has ever succeeded, so that the token was right then."""
        return bool(self._last_success)

    def answered_since(self, kind: str, since: float) -> bool:
        """Whether a request of this kind succeeded after that time."""
        return self._last_success.get(kind, -math.inf) > since

    def judge(
        self,
        kind: str,
        failing_since: float,
        retry_after_s: float | None,
        now: float,
        *,
        refused_since: float | None = None,
    ) -> GiveUp:
        """Take in that a request failed; says whether that has gone on for too long.

        Args:
            kind: submit, poll or fetch.
            failing_since: When it failed for the first time.
            retry_after_s: What the API asked for, if anything.
            now: The present time.
            refused_since: Since when access has been refused, in a row; None where it was not.
                Some firewalls refuse one request by mistake, and whoever checks tokens may be
                unwell; if it goes on for a minute, it is meant.
        """
        policy = self._policy
        patience_s = policy.give_up_after_s
        if not self._has_answered:
            patience_s = min(patience_s, policy.first_contact_s)
        if refused_since is None:
            self._refused.pop(kind, None)
            failing = self._failing.setdefault(kind, _Failing(now))
        else:
            # Whatever else failed before says nothing of it.
            patience_s, failing_since = min(patience_s, policy.late_after_s), refused_since
            failing = self._refused.setdefault(kind, _Failing(now))
        failing.go_on(now, retry_after_s or 0.0)
        if (retry_after_s or 0.0) > policy.max_wait_s or failing.seconds > patience_s:
            return GiveUp.RUN
        return GiveUp.NOTHING if now - failing_since <= patience_s else GiveUp.CHUNK


class _Failing:
    """For how long requests of one kind have failed, all of them."""

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self._last_at = now
        self._pause_s = 0.0

    def go_on(self, now: float, pause_s: float) -> None:
        # A longer gap than that is one in which nobody asked: a slow consumer holds up everything.
        self.seconds += min(now - self._last_at, self._pause_s + LONGEST_GAP_S)
        self._last_at, self._pause_s = now, pause_s


class JobLimitDetector:
    """Watches submissions that are refused by a 429.

    One says nothing of what it is that there is too much of. But where submissions are refused
    again after the pause that it named, and none was accepted in between, it is the jobs: a
    rate would have allowed the first requests after it, or refused other kinds as well.

    Attributes:
        closed_until: Until when the last 429 holds back all requests.
    """

    def __init__(self) -> None:
        self.closed_until = -math.inf
        self._is_refused = False

    def note_refused(self, kind: str, now: float) -> bool:
        """A request was refused; says whether it is because there are too many jobs."""
        if now < self.closed_until:  # it was on its way when the pause began
            return False
        if kind != "submit":  # the rate, then, or not only the jobs
            self._is_refused = False
            return False
        was_refused, self._is_refused = self._is_refused, True
        return was_refused

    def on_success(self, kind: str) -> None:
        """A request was answered well."""
        if kind == "submit":
            self._is_refused = False
