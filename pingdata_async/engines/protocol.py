"""What the log of a chunk says, and what an attempt at it does next (pure).

Several attempts may work on a chunk: a task that runs twice, one that is tried again after its
worker died, one that was taken for dead and wakes up. All of them write into the chunk's log, a
numbered list of records each of which is written once, by whoever comes first. Nobody has a lease,
and no decision depends on the clock of any of them: the store's own says how old a record is.

Who wants to submit claims the chunk with the next record. Who loses that reads the log again, and
follows it. A claim that nothing followed for longer than a submission takes is in doubt: its writer
may have died before or after the API made a job.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from pingdata_async.locations.chunk import Chunk


class State(enum.StrEnum):
    """What a record says."""

    SUBMITTING = "submitting"  # its writer, and nobody else, may submit the chunk now
    SUBMITTED = "submitted"  # that made a job, which anybody may poll
    REFUSED = "refused"  # that surely made none
    DOUBT = "doubt"  # that may have made one, which nobody knows
    ABANDONED = "abandoned"  # the job will never give an answer
    SPLIT = "split"  # parts, which have logs of their own, take the chunk's place


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record in the log of a chunk."""

    state: State
    by: str  # the attempt that wrote it, and a number of its own
    at: str = ""  # when, by the clock of its writer; for people alone
    task: str = ""  # the partition that the chunk is of
    locations: int = 0  # of SUBMITTING: in the chunk
    job_id: str = ""  # of SUBMITTED
    error: str = ""  # of DOUBT and ABANDONED
    sizes: tuple[int, ...] = ()  # of SPLIT: the rows in each part
    because_jobs_failed: bool = False  # of SPLIT


Log = Sequence[Record]
"""All records of a chunk, in order."""

_FOLLOWERS: Final[dict[State | None, frozenset[State]]] = {
    None: frozenset({State.SUBMITTING, State.SPLIT}),
    State.SUBMITTING: frozenset({State.SUBMITTED, State.REFUSED, State.DOUBT}),
    # Who was taken for dead may still tell what became of its submission.
    State.DOUBT: frozenset({State.SUBMITTING, State.SUBMITTED, State.REFUSED, State.SPLIT}),
    State.REFUSED: frozenset({State.SUBMITTING, State.SPLIT}),
    State.SUBMITTED: frozenset({State.ABANDONED}),
    State.ABANDONED: frozenset({State.SUBMITTING, State.SPLIT}),
    State.SPLIT: frozenset(),
}


def last_state(log: Log) -> State | None:
    """What the last record says; None if there is none."""
    return log[-1].state if log else None


def may_follow(log: Log, state: State) -> bool:
    """Whether a record of this state may be the next one."""
    return state in _FOLLOWERS[last_state(log)]


def is_own_doubt(log: Log, by: str) -> bool:
    """Whether the last record doubts the claim that the attempt wrote."""
    return last_state(log) is State.DOUBT and len(log) > 1 and log[-2].by == by


class Cost(msgspec.Struct, frozen=True):
    """What a chunk may have cost, by its log."""

    jobs: int = 0  # known to have been made
    charged: int = 0  # locations in these
    doubts: int = 0  # submissions that may have made another one
    in_doubt: int = 0  # locations in these
    failed_jobs: int = 0


def cost_of(log: Log) -> Cost:
    """Add up a log. A doubt whose outcome was told later counts for no more than that."""
    jobs = charged = doubts = in_doubt = failed = locations = 0
    for place, record in enumerate(log):
        match record.state:
            case State.SUBMITTING:
                locations = record.locations
            case State.SUBMITTED:
                jobs, charged = jobs + 1, charged + locations
            case State.DOUBT:
                told = place + 1 < len(log) and log[place + 1].state in _OUTCOMES
                if not told:
                    doubts, in_doubt = doubts + 1, in_doubt + locations
            case State.ABANDONED:
                failed += 1
            case _:
                pass
    return Cost(jobs, charged, doubts, in_doubt, failed)


_OUTCOMES = frozenset({State.SUBMITTED, State.REFUSED})


class Claim(msgspec.Struct, frozen=True):
    """Submit it, if the claim is won."""


class Poll(msgspec.Struct, frozen=True):
    """Poll its job."""

    job_id: str


class Follow(msgspec.Struct, frozen=True):
    """Go on with its parts."""

    sizes: tuple[int, ...]
    because_jobs_failed: bool


class Wait(msgspec.Struct, frozen=True):
    """Look again after this time: another attempt may be submitting it."""

    seconds: float


class Doubt(msgspec.Struct, frozen=True):
    """Record that what the last claim led to is in doubt, and look again."""


Step = Claim | Poll | Follow | Wait | Doubt


def next_step(log: Log, *, age_s: float, doubt_after_s: float, look_every_s: float) -> Step:
    """What an attempt does about a chunk that has no answer yet.

    Args:
        log: Its log.
        age_s: The age of the last record.
        doubt_after_s: The age from which a claim is in doubt.
        look_every_s: How long to wait at most before looking again.
    """
    match last_state(log):
        case State.SUBMITTING:
            left_s = doubt_after_s - age_s
            return Doubt() if left_s <= 0.0 else Wait(min(left_s, look_every_s))
        case State.SUBMITTED:
            return Poll(log[-1].job_id)
        case State.SPLIT:
            return Follow(log[-1].sizes, log[-1].because_jobs_failed)
        case _:
            return Claim()


def digest_of(api: str, options: bytes, chunk: Chunk) -> str:
    """The name of a chunk's log: the same for the same question, whoever asks it.

    Args:
        api: What the API's answers depend on.
        options: The rest of a job's body.
        chunk: The chunk. How often its rows were asked counts: asked again, it is another question.
    """
    digest = hashlib.sha256()
    times_asked = [earlier.times_asked for earlier in chunk.earlier]
    numbers = msgspec.json.encode((chunk.rows, times_asked))
    for part in (api.encode(), options, numbers, chunk.body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
