"""The dice that decide, case by case, which fault of a plan happens.

A fault belongs to one of these moments, each with its own method of :class:`FaultDice`, and a
new fault is a new member of that moment's enum:

* a request arrives (:class:`RequestFault`): nothing has been accepted yet;
* a submission has been read (:class:`SubmissionFault`): it is refused;
* a job is accepted (:class:`JobFate`): how it will end; and of each of its locations and their
  sources (:class:`SourceFault`), how they will do;
* its acceptance is answered (:class:`AnswerFault`): the job is made, but nobody is told;
* an output is downloaded (:class:`OutputFault`): what becomes of the body.
"""

import enum
import random
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from pingdata_async.sandbox.faults import FaultPlan

T = TypeVar("T")

_ODD_FILENAMES: Final = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    "..\\..\\windows\\win.ini",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "out\x00put\n.json",
    "x" * 5000,
)
# Of the locations that get lost, the share that only this download lacks.
_LOST_ON_THE_WAY: Final = 0.25


class Fault(enum.Enum):
    """A fault of some moment; variants of one have a colon and more after its name."""

    @property
    def plan_name(self) -> str:
        """What the plan and the statistics call it."""
        return str(self.value).partition(":")[0]


class RequestFault(Fault):
    """What can happen to a request before it is looked at."""

    DROP = "drop"
    """The connection is closed without an answer."""
    HTML_ERROR = "html_error"
    """A proxy's HTML page instead of the API's answer."""
    SERVER_ERROR = "server_error"
    """A 5xx of the API itself."""
    RATE_LIMIT = "rate_limit"
    """429."""


class SubmissionFault(Fault):
    """Why a sound submission is refused."""

    TOO_MANY = "max_locations"
    """413 or 400."""
    POISON = "poison"
    """400, for all of it."""
    REJECTED = "reject_all"
    """400, for no reason."""


class JobFate(Fault):
    """How an accepted job ends."""

    SUCCESS = "success"
    """It completes and has an output."""
    REQUEST_FAILED = "failed_job:request"
    """Half-way, ``request.status`` becomes FAILED; there is no result."""
    RESULT_FAILED = "failed_job:result"
    """``request.status`` becomes COMPLETE, but ``result.status`` is FAILED."""
    LOST = "lost_job:by time"
    """At some moment from its beginning to its end it is forgotten."""
    LOST_ONCE_TOLD = "lost_job:told"
    """As soon as somebody was told that it is complete, its output is all that is left of it."""

    @property
    def has_output(self) -> bool:
        """Whether a job of this fate has one, while it is known at all."""
        return self not in {JobFate.REQUEST_FAILED, JobFate.RESULT_FAILED}


class SourceFault(Fault):
    """What becomes of a source's answer about a location."""

    MISSING = "missing_source"
    """It is left out."""
    TIMED_OUT = "source_trouble:504"
    THROTTLED = "source_trouble:429"
    BROKEN = "source_trouble:500"
    UNAVAILABLE = "source_trouble:503"


class AnswerFault(Fault):
    """What is answered instead of an accepted job's id."""

    CLOSED = "lost_answer:closed"
    """Nothing: the connection is closed."""
    SERVER_ERROR = "lost_answer:500"
    BAD_GATEWAY = "lost_answer:502"
    TIMEOUT = "lost_answer:504"
    NO_ID = "lost_answer:no id"
    """A success, without an id or without anything."""


class OutputFault(Fault):
    """What can happen to an output on its way."""

    CUT = "cut_output"
    """The connection breaks in the middle."""
    HOLE = "corrupt_output:hole"
    """A piece in the middle is missing; the HTTP answer is complete."""
    SHORT = "corrupt_output:short"
    """The second half is missing; the HTTP answer is complete."""
    FOREIGN_ID = "wrong_ids:more"
    """There is a location that nobody asked for, beside all others."""
    RENAMED_ID = "wrong_ids:renamed"
    """The middle location has an id that nobody sent."""
    REPEATED_ID = "wrong_ids:twice"
    """The middle location is there a second time, with another one's data."""
    INVALID_UTF8 = "invalid_utf8"
    """A text of the middle location is not UTF-8."""
    DEEP_NESTING = "deep_nesting"
    """The middle location holds a list that is nested 100,000 deep."""
    BOMB = "bomb"
    """A small body becomes a huge one."""
    ENDLESS = "endless"
    """It does not end."""


class FaultDice:
    """Draws the faults of a plan from one seeded source."""

    def __init__(self, plan: FaultPlan, seed: int) -> None:
        self.plan = plan
        # Seeded so that a failure can be repeated; nothing here is a secret.
        self._random = random.Random(f"faults {seed}")  # noqa: S311

    def _hits(self, probability: float) -> bool:
        # What never happens draws nothing: it is asked of every location and source.
        return probability > 0.0 and self._random.random() < probability

    def choose(self, options: tuple[T, ...]) -> T:
        """One of some equally likely variants of a fault."""
        return self._random.choice(options)

    def slow(self) -> bool:
        """Whether the request that just arrived has to wait."""
        return self._hits(self.plan.slow_answer)

    def on_request(self) -> RequestFault | None:
        """The fault of a request that just arrived; None if it goes through."""
        for fault in RequestFault:
            if self._hits(getattr(self.plan, fault.value)):
                return fault
        return None

    def retry_after_s(self) -> int | None:
        """What a 429 says; None if it says nothing."""
        return None if self._hits(self.plan.rate_limit_bare) else self.plan.retry_after_s

    def on_submission(self, locations: list[Any]) -> SubmissionFault | None:
        """Why a submission of these locations is refused; None if it is looked at."""
        if 0 < self.plan.max_locations < len(locations):
            return SubmissionFault.TOO_MANY
        if _is_among(self.plan.poison, locations):
            return SubmissionFault.POISON
        return SubmissionFault.REJECTED if self._hits(self.plan.reject_all) else None

    def on_job(self) -> JobFate:
        """The fate of a job that is being accepted."""
        if self._hits(self.plan.failed_job):
            return self.failure()
        if self._hits(self.plan.lost_job):
            return self.choose((JobFate.LOST, JobFate.LOST, JobFate.LOST_ONCE_TOLD))
        return JobFate.SUCCESS

    def failure(self) -> JobFate:
        """One of the ways in which a job can fail."""
        return self.choose((JobFate.REQUEST_FAILED, JobFate.RESULT_FAILED))

    def is_poisoned(self, locations: Iterable[Mapping[str, Any]]) -> bool:
        """Whether a job with the fields of these locations has to fail."""
        return _is_among(self.plan.poison_job, locations)

    def lost_after(self) -> float:
        """The share of its life after which a lost job is forgotten: 0 at once, 1 when done."""
        return self.choose((0.0, self._random.random(), 1.0))

    def odd_filename(self) -> str | None:
        """What a job calls its output; None for its real name."""
        return self.choose(_ODD_FILENAMES) if self._hits(self.plan.odd_filename) else None

    def loses_location(self) -> bool:
        """Whether a job's output will lack a location."""
        return self._hits(self.plan.missing_location * (1 - _LOST_ON_THE_WAY))

    def loses_location_once(self) -> bool:
        """Whether a download lacks a location that the next one may have."""
        return self._hits(self.plan.missing_location * _LOST_ON_THE_WAY)

    def on_source(self) -> SourceFault | None:
        """What becomes of the answer of a source about a location; None for what it says."""
        if self._hits(self.plan.missing_source):
            return SourceFault.MISSING
        if self._hits(self.plan.source_trouble):
            return self.choose(tuple(SourceFault)[1:])
        return None

    def on_answer(self) -> AnswerFault | None:
        """What is answered to an accepted submission; None for the id of its job."""
        return self.choose(tuple(AnswerFault)) if self._hits(self.plan.lost_answer) else None

    def on_output(self) -> OutputFault | None:
        """The fault of a download that is about to start; None if it is served as it is."""
        variants: dict[str, list[OutputFault]] = {}
        for fault in OutputFault:
            variants.setdefault(fault.plan_name, []).append(fault)
        for name, faults in variants.items():
            if self._hits(getattr(self.plan, name)):
                return self.choose(tuple(faults))
        return None


def _is_among(word: str, locations: Iterable[Any]) -> bool:
    """Whether an address of one of these locations, checked or not, contains a word."""
    return bool(word) and any(
        word in text
        for location in locations
        if isinstance(location, Mapping)
        for text in (location.get("address"), location.get("address_line_1"))
        if isinstance(text, str)
    )
