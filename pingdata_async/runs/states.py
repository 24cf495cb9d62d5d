"""What can become of a chunk of a run, and what a resumed run does about it (pure)."""

from __future__ import annotations

import enum
from types import MappingProxyType


class ChunkState(enum.StrEnum):
    """How far a chunk of a run is."""

    PLANNED = "planned"  # waits to be sent, for the first time or again
    SUBMITTING = "submitting"  # the intent is on disk; what became of the POST is not known yet
    SUBMITTED = "submitted"  # a job has it, and its id is on disk
    COMPLETE = "complete"  # that job is done, its output not fetched yet
    SPOOLED = "spooled"  # its answers are on disk: an end
    FAILED = "failed"  # it has no answers, and will get none: an end
    SPLIT = "split"  # its parts, which are chunks of their own, took its place: an end


LEGAL_CHANGES: MappingProxyType[ChunkState, frozenset[ChunkState]] = MappingProxyType(
    {
        ChunkState.PLANNED: frozenset({ChunkState.SUBMITTING, ChunkState.SPLIT, ChunkState.FAILED}),
        ChunkState.SUBMITTING: frozenset(
            {
                ChunkState.PLANNED,  # refused, or in doubt and to be sent again
                ChunkState.SUBMITTED,
                ChunkState.SPLIT,
                ChunkState.FAILED,
            }
        ),
        ChunkState.SUBMITTED: frozenset(
            {
                ChunkState.COMPLETE,
                ChunkState.PLANNED,  # the job is lost
                ChunkState.SPLIT,
                ChunkState.FAILED,
            }
        ),
        ChunkState.COMPLETE: frozenset(
            {
                ChunkState.SPOOLED,
                ChunkState.PLANNED,  # the output is lost
                ChunkState.SPLIT,
                ChunkState.FAILED,
            }
        ),
        ChunkState.SPOOLED: frozenset(),
        ChunkState.FAILED: frozenset(),
        ChunkState.SPLIT: frozenset(),
    }
)
"""Which state may follow which. Everything else is a mistake, and is refused.

(By a user's wish alone, a chunk whose output could not be read is taken out of its end.)
"""

UNTOUCHED = 0
"""The code of a planned chunk of which the journal knows nothing yet."""

_BY_CODE = (None, *ChunkState)
_CODES = {state: code for code, state in enumerate(_BY_CODE) if state is not None}


def is_legal(before: ChunkState, after: ChunkState) -> bool:
    """Whether one state may follow the other."""
    return after in LEGAL_CHANGES[before]


def code_of(state: ChunkState) -> int:
    """A state as a number that fits into a byte; never `UNTOUCHED`."""
    return _CODES[state]


def state_of(code: int) -> ChunkState:
    """The state of a code; an untouched chunk is planned."""
    return _BY_CODE[code] or ChunkState.PLANNED


class Resumption(enum.Enum):
    """What a resumed run does about a chunk."""

    SEND = enum.auto()  # submit it
    DOUBT = enum.auto()  # count it as in doubt, then submit it again or leave it to the user
    POLL = enum.auto()  # ask about its job, which is paid for
    NOTHING = enum.auto()  # it is at an end


_RESUMPTIONS = {
    ChunkState.PLANNED: Resumption.SEND,
    ChunkState.SUBMITTING: Resumption.DOUBT,
    ChunkState.SUBMITTED: Resumption.POLL,
    ChunkState.COMPLETE: Resumption.POLL,  # the answer that named its output was not kept
    ChunkState.SPOOLED: Resumption.NOTHING,
    ChunkState.FAILED: Resumption.NOTHING,
    ChunkState.SPLIT: Resumption.NOTHING,
}


def on_resume(state: ChunkState) -> Resumption:
    """What a resumed run does about a chunk that was left in this state."""
    return _RESUMPTIONS[state]
