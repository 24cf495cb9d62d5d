"""Outcomes and failures to lines of JSON, and values to what JSON can hold (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import repeat

import msgspec

from pingdata_async.models import EnhancedLocation, Reason, RowStatus
from pingdata_async.tables.formats import FAILURE_NOTES
from pingdata_async.tables.schema.types import Column, ColumnType, Values, text_of_cell

_encoder = msgspec.json.Encoder()
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Line(msgspec.Struct, omit_defaults=True):  # the order is that of the line
    id: str | None
    row: int
    status: RowStatus
    location_data: msgspec.Raw
    reason: Reason | None = None
    error: str | None = None
    input: Mapping[str, object] | None = None


def encode_lines(
    results: Sequence[EnhancedLocation],
    inputs: Sequence[Mapping[str, object] | None] | None = None,
) -> bytes:
    """A line for each outcome; each source's object stays as the API sent it.

    Args:
        results: The outcomes.
        inputs: For each, cells of its row by their header; None where they are not wanted.
    """
    return _encoder.encode_lines(
        [
            _Line(
                result.id,
                result.row,
                result.status,
                result.data,
                result.reason,
                result.error,
                cells,
            )
            for result, cells in zip(results, inputs or repeat(None), strict=False)
        ]
    )


class RowNote(msgspec.Struct, frozen=True):
    """What a line says of a row that is not ok."""

    status: RowStatus
    reason: Reason
    error: str


def frame_lines(
    ids: Sequence[str | None],
    rows: Sequence[int],
    answers: Sequence[bytes | memoryview],
    notes: Mapping[int, RowNote],
) -> list[bytes | memoryview]:
    """The same lines in pieces, the answers as they are between them, without being copied.

    Args:
        ids: The id of each row; None where it has none.
        rows: Their numbers.
        answers: The API's object for each.
        notes: By place, of the rows that are not ok.

    Returns:
        Pieces that are to be written one behind the other. Those with even numbers end the line
        before, and begin the next one.
    """
    heads = [
        f'}}\n{{"id":{shown_id},"row":{row},"status":"ok","location_data":'.encode()
        for shown_id, row in zip(_as_json(ids), rows, strict=True)
    ]
    pieces: list[bytes | memoryview] = [_LINE_END] * (2 * len(heads) + 1)
    pieces[0:-1:2] = heads
    pieces[1::2] = answers
    pieces[0] = heads[0].removeprefix(_LINE_END)
    for place, note in notes.items():
        begin, end = bytes(pieces[2 * place]), bytes(pieces[2 * place + 2])
        pieces[2 * place] = b'%b"%b","location_data":' % (
            begin.removesuffix(b'"ok","location_data":'),
            note.status.encode(),
        )
        pieces[2 * place + 2] = b',"reason":%b,"error":%b%b' % (
            _encoder.encode(note.reason),
            _encoder.encode(note.error),
            end,
        )
    return pieces


_LINE_END = b"}\n"


def _as_json(ids: Sequence[str | None]) -> list[str]:
    together = "".join(filter(None, ids))
    is_plain = together.isprintable() and '"' not in together and "\\" not in together
    if is_plain and None not in ids:
        return [f'"{shown_id}"' for shown_id in ids]
    return [_encoder.encode(shown_id).decode() for shown_id in ids]


def insert_lines(pieces: list[bytes | memoryview], place: int, lines: bytes) -> None:
    """Put whole lines before that of a row, or behind the last one, into framed lines."""
    piece = bytes(pieces[2 * place])
    at = piece.index(b"\n") + 1 if place else 0
    pieces[2 * place] = piece[:at] + lines + piece[at:]


def encode_failures(results: Sequence[EnhancedLocation], given: Mapping[int, bytes]) -> bytes:
    """A line for each row without an answer, which is itself a valid input.

    Args:
        results: Outcomes of such rows.
        given: Each of these rows as it was given, by its number: a JSON object, the user's
            own id in it.
    """
    lines: list[dict[str, object]] = []
    for result in results:
        fields: dict[str, object] = {
            name: value
            for name, value in _fields.decode(given[result.row]).items()
            if name not in FAILURE_NOTES  # those of an earlier file of failures
        }
        fields |= {"row": result.row, "reason": result.reason, "error": result.error}
        lines.append(fields)
    return _encoder.encode_lines(lines)


def json_values(values: Values, column: Column) -> Values:
    """Values that can be encoded as JSON; what it has no form for is a text."""
    if column.arrow_field is not None:
        from pingdata_async.tables.schema.arrow import python_values  # noqa: PLC0415 - optional

        values = python_values(values, column.type)
    if column.type is ColumnType.DURATION:
        return [None if value is None else text_of_cell(value) for value in values]
    if column.type is ColumnType.NUMBER and not math.isfinite(sum(filter(None, values))):
        # JSON has no word for what is not a number; a text is better than to lose it.
        return [value if value is None or math.isfinite(value) else str(value) for value in values]
    return values
