"""Options about tables: how an input is understood, and how an output is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from pingdata_async.cli.options import option, switch
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.runs.identity import RunSettings
from pingdata_async.runs.output_form import writing_elsewhere
from pingdata_async.tables.inputs import SEND, SKIP, ReadOptions
from pingdata_async.tables.outputs import OutputFormat, WriteOptions

F = TypeVar("F", bound=Callable[..., Any])


def reading_options(command: F) -> F:
    """How the input is understood, where that is not found out."""
    for decorate in (
        option(
            "--encoding",
            metavar="NAME",
            help="Of a text file, such as cp1252.  [default: found out]",
        ),
        option(
            "--sheet",
            metavar="NAME",
            help="Of a workbook; or its number, from 1.  [default: the one with a table]",
        ),
        option(
            "--hidden-rows",
            type=click.Choice([SEND, SKIP]),
            default=SEND,
            show_default=True,
            help="Of a workbook: what is done with rows that are hidden, or filtered away.",
        ),
        switch(
            "--allow-missing-values",
            help="Send rows of a workbook also where a formula without a value, or an error, "
            "leaves out a part of the address.",
        ),
        option(
            "--id-column",
            metavar="HEADER",
            help="The column with your own ids.  [default: found out]",
        ),
        # Not from a variable: those cannot hold several with spaces in them.
        click.option(
            "--map",
            "mapping",
            multiple=True,
            metavar="FIELD=HEADER",
            help='A column for a field, such as --map address="Street Address"; several times. '
            'Columns are joined by "+", as in address_line_1="NUMBER+STREET". '
            "Without a header, nothing is sent for the field.  [default: found out]",
        ),
    ):
        command = decorate(command)
    return command


def writing_options(command: F) -> F:
    """How the output is written."""
    for decorate in (
        option(
            "--geocode-source",
            metavar="CODES",
            help="Of a map's points, such as PG,GG: the first that has a place.  [default: "
            "geocoders first, as in --sources]",
        ),
        switch(
            "--safe-csv",
            help="Put ' before texts in a CSV that a spreadsheet would run as a formula.",
        ),
        option(
            "--columns",
            metavar="NAMES",
            help='Columns of a table, in this order, such as "Loc #,enhance_*,pg_latitude"; a name '
            "with a comma in it is put in double quotes. Of JSONL, those of the input that each "
            'line has under "input".  [default: all of a table but '
            "worker_name, persist_for, raw_response and fetch_time of each source, with '*' these "
            "too; none of JSONL]",
        ),
        option(
            "--output-format",
            type=click.Choice([each.value for each in OutputFormat]),
            help="[default: by the output's name]",
        ),
    ):
        command = decorate(command)
    return command


def read_options_of(values: Mapping[str, Any]) -> ReadOptions:
    """What `reading_options` give.

    Raises:
        ConfigurationError: For a mapping that is none.
    """
    mapping: dict[str, str] = {}
    for text in values["mapping"]:
        field, equals, header = text.partition("=")
        if not equals:
            raise ConfigurationError(f'--map {text}: give a field and a header, as in city="Town"')
        if field.strip() in mapping:
            raise ConfigurationError(f"--map names {field.strip()} twice")
        mapping[field.strip()] = header
    return ReadOptions(
        mapping=mapping,
        id_column=values["id_column"],
        encoding=values["encoding"],
        sheet=values["sheet"],
        hidden_rows=values["hidden_rows"],
        allow_missing_values=values["allow_missing_values"],
    )


def write_options_of(values: Mapping[str, Any]) -> WriteOptions:
    """What `writing_options` give."""
    return WriteOptions(
        format=values["output_format"],
        columns=_listed(values["columns"]),
        safe_csv=values["safe_csv"],
        geocode_sources=tuple(code.upper() for code in _listed(values["geocode_source"])),
    )


def rewrite_options_of(
    values: Mapping[str, Any], settings: RunSettings, output: str | None
) -> WriteOptions:
    """What `writing_options` give for a run that was begun with others.

    Args:
        values: The command's options; what is not given is as it was.
        settings: Those of the run.
        output: Another output than the run's; None for that.
    """
    given = write_options_of(values)
    kept = settings.writing
    if output is not None:
        kept = writing_elsewhere(output, given.format, settings)
    return WriteOptions(
        format=given.format or kept.format,
        columns=given.columns or kept.columns,
        safe_csv=given.safe_csv or kept.safe_csv,
        geocode_sources=given.geocode_sources or kept.geocode_sources,
    )


def _listed(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    if '"' not in text:  # line breaks are a part of headers, too
        return tuple(name for part in text.split(",") if (name := part.strip()))
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    return tuple(name for line in lines for part in line if (name := part.strip()))
