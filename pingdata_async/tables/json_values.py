"""A column's values as JSON has them (pure)."""

from __future__ import annotations

import math

from pingdata_async.tables.kinds import text_of_cell
from pingdata_async.tables.schema import FlatColumn, Kind, Values


def json_values(values: Values, column: FlatColumn) -> Values:
    """Values that can be encoded as JSON; what it has no form for is a text."""
    if column.arrow_field is not None:
        from pingdata_async.tables.arrow import python_values  # noqa: PLC0415 - optional

        values = python_values(values, column.kind)
    if column.kind is Kind.DURATION:
        return [None if value is None else text_of_cell(value) for value in values]
    if column.kind is Kind.NUMBER and not math.isfinite(sum(filter(None, values))):
        # JSON has no word for what is not a number; a text is better than to lose it.
        return [value if value is None or math.isfinite(value) else str(value) for value in values]
    return values
