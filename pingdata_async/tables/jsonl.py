"""Outcomes to lines of JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pingdata_async.models import EnhancedLocation, Reason, RowStatus

_encoder = msgspec.json.Encoder()


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
