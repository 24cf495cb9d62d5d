"""What follows from a request: the answers of `requests.py` to the runner."""

from __future__ import annotations

from dataclasses import dataclass

from pingdata_async.bodies import OutputBody
from pingdata_async.bulk.checking import Checked
from pingdata_async.exceptions import (
    DecodeError,
    JobFailedError,
    JobTimeoutError,
    PingDataError,
    TransportError,
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The submission made this job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Again:
    """The same request once more, not before that time passed."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class HeldBack:
    """It was not sent, as there is a pause or the run ends: the same request after that time."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No job can be asked about, or no output fetched, for longer than is waited for."""

    error: PingDataError


@dataclass(frozen=True, slots=True)
class Rejected:
    """The submission was refused for what it holds."""

    error: PingDataError


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The submission may have made a job.

    Attributes:
        error: Why.
        is_pause_too_long: Whether the API asked for a pause that is not waited for, besides.
        has_lasted: Whether submissions have failed for as long as anything is tried.
    """

    error: PingDataError
    is_pause_too_long: bool = False
    has_lasted: bool = False

    @property
    def is_page(self) -> bool:
        """Whether something else has answered in the API's place."""
        return isinstance(self.error, DecodeError) and self.error.is_page

    @property
    def is_garbled(self) -> bool:
        """Whether an answer came, but with a head that is no HTTP."""
        return isinstance(self.error, TransportError) and self.error.is_garbled


@dataclass(frozen=True, slots=True)
class Fatal:
    """No further submission can succeed.

    Attributes:
        error: Why.
        is_for_all: Whether no other request is to be sent for too long either.
    """

    error: PingDataError
    is_for_all: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done, and names its outputs."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The job will never give an answer.

    Attributes:
        error: Why.
        is_forgotten: Whether the API merely does not know it any more.
        has_timed_out: Whether we gave it up, as it made no progress.
    """

    error: str
    is_forgotten: bool
    has_timed_out: bool = False

    def as_error(self, job_id: str) -> JobFailedError:
        """The same as an error."""
        kind = JobTimeoutError if self.has_timed_out else JobFailedError
        return kind(self.error, job_id=job_id)


@dataclass(frozen=True, slots=True)
class Kept:
    """The job is paid for, and its answer cannot be had now: another run may have it.

    Attributes:
        error: Why not.
    """

    error: PingDataError


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The job is complete and paid for, and its output would be as useless another time.

    Attributes:
        error: Why, with the job's id.
        bodies: What came; nothing where it is too large, or there is none.
    """

    error: str
    bodies: list[OutputBody]


@dataclass(frozen=True, slots=True)
class Fetched:
    """The job's output is here, as it came."""

    bodies: list[OutputBody]

    @property
    def likely_bytes(self) -> int:
        """About how much is in it."""
        return sum(body.likely_bytes for body in self.bodies)


@dataclass(frozen=True, slots=True)
class Answered:
    """The output was checked."""

    checked: Checked
