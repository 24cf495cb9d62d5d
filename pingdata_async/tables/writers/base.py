"""What all writers of flat tables share."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import msgspec

from pingdata_async.tables.schema.types import Values

Point = tuple[float, float]
"""Longitude and latitude in degrees (WGS 84), in the order of GeoJSON."""


class TableRows(msgspec.Struct, frozen=True):
    """Some rows of a flat table.

    Attributes:
        values: The values of each column.
        count: The number of rows.
        points: The point of each row, for formats with a geometry.
        ids: The user's id of each row, for GeoJSON; None to number the rows.
        numbers: The number of each row in the input, from 0, for a workbook that is given back.
    """

    values: Sequence[Values]
    count: int
    points: Sequence[Point | None] | None = None
    ids: Sequence[str | None] | None = None
    numbers: Sequence[int] | None = None


class TableWriter(ABC):
    """Writes the rows of a flat table, block by block."""

    @property
    def notes(self) -> list[str]:
        """What could not be written as it was, one sentence each."""
        return []

    @abstractmethod
    def write(self, rows: TableRows) -> None:
        """Add some rows."""

    def close(self) -> None:  # noqa: B027 - some writers keep nothing back
        """Write whatever is pending. The file stays open."""

    def abandon(self) -> None:  # noqa: B027 - some writers hold nothing
        """Release everything after an error; what has been written is no whole table."""


@contextlib.contextmanager
def finishing(writer: TableWriter) -> Iterator[TableWriter]:
    """Close a writer at the end, or abandon it after an error."""
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.abandon()
        raise
