"""What was asked of a sandbox, so that a test sees what a client really did."""

import dataclasses
import weakref
from collections import Counter
from typing import Any

from pingdata_async.sandbox.jobs import JobQueue


@dataclasses.dataclass(slots=True, kw_only=True)
class SandboxStats:
    """Counts since the sandbox was made; a copy taken at one moment.

    Attributes:
        requests: By kind: ``submit``, ``status``, ``output``, ``other``; those that were refused
            included.
        jobs_accepted: Made and charged; those whose answer was lost included.
        locations_accepted: The locations of those jobs.
        locations_accepted_more_than_once: How many of these had the id, the fields and the
            sources of one accepted before.
        jobs_in_flight: Accepted and not ended yet.
        peak_jobs_in_flight: The most that were in flight at once.
        polls: Status requests that were answered with a status.
        outputs_served: Outputs that were sent to their end, the corrupt ones included.
        refusals: Answers of 400 and above, by status code, those of injected faults included.
        faults: Injected faults, by name; those of locations and sources, for each of them.
        connections: Connections that made at least one request.
    """

    requests: Counter[str] = dataclasses.field(default_factory=Counter)
    jobs_accepted: int = 0
    locations_accepted: int = 0
    locations_accepted_more_than_once: int = 0
    jobs_in_flight: int = 0
    peak_jobs_in_flight: int = 0
    polls: int = 0
    outputs_served: int = 0
    refusals: Counter[int] = dataclasses.field(default_factory=Counter)
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    connections: int = 0

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        kinds = ("submit", "status", "output", "other")
        return dataclasses.asdict(self) | {
            "requests": {kind: self.requests[kind] for kind in kinds},
            "refusals": {str(status): number for status, number in self.refusals.items()},
            "faults": dict(self.faults),
        }


class Recorder:
    """Keeps the counts."""

    def __init__(self) -> None:
        self.counts = SandboxStats()
        # Hashes, not texts: they are kept for every location ever accepted.
        self._seen: set[int] = set()
        self._transports: weakref.WeakSet[Any] = weakref.WeakSet()

    def request(self, kind: str, transport: object) -> None:
        """A request of that kind came over that connection."""
        self.counts.requests[kind] += 1
        if transport is not None and transport not in self._transports:
            self._transports.add(transport)
            self.counts.connections += 1

    def accepted(self, prints: list[int]) -> None:
        """A job was accepted; a number for each of its locations, equal for equal ones."""
        before = len(self._seen)
        self._seen.update(prints)
        self.counts.jobs_accepted += 1
        self.counts.locations_accepted += len(prints)
        self.counts.locations_accepted_more_than_once += len(prints) - (len(self._seen) - before)

    def snapshot(self, jobs: JobQueue, now_s: float) -> SandboxStats:
        """The counts at this moment."""
        return dataclasses.replace(
            self.counts,
            requests=self.counts.requests.copy(),
            refusals=self.counts.refusals.copy(),
            faults=self.counts.faults.copy(),
            jobs_in_flight=jobs.num_in_flight(now_s),
            peak_jobs_in_flight=jobs.peak_in_flight,
        )
