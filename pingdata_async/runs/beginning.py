"""What is told of a run when it begins or goes on (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from pingdata_async.events import Event, InputPlanned, RunResumed
from pingdata_async.runs.journal_reader import JournalTotals
from pingdata_async.runs.plan import Plan


def events_of_begin(run_dir: str, plan: Plan, totals: JournalTotals) -> Iterator[Event]:
    """What is planned; and of a run that was begun before, how far it is.

    Args:
        run_dir: Where it is kept, for people.
        plan: Its plan.
        totals: What its journal says.
    """
    is_resumed = bool(totals.rows.rows or totals.jobs or totals.submissions_in_doubt)
    yield InputPlanned(
        rows=plan.rows,
        locations=plan.locations,
        repeated=plan.repeated,
        chunks=plan.chunks,
        jobs=plan.jobs,
        is_resumed=is_resumed,
        unused_columns=plan.unused_columns,
        values_left_out=plan.values_left_out,
        value_notes=plan.value_notes,
        mapping=plan.mapping,
        notes=plan.notes,
        skipped_by_source=plan.skipped,
    )
    if is_resumed:
        yield RunResumed(
            run_dir=run_dir,
            rows=plan.rows,
            rows_done=totals.rows.rows,
            jobs_in_flight=totals.jobs_in_flight,
        )
