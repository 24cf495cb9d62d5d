"""Faults on demand: the plan, the injector that draws them, and corrupted outputs.

Each fault belongs to one of these moments, each with its own method of :class:`FaultInjector`; a
new fault is a new member of that moment's enum:

* a request arrives (:class:`RequestFault`): nothing has been accepted yet;
* a submission has been read (:class:`SubmissionFault`): it is refused;
* a job is accepted (:class:`JobFate`): how it will end; and of each of its locations and their
  sources (:class:`SourceFault`), how they will do;
* its acceptance is answered (:class:`AnswerFault`): the job is made, but nobody is told;
* an output is downloaded (:class:`OutputFault`): what becomes of the body.
"""

from __future__ import annotations

import dataclasses
import enum
import random
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, Final, NamedTuple, Self, TypeVar, get_type_hints

from pingdata_async.sandbox.validation import check_whole

# -- The plan --------------------------------------------------------------------------------

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


# -- Corrupted outputs -----------------------------------------------------------------------

DEPTH: Final = 100_000
BOMB_BYTES: Final = 2 * 1024**3
ENDLESS_BYTES: Final = 8 * 1024**3

_BLOCK_BYTES: Final = 1024 * 1024
_BLANKS: Final = b" " * (64 * 1024)
_GZIP_HEAD: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_PASSING: Final[dict[SourceFault, tuple[int, str]]] = {
    SourceFault.TIMED_OUT: (504, "Timed out after 30.0 seconds"),
    SourceFault.THROTTLED: (429, "Too Many Requests"),
    SourceFault.BROKEN: (500, "Internal Server Error"),
    SourceFault.UNAVAILABLE: (503, "Service Unavailable"),
}


class Entry(NamedTuple):
    """A location of an output: its id, and its answers as JSON."""

    location_id: str
    data: bytes


def trouble(answer: dict[str, Any], fault: SourceFault) -> dict[str, Any]:
    """A source's answer, turned into a failure that may pass."""
    status, message = _PASSING[fault]
    kept = {name: answer[name] for name in ("fetch_time", "persist_for", "worker_name")}
    return dict.fromkeys(answer) | kept | {
        "is_success": False,
        "is_cache_hit": False,
        "error_message": message,
        "status_code": status,
    }  # fmt: skip


def corrupted_entries(
    entries: Iterator[Entry],
    middle: int,
    fault: OutputFault | None,
    sent: Callable[[], Collection[str]],
    other_data: Callable[[], bytes],
) -> Iterator[Entry]:
    """The locations of an output, the middle one corrupted by a fault.

    Args:
        entries: The sound ones.
        middle: The index of the one that is corrupted.
        fault: Those of the body as a whole change nothing here.
        sent: Gives the ids of the job.
        other_data: Gives answers that are nobody's.
    """
    for index, entry in enumerate(entries):
        if index != middle:
            yield entry
        elif fault is OutputFault.RENAMED_ID:
            yield Entry(_unsent_id(entry.location_id, sent()), entry.data)
        elif fault is OutputFault.FOREIGN_ID:
            yield entry
            yield Entry(_unsent_id(entry.location_id, sent()), other_data())
        elif fault is OutputFault.REPEATED_ID:
            yield entry
            yield Entry(entry.location_id, other_data())
        elif fault is OutputFault.INVALID_UTF8:
            yield Entry(entry.location_id, _with(entry.data, b'"caf\xe9": {"note": "\xff\xc0"}'))
        elif fault is OutputFault.DEEP_NESTING:
            nested = b'"nested": ' + b"[" * DEPTH + b"]" * DEPTH
            yield Entry(entry.location_id, _with(entry.data, nested))
        else:
            yield entry


def _with(data: bytes, member: bytes) -> bytes:
    """A JSON object with one more member."""
    separator = b"" if data == b"{}" else b", "
    return data[:-1] + separator + member + b"}"


def _unsent_id(location_id: str, sent: Collection[str]) -> str:
    """An id that nobody sent, though as a number it would be the same."""
    while location_id in sent:
        location_id = "0" + location_id
    return location_id


def cut_body(pieces: Iterator[bytes], middle: int, fault: OutputFault) -> Iterator[bytes]:
    """The body with half of a middle piece; nothing after it unless a hole is asked for."""
    for index, piece in enumerate(pieces):
        if index != middle:
            yield piece
            continue
        yield piece[: len(piece) // 2]
        if fault is not OutputFault.HOLE:
            return


def endless_body(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The body, but before its last brace come more blanks than anybody waits for."""
    for piece in pieces:
        if piece == b"}":
            yield from repeat(_BLANKS, ENDLESS_BYTES // len(_BLANKS))
        yield piece


def bomb_body() -> Iterator[bytes]:
    """A gzip stream of a brace, 2 GiB of blanks and another brace, made as it is sent."""
    packer = zlib.compressobj(9, wbits=-15)
    opening = packer.compress(b"{") + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block refers to nothing before it: the same bytes serve every time.
    blanks = b" " * _BLOCK_BYTES
    packed = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(b"{")
    yield _GZIP_HEAD + opening
    for _ in range(BOMB_BYTES // _BLOCK_BYTES):
        checksum = zlib.crc32(blanks, checksum)
        yield packed
    checksum = zlib.crc32(b"}", checksum)
    size = (BOMB_BYTES + 2) % 2**32
    yield packer.compress(b"}") + packer.flush()
    yield checksum.to_bytes(4, "little") + size.to_bytes(4, "little")
