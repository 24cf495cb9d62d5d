"""A job's output to the outcome of each of its rows (pure).

The usual output is read in one pass (fast path: `offset_index.py`). Whatever is in any way unusual
goes the slow path, which is the definition of what every answer means.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pingdata_async.exceptions import DecodeError
from pingdata_async.locations.chunk import (
    Chunk,
    RetryRow,
    retry_row,
    shown_id,
    skipped_sources,
    wanted_sources,
)
from pingdata_async.models import NO_DATA, EnhancedLocation, Reason
from pingdata_async.results.offset_index import OffsetIndex, index_output
from pingdata_async.results.outcomes import (
    PASSING_REASONS,
    Tally,
    judge_location,
    passing_failures,
    tally,
    unanswered,
)
from pingdata_async.util.encoding import EncodedBody, too_large
from pingdata_async.util.text import counted, excerpt, is_page

NO_DATA_BYTES = bytes(NO_DATA)

_split = msgspec.json.Decoder(dict[str, msgspec.Raw])
_split_or_null = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


class Failure(msgspec.Struct, frozen=True):
    """Why none of a chunk's rows has an answer."""

    reason: Reason
    error: str


class ValidatedOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What an output says.

    Attributes:
        chunk: The chunk that was sent.
        body: What is to be kept: the answers to the chunk's rows, with those of earlier jobs.
        counts: The outcomes of the rows that have one, counted.
        offset_index: Where each row's answer is; None after the slow path.
        content: The content of the body, for immediate use; None where rows are sent again, and
            where outcomes were wanted instead.
        made: The outcomes, where they were made already.
        retry_rows: Rows that are worth sending again.
        missing: How many rows the output leaves out.
        oddities: What else was not as it should be, a few words each.
    """

    chunk: Chunk
    body: EncodedBody
    counts: Tally
    offset_index: OffsetIndex | None = None
    content: bytes | None = None
    made: list[EnhancedLocation] | None = None
    retry_rows: list[RetryRow] = []
    missing: int = 0
    oddities: tuple[str, ...] = ()

    @property
    def results(self) -> list[EnhancedLocation]:
        """The outcome of each row that has one, in the order of the rows."""
        if self.made is not None or self.offset_index is None:
            return self.made or []
        content = self.content or self.body.content()
        return _results(self.chunk, content, self.offset_index, self.retry_rows)


def validate_output(
    chunk: Chunk,
    bodies: Sequence[EncodedBody],
    sources: tuple[str, ...],
    location_retries: int,
    *,
    with_results: bool = True,
    content_of: Callable[[EncodedBody], bytes] = EncodedBody.content,
) -> ValidatedOutput:
    """Find the answer of each row of a chunk in its job's output.

    Takes some milliseconds for a thousand rows: validate large ones in a thread.

    Args:
        chunk: The chunk that was sent.
        bodies: What came back: one output or several.
        sources: The run's sources; those of a location itself win.
        location_retries: How often a row may be sent again.
        with_results: Whether to make the outcomes; runs of files do without.
        content_of: Gives the content of a body.

    Raises:
        DecodeError: When it is not an output, or holds none of the rows sent.
    """
    contents = _contents(bodies, content_of)
    question = _Question(chunk, sources, location_retries)
    if len(contents) == 1 and not chunk.sources and not question.has_answers:
        [content] = contents
        offset_index = index_output(chunk, content, sources)
        if offset_index is not None:
            checked = _validated_by_index(question, bodies[0], content, offset_index)
            if with_results:
                made = _results(chunk, content, offset_index, checked.retry_rows)
                return msgspec.structs.replace(checked, made=made)
            return msgspec.structs.replace(checked, content=None if checked.retry_rows else content)
    return _validated_slowly(question, bodies, contents)


def _results(
    chunk: Chunk, content: bytes, offset_index: OffsetIndex, retry_rows: Sequence[RetryRow]
) -> list[EnhancedLocation]:
    results = offset_index.results(chunk, content)
    if retry_rows:
        waiting = {each.row for each in retry_rows}
        results = [result for result in results if result.row not in waiting]
    return _with_invalid(chunk, results)


class _Question(msgspec.Struct, frozen=True, dict=True):
    """What was asked, and how often it may be asked again."""

    chunk: Chunk
    sources: tuple[str, ...]
    location_retries: int

    @property
    def has_answers(self) -> bool:
        """Whether earlier jobs answered a part of the chunk."""
        return any(earlier.data != NO_DATA_BYTES for earlier in self.chunk.earlier)

    @functools.cached_property
    def _locations(self) -> list[bytes]:
        return self.chunk.locations

    def is_repeated(self, place: int, reason: Reason | None) -> bool:
        """Whether a row with this outcome is worth sending again."""
        earlier = self.chunk.earlier
        times_asked = earlier[place].times_asked if earlier else 0
        return reason in PASSING_REASONS and times_asked < self.location_retries

    def retry_row(self, place: int, data: bytes) -> RetryRow:
        """The row to send again, with all that is known of it now."""
        asked = passing_failures(data, wanted_sources(self.chunk, place, self.sources))
        return retry_row(self.chunk, place, asked, data, self._locations)


def _contents(
    bodies: Sequence[EncodedBody], content_of: Callable[[EncodedBody], bytes]
) -> list[bytes]:
    contents: list[bytes] = []
    for body in bodies:
        contents.append(content_of(body))
        if sum(map(len, contents)) > body.max_bytes:
            raise too_large("its outputs together", body.max_bytes)
    return contents


def _validated_by_index(
    question: _Question, body: EncodedBody, content: bytes, offset_index: OffsetIndex
) -> ValidatedOutput:
    chunk = question.chunk
    counts = tally(invalid_results(chunk))
    duplicate_counts = chunk.duplicate_counts_by_row()
    ok = len(chunk.rows) + sum(duplicate_counts.values())
    retry_rows: list[RetryRow] = []
    for each in offset_index.not_ok:
        rows = 1 + duplicate_counts.get(chunk.rows[each.place], 0)
        ok -= rows
        if question.is_repeated(each.place, each.reason):
            data = content[offset_index.span(each.place)]
            retry_rows.append(question.retry_row(each.place, data))
        else:
            counts.add_not_ok(each.status, each.reason, rows)
    counts.add_ok(ok)
    return ValidatedOutput(
        chunk=chunk,
        body=body,
        counts=counts,
        offset_index=offset_index,
        retry_rows=retry_rows,
    )


def _validated_slowly(
    question: _Question, bodies: Sequence[EncodedBody], contents: list[bytes]
) -> ValidatedOutput:
    chunk, sources = question.chunk, question.sources
    content = on_one_line(merge_bodies(contents))
    answers = split_body(content)
    repeated = repeated_ids(content, answers)
    for wire_id in repeated:  # nobody knows which of them is right
        answers.pop(wire_id, None)
    found = sum(str(row) in answers for row in chunk.rows)
    missing = len(chunk.rows) - found
    if answers and not found and not repeated:
        raise DecodeError(
            f"the output holds {counted(len(answers), 'location')}, but none of those that were "
            "sent"
        )
    foreign = len(answers) - found
    if question.has_answers:
        answers, content = _with_earlier(chunk, answers)
    elif repeated:  # whoever reads the body again must not believe them either
        content = msgspec.json.encode(answers)
    results: list[EnhancedLocation] = []
    retry_rows: list[RetryRow] = []
    for place, row in enumerate(chunk.rows):
        result = _judge(chunk, place, answers.get(str(row)), sources, twice=str(row) in repeated)
        if question.is_repeated(place, result.reason):
            retry_rows.append(question.retry_row(place, bytes(result.data)))
        else:
            results.append(result)
    oddities = [f"{missing} of {counted(len(chunk.rows), 'location')} missing"] if missing else []
    if repeated:
        oddities.append(
            f"{counted(len(repeated), 'location')} there more than once, with different answers"
        )
    if foreign:
        oddities.append(f"{counted(foreign, 'location')} there without having been sent")
    results = _with_invalid(chunk, results)
    return ValidatedOutput(
        chunk=chunk,
        body=bodies[0] if content is contents[0] else EncodedBody(content),
        counts=tally(results, chunk.duplicate_counts_by_row()),
        made=detached(results),
        retry_rows=retry_rows,
        missing=missing,
        oddities=tuple(oddities),
    )


def fail_chunk(
    chunk: Chunk, failure: Failure, sources: tuple[str, ...] = ()
) -> list[EnhancedLocation]:
    """The outcome of each row of a chunk that has no answer, in the order of the rows.

    Args:
        chunk: The chunk.
        failure: Why there is none.
        sources: The run's; a row with earlier answers is judged by them.
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
                user_id=shown_id(row, own_id),
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
    known_by = shown_id(row, own_id)
    if data is None:
        error = "the API's answer left this location out"
        if twice:
            error = "the API's answer held this location more than once, and differently"
        return unanswered(row=row, user_id=known_by, reason=Reason.MISSING, error=error)
    wanted = wanted_sources(chunk, place, sources)
    skipped = skipped_sources(chunk, place)
    return judge_location(row=row, user_id=known_by, data=data, sources=wanted, skipped=skipped)


def _with_earlier(
    chunk: Chunk, answers: dict[str, msgspec.Raw]
) -> tuple[dict[str, msgspec.Raw], bytes]:
    """The answers joined with those of earlier jobs, and the body that holds them all."""
    merged = {}
    for place, (row, earlier) in enumerate(zip(chunk.rows, chunk.earlier, strict=True)):
        data = answers.get(str(row))
        if earlier.data != NO_DATA_BYTES:
            data = _merged(earlier.data, data, chunk.sources.get(place))
        if data is not None:
            merged[str(row)] = data
    return merged, msgspec.json.encode(merged)


def _merged(before: bytes, data: msgspec.Raw | None, asked: tuple[str, ...] | None) -> msgspec.Raw:
    """One location's sources: the earlier answers, replaced by the new ones of those asked for."""
    try:
        known = sources_of(before)
        new = sources_of(data) if data is not None else {}
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


def detached(results: list[EnhancedLocation]) -> list[EnhancedLocation]:
    """The same outcomes, none of which keeps the whole body alive."""
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
            user_id=shown_id(invalid.row, invalid.id),
            reason=invalid.reason,
            error=invalid.error,
        )
        for invalid in chunk.invalid
    ]


# -- Outputs as JSON: put on one line, split by location, joined, searched for repeated ids --


def split_body(body: bytes) -> dict[str, msgspec.Raw]:
    """Each location's object in an output, undecoded; the slices keep the body alive.

    Raises:
        DecodeError: When the body is not an output.
    """
    try:
        body.decode("utf-8")  # msgspec does not look into what it leaves undecoded
        answers = _split.decode(on_one_line(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _cannot_be_read(body, error) from error
    return answers


def on_one_line(body: bytes) -> bytes:
    """A pretty-printed body without its spacing, which would break a line of JSONL."""
    try:
        return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _cannot_be_read(body, error) from error


def sources_of(data: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Each source's object in that of a location; none where it is null.

    Raises:
        msgspec.ValidationError: When it is neither null nor an object.
    """
    return _split_or_null.decode(data) or {}


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
                merged.setdefault(wire_id, {}).update(sources_of(data))
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the outputs cannot be joined: {error}") from error
    return msgspec.json.encode(merged)


def repeated_ids(body: bytes, answers: dict[str, msgspec.Raw]) -> frozenset[str]:
    """Ids that an output holds more than once, with different answers.

    msgspec silently keeps the last one. Where the body is just what msgspec found, it found
    everything; only otherwise is the body read by Python's slow decoder.
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
        raise _cannot_be_read(body, error) from error


def _holds_nothing_else(body: bytes, answers: dict[str, msgspec.Raw]) -> bool:
    """Whether a body is just these members in this order, in the spacing that it begins with."""
    if not answers:
        return True
    begin = b'{"%b":' % next(iter(answers)).encode()
    blank = b" " if body.startswith(begin + b" ") else b""
    at, before = 0, b"{"
    for wire_id, data in answers.items():
        member = b'%b"%b":%b%b' % (before, wire_id.encode(), blank, bytes(data))
        if not body.startswith(member, at):
            return False
        at += len(member)
        before = b"," + blank
    return body[at:] == b"}"


def _cannot_be_read(body: bytes, error: Exception) -> DecodeError:
    return DecodeError(
        f"the output cannot be read ({error}): {excerpt(body)}", is_page=is_page(body)
    )


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object, repeated ones too."""
