"""What a plan of some chunks amounts to, without an input."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pingdata_async.locations.chunk import Chunk
from pingdata_async.runs.directory.plan import PlanSummary
from pingdata_async.runs.planning.plan_writer import _Counts
from pingdata_async.tables.rows import Fingerprint


def summary_of(
    chunks: Sequence[Chunk], sources: tuple[str, ...], offsets: bytes = b""
) -> PlanSummary:
    """Of a plan of these chunks.

    Args:
        chunks: In their order.
        sources: The run's.
        offsets: Where they begin in the file, where there is one.
    """
    counts = _Counts()
    for chunk in chunks:
        counts.add(chunk, sources)
    return PlanSummary(
        **msgspec.structs.asdict(counts),
        skipped={},
        has_ids=True,
        unused_columns=(),
        values_left_out=0,
        value_notes=(),
        fingerprint=Fingerprint(sha256="", size_bytes=0, given="in.csv"),
        notes=(),
        mapping=(),
        offsets=offsets,
    )
