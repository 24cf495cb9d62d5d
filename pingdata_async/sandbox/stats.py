"""Counts of the requests to a sandbox, so that a test sees what a client really did."""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from typing import Any, Final

from pingdata_async.sandbox.jobs import Job, JobQueue

KINDS: Final = ("submit", "status", "output", "other")
"""The kinds of requests."""


@dataclasses.dataclass(slots=True, kw_only=True)
class SandboxStats:
    """Counts since the sandbox was made; a copy taken at one moment.

    Attributes:
        seconds: Since it was made, by its clock.
        requests: By kind: ``submit``, ``status``, ``output``, ``other``; those that were refused
            included.
        refused: By kind, those of them that were answered 429 or 503, injected ones included.
        held_back: By the name of the setting, refusals for ``requests_per_s``,
            ``max_jobs_in_flight`` and ``quota``.
        early: By kind, requests that came before the time that a ``Retry-After`` had named. A
            429 means all kinds, a 503 and a quota's 429 only submissions.
        longest_lead_s: The longest time by which one of these was early; 0: there was none.
        jobs_accepted: Made and charged; those whose answer was lost included.
        locations_accepted: The locations of those jobs.
        locations_accepted_more_than_once: How many of these had the id, the fields and the
            sources of one accepted before.
        jobs_in_flight: Accepted and not ended yet.
        peak_jobs_in_flight: The most that were in flight at once.
        jobs_done: Jobs that have ended, successfully or not; without those that were lost before.
        last_job_done_s: When the last of these ended, in seconds as in ``seconds``.
        callbacks: Ended jobs with a ``callback_url``: ``delivered`` and ``failed``.
        polls: Status requests that were answered with a status.
        outputs_served: Outputs that were sent to their end, the corrupt ones included.
        refusals: Answers of 400 and above, by status code, those of injected faults included.
        faults: Injected faults, by name; those of locations and sources, for each of them.
        connections: Connections that made at least one request.
    """

    seconds: float = 0.0
    requests: Counter[str] = dataclasses.field(default_factory=Counter)
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    held_back: Counter[str] = dataclasses.field(default_factory=Counter)
    early: Counter[str] = dataclasses.field(default_factory=Counter)
    longest_lead_s: float = 0.0
    jobs_accepted: int = 0
    locations_accepted: int = 0
    locations_accepted_more_than_once: int = 0
    jobs_in_flight: int = 0
    peak_jobs_in_flight: int = 0
    jobs_done: int = 0
    last_job_done_s: float = 0.0
    callbacks: Counter[str] = dataclasses.field(default_factory=Counter)
    polls: int = 0
    outputs_served: int = 0
    refusals: Counter[int] = dataclasses.field(default_factory=Counter)
    faults: Counter[str] = dataclasses.field(default_factory=Counter)
    connections: int = 0

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        by_kind = {
            name: {kind: getattr(self, name)[kind] for kind in KINDS}
            for name in ("requests", "refused", "early")
        }
        return dataclasses.asdict(self) | by_kind | {
            "held_back": dict(self.held_back),
            "callbacks": dict(self.callbacks),
            "refusals": {str(status): number for status, number in self.refusals.items()},
            "faults": dict(self.faults),
        }  # fmt: skip


class Recorder:
    """Keeps the counts."""

    def __init__(self, started_at_s: float) -> None:
        self.counts = SandboxStats()
        self._started_at_s = started_at_s
        # Hashes, not texts: they are kept for every location ever accepted.
        self._seen: set[int] = set()
        self._transports: weakref.WeakSet[Any] = weakref.WeakSet()

    def request(self, kind: str, transport: object) -> None:
        """Count a request of that kind, and its connection."""
        self.counts.requests[kind] += 1
        if transport is not None and transport not in self._transports:
            self._transports.add(transport)
            self.counts.connections += 1

    def accepted(self, prints: list[int]) -> None:
        """Count an accepted job; each location has a number, equal for equal locations."""
        before = len(self._seen)
        self._seen.update(prints)
        self.counts.jobs_accepted += 1
        self.counts.locations_accepted += len(prints)
        self.counts.locations_accepted_more_than_once += len(prints) - (len(self._seen) - before)

    def ended(self, job: Job) -> None:
        """A job has ended, or was forgotten."""
        if not job.is_lost:
            self.counts.jobs_done += 1
            self.counts.last_job_done_s = job.ended_at_s - self._started_at_s

    def snapshot(self, jobs: JobQueue, now_s: float) -> SandboxStats:
        """The counts at this moment."""
        in_flight = jobs.num_in_flight(now_s)  # first of all: it counts those that have ended
        copies: dict[str, Any] = {
            field.name: value.copy()
            for field in dataclasses.fields(self.counts)
            if isinstance(value := getattr(self.counts, field.name), Counter)
        }
        return dataclasses.replace(
            self.counts,
            **copies,
            seconds=now_s - self._started_at_s,
            jobs_in_flight=in_flight,
            peak_jobs_in_flight=jobs.peak_in_flight,
        )
