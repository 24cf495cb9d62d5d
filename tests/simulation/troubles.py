"""What is wrong with rows, and with what a simulated API says of them; by seed."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

from pingdata_async.exceptions import RequestRejectedError
from tests.simulation.queueing import SimulatedJob

TOO_LARGE = 413


@dataclasses.dataclass
class Troubles:
    """Rows at fault, limits, and an API that turns against everybody.

    Attributes:
        poisoned: Rows of which a request that holds one is refused with 400.
        poisoned_for_jobs: Rows of which a job that holds one fails.
        max_locations: In one request; None if there is no limit.
        too_many_status: What a larger one is refused with.
        refused_from: The request from which all are refused, from 0.
        refused_until: And the one from which they are taken again.
        failed_from: The job from which all fail, from 0.
        refusals: By row, the requests with it that were refused.
        refused_requests: How many were refused.
    """

    poisoned: Collection[int] = frozenset()
    poisoned_for_jobs: Collection[int] = frozenset()
    max_locations: int | None = None
    too_many_status: int = TOO_LARGE
    refused_from: int | None = None
    refused_until: int | None = None
    failed_from: int | None = None
    refusals: Counter[int] = dataclasses.field(default_factory=Counter)
    refused_requests: int = 0

    def refusal(self, ids: Collection[str], number: int) -> RequestRejectedError | None:
        """Why the request of this number is refused; None if it is not."""
        rows = set(map(int, ids))
        status, said = 400, ""
        until = math.inf if self.refused_until is None else self.refused_until
        if self.refused_from is not None and self.refused_from <= number < until:
            said = "nothing is taken today"
        if self.max_locations is not None and len(rows) > self.max_locations:
            status, said = self.too_many_status, "too many"
        elif not rows.isdisjoint(self.poisoned):
            said = "bad location"
        if not said:
            return None
        self.refused_requests += 1
        self.refusals.update(rows)
        return RequestRejectedError(f"{status}: {said}", status_code=status, api_message=said)

    def fails(self, ids: Collection[str], number: int) -> bool:
        """Whether the job of this number fails."""
        if self.failed_from is not None and number >= self.failed_from:
            return True
        return not set(map(int, ids)).isdisjoint(self.poisoned_for_jobs)


@dataclasses.dataclass(kw_only=True)
class SpottyAnswers:
    """Outputs with holes in them; give it to a `SimulatedAPI` as its `outputs`.

    Each share is drawn anew for each job, so that what is asked again may be answered.

    Attributes:
        seed: Of all that is drawn.
        left_out: The share of locations that an output leaves out.
        source_left_out: The share of sources that a location leaves out.
        passing: The share of sources that fail for a passing reason.
        lasting: By row and source, those that never have a match.
        always: By row and source, a `status_code` with which it always fails.
        foreign: The share of outputs that hold an id that was never sent.
        twice: The share of outputs that hold a location twice, and differently.
        asked: By row and source, how often it was asked for.
    """

    seed: int = 0
    left_out: float = 0.0
    source_left_out: float = 0.0
    passing: float = 0.0
    lasting: Collection[tuple[int, str]] = frozenset()
    always: Mapping[tuple[int, str], int] = dataclasses.field(default_factory=dict)
    foreign: float = 0.0
    twice: float = 0.0
    asked: Counter[tuple[int, str]] = dataclasses.field(default_factory=Counter)
    _seen: set[int] = dataclasses.field(default_factory=set)

    def __call__(self, job: SimulatedJob) -> list[bytes]:
        """The one output of a job; the same whenever it is asked for."""
        rng = random.Random(f"{self.seed}/{job.number}")
        if job.number not in self._seen:
            self._seen.add(job.number)
            self.asked.update((int(i), code) for i, codes in job.sources.items() for code in codes)
        members = []
        for wire_id, sources in job.sources.items():
            data = self._location(rng, int(wire_id), sources, job.number)
            if rng.random() >= self.left_out:
                members.append((wire_id, data))
        if members and rng.random() < self.twice:
            wire_id, _ = rng.choice(members)
            members.append((wire_id, {"PG": {"is_success": True, "row": -1}}))
        if rng.random() < self.foreign:
            members.append(("987654321", {"PG": {"is_success": True, "row": -1}}))
        pairs = [b'"%b":%b' % (i.encode(), msgspec.json.encode(data)) for i, data in members]
        return [b"{" + b",".join(pairs) + b"}"]

    def _location(
        self, rng: random.Random, row: int, sources: tuple[str, ...], job: int
    ) -> dict[str, object]:
        data: dict[str, object] = {}
        for code in sources:
            kind, status = rng.random(), rng.choice((504, 429, 503, 500, 408))
            if (row, code) in self.lasting:
                data[code] = {"is_success": False, "status_code": 404, "row": row}
            elif (row, code) in self.always:
                data[code] = {"is_success": False, "status_code": self.always[row, code]}
            elif kind < self.source_left_out:
                continue
            elif kind < self.source_left_out + self.passing:
                data[code] = {"is_success": False, "status_code": status, "row": row}
            else:
                data[code] = {"is_success": True, "row": row, "job": job}
        return data
