"""The input's own rows, as they were kept, to columns of a flat table (pure).

The kinds of a workbook's columns, and of those of JSON objects, are found out like those of the
answers, from all rows. Those of a delimited text are texts, and those of Arrow are what Arrow
says they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec

from pingdata_async.tables.inputs import ArrowRows, CellColumns, JSONRows, Originals, TextColumns
from pingdata_async.tables.json_columns import JSONColumn, JSONColumns
from pingdata_async.tables.kinds import NOTHING, Found, cells_of_kind, found_in_cells, kind_of
from pingdata_async.tables.schema import FlatColumn, Kind, Values
from pingdata_async.tables.shapes import ShapeScan, opened

ADDRESS: Final = "address"
"""The column of rows of JSONL that are nothing but a text."""


class OriginalScan:
    """Finds out the columns of an input, and takes their values out of its rows.

    Args:
        headers: Those of the input's columns, in order; not used where the rows name them.
        keeps_cells: Whether cells of a workbook stay what they are, each by itself, instead of
            becoming what holds all of their column.
    """

    def __init__(self, headers: Sequence[str], *, keeps_cells: bool = False) -> None:
        self._headers = headers
        self._keeps_cells = keeps_cells
        self._scan: _Scan = _TextScan(headers)
        self._is_chosen = False

    @property
    def is_settled(self) -> bool:
        """Whether more rows would tell nothing new."""
        return self._is_chosen and not self._scan.depends_on_all

    def add(self, originals: Originals) -> None:
        """Take in more rows; those of one input are all of one kind."""
        if not self._is_chosen:
            self._scan = _SCANS[type(originals)](self._headers)
            self._is_chosen = True
        self._scan.add(originals)

    def columns(self) -> list[FlatColumn]:
        """The input's columns, with kinds that hold all rows that were taken in."""
        return self._scan.columns()

    def values(self, originals: Originals) -> list[Values]:
        """The values of each of `columns()` in some of the rows that were taken in."""
        if self._keeps_cells and isinstance(originals, CellColumns):
            return list(originals.columns)
        return self._scan.values(originals)


def rows_in(originals: Originals) -> int:
    """How many rows there are."""
    if isinstance(originals, JSONRows):
        return len(originals.rows)
    if isinstance(originals, ArrowRows):
        from pingdata_async.tables.arrow import read_stream  # noqa: PLC0415 - optional

        return read_stream(originals.stream).num_rows
    return len(originals.columns[0]) if originals.columns else 0


def sliced(originals: Originals, begin: int, end: int) -> Originals:
    """The rows from one place up to another."""
    if isinstance(originals, JSONRows):
        return JSONRows(originals.rows[begin:end])
    if isinstance(originals, ArrowRows):
        from pingdata_async.tables.arrow import read_stream, write_stream  # noqa: PLC0415 - optional

        return ArrowRows(write_stream(read_stream(originals.stream)[begin:end]))
    return type(originals)([column[begin:end] for column in originals.columns])


def joined(parts: Sequence[Originals]) -> Originals:
    """The rows of one or several parts, which are all of one kind and have the same columns."""
    first: Any = parts[0]
    others: Sequence[Any] = parts  # the same kind
    if len(parts) == 1:
        return parts[0]
    if isinstance(first, JSONRows):
        return JSONRows([row for part in others for row in part.rows])
    if isinstance(first, ArrowRows):
        from pingdata_async.tables.arrow import joined_tables  # noqa: PLC0415 - optional

        return ArrowRows(joined_tables([part.stream for part in others]))
    columns = zip(*(part.columns for part in others), strict=True)
    kind: type[TextColumns | CellColumns] = type(first)
    return kind([[cell for cells in column for cell in cells] for column in columns])


def members_of(
    originals: JSONRows, names: Mapping[str, str]
) -> list[dict[str, msgspec.Raw | None]]:
    """Members of each row as they came, to be a part of JSON again.

    Args:
        originals: The rows.
        names: By the name that each member gets, its own; None is put where a row has none.
    """
    objects = [opened(row.strip()) or {} for row in _objects(originals.rows)]
    return [{name: each.get(own) for name, own in names.items()} for each in objects]


class _Scan(Protocol):
    depends_on_all: ClassVar[bool]  # whether each row can change what the columns are

    def __init__(self, headers: Sequence[str]) -> None: ...
    def add(self, originals: Any) -> None: ...
    def columns(self) -> list[FlatColumn]: ...
    def values(self, originals: Any) -> list[Values]: ...


class _TextScan:
    depends_on_all: ClassVar = False

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers = headers

    def add(self, originals: TextColumns) -> None:
        """Nothing is to be found out."""

    def columns(self) -> list[FlatColumn]:
        return [FlatColumn(header, Kind.TEXT) for header in self._headers]

    def values(self, originals: TextColumns) -> list[Values]:
        return list(originals.columns)


class _CellScan:
    depends_on_all: ClassVar = True

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers = headers
        self._found: list[Found] = [NOTHING] * len(headers)

    def add(self, originals: CellColumns) -> None:
        self._found = [
            found | found_in_cells(cells)
            for found, cells in zip(self._found, originals.columns, strict=True)
        ]

    def columns(self) -> list[FlatColumn]:
        kinds = map(kind_of, self._found)
        return list(map(FlatColumn, self._headers, kinds))

    def values(self, originals: CellColumns) -> list[Values]:
        kinds = map(kind_of, self._found)
        return list(map(cells_of_kind, originals.columns, kinds))


class _ObjectScan:
    depends_on_all: ClassVar = True

    def __init__(self, headers: Sequence[str]) -> None:
        del headers  # objects name their members
        self._scan = ShapeScan(levels=1)
        self._reader: JSONColumns | None = None

    def add(self, originals: JSONRows) -> None:
        self._reader = None
        self._scan.add(_objects(originals.rows))

    def columns(self) -> list[FlatColumn]:
        return [FlatColumn(column.path[0], column.kind) for column in self._places()]

    def values(self, originals: JSONRows) -> list[Values]:
        if self._reader is None:
            self._reader = JSONColumns(self._places())
        return self._reader.values(_objects(originals.rows))

    def _places(self) -> list[JSONColumn]:
        return [
            JSONColumn(
                path=(name,),
                kind=(kind := kind_of(shape.found)),
                is_mixed=kind is Kind.TEXT and bool(shape.found & ~Found.TEXT),
            )
            for name, shape in self._scan.shape.members.items()
        ]


class _TableScan:
    depends_on_all: ClassVar = False

    def __init__(self, headers: Sequence[str]) -> None:
        del headers  # Arrow has them in its schema
        self._columns: list[FlatColumn] | None = None

    def add(self, originals: ArrowRows) -> None:
        from pingdata_async.tables.arrow import columns_of, read_stream  # noqa: PLC0415 - optional

        if self._columns is None:
            self._columns = columns_of(read_stream(originals.stream).schema)

    def columns(self) -> list[FlatColumn]:
        return list(self._columns or ())

    def values(self, originals: ArrowRows) -> list[Values]:
        from pingdata_async.tables.arrow import read_stream  # noqa: PLC0415 - optional

        columns: list[Any] = read_stream(originals.stream).columns
        return columns


_SCANS: Final[dict[type[Originals], type[_Scan]]] = {
    TextColumns: _TextScan,
    CellColumns: _CellScan,
    JSONRows: _ObjectScan,
    ArrowRows: _TableScan,
}


def _objects(rows: Iterable[bytes]) -> list[bytes]:
    """The rows, all of them objects."""
    return [
        b'{"%b":%b}' % (ADDRESS.encode(), row) if row.lstrip()[:1] == b'"' else row for row in rows
    ]
