"""RetryPolicy and CircuitBreaker: what is retried, when, and when a run stops (pure).

An error becomes a verdict: `judge_submission()` for a POST, which may have made a paid job, and
`judge_read()` for a GET, which costs nothing. `Health` tells how long requests of a kind have
failed, and `JobLimitDetector` whether 429s are about the number of jobs instead of the rate.

A refusal can be the fault of one row, which splitting finds. But if the request itself is wrong, or
the API refuses everything, splitting would only send thousands of requests, and each failing job
costs money. So the circuit breaker counts failures in a row, with no success in between. After a
few it is half-open: submissions are sent one at a time, until one passes or the run stops.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass, fields

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
from pingdata_async.models import RequestKind
from pingdata_async.util.validation import check_amount, check_count, check_flag

SERVICE_UNAVAILABLE = 503
LONGEST_GAP_S = 60.0  # between two requests of a kind that fails, besides the pauses named


class Verdict(enum.Enum):
    """What a failed request means."""

    RETRY = enum.auto()  # nothing happened: send it later
    IN_DOUBT = enum.auto()  # a paid job may have been made
    REJECTED = enum.auto()  # the same request would be refused each time
    UNKNOWN_JOB = enum.auto()  # the API does not know the job
    NO_ACCESS = enum.auto()  # final if access was never granted; else perhaps temporary
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


def judge_read(error: PingDataError) -> Verdict:
    """What an error after a GET means: repeating it costs nothing, dropping a paid job does.

    Only the API's own answer makes a job unknown; an output that cannot be fetched does not.
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
    """Whether an overloaded API would answer like this: 5xx, or not at all."""
    return isinstance(error, ServerError | TransportError)


def refuses_access(error: PingDataError) -> bool:
    """Whether it refuses access; believed only if that goes on for a minute."""
    return isinstance(error, AuthenticationError | AccessDeniedError | UnexpectedRedirectError)


def retry_after_s(error: PingDataError) -> float | None:
    """Seconds that the answer asked to wait; None if it named none."""
    return error.retry_after_s if isinstance(error, APIStatusError) else None


def closes_its_kind(error: PingDataError) -> bool:
    """Whether to send no request of this kind for a while.

    A 503 says so, and so does any other server error that names a time to come back.
    """
    if not isinstance(error, ServerError):
        return False
    return error.status_code == SERVICE_UNAVAILABLE or bool(error.retry_after_s)


_MAY_BE_ZERO = frozenset(
    {"in_doubt_retries", "location_retries", "late_after_s", "forgotten_after_s", "linger_s"}
)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and for how long requests, jobs and rows are tried.

    Attributes:
        base_delay_s: The wait before the first retry; it doubles with each further one.
        max_delay_s: The longest wait, unless the API names a longer one.
        in_doubt_retries: How often a chunk is resubmitted after submissions in doubt.
        hold_in_doubt: Hold a chunk in doubt for the user to decide, instead of resubmitting it.
        job_attempts: Failed jobs of a chunk before it is split.
        forgotten_attempts: Jobs of a chunk that the API may forget before its rows fail.
        location_retries: How often a location is retried if its result is missing or a source
            failed temporarily.
        max_refusals_in_a_row: Submissions refused for their content before the run stops.
        max_doubts_in_a_row: Submissions in doubt before the run stops.
        max_failed_jobs_in_a_row: Failed jobs before the run stops.
        max_lost_chunks_in_a_row: Chunks that were charged and used up their attempts before the run
            stops.
        fetch_attempts: How often an output is fetched that is the same unreadable bytes each time,
            before its rows fail (about a minute).
        late_after_s: Grace period for contradictory answers: after this long, an unknown job counts
            as forgotten, a cancelled or otherwise ended job as failed, and a complete job without
            output fails its rows. At most `give_up_after_s`.
        forgotten_after_s: The same for an unknown job while polls of other jobs are answered.
        linger_s: Grace period: how long a stopped durable run waits for the responses to
            submissions under way.
        give_up_after_s: How long a request may fail before its chunk is given up, or the run if no
            other request of its kind succeeds. For refused access, `late_after_s` counts.
        first_contact_s: The same while the API has never answered: the address is probably wrong.
        job_timeout_s: Abandon a running job after this long without progress (queue time
            excluded); None for never. If the API reports no counts, the whole running time counts.
            The job keeps its slot for a while.
        max_wait_s: The longest `Retry-After` to wait for; the run stops at a longer one.
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
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            may_be_zero = name in _MAY_BE_ZERO
            if isinstance(field.default, bool):
                check_flag(name, value)
            elif isinstance(field.default, int):
                check_count(name, value, at_least=0 if may_be_zero else 1)
            elif value is not None or field.default is not None:
                check_amount(name, value, may_be_zero=may_be_zero)

    @property
    def patience_s(self) -> float:
        """The grace period for contradictory answers, in seconds."""
        return min(self.late_after_s, self.give_up_after_s)

    def delay_s(self, attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
        """Seconds to wait before the next attempt.

        Args:
            attempt: How often it has failed, from 1.
            retry_after_s: What the API asked for; it takes precedence. None if it did not.
            rng: The source of jitter, so that not all come back at once.
        """
        if retry_after_s:  # (0 names no time.) Later than named, never earlier.
            return retry_after_s + rng.uniform(0.0, min(1.0, 0.1 + 0.1 * retry_after_s))
        ceiling = min(self.max_delay_s, self.base_delay_s * 2.0 ** min(attempt - 1, 30))
        return ceiling * rng.uniform(0.5, 1.0)


class GiveUp(enum.Enum):
    """What has failed for too long."""

    NOTHING = enum.auto()
    CHUNK = enum.auto()  # this request, while others of its kind succeed
    RUN = enum.auto()  # every request of its kind


class Health:
    """How the API has answered the requests of a run, by kind."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._last_success: dict[RequestKind, float] = {}
        self._failing: dict[RequestKind, _Failing] = {}
        self._refused: dict[RequestKind, _Failing] = {}
        self._has_answered = False

    def note_success(self, kind: RequestKind, now: float) -> None:
        """A request of this kind succeeded."""
        self._has_answered = True
        self._last_success[kind] = now
        self._failing.pop(kind, None)
        self._refused.pop(kind, None)

    def note_answer(self) -> None:
        """The API answered, even if with an error: it is there."""
        self._has_answered = True

    @property
    def has_let_in(self) -> bool:
        """Whether a request has ever succeeded, so the token was right then."""
        return bool(self._last_success)

    def answered_since(self, kind: RequestKind, since: float) -> bool:
        """Whether a request of this kind succeeded after that time."""
        return self._last_success.get(kind, -math.inf) > since

    def judge(
        self,
        kind: RequestKind,
        failing_since: float,
        retry_after_s: float | None,
        now: float,
        *,
        refused_since: float | None = None,
    ) -> GiveUp:
        """Take in a failed request, and say whether failures have gone on for too long.

        Args:
            kind: The kind of the request.
            failing_since: When it failed for the first time.
            retry_after_s: What the API asked for, if anything.
            now: The present time.
            refused_since: Since when access has been refused without a break; None if it was not.
                Firewalls may refuse a request by mistake, and a token service may be ill; a
                refusal that goes on for a minute is meant.
        """
        if refused_since is None:
            self._refused.pop(kind, None)
            failing = self._failing.setdefault(kind, _Failing(now))
        else:
            # Earlier failures of other kinds say nothing of access.
            failing_since = refused_since
            failing = self._refused.setdefault(kind, _Failing(now))
        failing.go_on(now, retry_after_s or 0.0)
        patience_s = self._patience_s(is_refused=refused_since is not None)
        if (retry_after_s or 0.0) > self._policy.max_wait_s or failing.seconds > patience_s:
            return GiveUp.RUN
        return GiveUp.NOTHING if now - failing_since <= patience_s else GiveUp.CHUNK

    def gives_up_in_s(self, kind: RequestKind) -> float | None:
        """Seconds until the run stops if no request of a kind succeeds; None: none has failed."""
        failing = self._refused.get(kind) or self._failing.get(kind)
        if failing is None:
            return None
        return max(0.0, self._patience_s(is_refused=kind in self._refused) - failing.seconds)

    def _patience_s(self, *, is_refused: bool) -> float:
        policy = self._policy
        patience_s = policy.late_after_s if is_refused else policy.give_up_after_s
        if not self._has_answered:
            patience_s = min(patience_s, policy.first_contact_s)
        return min(patience_s, policy.give_up_after_s)


class _Failing:
    """For how long all requests of one kind have failed."""

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self._last_at = now
        self._pause_s = 0.0

    def go_on(self, now: float, pause_s: float) -> None:
        # In a longer gap nothing was sent: a slow consumer holds up everything.
        self.seconds += min(now - self._last_at, self._pause_s + LONGEST_GAP_S)
        self._last_at, self._pause_s = now, pause_s


class JobLimitDetector:
    """Finds out whether 429s to submissions are about the number of jobs.

    One 429 does not say what there is too much of. But if submissions are refused anew after the
    pause that it named, and none was accepted in between, it is the jobs: a limit on the rate
    would have allowed the first requests after the pause, or refused other kinds as well.

    Attributes:
        closed_until: Until when the last 429 holds back all requests.
    """

    def __init__(self) -> None:
        self.closed_until = -math.inf
        self._is_refused = False

    def note_refused(self, kind: RequestKind, now: float) -> bool:
        """A request was answered 429; returns whether there are too many jobs."""
        if now < self.closed_until:  # it was on its way when the pause began
            return False
        if kind != RequestKind.SUBMIT:  # the rate, then, or not only the jobs
            self._is_refused = False
            return False
        was_refused, self._is_refused = self._is_refused, True
        return was_refused

    def on_success(self, kind: RequestKind) -> None:
        """A request was answered well."""
        if kind == RequestKind.SUBMIT:
            self._is_refused = False


@dataclass(slots=True, eq=False)
class Bisection:
    """The search for the rows at fault among the parts of one refused chunk."""

    has_passed: bool = False  # a part was accepted, so the API alone cannot be at fault


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

    Attributes:
        doubts_in_a_row: Submissions in doubt since the last one that was accepted.
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
        self._refusals = self._unexplained = self._failed_jobs = self._lost_chunks = 0
        self.doubts_in_a_row = self._pages = self._garbled = 0

    def note_accepted(self) -> None:
        """A job was accepted."""
        self.any_accepted = True
        self._refusals = self._unexplained = 0
        self.doubts_in_a_row = self._pages = self._garbled = 0

    def on_success(self) -> None:
        """A job's output was usable."""
        self.any_answered = True
        self._failed_jobs = self._lost_chunks = 0

    def note_refused(self, bisection: Bisection | None = None) -> bool:
        """A submission was refused for its content; returns whether to stop.

        Refusals within a bisection that has passed something count for less, as there may be many
        bad rows side by side. Rows from elsewhere are tried meanwhile, if there are any; if there
        are none, this ends too.
        """
        self._refusals += 1
        if bisection is None or not bisection.has_passed:
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
        self.doubts_in_a_row += 1
        self._pages += is_page
        self._garbled += is_garbled
        return (
            self.doubts_in_a_row >= self._policy.max_doubts_in_a_row
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
    def is_half_open(self) -> bool:
        """Whether submissions are to be sent one at a time."""
        failures = max(self._refusals, self.doubts_in_a_row)
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
    return error.reworded(
        "one submission after the other is refused, so the request or the API seems to be at "
        f"fault; no more are sent, and no row is marked as failed: {error}"
    )
