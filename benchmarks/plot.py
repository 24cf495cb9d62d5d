"""Bars side by side as SVG: a row of panels a profile, a bar a contender."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

BAR, GAP, NAMES, WIDTH, VALUE = 15, 3, 130, 190, 48
HEAD, TITLE, BELOW = 22, 20, 16
COLOURS = ("#d1495b", "#8d99ae")  # ours, the others


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
    height_of_one = TITLE + HEAD + len(names) * (BAR + GAP) + BELOW
    width = NAMES + len(panels[0].measures) * (WIDTH + VALUE)
    height = len(panels) * height_of_one
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
        '<g font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(names, panel, number * height_of_one, ours)
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _panel(names: list[str], panel: Panel, top: int, ours: int) -> list[str]:
    parts = [_text(4, top + TITLE - 4, panel.title, 'font-size="14" font-weight="bold"')]
    top += TITLE + HEAD
    for number, name in enumerate(names):
        at = 'text-anchor="end"' + (' font-weight="bold"' if number < ours else "")
        parts.append(_text(NAMES - 6, _base(top, number), name, at))
    for column, (measure, values) in enumerate(panel.measures.items()):
        left = NAMES + column * (WIDTH + VALUE)
        parts.append(_text(left, top - 6, measure, 'fill="#555555"'))
        most = max(value for value, _ in values) or 1.0
        for number, (value, shown) in enumerate(values):
            width = round(value / most * WIDTH, 1)
            parts.append(
                f'<rect x="{left}" y="{top + number * (BAR + GAP)}" width="{width}" '
                f'height="{BAR}" fill="{COLOURS[number >= ours]}"/>'
            )
            parts.append(_text(round(left + width + 4, 1), _base(top, number), shown))
    return parts


def _base(top: int, number: int) -> int:
    return top + number * (BAR + GAP) + BAR - 4


def _text(x: float, y: int, text: str, attributes: str = "") -> str:
    return f'<text x="{x}" y="{y}" {attributes}>{escape(text)}</text>'
