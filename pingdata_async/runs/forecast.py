"""What a run would send, charge and need, and how long it would take.

The duration follows from the throughput of this run so far, or of the last one beside it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec

from pingdata_async.api.wire import resets_at
from pingdata_async.engine.flow_control.budget import Amount
from pingdata_async.exceptions import PingDataError, RunError
from pingdata_async.runs.directory.directory import (
    PACE,
    PLAN_NAME,
    SETTINGS,
    check_own_run,
    journal_path,
    runs_beside,
)
from pingdata_async.runs.directory.plan import Plan, PlanSummary
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader, reading_journal
from pingdata_async.runs.journal.records import ReusedTotals
from pingdata_async.runs.preflight import Judgement, Preflight
from pingdata_async.runs.spending import Spending, check_budget
from pingdata_async.util.files import free_bytes
from pingdata_async.util.text import STDOUT, shown_bytes, shown_path
from pingdata_async.value_notes import ValueNote

LOCATIONS_TO_LEARN_FROM = 100
REQUESTS_A_JOB = 3  # at least: submit, poll, fetch

# -- Duration ---------------------------------------------------------------------------------


class Throughput(msgspec.Struct, frozen=True):
    """Locations answered, and the seconds that took."""

    locations: float
    seconds: float


async def keep_throughput(journal: Journal, locations: float, seconds: float) -> None:
    """Note the throughput of this process in the journal, if enough was answered to tell.

    Args:
        journal: The run's.
        locations: About how many locations were answered, without the rows that repeat them.
        seconds: How long that took.
    """
    if locations >= LOCATIONS_TO_LEARN_FROM and seconds > 0.0:
        await journal.set_meta(PACE, Throughput(round(locations, 1), round(seconds, 3)))


def learnt_locations_per_s(run_dir: Path, settings: RunSettings) -> float | None:
    """The throughput of this run, or of the last one beside it; None if unknown. Blocks.

    Only runs with the same API and sources count.
    """
    beside = runs_beside(run_dir)
    beside.sort(key=_last_change, reverse=True)
    for path in (run_dir, *beside):
        # Others' runs may be unreadable: that is no error of this one.
        with contextlib.suppress(PingDataError, msgspec.ValidationError, OSError):
            check_own_run(path)
            with JournalReader(journal_path(path), at_a_glance=True) as journal:
                found, theirs = journal.meta(PACE), journal.meta(SETTINGS)
            if found is not None and _is_alike(theirs, settings):
                pace = msgspec.convert(found, Throughput)
                if pace.locations > 0.0 and pace.seconds > 0.0:
                    return pace.locations / pace.seconds
    return None


def _last_change(run_dir: Path) -> float:
    try:
        return journal_path(run_dir).stat().st_mtime
    except OSError:  # gone meanwhile, or out of reach
        return 0.0


def expected_seconds(
    locations: int,
    jobs: int,
    *,
    locations_per_s: float | None,
    max_requests_per_s: float | None,
) -> float | None:
    """About how long the run will take; None if unknown (pure).

    Args:
        locations: Locations to send.
        jobs: Jobs that they take.
        locations_per_s: The learnt throughput; None if there is none.
        max_requests_per_s: The limit of requests; None if there is none. Without a throughput, it
            gives a lower bound.
    """
    bounds_s = []
    if locations_per_s:
        bounds_s.append(locations / locations_per_s)
    if max_requests_per_s:
        bounds_s.append(jobs * REQUESTS_A_JOB / max_requests_per_s)
    return max(bounds_s, default=None)


def _is_alike(kept: Any, settings: RunSettings) -> bool:
    theirs = msgspec.convert(kept, RunSettings)
    return theirs.api == settings.api and set(theirs.sources) == set(settings.sources)


# -- Disk space -------------------------------------------------------------------------------

# As measured on answers like those documented: 1 KB for a geocoder, 3 to 4 KB for a hazard
# source; in the spool about a ninth of it.
OUTPUT_BYTES_A_SOURCE = 2_500
SPOOL_BYTES_A_SOURCE = 300


class DiskNeed(NamedTuple):
    """What the answers will take on one device, and what is free there."""

    folders: list[Path]
    needed_bytes: int
    free_bytes: int

    @property
    def suffices(self) -> bool:
        """Whether there is enough."""
        return self.needed_bytes <= self.free_bytes


def disk_needs(
    run_dir: Path, settings: RunSettings, planned: PlanSummary, locations: int
) -> list[DiskNeed]:
    """About what the answers will take, by device; blocks.

    Args:
        run_dir: Where the spool grows, and where answers are kept for duplicates. It need not
            exist yet.
        settings: Of the run.
        planned: What its plan amounts to: all of these rows are written to the output.
        locations: Locations that are still to be answered.
    """
    sources = max(1, len(settings.sources))
    kept_bytes = locations * SPOOL_BYTES_A_SOURCE
    kept_bytes += min(planned.repeated, planned.locations) * OUTPUT_BYTES_A_SOURCE
    run_dir = run_dir if run_dir.exists() else run_dir.absolute().parent
    by_folder = [(run_dir, sources * kept_bytes)]
    if settings.output != STDOUT:
        folder = Path(os.path.realpath(settings.output)).parent  # a link is written through
        by_folder.append((folder, planned.rows * sources * OUTPUT_BYTES_A_SOURCE))
    by_device: dict[int, DiskNeed] = {}
    for folder, size_bytes in by_folder:
        device = folder.stat().st_dev
        need = by_device.get(device) or DiskNeed([], 0, free_bytes(folder))
        folders = [*need.folders, folder]
        by_device[device] = need._replace(
            folders=folders, needed_bytes=need.needed_bytes + size_bytes
        )
    return list(by_device.values())


def check_space(needs: list[DiskNeed]) -> None:
    """Refuse a run whose answers will not fit on the disk, before it costs anything.

    Raises:
        RunError: With what is needed and what is free.
    """
    for need in needs:
        if not need.suffices:
            raise RunError(
                f"{' and '.join(map(str, need.folders))}: the answers will need about "
                f"{shown_bytes(need.needed_bytes)}, but only {shown_bytes(need.free_bytes)} are "
                "free; make room, or use --no-space-check"
            )


# -- A forecast -------------------------------------------------------------------------------


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the account's limit for one source and window.

    Attributes:
        source: The source's code.
        window: Such as "daily".
        left: Locations left.
        limit: Locations that the whole window allows; None if unknown.
        resets_at: When the limit resets (UTC); None if unknown.
    """

    source: str
    window: str
    left: int
    limit: int | None
    resets_at: dt.datetime | None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would send, charge and need from now on.

    Attributes:
        run_dir: The run directory with the plan; None if the plan was deleted.
        source: The input, as it was named.
        output: The output.
        sources: The run's sources.
        api: The API's origin, or "sandbox".
        rows: Data records in the input.
        distinct: Distinct locations among them that can be sent.
        repeated: Rows that repeat these, and get their answers at no cost.
        left_out: Rows that are not sent, by reason.
        locations_reused: Distinct locations that are not sent, as earlier runs have all answers.
        reused_by_source: Answers of earlier runs, by source.
        oldest_reused_at: When the oldest of these was given (UTC); None if there are none.
        mapping: Which column is which field, with samples of what is sent, a line each.
        unused_columns: Headers of columns that are not sent.
        value_notes: Values that are not sent as they stand, by column.
        skipped_by_source: Rows, repeated ones included, that are not sent to a source because it
            surely cannot answer them.
        locations: Locations still to send within the budget, if all goes well.
        charged_by_source: About how many of these are sent to each source.
        left_by_budget: Locations that the budget excludes.
        jobs: Jobs that the locations take.
        expected_seconds: About how long that takes; None if unknown.
        is_at_least: Whether `expected_seconds` is a lower bound, as no throughput is known yet.
        disk_bytes: About how many bytes the answers need.
        disk_suffices: Whether the disk has that many free.
        quotas: What is left of the account's limits, by source and window.
        fits: Whether it fits the account's limits; None if these are unknown.
        refusals: What the limits would refuse, and until when, a sentence each.
        fitting: How many locations the limits of all sources allow; None if they allow all.
        notes: What else the user should know, a sentence each.
    """

    run_dir: str | None
    source: str
    output: str
    sources: tuple[str, ...]
    api: str
    rows: int
    distinct: int
    repeated: int
    left_out: dict[str, int]
    locations_reused: int = 0
    reused_by_source: dict[str, int] = {}
    oldest_reused_at: dt.datetime | None = None
    mapping: tuple[str, ...] = ()
    unused_columns: tuple[str, ...] = ()
    value_notes: tuple[ValueNote, ...] = ()
    skipped_by_source: dict[str, int]
    locations: int
    charged_by_source: dict[str, int]
    left_by_budget: int
    jobs: int
    expected_seconds: float | None
    is_at_least: bool
    disk_bytes: int
    disk_suffices: bool
    quotas: tuple[Quota, ...]
    fits: bool | None
    refusals: tuple[str, ...]
    fitting: int | None
    notes: tuple[str, ...]


async def forecast(
    run_dir: Path, settings: RunSettings, preflight: Preflight, *, place: Path
) -> Forecast:
    """Forecast a planned run; sends no job.

    Args:
        run_dir: The run directory with the plan.
        settings: The settings to continue with.
        preflight: Asks what the account's limits allow.
        place: Where the run would be kept; it need not exist yet.

    Raises:
        ConfigurationError: When the budget names a source that no location asks.
        RunError: When the run directory cannot be read.
        AuthenticationError: When the API does not accept the token.
    """
    plan = await anyio.to_thread.run_sync(Plan, run_dir / PLAN_NAME)
    planned = plan.summary
    check_budget(settings, plan)
    left, to_come, reused = await _still_to_send(run_dir, settings, plan)
    judgement = await preflight.judge(to_come)
    notes = list(planned.notes)
    if judgement.why_unknown:
        notes.append(f"The account's limits are unknown: {judgement.why_unknown}.")
    jobs = _jobs(plan, left, to_come, settings)
    locations_per_s = await anyio.to_thread.run_sync(learnt_locations_per_s, place, settings)
    seconds = expected_seconds(
        to_come.locations,
        jobs,
        locations_per_s=locations_per_s,
        max_requests_per_s=settings.max_requests_per_s,
    )
    needs = await anyio.to_thread.run_sync(disk_needs, place, settings, planned, to_come.locations)
    return Forecast(
        run_dir=shown_path(place),
        source=settings.source,
        output=settings.output,
        sources=settings.sources,
        api=settings.api,
        rows=planned.rows,
        distinct=planned.locations,
        repeated=planned.repeated,
        left_out=planned.left_out,
        locations_reused=reused.locations,
        reused_by_source=reused.by_source,
        oldest_reused_at=reused.oldest_at,
        mapping=planned.mapping,
        unused_columns=planned.unused_columns,
        value_notes=planned.value_notes,
        skipped_by_source=planned.skipped,
        locations=to_come.locations,
        charged_by_source=dict(to_come.by_source),
        left_by_budget=left.locations - to_come.locations,
        jobs=jobs,
        expected_seconds=seconds,
        is_at_least=seconds is not None and locations_per_s is None,
        disk_bytes=sum(need.needed_bytes for need in needs),
        disk_suffices=all(need.suffices for need in needs),
        quotas=quotas(judgement, to_come, dt.datetime.now(dt.UTC)),
        fits=judgement.fits,
        refusals=tuple(dict.fromkeys(map(str, judgement.refusals))),
        fitting=judgement.fitting,
        notes=tuple(notes),
    )


async def _still_to_send(
    run_dir: Path, settings: RunSettings, plan: Plan
) -> tuple[Amount, Amount, ReusedTotals]:
    """What is still to be sent, whatever the budget, and within it; and what is reused."""
    with plan:
        async with reading_journal(journal_path(run_dir), as_it_is_now=True) as journal:
            totals = await anyio.to_thread.run_sync(journal.totals)
            spending = Spending(
                settings, plan, totals, lambda read: anyio.to_thread.run_sync(read, journal)
            )
            return await spending.left(), await spending.to_come(), totals.reused


def quotas(judgement: Judgement, wanted: Amount, now: dt.datetime) -> tuple[Quota, ...]:
    """What is left of the limits of the sources that would be asked (pure)."""
    asked = {code.casefold() for code in wanted.by_source}
    limits = judgement.limits
    return tuple(
        Quota(
            source=code,
            window=window,
            left=left,
            limit=source.limits.get(window),
            resets_at=resets_at(window, now),
        )
        for code, source in (limits.sources.items() if limits is not None else ())
        if code.casefold() in asked
        for window, left in source.remaining.items()
    )


def _jobs(plan: Plan, left: Amount, to_come: Amount, settings: RunSettings) -> int:
    """The jobs of the plan if all of it is left; otherwise as many as full chunks take."""
    if left.locations == plan.summary.locations == to_come.locations:
        return plan.summary.jobs
    size = max(1, min(settings.chunk_size, plan.summary.chunk_size))
    return -(-to_come.locations // size)
