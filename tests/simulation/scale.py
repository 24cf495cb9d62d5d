"""Large runs against a simulated API, for those who measure their memory."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio

from pingdata_async.engine.flow_control.polling import PollSchedule
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.models import JobStatus, RowStatus
from tests.simulation.faults import Moment
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop

ANSWER = b'{"PG":{"is_success":true,"latitude":38.8976,"longitude":-77.0365}}'
BIG_ANSWER = b'{"PG":{"is_success":true,"description":"' + b"x" * 1_500 + b'"}}'
STUCK_CHUNK_SIZE = 500
RETENTION_S = 5.0
"""What the API still remembers is in this process too: with a minute, 240,000 rows of it."""


def stream_rows(rows: int) -> None:
    """Bring that many rows through `stream()`, in simulated time."""

    async def main() -> None:
        api = SimulatedAPI(
            workers=8,
            answer=lambda _id, _sources: ANSWER,
            counts_locations=False,
            retention_s=RETENTION_S,
        )
        async with SimulatedClient(api) as client:
            enhancer = BulkEnhancer(
                client, ["PG"], chunk_size=500, max_jobs=16, rng=random.Random(0)
            )
            seen = ok = 0
            async for result in enhancer.stream(f"{n} Main Street, Boston" for n in range(rows)):
                seen += 1
                ok += result.status is RowStatus.OK
        assert seen == ok == rows, (seen, ok, rows)

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})


class _FirstComesLast(SimulatedAPI):
    """Its first job is done when the outputs of that many others have been fetched."""

    others = 0

    async def status(self, job_id: str) -> JobStatus:
        if job_id == "job-0" and self.counts.requests[Moment.FETCH] < self.others:
            return JobStatus(status="IN_PROGRESS")
        return await super().status(job_id)


def run_chunks(chunks: int, *, is_stuck: bool) -> None:
    """Bring that many chunks with large answers through `run()`; stuck: chunk 0 ends last."""
    rows = chunks * STUCK_CHUNK_SIZE

    async def main(folder: Path) -> None:
        api = _FirstComesLast(
            workers=8,
            latency_s=0.0,  # jobs are numbered as their chunks are
            locations_per_s=1e6,
            answer=lambda _id, _sources: BIG_ANSWER,
            counts_locations=False,
            retention_s=600.0,  # the same in both cases: what the API keeps is not measured
        )
        api.others = chunks - 1 if is_stuck else 0
        schedule = PollSchedule(min_interval_s=0.01, max_interval_s=0.1)
        async with SimulatedClient(api) as client:
            summary = await BulkEnhancer(
                client, ["PG"], chunk_size=STUCK_CHUNK_SIZE, max_jobs=8, poll_schedule=schedule
            ).run(folder / "in.csv", folder / "out.jsonl")
        assert (summary.rows, summary.ok, summary.jobs) == (rows, rows, chunks), summary

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "in.csv").open("w", encoding="utf-8") as file:
            file.writelines(_lines(rows))
        anyio.run(main, folder)


def _lines(rows: int) -> Iterator[str]:
    yield "id,address\n"
    for n in range(rows):
        yield f"r{n},{n} Main Street Boston\n"
