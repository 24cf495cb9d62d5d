"""What a run would send, charge and need, and how long it will take, before anything is sent.

How long follows from the throughput of this run so far, or else of the last one beside it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec

from pingdata_async.api.account import resets_at
from pingdata_async.engine.flow_control.budget import Amount
from pingdata_async.exceptions import PingDataError
from pingdata_async.runs.directory.directory import (
    PACE,
    PLAN_NAME,
    SETTINGS,
    check_own_run,
    journal_path,
    runs_beside,
    space_needs,
)
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.settings import RunSettings
from pingdata_async.runs.journal.journal import Journal
from pingdata_async.runs.journal.reader import JournalReader, reading_journal
from pingdata_async.runs.preflight import Judgement, Preflight
from pingdata_async.runs.spending import Spending, check_budget
from pingdata_async.util.files import free_bytes
from pingdata_async.util.text import STDOUT, shown_path
from pingdata_async.value_notes import ValueNote

LOCATIONS_TO_LEARN_FROM = 100
REQUESTS_A_JOB = 3  # at least: submitted, asked about, fetched


class Throughput(msgspec.Struct, frozen=True):
    """Locations that were answered within so many seconds."""

    locations: float
    seconds: float


async def keep_throughput(journal: Journal, locations: float, seconds: float) -> None:
    """Note how fast this process got answers, if there were enough of them to tell.

    Args:
        journal: The run's.
        locations: About how many were answered: not the rows that repeat them, which take no time.
        seconds: Within which they were.
    """
    if locations >= LOCATIONS_TO_LEARN_FROM and seconds > 0.0:
        await journal.set_meta(PACE, Throughput(round(locations, 1), round(seconds, 3)))


def learnt_locations_per_s(run_dir: Path, settings: RunSettings) -> float | None:
    """The throughput of this run, or else of the last one beside it; None if unknown. Blocks.

    It must have asked the same sources of the same API.
    """
    beside = runs_beside(run_dir)
    beside.sort(key=_last_change, reverse=True)
    for path in (run_dir, *beside):
        # A run that cannot be read is not ours to complain about.
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
        locations: To be sent.
        jobs: That they take.
        locations_per_s: As learnt; None where nothing was.
        max_requests_per_s: As given; None where it was not. Alone, it tells how long it takes at
            least.
    """
    told = []
    if locations_per_s:
        told.append(locations / locations_per_s)
    if max_requests_per_s:
        told.append(jobs * REQUESTS_A_JOB / max_requests_per_s)
    return max(told, default=None)


def _is_alike(kept: Any, settings: RunSettings) -> bool:
    theirs = msgspec.convert(kept, RunSettings)
    return theirs.api == settings.api and set(theirs.sources) == set(settings.sources)


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a source in one window.

    Attributes:
        source: Its code.
        window: Such as "daily".
        left: Locations that are left.
        limit: Locations that the whole window allows; None if not said.
        resets_at: When it begins anew (UTC); None where that is not known.
    """

    source: str
    window: str
    left: int
    limit: int | None
    resets_at: dt.datetime | None


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would send, charge and need from here on.

    Attributes:
        run_dir: Where its plan is kept; None where it was thrown away.
        source: The input, as it was named.
        output: The output.
        sources: The sources asked.
        api: The API's origin, or "sandbox".
        rows: Data records of the input.
        distinct: Distinct locations among them that can be sent.
        repeated: Rows that repeat these: they have their answers for nothing.
        left_out: Rows that are not sent, by reason.
        mapping: Which column is which field, with samples of what is sent, a line each.
        value_notes: Values that are not sent as they stand, by column.
        skipped_by_source: Rows that a source is not asked about, as it would surely fail: those
            that repeat others included.
        locations: Locations that will be sent from here on, within the budget, if all goes well.
        charged_by_source: About how many of these each source is asked.
        left_by_budget: Locations that the budget does not allow for.
        jobs: Jobs that they take.
        expected_seconds: About how long it takes; None where nothing tells.
        is_at_least: Whether that is only how long it takes at least.
        disk_bytes: That the answers need, about.
        disk_suffices: Whether they are free.
        quotas: What is left, by source and window, of the sources that are asked and capped.
        fits: Whether the account's limits let it through, as far as is known; None where the
            limits are not known.
        refusals: What they would refuse, and until when, a sentence each.
        fitting: Where they refuse something, locations that all sources may be asked about.
        notes: What the user should know, a sentence each.
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
    mapping: tuple[str, ...] = ()
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
        run_dir: Where its plan is.
        settings: With what it would go on.
        preflight: Knows what the account's limits allow.
        place: Where the run would be kept; there need be nothing yet.

    Raises:
        ConfigurationError: When the budget names a source that is not asked.
        RunError: When the run directory cannot be read.
        AuthenticationError: When the API does not accept the token.
    """
    plan = await anyio.to_thread.run_sync(Plan, run_dir / PLAN_NAME)
    planned = plan.summary
    check_budget(settings, plan)
    with plan:
        async with reading_journal(journal_path(run_dir), as_it_is_now=True) as journal:
            totals = await anyio.to_thread.run_sync(journal.totals)
            spending = Spending(
                settings, plan, totals, lambda read: anyio.to_thread.run_sync(read, journal)
            )
            left, to_come = await spending.left(), await spending.to_come()
    judgement = await preflight.judge(to_come)
    notes = list(planned.notes)
    if judgement.why_unknown:
        notes.append(f"The account's limits are not known: {judgement.why_unknown}.")
    jobs = _jobs(plan, left, to_come, settings)
    locations_per_s = await anyio.to_thread.run_sync(learnt_locations_per_s, place, settings)
    seconds = expected_seconds(
        to_come.locations,
        jobs,
        locations_per_s=locations_per_s,
        max_requests_per_s=settings.max_requests_per_s,
    )
    disk_bytes, disk_suffices = await anyio.to_thread.run_sync(
        _disk, place, settings, plan, to_come.locations
    )
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
        mapping=planned.mapping,
        value_notes=planned.value_notes,
        skipped_by_source=planned.skipped,
        locations=to_come.locations,
        charged_by_source=dict(to_come.by_source),
        left_by_budget=left.locations - to_come.locations,
        jobs=jobs,
        expected_seconds=seconds,
        is_at_least=seconds is not None and locations_per_s is None,
        disk_bytes=disk_bytes,
        disk_suffices=disk_suffices,
        quotas=quotas(judgement, to_come, dt.datetime.now(dt.UTC)),
        fits=judgement.fits,
        refusals=tuple(dict.fromkeys(map(str, judgement.refusals))),
        fitting=judgement.fitting,
        notes=tuple(notes),
    )


def quotas(judgement: Judgement, wanted: Amount, now: dt.datetime) -> tuple[Quota, ...]:
    """What is left of each source that is asked and capped (pure)."""
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
    """Those of the plan, where all of it is left; else as many as full ones would be."""
    if left.locations == plan.summary.locations == to_come.locations:
        return plan.summary.jobs
    size = max(1, min(settings.chunk_size, plan.summary.chunk_size))
    return -(-to_come.locations // size)


def _disk(place: Path, settings: RunSettings, plan: Plan, locations: int) -> tuple[int, bool]:
    by_folder = space_needs(
        place if place.exists() else place.absolute().parent,
        None if settings.output == STDOUT else Path(settings.output),
        locations=locations,
        rows=plan.summary.rows,
        sources=max(1, len(settings.sources)),
        recurring=min(plan.summary.repeated, plan.summary.locations),
    )
    by_device: dict[int, tuple[int, int]] = {}
    for folder, size_bytes in by_folder:
        before, _ = by_device.get(folder.stat().st_dev, (0, 0))
        by_device[folder.stat().st_dev] = before + size_bytes, free_bytes(folder)
    return (
        sum(size_bytes for _, size_bytes in by_folder),
        all(size_bytes <= free for size_bytes, free in by_device.values()),
    )
