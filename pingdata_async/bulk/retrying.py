"""May this be tried again, and when; what is in doubt (pure)."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

from pingdata_async.exceptions import (
    AccessDeniedError,
    AuthenticationError,
    ClientClosedError,
    DecodeError,
    NotFoundError,
    PingDataError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    TransportError,
    UnexpectedRedirectError,
)

SERVICE_UNAVAILABLE = 503


class Verdict(enum.Enum):
    """What a failed request means."""

    RETRY = enum.auto()  # nothing happened: send it again later
    IN_DOUBT = enum.auto()  # a paid job may have been made
    REJECTED = enum.auto()  # the same again would be refused again
    UNKNOWN_JOB = enum.auto()  # the API does not know the job, or its output
    STOP = enum.auto()  # no request of this run can succeed


_STOPS = (AuthenticationError, AccessDeniedError, UnexpectedRedirectError, ClientClosedError)


def judge_submission(error: PingDataError) -> Verdict:
    """What an error after a POST means.

    429 and 503 say that nothing was accepted. Every other 5xx can come from a proxy that lost
    the answer of an API that had accepted; so can a success that holds no job id.
    """
    if isinstance(error, (*_STOPS, NotFoundError)):
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
    return Verdict.REJECTED if isinstance(error, RequestRejectedError) else Verdict.STOP


def judge_question(error: PingDataError) -> Verdict:
    """What an error after a GET means: asking again costs nothing."""
    if isinstance(error, NotFoundError):
        return Verdict.UNKNOWN_JOB
    if isinstance(error, _STOPS):
        return Verdict.STOP
    if isinstance(error, TransportError | RateLimitError | ServerError | DecodeError):
        return Verdict.RETRY
    return Verdict.STOP


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and how long things are tried.

    Attributes:
        base_delay_s: Before the first retry; each further one waits twice as long.
        max_delay_s: The longest wait of our own choosing.
        in_doubt_attempts: How often a chunk is sent again after submissions in doubt.
        job_attempts: How many jobs a chunk gets, if jobs fail or are forgotten.
        fetch_attempts: How often one output is fetched that arrives, but broken, before its
            job counts as failed (about a minute).
        unknown_attempts: Answers "unknown job" in a row before a job counts as forgotten: a
            replica of the API may learn of it late.
        give_up_after_s: Of nothing but failures for one request, before the run stops. A
            `Retry-After` above it stops the run at once.
        first_contact_s: The same while the API has never answered at all: then more likely
            the address is wrong.
    """

    base_delay_s: float = 0.5
    max_delay_s: float = 30.0
    in_doubt_attempts: int = 3
    job_attempts: int = 3
    fetch_attempts: int = 8
    unknown_attempts: int = 3
    give_up_after_s: float = 900.0
    first_contact_s: float = 60.0

    def delay_s(self, attempt: int, retry_after_s: float | None, rng: random.Random) -> float:
        """Seconds to wait before the next attempt.

        Args:
            attempt: How often it has failed, from 1.
            retry_after_s: What the API asked for, which wins; None if nothing.
            rng: For jitter, so that many do not come back at once.
        """
        if retry_after_s is not None:
            # Later, never earlier, than named.
            return retry_after_s + rng.uniform(0.0, min(1.0, 0.1 + 0.1 * retry_after_s))
        ceiling = min(self.max_delay_s, self.base_delay_s * 2.0 ** min(attempt - 1, 30))
        return ceiling * rng.uniform(0.5, 1.0)
