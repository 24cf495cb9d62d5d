"""The HTML file: everything is in it, and it asks for nothing.

What comes from the input and from the API is escaped wherever it stands: in HTML by `_text()`, and
in the one block of JSON, which no browser runs, by `_json_block()`. The page's own policy forbids
every request.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from pingdata_async._version import __version__
from pingdata_async.exceptions import ConfigurationError, RunError
from pingdata_async.report import charts
from pingdata_async.report.charts import Chart, share
from pingdata_async.report.collect import Attention, RunReport, collect
from pingdata_async.runs.directory.directory import read_settings
from pingdata_async.runs.status import RunStatus, read_status
from pingdata_async.util.files import absolute, write_whole
from pingdata_async.util.redaction import printable
from pingdata_async.util.text import counted, shown_path

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "img-src data:; form-action 'none'; base-uri 'none'"
)
"""Vega makes functions of the expressions in its charts, which are ours alone."""


def write_report(run_dir: str | Path, path: str | Path | None = None, *, rows: bool = True) -> Path:
    """Write a run's report, at any time; it costs nothing.

    Blocks, some two minutes for a million rows.

    Args:
        run_dir: The run directory.
        path: The HTML file, which is replaced; None for the name of the output and ".html".
        rows: Whether addresses, ids and points of single rows are in it.

    Returns:
        The file.

    Raises:
        ConfigurationError: When the package that draws is not installed.
        RunError: When it is no run directory, or is damaged, or the file cannot be written.
    """
    run_dir = absolute(run_dir)
    path = run_dir.with_suffix(".html") if path is None else absolute(path)
    check_drawing()
    scripts = drawing_scripts()
    settings = read_settings(run_dir)
    collected = collect(run_dir, settings, with_rows=rows)
    page = render(collected, read_status(run_dir), scripts)
    try:
        write_whole(path, page.encode("utf-8", "replace"))
    except OSError as error:
        said = error.strerror or error
        raise RunError(f"{shown_path(path)} cannot be written: {said}") from error
    return path


def check_drawing() -> None:
    """Check that the package that draws is there; loads nothing.

    Raises:
        ConfigurationError: When it is not.
    """
    if find_spec("vl_convert") is None:
        raise ConfigurationError(
            "a report needs a package that is not installed; install it with: "
            'pip install "pingdata-async[report]"'
        )


def drawing_scripts() -> str:
    """Vega, Vega-Lite and Vega-Embed, as one script; takes some seconds."""
    bundle: str = import_module("vl_convert").javascript_bundle()
    return bundle


def render(report: RunReport, status: RunStatus, scripts: str) -> str:
    """The page (pure)."""
    drawn: list[Chart] = []
    figure = _figures(drawn)
    sections = [
        ("outcomes", "What was answered", _outcomes(report, figure)),
        ("map", "Map", _map(report)),
        ("attention", "Rows that want attention", _attention(report)),
        ("values", "What the answers hold", _cards(charts.distributions(report), figure)),
        ("columns", "Columns", figure(charts.fullness(report), is_wide=True)),
        ("cost", "What it cost", _cost(status)),
        ("time", "How it went", _cards(charts.over_time(report.moments), figure)),
    ]
    sections = [each for each in sections if each[2]]
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{title}</h2>'
        f"{content}</section>"
        for key, title, content in sections
    )
    name = _text(f"Report of {Path(status.output).name if status.output != '-' else 'a run'}")
    data: dict[str, Any] = {
        "config": charts.CONFIG,
        "charts": {str(number): chart.spec for number, chart in enumerate(drawn)},
    }
    if report.grid.points:
        data["map"] = charts.map_data(report) | {
            "countries": msgspec.Raw(_asset("countries.json").encode()),
            "states": msgspec.Raw(_asset("states.json").encode()),
        }
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{_asset('page.css')}</style></head><body>"
        f"<header><h1>{name}</h1>{_about(report, status)}</header>"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main>{body}</main>'
        f"<footer><p>Made by pingdata-async {_text(__version__)} on "
        f"{time.strftime('%Y-%m-%d %H:%M %Z')}. It holds everything that it shows, and asks for "
        "nothing from elsewhere. Outlines: Natural Earth and US Census Bureau, public "
        "domain.</p></footer>"
        "<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>"
        f"{_json_block(data)}"
        f"<script type=module>{_script(scripts)}</script>"
        f"<script type=module>{_script(_asset('page.js'))}</script>"
        "</body></html>\n"
    )


def _about(report: RunReport, status: RunStatus) -> str:
    said = (
        f"{Path(status.source).name} was sent to {', '.join(status.sources)} "
        f"({status.api}). The run is {status.state}."
    )
    missing = status.rows - report.rows
    notices = []
    if status.api == "sandbox":
        notices.append("All answers are made up by the sandbox.")
    if missing:
        left = counted(missing, "row")
        notices.append(
            f"{left} of {status.rows:,} have no outcome yet, and are not in this report."
        )
    if not report.with_rows:
        notices.append("Addresses, ids and the points of single rows are left out.")
    tallies = Counts(report)
    tiles = [
        ("rows", f"{report.rows:,}", ""),
        ("ok", f"{tallies.ok:,}", share(tallies.ok, report.rows)),
        ("partial", f"{tallies.partial:,}", share(tallies.partial, report.rows)),
        ("failed", f"{tallies.failed:,}", share(tallies.failed, report.rows)),
        ("locations charged", f"{status.locations_charged:,}", counted(status.jobs, "job")),
        ("rows saved as repeated", f"{status.repeated:,}", share(status.repeated, status.rows)),
    ]
    shown = "".join(
        f"<div><dt>{_text(name)}</dt><dd>{_text(number)} <small>{_text(more)}</small></dd></div>"
        for name, number, more in tiles
    )
    told = "".join(f'<p class="notice">{_text(each)}</p>' for each in notices)
    return f'<p class="soft">{_text(said)}</p>{told}<dl class="tiles">{shown}</dl>'


class Counts:
    """Rows of a report by status."""

    def __init__(self, report: RunReport) -> None:
        def rows(wanted: str) -> int:
            return sum(n for (status, _), n in report.outcomes.items() if status == wanted)

        self.ok, self.partial, self.failed = rows("ok"), rows("partial"), rows("failed")


def _outcomes(report: RunReport, figure: Callable[..., str]) -> str:
    found = [charts.outcomes(report), charts.by_source(report)]
    shown = "".join(figure(chart, is_wide=True) for chart in found if chart.rows)
    quality = charts.match_quality(report)
    if quality:
        shown += f"<h3>How sure the matches are</h3><br>{_cards(quality, figure)}"
    return shown


def _cards(found: Sequence[Chart], figure: Callable[..., str]) -> str:
    return f'<div class="cards">{"".join(map(figure, found))}</div>' if found else ""


def _map(report: RunReport) -> str:
    if not report.grid.points:
        return ""
    chart = charts.by_place(report)
    options = "".join(
        f'<option value="{number}">{_text(layer["name"])}</option>'
        for number, layer in enumerate(charts.map_data(report)["layers"])
    )
    return (
        f"<figure><figcaption><h3>{chart.title}</h3></figcaption>"
        '<div class="controls"><label>Coloured by '
        f'<select id="map-layer" autocomplete="off">{options}</select></label>'
        '<button type="button" id="map-in" aria-label="Zoom in">+</button>'
        '<button type="button" id="map-out" aria-label="Zoom out">&minus;</button>'
        '<button type="button" id="map-all">Show all</button></div>'
        '<div id="chart-map" class="chart" tabindex="0" role="group" aria-label="Map; arrow keys '
        'move it, plus and minus zoom, 0 shows all"></div>'
        '<p class="soft" id="map-about" aria-live="polite"></p>'
        f"{_folded(_table(chart.headings, chart.rows, chart.title))}</figure>"
    )


def _attention(report: RunReport) -> str:
    found = [each for each in report.attention.values() if each.total]
    if not found:
        return "<p>None.</p>"
    return "".join(_attention_figure(each, with_rows=report.with_rows) for each in found)


def _attention_figure(each: Attention, *, with_rows: bool) -> str:
    head = (
        f"<figcaption><h3>{_text(each.title)}: {counted(each.total, 'row')}</h3>"
        f"<p>{_text(each.advice)}</p></figcaption>"
    )
    if not with_rows:
        return f"<figure>{head}</figure>"
    rows = [(row.row, row.id or "", row.asked, row.said) for row in each.rows()]
    table = _table(("row, from 0", "id", "asked", "why"), rows, each.title, is_wide=True)
    if len(rows) < each.total:
        head += f'<p class="soft">The first, or worst, {len(rows)}:</p>'
    return f"<figure>{head}<div class=scroll>{table}</div></figure>"


def _cost(status: RunStatus) -> str:
    codes = list(dict.fromkeys([*status.sources, *status.charged_by_source]))
    rows = [
        (code, status.charged_by_source.get(code, 0), status.skipped_by_source.get(code, 0))
        for code in codes
    ]
    totals = [
        ("charged, in all", status.locations_charged),
        ("saved: rows that repeat another", status.repeated),
        ("in doubt: may have been charged in addition", status.locations_in_doubt),
        ("sent again: may have been charged twice", status.locations_possibly_charged_again),
    ]
    if status.max_locations is not None:
        totals.append(("allowed at most", status.max_locations))
    sources = _table(("source", "locations charged, about", "rows not sent to it"), rows, "")
    return (
        "<figure class=beside><figcaption><h3>Locations</h3></figcaption>"
        f"<div>{_table(('what', 'locations'), totals, '')}</div><div>{sources}</div></figure>"
    )


# -- Pieces of HTML ----------------------------------------------------------------------------


def _figures(drawn: list[Chart]) -> Callable[..., str]:
    """What makes figures of charts, and notes which are to be drawn."""

    def figure(chart: Chart, *, is_wide: bool = False) -> str:
        if not chart.spec:
            return f"<figure><h3>{_text(chart.title)}</h3><p>{_text(chart.about)}</p></figure>"
        number = len(drawn)
        described = chart.spec | {"description": f"{chart.title}. A table of it is beside it."}
        drawn.append(msgspec.structs.replace(chart, spec=described))
        about = f"<p>{_text(chart.about)}</p>" if chart.about else ""
        table = _table(chart.headings, chart.rows, chart.title)
        place = f'<div id="chart-{number}" class="chart"></div>'
        caption = f"<figcaption><h3>{_text(chart.title)}</h3>{about}</figcaption>"
        if is_wide:
            return (
                f'<figure class="beside">{caption}{place}<div class="scroll">{table}</div></figure>'
            )
        return f"<figure>{caption}{place}{_folded(table)}</figure>"

    return figure


def _folded(table: str) -> str:
    return f"<details><summary>Table</summary><div class=scroll>{table}</div></details>"


def _table(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, *, is_wide: bool = False
) -> str:
    rows = list(rows)
    numeric = [
        bool(rows) and all(_is_number(row[place]) for row in rows) for place in range(len(headings))
    ]
    classes = [' class="number"' if each else "" for each in numeric]
    head = "".join(
        f'<th scope="col"{kind}>{_text(each)}</th>'
        for each, kind in zip(headings, classes, strict=True)
    )
    lines = "".join(
        "<tr>"
        + "".join(
            f'<td{kind} data-name="{_text(name)}">{_shown(cell)}</td>'
            for cell, kind, name in zip(row, classes, headings, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    named = f' aria-label="{_text(caption)}"' if caption else ""
    wide = ' class="wide"' if is_wide else ""
    return (
        f"<div{wide}><table{named}><thead><tr>{head}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )


def _shown(cell: str | int) -> str:
    return _text(cell) if isinstance(cell, str) else f"{cell:,}"


def _is_number(cell: str | int) -> bool:
    return not isinstance(cell, str) or (
        cell[-1:] == "%" and cell[:-1].strip("<>.0123456789") == ""
    )


def _text(text: str) -> str:
    """A text as HTML, in an element or in an attribute."""
    return html.escape(printable(text), quote=True)


def _json_block(data: Any) -> str:
    """JSON that scripts read; no text in it can end the block or be taken for HTML."""
    text = msgspec.json.encode(data).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="data">{text}</script>'


def _script(text: str) -> str:
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
