"""Results as a page and as plots."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.stages import stages_plot, stages_table
from benchmarks.throughput.__main__ import PAGE
from benchmarks.throughput.figures import Limit
from benchmarks.throughput.plots import memory_plot, throughput_plot
from benchmarks.throughput.report import costs, details, hours, replaced, targets
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
    limits = [Limit(OURS, FLOOR, *each) for each in ((3.0, 3.0), (3.0, 2.0), (3.0,), (2.9,))]
    assert [line.split(" | ")[-1] for line in targets(ROUNDS, limits).splitlines()[2:]] == [
        "target met |",
        "**target missed** |",
        "within the budget |",
        "**over the budget** |",
    ]
    assert " 100.0 ms | 40 | 700 | 3.0 |" in details(ROUNDS)


def test_an_hour_of_the_api_is_told_for_several_paces() -> None:
    """Those who took part: 20 CPU seconds a million are 72 at 1,000 a second."""
    [_, _, line] = hours([{"durable-gzip": report(20.0)}]).splitlines()
    assert line == f"| {ROSTER['durable-gzip'].title} | 7 | 72 | 720 |"


def test_stages_and_their_shares_are_of_the_whole() -> None:
    """For a million rows; a floor has no shares, and what it does not do is no zero."""
    [_, _, first, second, none, together] = stages_table(ROUNDS).splitlines()
    assert first == "| first | 2.00 | 2.00 | 67% |"
    assert second == "| second | 1.00 | 1.00 | 33% |"
    assert none == "| none | - | - | - |"
    assert together == "| **together** | 3.00 | 3.00 | 100% |"


def test_plots_are_svg() -> None:
    """Well-formed, with the names of what they show."""
    runs = [report(6.0) | {"rows": rows} for rows in (1_000_000, 10_000_000)]
    for plot, name in (
        (throughput_plot(ROUNDS), OURS),
        (memory_plot(runs, ROUNDS), "10,000,000"),
        (stages_plot(ROUNDS), "second"),
    ):
        texts = [each.text for each in ET.fromstring(plot).iter() if each.text]
        assert name in texts
