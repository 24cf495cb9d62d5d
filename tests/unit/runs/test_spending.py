"""What is left to be sent, by source, at any moment of a run: as if all of it were counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio.to_thread
import pytest

import pingdata_async as ping
from pingdata_async.engine.flow_control.budget import Amount, asked_of
from pingdata_async.events import ChunkFinished, JobSubmitted, LocationsAskedAgain
from pingdata_async.runs.directory.directory import RunDirectory, journal_path
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import ReusedTotals
from pingdata_async.runs.resume import unfinished_tasks
from pingdata_async.runs.spending import planned_amount, remaining, spent_so_far
from pingdata_async.sandbox import FaultPlan
from tests.support.runs import enhancer, sandbox_and_client, stopped_run, write_rows
from tests.support.sweeps import sampled

SOURCES = ("PG", "PH")
FAULTS = FaultPlan(
    poison="12 ", failed_job=0.1, lost_answer=0.1, missing_location=0.1, missing_source=0.1
)
QUICK = ping.RetryPolicy(base_delay_s=0.001, max_delay_s=0.01, max_failed_jobs_in_a_row=99)


def source_with_own_sources(folder: Path) -> Path:
    made = write_rows(folder / "rows.csv", 120)
    path = folder / "in.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(made):
            own = ', "sources": ["LB", "PG"]' if number % 7 == 0 else ""
            line = ", ".join(f'"{name}": "{value}"' for name, value in row.items() if value)
            file.write(f"{{{line}{own}}}\n")
    return path


async def counted_one_by_one(directory: RunDirectory, plan: Plan) -> Amount:
    asked = Counter[str]()
    locations = 0
    async for task in unfinished_tasks(directory.journal, plan, may_pay_again=False):
        if not task.job_id:
            locations += len(task.chunk.rows)
            asked.update(asked_of(task.chunk, SOURCES))
    return Amount(locations=locations, by_source=dict(+asked))


@pytest.mark.parametrize(
    ("kind", "count"),
    sampled(
        [(ChunkFinished, 5), (LocationsAskedAgain, 1), (JobSubmitted, 1), (JobSubmitted, 7)], 2
    ),
)
async def test_left_is_what_has_no_job_yet(tmp_path: Path, kind: type, count: int) -> None:
    """Splits, lost jobs, rows asked again and sources of their own included."""
    source, output = source_with_own_sources(tmp_path), tmp_path / "out.jsonl"
    settings = {"sources": SOURCES, "retry_policy": QUICK}
    async with sandbox_and_client(faults=FAULTS, seed=count) as (sandbox, client):
        await stopped_run(client, output, kind, count, source=source, **settings)
        run_dir = Path(f"{output}.run")
        async with RunDirectory(run_dir) as directory:
            await directory.journal.doubt_interrupted(hold=False)
            await directory.journal.pack_retry_rows(10)
            with await anyio.to_thread.run_sync(Plan, run_dir / "plan") as plan:
                right = await counted_one_by_one(directory, plan)

                def read() -> tuple[Amount, Amount]:
                    planned = planned_amount(plan.summary, ReusedTotals())
                    with JournalReader(journal_path(run_dir)) as journal:
                        spent = spent_so_far(journal.totals())
                        return remaining(journal, planned, plan.read, SOURCES), spent

                left, spent = await anyio.to_thread.run_sync(read)
        assert left == right
        assert sandbox.stats.locations_accepted <= spent.locations
        usage = await client.usage()
        for code, used in usage.totals.items():
            assert used <= spent.by_source[code]
        told = await enhancer(client, **settings).dry_run(source, output)
        assert (told.locations, told.charged_by_source) == (left.locations, left.by_source)
