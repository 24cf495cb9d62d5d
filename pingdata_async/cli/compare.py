"""The commands that compare: `diff` (two runs) and `reconcile` (a run and the account)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import click

from pingdata_async.cli.console import Table, show, show_json
from pingdata_async.cli.help import Option, Panel, command, in_panel
from pingdata_async.cli.main import (
    ANSWERED,
    NO_ANSWER_FOR_SOME,
    STOPPED,
    run_until_signal,
    say,
)
from pingdata_async.cli.options import (
    api_options,
    check_output_name,
    check_run_dir,
    format_option,
    json_option,
    listed,
    only,
    overwrite_option,
    run_argument,
    run_dir_argument,
    safe_csv_option,
)
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.diff import DiffSummary, write_diff
from pingdata_async.runs.directory.directory import read_settings
from pingdata_async.runs.reconcile import Reconciliation, Verdict, reconcile_run
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import STDOUT, counted

LIST_AT_MOST = 20

_diff_options = in_panel(
    Panel.OUT,
    click.option(
        "-o", "--output", cls=Option, required=True, metavar="FILE",
        help='Write the changes to this file. In any format of `enhance`; "-" is standard output.',
    ),
    format_option,
    click.option(
        "--fields", cls=Option, metavar="NAMES",
        help='Compare these fields, such as "fema_flood_zone,flood.*,PG.latitude".  [default: all '
        "except is_cache_hit, worker_name, persist_for, raw_response and fetch_time of each "
        "source, which '*' includes]",
    ),
    click.option(
        "--tolerance", cls=Option, metavar="NUMBER", type=click.FloatRange(min=0), default=0.0,
        help="Take numbers that differ by no more than this for the same.",
    ),
    overwrite_option,
    safe_csv_option,
)  # fmt: skip


@command(
    examples="""
        pingdata-async diff 2025.xlsx.run 2026.xlsx.run -o changes.csv
        pingdata-async diff 2025.xlsx 2026.xlsx -o moved.xlsx --fields fema_flood_zone
    """,
    exit_codes="""
        0    written
        2    wrong usage
        5    written, but a run is not finished; or a run cannot be read
    """,
)
@run_argument("old", "The folder of the older run, or the output beside it.")
@run_argument("new", "The folder of the newer run, or the output beside it.")
@_diff_options
@json_option("Print the counts as JSON.")
def diff(old: Path, new: Path, output: str, as_json: bool, **others: Any) -> int:
    """Write which answers changed between two runs, at no cost.

    Runs are compared by location, whatever the order and the format of their inputs, and the number
    of rows at a location. A line says which field of which source changed, from what to what, and
    the ids of the row in both runs; or that a location is in one of the runs only. The counts by
    field are printed.

    A source is compared where both runs have its answer, "no match" included.
    """
    for run_dir in (old, new):
        check_run_dir(run_dir)
    check_output_name(output)
    if as_json and output == STDOUT:
        raise ConfigurationError("--json and -o - would both be on standard output; name a file")
    options = only(("tolerance", "overwrite"), others)
    writing = WriteOptions(format=others["output_format"], safe_csv=others["safe_csv"])
    fields = listed(others["fields"])

    async def write() -> DiffSummary:
        return await write_diff(old, new, output, fields=fields, writing=writing, **options)

    try:
        summary = anyio.run(run_until_signal, write)
    except BrokenPipeError:
        return ANSWERED
    if as_json:
        show_json(summary)
    else:
        for line in _described(summary):
            say(printable(line))
    return STOPPED if any(summary.unfinished.values()) else ANSWERED


def _described(summary: DiffSummary) -> Iterator[str]:
    rows = counted(summary.rows_in_both, "row")
    yield f"{rows} in both runs, {summary.rows_changed:,} of them with changes"
    yield f"{summary.only_in_old:,} only in the older run, {summary.only_in_new:,} in the newer"
    fields = [
        (f"{code} {field}", counts)
        for code, of_source in summary.changes.items()
        for field, counts in of_source.items()
    ]
    fields.sort(key=lambda each: -each[1].total())
    for name, counts in fields[:LIST_AT_MOST]:
        yield f"  {name}: {', '.join(f'{number:,} {kind}' for kind, number in counts.items())}"
    if len(fields) > LIST_AT_MOST:
        yield f"  and {len(fields) - LIST_AT_MOST:,} more fields; --json lists them"
    for code, lacking in summary.not_compared.items():
        for name, number in lacking.items():
            said = f"the {_AGES[name]} run has no answer of {code}"
            yield f"not compared: {counted(number, 'row')}, as {said}"
    for name, number in summary.unfinished.items():
        if number:
            without = f"{counted(number, 'row')} without an outcome"
            yield f"the {_AGES[name]} run is not finished: {without}"
    for note in summary.notes:
        yield f"note: {note}"


_AGES = {"old": "older", "new": "newer"}


# -- A run and the account -------------------------------------------------------------------


@command(
    examples="pingdata-async reconcile enhanced.xlsx",
    exit_codes="""
        0    nothing of the run is in doubt, or nothing that is was charged
        2    wrong usage
        3    what is in doubt was charged, or a part of it
        4    no auth token, or the API refused it
        5    it cannot be told; or the API gave no answer
    """,
)
@run_dir_argument
@api_options
@json_option("Print it as JSON.")
def reconcile(run_dir: Path, as_json: bool, **others: Any) -> int:
    """Set a run's charges beside the account's usage.

    A submission whose response was lost may have been charged. The account tells by time and source
    what was. If that is no more than the run's accepted jobs, nothing in doubt was charged; if it
    is more by just what is in doubt, it was. Whatever else used the account at the same time leaves
    it open; other runs in the same folder are counted in.
    """
    # Only now: `diff` needs no client, which takes a while to load.
    from pingdata_async.cli.execute import ask  # noqa: PLC0415
    from pingdata_async.cli.runs import connection_to_run, refusal_of  # noqa: PLC0415

    check_run_dir(run_dir)
    settings = read_settings(run_dir)
    # Nothing is submitted, so that nobody is called back.
    refusal = refusal_of(settings, others | {"callback_url": ""})
    if refusal is not None:
        raise refusal.error
    found = ask(connection_to_run(settings, others), lambda client: reconcile_run(client, run_dir))
    if as_json:
        show_json(found)
    else:
        show(*_account_described(found))
    if found.is_running:
        return STOPPED
    return _EXIT_CODES.get(found.verdict, STOPPED)


_EXIT_CODES = {
    Verdict.NOTHING_IN_DOUBT: ANSWERED,
    Verdict.NOT_CHARGED: ANSWERED,
    Verdict.CHARGED: NO_ANSWER_FOR_SOME,
    Verdict.PARTLY_CHARGED: NO_ANSWER_FOR_SOME,
}
_SAID = {
    Verdict.NOTHING_IN_DOUBT: "Nothing of this run is in doubt.",
    Verdict.NOT_CHARGED: "What is in doubt was not charged: the account has no more than was "
    "accepted.",
    Verdict.CHARGED: "What is in doubt was charged, if nothing else used the account at that time.",
    Verdict.PARTLY_CHARGED: "A part of what is in doubt was charged, if nothing else used the "
    "account at that time.",
    Verdict.OPEN: "Whether what is in doubt was charged cannot be told: something else used the "
    "account at that time.",
    Verdict.SHORT: "It cannot be told: the account shows less than was accepted. It may lag behind "
    "(ask again later), be another user's, or not charge for everything.",
}


def _account_described(found: Reconciliation) -> Iterator[str | Table]:
    spans = ", ".join(f"{begin} to {end}" for begin, end in found.spans) or "nothing was sent"
    exactly = f"; the account tells the time by {found.granularity}" if found.granularity else ""
    yield f"{found.run_dir}: {spans}{exactly}"
    if found.other_runs:
        yield f"At the same time: {', '.join(found.other_runs)}"
    headings = ("source", "charged", "in doubt", "other runs", "account", "unexplained", "verdict")
    rows = [
        (
            code,
            each.charged,
            each.in_doubt,
            each.other_runs + each.other_runs_in_doubt,
            each.account,
            each.unexplained,
            each.verdict.replace("_", " "),
        )
        for code, each in found.sources.items()
    ]
    if rows:
        yield Table(headings, rows)
    if found.submissions_in_doubt:
        locations = counted(found.locations_in_doubt, "location")
        yield f"In doubt: {locations} in {counted(found.submissions_in_doubt, 'submission')}"
    yield _SAID[found.verdict]
    if found.is_running:
        yield "The run goes on: ask again when it is finished."
