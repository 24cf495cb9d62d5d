"""From a job's output to the outcome of each of its rows (pure).

The usual output is read in one pass (`layout.py`); whatever is in any way unusual is read the
careful way, which is the definition of what every answer means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pingdata_async.bodies import OutputBody, too_large
from pingdata_async.bulk.chunks import Chunk, shown_id
from pingdata_async.bulk.later_chunks import Leftover, leftover, skipped_sources, wanted_sources
from pingdata_async.bulk.layout import Layout, lay_out
from pingdata_async.bulk.reading import (
    merge_bodies,
    on_one_line,
    repeated_ids,
    sources_of,
    split_body,
)
from pingdata_async.bulk.tally import Tally, tally
from pingdata_async.exceptions import DecodeError
from pingdata_async.models import NO_DATA, EnhancedLocation, Reason
from pingdata_async.outcomes import (
    PASSING_REASONS,
    judge_location,
    passing_failures,
    unanswered,
)
from pingdata_async.plurals import counted

NO_DATA_BYTES = bytes(NO_DATA)


class Failure(msgspec.Struct, frozen=True):
    """Why none of a chunk's rows has an answer."""

    reason: Reason
    error: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What an output amounts to.

    Attributes:
        chunk: What was sent.
        body: What is to be kept: the answers to the chunk's rows, those of earlier jobs included.
        counts: How the rows ended that have an outcome.
        layout: Where each row's answer is; None where the output was read the careful way.
        content: What is in the body, for who makes something of it at once; None where rows
            are asked again, and where outcomes were wanted instead.
        made: The outcomes, where they were made already.
        leftovers: Rows that are worth asking about again.
        missing: Rows sent that the output leaves out.
        oddities: What else was not as it should be, a few words each.
    """

    chunk: Chunk
    body: OutputBody
    counts: Tally
    layout: Layout | None = None
    content: bytes | None = None
    made: list[EnhancedLocation] | None = None
    leftovers: list[Leftover] = []
    missing: int = 0
    oddities: tuple[str, ...] = ()

    @property
    def results(self) -> list[EnhancedLocation]:
        """The outcome of each row that has one, in the order of the rows."""
        if self.made is not None or self.layout is None:
            return self.made or []
        content = self.content or self.body.content()
        return _results(self.chunk, content, self.layout, self.leftovers)


def check_output(
    chunk: Chunk,
    bodies: Sequence[OutputBody],
    sources: tuple[str, ...],
    location_attempts: int,
    *,
    with_results: bool = True,
    content_of: Callable[[OutputBody], bytes] = OutputBody.content,
) -> Checked:
    """Find the answer of each row of a chunk in its job's output.

    Takes some milliseconds for a thousand rows, so large ones are checked in a thread.

    Args:
        chunk: What was sent.
        bodies: What came back: one output or several.
        sources: The run's sources; those of a location itself win.
        location_attempts: How often a row may be asked about again.
        with_results: Whether the outcomes will be wanted one by one; runs of files do without.
        content_of: Gives what is in a body.

    Raises:
        DecodeError: When it is not an output, or holds none of the rows sent.
    """
    contents = _contents(bodies, content_of)
    question = _Question(chunk, sources, location_attempts)
    if len(contents) == 1 and not chunk.sources and not question.has_answers:
        [content] = contents
        layout = lay_out(chunk, content, sources)
        if layout is not None:
            checked = _checked_by_layout(question, bodies[0], content, layout)
            if with_results:
                made = _results(chunk, content, layout, checked.leftovers)
                return msgspec.structs.replace(checked, made=made)
            return msgspec.structs.replace(checked, content=None if checked.leftovers else content)
    return _checked_carefully(question, bodies, contents)


def _results(
    chunk: Chunk, content: bytes, layout: Layout, leftovers: Sequence[Leftover]
) -> list[EnhancedLocation]:
    results = layout.results(chunk, content)
    if leftovers:
        waiting = {each.row for each in leftovers}
        results = [result for result in results if result.row not in waiting]
    return _with_invalid(chunk, results)


class _Question(msgspec.Struct, frozen=True):
    """What was asked, and how often it may be asked again."""

    chunk: Chunk
    sources: tuple[str, ...]
    location_attempts: int

    @property
    def has_answers(self) -> bool:
        """Whether earlier jobs answered a part of it."""
        return any(earlier.data != NO_DATA_BYTES for earlier in self.chunk.earlier)

    def is_repeated(self, place: int, reason: Reason | None) -> bool:
        """Whether a row that ended like this is worth asking about again."""
        earlier = self.chunk.earlier
        times_asked = earlier[place].times_asked if earlier else 0
        return reason in PASSING_REASONS and times_asked < self.location_attempts

    def leftover(self, place: int, data: bytes) -> Leftover:
        """Such a row, with all that is known of it now."""
        asked = passing_failures(data, wanted_sources(self.chunk, place, self.sources))
        return leftover(self.chunk, place, asked, data)


def _contents(
    bodies: Sequence[OutputBody], content_of: Callable[[OutputBody], bytes]
) -> list[bytes]:
    contents: list[bytes] = []
    for body in bodies:
        contents.append(content_of(body))
        if sum(map(len, contents)) > body.max_bytes:
            raise too_large("its outputs together", body.max_bytes)
    return contents


def _checked_by_layout(
    question: _Question, body: OutputBody, content: bytes, layout: Layout
) -> Checked:
    chunk = question.chunk
    counts = tally(invalid_results(chunk))
    copies = chunk.copies_by_row()
    ok = len(chunk.rows) + sum(copies.values())
    leftovers: list[Leftover] = []
    for each in layout.not_ok:
        rows = 1 + copies.get(chunk.rows[each.place], 0)
        ok -= rows
        if question.is_repeated(each.place, each.reason):
            data = content[layout.span(each.place)]
            leftovers.append(question.leftover(each.place, data))
        else:
            counts.add_not_ok(each.status, each.reason, rows)
    counts.add_ok(ok)
    return Checked(
        chunk=chunk,
        body=body,
        counts=counts,
        layout=layout,
        leftovers=leftovers,
    )


def _checked_carefully(
    question: _Question, bodies: Sequence[OutputBody], contents: list[bytes]
) -> Checked:
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
    leftovers: list[Leftover] = []
    for place, row in enumerate(chunk.rows):
        result = _judge(chunk, place, answers.get(str(row)), sources, twice=str(row) in repeated)
        if question.is_repeated(place, result.reason):
            leftovers.append(question.leftover(place, bytes(result.data)))
        else:
            results.append(result)
    oddities = [f"{missing} of {len(chunk.rows)} locations are missing"] if missing else []
    if repeated:
        oddities.append(f"{len(repeated)} are there more than once, with different answers")
    if foreign:
        oddities.append(f"{foreign} were never sent")
    results = _with_invalid(chunk, results)
    return Checked(
        chunk=chunk,
        body=bodies[0] if content is contents[0] else OutputBody(content),
        counts=tally(results, chunk.copies_by_row()),
        made=detached(results),
        leftovers=leftovers,
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
            user_id=shown_id(invalid.row, invalid.id),
            reason=invalid.reason,
            error=invalid.error,
        )
        for invalid in chunk.invalid
    ]
