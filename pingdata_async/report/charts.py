"""What is drawn, as Vega-Lite specifications, each with its table (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import msgspec

from pingdata_async.report.collect import RunReport
from pingdata_async.report.statistics import Bin, ColumnStats
from pingdata_async.runs.timeline import Moment

Spec = dict[str, Any]

# Each stands out at least three times from white and from the page's black.
BLUE: Final = "#3f7fbf"
STATUS_COLOURS: Final = {"ok": "#2a8f5c", "partial": "#b8791a", "failed": "#d1495b"}
CATEGORY_COLOURS: Final = (
    BLUE, "#c8691c", "#2a8f5c", "#d1495b", "#8a63c9", "#8c6d31", "#c0559b", "#4f8f8f", "#7d8a1f",
    "#808080",
)  # fmt: skip
NUMBER_COLOURS: Final = ("#5b6fd6", "#b0469e", "#d9593f", "#b8862b")

CONFIG: Final[Spec] = {
    "background": None,
    "font": "system-ui, DejaVu Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": "#888888", "tickColor": "#888888", "gridColor": "#88888833",
        "labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 150,
    },
    "legend": {
        "labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 150,
    },
    "bar": {"color": BLUE},
    "line": {"color": BLUE},
}  # fmt: skip

MAX_DISTRIBUTIONS = 30
MAX_BARS = 12
MAX_FULLNESS = 60
MAX_COLOURINGS = 14
MAX_INTERVALS = 60
LEAST_PRIVATE = 5  # rows that a shown value has, where no row may be told from others
LARGE_NUMBER = 10_000

# Fields of every source that say how it went, or where a row is: they have charts of their own.
_BASE_FIELDS: Final = frozenset(
    [
        "is_success",
        "error_message",
        "status_code",
        "is_cache_hit",
        "confidence",
        "location_type",
        "precision",
        "latitude",
        "longitude",
        "formatted_address",
        "place_id",
        "address_line_1",
        "address_line_2",
        "street_number",
        "route",
        "city",
        "postal_code",
        "county",
        "state",
        "country",
        "geocode_type",
        "google_maps_link",
    ]
)
# Words in the names of fields that say whose a row is, or where: not told where no row may be told
# from others, as one owner or one address can have many rows.
_PERSONAL_WORDS: Final = frozenset(
    [
        "address", "street", "route", "unit", "site", "owner", "insured", "tenant", "name", "mail",
        "mailing", "email", "phone", "contact", "parcel", "apn", "id", "ids", "link", "url",
        "latitude", "longitude", "lat", "lon", "lng", "coordinates", "geometry",
    ]
)  # fmt: skip
_COUNTED_WORDS: Final = (
    "flood_zone", "year_built", "stories", "elevation", "construction", "occupancy", "area",
    "roof", "replacement_cost", "distance_to", "risk",
)  # fmt: skip


class Chart(msgspec.Struct, frozen=True):
    """A chart with its table.

    Attributes:
        title: What it shows.
        spec: How it is drawn; {} for the map, which the page draws itself.
        headings: Of the table.
        rows: Of the table; numbers stand on the right.
        about: What else there is to be said, a sentence.
    """

    title: str
    spec: Spec
    headings: tuple[str, ...]
    rows: Sequence[tuple[str | int, ...]]
    about: str = ""


def share(part: float, whole: float) -> str:
    """A part of something in percent, never rounded to nothing or to everything."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:  # noqa: PLR2004
        return "<0.1%"
    if 99.9 < percent < 100:  # noqa: PLR2004
        return ">99.9%"
    return f"{percent:.1f}%"


def _bars(names: Sequence[str], counts: Sequence[int], colours: Sequence[str] = ()) -> Spec:
    values = [
        {"name": name, "rows": count, "colour": colours[place] if colours else BLUE}
        for place, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    return {
        "data": {"values": values},
        "width": "container",
        "height": 24 * len(values) + 40,  # with the axis
        "mark": {"type": "bar", "tooltip": True, "cornerRadiusEnd": 2},
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None}},
            # Stacked, which they need not be, Vega fails at such names as "constructor".
            "x": {"field": "rows", "type": "quantitative", "stack": None,
                  "axis": {"title": "rows", "tickCount": 5, "format": "~s"}},
            "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
            "tooltip": [{"field": "name"}, {"field": "rows", "format": ","}],
        },
    }  # fmt: skip


def _histogram(bins: Sequence[Bin], labels: Sequence[str], *, is_year: bool) -> Spec:
    is_large = max(abs(bins[0].low), abs(bins[-1].high)) >= LARGE_NUMBER
    form = {"format": "d" if is_year else "~s"} if is_year or is_large else {}
    values = [
        {"low": each.low, "high": each.high, "rows": each.rows, "range": label}
        for each, label in zip(bins, labels, strict=True)
    ]
    return {
        "data": {"values": values},
        "width": "container",
        "height": 150,
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "x": {"field": "low", "type": "quantitative", "bin": "binned",
                  "scale": {"zero": False, "nice": False},
                  # No title: Vega cannot draw such names as "constructor".
                  "axis": {"title": None, "tickCount": 6, "grid": False, **form}},
            "x2": {"field": "high"},
            "y": {"field": "rows", "type": "quantitative",
                  "axis": {"title": "rows", "tickCount": 4, "format": "~s"}},
            "tooltip": [{"field": "range"}, {"field": "rows", "format": ","}],
        },
    }  # fmt: skip


def _range(low: float, high: float, *, is_year: bool, is_whole: bool) -> str:
    form = "{:.0f}" if is_year else "{:,.0f}" if is_whole else "{:,.6g}"
    last = high - 1 if is_whole else high
    if low == last:
        return form.format(low)
    return f"{form.format(low)} to {form.format(last)}"


def outcomes(report: RunReport) -> Chart:
    """Rows by status and reason."""
    order = {"ok": 0, "partial": 1, "failed": 2}
    found = sorted(report.outcomes.items(), key=lambda each: (order[each[0][0]], -each[1]))
    names = [f"{status}: {reason}" if reason else status for (status, reason), _ in found]
    counts = [count for _, count in found]
    return Chart(
        "Rows by outcome",
        _bars(names, counts, [STATUS_COLOURS[status] for (status, _), _ in found]),
        ("outcome", "rows", "share"),
        [(n, count, share(count, report.rows)) for n, count in zip(names, counts, strict=True)],
        "ok: every source answered. partial: some did. failed: none did, or there is no answer.",
    )


def by_source(report: RunReport) -> Chart:
    """What each source answered."""
    names, counts, colours, rows = [], [], [], []
    for column in report.columns:
        if len(column.path) == 2 and column.path[1] == "is_success":  # noqa: PLR2004
            yes, no = column.values["yes"], column.values["no"]
            names += [f"{column.path[0]}: found", f"{column.path[0]}: nothing"]
            counts += [yes, no]
            colours += [STATUS_COLOURS["ok"], STATUS_COLOURS["failed"]]
            missing = report.rows - yes - no
            rows.append((column.path[0], yes, no, missing, share(yes, report.rows)))
    return Chart(
        "Answers by source",
        _bars(names, counts, colours),
        ("source", "found", "nothing found", "not asked, or no answer", "found"),
        rows,
    )


def match_quality(report: RunReport) -> list[Chart]:
    """How sure the geocoders are."""
    wanted = ("confidence", "location_type", "precision", "geocode_type")
    found = [each for each in report.columns if len(each.path) > 1 and each.path[1] in wanted]
    is_geocoder = {each.path[0] for each in found if each.path[1] != "confidence"}
    return [
        chart
        for column in found
        if column.path[0] in is_geocoder or not is_geocoder
        for chart in _distribution(report, column)
    ]


def distributions(report: RunReport) -> list[Chart]:
    """The fields that matter: those that differ between rows, the most filled first."""
    found = (chart for column in interesting(report) for chart in _distribution(report, column))
    return [chart for chart, _ in zip(found, range(MAX_DISTRIBUTIONS), strict=False)]


def interesting(report: RunReport) -> list[ColumnStats]:
    """The columns of facts about places, the most filled first, and of equals what people ask."""

    def rank(column: ColumnStats) -> tuple[int, int]:
        twentieths = round(20 * column.filled / max(1, report.rows))
        words = [place for place, word in enumerate(_COUNTED_WORDS) if word in column.name]
        return -twentieths, min(words, default=len(_COUNTED_WORDS))

    columns = [
        each
        for each in report.columns
        if each.path[-1] not in _BASE_FIELDS and (report.with_rows or not _is_personal(each))
    ]
    return sorted((each for each in columns if _is_varied(report, each)), key=rank)


def _is_personal(column: ColumnStats) -> bool:
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", " ".join(column.path[1:]))
    return not _PERSONAL_WORDS.isdisjoint(word.lower() for word in words)


def _is_varied(report: RunReport, column: ColumnStats) -> bool:
    return column.numbers.is_varied or len(column.top(MAX_BARS, _least(report))) > 1


def _least(report: RunReport) -> int:
    return 2 if report.with_rows else LEAST_PRIVATE


def _distribution(report: RunReport, column: ColumnStats) -> Iterable[Chart]:
    title = f"{column.path[0]}: {' '.join(column.path[1:]).replace('_', ' ')}"
    filled = f"Filled in {share(column.filled, report.rows)} of the rows."
    if column.numbers.is_varied:
        is_year = "year" in column.path[-1]
        bins, numbers = column.numbers.bins(), column.numbers
        is_whole = all(float(each.low).is_integer() for each in bins) and bins[0].high % 1 == 0
        ranges = [_range(each.low, each.high, is_year=is_year, is_whole=is_whole) for each in bins]
        form = "{:.0f}" if is_year else "{:,.6g}"
        low, middle, high = map(form.format, (numbers.low, numbers.quantile(0.5), numbers.high))
        # The least and the largest are of single rows.
        ends = f"From {low} to {high}; half are" if report.with_rows else "Half are"
        yield Chart(
            title,
            _histogram(bins, ranges, is_year=is_year),
            ("value", "rows", "share"),
            [
                (text, each.rows, share(each.rows, column.filled))
                for text, each in zip(ranges, bins, strict=True)
                if each.rows
            ],
            f"{filled} {ends} up to {middle}. The outermost bars also count what lies further out.",
        )
        return
    top = column.top(MAX_BARS, _least(report))
    if top:
        yield Chart(
            title,
            _bars([value for value, _ in top], [count for _, count in top]),
            ("value", "rows", "share"),
            [(value, count, share(count, column.filled)) for value, count in top],
            filled,
        )


def fullness(report: RunReport) -> Chart:
    """How full each column is."""
    columns = sorted(report.columns, key=lambda each: -each.filled)
    shown = columns if len(columns) <= MAX_FULLNESS else columns[-MAX_FULLNESS:]
    spec = _bars([each.name for each in shown], [each.filled for each in shown])
    spec["height"] = 17 * len(shown) + 40
    spec["encoding"]["x"]["scale"] = {"domain": [0, max(1, report.rows)]}
    left_out = len(columns) - len(shown)
    return Chart(
        "How full each column is",
        spec,
        ("column", "rows", "filled"),
        [(each.name, each.filled, share(each.filled, report.rows)) for each in columns],
        f"Drawn are the {len(shown)} emptiest; the table has all." if left_out else "",
    )


# -- Over time ----------------------------------------------------------------------------------


_SPANS: Final[tuple[tuple[str, int], ...]] = (
    ("days", 86_400),
    ("hours", 3600),
    ("minutes", 60),
    ("seconds", 1),
)


class _Interval:
    """What happened between two times of a run."""

    def __init__(self) -> None:
        self.rows = self.refused = self.in_flight = self.queued = 0
        self.paused_s = 0.0


def over_time(moments: Sequence[Moment]) -> list[Chart]:
    """How the run went; its processes are told apart where one took up what another left."""
    if len(moments) < 2:  # noqa: PLR2004 - there is nothing between them
        return []
    begin = moments[0].at
    width_s = max(0.1, (moments[-1].at - begin) / MAX_INTERVALS)
    intervals: dict[int, _Interval] = {}
    for earlier, later in pairwise(moments):
        if earlier.process == later.process:
            place = min(MAX_INTERVALS - 1, int((later.at - begin) / width_s))
            each = intervals.setdefault(place, _Interval())
            each.rows += later.rows - earlier.rows
            each.refused += later.refused - earlier.refused
            each.paused_s += later.paused_s - earlier.paused_s
            each.in_flight = max(each.in_flight, later.in_flight)
            each.queued = max(each.queued, later.queued)

    def of(number: Callable[[_Interval], float]) -> list[tuple[float, int]]:
        return [
            (begin + place * width_s, round(number(intervals[place])))
            for place in sorted(intervals)
        ]

    wanted = [
        ("Rows a minute", "rows a minute", of(lambda each: 60 * each.rows / width_s)),
        ("Jobs in flight", "jobs, at most", of(lambda each: each.in_flight)),
        ("Jobs in the API's queue", "jobs, at most", of(lambda each: each.queued)),
        ("Requests refused (429 and 503)", "requests", of(lambda each: each.refused)),
        ("Pauses that the API asked for", "seconds", of(lambda each: each.paused_s)),
    ]
    return [
        Chart(title, *_timed(numbers, width_s, unit))
        if any(number for _, number in numbers)
        else Chart(title, {}, (), [], "None.")
        for title, unit, numbers in wanted
    ]


def _timed(
    numbers: Sequence[tuple[float, int]], width_s: float, unit: str
) -> tuple[Spec, tuple[str, ...], list[tuple[str | int, ...]]]:
    begin, long_s = numbers[0][0], numbers[-1][0] - numbers[0][0]
    name, second = next(each for each in _SPANS if long_s >= each[1] * 3 or each[1] == 1)
    values = [
        {"from": (at - begin) / second, "to": (at - begin + width_s) / second, "number": number}
        for at, number in numbers
    ]
    spec = {
        "data": {"values": values},
        "width": "container",
        "height": 140,
        "mark": {"type": "rect", "tooltip": True, "color": BLUE},
        "encoding": {
            "x": {"field": "from", "type": "quantitative",
                  "axis": {"title": f"{name} since the run began", "tickCount": 5}},
            "x2": {"field": "to"},
            "y": {"field": "number", "type": "quantitative", "scale": {"zero": True},
                  "axis": {"title": unit, "tickCount": 4, "format": "~s"}},
            "y2": {"datum": 0},
            "tooltip": [{"field": "number", "format": ",", "title": unit}],
        },
    }  # fmt: skip
    rows: list[tuple[str | int, ...]] = [
        (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}", number) for at, number in numbers
    ]
    return spec, ("from (UTC)", unit), rows


# -- The map -----------------------------------------------------------------------------------


def map_data(report: RunReport) -> Spec:
    """What the page draws on the map: the points by cell, and a sample of them by answer."""
    layers = [_cell_layer(report)]
    sample = report.sample
    is_all = len(sample.items) == sample.offered
    places = [(x, y) for (x, y), _ in sample.items]
    if places:
        by_name = {column.path: values for column, values in report.sample_values}
        layers += [
            _answer_layer(column, by_name[column.path], is_all=is_all)
            for column in _colourings(report)
        ]
        if is_all and len(layers) > 1:  # single points say more than cells
            layers.append(layers.pop(0))
    return {"points": [[round(x, 5), round(y, 5)] for x, y in places], "layers": layers}


def _colourings(report: RunReport) -> list[ColumnStats]:
    """The columns that points are coloured by."""
    found = [each for each in report.columns if each.path[-1] in {"confidence", "location_type"}]
    chosen = [*found, *interesting(report)]
    with_values = {column.path for column, _ in report.sample_values}
    return [each for each in chosen if each.path in with_values and _is_varied(report, each)][
        :MAX_COLOURINGS
    ]


def _cell_layer(report: RunReport) -> Spec:
    cells = report.grid.cells()
    size = f"{report.grid.size:.2g}"
    return {
        "name": "how many rows there are",
        "about": f"{report.grid.points:,} rows with coordinates, in cells of {size}° each.",
        "cells": cells,
        "mark": _point_mark(),
        "encoding": {
            "size": {"field": "rows", "type": "quantitative",
                     "scale": {"type": "sqrt", "range": [10, 260]},
                     "legend": _legend("rows in a cell", "~s")},
            "color": {"value": BLUE},
            "tooltip": [{"field": "rows", "format": ","}],
        },
    }  # fmt: skip


def _answer_layer(column: ColumnStats, values: Sequence[Any], *, is_all: bool) -> Spec:
    if column.numbers.is_varied:
        shown: list[Any] = [each if isinstance(each, int | float) else None for each in values]
        low, high = column.numbers.quantile(0.02), column.numbers.quantile(0.98)
        form = "d" if "year" in column.path[-1] else "~s"
        colour: Spec = {
            "type": "quantitative",
            "scale": {"domain": [low, high], "clamp": True, "range": list(NUMBER_COLOURS)},
            "legend": _legend(None, form),
        }
    else:
        top = [value for value, _ in column.top(len(CATEGORY_COLOURS) - 1)]
        names = {True: "yes", False: "no"}
        texts = [names.get(each, each) if isinstance(each, bool) else each for each in values]
        shown = [each if each is None or each in top else "other" for each in texts]
        domain = [each for each in top if each != "other"]
        domain += ["other"] * ("other" in shown)
        colour = {
            "type": "nominal",
            "scale": {"domain": domain, "range": list(CATEGORY_COLOURS[: len(domain)])},
            "legend": _legend(None, None),
        }
    about = f"A random sample of {len(values):,} rows with coordinates."
    return {
        "name": f"{column.path[0]}: {' '.join(column.path[1:]).replace('_', ' ')}",
        "about": "Every row with coordinates." if is_all else about,
        "values": shown,
        "mark": _point_mark(),
        "encoding": {
            "size": {"value": 34},
            "color": {"field": "value", **colour},
            "tooltip": [{"field": "value"}],
        },
    }


def _point_mark() -> Spec:
    return {"type": "circle", "clip": True, "aria": False, "opacity": 0.75, "tooltip": True}


def _legend(title: str | None, form: str | None) -> Spec:
    return {"title": title, "orient": "bottom", "columns": 4, "gradientLength": 220,
            **({"format": form} if form else {})}  # fmt: skip


def by_place(report: RunReport) -> Chart:
    """Rows by state, as the table beside the map."""
    found = [each for each in report.columns if each.path[-1] in {"state", "country"}]
    found.sort(key=lambda each: each.path[-1] == "country")
    top = found[0].top(20, _least(report)) if found else []
    return Chart(
        "Where the rows are",
        {},
        ("state", "rows", "share"),
        [(value, count, share(count, report.rows)) for value, count in top],
    )
