"""What a dry run prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pingdata_async.cli.progress import duration, mapped_lines
from pingdata_async.cli.showing import Table, show, show_json
from pingdata_async.plurals import counted
from pingdata_async.runs.forecast import Forecast
from pingdata_async.runs.space import shown_bytes
from pingdata_async.value_notes import sentence, to_be_told


def print_forecast(forecast: Forecast, *, as_json: bool) -> None:
    """Print it on standard output.

    Raises:
        RunError: When that cannot be written.
    """
    if as_json:
        show_json(forecast)
    else:
        show(*described(forecast))


def described(forecast: Forecast) -> Iterator[str | Table]:
    """A forecast in lines and tables for people."""
    repeated = f"; {counted(forecast.repeated, 'repeated row')}" if forecast.repeated else ""
    distinct = counted(forecast.distinct, "distinct location")
    yield f"{counted(forecast.rows, 'row')}, {distinct} to be sent{repeated}"
    if forecast.left_out:
        yield f"not sent: {_counted(forecast.left_out)}"
    yield from mapped_lines(forecast.mapping)
    yield from map(sentence, to_be_told(forecast.value_notes))
    if forecast.skipped_by_source:
        skipped = _counted(forecast.skipped_by_source)
        yield f"rows not asked of a source, as it would surely fail: {skipped}"
    charged = _counted(forecast.charged_by_source) or "nothing"
    locations, jobs = counted(forecast.locations, "location"), counted(forecast.jobs, "job")
    yield f"to be charged: {locations} in {jobs}; {charged}"
    if forecast.left_by_budget:
        left = counted(forecast.left_by_budget, "location")
        yield f"beyond the budget, and left for later: {left}"
    yield f"expected to take: {_expected(forecast)}"
    suffices = "" if forecast.disk_suffices else ", which are not free"
    yield f"disk needed: about {shown_bytes(forecast.disk_bytes)}{suffices}"
    if forecast.quotas:
        rows = [
            (
                quota.source,
                quota.window,
                quota.limit,
                quota.left,
                None if quota.resets_at is None else f"{quota.resets_at:%Y-%m-%d %H:%M}",
            )
            for quota in forecast.quotas
        ]
        yield Table(("source", "window", "limit", "left", "begins anew (UTC)"), rows)
    yield _fits(forecast)
    yield from forecast.notes
    if forecast.run_dir is not None:
        yield f"The plan is kept in {forecast.run_dir}; no job was sent."
    else:
        yield "The plan was thrown away; no job was sent."


def _fits(forecast: Forecast) -> str:
    if forecast.fits is None:
        return "Whether the account's limits suffice is not known."
    if forecast.fits:
        return "It fits into the account's limits."
    fits = f" What fits: {counted(forecast.fitting, 'location')}." if forecast.fitting else ""
    return f"It does not fit into the account's limits. {'. '.join(forecast.refusals)}.{fits}"


def _expected(forecast: Forecast) -> str:
    if forecast.expected_seconds is None:
        return "unknown"
    at_least = "at least " if forecast.is_at_least else "about "
    return at_least + duration(forecast.expected_seconds)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in counts.items())
