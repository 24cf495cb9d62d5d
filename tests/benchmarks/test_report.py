"""From reports to figures, the gate's verdict, pages and plots."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.scale.rows import memory_plot
from benchmarks.stages import stages_plot, stages_table
from benchmarks.throughput.__main__ import GATED, PAGE, gate, read_limits
from benchmarks.throughput.report import (
    FIGURES,
    LIMITS,
    Spread,
    costs,
    hours,
    judge,
    replaced,
    spread,
    throughput_plot,
    title_of,
    verdicts_table,
)
from tests.benchmarks.support import report

ROUNDS = [{"floor": report(2.0), "jsonl": report(6.0)}]


def rounds(*cpu: tuple[float, float]) -> list[dict[str, Any]]:
    """Of the floor and ours."""
    return [{"floor": report(floor), "jsonl": report(ours)} for floor, ours in cpu]


def test_a_spread_is_median_least_and_most() -> None:
    """Neither order nor an odd run out matters."""
    assert spread([9.0, 1.0, 2.0]) == Spread(2.0, 1.0, 9.0)
    assert spread([4.0, 2.0]) == Spread(3.0, 2.0, 4.0)


def test_a_ratio_is_reckoned_within_each_round() -> None:
    """A machine that is ten times slower for a while changes nothing."""
    [verdict, *_] = judge(rounds((1.0, 3.0), (10.0, 30.0), (2.0, 6.0)), {})
    assert (verdict.name, verdict.found) == ("jsonl/floor", Spread(3.0, 3.0, 3.0))


def test_every_figure_is_of_what_it_names() -> None:
    """CPU by CPU, the loop's lag, the peak of the large run, and that by the small one's."""
    everybody = {name for figure in FIGURES.values() for name in figure.needs}
    each = {name: report(1.0) for name in everybody} | {"parquet": report(5.0)}
    found = {verdict.name: verdict.found.median for verdict in judge([each], {})}
    assert set(found) == set(FIGURES)
    assert found["parquet/jsonl"] == 5.0
    assert (found["lag"], found["memory"], found["growth"]) == (2.0, 50.0, 2.0)


@pytest.mark.parametrize(("ours", "code"), [(2.9, 0), (3.0, 0), (3.1, 1)])
def test_the_gate_fails_when_over_the_budget(
    ours: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the limit it holds; above, one line says what is over, by how much."""
    found = rounds((1.0, ours), (2.0, 2 * ours), (1.0, 99.0))
    assert gate(found, {"jsonl/floor": {"budget": 3.0}}) == code
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("OVER the budget" if code else "within the budget")
    assert f"{ours:.2f} ({ours:.2f} to 99.00)" in line


def test_a_target_that_is_missed_is_said_and_does_not_fail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is what is wanted, while the budget is what there is already."""
    assert gate(rounds((1.0, 4.0)), {"jsonl/floor": {"target": 3.0, "budget": 5.0}}) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("within the budget (off the target)")


def test_more_is_better_for_what_others_take() -> None:
    """Of the vendor's client by ours, a target is the least."""
    [verdict] = [
        each
        for each in judge(
            [{"vendor": report(5.0), "jsonl": report(1.0)}], {"vendor/jsonl": {"target": 6.0}}
        )
        if each.name == "vendor/jsonl"
    ]
    assert not verdict.meets("target")
    assert verdict.meets("budget")


def test_stored_limits_are_of_figures_and_the_gate_measures_all_of_the_budget() -> None:
    """No name is misspelt."""
    limits = read_limits()
    assert set(limits) <= set(FIGURES)
    assert {name for each in limits.values() for name in each} == set(LIMITS)
    gated = [name for name, each in limits.items() if "budget" in each]
    assert {need for name in gated for need in FIGURES[name].needs} == set(GATED)


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
    """What is wanted beside each record, and what each contender took."""
    later = [{"floor": report(2.0), "jsonl": report(4.0)}]
    limits = {"jsonl/floor": {"target": 2.5, "stretch": 2.0}}
    [head, _, first, *_] = verdicts_table({"before": ROUNDS, "after": later}, limits).splitlines()
    assert head == "|  | wanted | stretch | budget | before | after |"
    assert first == (
        f"| {FIGURES['jsonl/floor'].title} | 2.5 | 2 | - "
        "| 3.00 (3.00 to 3.00), **missed** | 2.00 (2.00 to 2.00) |"
    )
    [_, _, floor, ours] = costs(ROUNDS).splitlines()
    assert floor.startswith(f"| {title_of('floor')} | 1k, 2k | 2.00 (2.00 to 2.00) | 0.10 | 1.00 |")
    assert ours.endswith("| 3.00 | 50 | 25 | 40.00 | 0.70 | 3.0 |")


def test_an_hour_of_the_api_is_told_for_several_paces() -> None:
    """Those who took part: 20 us a location are 72 s at 1,000 a second."""
    [_, _, line] = hours([{"jsonl": report(20.0)}]).splitlines()
    assert line == f"| {title_of('jsonl')} | 7 | 72 | 720 |"


def test_stages_and_their_shares_are_of_the_whole() -> None:
    """In microseconds a location; what a contender does not do is no zero."""
    [_, _, first, second, none, together] = stages_table([{"gzip": report(6.0)}]).splitlines()
    assert first == "| first | 4.00 | 67% |"
    assert second == "| second | 2.00 | 33% |"
    assert none == "| none | - | - |"
    assert together == "| **together** | 6.00 | 100% |"


def test_plots_are_svg() -> None:
    """Well-formed, with the names of what they show."""
    runs = [{"rows": rows, "max_rss_mb": 100.0} for rows in (1_000_000, 10_000_000)]
    for plot, name in (
        (throughput_plot(ROUNDS), "jsonl"),
        (memory_plot(runs), "10,000,000"),
        (stages_plot([{"gzip": report(6.0)}]), "second"),
    ):
        texts = [each.text for each in ET.fromstring(plot).iter() if each.text]
        assert name in texts
