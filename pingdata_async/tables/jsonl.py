"""Outcomes to lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pingdata_async.models import EnhancedLocation, Reason, RowStatus

FAILURE_NOTES = frozenset({"row", "reason", "error"})
"""What a line of failures has beside the row as it was given; none is a location's field."""

_encoder = msgspec.json.Encoder()
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Line(msgspec.Struct, omit_defaults=True):
    id: str
    row: int
    status: RowStatus
    location_data: msgspec.Raw
    reason: Reason | None = None
    error: str | None = None


def encode_lines(results: Sequence[EnhancedLocation]) -> bytes:
    """A line for each outcome; each source's object stays as the API sent it."""
    return _encoder.encode_lines(
        [
            _Line(result.id, result.row, result.status, result.data, result.reason, result.error)
            for result in results
        ]
    )


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
