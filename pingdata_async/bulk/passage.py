"""What is remembered of a chunk on its way through the API."""

from __future__ import annotations

from dataclasses import dataclass

from pingdata_async.bulk.chunking import Chunk
from pingdata_async.models import JobOutput


@dataclass(slots=True, eq=False)
class Passage:
    """A chunk on its way through the API.

    Attributes:
        chunk: What is to be brought through.
        job_id: The present job's; "" while there is none.
        accepted_at: When the API accepted that job, by the event loop's clock.
        outputs: What there is to be fetched, once the job is done.
        holds_slot: Whether it holds a job slot.
        jobs: Jobs accepted so far.
        in_doubt: Submissions whose answer was lost.
        refetches: How often the output was fetched again because rows were missing from it.
        late_since: When the job was first unknown, or complete without an output; None if it
            is neither.
        failures: Of the present request, in a row.
        failing_since: When the first of them was.
    """

    chunk: Chunk
    job_id: str = ""
    accepted_at: float = 0.0
    outputs: tuple[JobOutput, ...] = ()
    holds_slot: bool = False
    jobs: int = 0
    in_doubt: int = 0
    refetches: int = 0
    late_since: float | None = None
    failures: int = 0
    failing_since: float = 0.0

    @property
    def attempt(self) -> int:
        """Which attempt at the present request comes next, from 1."""
        return self.failures + 1

    @property
    def charged_before(self) -> bool:
        """Whether a job of it was, or may have been, accepted."""
        return bool(self.jobs or self.in_doubt)

    def begin_again(self) -> None:
        """Forget the present job."""
        self.job_id, self.outputs = "", ()
        self.failures = self.refetches = 0
        self.late_since = None


def json_outputs(outputs: tuple[JobOutput, ...]) -> tuple[JobOutput, ...]:
    """The outputs that hold the answers: those named .json, else the first one."""
    named = tuple(
        output
        for output in outputs
        if (output.filename or output.url.partition("?")[0]).lower().endswith(".json")
    )
    return named or outputs[:1]
