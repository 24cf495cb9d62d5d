"""From a job's output to the outcome of each of its rows (pure).

The body is split with msgspec without making Python objects of what the sources say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from pingdata_async.bulk.chunking import Chunk
from pingdata_async.exceptions import DecodeError
from pingdata_async.models import NO_DATA, EnhancedLocation, Reason, RowStatus
from pingdata_async.outcomes import judge_location, unanswered
from pingdata_async.wire import excerpt

_split = msgspec.json.Decoder(dict[str, msgspec.Raw])
_split_or_null = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


class Failure(msgspec.Struct, frozen=True):
    """Why none of a chunk's rows has an answer."""

    reason: Reason
    error: str


class Tally(msgspec.Struct):
    """How many rows ended how."""

    rows: int = 0
    ok: int = 0
    partial: int = 0
    failed: int = 0
    no_answer: int = 0
    reasons: dict[str, int] = msgspec.field(default_factory=dict)


def split_body(body: bytes) -> dict[str, msgspec.Raw]:
    """Each location's object in an output, undecoded; the slices keep the body alive.

    Raises:
        DecodeError: When the body is not an output.
    """
    try:
        body.decode("utf-8")  # msgspec does not look into what it leaves undecoded
        answers = _split.decode(body)
        if b"\n" in body:
            # Pretty-printed: a line of JSONL must not be broken by the API's own spacing.
            answers = _split.decode(msgspec.json.format(body, indent=-1))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"the output cannot be read ({error}): {excerpt(body)}") from error
    return answers


def merge_bodies(bodies: Sequence[bytes]) -> bytes:
    """One output from several: the union of their locations, and of each one's sources.

    Raises:
        DecodeError: When one of them is not an output.
    """
    if len(bodies) == 1:
        return bodies[0]
    merged: dict[str, dict[str, msgspec.Raw]] = {}
    try:
        for body in bodies:
            for wire_id, data in split_body(body).items():
                # null, as a source that did not answer: another output may have answered.
                merged.setdefault(wire_id, {}).update(_split_or_null.decode(data) or {})
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the outputs cannot be joined: {error}") from error
    return msgspec.json.encode(merged)


def check_body(chunk: Chunk, body: bytes, sources: Sequence[str]) -> list[EnhancedLocation]:
    """The outcome of each row of a chunk, in the order of the rows.

    Args:
        chunk: What was sent.
        body: What came back.
        sources: The run's sources; those of a location itself win.

    Raises:
        DecodeError: When the body is not an output, or holds none of the rows sent.
    """
    answers = split_body(body)
    results: list[EnhancedLocation] = []
    found = 0
    for place, (row, own_id) in enumerate(zip(chunk.rows, chunk.ids, strict=True)):
        data = answers.get(str(row))
        shown_id = str(row) if own_id is None else own_id
        if data is None:
            error = "the API's answer left this location out"
            results.append(
                unanswered(row=row, user_id=shown_id, reason=Reason.MISSING, error=error)
            )
            continue
        found += 1
        asked = chunk.sources.get(place, sources)
        results.append(judge_location(row=row, user_id=shown_id, data=data, sources=asked))
    if answers and not found:
        raise DecodeError(
            f"the output holds {len(answers)} locations, but none of those that were sent"
        )
    return _with_invalid(chunk, results)


def fail_chunk(chunk: Chunk, failure: Failure) -> list[EnhancedLocation]:
    """The outcome of each row of a chunk that has no answer, in the order of the rows."""
    results = [
        unanswered(
            row=row,
            user_id=str(row) if own_id is None else own_id,
            reason=failure.reason,
            error=failure.error,
        )
        for row, own_id in zip(chunk.rows, chunk.ids, strict=True)
    ]
    return _with_invalid(chunk, results)


def tally(results: Sequence[EnhancedLocation]) -> Tally:
    """Count outcomes."""
    statuses = Counter(result.status for result in results)
    reasons = Counter(result.reason.value for result in results if result.reason is not None)
    return Tally(
        rows=len(results),
        ok=statuses[RowStatus.OK],
        partial=statuses[RowStatus.PARTIAL],
        failed=statuses[RowStatus.FAILED],
        no_answer=sum(not result.is_answered for result in results),
        reasons=dict(reasons),
    )


def detached(results: list[EnhancedLocation]) -> list[EnhancedLocation]:
    """The same, none of which keeps the whole body alive."""
    return [
        result
        if result.data is NO_DATA
        else msgspec.structs.replace(result, data=result.data.copy())
        for result in results
    ]


def _with_invalid(chunk: Chunk, results: list[EnhancedLocation]) -> list[EnhancedLocation]:
    results += [
        unanswered(
            row=invalid.row,
            user_id=str(invalid.row) if invalid.id is None else invalid.id,
            reason=Reason.INVALID_INPUT,
            error=invalid.error,
        )
        for invalid in chunk.invalid
    ]
    results.sort(key=lambda result: result.row)
    return results
