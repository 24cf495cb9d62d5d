"""The columns of an input to the fields of a location (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pingdata_async.exceptions import InputError
from pingdata_async.location_batches import Columns
from pingdata_async.locations import COORDINATES, FIELDS, LOOKUP_FIELDS


class MappedColumn(msgspec.Struct, frozen=True):
    """What a field is taken from.

    Attributes:
        field: "id" or one of `locations.FIELDS`.
        headers: Of the columns that hold it, as they stand in the input.
        places: Of these columns, from 0.
    """

    field: str
    headers: tuple[str, ...]
    places: tuple[int, ...]


class ColumnMapping(msgspec.Struct, frozen=True):
    """Which column holds which field.

    Attributes:
        columns: Those that are used.
        unused: Headers of those that mean nothing to the API.
    """

    columns: tuple[MappedColumn, ...]
    unused: tuple[str, ...]

    def located(self, columns: Sequence[Sequence[Any]], *, are_texts: bool) -> Columns:
        """Rows as locations.

        Args:
            columns: All columns of the input, in some rows; those that are not used may be
                empty.
            are_texts: Whether every cell is a str.
        """
        return Columns(
            tuple(column.field for column in self.columns),
            tuple(columns[column.places[0]] for column in self.columns),
            are_texts,
        )


def map_columns(
    name: str,
    headers: Sequence[str],
    *,
    given: Mapping[str, str] = {},
    id_column: str | None = None,
) -> ColumnMapping:
    """Find the field that each column holds.

    Args:
        name: The input, for messages.
        headers: Of its columns, in order.
        given: By field, the header that was named for it.
        id_column: The header that was named for the user's own ids; None to find it.

    Raises:
        InputError: When two columns hold one field, or none can be looked up.
    """
    given = dict(given) | ({} if id_column is None else {"id": id_column})
    fields = {header.strip().lower(): field for field, header in given.items()}
    used: dict[str, MappedColumn] = {}
    unused: dict[str, None] = {}
    for place, header in enumerate(headers):
        title = header.strip().lower()
        field = fields.get(title, title)
        if (field != "id" and field not in FIELDS) or (field in given and title not in fields):
            unused[header.strip()] = None
        elif field in used:
            raise InputError(f'{name} has two columns "{field}"; rename one of them')
        else:
            used[field] = MappedColumn(field, (header,), (place,))
    if used.keys().isdisjoint(LOOKUP_FIELDS) and not used.keys() >= {*COORDINATES}:
        shown = ", ".join(repr(header) for header in headers[:50])
        raise InputError(
            f"{name} has no column to look up. Found: {shown}. Needed: one of "
            f"{', '.join(LOOKUP_FIELDS)}, or latitude and longitude"
        )
    return ColumnMapping(tuple(used.values()), tuple(unused))
