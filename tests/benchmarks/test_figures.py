"""From runs to figures, and to the gate's verdict."""

from __future__ import annotations

import json

import pytest

from benchmarks.throughput.__main__ import BUDGET, GATED, TARGETS, gate
from benchmarks.throughput.figures import (
    Limit,
    Spread,
    judge,
    limits_from,
    ratio,
    spread,
    spread_of,
)
from benchmarks.throughput.roster import FLOOR, OURS, ROSTER
from tests.benchmarks.made_up import report


def rounds(*cpu: tuple[float, float]) -> list[dict[str, dict[str, object]]]:
    """Of the floor and ours."""
    return [{FLOOR: report(floor), OURS: report(ours)} for floor, ours in cpu]


def test_a_spread_is_median_least_and_most() -> None:
    """Neither order nor an odd run out matters."""
    assert spread([9.0, 1.0, 2.0]) == Spread(2.0, 1.0, 9.0)
    assert spread([4.0, 2.0]) == Spread(3.0, 2.0, 4.0)


def test_figures_are_found_at_any_depth() -> None:
    """Those of a run, and those within."""
    found = rounds((1.0, 2.0), (3.0, 4.0), (5.0, 60.0))
    assert spread_of(found, OURS, "cpu_s_per_million") == Spread(4.0, 2.0, 60.0)
    assert spread_of(found, OURS, "loop_lag_ms", "p99") == Spread(2.0, 2.0, 2.0)


def test_a_ratio_is_reckoned_within_each_round() -> None:
    """A machine that is ten times slower for a while changes nothing."""
    found = rounds((1.0, 3.0), (10.0, 30.0), (2.0, 6.0))
    assert ratio(found, OURS, FLOOR) == Spread(3.0, 3.0, 3.0)


@pytest.mark.parametrize(("ours", "code"), [(2.9, 0), (3.0, 0), (3.1, 1)])
def test_the_gate_fails_when_over_the_budget(
    ours: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the limit it holds; above, one line says what is over, by how much."""
    found = rounds((1.0, ours), (2.0, 2 * ours), (1.0, 99.0))
    assert gate(found, [Limit(OURS, FLOOR, 3.0)]) == code
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("OVER the budget" if code else "within the budget")
    assert f"{OURS}: {ours:.3g} x the CPU of {FLOOR}" in line


def test_a_target_that_is_missed_is_said_and_does_not_fail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is what is wanted, while the budget is what there is already."""
    limits = [Limit(OURS, FLOOR, 5.0, 3.0), Limit(OURS, FLOOR, None, 3.0), Limit(OURS, FLOOR, 5.0)]
    assert gate(rounds((1.0, 4.0)), limits) == 0
    [missed, without_budget, without_target] = capsys.readouterr().out.splitlines()
    assert missed.startswith("within the budget (off the target)")
    assert without_budget.endswith("budget -, target 3")
    assert without_target.startswith("within the budget:")


def test_memory_has_limits_too() -> None:
    """In MB, of the median."""
    found = [{OURS: report(1.0, mb)} for mb in (100.0, 130.0, 110.0)]
    limits = [Limit(OURS, None, 120.0), Limit(OURS, None, 109.0)]
    assert [verdict.holds for verdict in judge(found, limits)] == [True, False]


def test_limits_on_those_who_did_not_take_part_are_left_out() -> None:
    """Rather than being taken for kept or broken."""
    [verdict] = judge(rounds((1.0, 2.0)), [Limit(OURS, FLOOR, 3.0), Limit("vendor", FLOOR, 3.0)])
    assert verdict.limit.contender == OURS


def test_budget_and_target_of_one_thing_are_one_limit() -> None:
    """In the order of the targets, with what only the budget has behind them."""
    budget = {"cpu": {"a": {"b": 4.0}}, "max_rss_mb": {"a": 100}}
    targets = {"cpu": {"a": {"b": 3.0, "c": 1.0}}, "max_rss_mb": {}}
    assert limits_from(budget, targets) == [
        Limit("a", "b", 4.0, 3.0),
        Limit("a", "c", None, 1.0),
        Limit("a", None, 100, None),
    ]


def test_stored_limits_are_of_those_who_take_part() -> None:
    """No name is misspelt, and the gate's contenders are enough for all of the budget."""
    limits = limits_from(
        *(json.loads(path.read_text(encoding="utf-8")) for path in (BUDGET, TARGETS))
    )
    assert {limit.contender for limit in limits} <= set(ROSTER)
    assert {limit.base for limit in limits if limit.base} <= set(ROSTER)
    gated = [limit for limit in limits if limit.budget is not None]
    assert {limit.contender for limit in gated} == set(GATED) - {FLOOR}
    assert {limit.base for limit in gated if limit.base} == {FLOOR}
