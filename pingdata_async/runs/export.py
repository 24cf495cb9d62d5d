"""Planned rows and spooled answers to the output, in input order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pingdata_async.bulk.tally import Tally
from pingdata_async.runs.answers import Answers
from pingdata_async.runs.output_files import BeforeMove
from pingdata_async.runs.output_form import OutputForm
from pingdata_async.runs.plan import Plan
from pingdata_async.runs.records import Account
from pingdata_async.runs.run_output import opened_run_output
from pingdata_async.runs.spool import Spool


async def export(
    plan: Plan,
    spool: Spool,
    account: Account,
    output: str | Path,
    form: OutputForm,
    *,
    on_rows: Callable[[int], None],
    on_note: Callable[[str], None],
    finished_only: bool = False,
    failures: Path | None = None,
    before_move: BeforeMove | None = None,
) -> Tally:
    """Write every row of the plan, in input order.

    Args:
        plan: What was planned, inside its `with` block.
        spool: What was answered.
        account: What became of each chunk.
        output: A path, moved into place when it is whole, or "-" for standard output.
        form: In which form; says which sources the run asked.
        on_rows: Told of the number of rows after each chunk.
        on_note: Told what the user should know of the output, a sentence each.
        finished_only: Leave out rows without an outcome, instead of refusing them; those that
            are asked about once more have the one that they had.
        failures: Where the rows without an answer are written, as an input for another run;
            None for nowhere. Without such rows there is no such file afterwards.
        before_move: Told of each file's name and where it is until then, when it is whole.

    Returns:
        The count of the rows written.

    Raises:
        RunError: When it cannot be written, or a row has no outcome.
        BrokenPipeError: When nobody reads standard output any more.
    """
    answers = Answers(spool, account, form.sources, keep_earlier=finished_only)
    async with opened_run_output(
        output,
        form,
        on_note=on_note,
        failures=failures,
        before_move=before_move,
        scratch=plan.path.parent,
    ) as writer:
        await writer.write_rest(plan, answers, on_rows=on_rows, finished_only=finished_only)
    return writer.counts
