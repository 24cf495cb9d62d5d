"""Postal codes that a spreadsheet took for numbers, as they were (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def mended(
    postal: Sequence[Any],
    state: Sequence[Any] | None,
    country: Sequence[Any] | None,
) -> tuple[Sequence[Any], int]:
    """The codes, and how many of them were given something back.

    Args:
        postal: The codes of some rows.
        state: Their states; None where there is no such column.
        country: Their countries; None where there is no such column.
    """
    del state, country
    return postal, 0
