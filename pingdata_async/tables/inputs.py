"""What every reader of a table takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from pingdata_async.location_batches import Columns
from pingdata_async.locations import AnyLocation

SEND: Final = "send"
SKIP: Final = "skip"


class ReadOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How an input is to be understood, where that is not left to be found out.

    Attributes:
        mapping: By field of a location, the header of the column that holds it.
        id_column: The header of the column that holds the user's own ids; None to find it.
        encoding: Of a text file; None to find it.
        sheet: The name of a workbook's sheet, or its number from 1; None for the only one that
            holds a table.
        hidden_rows: Whether rows that a workbook hides, or a filter in it, are "send" or "skip".
        allow_missing_values: Whether a workbook may have formulas without a stored value, and
            errors, in columns of the address. Its rows are sent without that part then.
    """

    mapping: Mapping[str, str] = {}
    id_column: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    hidden_rows: Literal["send", "skip"] = SEND
    allow_missing_values: bool = False


class TextColumns(msgspec.Struct, frozen=True, tag="text", array_like=True):
    """Rows of a delimited text: by column, each cell as it was, "" where there was nothing."""

    columns: Sequence[Sequence[str]]


class CellColumns(msgspec.Struct, frozen=True, tag="cells", array_like=True):
    """Rows of a workbook: by column, each cell's value.

    A cell is a str, int, float, bool, date, datetime, time or timedelta; None where it is empty.
    """

    columns: Sequence[Sequence[Any]]


class JSONRows(msgspec.Struct, frozen=True, tag="json", array_like=True):
    """Rows of JSONL, or of Python objects: one JSON value each, an object or a text."""

    rows: Sequence[bytes]


class ArrowRows(msgspec.Struct, frozen=True, tag="arrow", array_like=True):
    """Rows of Parquet or of a data frame: an Arrow IPC stream of one record batch or several."""

    stream: bytes


Originals = TextColumns | CellColumns | JSONRows | ArrowRows
"""Rows as they came; an input has one kind of them."""


class Batch(msgspec.Struct, frozen=True):
    """Some data records of an input that follow each other.

    Attributes:
        locations: What is looked up: their fields, or plain addresses.
        originals: As many rows, as they came.
        errors: By place in them, why some cannot be sent.
    """

    locations: Columns | Sequence[AnyLocation]
    originals: Originals
    errors: Mapping[int, str] = {}
