"""From a job's output to the outcome of each of its rows (pure).

The body is split with msgspec without making Python objects of what the sources say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from pingdata_async.bulk.chunking import Chunk
from pingdata_async.bulk.later_chunks import Leftover, leftover, wanted_sources
from pingdata_async.exceptions import DecodeError
from pingdata_async.models import NO_DATA, EnhancedLocation, Reason, RowStatus
from pingdata_async.outcomes import (
    PASSING_REASONS,
    judge_location,
    passing_failures,
    unanswered,
)
from pingdata_async.wire import excerpt

NO_DATA_BYTES = bytes(NO_DATA)

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

    def add(self, other: Tally, *, sign: int = 1) -> None:
        """Count other rows too; with a sign of -1, no more."""
        self.rows += sign * other.rows
        self.ok += sign * other.ok
        self.partial += sign * other.partial
        self.failed += sign * other.failed
        self.no_answer += sign * other.no_answer
        for reason, rows in other.reasons.items():
            left = self.reasons.get(reason, 0) + sign * rows
            if left:
                self.reasons[reason] = left
            else:
                self.reasons.pop(reason, None)


def split_body(body: bytes) -> dict[str, msgspec.Raw]:
    """Each location's object in an output, undecoded; the slices keep the body alive.

    Raises:
        DecodeError: When the body is not an output.
    """
    try:
        body.decode("utf-8")  # msgspec does not look into what it leaves undecoded
        answers = _split.decode(_on_one_line(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"the output cannot be read ({error}): {excerpt(body)}") from error
    return answers


def _on_one_line(body: bytes) -> bytes:
    """A pretty-printed body without its spacing, which would break a line of JSONL."""
    try:
        return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"the output cannot be read ({error}): {excerpt(body)}") from error


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


class Checked(msgspec.Struct, frozen=True):
    """What an output amounts to.

    Attributes:
        body: The answers to the chunk's rows, those of earlier jobs included.
        results: The outcome of each row that has one, in the order of the rows.
        leftovers: Rows that are worth asking about again.
        missing: Rows sent that the output leaves out.
        oddities: What else was not as it should be, a few words each.
    """

    body: bytes
    results: list[EnhancedLocation]
    leftovers: list[Leftover]
    missing: int
    oddities: tuple[str, ...]


def check_output(
    chunk: Chunk, bodies: Sequence[bytes], sources: tuple[str, ...], location_attempts: int
) -> Checked:
    """Find the answer of each row of a chunk in its job's output.

    Args:
        chunk: What was sent.
        bodies: What came back: one output or several.
        sources: The run's sources; those of a location itself win.
        location_attempts: How often a row may be asked about again.

    Raises:
        DecodeError: When it is not an output, or holds none of the rows sent.
    """
    body = _on_one_line(merge_bodies(bodies))
    answers = split_body(body)
    repeated = _repeated_ids(body, answers)
    for wire_id in repeated:  # nobody knows which of them is right
        answers.pop(wire_id, None)
    found = sum(str(row) in answers for row in chunk.rows)
    missing = len(chunk.rows) - found
    if answers and not found and not repeated:
        raise DecodeError(
            f"the output holds {len(answers)} locations, but none of those that were sent"
        )
    foreign = len(answers) - found
    if any(earlier.data != NO_DATA_BYTES for earlier in chunk.earlier):
        answers, body = _with_earlier(chunk, answers)
    elif repeated:  # whoever reads the body again must not believe them either
        body = msgspec.json.encode(answers)
    results: list[EnhancedLocation] = []
    leftovers: list[Leftover] = []
    for place, row in enumerate(chunk.rows):
        result = _judge(chunk, place, answers.get(str(row)), sources, twice=str(row) in repeated)
        if result.reason in PASSING_REASONS:
            times_asked = chunk.earlier[place].times_asked if chunk.earlier else 0
            if times_asked < location_attempts:
                wanted = wanted_sources(chunk, place, sources)
                asked = passing_failures(result.data, wanted)
                leftovers.append(leftover(chunk, place, asked, bytes(result.data)))
                continue
        results.append(result)
    oddities = [f"{missing} of {len(chunk.rows)} locations are missing"] if missing else []
    if repeated:
        oddities.append(f"{len(repeated)} are there more than once, with different answers")
    if foreign:
        oddities.append(f"{foreign} were never sent")
    return Checked(body, _with_invalid(chunk, results), leftovers, missing, tuple(oddities))


def fail_chunk(
    chunk: Chunk, failure: Failure, sources: tuple[str, ...] = ()
) -> list[EnhancedLocation]:
    """The outcome of each row of a chunk that has no answer, in the order of the rows.

    Args:
        chunk: The chunk.
        failure: Why there is none.
        sources: The run's; a row that has earlier answers is judged by these.
    """
    results = []
    for place, (row, own_id) in enumerate(zip(chunk.rows, chunk.ids, strict=True)):
        if chunk.earlier and chunk.earlier[place].data != NO_DATA_BYTES:
            data = msgspec.Raw(chunk.earlier[place].data)
            results.append(_judge(chunk, place, data, sources))
            continue
        results.append(
            unanswered(
                row=row,
                user_id=str(row) if own_id is None else own_id,
                reason=failure.reason,
                error=failure.error,
            )
        )
    return _with_invalid(chunk, results)


def _judge(
    chunk: Chunk,
    place: int,
    data: msgspec.Raw | None,
    sources: tuple[str, ...],
    *,
    twice: bool = False,
) -> EnhancedLocation:
    row, own_id = chunk.rows[place], chunk.ids[place]
    shown_id = str(row) if own_id is None else own_id
    if data is None:
        error = "the API's answer left this location out"
        if twice:
            error = "the API's answer held this location more than once, and differently"
        return unanswered(row=row, user_id=shown_id, reason=Reason.MISSING, error=error)
    wanted = wanted_sources(chunk, place, sources)
    return judge_location(row=row, user_id=shown_id, data=data, sources=wanted)


def _with_earlier(
    chunk: Chunk, answers: dict[str, msgspec.Raw]
) -> tuple[dict[str, msgspec.Raw], bytes]:
    """The answers with those of earlier jobs; and the body that holds them all."""
    merged = {}
    for place, (row, earlier) in enumerate(zip(chunk.rows, chunk.earlier, strict=True)):
        data = answers.get(str(row))
        if earlier.data != NO_DATA_BYTES:
            data = _merged(earlier.data, data, chunk.sources.get(place))
        if data is not None:
            merged[str(row)] = data
    return merged, msgspec.json.encode(merged)


def _merged(before: bytes, data: msgspec.Raw | None, asked: tuple[str, ...] | None) -> msgspec.Raw:
    """One location's sources: what was known, and what is known now of those asked for."""
    try:
        known = _split_or_null.decode(before) or {}
        new = (_split_or_null.decode(data) or {}) if data is not None else {}
    except msgspec.MsgspecError:  # not an object of sources: nothing to be merged with
        return msgspec.Raw(before)
    names = {code.casefold(): code for code in known}
    wanted = None if asked is None else {code.casefold() for code in asked}
    for code, answer in new.items():
        before_it = names.get(code.casefold())
        if before_it is None or wanted is None or code.casefold() in wanted:
            if before_it is not None:  # perhaps in another case
                del known[before_it]
            known[code] = answer
    return msgspec.Raw(msgspec.json.encode(known))


def _repeated_ids(body: bytes, answers: dict[str, msgspec.Raw]) -> frozenset[str]:
    """Ids that an output holds more than once, with different answers.

    The fast decoder keeps the last one without a word. Where the lengths of all that it found
    add up to the body, it found everything; only else is the body read the slow way.
    """
    if _holds_nothing_else(body.strip(), answers):
        return frozenset()
    seen: dict[str, Any] = {}
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs)
        return frozenset(
            wire_id for wire_id, data in pairs if seen.setdefault(wire_id, data) != data
        )
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the output cannot be read ({error}): {excerpt(body)}") from error


def _holds_nothing_else(body: bytes, answers: dict[str, msgspec.Raw]) -> bool:
    """Whether a body is as long as these members make it, in the spacing that it begins with."""
    if not answers:
        return True
    first, data = next(iter(answers.items()))
    begin = b'{"%b":' % first.encode()
    blank = b" " if body.startswith(begin + b" ") else b""
    member = begin + blank + bytes(data)
    if not body.startswith(member):
        return False
    comma = b", " if body.startswith(b", ", len(member)) else b","
    inside = sum(map(len, answers)) + sum(map(len, answers.values()))
    between = len(b'"":' + blank) * len(answers) + len(comma) * (len(answers) - 1)
    return len(body) == len(b"{}") + inside + between


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object, repeated ones too."""


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
    results += invalid_results(chunk)
    results.sort(key=lambda result: result.row)
    return results


def invalid_results(chunk: Chunk) -> list[EnhancedLocation]:
    """The outcome of each row of a chunk that is not sent."""
    return [
        unanswered(
            row=invalid.row,
            user_id=str(invalid.row) if invalid.id is None else invalid.id,
            reason=Reason.INVALID_INPUT,
            error=invalid.error,
        )
        for invalid in chunk.invalid
    ]
