"""The errors of this package.

PingDataError
├── ConfigurationError          an option that cannot work (also a ValueError)
├── MissingTokenError           no auth token in any of the usual places
├── InputError                  a file or a location that cannot be used (also a ValueError)
├── ClientClosedError           the client is not open, or was closed during a call
├── TransportError              no usable answer arrived
│   └── UnexpectedRedirectError     an API call was redirected, which is never followed
├── APIStatusError              the API answered, with an error status
│   ├── AuthenticationError         401
│   ├── AccessDeniedError           402, 403
│   │   └── QuotaExceededError          402, 403 that name a spent quota or credit; 429 that
│   │                                   names a daily or monthly quota
│   ├── NotFoundError               404, 410
│   │   └── OutputUnavailableError      no url gives the output of a job
│   ├── RequestRejectedError        400, 413, 422 and every other 4xx
│   │   └── UnknownSourceError          the API does not know a source in the request
│   ├── RateLimitError              429
│   └── ServerError                 5xx
├── PauseTooLongError           the API asked for a longer pause than `max_wait_s`
├── DecodeError                 an answer cannot be read as what the API documents
├── NoAnswerError               a source did not answer for a row (also a KeyError)
├── CallTimeoutError            a call took longer than its `timeout_s` (also a TimeoutError)
├── JobFailedError              a job ended without a usable output
│   └── JobTimeoutError             a job made no progress for too long
├── SubmissionInDoubtError      a submission may have created a paid job whose id never arrived
└── RunError                    a run cannot start or continue
    ├── BudgetSpentError            the budget is spent
    └── LimitsExceededError         the account's limits are too low for what is to be sent
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pingdata_async.util.redaction import masked

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence

    from pingdata_async.models import EnhancedLocation, JobStatus, RunSummary


class PingDataError(Exception):
    """The root of all errors of this package.

    Attributes:
        results: The results that `BulkEnhancer.enhance()` had, in input order, when this error
            ended it: those locations are paid for. Empty otherwise.
        summary: What that call, or a run, did and charged until this error ended it; None
            otherwise.
        run_dir: The run directory, where a run stopped that can be resumed; None otherwise.
    """

    results: Sequence[EnhancedLocation] = ()
    summary: RunSummary | None = None
    run_dir: str | None = None

    def __init__(self, *args: object) -> None:
        # Messages quote servers, proxies and libraries, and are shown, logged and stored.
        super().__init__(*(masked(arg) if isinstance(arg, str) else arg for arg in args))

    def __reduce__(self) -> tuple[Callable[..., PingDataError], tuple[object, ...]]:
        # Errors are pickled between processes, and most take arguments by name.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(
    kind: type[PingDataError], args: tuple[object, ...], attributes: dict[str, object]
) -> PingDataError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ConfigurationError(PingDataError, ValueError):
    """Raised when a setting cannot work, before anything is sent."""


class MissingTokenError(PingDataError):
    """Raised when no auth token is found; the message lists every place looked in."""


class InputError(PingDataError, ValueError):
    """Raised when a file or a location cannot be used, before any of it is sent."""


class ClientClosedError(PingDataError):
    """Raised by a call to a client that is not open, or is closed during the call."""


class TransportError(PingDataError):
    """Raised when no usable answer arrived: connection, TLS, proxy, time-out, truncated body.

    Attributes:
        maybe_sent: Whether the request may have reached the API. False only if it surely did not
            (refused connection, DNS, TLS or proxy failure).
        is_garbled: Whether an answer arrived whose head is not HTTP.
    """

    def __init__(self, message: str, *, maybe_sent: bool, is_garbled: bool = False) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent
        self.is_garbled = is_garbled


class UnexpectedRedirectError(TransportError):
    """Raised when the API answers a call with a redirect, which is never followed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, maybe_sent=False)


class APIStatusError(PingDataError):
    """Raised when the API answers with an error status.

    Attributes:
        status_code: The HTTP status.
        api_message: What the API, or a proxy in front of it, said, shortened; "" for nothing.
        retry_after_s: The `Retry-After` of the answer in seconds; None if there is none.
        available_at: When the API will take requests again, by its own clock if it shows that;
            None if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        api_message: str = "",
        retry_after_s: float | None = None,
        available_at: dt.datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.api_message: str = masked(api_message)
        self.retry_after_s = retry_after_s
        self.available_at = available_at

    def reworded(self, message: str) -> Self:
        """The same error with another message."""
        return type(self)(
            message,
            status_code=self.status_code,
            api_message=self.api_message,
            retry_after_s=self.retry_after_s,
            available_at=self.available_at,
        )


class AuthenticationError(APIStatusError):
    """Raised on 401: the token is missing, wrong, expired, or belongs to another host."""


class AccessDeniedError(APIStatusError):
    """Raised on 402 and 403: the account may not do this."""


class QuotaExceededError(AccessDeniedError):
    """Raised on a 402 or 403 whose message names a spent quota, limit or credit.

    Also on a 429 that names a daily or monthly quota: slowing down would not help.
    """


class NotFoundError(APIStatusError):
    """Raised on 404 and 410: the API does not know the job, output or path (any more)."""


class OutputUnavailableError(NotFoundError):
    """Raised when no url gives the output of a job: not its own, a fresh one, or a documented path.

    The job may be fine: what the API calls complete is paid for, and its output may be there
    later. `status_code` is that of the first refusal; 404 if none had a status.

    Attributes:
        job_status: What the API said of the job when it was polled for a fresh url; None if
            nothing.
        is_job_unknown: Whether it said that it does not know the job.
    """

    job_status: JobStatus | None = None
    is_job_unknown: bool = False


class RequestRejectedError(APIStatusError):
    """Raised on 400, 413, 422 and other 4xx: the same request would be refused again."""


class UnknownSourceError(RequestRejectedError):
    """Raised when the API refuses a request that names a source it does not know."""


class RateLimitError(APIStatusError):
    """Raised on 429: the API asks to slow down; nothing was accepted."""


class ServerError(APIStatusError):
    """Raised on 5xx. After a submission, all but 503 leave in doubt whether there is a job."""


class PauseTooLongError(PingDataError):
    """Raised when the API asked for a longer pause than `max_wait_s`, perhaps in another run."""


class DecodeError(PingDataError):
    """Raised when an answer cannot be read as what the API documents.

    Attributes:
        is_page: Whether it is HTML or XML, so something else answered in the API's place.
        is_too_large: Whether it was not read, because it is larger than the limit.
    """

    def __init__(
        self, message: str = "", *, is_page: bool = False, is_too_large: bool = False
    ) -> None:
        super().__init__(message)
        self.is_page = is_page
        self.is_too_large = is_too_large


class NoAnswerError(PingDataError, KeyError):
    """Raised by `result["PG"]` when that source did not answer for the row; it says why."""

    def __str__(self) -> str:  # a KeyError's is the repr of a key
        return str(self.args[0])


class CallTimeoutError(PingDataError, TimeoutError):
    """Raised when a call took longer than its `timeout_s`.

    What was answered by then is in its `results`, or kept in its `run_dir`; `summary` names the
    jobs that were still running.
    """


class JobFailedError(PingDataError):
    """Raised when a job ended without a usable output.

    Attributes:
        job_id: The API's id of the job.
    """

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobTimeoutError(JobFailedError):
    """Raised when a job made no progress for longer than `job_timeout_s`."""


class SubmissionInDoubtError(PingDataError):
    """Raised when a submission may have created a paid job whose id never arrived."""


class RunError(PingDataError):
    """Raised when a run cannot start or continue: disk, run directory, journal.

    Attributes:
        needs: Command-line options that `resume` needs to get past this error, such as
            `--output=...`; "" if it needs none, or that is unknown.
    """

    needs: str = ""


class BudgetSpentError(RunError):
    """Raised when the budget is spent and rows are left; the answers paid for have been fetched.

    With the options in `needs`, `resume` sends the rest.
    """


class LimitsExceededError(RunError):
    """Raised before anything is sent, because it would exceed the account's limits."""
