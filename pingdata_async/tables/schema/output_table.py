"""The output as a flat table: the input's columns, the status, the answers (pure).

It takes two passes: an `OutputTableScan` takes in rows, then its `OutputTable` extracts the
values. The second pass can begin when the first has seen some of the answers: it notices answers
that make other columns (`SchemaGrewError`). The types of a workbook's columns and of JSON members
are inferred from all rows. Columns of delimited text are text, and columns from Arrow keep their
types.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from pingdata_async.models import EnhancedLocation
from pingdata_async.tables.rows import (
    ArrowRows,
    CellColumns,
    InputRows,
    JSONRows,
    TextColumns,
    read_stream,
)
from pingdata_async.tables.schema.inference import (
    AnswerColumn,
    AnswerColumns,
    AnswerScan,
    JSONColumn,
    JSONColumns,
    SchemaInference,
    opened,
)
from pingdata_async.tables.schema.types import (
    NOTHING,
    Column,
    ColumnType,
    TypeSet,
    Values,
    cells_of_type,
    choose,
    free_name,
    narrowest_type,
    types_in_cells,
)

ADDRESS: Final = "address"
"""The column of JSON rows that are a string."""

STATUS_COLUMNS: Final = ("enhance_status", "enhance_reason", "enhance_error")
"""The outcome of a row, behind the input's columns; a name that the input has becomes name_2."""

REUSED_COLUMNS: Final = (
    Column("enhance_reused_from", ColumnType.TEXT),
    Column("reused_at", ColumnType.DATETIME),
)
"""Behind these, of a run that reuses answers: from which runs, and when (UTC, the oldest)."""

FOR_MACHINES: Final = frozenset({"worker_name", "persist_for", "raw_response", "fetch_time"})
"""Fields of every source that say nothing about a location; written only if asked for."""

BLOCK_ROWS: Final = 128
"""Rows that are Python objects at once; more would not stay in the processor's cache."""


def least_columns(headers: Sequence[str], patterns: Sequence[str]) -> int:
    """The fewest columns that a table can have with these patterns, whatever the answers are."""
    sure = [Column(name, ColumnType.TEXT) for name in (*headers, *STATUS_COLUMNS)]
    return len(choose(sure, patterns).places) if patterns else len(sure)


def impossible_columns(headers: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The patterns that no column can match, whatever the answers are."""
    # JSON rows that are a string have no header.
    sure = [Column(name, ColumnType.TEXT) for name in (*headers, ADDRESS, *STATUS_COLUMNS)]
    # Columns of answers begin with a source's code and "_"; a row can name sources of its own.
    return [
        pattern
        for pattern in choose(sure, patterns).unmatched
        if "*" not in pattern and "_" not in pattern
    ]


def undeclared_columns(
    headers: Sequence[str],
    declared: Mapping[str, Mapping[str, str]],
    patterns: Sequence[str],
) -> list[str]:
    """The patterns that no column matches if all answers are as declared.

    `declared` has the fields that the API declares, by source.
    """
    answers = [f"{code.lower()}_{field}" for code, fields in declared.items() for field in fields]
    known = [
        Column(name, ColumnType.TEXT) for name in (*headers, ADDRESS, *STATUS_COLUMNS, *answers)
    ]
    # Nested fields, and name_2 and so on, begin with the name of the field.
    within = tuple(f"{name}_" for name in answers)
    return [
        pattern for pattern in choose(known, patterns).unmatched if not pattern.startswith(within)
    ]


class OutputTableScan:
    """The first pass: infers the columns of the table.

    Args:
        headers: The headers of the input.
        sources: The codes of the requested sources, in order.
        keeps_cells: Whether each cell of a workbook keeps its own type.
        has_reused: Whether answers of earlier runs are among the answers.

    Attributes:
        input_rows: Takes in the input's rows, all of them.
    """

    def __init__(
        self,
        headers: Sequence[str],
        sources: Sequence[str],
        *,
        keeps_cells: bool = False,
        has_reused: bool = False,
    ) -> None:
        self.input_rows = InputRowScan(headers, keeps_cells=keeps_cells)
        self._status = [Column(name, ColumnType.TEXT) for name in STATUS_COLUMNS]
        self._status += REUSED_COLUMNS if has_reused else ()
        self._answers = AnswerScan(sources)

    def add_answers(self, answers: Iterable[memoryview | msgspec.Raw]) -> None:
        """Add the answers of rows; which rows they belong to does not matter."""
        self._answers.add(answers)

    def table(
        self,
        declared: Mapping[str, Mapping[str, str]],
        patterns: Sequence[str],
        taken_names: Iterable[str] = (),
    ) -> OutputTable:
        """The table of all rows that were added.

        Args:
            declared: The type that the API declares, by source and field.
            patterns: The columns to write, as names or patterns; () for all but `FOR_MACHINES`.
            taken_names: The names of columns that the table will stand beside.
        """
        input_rows = self.input_rows.columns()
        before = [*taken_names, *(column.name for column in input_rows)]
        taken = {name.casefold() for name in before}
        status = [Column(free_name(each.name, taken), each.type) for each in self._status]
        before += [column.name for column in status]
        answers = AnswerColumns(self._answers, declared, before)
        return OutputTable(self.input_rows, status, answers, patterns)


def input_table(input_rows: InputRowScan, patterns: Sequence[str]) -> OutputTable:
    """A table of the input's columns alone, to whose scan all rows were added."""
    return OutputTable(input_rows, [], None, patterns)


class OutputTable:
    """The second pass: extracts the values; made by `OutputTableScan.table()`.

    Attributes:
        columns: The columns to write, in order.
        unmatched: The patterns that match no column.
        own_columns: The number of input columns, if `columns` begins with all of them in their
            order; None otherwise.
    """

    def __init__(
        self,
        input_rows: InputRowScan,
        status: Sequence[Column],
        answers: AnswerColumns | None,
        patterns: Sequence[str],
    ) -> None:
        before = input_rows.columns()
        input_columns = len(before)
        everything = [*before, *status, *(answers.all if answers else ())]
        self.unmatched: list[str] = []
        if patterns:
            choice = choose(everything, patterns)
            places, self.unmatched = choice.places, choice.unmatched
        else:
            places = [place for place, column in enumerate(everything) if not _for_machines(column)]
        self.columns = [everything[place] for place in places]
        self._places = places
        is_whole = places[:input_columns] == list(range(input_columns))
        self.own_columns = input_columns if is_whole else None
        self._input_rows = input_rows
        self._answers_begin = input_columns + len(status)
        self._has_reused = len(status) > len(STATUS_COLUMNS)
        # Only these are extracted from the answers.
        self._answer_places = [place for place in places if place >= self._answers_begin]
        self._answers = answers
        if answers:
            answers.choose([place - self._answers_begin for place in self._answer_places])

    def values(
        self,
        input_rows: InputRows,
        results: Sequence[EnhancedLocation],
        places: Sequence[int] | None = None,
    ) -> list[Values]:
        """The values of `columns` in some rows, with their outcomes.

        The rows are among the input rows, at `places`; if None, they are all of them.
        """
        return self._values(self._given(input_rows, places), results)

    def blocks(
        self,
        input_rows: InputRows,
        results: Sequence[EnhancedLocation],
        places: Sequence[int] | None = None,
    ) -> Iterator[tuple[Sequence[EnhancedLocation], list[Values]]]:
        """Likewise in blocks of `BLOCK_ROWS` rows: their results, and their values."""
        given = self._given(input_rows, places)
        for begin in range(0, len(results), BLOCK_ROWS):
            end = begin + BLOCK_ROWS
            some = results[begin:end]
            yield some, self._values([values[begin:end] for values in given], some)

    def _given(self, input_rows: InputRows, places: Sequence[int] | None) -> list[Values]:
        given = self._input_rows.values(input_rows)
        return given if places is None else [_picked(values, places) for values in given]

    def _values(self, given: Sequence[Values], results: Sequence[EnhancedLocation]) -> list[Values]:
        ended: list[Values] = [
            [result.status.value for result in results],
            [None if result.reason is None else result.reason.value for result in results],
            [result.error for result in results],
        ]
        if self._has_reused:
            ended += _reused_values(results)
        before = [*given, *ended]
        values = self._answers.values(results) if self._answers else []
        answered = dict(zip(self._answer_places, values, strict=True))
        return [
            before[place] if place < self._answers_begin else answered[place]
            for place in self._places
        ]


def _reused_values(results: Sequence[EnhancedLocation]) -> list[Values]:
    """The values of `REUSED_COLUMNS`."""
    marks = [result.reused or {} for result in results]
    each = [{code: mark.rpartition(", ") for code, mark in row.items()} for row in marks]
    oldest = [min((at for *_, at in row.values()), default=None) for row in each]
    return [
        ["; ".join(f"{code}: {run}" for code, (run, *_) in row.items()) or None for row in each],
        [None if at is None else _without_zone(at) for at in oldest],
    ]


def _without_zone(at: str) -> dt.datetime:
    return dt.datetime.fromisoformat(at).replace(tzinfo=None)


def _for_machines(column: Column) -> bool:
    return isinstance(column, AnswerColumn) and not FOR_MACHINES.isdisjoint(column.origin.path[1:2])


def _picked(values: Values, places: Sequence[int]) -> Values:
    arrow: Any = values
    return arrow.take(list(places)) if hasattr(arrow, "take") else [values[at] for at in places]


# -- Columns of the input ------------------------------------------------------------------------


class InputRowScan:
    """Infers the columns of an input, and extracts their values from its rows.

    Args:
        headers: The headers of the input; not used if the rows name their own.
        keeps_cells: Whether each cell of a workbook keeps its own type, instead of the type that
            holds all of its column.
    """

    def __init__(self, headers: Sequence[str], *, keeps_cells: bool = False) -> None:
        self._headers = headers
        self._keeps_cells = keeps_cells
        self._scan = _TextScan(headers)
        self._is_chosen = False

    @property
    def is_settled(self) -> bool:
        """Whether further rows cannot change the columns."""
        return self._is_chosen and not self._scan.depends_on_all

    def add(self, input_rows: InputRows) -> None:
        """Add rows; all rows of an input are of the same class."""
        if not self._is_chosen:
            self._scan = _SCANS[type(input_rows)](self._headers)
            self._is_chosen = True
        self._scan.add(input_rows)

    def columns(self) -> list[Column]:
        """The columns, with types that hold all rows that were added."""
        return self._scan.columns()

    def values(self, input_rows: InputRows) -> list[Values]:
        """The values of `columns()` in some of the rows that were added."""
        if self._keeps_cells and isinstance(input_rows, CellColumns):
            return list(input_rows.columns)
        return self._scan.values(input_rows)


def members_of(
    input_rows: JSONRows, names: Mapping[str, str]
) -> list[dict[str, msgspec.Raw | None]]:
    """Members of each row as raw JSON, under the keys of `names`; None if a row lacks one."""
    objects = [opened(row.strip()) or {} for row in _objects(input_rows.rows)]
    return [{name: each.get(own) for name, own in names.items()} for each in objects]


class _TextScan:
    """Columns of text; the other scans override what differs."""

    depends_on_all: ClassVar = False  # whether any row can change the columns

    def __init__(self, headers: Sequence[str]) -> None:
        self._headers = headers

    def add(self, input_rows: Any) -> None:
        """Nothing has to be inferred."""

    def columns(self) -> list[Column]:
        return [Column(header, ColumnType.TEXT) for header in self._headers]

    def values(self, input_rows: Any) -> list[Values]:
        return list(input_rows.columns)


class _CellScan(_TextScan):
    depends_on_all: ClassVar = True

    def __init__(self, headers: Sequence[str]) -> None:
        super().__init__(headers)
        self._found: list[TypeSet] = [NOTHING] * len(headers)

    def add(self, input_rows: CellColumns) -> None:
        self._found = [
            found | types_in_cells(cells)
            for found, cells in zip(self._found, input_rows.columns, strict=True)
        ]

    def columns(self) -> list[Column]:
        return list(map(Column, self._headers, map(narrowest_type, self._found)))

    def values(self, input_rows: CellColumns) -> list[Values]:
        return list(map(cells_of_type, input_rows.columns, map(narrowest_type, self._found)))


class _JSONScan(_TextScan):
    depends_on_all: ClassVar = True

    def __init__(self, headers: Sequence[str]) -> None:
        super().__init__(headers)
        self._scan = SchemaInference(levels=1)
        self._reader: JSONColumns | None = None

    def add(self, input_rows: JSONRows) -> None:
        self._reader = None
        self._scan.add(_objects(input_rows.rows))

    def columns(self) -> list[Column]:
        return [Column(column.path[0], column.type) for column in self._places()]

    def values(self, input_rows: JSONRows) -> list[Values]:
        if self._reader is None:
            self._reader = JSONColumns(self._places())
        return self._reader.values(_objects(input_rows.rows))

    def _places(self) -> list[JSONColumn]:
        return [
            JSONColumn(
                path=(name,),
                type=(type_ := narrowest_type(node.found)),
                is_mixed=type_ is ColumnType.TEXT and bool(node.found & ~TypeSet.TEXT),
            )
            for name, node in self._scan.root.members.items()
        ]


class _ArrowScan(_TextScan):
    def __init__(self, headers: Sequence[str]) -> None:
        super().__init__(headers)
        self._columns: list[Column] | None = None

    def add(self, input_rows: ArrowRows) -> None:
        from pingdata_async.tables.schema.arrow import columns_of  # noqa: PLC0415 - optional

        if self._columns is None:
            self._columns = columns_of(read_stream(input_rows.stream).schema)

    def columns(self) -> list[Column]:
        return list(self._columns or ())

    def values(self, input_rows: ArrowRows) -> list[Values]:
        columns: list[Any] = read_stream(input_rows.stream).columns
        return columns


_SCANS: Final[dict[type[InputRows], type[_TextScan]]] = {
    TextColumns: _TextScan,
    CellColumns: _CellScan,
    JSONRows: _JSONScan,
    ArrowRows: _ArrowScan,
}


def _objects(rows: Iterable[bytes]) -> list[bytes]:
    """The rows, with strings as objects."""
    return [
        b'{"%b":%b}' % (ADDRESS.encode(), row) if row.lstrip()[:1] == b'"' else row for row in rows
    ]
