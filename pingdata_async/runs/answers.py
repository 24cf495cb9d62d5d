"""From everything that was answered about a planned chunk to the outcome of each of its rows.

A row may have been in several chunks: the planned one, parts of it, and later ones of rows
asked about again. What the last settled one says of it holds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import msgspec

from pingdata_async.bulk.checking import Failure, invalid_results
from pingdata_async.bulk.chunks import Chunk, shown_id
from pingdata_async.bulk.later_chunks import skipped_sources, wanted_sources
from pingdata_async.bulk.layout import Layout
from pingdata_async.bulk.reading import split_body
from pingdata_async.exceptions import DecodeError, RunError
from pingdata_async.models import EnhancedLocation, Reason
from pingdata_async.outcomes import judge_location, unanswered
from pingdata_async.runs.journal_records import ChunkRecord
from pingdata_async.runs.records import Account
from pingdata_async.runs.spool import Spool
from pingdata_async.runs.states import ChunkState

KEPT_BODIES = 4
KEPT_BYTES = 64 * 1024 * 1024

_NOTHING = b"{}"
_LEFT_OUT = Failure(Reason.MISSING, "the API's answer left this location out")

_Body = dict[str, msgspec.Raw]


class Outcomes(msgspec.Struct, frozen=True):
    """How far a planned chunk has come.

    Attributes:
        settled: The outcome of each row that has one, in the order of the rows.
        unsettled: The numbers of the others, ascending.
    """

    settled: list[EnhancedLocation]
    unsettled: list[int]


class Answers:
    """The outcomes of planned chunks, from spool and account.

    A later chunk may hold rows of many planned ones, so the bodies of the last few are
    kept. Everything here blocks: call it in a thread, one call at a time.

    Args:
        spool: What was answered.
        account: What became of each chunk.
        sources: The run's sources.
        keep_earlier: Whether a row that had ended and is asked about again has the outcome
            that it had, until there is a new one; if not, it is unsettled.
    """

    def __init__(
        self,
        spool: Spool,
        account: Account,
        sources: tuple[str, ...],
        *,
        keep_earlier: bool = False,
    ) -> None:
        self._spool = spool
        self._account = account
        self._sources = sources
        self._keep_earlier = keep_earlier
        self._later_bodies = _RecentBodies()

    def outcomes(self, planned: Chunk) -> Outcomes:
        """The outcome of each row of a planned chunk, of what there is now.

        Raises:
            RunError: When an answer that there should be is missing or damaged.
        """
        laid_out = self.laid_out(planned)
        if laid_out is not None:  # the usual chunk: nothing is to be judged again
            layout, content = laid_out
            # Nobody keeps them longer than the chunk, so that nothing need be copied.
            settled = layout.results(planned, memoryview(content)) + invalid_results(planned)
            settled.sort(key=lambda result: result.row)
            return Outcomes(settled, [])
        return self._pieced_together(planned)

    def data(self, planned: Chunk) -> Iterator[memoryview | msgspec.Raw]:
        """What the API said of the rows of a planned chunk that have an outcome, and no more.

        Raises:
            RunError: As `outcomes()`.
        """
        laid_out = self.laid_out(planned)
        if laid_out is None:
            yield from (result.data for result in self._pieced_together(planned).settled)
            return
        layout, content = laid_out
        view = memoryview(content)
        for begin, length in zip(layout.begins, layout.lengths, strict=True):
            yield view[begin : begin + length]

    def _pieced_together(self, planned: Chunk) -> Outcomes:
        found: dict[int, EnhancedLocation | None] = dict.fromkeys(planned.rows)
        if planned.rows:
            everywhere = range(len(planned.rows))
            record = self._account.record(planned.index)
            waiting = self._account.waiting_rows(planned.index)
            reopened = self._account.reopened_rows(planned.index) if self._keep_earlier else {}
            earlier: dict[int, EnhancedLocation | None] = {}
            if record is not None:
                self._lay(found, planned, everywhere, record)
            for later in self._account.later_chunks_of(planned.index):
                if later.chunk is None:
                    raise RunError(f"the journal does not say what chunk {later.index} is")
                for row, before in reopened.items():
                    if before <= later.index:
                        earlier.setdefault(row, found[row])
                places = [
                    place
                    for place, known in enumerate(later.chunk.earlier)
                    if known.origin == planned.index
                ]
                self._lay(found, later.chunk, places, later)
            for row in reopened:
                earlier.setdefault(row, found[row])
            found.update(dict.fromkeys(waiting & found.keys()))
            found.update((row, earlier[row]) for row in reopened if found[row] is None)
        settled = [result for result in found.values() if result is not None]
        settled += invalid_results(planned)
        settled.sort(key=lambda result: result.row)
        return Outcomes(settled, sorted(row for row, result in found.items() if result is None))

    def laid_out(self, planned: Chunk) -> tuple[Layout, bytes] | None:
        """Where a planned chunk's answers are in its body, and that body.

        None where more has to be known of its rows than that, or it is not known.

        Raises:
            RunError: As `outcomes()`.
        """
        index, account = planned.index, self._account
        record = account.record(index)
        if record is None or record.state is not ChunkState.SPOOLED or record.layout is None:
            return None
        # In this order: a row moves from the waiting ones into a later chunk.
        if account.waiting_rows(index) or account.later_chunks_of(index):
            return None
        content = self._content(planned)
        return (record.layout, content) if record.layout.fits(planned, content) else None

    def _lay(
        self,
        found: dict[int, EnhancedLocation | None],
        chunk: Chunk,
        places: Sequence[int],
        record: ChunkRecord,
    ) -> None:
        """Put what one chunk says of these rows over what earlier ones said."""
        match record.state:
            case "spooled":
                self._lay_answers(found, chunk, places, self._body(chunk), _LEFT_OUT)
            case "failed":
                if record.failure is None:
                    raise RunError(f"the journal does not say why chunk {chunk.index} failed")
                self._lay_answers(found, chunk, places, {}, record.failure)
            case "split":  # its parts hold the rows, and come later
                pass
            case _:
                for place in places:
                    found[chunk.rows[place]] = None

    def _lay_answers(
        self,
        found: dict[int, EnhancedLocation | None],
        chunk: Chunk,
        places: Sequence[int],
        body: _Body,
        otherwise: Failure,
    ) -> None:
        for place in places:
            row, own_id = chunk.rows[place], chunk.ids[place]
            known_by = shown_id(row, own_id)
            data = body.get(str(row))
            if data is None and chunk.earlier and chunk.earlier[place].data != _NOTHING:
                # What was answered before was paid for, and is not lost with this chunk.
                data = msgspec.Raw(chunk.earlier[place].data)
            if data is None:
                found[row] = unanswered(
                    row=row, user_id=known_by, reason=otherwise.reason, error=otherwise.error
                )
            else:
                wanted = wanted_sources(chunk, place, self._sources)
                found[row] = judge_location(
                    row=row,
                    user_id=known_by,
                    data=data,
                    sources=wanted,
                    skipped=skipped_sources(chunk, place),
                )

    def _body(self, chunk: Chunk) -> _Body:
        body = self._later_bodies.get(chunk.index)
        if body is None:
            content = self._content(chunk)
            try:
                body = split_body(content)
            except DecodeError as error:
                raise RunError(
                    f"{self._spool.path_of(chunk.index)}, the answers to chunk {chunk.index}: "
                    f"{error}"
                ) from error
            if not chunk.is_planned:
                self._later_bodies.add(chunk.index, body, len(content))
        return body

    def _content(self, chunk: Chunk) -> bytes:
        content = self._spool.read(chunk.index)
        if content is None:
            raise RunError(
                f"{self._spool.path_of(chunk.index)}, the answers to chunk {chunk.index}, "
                "is missing, though it was kept there. Restore it from a copy of the run "
                "directory, if there is one"
            )
        return content


class _RecentBodies:
    """The last few bodies, as long as they are not too large together."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[int, tuple[_Body, int]] = OrderedDict()
        self._bytes = 0

    def get(self, index: int) -> _Body | None:
        if index not in self._bodies:
            return None
        self._bodies.move_to_end(index)
        return self._bodies[index][0]

    def add(self, index: int, body: _Body, size_bytes: int) -> None:
        self._bodies[index] = (body, size_bytes)
        self._bytes += size_bytes
        while len(self._bodies) > KEPT_BODIES or self._bytes > KEPT_BYTES:
            _, (_, dropped_bytes) = self._bodies.popitem(last=False)
            self._bytes -= dropped_bytes
