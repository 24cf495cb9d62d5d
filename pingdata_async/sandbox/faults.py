"""What goes wrong on demand: the plan of it. `dice.py` decides, case by case."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Final, Self

from pingdata_async.sandbox.whole_numbers import check_whole

PROBABILITIES: Final = (
    "rate_limit",
    "server_error",
    "html_error",
    "drop",
    "slow_answer",
    "lost_answer",
    "failed_job",
    "lost_job",
    "odd_filename",
    "missing_location",
    "missing_source",
    "source_trouble",
    "cut_output",
    "corrupt_output",
    "wrong_ids",
    "invalid_utf8",
    "deep_nesting",
)
"""The faults that :meth:`FaultPlan.all` sets: each is overcome by trying often enough."""

SET_ALONE: Final = ("bomb", "endless", "reject_all")
"""The faults that it leaves out: two take seconds each, and nobody tries again after a 400."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often each fault happens: probabilities from 0 (never) to 1 (always).

    Every request, job and download draws anew, so trying again can succeed. What becomes of a
    single location or source is drawn when its job is accepted, and stays: only asking again in
    another job helps. Poison and limits are no matter of luck.

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
        odd_filename: The output's ``filename`` is the likes of ``../../etc/passwd``. Its url works.
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
        """Every fault that can be overcome with the same probability.

        Left out are ``bomb`` and ``endless``, which take seconds each, and ``reject_all``.

        Raises:
            ValueError: ``probability`` is not within 0..1.
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
        known = {field.name: field.type for field in dataclasses.fields(cls)}
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
