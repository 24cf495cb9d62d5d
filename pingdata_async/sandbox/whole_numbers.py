"""Whole numbers among the settings: half a worker, or a limit that is NaN, would not be noticed."""

from __future__ import annotations


def check_whole(name: str, number: object, *, at_least: int = 1) -> None:
    """Refuse what is no whole number, or too small.

    Raises:
        ValueError: With the setting's name.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(  # noqa: TRY004 - as of every setting
            f"{name} must be a whole number, not {number!r}"
        )
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, not {number}")
