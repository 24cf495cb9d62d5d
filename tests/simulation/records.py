"""What a simulated API keeps of what was asked of it, for benches and for checks."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator

import anyio

from pingdata_async.exceptions import APIStatusError, PingDataError, RateLimitError, ServerError
from tests.simulation.faults import Moment
from tests.simulation.queueing import SimulatedJob


@dataclasses.dataclass(slots=True)
class RequestRecord:
    """A request.

    Attributes:
        moment: Its kind.
        about: The job's id; "" for a submission.
        sent_at: When the client sent it.
        answered_at: When the client had its answer; infinite if it has none.
        outcome: "ok", a status code, or an error's name; "" while there is none.
        counts_as_refused: Whether it was answered 429 or 503.
    """

    moment: Moment
    about: str
    sent_at: float
    answered_at: float = math.inf
    outcome: str = ""

    @property
    def counts_as_refused(self) -> bool:
        return self.outcome in {"429", "503"}


@dataclasses.dataclass(frozen=True, slots=True)
class Breach:
    """A request sent before the time that the client had been told by then.

    Attributes:
        moment: Its kind.
        sent_at: When it was sent.
        until: The time that was named.
        status_code: Of the answer that named it.
        told_at: When that answer was delivered.
    """

    moment: Moment
    sent_at: float
    until: float
    status_code: int
    told_at: float


@dataclasses.dataclass(slots=True)
class JobRecord:
    """A job as the client saw it; how it went is in `job`.

    Attributes:
        job: The job itself.
        seen_at: When the client was first told that it has ended; infinite if it was not.
        polls: Requests about its state that were sent.
        fetches: Requests for its outputs that were sent.
    """

    job: SimulatedJob
    seen_at: float = math.inf
    polls: int = 0
    fetches: int = 0

    @property
    def lag_s(self) -> float:
        """The time between done and seen."""
        return self.seen_at - self.job.ends_at


class Records:
    """Everything that was asked, with its time. Grows with the run.

    Attributes:
        jobs: By id, every job accepted.
        requests: Every request, in the order in which they were sent.
        breaches: Requests that were sent too early.
        refused: Requests answered 429 or 503, by kind.
        watchers: Told of each request that is sent.

    Args:
        has_storage: Whether the outputs are elsewhere: what is said there holds for there alone.
    """

    def __init__(self, *, has_storage: bool = False) -> None:
        self._has_storage = has_storage
        self.jobs: dict[str, JobRecord] = {}
        self.requests: list[RequestRecord] = []
        self.breaches: list[Breach] = []
        self.refused: Counter[Moment] = Counter()
        self.watchers: list[Callable[[RequestRecord], None]] = []
        self._holds: dict[Moment, tuple[float, int, float]] = {}

    @property
    def refused_share(self) -> float:
        """The share of requests answered 429 or 503."""
        return self.refused.total() / max(1, len(self.requests))

    def new_client(self) -> None:
        """Another process asks now: it was told nothing yet."""
        self._holds.clear()

    @contextlib.contextmanager
    def request(self, moment: Moment, about: str = "") -> Iterator[RequestRecord]:
        """A request, from when it is sent until the client has its answer."""
        record = RequestRecord(moment, about, anyio.current_time())
        self._check_hold(record)
        self.requests.append(record)
        if about in self.jobs:
            self.jobs[about].polls += moment is Moment.POLL
            self.jobs[about].fetches += moment is Moment.FETCH
        for watch in self.watchers:
            watch(record)
        try:
            yield record
        except PingDataError as error:
            record.answered_at = anyio.current_time()
            record.outcome = type(error).__name__
            if isinstance(error, APIStatusError):
                record.outcome = str(error.status_code)
                self.refused[moment] += record.counts_as_refused
                self._hold(moment, error, record.answered_at)
            raise
        else:
            record.answered_at = anyio.current_time()
            record.outcome = "ok"

    def _hold(self, moment: Moment, error: APIStatusError, now: float) -> None:
        if not error.retry_after_s:
            return
        moments: tuple[Moment, ...] = ()
        if isinstance(error, RateLimitError):
            moments = self._under_one_limit_with(moment)
        elif isinstance(error, ServerError):
            moments = (moment,)
        until = now + error.retry_after_s
        for each in moments:
            if until > self._holds.get(each, (0.0,))[0]:
                self._holds[each] = (until, error.status_code, now)

    def _under_one_limit_with(self, moment: Moment) -> tuple[Moment, ...]:
        if not self._has_storage:
            return tuple(Moment)
        is_storage = moment is Moment.FETCH
        return tuple(each for each in Moment if (each is Moment.FETCH) is is_storage)

    def _check_hold(self, record: RequestRecord) -> None:
        until, status_code, told_at = self._holds.get(record.moment, (-math.inf, 0, 0.0))
        if record.sent_at < until - 1e-6:  # what sleeping until then may be off by
            breach = Breach(record.moment, record.sent_at, until, status_code, told_at)
            self.breaches.append(breach)
