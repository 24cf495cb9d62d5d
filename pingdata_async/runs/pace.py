"""How fast runs went, so that it can be told how long one will take."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async.exceptions import PingDataError
from pingdata_async.runs.identity import RunSettings
from pingdata_async.runs.journal import Journal
from pingdata_async.runs.journal_reader import JournalReader
from pingdata_async.runs.run_directory import (
    PACE,
    SETTINGS,
    check_own_run,
    journal_path,
    runs_beside,
)

LOCATIONS_TO_LEARN_FROM = 100
REQUESTS_A_JOB = 3  # at least: submitted, asked about, fetched


class Pace(msgspec.Struct, frozen=True):
    """Locations that were answered within so many seconds."""

    locations: float
    seconds: float


async def keep_pace(journal: Journal, locations: float, seconds: float) -> None:
    """Note down how fast the answers to this process came, where they are enough to tell.

    Args:
        journal: The run's.
        locations: About how many were answered: not the rows that repeat them, which take no time.
        seconds: Within which they were.
    """
    if locations >= LOCATIONS_TO_LEARN_FROM and seconds > 0.0:
        await journal.set_meta(PACE, Pace(round(locations, 1), round(seconds, 3)))


def learnt_locations_per_s(run_dir: Path, settings: RunSettings) -> float | None:
    """How fast this run went, or else the last one beside it; None where none tells. Blocks.

    It must have asked the same sources of the same API.
    """
    beside = runs_beside(run_dir)
    beside.sort(key=_last_change, reverse=True)
    for path in (run_dir, *beside):
        # One that cannot be read is none of our business.
        with contextlib.suppress(PingDataError, msgspec.ValidationError, OSError):
            check_own_run(path)
            with JournalReader(journal_path(path), any_version=True) as journal:
                found, theirs = journal.meta(PACE), journal.meta(SETTINGS)
            if found is not None and _is_alike(theirs, settings):
                pace = msgspec.convert(found, Pace)
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
    """About how long it will take; None where nothing tells (pure).

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
