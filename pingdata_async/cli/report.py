"""The command `report`, and the option of the same name."""

from __future__ import annotations

from pathlib import Path

import click

from pingdata_async.cli.console import check_side_files
from pingdata_async.cli.help import Option, Panel, command, in_panel
from pingdata_async.cli.main import ANSWERED, say
from pingdata_async.cli.options import check_run_dir, run_dir_argument, switch
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.report.page import check_drawing, write_report
from pingdata_async.runs.directory.directory import read_settings
from pingdata_async.util.text import shown_path

ENDINGS = (".html", ".htm")


def check_report(path: Path | None, *, discard_run: bool = False) -> None:
    """Refuse a report that could not be written, before anything is paid for.

    Raises:
        ConfigurationError: With what is wrong.
    """
    if path is None:
        return
    if path.suffix.lower() not in ENDINGS:
        raise ConfigurationError(f"a report is HTML: name {shown_path(path)} something.html")
    if discard_run:
        raise ConfigurationError(
            "--report reads the run directory, which would be deleted; leave out --discard-run, "
            "and name one with --run-dir where the output is standard output"
        )
    check_drawing()


@command(
    examples="""
        pingdata-async report enhanced.xlsx -o report.html
        pingdata-async report enhanced.xlsx.run -o report.html --no-rows
    """
)
@run_dir_argument
@in_panel(
    Panel.OUT,
    click.option(
        "-o", "--output", cls=Option, required=True, metavar="FILE",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write to this HTML file. It is replaced if it exists.",
    ),
    switch(
        "--no-rows",
        help="Leave out addresses, ids and single points. The map has coarse cells then.",
    ),
)  # fmt: skip
def report(run_dir: Path, output: Path, no_rows: bool) -> int:
    """Write a run's report: one HTML file to look at.

    It costs nothing, and shows what was answered, how sure the matches are, a map, what the
    answers hold, the rows that want attention, what it cost and how it went. It opens without a
    network, and needs pip install "pingdata-async[report]". The run may be running, stopped or
    finished.
    """
    check_run_dir(run_dir)
    settings = read_settings(run_dir)
    check_side_files(
        {"--output": output}, source=settings.source, output=settings.output, run_dir=run_dir
    )
    check_report(output)
    say(f"Written to {write_report(run_dir, output, rows=not no_rows)}")
    return ANSWERED
