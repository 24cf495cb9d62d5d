"""Sweeps through many seeds or cases, of which the usual run of the suite tries a sample."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


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
