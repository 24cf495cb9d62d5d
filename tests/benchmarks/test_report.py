"""Results as a page and as plots."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.throughput.__main__ import PAGE
from benchmarks.throughput.figures import Limit
from benchmarks.throughput.plots import scale_plot, throughput_plot
from benchmarks.throughput.report import costs, details, replaced, targets
from benchmarks.throughput.roster import FLOOR, OURS, ROSTER
from tests.benchmarks.made_up import report

ROUNDS = [{FLOOR: report(2.0), OURS: report(6.0)}]


def test_only_what_is_between_the_markers_is_replaced() -> None:
    """Prose written by hand stays, and so does every other part."""
    page = PAGE.read_text(encoding="utf-8")
    changed = replaced(replaced(page, "scale", "made up once"), "scale", "made up again\n")
    assert "made up once" not in changed
    assert changed.count("made up again") == 1
    assert replaced(changed, "scale", "x") == replaced(page, "scale", "x")


def test_a_page_without_markers_is_refused() -> None:
    """Rather than the results being lost."""
    with pytest.raises(ValueError, match="lacks"):
        replaced("no markers", "scale", "text")


def test_the_tables_say_what_was_found() -> None:
    """CPU against the floor, an hour of the API, and whether targets hold."""
    [_, _, floor, ours] = costs(ROUNDS).splitlines()
    assert floor.startswith(f"| {ROSTER[FLOOR].title} | 2.00 | 2.00 to 2.00 | 1.00 | 7 |")
    assert ours.startswith(f"| {ROSTER[OURS].title} | 6.00 | 6.00 to 6.00 | 3.00 | 22 |")
    limits = [Limit(OURS, FLOOR, 3.0), Limit(OURS, FLOOR, 2.9)]
    assert [line.split(" | ")[-1] for line in targets(ROUNDS, limits).splitlines()[2:]] == [
        "yes |",
        "**no** |",
    ]
    assert " 100.0 ms | 40 | 700 | 3.0 |" in details(ROUNDS)


def test_plots_are_svg() -> None:
    """Well-formed, with the names of what they show."""
    runs = [report(6.0) | {"rows": rows} for rows in (1_000_000, 10_000_000)]
    for plot, name in ((throughput_plot(ROUNDS), OURS), (scale_plot(runs), "10,000,000")):
        texts = [each.text for each in ET.fromstring(plot).iter() if each.text]
        assert name in texts
