"""The commands that look at runs: `status` and `runs`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from pingdata_async.cli.console import (
    Cell,
    Table,
    by_source,
    fitted,
    reused_told,
    show,
    show_json,
    show_lines,
)
from pingdata_async.cli.help import Argument, command
from pingdata_async.cli.main import ANSWERED
from pingdata_async.cli.options import check_run_dir, json_option, option, run_or_store_argument
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.progress import duration
from pingdata_async.runs.status import (
    FoundRun,
    PendingSubmission,
    RunStatus,
    find_runs,
    read_status,
)
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import counted, shown_bytes, shown_path

LIST_AT_MOST = 20
LIST_AT_MOST_WATCHED = 3
WATCH_INTERVAL_S = 2.0


@command(
    examples="""
    pingdata-async status enhanced.xlsx
    pingdata-async status enhanced.xlsx.run --watch
    pingdata-async status s3://bucket/prefix   # of Spark, Dask or Ray
    """
)
@run_or_store_argument
@json_option("Print the status as JSON.")
@option(
    "--watch",
    "is_watched",
    is_flag=True,
    show_default=False,
    help="Show it again every 2 s, until the run is no longer running.",
)
def status(run_dir: Path | str, as_json: bool, is_watched: bool) -> int:  # fmt: skip
    """Show the progress of a run, at any time."""
    if isinstance(run_dir, str):
        if is_watched:
            raise ConfigurationError("--watch is for runs, not for stores: give it again later")
        return _show_store(run_dir, as_json=as_json)
    check_run_dir(run_dir)
    if is_watched and not as_json and sys.stdout is not None and sys.stdout.isatty():
        return _watch(run_dir)
    while True:
        found = read_status(run_dir)
        print_status(found, as_json=as_json)
        if not (is_watched and found.is_running):
            return ANSWERED
        time.sleep(WATCH_INTERVAL_S)


def _show_store(url: str, *, as_json: bool) -> int:
    # Only now: most have no store.
    from pingdata_async.engines.overview import read_store_status  # noqa: PLC0415

    found = read_store_status(url)
    if as_json:
        show_json(found)
        return ANSWERED
    rows, chunks = found.rows, ", ".join(f"{n:,} {state}" for state, n in found.chunks.items())
    show(
        f"{url}: {counted(found.tasks, 'task')}, sources {','.join(found.sources)}, {found.api}",
        f"  {counted(rows.rows, 'row')} with an outcome: {rows.ok:,} ok, {rows.partial:,} partial, "
        f"{rows.failed:,} failed ({rows.no_answer:,} without an answer)",
        f"  chunks: {chunks or 'none'}",
        f"  {counted(found.jobs, 'job')}, {counted(found.locations_charged, 'location')} charged, "
        f"{found.locations_in_doubt:,} in doubt",
        Table(
            ("task", "rows done", "jobs", "charged", "in doubt"),
            [
                (name, task.rows.rows, task.jobs, task.locations_charged, task.locations_in_doubt)
                for name, task in sorted(
                    found.by_task.items(), key=lambda each: _by_number(each[0])
                )
            ],
        ),
    )
    return ANSWERED


def _by_number(task: str) -> tuple[int, str]:
    return (int(task) if task.isdecimal() else -1, task)


def _watch(run_dir: Path) -> int:
    # Only now: rich is slow to load.
    from rich.console import Console  # noqa: PLC0415

    from pingdata_async.cli.screen import redrawn  # noqa: PLC0415

    with redrawn(Console(highlight=False, markup=False)) as draw:
        while True:
            found = read_status(run_dir)
            lines = describe_status(found, time.time(), list_at_most=LIST_AT_MOST_WATCHED)
            draw("\n".join(fitted(map(printable, lines))))
            if not found.is_running:
                return ANSWERED
            time.sleep(WATCH_INTERVAL_S)


@command(
    examples="""
    pingdata-async runs
    pingdata-async runs schedules/2026 --json
    """
)
@click.argument(
    "folder", cls=Argument, metavar="[FOLDER]", default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where to look. [default: here]",
)  # fmt: skip
@json_option("Print the runs as JSON.")
def runs(folder: Path, as_json: bool) -> int:
    """List the runs in a folder: state, age, rows, charges and size."""
    found = find_runs(folder)
    if as_json:
        show_json(found)
    elif not found:
        show(f"There are no runs in {shown_path(folder)}.")
    else:
        headings = ("run", "state", "last change", "rows done", "of", "charged", "size")
        show(Table(headings, [_line(run, time.time()) for run in found]))
    return ANSWERED


def _line(run: FoundRun, now: float) -> tuple[Cell, ...]:
    return (
        Path(run.run_dir).name,
        run.state,
        f"{duration(max(0.0, now - run.changed_at))} ago",
        run.settled,
        run.rows,
        run.locations_charged,
        shown_bytes(run.size_bytes),
    )


def print_status(status: RunStatus, *, as_json: bool) -> None:
    """Print the status on standard output; raises as `show()`."""
    if as_json:
        show_json(status)
    else:
        show_lines(map(printable, describe_status(status, time.time())))


def describe_status(
    status: RunStatus, now: float, *, list_at_most: int = LIST_AT_MOST
) -> list[str]:
    """A run's status in lines for people; `now` in Unix seconds."""
    settled = (
        f"  {status.settled:,} of {counted(status.rows, 'row')} with an outcome: {status.ok:,} ok, "
        f"{status.partial:,} partial, {status.failed:,} failed ({status.no_answer:,} without an "
        "answer)"
    )
    lines = [
        f"{status.run_dir}: {status.state}",
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
    if status.oldest_reused_at is not None:
        told = reused_told(status.locations_reused, status.locations, status.oldest_reused_at)
        lines.append(f"  {told.rstrip('.')}")
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
    lines += _listed("in flight", status.in_flight, now, list_at_most)
    lines += _listed("in doubt", status.in_doubt, now, list_at_most)
    if any(each.held for each in status.in_doubt):
        lines.append(
            "  Held submissions need your decision: check the account's usage at that time, then "
            "`resume` with --in-doubt resubmit to send them again"
        )
    return lines


def _listed(what: str, pending: list[PendingSubmission], now: float, at_most: int) -> list[str]:
    if not pending:
        return []
    lines = [f"  {what}: {len(pending):,}"]
    for each in pending[:at_most]:
        job = f"job {each.job_id}, " if each.job_id else ""
        held = ", held" if each.held else ""
        error = f": {each.error}" if each.error else ""
        since = duration(max(0.0, now - each.since))
        lines.append(
            f"    chunk {each.chunk}, {job}{counted(each.locations, 'location')}, "
            f"since {since}{held}{error}"
        )
    if len(pending) > at_most:
        lines.append(f"    and {len(pending) - at_most:,} more; --json lists them")
    return lines
