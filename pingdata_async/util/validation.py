"""Refuses settings that cannot work as soon as they are given (pure).

Types alone do not keep them out: they come from files, forms and environments.
"""

from __future__ import annotations

import math

from pingdata_async.exceptions import ConfigurationError

LARGEST = 2**53
"""The largest whole number that is the same everywhere, in JSON too."""


def check_count(name: str, value: object, *, at_least: int = 1) -> None:
    """Refuse what is no count of things; raises ConfigurationError with the setting's name."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} must be a whole number, not {value!r}")
    if value < at_least:
        raise ConfigurationError(f"{name} must be at least {at_least}, not {value}")
    if value > LARGEST:
        raise ConfigurationError(f"{name} must be at most {LARGEST}")


def check_amount(name: str, value: object, *, may_be_zero: bool = False) -> None:
    """Refuse what is no finite number above 0, such as seconds.

    Raises:
        ConfigurationError: With the setting's name.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
    if value > LARGEST and value != math.inf:
        raise ConfigurationError(f"{name} must be at most {LARGEST}")
    if not (0 < value < math.inf or (may_be_zero and value == 0)):  # NaN is neither
        least = "at least 0" if may_be_zero else "above 0"
        raise ConfigurationError(f"{name} must be {least} and finite, not {value}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False: "no" would count as yes.

    Raises:
        ConfigurationError: With the setting's name.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r}")
