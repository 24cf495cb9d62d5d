"""Input rows to columns of a flat table (pure).

The types of a workbook's columns and of JSON members are inferred from all rows, like those of the
answers. Columns of a delimited text are texts, and those of Arrow have the types that Arrow gives
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec

from pingdata_async.tables.rows import ArrowRows, CellColumns, InputRows, JSONRows, TextColumns
from pingdata_async.tables.schema.inference import JSONColumn, JSONColumns, SchemaInference, opened
from pingdata_async.tables.schema.types import (
    NOTHING,
    Column,
    ColumnType,
    TypeSet,
    Values,
    cells_of_kind,
    kind_of,
    types_in_cells,
)

ADDRESS: Final = "address"
"""The column of rows of JSONL that are nothing but a text."""


class InputRowScan:
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

    def add(self, input_rows: InputRows) -> None:
        """Take in more rows; those of one input are all of one kind."""
        if not self._is_chosen:
            self._scan = _SCANS[type(input_rows)](self._headers)
            self._is_chosen = True
        self._scan.add(input_rows)

    def columns(self) -> list[Column]:
        """The input's columns, with kinds that hold all rows that were taken in."""
        return self._scan.columns()

    def values(self, input_rows: InputRows) -> list[Values]:
        """The values of each of `columns()` in some of the rows that were taken in."""
        if self._keeps_cells and isinstance(input_rows, CellColumns):
            return list(input_rows.columns)
        return self._scan.values(input_rows)


def rows_in(input_rows: InputRows) -> int:
    """How many rows there are."""
    if isinstance(input_rows, JSONRows):
        return len(input_rows.rows)
    if isinstance(input_rows, ArrowRows):
        from pingdata_async.tables.schema.arrow import read_stream  # noqa: PLC0415 - optional

        return read_stream(input_rows.stream).num_rows
    return len(input_rows.columns[0]) if input_rows.columns else 0


def sliced(input_rows: InputRows, begin: int, end: int) -> InputRows:
    """The rows from one place up to another."""
    if isinstance(input_rows, JSONRows):
        return JSONRows(input_rows.rows[begin:end])
    if isinstance(input_rows, ArrowRows):
        from pingdata_async.tables.schema.arrow import read_stream, write_stream  # noqa: PLC0415 - optional

        return ArrowRows(write_stream(read_stream(input_rows.stream)[begin:end]))
    return type(input_rows)([column[begin:end] for column in input_rows.columns])


def joined(parts: Sequence[InputRows]) -> InputRows:
    """The rows of one or several parts, which are all of one kind and have the same columns."""
    first: Any = parts[0]
    others: Sequence[Any] = parts  # the same kind
    if len(parts) == 1:
        return parts[0]
    if isinstance(first, JSONRows):
        return JSONRows([row for part in others for row in part.rows])
    if isinstance(first, ArrowRows):
        from pingdata_async.tables.schema.arrow import joined_tables  # noqa: PLC0415 - optional

        return ArrowRows(joined_tables([part.stream for part in others]))
    columns = zip(*(part.columns for part in others), strict=True)
    kind: type[TextColumns | CellColumns] = type(first)
    return kind([[cell for cells in column for cell in cells] for column in columns])


def members_of(
    input_rows: JSONRows, names: Mapping[str, str]
) -> list[dict[str, msgspec.Raw | None]]:
    """Members of each row as they came, to be a part of JSON again.

    Args:
        input_rows: The rows.
        names: By the name that each member gets, its own; None is put where a row has none.
    """
    objects = [opened(row.strip()) or {} for row in _objects(input_rows.rows)]
    return [{name: each.get(own) for name, own in names.items()} for each in objects]


class _Scan(Protocol):
    depends_on_all: ClassVar[bool]  # whether each row can change what the columns are

    def __init__(self, headers: Sequence[str]) -> None: ...
    def add(self, input_rows: Any) -> None: ...
    def columns(self) -> list[Column]: ...
    def values(self, input_rows: Any) -> list[Values]: ...


class _TextScan:
    depends_on_all: ClassVar = False

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers = headers

    def add(self, input_rows: TextColumns) -> None:
        """Nothing is to be found out."""

    def columns(self) -> list[Column]:
        return [Column(header, ColumnType.TEXT) for header in self._headers]

    def values(self, input_rows: TextColumns) -> list[Values]:
        return list(input_rows.columns)


class _CellScan:
    depends_on_all: ClassVar = True

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers = headers
        self._found: list[TypeSet] = [NOTHING] * len(headers)

    def add(self, input_rows: CellColumns) -> None:
        self._found = [
            found | types_in_cells(cells)
            for found, cells in zip(self._found, input_rows.columns, strict=True)
        ]

    def columns(self) -> list[Column]:
        kinds = map(kind_of, self._found)
        return list(map(Column, self._headers, kinds))

    def values(self, input_rows: CellColumns) -> list[Values]:
        kinds = map(kind_of, self._found)
        return list(map(cells_of_kind, input_rows.columns, kinds))


class _ObjectScan:
    depends_on_all: ClassVar = True

    def __init__(self, headers: Sequence[str]) -> None:
        del headers  # objects name their members
        self._scan = SchemaInference(levels=1)
        self._reader: JSONColumns | None = None

    def add(self, input_rows: JSONRows) -> None:
        self._reader = None
        self._scan.add(_objects(input_rows.rows))

    def columns(self) -> list[Column]:
        return [Column(column.path[0], column.kind) for column in self._places()]

    def values(self, input_rows: JSONRows) -> list[Values]:
        if self._reader is None:
            self._reader = JSONColumns(self._places())
        return self._reader.values(_objects(input_rows.rows))

    def _places(self) -> list[JSONColumn]:
        return [
            JSONColumn(
                path=(name,),
                kind=(kind := kind_of(node.found)),
                is_mixed=kind is ColumnType.TEXT and bool(node.found & ~TypeSet.TEXT),
            )
            for name, node in self._scan.root.members.items()
        ]


class _TableScan:
    depends_on_all: ClassVar = False

    def __init__(self, headers: Sequence[str]) -> None:
        del headers  # Arrow has them in its schema
        self._columns: list[Column] | None = None

    def add(self, input_rows: ArrowRows) -> None:
        from pingdata_async.tables.schema.arrow import columns_of, read_stream  # noqa: PLC0415 - optional

        if self._columns is None:
            self._columns = columns_of(read_stream(input_rows.stream).schema)

    def columns(self) -> list[Column]:
        return list(self._columns or ())

    def values(self, input_rows: ArrowRows) -> list[Values]:
        from pingdata_async.tables.schema.arrow import read_stream  # noqa: PLC0415 - optional

        columns: list[Any] = read_stream(input_rows.stream).columns
        return columns


_SCANS: Final[dict[type[InputRows], type[_Scan]]] = {
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
