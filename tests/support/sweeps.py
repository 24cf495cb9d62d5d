"""Sweeps through many seeds or cases, of which the usual run of the suite tries a sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import settings

EXAMPLES = 100  # of a property, unless it says otherwise
EXAMPLES_IN_SAMPLE = 25
FEWEST_CASES_TO_SAMPLE = 4
SAMPLE_EVERY = 3


def is_sample(config: pytest.Config) -> bool:
    """Whether sweeps are left out, as `scripts/test` does."""
    return "not sweep" in config.getoption("markexpr")


def sample_of_cases(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests without two thirds of the cases of each that has four or more."""
    by_test: dict[tuple[str, str], list[pytest.Item]] = {}
    for item in items:
        name = getattr(item, "originalname", None) or item.name
        by_test.setdefault((item.path.as_posix(), name), []).append(item)
    sample = {
        item
        for cases in by_test.values()
        for item in (cases if len(cases) < FEWEST_CASES_TO_SAMPLE else cases[::SAMPLE_EVERY])
    }
    return [item for item in items if item in sample]


def examples(number: int, **more: Any) -> settings:
    """So many examples of a property where all are tried, and a part of them in a sample."""
    return settings(max_examples=max(1, number * settings().max_examples // EXAMPLES), **more)


def sampled(cases: Iterable[Any], in_sample: int) -> list[Any]:
    """Cases as parameters of a test: the first ones as they are, the others marked as `sweep`.

    A tuple is a case of several parameters.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[] if number < in_sample else [pytest.mark.sweep],
        )
        for number, case in enumerate(cases)
    ]
