"""Answers of the API to flat columns, in two passes (pure).

The first pass finds out what there is in all answers, the second one takes the values out: a
column's kind is never that of the first rows.

`{"PG": {"a": 1, "b": {"c": 2}, "d": [3]}}` becomes the columns `pg_a`, `pg_b_c` and `pg_d`; the
list is kept as JSON text, and so is an object where none of the rows has anything in it. A field
that is an object in some rows and something else in others has columns for both: `pg_b` beside
`pg_b_c`. What a source gives instead of an object is in a column of the source's own (`pg`), and
what is no object of sources at all in `enhance_data`. Of members of the same name the last one
counts, as for any reader of JSON, and numbers are doubles unless they are integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from pingdata_async.models import EnhancedLocation
from pingdata_async.tables.json_columns import JSONColumn, JSONColumns
from pingdata_async.tables.kinds import Found, declares_number, kind_of, widened
from pingdata_async.tables.schema import FlatColumn, Kind, Values, free_name
from pingdata_async.tables.shapes import MAX_LEVELS, Shape, ShapeScan

ODD_ANSWERS: Final = "enhance_data"
"""The column of answers that are no object of sources, as their JSON text; only if there are."""


class AnswerColumn(FlatColumn, frozen=True, kw_only=True):
    """A column of a flat table that holds a field of a source.

    Attributes:
        origin: Where in the answers its values are; the first name is the source's code.
        is_number: Whether the API says that they are numbers, though some came as texts.
    """

    origin: JSONColumn
    is_number: bool = False


class AnswerScan:
    """The first pass: finds out which fields there are, and what their values are.

    Args:
        sources: The codes of the sources that were asked, in their order.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._sources = sources
        self._scan = ShapeScan(MAX_LEVELS)

    def add(self, answers: Iterable[memoryview | msgspec.Raw]) -> None:
        """Take in what the API said of more rows. Nothing in it is an error."""
        self._scan.add(answers)

    def columns(
        self, declared: Mapping[str, Mapping[str, str]], taken_names: Iterable[str]
    ) -> list[AnswerColumn]:
        """The columns of all rows that were taken in.

        Sources come in the order in which they were asked, others as they were met; fields as
        they were met in the rows, in the order in which these were given.

        Args:
            declared: By source and field, the type that the API says it has. A column is at
                least as wide; nested fields are looked up under their flat name.
            taken_names: Those of the columns that come before. A column whose name is among
                them, or is that of another field, is called name_2, or name_3 and so on; upper
                and lower case count as the same here, as they do in many databases.
        """
        taken = {name.casefold() for name in taken_names}
        columns = []
        for path, shape in self._in_order():
            source, *fields = path or ("",)
            found = shape.found
            if shape.members or len(path) < 2:  # noqa: PLR2004 - a source and its field
                found &= ~Found.NO_MEMBERS
            if not found and (shape.members or not fields):
                continue
            name = "_".join([source.lower(), *fields]) if path else ODD_ANSWERS
            said = declared.get(source, {}).get("_".join(fields)) if fields else None
            kind = kind_of(widened(found, said))
            columns.append(
                AnswerColumn(
                    _free_name(name, taken),
                    kind,
                    is_number=kind is Kind.TEXT and declares_number(said),
                    origin=JSONColumn(
                        path=path,
                        kind=kind,
                        is_mixed=kind is Kind.TEXT and bool(found & ~Found.TEXT),
                        is_beside_members=not found & Found.OBJECT
                        and (bool(shape.members) or not fields),
                    ),
                )
            )
        return columns

    def _in_order(self) -> Iterator[tuple[tuple[str, ...], Shape]]:
        """Every place in the answers, those of the sources first that were asked first."""
        ranks = {source.casefold(): rank for rank, source in enumerate(self._sources)}
        root = self._scan.shape
        codes = sorted(root.members, key=lambda code: ranks.get(code.casefold(), len(ranks)))
        for code in codes:
            yield from _places((code,), root.members[code])
        yield (), root


class AnswerColumns:
    """The second pass: takes the values of columns out of the answers.

    Args:
        columns: Those that are wanted, of `AnswerScan.columns()`.
    """

    def __init__(self, columns: Sequence[AnswerColumn]) -> None:
        self._columns = JSONColumns([column.origin for column in columns])

    def values(self, results: Iterable[EnhancedLocation]) -> list[Values]:
        """The values of each column in some of the rows.

        Raises:
            DecodeError: For an answer that was not among those of the first pass, and does not
                fit.
        """
        return self._columns.values([result.data for result in results])


def _places(path: tuple[str, ...], shape: Shape) -> Iterator[tuple[tuple[str, ...], Shape]]:
    yield path, shape
    for name, member in shape.members.items():
        yield from _places((*path, name), member)


def _free_name(name: str, taken: set[str]) -> str:
    free = free_name(name.casefold(), taken)
    taken.add(free)
    return name + free[len(name.casefold()) :]
