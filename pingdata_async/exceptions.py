"""Every error this package raises on purpose.

PingDataError
├── ConfigurationError          an option that cannot work (also a ValueError)
├── MissingTokenError           no auth token in any of the usual places
├── InputError                  a file or a location that cannot be used (also a ValueError)
├── ClientClosedError           the client is not open, or was closed during a call
├── TransportError              no usable answer arrived
│   └── UnexpectedRedirectError     an API call was redirected; calls with a token never follow
├── APIStatusError              the API answered, with an error status
│   ├── AuthenticationError         401
│   ├── AccessDeniedError           402, 403
│   │   └── QuotaExceededError          402, 403 that name a spent quota or credit; 429, a
│   │                                   daily or monthly one
│   ├── NotFoundError               404, 410
│   │   └── OutputUnavailableError       no way leads to an output of a job
│   ├── RequestRejectedError        400, 413, 422 and every other 4xx
│   │   └── UnknownSourceError           one of these that names a source it does not know
│   ├── RateLimitError              429
│   └── ServerError                 5xx
├── PauseTooLongError           the API asked for a longer pause than is waited for
├── DecodeError                 an answer that is not what the API gives
├── JobFailedError              a job ended without an output
├── JobTimeoutError             a job made no progress for too long
├── SubmissionInDoubtError      a POST may have made a paid job whose id we do not have
└── RunError                    a run of files cannot go on
    ├── BudgetSpentError            all that it may spend is spent
    └── LimitsExceededError         the account's limits are known to be too low for it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pingdata_async.util.redaction import masked

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence

    from pingdata_async.models import EnhancedLocation, JobStatus, RunSummary


class PingDataError(Exception):
    """The root of all errors of this package.

    Attributes:
        results: What had already been answered, in input order, when this error ended an
            in-memory `enhance()`; empty otherwise. Those locations were paid for.
        summary: What that had done, and what it took; None otherwise.
    """

    results: Sequence[EnhancedLocation] = ()
    summary: RunSummary | None = None

    def __init__(self, *args: object) -> None:
        # They quote servers, proxies and libraries, and are shown, logged and written down.
        super().__init__(*(masked(arg) if isinstance(arg, str) else arg for arg in args))

    def __reduce__(self) -> tuple[Callable[..., PingDataError], tuple[object, ...]]:
        # Errors cross process borders, and most take arguments by name.
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
    """Raised when an input cannot be used, before anything of it is sent."""


class ClientClosedError(PingDataError):
    """Raised by a call to a client that is not open, or is closed while the call waits."""


class TransportError(PingDataError):
    """Raised when no usable answer arrived: connection, TLS, proxy, time-out, cut body.

    Attributes:
        maybe_sent: Whether the request may have reached the API. False only where it
            surely did not (refused connection, DNS, TLS or proxy failure).
        is_garbled: Whether an answer came all the same, but one with a head that is no HTTP.
    """

    def __init__(self, message: str, *, maybe_sent: bool, is_garbled: bool = False) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent
        self.is_garbled = is_garbled


class UnexpectedRedirectError(TransportError):
    """Raised when an API call is answered with a redirect, which is never followed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, maybe_sent=False)


class APIStatusError(PingDataError):
    """Raised when the API answers with an error status.

    Attributes:
        status_code: The HTTP status.
        api_message: What the API (or a proxy before it) said, shortened; "" if nothing.
        retry_after_s: Seconds the answer asked to wait (`Retry-After`), None if it did not.
        available_at: When the API will take requests again, by its own clock if it shows it;
            None if that cannot be told.
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
        self.api_message = masked(api_message)
        self.retry_after_s = retry_after_s
        self.available_at = available_at


class AuthenticationError(APIStatusError):
    """Raised on 401: the token is missing, wrong, expired, or belongs to another host."""


class AccessDeniedError(APIStatusError):
    """Raised on 402 and 403: the account may not do this."""


class QuotaExceededError(AccessDeniedError):
    """Raised on a 402 or 403 whose message names a spent quota, limit or credit.

    Also on a 429 that names a daily or monthly one: that is no request to slow down.
    """


class NotFoundError(APIStatusError):
    """Raised on 404 and 410: the API does not know the job, output or path (any more)."""


class OutputUnavailableError(NotFoundError):
    """Raised when no way leads to an output of a job: its url, a fresh one, the API's own paths.

    That says nothing of the job: what the API calls complete is paid for, and its output may
    be had another time. Its `status_code` is that of the first refusal; 404 where none had any.

    Attributes:
        job_status: What the API said of the job when it was asked for a fresh url; None where it
            did not say anything.
        is_job_unknown: Whether it said that it does not know the job (any more).
    """

    job_status: JobStatus | None = None
    is_job_unknown: bool = False


class RequestRejectedError(APIStatusError):
    """Raised on 400, 413, 422 and other 4xx: sending the same again would not help."""


class UnknownSourceError(RequestRejectedError):
    """Raised when the API refuses a request because it does not know a source in it."""


class RateLimitError(APIStatusError):
    """Raised on 429: the API asks to slow down; nothing was accepted."""


class ServerError(APIStatusError):
    """Raised on 5xx. After a POST, all but 503 leave in doubt whether a job was made."""


class PauseTooLongError(PingDataError):
    """Raised when the API asked, of another run too, for a pause too long to be waited for."""


class DecodeError(PingDataError):
    """Raised when an answer cannot be read as what the API documents.

    Attributes:
        is_page: Whether it is HTML or XML: something else has answered in the API's place.
        is_too_large: Whether it is larger than what is taken, so that it was not read at all.
    """

    def __init__(
        self, message: str = "", *, is_page: bool = False, is_too_large: bool = False
    ) -> None:
        super().__init__(message)
        self.is_page = is_page
        self.is_too_large = is_too_large


class JobFailedError(PingDataError):
    """Raised when a job ended without a usable output.

    Attributes:
        job_id: The API's id of the job.
    """

    def __init__(self, message: str, *, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobTimeoutError(JobFailedError):
    """Raised when a job made no progress for longer than it was given."""


class SubmissionInDoubtError(PingDataError):
    """Raised when a POST may have made a paid job, but its id never arrived."""


class RunError(PingDataError):
    """Raised when a run of files cannot begin or go on (disk, directory, bookkeeping).

    Attributes:
        needs: The options without which `resume` would stop at once again; "" where that is not
            known, or there are none.
    """

    needs: str = ""


class BudgetSpentError(RunError):
    """Raised when a run may send no more within its budget; what it paid for was brought home.

    With what it `needs`, `resume` sends all that is left.
    """


class LimitsExceededError(RunError):
    """Raised before anything is sent, as the account's limits would not let it all through."""
