"""The output as a flat table: the input's columns, the status, the answers (pure).

It takes two passes: an `OutputTableScan` takes in all rows, and gives the `OutputTable` that takes
the values out of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from pingdata_async.models import EnhancedLocation
from pingdata_async.tables.rows import InputRows
from pingdata_async.tables.schema.inference import AnswerColumn, AnswerColumns, AnswerScan
from pingdata_async.tables.schema.input_rows import ADDRESS, InputRowScan
from pingdata_async.tables.schema.types import Column, ColumnType, Values, choose, free_name

STATUS_COLUMNS: Final = ("enhance_status", "enhance_reason", "enhance_error")
"""How a row ended; behind the input's columns. One that an input has already becomes name_2."""

FOR_MACHINES: Final = frozenset({"worker_name", "persist_for", "raw_response", "fetch_time"})
"""Fields of every source that tell nothing of a place; only written where columns are chosen."""

BLOCK_ROWS: Final = 250
"""Rows that are Python objects at once; of more, the first leave the cache before the last come."""


def least_columns(headers: Sequence[str], patterns: Sequence[str]) -> int:
    """How many columns a table has in any case, whatever is answered.

    Args:
        headers: Of the input's columns.
        patterns: Names or patterns of the columns that are wanted; () for all of them.
    """
    sure = [Column(name, ColumnType.TEXT) for name in (*headers, *STATUS_COLUMNS)]
    return len(choose(sure, patterns).places) if patterns else len(sure)


def impossible_columns(headers: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Those of the columns that are wanted which no answer can bring.

    Args:
        headers: Of the input's columns.
        patterns: Names or patterns of the columns that are wanted.
    """
    # Rows that are nothing but a text have no header.
    sure = [Column(name, ColumnType.TEXT) for name in (*headers, ADDRESS, *STATUS_COLUMNS)]
    # Those of answers begin with a source's code and "_"; a row can name sources of its own.
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
    """Those of the columns that are wanted which no answer brings that is as it is declared.

    Args:
        headers: Of the input's columns.
        declared: By source, the fields that the API says it has.
        patterns: Names or patterns of the columns that are wanted.
    """
    answers = [f"{code.lower()}_{field}" for code, fields in declared.items() for field in fields]
    known = [
        Column(name, ColumnType.TEXT) for name in (*headers, ADDRESS, *STATUS_COLUMNS, *answers)
    ]
    # What is within a field has its name behind that of the field, as a number has.
    within = tuple(f"{name}_" for name in answers)
    return [
        pattern for pattern in choose(known, patterns).unmatched if not pattern.startswith(within)
    ]


class OutputTableScan:
    """The first pass.

    Args:
        headers: Of the input's columns.
        sources: The codes of the sources that were asked, in their order.
        keeps_cells: Whether cells of a workbook stay what they are, each by itself.
    """

    def __init__(
        self, headers: Sequence[str], sources: Sequence[str], *, keeps_cells: bool = False
    ) -> None:
        self._input_rows = InputRowScan(headers, keeps_cells=keeps_cells)
        self._answers = AnswerScan(sources)

    @property
    def knows_input_rows(self) -> bool:
        """Whether more of the input's rows would tell nothing new."""
        return self._input_rows.is_settled

    def add_input_rows(self, input_rows: InputRows) -> None:
        """Take in more of the input's rows."""
        self._input_rows.add(input_rows)

    def add_answers(self, answers: Iterable[memoryview | msgspec.Raw]) -> None:
        """Take in what the API said of more rows; which ones they are makes no difference."""
        self._answers.add(answers)

    def table(
        self,
        declared: Mapping[str, Mapping[str, str]],
        patterns: Sequence[str],
        taken_names: Iterable[str] = (),
    ) -> OutputTable:
        """The table that holds all rows that were taken in.

        Args:
            declared: By source and field, the type that the API says it has.
            patterns: Names or patterns of the columns that are wanted; () for all of them but
                those in `FOR_MACHINES`.
            taken_names: Of columns that the table will be put beside.
        """
        input_rows = self._input_rows.columns()
        before = [*taken_names, *(column.name for column in input_rows)]
        taken = {name.casefold() for name in before}
        status = [Column(free_name(name, taken), ColumnType.TEXT) for name in STATUS_COLUMNS]
        before += [column.name for column in status]
        answers = self._answers.columns(declared, before)
        return OutputTable(self._input_rows, len(input_rows), status, answers, patterns)


def input_table(input_rows: InputRowScan, patterns: Sequence[str]) -> OutputTable:
    """A table of nothing but the input's columns; `input_rows` has taken in all rows.

    Args:
        input_rows: The first pass.
        patterns: Names or patterns of the columns that are wanted.
    """
    return OutputTable(input_rows, len(input_rows.columns()), [], [], patterns)


class OutputTable:
    """The second pass; made by `OutputTableScan.table()`.

    Attributes:
        columns: Those that are wanted, in order.
        unmatched: What was asked for and is not there.
        own_columns: How many of `columns` are the input's, if they begin with all of these in
            their order; None if not.
    """

    def __init__(
        self,
        input_rows: InputRowScan,
        input_columns: int,
        status: Sequence[Column],
        answers: Sequence[AnswerColumn],
        patterns: Sequence[str],
    ) -> None:
        everything = [*input_rows.columns(), *status, *answers]
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
        # Only what is wanted is taken out of the answers.
        self._answer_places = [place for place in places if place >= self._answers_begin]
        self._answers = AnswerColumns(
            [answers[place - self._answers_begin] for place in self._answer_places]
        )

    def values(
        self,
        input_rows: InputRows,
        results: Sequence[EnhancedLocation],
        places: Sequence[int] | None = None,
    ) -> list[Values]:
        """The values of each of `columns` in some rows.

        Args:
            input_rows: These rows as they came, perhaps among others.
            results: How each of them ended.
            places: Where they are among the input rows; None where there are no others.
        """
        return self._values(self._given(input_rows, places), results)

    def blocks(
        self,
        input_rows: InputRows,
        results: Sequence[EnhancedLocation],
        places: Sequence[int] | None = None,
    ) -> Iterator[tuple[Sequence[EnhancedLocation], list[Values]]]:
        """The same, `BLOCK_ROWS` at a time: some of the results, and their values."""
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
        before = [*given, *ended]
        answered = dict(zip(self._answer_places, self._answers.values(results), strict=True))
        return [
            before[place] if place < self._answers_begin else answered[place]
            for place in self._places
        ]


def _for_machines(column: Column) -> bool:
    return isinstance(column, AnswerColumn) and not FOR_MACHINES.isdisjoint(column.origin.path[1:2])


def _picked(values: Values, places: Sequence[int]) -> Values:
    arrow: Any = values
    return arrow.take(list(places)) if hasattr(arrow, "take") else [values[at] for at in places]
