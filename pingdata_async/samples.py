"""A few values of each field, as they are sent, for people to see what is taken for what (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

MOST_SAMPLES = 3
MOST_SAMPLE_CHARS = 30

_SEARCHED_ROWS = 2_000  # a field that nearly no row has need not be looked for any longer


class Samples:
    """Collects them from the first rows.

    Attributes:
        by_field: By field, up to three different values in the order of the rows, as texts.
    """

    def __init__(self) -> None:
        self.by_field: dict[str, list[str]] = {}
        self._left = _SEARCHED_ROWS

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Look at some rows.

        Args:
            columns: By field, what is sent of each; None where nothing is.
        """
        if self._left <= 0:
            return
        self._left -= max(map(len, columns.values()), default=0)
        for field, values in columns.items():
            samples = self.by_field.setdefault(field, [])
            for value in values:
                if len(samples) == MOST_SAMPLES:
                    break
                if value is not None and (text := _shown(value)) not in samples:
                    samples.append(text)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= MOST_SAMPLE_CHARS else f"{text[: MOST_SAMPLE_CHARS - 3]}..."
