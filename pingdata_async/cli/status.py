"""The command `status`."""

from __future__ import annotations

import time
from pathlib import Path

from pingdata_async.cli.console import by_source, show_json, show_lines
from pingdata_async.cli.help import command
from pingdata_async.cli.main import ANSWERED
from pingdata_async.cli.options import check_run_dir, json_option, run_dir_argument
from pingdata_async.cli.progress import duration
from pingdata_async.runs.status import PendingSubmission, RunStatus, read_status
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import counted

LIST_AT_MOST = 20


@command(examples="pingdata-async status enhanced.xlsx.run")
@run_dir_argument
@json_option("Print the status as JSON.")
def status(run_dir: Path, as_json: bool) -> int:
    """Show the progress of a run, at any time."""
    check_run_dir(run_dir)
    print_status(read_status(run_dir), as_json=as_json)
    return ANSWERED


def print_status(status: RunStatus, *, as_json: bool) -> None:
    """Print the status on standard output; raises as `show()`."""
    if as_json:
        show_json(status)
    else:
        show_lines(map(printable, describe_status(status, time.time())))


def describe_status(status: RunStatus, now: float) -> list[str]:
    """A run's status in lines for people; `now` in Unix seconds."""
    state = "finished" if status.is_finished else "running" if status.is_running else "stopped"
    settled = (
        f"  {status.settled:,} of {counted(status.rows, 'row')} with an outcome: {status.ok:,} ok, "
        f"{status.partial:,} partial, {status.failed:,} failed ({status.no_answer:,} without an "
        "answer)"
    )
    lines = [
        f"{status.run_dir}: {state}",
        f"  {status.source} -> {status.output}, sources {','.join(status.sources)}, {status.api}",
        settled,
    ]
    if status.reasons:
        reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in sorted(status.reasons.items()))
        lines.append(f"  not ok: {reasons}")
    if status.repeated:
        lines.append(
            f"  to be sent: {status.locations:,} of {counted(status.rows, 'row')}; "
            f"{counted(status.repeated, 'repeated row')}"
        )
    chunks = ", ".join(f"{number:,} {name}" for name, number in status.chunks.items() if number)
    lines.append(f"  chunks: {chunks or 'none'}")
    lines.append(
        f"  {counted(status.jobs, 'job')}, "
        f"{counted(status.locations_charged, 'location')} charged, "
        f"{status.locations_possibly_charged_again:,} possibly charged again, "
        f"{status.locations_in_doubt:,} in doubt"
    )
    lines += [f"  {line}" for line in by_source(status.charged_by_source, status.skipped_by_source)]
    caps = [] if status.max_locations is None else [counted(status.max_locations, "location")]
    caps += [f"{cap:,} of {code}" for code, cap in status.budget.items()]
    if caps:
        lines.append(f"  budget: {', '.join(caps)}")
    lines += _listed("in flight", status.in_flight, now)
    lines += _listed("in doubt", status.in_doubt, now)
    if any(each.held for each in status.in_doubt):
        lines.append(
            "  Held submissions need your decision: check the account's usage at that time, then "
            "`resume` with --in-doubt resubmit to send them again"
        )
    return lines


def _listed(what: str, pending: list[PendingSubmission], now: float) -> list[str]:
    if not pending:
        return []
    lines = [f"  {what}: {len(pending):,}"]
    for each in pending[:LIST_AT_MOST]:
        job = f"job {each.job_id}, " if each.job_id else ""
        held = ", held" if each.held else ""
        error = f": {each.error}" if each.error else ""
        since = duration(max(0.0, now - each.since))
        lines.append(
            f"    chunk {each.chunk}, {job}{counted(each.locations, 'location')}, "
            f"since {since}{held}{error}"
        )
    if len(pending) > LIST_AT_MOST:
        lines.append(f"    and {len(pending) - LIST_AT_MOST:,} more; --json lists them")
    return lines
