"""How far a run is, read from its directory, also while it runs and after a crash."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec

from pingdata_async.exceptions import PingDataError, RunError
from pingdata_async.runs.directory.directory import FINISHED, PLAN_NAME, journal_path, read_settings
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.journal.reader import JournalReader
from pingdata_async.runs.journal.records import SubmissionRecord
from pingdata_async.util.files import absolute, is_locked
from pingdata_async.util.text import shown_path

LIST_AT_MOST = 1000


class PendingSubmission(msgspec.Struct, frozen=True, kw_only=True):
    """A submission without an outcome yet.

    Attributes:
        chunk: The chunk's number.
        locations: Locations in it.
        job_id: The API's id of the job; None if it never arrived.
        since: When it was sent, in Unix seconds.
        held: Whether it waits for you to decide (`--in-doubt hold`).
        error: What went wrong; None if nothing did.
    """

    chunk: int
    locations: int
    job_id: str | None
    since: float
    held: bool = False
    error: str | None = None


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is. The counts that `RunSummary` has too are the same, so far.

    Attributes:
        run_dir: The run directory.
        source: The input.
        output: The output.
        sources: The run's sources.
        api: The API's origin, or "sandbox".
        is_running: Whether a process is executing it now.
        is_finished: Whether every row has an outcome and the output was written.
        rows: Rows in the plan.
        locations: Of these, rows that are sent.
        repeated: Rows that repeat one of those, and are not sent.
        settled: Rows with an outcome: ok + partial + failed.
        locations_reused, reused_by_source, oldest_reused_at: What earlier runs had answered.
        chunks: Chunks by state.
        locations_in_doubt: Locations in submissions that are in doubt.
        locations_under_way: Locations in submissions that a running process sends now.
        max_locations: Locations that the whole run may send; None for any number.
        budget: The same by source.
        in_flight: Jobs in flight, the oldest first; at most 1,000.
        in_doubt: Submissions in doubt, the oldest first; at most 1,000.
    """

    run_dir: str
    source: str
    output: str
    sources: tuple[str, ...]
    api: str
    is_running: bool
    is_finished: bool
    rows: int
    locations: int
    repeated: int
    locations_reused: int
    reused_by_source: dict[str, int]
    oldest_reused_at: dt.datetime | None
    settled: int
    ok: int
    partial: int
    failed: int
    no_answer: int
    reasons: dict[str, int]
    chunks: dict[str, int]
    jobs: int
    locations_charged: int
    charged_by_source: dict[str, int]
    locations_in_doubt: int
    locations_under_way: int
    skipped_by_source: dict[str, int]
    max_locations: int | None
    budget: dict[str, int]
    locations_possibly_charged_again: int
    submissions_in_doubt: int
    in_flight: list[PendingSubmission]
    in_doubt: list[PendingSubmission]

    @property
    def state(self) -> str:
        """Whether it is finished, running or stopped, in that word."""
        return "finished" if self.is_finished else "running" if self.is_running else "stopped"


class FoundRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was found in a folder.

    Attributes:
        run_dir: The run directory.
        state: "finished", "running", "stopped" or "unreadable".
        changed_at: When it was last worked on, in Unix seconds.
        rows: Rows in the plan; None if it cannot be read.
        settled: Rows with an outcome.
        locations_charged: Locations in accepted jobs.
        size_bytes: What its files take on disk.
        error: Why it cannot be read; None if it can.
    """

    run_dir: str
    state: str
    changed_at: float
    rows: int | None = None
    settled: int | None = None
    locations_charged: int | None = None
    size_bytes: int = 0
    error: str | None = None


def find_runs(folder: str | Path) -> list[FoundRun]:
    """The runs in a folder, the last changed first; those in its folders are not looked for.

    Raises:
        RunError: When the folder cannot be read.
    """
    try:
        inside = [path for path in Path(folder).iterdir() if journal_path(path).is_file()]
    except OSError as error:
        raise RunError(f"{shown_path(folder)} cannot be read: {error.strerror or error}") from error
    return sorted(map(_found, inside), key=lambda run: -run.changed_at)


def _found(run_dir: Path) -> FoundRun:
    kept = [path.lstat() for path in run_dir.iterdir()]
    found = FoundRun(
        run_dir=shown_path(run_dir),
        state="unreadable",
        changed_at=max(each.st_mtime for each in kept),
        size_bytes=sum(each.st_size for each in kept),
    )
    try:
        status = read_status(run_dir)
    except PingDataError as error:
        return msgspec.structs.replace(found, error=str(error))
    return msgspec.structs.replace(
        found,
        state=status.state,
        rows=status.rows,
        settled=status.settled,
        locations_charged=status.locations_charged,
    )


def read_status(run_dir: str | Path) -> RunStatus:
    """Read how far a run is, also while it runs and after a crash; blocks for a moment.

    Args:
        run_dir: The run directory.

    Raises:
        RunError: When it is no run directory, or is damaged.
    """
    run_dir = absolute(run_dir)
    settings = read_settings(run_dir)
    is_running = is_locked(run_dir)
    planned = Plan(run_dir / PLAN_NAME).summary
    with JournalReader(journal_path(run_dir)) as journal, journal.one_moment():
        totals = journal.totals()
        in_doubt = [_pending(each) for each in journal.in_doubt(LIST_AT_MOST)]
        unanswered, under_way = totals.submissions_unanswered, 0
        if is_running:  # a few, one for each worker that submits
            under_way = sum(each.locations for each in journal.unanswered())
        elif unanswered:  # no process waits for their answers any more
            in_doubt += [
                msgspec.structs.replace(_pending(each), error="cut off before the answer")
                for each in journal.unanswered(LIST_AT_MOST)
            ]
        return RunStatus(
            run_dir=shown_path(run_dir),
            source=settings.source,
            output=settings.output,
            sources=settings.sources,
            api=settings.api,
            is_running=is_running,
            is_finished=journal.meta(FINISHED) is not None,
            rows=planned.rows,
            locations=planned.locations,
            repeated=planned.repeated,
            locations_reused=totals.reused.locations,
            reused_by_source=totals.reused.by_source,
            oldest_reused_at=totals.reused.oldest_at,
            settled=totals.rows.rows,
            ok=totals.rows.ok,
            partial=totals.rows.partial,
            failed=totals.rows.failed,
            no_answer=totals.rows.no_answer,
            reasons=totals.rows.reasons,
            chunks={state.value: chunks for state, chunks in totals.chunks.items()},
            jobs=totals.jobs,
            locations_charged=totals.locations_charged,
            charged_by_source=totals.charged_by_source,
            locations_in_doubt=totals.possibly_charged - under_way,
            locations_under_way=under_way,
            skipped_by_source=planned.skipped,
            max_locations=settings.caps.locations,
            budget=dict(settings.caps.by_source),
            locations_possibly_charged_again=totals.locations_possibly_charged_again,
            submissions_in_doubt=totals.submissions_in_doubt + (0 if is_running else unanswered),
            in_flight=[_pending(each) for each in journal.in_flight(LIST_AT_MOST)],
            in_doubt=in_doubt,
        )


def _pending(record: SubmissionRecord) -> PendingSubmission:
    return PendingSubmission(
        chunk=record.index,
        locations=record.locations,
        job_id=record.job_id or None,
        since=record.since,
        held=record.held,
        error=record.error or None,
    )
