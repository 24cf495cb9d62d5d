"""What goes wrong on demand: the plan of it, and the dice that decide.

A fault belongs to one of three moments, each with its own method of :class:`FaultDice`, and a
new fault is a new member of that moment's enum:

* a request arrives (:class:`RequestFault`): nothing has been accepted yet;
* a job is accepted (:class:`JobFate`): how it will end;
* an output is downloaded (:class:`OutputFault`): what becomes of the body.
"""

import dataclasses
import enum
import random
from collections.abc import Iterable
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")

PROBABILITIES: Final = (
    "rate_limit",
    "server_error",
    "html_error",
    "drop",
    "cut_output",
    "corrupt_output",
    "failed_job",
    "slow_answer",
)
"""The faults that :meth:`FaultPlan.all` sets."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often each fault happens: probabilities from 0 (never) to 1 (always).

    Every request, job and download draws anew, so trying again can succeed.

    Attributes:
        rate_limit: A request is answered 429.
        rate_limit_bare: The share of those 429 that carry no ``Retry-After``.
        retry_after_s: Seconds named by the ``Retry-After`` of the others.
        server_error: A request is answered 500, 502, 503 or 504, with JSON or with no body.
        html_error: A request is answered 502 or 503 with a proxy's HTML page.
        drop: The connection is closed without an answer, before a job is accepted.
        cut_output: The connection breaks in the middle of an output.
        corrupt_output: An output is a complete HTTP answer, but broken JSON.
        failed_job: A job ends FAILED, by its request or by its result.
        slow_answer: A request waits ``slow_answer_s`` before anything else happens.
        slow_answer_s: Seconds that a slow answer waits.

    Raises:
        ValueError: A probability is not within 0..1, or a time is negative.
    """

    rate_limit: float = 0.0
    rate_limit_bare: float = 0.25
    retry_after_s: int = 1
    server_error: float = 0.0
    html_error: float = 0.0
    drop: float = 0.0
    cut_output: float = 0.0
    corrupt_output: float = 0.0
    failed_job: float = 0.0
    slow_answer: float = 0.0
    slow_answer_s: float = 1.0

    def __post_init__(self) -> None:
        for name in (*PROBABILITIES, "rate_limit_bare"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is a probability from 0 to 1, not {value}")
        for name in ("retry_after_s", "slow_answer_s"):
            value = getattr(self, name)
            # Not the other way round: a NaN is not >= 0 either.
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is a time in seconds and cannot be {value}")

    @classmethod
    def all(cls, probability: float) -> Self:
        """Every fault with the same probability.

        Raises:
            ValueError: ``probability`` is not within 0..1.
        """
        changes: dict[str, Any] = dict.fromkeys(PROBABILITIES, probability)
        return cls(**changes)

    @classmethod
    def parse(cls, words: Iterable[str]) -> Self:
        """A plan from ``name=number`` words, as the command line takes them.

        ``all=p`` sets every fault's probability; a fault that is also named keeps its own,
        wherever it stands.

        Raises:
            ValueError: An unknown name, no number, or a number out of its range.
        """
        # Any: whole numbers where the field is one, other numbers elsewhere.
        everywhere: dict[str, Any] = {}
        named: dict[str, Any] = {}
        known = [field.name for field in dataclasses.fields(cls)]
        for word in words:
            name, equals, text = word.partition("=")
            name = name.strip().replace("-", "_")
            if name not in {*known, "all"}:
                raise ValueError(
                    f"there is no fault called {name!r}; there are: {', '.join([*known, 'all'])}"
                )
            try:
                number = int(text) if name == "retry_after_s" else float(text)
            except ValueError:
                given = repr(text.strip()) if equals else "nothing"
                kind = "a whole number" if name == "retry_after_s" else "a number"
                raise ValueError(f"{name} needs {kind}, as in {name}=1, not {given}") from None
            if name == "all":
                everywhere = dict.fromkeys(PROBABILITIES, number)
            else:
                named[name] = number
        return cls(**(everywhere | named))


class RequestFault(enum.Enum):
    """What can happen to a request before it is looked at."""

    DROP = "drop"
    """The connection is closed without an answer."""
    HTML_ERROR = "html_error"
    """A proxy's HTML page instead of the API's answer."""
    SERVER_ERROR = "server_error"
    """A 5xx of the API itself."""
    RATE_LIMIT = "rate_limit"
    """429."""


class JobFate(enum.Enum):
    """How an accepted job ends."""

    SUCCESS = "success"
    """It completes and has an output."""
    REQUEST_FAILED = "request_failed"
    """Half-way, ``request.status`` becomes FAILED; there is no result."""
    RESULT_FAILED = "result_failed"
    """``request.status`` becomes COMPLETE, but ``result.status`` is FAILED."""


class OutputFault(enum.Enum):
    """What can happen to an output on its way."""

    CUT = "cut_output"
    """The connection breaks in the middle."""
    HOLE = "corrupt_output"
    """A piece in the middle is missing; the HTTP answer is complete."""
    SHORT = "corrupt_output_short"
    """The second half is missing; the HTTP answer is complete."""


class FaultDice:
    """Draws the faults of a plan from one seeded source."""

    def __init__(self, plan: FaultPlan, seed: int) -> None:
        self.plan = plan
        # Seeded so that a failure can be repeated; nothing here is a secret.
        self._random = random.Random(f"faults {seed}")  # noqa: S311

    def _hits(self, probability: float) -> bool:
        return self._random.random() < probability

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

    def on_job(self) -> JobFate:
        """The fate of a job that is being accepted."""
        if not self._hits(self.plan.failed_job):
            return JobFate.SUCCESS
        return self.choose((JobFate.REQUEST_FAILED, JobFate.RESULT_FAILED))

    def on_output(self) -> OutputFault | None:
        """The fault of a download that is about to start; None if it is served as it is."""
        if self._hits(self.plan.cut_output):
            return OutputFault.CUT
        if self._hits(self.plan.corrupt_output):
            return self.choose((OutputFault.HOLE, OutputFault.SHORT))
        return None
