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
        empty_answers: How often the job was COMPLETE, but named no output.
        unknown: Answers "unknown job" in a row.
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
    empty_answers: int = 0
    unknown: int = 0
    failures: int = 0
    failing_since: float = 0.0

    @property
    def attempt(self) -> int:
        """Which attempt at the present request comes next, from 1."""
        return self.failures + 1


def json_outputs(outputs: tuple[JobOutput, ...]) -> tuple[JobOutput, ...]:
    """The outputs that hold the answers: those named .json, else the first one."""
    named = tuple(
        output
        for output in outputs
        if (output.filename or output.url.partition("?")[0]).lower().endswith(".json")
    )
    return named or outputs[:1]
