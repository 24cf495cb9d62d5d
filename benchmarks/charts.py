"""Charts as SVG: bars side by side, stacked bars, and lines over a logarithmic axis (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

# -- bars side by side: a panel for each profile, in it a bar for each contender -------------

BAR, GAP, NAMES, BARS, VALUE = 15, 3, 130, 190, 48
HEAD, TITLE, BELOW_PANEL = 22, 20, 16
OURS, OTHERS = "#d1495b", "#8d99ae"


@dataclass(frozen=True)
class Panel:
    """A profile.

    Attributes:
        title: Its name.
        measures: By name, each contender's value, and how it is shown.
    """

    title: str
    measures: dict[str, list[tuple[float, str]]]


def draw(names: list[str], panels: list[Panel], ours: int = 1) -> str:
    """An SVG with one bar a contender, measure and panel; longer is more.

    Args:
        names: Of the contenders.
        panels: Side by side in rows.
        ours: So many, from the first, are ours.
    """
    height_of_one = TITLE + HEAD + len(names) * (BAR + GAP) + BELOW_PANEL
    width = NAMES + len(panels[0].measures) * (BARS + VALUE)
    height = len(panels) * height_of_one
    parts: list[str] = []
    for number, panel in enumerate(panels):
        parts += _panel(names, panel, number * height_of_one, ours)
    return _svg(parts, width, height)


def _panel(names: list[str], panel: Panel, top: int, ours: int) -> list[str]:
    parts = [_text(4, top + TITLE - 4, panel.title, 'font-size="14" font-weight="bold"')]
    top += TITLE + HEAD
    for number, name in enumerate(names):
        at = 'text-anchor="end"' + (' font-weight="bold"' if number < ours else "")
        parts.append(_text(NAMES - 6, _base(top, number), name, at))
    for column, (measure, values) in enumerate(panel.measures.items()):
        left = NAMES + column * (BARS + VALUE)
        parts.append(_text(left, top - 6, measure, 'fill="#555555"'))
        most = max(value for value, _ in values) or 1.0
        for number, (value, shown) in enumerate(values):
            width = round(value / most * BARS, 1)
            parts.append(
                f'<rect x="{left}" y="{top + number * (BAR + GAP)}" width="{width}" '
                f'height="{BAR}" fill="{OURS if number < ours else OTHERS}"/>'
            )
            parts.append(_text(round(left + width + 4, 1), _base(top, number), shown))
    return parts


def _base(top: int, number: int) -> int:
    return top + number * (BAR + GAP) + BAR - 4


# -- lines over a logarithmic axis, and stacked bars -----------------------------------------

WIDTH, HEIGHT = 620, 300
LEFT, RIGHT, TOP, BELOW = 60, 150, 40, 40
COLOURS = (
    *("#d1495b", "#00798c", "#edae49", "#66a182", "#2e4057", "#b07aa1", "#8cb9bd"),
    *("#e08e79", "#5f7a3b", "#9a6b4b", "#c9a0dc", "#c7c7c7", "#7a7a7a"),
)
TICKS = 5
LABEL_LINE = 13
STACK, STACK_GAP, STACK_LEFT, KEY_LINE = 26, 10, 120, 17


@dataclass(frozen=True)
class Line:
    """Points that belong together.

    Attributes:
        name: Of them.
        points: x above 0, and y; in ascending order of x.
    """

    name: str
    points: Sequence[tuple[float, float]]


def line_chart(title: str, x_name: str, lines: Sequence[Line]) -> str:
    """An SVG with the lines over log x; y begins at 0."""
    xs = [x for line in lines for x, _ in line.points]
    low, high = math.log10(min(xs)), math.log10(max(xs))
    most = _round_up(max(y for line in lines for _, y in line.points))

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - low) / (high - low) if high > low else 0.5
        return (
            round(LEFT + along * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BELOW - y / most * (HEIGHT - TOP - BELOW), 1),
        )

    parts = []
    for tick in range(TICKS + 1):
        y = place(10**low, most * tick / TICKS)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{most * tick / TICKS:g}", 'text-anchor="end"'))
    middle = 'text-anchor="middle" dy="16"'
    powers = range(math.ceil(low), math.floor(high) + 1)
    parts += [_text(*place(10.0**power, 0), f"{10**power:,}", middle) for power in powers]
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 6, x_name, 'text-anchor="end"'))
    for number, line in enumerate(lines):
        colour = COLOURS[number]
        places = [place(x, y) for x, y in line.points]
        joined = " ".join(f"{x},{y}" for x, y in places)
        parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places]
    ends = [place(*line.points[-1])[1] for line in lines]
    for number, y in _apart(ends):
        label = f"{lines[number].name}: {lines[number].points[-1][1]:.0f}"
        parts.append(_text(WIDTH - RIGHT + 10, y + 4, label, f'fill="{COLOURS[number]}"'))
    return _svg([_titled(title), *parts], WIDTH, HEIGHT)


def _apart(heights: Sequence[float]) -> Iterator[tuple[int, float]]:
    """Where labels are put that belong to these heights: none over another, nor below the axis."""
    below = float(HEIGHT - BELOW) + LABEL_LINE
    for number in sorted(range(len(heights)), key=heights.__getitem__, reverse=True):
        below = min(heights[number], below - LABEL_LINE)
        yield number, below


@dataclass(frozen=True)
class Bar:
    """A sum of parts.

    Attributes:
        name: Of it.
        parts: By name; those of all bars have one order.
    """

    name: str
    parts: Mapping[str, float]


def stacked_bars(title: str, bars: Sequence[Bar], unit: str) -> str:
    """An SVG with the bars, longer is more, and a key of their parts."""
    most = max(sum(bar.parts.values()) for bar in bars)
    scale = (WIDTH - STACK_LEFT - 60) / most
    drawn: list[str] = []
    for number, bar in enumerate(bars):
        top, x = TOP + number * (STACK + STACK_GAP), float(STACK_LEFT)
        drawn.append(_text(STACK_LEFT - 6, top + 17, bar.name, 'text-anchor="end"'))
        for colour, value in zip(COLOURS, bar.parts.values(), strict=False):
            width = value * scale
            drawn.append(
                f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{STACK}" '
                f'fill="{colour}"/>'
            )
            x += width
        drawn.append(_text(round(x + 5, 1), top + 17, f"{sum(bar.parts.values()):.1f} {unit}"))
    top = TOP + len(bars) * (STACK + STACK_GAP) + 8
    names = list(bars[0].parts)
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        x, y = STACK_LEFT + number % 2 * 220, top + number // 2 * KEY_LINE
        drawn.append(f'<rect x="{x}" y="{y}" width="11" height="11" fill="{colour}"/>')
        drawn.append(_text(x + 16, y + 10, name))
    return _svg([_titled(title), *drawn], WIDTH, top + (len(names) + 1) // 2 * KEY_LINE + 8)


def _round_up(value: float) -> float:
    """A round number that is not smaller."""
    unit: float = 10.0 ** math.floor(math.log10(value)) / 2.0
    return math.ceil(value / unit) * unit


# -- parts of all charts ------------------------------------------------------------------


def _titled(title: str) -> str:
    return _text(8, 20, title, 'font-size="14" font-weight="bold"')


def _svg(parts: Sequence[str], width: int, height: int) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        '<g font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    return "\n".join([*head, *parts, "</g>", "</svg>", ""])


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'
