"""What goes wrong in a simulated API: by seed, or by a script."""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from pingdata_async.exceptions import PingDataError


class Moment(enum.Enum):
    """When a fault can happen."""

    SUBMIT = enum.auto()
    POLL = enum.auto()
    FETCH = enum.auto()
    JOB = enum.auto()  # decided when a job is accepted: how it will go


class Fault(enum.Enum):
    """What can go wrong; the comment says at which moments."""

    RATE_LIMIT = enum.auto()  # any request: 429 with a Retry-After
    BARE_RATE_LIMIT = enum.auto()  # any request: 429 without one
    UNAVAILABLE = enum.auto()  # any request: 503, nothing done
    ERROR = enum.auto()  # any request: 500, nothing done
    ERROR_AFTER = enum.auto()  # submit: 500 although the job was accepted
    REFUSED = enum.auto()  # any request: no connection
    DROP = enum.auto()  # any request: connection lost, nothing done
    DROP_AFTER = enum.auto()  # submit: connection lost although the job was accepted
    GARBAGE = enum.auto()  # poll: an answer that cannot be read; submit: accepted, without an id
    SLOW = enum.auto()  # any request: the answer takes long
    HANG = enum.auto()  # any request: no answer, ever
    CORRUPT = enum.auto()  # fetch: half of the body
    FAILED_JOB = enum.auto()  # job: ends FAILED
    FAILED_RESULT = enum.auto()  # job: ends COMPLETE with a result FAILED
    NO_OUTPUT = enum.auto()  # job: COMPLETE, but never names an output
    LATE_OUTPUT = enum.auto()  # job: COMPLETE a few polls before it names its output
    LATE = enum.auto()  # job: unknown (404) at its first polls
    FORGOTTEN = enum.auto()  # job: unknown (404) for ever
    BAD_GATEWAY = enum.auto()  # any request: 502 with a Retry-After, nothing done
    GATEWAY_TIMEOUT = enum.auto()  # submit: 504 with one, although the job was accepted
    UNDOCUMENTED = enum.auto()  # job: ends CANCELED, without a result
    ON_HOLD = enum.auto()  # job: ends with a word that is not documented, for a while
    CHANGES_ITS_MIND = enum.auto()  # job: each of its first answers takes back the one before
    OUTPUT_REFUSED = enum.auto()  # job: its output is refused (403) for a while
    LOCKED_OUT = enum.auto()  # fetch: 401, whatever is asked, for a while
    UNREADABLE = enum.auto()  # job: its output is the same useless thing each time


_ANY_REQUEST = (
    Fault.RATE_LIMIT,
    Fault.BARE_RATE_LIMIT,
    Fault.UNAVAILABLE,
    Fault.ERROR,
    Fault.REFUSED,
    Fault.DROP,
    Fault.GARBAGE,
    Fault.SLOW,
)
COMMON: Mapping[Moment, tuple[Fault, ...]] = {
    Moment.SUBMIT: (*_ANY_REQUEST, Fault.ERROR_AFTER, Fault.DROP_AFTER),
    Moment.POLL: _ANY_REQUEST,
    Moment.FETCH: (*_ANY_REQUEST, Fault.CORRUPT),
    Moment.JOB: (
        Fault.FAILED_JOB,
        Fault.FAILED_RESULT,
        Fault.NO_OUTPUT,
        Fault.LATE_OUTPUT,
        Fault.LATE,
        Fault.FORGOTTEN,
    ),
}
"""Everything from which a run recovers, by the moment at which it can happen."""


HOSTILE: Mapping[Moment, tuple[Fault, ...]] = {
    Moment.SUBMIT: (Fault.BAD_GATEWAY, Fault.GATEWAY_TIMEOUT),
    Moment.POLL: (Fault.BAD_GATEWAY,),
    Moment.FETCH: (
        Fault.BAD_GATEWAY,
        Fault.RATE_LIMIT,
        Fault.BARE_RATE_LIMIT,
        Fault.LOCKED_OUT,
    ),
    Moment.JOB: (
        Fault.UNDOCUMENTED,
        Fault.ON_HOLD,
        Fault.CHANGES_ITS_MIND,
        Fault.OUTPUT_REFUSED,
        Fault.UNREADABLE,
    ),
}
"""What a hostile API does besides."""

PAID_ONCE = frozenset({Fault.CHANGES_ITS_MIND, Fault.UNREADABLE})
"""Jobs for which no other one may be sent, as long as the API knows them."""


class Faults(Protocol):
    """Decides what goes wrong next."""

    def next(self, moment: Moment) -> Fault | PingDataError | None:
        """What goes wrong at this moment; an error is raised as it is, with nothing done."""
        ...


class NoFaults:
    """Nothing goes wrong."""

    def next(self, moment: Moment) -> None:  # noqa: ARG002 - the protocol's
        return None


class SeededFaults:
    """Each fault of `among` with the same probability, drawn anew at every moment."""

    def __init__(
        self,
        seed: int,
        share: float,
        among: Mapping[Moment, Iterable[Fault]] = COMMON,
    ) -> None:
        self._rng = random.Random(seed)
        self._share = share
        self._among = {moment: tuple(faults) for moment, faults in among.items()}

    def next(self, moment: Moment) -> Fault | None:
        for fault in self._among.get(moment, ()):
            if self._rng.random() < self._share:
                return fault
        return None


class LayeredFaults:
    """What goes wrong first of several; each of them is asked each time."""

    def __init__(self, *layers: Faults) -> None:
        self._layers = layers

    def next(self, moment: Moment) -> Fault | PingDataError | None:
        found = [layer.next(moment) for layer in self._layers]
        return next((fault for fault in found if fault is not None), None)


class ScriptedFaults:
    """One thing after the other at each moment; then nothing more, or `always`."""

    def __init__(
        self,
        script: Mapping[Moment, Iterable[Fault | PingDataError | None]] | None = None,
        *,
        always: Mapping[Moment, Fault | PingDataError] | None = None,
    ) -> None:
        self._script = {moment: deque(faults) for moment, faults in (script or {}).items()}
        self._always = always or {}

    def next(self, moment: Moment) -> Fault | PingDataError | None:
        planned = self._script.get(moment)
        return planned.popleft() if planned else self._always.get(moment)
