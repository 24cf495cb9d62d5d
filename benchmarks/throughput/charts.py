"""Lines over a logarithmic axis, as SVG (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 620, 300
LEFT, RIGHT, TOP, BELOW = 60, 150, 40, 40
COLOURS = ("#d1495b", "#00798c", "#edae49", "#66a182")
TICKS = 5


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
    parts += [_text(*place(x, 0), f"{x:,.0f}", middle) for x in sorted(set(xs))]
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 6, x_name, 'text-anchor="end"'))
    for number, line in enumerate(lines):
        colour = COLOURS[number]
        places = [place(x, y) for x, y in line.points]
        joined = " ".join(f"{x},{y}" for x, y in places)
        parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts += [f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places]
        x, y = places[-1]
        label = f"{line.name}: {line.points[-1][1]:.1f}"
        parts.append(_text(x + 8, y + 4, label, f'fill="{colour}"'))
    return _svg(title, parts, HEIGHT)


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
