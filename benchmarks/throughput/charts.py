"""Lines over a logarithmic axis, and bars of several parts, as SVG (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 620, 300
LEFT, RIGHT, TOP, BELOW = 60, 150, 40, 40
COLOURS = (
    *("#d1495b", "#00798c", "#edae49", "#66a182", "#2e4057", "#b07aa1", "#8cb9bd"),
    *("#e08e79", "#5f7a3b", "#9a6b4b", "#c9a0dc", "#c7c7c7", "#7a7a7a"),
)
TICKS = 5
LABEL_LINE = 13
BAR, BAR_GAP, BAR_LEFT, KEY_LINE = 26, 10, 120, 17


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
    return _svg(title, parts, HEIGHT)


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
    scale = (WIDTH - BAR_LEFT - 60) / most
    drawn: list[str] = []
    for number, bar in enumerate(bars):
        top, x = TOP + number * (BAR + BAR_GAP), float(BAR_LEFT)
        drawn.append(_text(BAR_LEFT - 6, top + 17, bar.name, 'text-anchor="end"'))
        for colour, value in zip(COLOURS, bar.parts.values(), strict=False):
            width = value * scale
            drawn.append(
                f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
            )
            x += width
        drawn.append(_text(round(x + 5, 1), top + 17, f"{sum(bar.parts.values()):.1f} {unit}"))
    top = TOP + len(bars) * (BAR + BAR_GAP) + 8
    names = list(bars[0].parts)
    for number, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        x, y = BAR_LEFT + number % 2 * 220, top + number // 2 * KEY_LINE
        drawn.append(f'<rect x="{x}" y="{y}" width="11" height="11" fill="{colour}"/>')
        drawn.append(_text(x + 16, y + 10, name))
    return _svg(title, drawn, top + (len(names) + 1) // 2 * KEY_LINE + 8)


def _round_up(value: float) -> float:
    """A round number that is not smaller."""
    unit: float = 10.0 ** math.floor(math.log10(value)) / 2.0
    return math.ceil(value / unit) * unit


def _svg(title: str, parts: Sequence[str], height: int) -> str:
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">',
        '<g font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(8, 20, title, 'font-size="14" font-weight="bold"'),
    ]
    return "\n".join([*head, *parts, "</g>", "</svg>", ""])


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'
