"""Numbers of things in messages (pure)."""

from __future__ import annotations


def counted(number: int, what: str, several: str | None = None) -> str:
    """Such as "1 row" and "2,000 rows".

    Args:
        number: How many.
        what: One of them.
        several: More than one of them; None where an s makes it.
    """
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"
