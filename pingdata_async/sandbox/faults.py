"""Faults on demand: the plan, and the injector that draws them.

Each fault belongs to a moment of a job's life, with an enum and a method of
:class:`FaultInjector` of its own.
"""

from __future__ import annotations

import dataclasses
import enum
import random
from collections.abc import Iterable, Mapping
from typing import Any, Final, Self, TypeVar, get_type_hints

from pingdata_async.sandbox.validation import check_whole

# -- The plan --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often each fault happens: probabilities from 0 (never) to 1 (always).

    Every request, job and download draws anew, so trying again can succeed. What becomes of a
    single location or source is drawn when its job is accepted, and stays: only asking again in
    another job helps. Poison and limits are not random.

    Attributes:
        rate_limit: A request is answered 429.
        rate_limit_bare: The share of those 429 that carry no ``Retry-After``.
        retry_after_s: Seconds named by the ``Retry-After`` of the others.
        server_error: A request is answered 500, 502, 503 or 504, with JSON or with no body.
        html_error: A request is answered 502 or 503 with a proxy's HTML page.
        drop: The connection is closed without an answer, before a job is accepted.
        slow_answer: A request waits ``slow_answer_s`` before anything else happens.
        slow_answer_s: Seconds that a slow answer waits.
        lost_answer: A job is accepted and charged, but instead of its id there is a closed
            connection, a 500, 502 or 504, or a success that names no id.
        failed_job: A job ends FAILED, by its request or by its result.
        lost_job: A job is accepted and charged, but from some moment on, which may be at once,
            or when it is done, all about it is answered 404; or when its end has been told, all
            but its output.
        odd_filename: The output's ``filename`` is like ``../../etc/passwd``. Its url works.
        missing_location: A location is left out of the output: three times in four of every
            download, otherwise of that one.
        missing_source: One of a location's sources is left out of the output.
        source_trouble: A source answers about a location with a passing failure (time-out,
            429, 500 or 503).
        cut_output: The connection breaks in the middle of an output.
        corrupt_output: An output is a complete HTTP answer, but broken JSON.
        wrong_ids: An output holds an id that was never sent, beside those that were or in place
            of one, or one id twice with different data.
        invalid_utf8: A text in an output is not UTF-8.
        deep_nesting: A location of an output holds a list nested 100,000 deep.
        bomb: An output is 2 MB of gzip that become 2 GiB.
        endless: An output goes on, with blanks, until the client leaves (or for 8 GiB).
        reject_all: A submission is refused with 400.
        reject_message: What that says.
        poison: A submission with a location whose ``address`` or ``address_line_1`` contains
            this is refused with 400. "": none is.
        poison_job: A job with such a location ends FAILED. "": none does.
        max_locations: The most locations that a submission may have; 0: any number.
        max_locations_status: What one of more is answered: 413 or 400.

    Raises:
        ValueError: A probability is not within 0..1, or another value is out of its range.
    """

    rate_limit: float = 0.0
    rate_limit_bare: float = 0.25
    retry_after_s: int = 1
    server_error: float = 0.0
    html_error: float = 0.0
    drop: float = 0.0
    slow_answer: float = 0.0
    slow_answer_s: float = 1.0
    lost_answer: float = 0.0
    failed_job: float = 0.0
    lost_job: float = 0.0
    odd_filename: float = 0.0
    missing_location: float = 0.0
    missing_source: float = 0.0
    source_trouble: float = 0.0
    cut_output: float = 0.0
    corrupt_output: float = 0.0
    wrong_ids: float = 0.0
    invalid_utf8: float = 0.0
    deep_nesting: float = 0.0
    bomb: float = 0.0
    endless: float = 0.0
    reject_all: float = 0.0
    reject_message: str = "The request was rejected"
    poison: str = ""
    poison_job: str = ""
    max_locations: int = 0
    max_locations_status: int = 413

    def __post_init__(self) -> None:
        for name in (*PROBABILITIES, *SET_ALONE, "rate_limit_bare"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is a probability from 0 to 1, not {value}")
        # Not the other way round: a NaN is not >= 0 either.
        if not 0 <= self.slow_answer_s < float("inf"):
            raise ValueError(
                f"slow_answer_s is a time in seconds and cannot be {self.slow_answer_s}"
            )
        for name in ("retry_after_s", "max_locations"):
            check_whole(name, getattr(self, name), at_least=0)
        if self.max_locations_status not in {400, 413}:
            raise ValueError(
                f"max_locations_status must be 400 or 413, not {self.max_locations_status}"
            )

    @classmethod
    def all(cls, probability: float) -> Self:
        """Every fault that trying again overcomes, with the same probability.

        Left out are ``bomb`` and ``endless``, which take seconds each, and ``reject_all``.
        """
        changes: dict[str, Any] = dict.fromkeys(PROBABILITIES, probability)
        return cls(**changes)

    @classmethod
    def parse(cls, words: Iterable[str]) -> Self:
        """A plan from ``name=value`` words, as the command line takes them.

        ``all=p`` sets every fault's probability; a fault that is also named keeps its own,
        wherever it stands.

        Raises:
            ValueError: An unknown name, or a value that is none for it.
        """
        everywhere: dict[str, Any] = {}
        named: dict[str, Any] = {}
        known = get_type_hints(cls)
        for word in words:
            name, equals, text = word.partition("=")
            name = name.strip().replace("-", "_")
            if name == "all":
                everywhere = dict.fromkeys(PROBABILITIES, _value(name, float, equals, text))
            elif name in known:
                named[name] = _value(name, known[name], equals, text)
            else:
                raise ValueError(
                    f"there is no fault called {name!r}; there are: {', '.join([*known, 'all'])}"
                )
        return cls(**(everywhere | named))


def _value(name: str, kind: Any, equals: str, text: str) -> float | str:
    """What a word gives for a field of that type."""
    try:
        if kind is not str:
            return int(text) if kind is int else float(text)
        if text:
            return text
    except ValueError:
        pass
    given = repr(text.strip()) if equals else "nothing"
    wanted = {int: "a whole number", float: "a number", str: "a text"}[kind]
    example = "WORD" if kind is str else "1"
    raise ValueError(f"{name} needs {wanted}, as in {name}={example}, not {given}")


SET_ALONE: Final = ("bomb", "endless", "reject_all")
"""The faults that :meth:`FaultPlan.all` leaves out."""

PROBABILITIES: Final = tuple(
    field.name
    for field in dataclasses.fields(FaultPlan)
    if (field.type, field.default) == ("float", 0.0) and field.name not in SET_ALONE
)
"""The faults that it sets: trying often enough overcomes each."""


# -- The injector ----------------------------------------------------------------------------

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
    HTML_ERROR = "html_error"
    SERVER_ERROR = "server_error"
    RATE_LIMIT = "rate_limit"


class SubmissionFault(Fault):
    """Why a sound submission is refused."""

    TOO_MANY = "max_locations"
    POISON = "poison"
    REJECTED = "reject_all"


class JobFate(Fault):
    """How an accepted job ends."""

    SUCCESS = "success"
    REQUEST_FAILED = "failed_job:request"  # half-way, and there is no result
    RESULT_FAILED = "failed_job:result"  # its request is COMPLETE, its result is FAILED
    LOST = "lost_job:by time"  # forgotten at some moment from its beginning to its end
    LOST_ONCE_TOLD = "lost_job:told"  # all but its output, once somebody was told of its end

    @property
    def has_output(self) -> bool:
        """Whether a job of this fate has one, while it is known at all."""
        return self not in {JobFate.REQUEST_FAILED, JobFate.RESULT_FAILED}


class SourceFault(Fault):
    """What becomes of a source's answer about a location."""

    MISSING = "missing_source"
    TIMED_OUT = "source_trouble:504"
    THROTTLED = "source_trouble:429"
    BROKEN = "source_trouble:500"
    UNAVAILABLE = "source_trouble:503"


class AnswerFault(Fault):
    """What is answered instead of an accepted job's id."""

    CLOSED = "lost_answer:closed"
    SERVER_ERROR = "lost_answer:500"
    BAD_GATEWAY = "lost_answer:502"
    TIMEOUT = "lost_answer:504"
    NO_ID = "lost_answer:no id"


class OutputFault(Fault):
    """What can happen to an output on its way."""

    CUT = "cut_output"
    HOLE = "corrupt_output:hole"  # a piece in the middle is missing
    SHORT = "corrupt_output:short"  # the second half is missing
    FOREIGN_ID = "wrong_ids:more"  # a location that nobody asked for, beside all others
    RENAMED_ID = "wrong_ids:renamed"
    REPEATED_ID = "wrong_ids:twice"  # a location twice, with different data
    INVALID_UTF8 = "invalid_utf8"
    DEEP_NESTING = "deep_nesting"
    BOMB = "bomb"
    ENDLESS = "endless"


class FaultInjector:
    """Draws, case by case and from one seed, which fault of a plan happens."""

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
        """Whether a request has to wait."""
        return self._hits(self.plan.slow_answer)

    def on_request(self) -> RequestFault | None:
        """The fault of a new request; None if it goes through."""
        for fault in RequestFault:
            if self._hits(getattr(self.plan, fault.value)):
                return fault
        return None

    def retry_after_s(self) -> int | None:
        """The Retry-After of a 429; None for none."""
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
        for name in dict.fromkeys(fault.plan_name for fault in OutputFault):
            if self._hits(getattr(self.plan, name)):
                return self.choose(tuple(each for each in OutputFault if each.plan_name == name))
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
