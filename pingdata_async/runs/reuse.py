"""Answers of earlier runs serve a new one: what was paid for once is not asked again.

After a run is planned, and before anything of it is sent, the locations of the plan are looked up
in the indexes of earlier runs (`answer_index.py`). What is found is copied chunk by chunk: the
planned chunk has the answers as if a job had brought them, and those of its rows for which a
source is missing wait to be asked, as any that are retried. So all that comes later, from
`resume` to `export`, finds nothing new.

It takes three passes, each of which has a part of the locations in memory: keys are joined bucket
by bucket; answers are read in the order of the earlier runs, so that each output is inflated once;
and they are put down in the order of the plan.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread
import msgspec
from anyio import from_thread
from anyio.from_thread import check_cancelled

from pingdata_async.engine.flow_control.budget import asked_of
from pingdata_async.exceptions import ConfigurationError, PingDataError
from pingdata_async.locations.chunk import (
    Chunk,
    RetryRow,
    history_of,
    shown_id,
    skipped_sources,
    wanted_sources,
    with_sources,
)
from pingdata_async.models import EnhancedLocation
from pingdata_async.results.offset_index import NotOk, OffsetIndex
from pingdata_async.results.outcomes import judge_location, passing_failures, tally
from pingdata_async.results.validation import invalid_results, sources_of
from pingdata_async.runs.answer_index import (
    KEY_BYTES,
    RECORD,
    Answers,
    EarlierRun,
    are_same,
    fields_sent,
    location_keys,
)
from pingdata_async.runs.directory.directory import RunDirectory, journal_path
from pingdata_async.runs.directory.frame_file import Footer, writing
from pingdata_async.runs.directory.plan import Plan
from pingdata_async.runs.directory.reused import (
    REUSED_KIND,
    REUSED_NAME,
    Origin,
    ReusedInChunk,
    encode_reused,
)
from pingdata_async.runs.directory.settings import RunFlags, RunSettings
from pingdata_async.runs.directory.spool import packed_output
from pingdata_async.runs.journal.journal import CarriedChunk, Journal
from pingdata_async.runs.journal.records import REUSED, ReusedTotals
from pingdata_async.runs.planning.dedupe import BUCKETS, RecordPartitions
from pingdata_async.util.compression import compress, decompress
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.files import open_nameless, write_pieces
from pingdata_async.util.text import shown_path

MOST_SOURCES = 64  # of a plan: each is a bit of a number
CARRIED_TOGETHER = 16  # chunks a commit

_WANTED = struct.Struct(f"<{KEY_BYTES}sII")  # a key, a chunk of the plan, and the place in it
_MATCH = struct.Struct("<QIIIIQ")  # a chunk of earlier runs and its place, those of ours, ...
_PIECE = struct.Struct("<IQI")  # a chunk of the plan, and where in a file answers for it are

Note = Callable[[str], None]


async def carry_over(
    directory: RunDirectory,
    plan: Plan,
    settings: RunSettings,
    flags: RunFlags,
    on_note: Note,
) -> ReusedTotals:
    """Carry answers of earlier runs over to a run that is planned, and not begun.

    Args:
        directory: The run directory; its journal knows the plan, and nothing of its chunks.
        plan: The plan.
        settings: The run's.
        flags: Which runs, and how old their answers may be.
        on_note: Told what the user should know, a sentence each.

    Raises:
        ConfigurationError: When there is nothing at one of the paths.
        RunError: When something cannot be written.
    """
    paths = await anyio.to_thread.run_sync(run_dirs_in, flags.reuse, directory.path)
    max_age = flags.max_age
    oldest = 0.0 if max_age is None else time.time() - max_age.total_seconds()

    def work() -> ReusedTotals:
        tell = lambda message: from_thread.run_sync(on_note, message)  # noqa: E731
        with plan, contextlib.ExitStack() as stack:
            runs = _opened(paths, settings, directory.path, stack, tell)
            carrier = _Carrier(directory.path, plan, settings, runs, tell)
            stack.enter_context(carrier)
            return carrier.carry(oldest, directory.journal)

    totals = await anyio.to_thread.run_sync(work)
    await directory.journal.set_meta(REUSED, totals)
    return totals


def run_dirs_in(paths: Iterable[Path], own: Path) -> list[Path]:
    """The run directories among some paths and in their folders, each once; blocks.

    Raises:
        ConfigurationError: When there is nothing at a path.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if journal_path(path).is_file():
            inside = [path]
        elif path.is_dir():
            inside = sorted(each for each in path.iterdir() if journal_path(each).is_file())
        else:
            raise ConfigurationError(f"there is no run to be reused at {shown_path(path)}")
        found.update((each.resolve(), None) for each in inside)
    found.pop(own.resolve(), None)
    return list(found)


def _opened(
    paths: Iterable[Path],
    settings: RunSettings,
    scratch: Path,
    stack: contextlib.ExitStack,
    on_note: Note,
) -> list[EarlierRun]:
    """The runs whose answers would be the same now."""
    runs = []
    for path in paths:
        check_cancelled()
        try:
            run = EarlierRun(path, scratch, check_cancelled)
            why_not = _why_not(run.settings, settings)
            if why_not:
                on_note(f"{shown_path(path)} is not reused: {why_not}.")
                continue
            runs.append(stack.enter_context(run))
        except (PingDataError, OSError) as error:
            on_note(f"{shown_path(path)} is not reused: {error}.")
            continue
        if not run.is_finished:
            on_note(f"{shown_path(path)} is not finished; the answers that it has are reused.")
    return runs


def _why_not(theirs: RunSettings, ours: RunSettings) -> str:
    """Why answers under their settings may not be those under ours; "" if they are."""
    if theirs.api != ours.api:
        return f"it asked {theirs.api}, not {ours.api}"
    if theirs.options.delegate_to != ours.options.delegate_to:
        return "it acted for another organisation"
    if theirs.options.include_raw_response != ours.options.include_raw_response:
        has = "has" if theirs.options.include_raw_response else "has no"
        return f"it {has} raw responses"
    return ""


class _Answer(msgspec.Struct, array_like=True):
    """An answer of an earlier run on its way.

    Attributes:
        place: In the chunk of the plan.
        fields: What was sent of the location.
        data: The API's object.
        codes: The sources whose answers are to be taken.
        origin: Where they are from.
        is_whole: Whether the object is of just these sources.
    """

    place: int
    fields: bytes
    data: bytes
    codes: tuple[str, ...]
    origin: Origin
    is_whole: bool


_encode_answers = msgspec.msgpack.Encoder().encode
_NOTHING = msgspec.Raw(b"{}")
_decode_answers = msgspec.msgpack.Decoder(list[_Answer]).decode


class _Candidate(NamedTuple):
    """An answer that a key has found."""

    answered_at: int
    run: int
    sources: int  # a bit each
    chunk: int  # of all earlier runs together
    place: int
    answers: int


class _Carrier(contextlib.ExitStack):
    """Looks up a plan's locations, and carries over what is found; blocks.

    Args:
        folder: Where files without a name are, and the list of what is reused will be.
        plan: The plan, inside its `with` block.
        settings: The run's.
        runs: The earlier runs.
        on_note: Told what the user should know.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        settings: RunSettings,
        runs: Sequence[EarlierRun],
        on_note: Note,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._plan = plan
        self._settings = settings
        self._runs = runs
        self._on_note = on_note
        # Chunks of all earlier runs are counted through.
        self._begins = list(accumulate((run.plan.chunks for run in runs), initial=0))
        codes = dict.fromkeys(map(str.casefold, plan.summary.asked))
        self._bits = {code: 1 << bit for bit, code in enumerate(list(codes)[:MOST_SOURCES])}
        self._totals = Counter[str]()
        self._by_source = Counter[str]()
        self._carried_by_source = Counter[str]()
        self._oldest_at: int | None = None

    def carry(self, oldest: float, journal: Journal) -> ReusedTotals:
        """Do it; answers from before `oldest` are left where they are."""
        pieces = self._pieces(self._matches(oldest))
        batch: list[CarriedChunk] = []
        with writing(self._folder / REUSED_NAME, REUSED_KIND) as frames:
            for chunk, answers in self._answers_by_chunk(pieces):
                carried, reused = self._carried(chunk, answers)
                frames.add(encode_reused(reused))
                if carried is not None:
                    batch.append(carried)
                if len(batch) == CARRIED_TOGETHER:
                    from_thread.run(journal.carried, batch)
                    batch = []
            frames.end(Footer(offsets=frames.packed_offsets()))
        if batch:
            from_thread.run(journal.carried, batch)
        oldest_at = None
        if self._oldest_at is not None:
            oldest_at = dt.datetime.fromtimestamp(self._oldest_at, dt.UTC)
        return ReusedTotals(
            rows=self._totals["rows"],
            locations=self._totals["locations"],
            by_source=dict(self._by_source),
            oldest_at=oldest_at,
            carried_locations=self._totals["carried"],
            carried_by_source=dict(self._carried_by_source),
        )

    # -- keys are joined -----------------------------------------------------------------

    def _matches(self, oldest: float) -> RecordPartitions:
        """What is found, in partitions by chunk of the earlier runs."""
        wanted = self.enter_context(RecordPartitions(self._folder, BUCKETS))
        for index in range(self._plan.chunks):
            check_cancelled()
            chunk = self._plan.read(index)
            keys = location_keys(chunk)
            wanted.add(
                [key[0] for key in keys],
                [_WANTED.pack(key, index, place) for place, key in enumerate(keys)],
            )
        matches = self.enter_context(RecordPartitions(self._folder, BUCKETS))
        total = max(1, self._begins[-1])
        masks = [[self._sources_of(each, oldest) for each in run.answers] for run in self._runs]
        indexes = [self._readable(run) for run in self._runs]
        for bucket in range(BUCKETS):
            check_cancelled()
            content = b"".join(wanted.read(bucket))
            each = range(0, len(content), _WANTED.size)
            keys = [content[at : at + KEY_BYTES] for at in each]
            found = defaultdict[int, list[_Candidate]](list)
            for number, index_buckets in enumerate(indexes):
                self._look_up(keys, next(index_buckets), number, masks[number], found)
            for place, candidates in found.items():
                ours = _WANTED.unpack_from(content, place * _WANTED.size)[1:]
                chosen = [
                    (one.chunk, one.place, *ours, one.answers, sources)
                    for one, sources in _chosen(candidates)
                ]
                matches.add(
                    [one[0] * BUCKETS // total for one in chosen],
                    [_MATCH.pack(*one) for one in chosen],
                )
        return matches

    def _readable(self, run: EarlierRun) -> Iterator[bytes]:
        """The buckets of a run's index; empty ones once it cannot be read any more."""
        try:
            yield from run.buckets()
        except (PingDataError, OSError) as error:
            self._on_note(f"{shown_path(run.path)} is reused only in part: {error}.")
            while True:
                yield b""

    def _sources_of(self, answers: Answers, oldest: float) -> int:
        """The sources that are asked of those that have answered, a bit each."""
        if answers.origin.answered_at < oldest:
            return 0
        return sum({self._bits.get(code.casefold(), 0) for code in answers.sources})

    def _look_up(
        self,
        keys: Sequence[bytes],
        records: bytes,
        number: int,
        masks: Sequence[int],
        found: dict[int, list[_Candidate]],
    ) -> None:
        each = range(0, len(records), RECORD.size)
        theirs = [records[at : at + KEY_BYTES] for at in each]
        last_of = dict(zip(theirs, range(len(theirs)), strict=True))
        begin = self._begins[number]
        answers_of = self._runs[number].answers
        for place, key in enumerate(keys):
            at = last_of.get(key, -1)
            while at >= 0 and theirs[at] == key:  # in order, so equal ones are neighbours
                _, chunk, there, answers = RECORD.unpack_from(records, at * RECORD.size)
                if masks[answers]:
                    when = answers_of[answers].origin.answered_at
                    found[place].append(
                        _Candidate(when, number, masks[answers], begin + chunk, there, answers)
                    )
                at -= 1

    # -- answers are read ----------------------------------------------------------------

    def _pieces(self, matches: RecordPartitions) -> _Pieces:
        """The answers, compressed, by chunk of the plan."""
        pieces = self.enter_context(_Pieces(self._folder, self._plan.chunks))
        unreadable: Counter[Path] = Counter()
        for bucket in range(BUCKETS):
            check_cancelled()
            found = sorted(_MATCH.iter_unpack(b"".join(matches.read(bucket))))
            for number, group in groupby(found, key=itemgetter(0)):
                check_cancelled()
                run_number = max(n for n, begin in enumerate(self._begins[:-1]) if begin <= number)
                run = self._runs[run_number]
                try:
                    self._read(run, number - self._begins[run_number], list(group), pieces)
                except (PingDataError, OSError) as error:
                    if not unreadable[run.path]:
                        self._on_note(f"{shown_path(run.path)} is reused only in part: {error}.")
                    unreadable[run.path] += 1
        return pieces

    def _read(
        self, run: EarlierRun, index: int, found: list[tuple[int, ...]], pieces: _Pieces
    ) -> None:
        chunk = run.plan.read(index)
        settled = run.results.settled(chunk)
        locations = chunk.locations
        by_chunk = defaultdict[int, list[_Answer]](list)
        is_indexed = settled.offset_index is not None
        results = {each.row: each.data for each in settled.outcomes().settled}
        for _, there, ours, place, number, sources in found:
            answers = run.answers[number]
            codes = tuple(
                code for code in answers.sources if self._bits.get(code.casefold(), 0) & sources
            )
            data = results.get(chunk.rows[there])
            if data is None:
                continue
            theirs = wanted_sources(chunk, there, run.settings.sources)
            by_chunk[ours].append(
                _Answer(
                    place,
                    fields_sent(locations[there]),
                    bytes(data),
                    codes,
                    answers.origin,
                    is_indexed and len(codes) == len(theirs),
                )
            )
        for ours, answers_for in by_chunk.items():
            pieces.put(ours, answers_for)

    # -- and put down --------------------------------------------------------------------

    def _answers_by_chunk(self, pieces: _Pieces) -> Iterator[tuple[Chunk, list[_Answer]]]:
        for index, answers in pieces.by_chunk():
            check_cancelled()
            yield self._plan.read(index), answers

    def _carried(
        self, chunk: Chunk, answers: list[_Answer]
    ) -> tuple[CarriedChunk | None, ReusedInChunk]:
        """A chunk with the answers that are its own; None if there are none."""
        sources = self._settings.sources
        locations = chunk.locations if answers else []
        for_place = defaultdict[int, list[_Answer]](list)
        for each in answers:
            if are_same(each.fields, fields_sent(locations[each.place])):
                for_place[each.place].append(each)
        rows = _CarriedRows()
        for place in range(len(chunk.rows)) if for_place else ():
            wanted = wanted_sources(chunk, place, sources)
            data, origins = _taken(for_place.get(place, []), wanted)
            result = judge_location(
                row=chunk.rows[place],
                user_id=shown_id(chunk.rows[place], chunk.ids[place]),
                data=data,
                sources=wanted,
                skipped=skipped_sources(chunk, place),
            )
            missing = passing_failures(data, wanted) if result.reason is not None else ()
            if set(missing) & origins.keys():  # what the index says is not so
                data, origins, missing = _NOTHING, {}, wanted
            if missing:
                own = missing != sources or place in chunk.sources
                location = with_sources(locations[place], missing) if own else locations[place]
                history = msgspec.structs.replace(history_of(chunk, place), data=bytes(data))
                rows.wait(RetryRow(chunk.rows[place], chunk.ids[place], location, missing, history))
            else:
                rows.end(place, result)
            rows.keep(chunk.rows[place], data, origins)
        if not rows.reused.by_row:
            return None, ReusedInChunk()
        carried = rows.chunk(chunk)
        self._count(chunk, rows, carried.tally.rows)
        return carried, rows.reused

    def _count(self, chunk: Chunk, rows: _CarriedRows, ended: int) -> None:
        self._totals["rows"] += ended
        self._totals["locations"] += len(rows.ended)
        self._totals["carried"] += len(chunk.rows)
        self._carried_by_source.update(asked_of(chunk, self._settings.sources))
        for by_code in rows.reused.by_row.values():
            self._by_source.update(by_code.keys())
        oldest = min(origin.answered_at for origin in rows.reused.origins)
        self._oldest_at = min(oldest, self._oldest_at or oldest)


def _chosen(candidates: list[_Candidate]) -> Iterator[tuple[_Candidate, int]]:
    """The candidates to be read, each with its sources: for each source, the newest answer."""
    places = {(one.run, one.chunk, one.place) for one in candidates}
    # Two places of one run are different locations with one key: their fields will tell.
    is_clear = len(places) == len({one.run for one in candidates})
    covered = 0
    for one in sorted(candidates, reverse=True):
        left = one.sources & ~covered
        if left:
            yield one, left
        if is_clear:
            covered |= left


def _taken(
    answers: Sequence[_Answer], wanted: tuple[str, ...]
) -> tuple[msgspec.Raw, dict[str, Origin]]:
    """The answers of the sources that a row wants, the newest of each, and where they are from."""
    if len(answers) == 1 and answers[0].is_whole and set(answers[0].codes) == set(wanted):
        return msgspec.Raw(answers[0].data), dict.fromkeys(wanted, answers[0].origin)
    found: dict[str, tuple[str, msgspec.Raw, Origin]] = {}
    for each in sorted(answers, key=lambda answer: answer.origin.answered_at):
        codes = {code.casefold() for code in each.codes}
        for name, data in sources_of(each.data).items():
            if name.casefold() in codes:
                found[name.casefold()] = name, data, each.origin
    here = {code: found[code.casefold()] for code in wanted if code.casefold() in found}
    if not here:
        return _NOTHING, {}
    joined = msgspec.json.encode({name: data for name, data, _ in here.values()})
    return msgspec.Raw(joined), {code: origin for code, (*_, origin) in here.items()}


class _CarriedRows:
    """The rows of a planned chunk as answers are found for them.

    Attributes:
        ended: The outcomes of the rows that need not be asked.
        reused: Which of their answers, and of the others', are reused.
    """

    def __init__(self) -> None:
        self.ended: list[EnhancedLocation] = []
        self.reused = ReusedInChunk([], {})
        self._not_ok: list[NotOk] = []
        self._waiting: list[RetryRow] = []
        self._begins: list[int] = []
        self._lengths: list[int] = []
        self._body = bytearray()
        self._numbers: dict[Origin, int] = {}

    def end(self, place: int, result: EnhancedLocation) -> None:
        """Add a row that has all of its answers."""
        self.ended.append(result)
        if result.reason is not None and result.error is not None:
            self._not_ok.append(NotOk(place, result.status, result.reason, result.error))

    def wait(self, row: RetryRow) -> None:
        """Add a row that is to be asked."""
        self._waiting.append(row)

    def keep(self, row: int, data: msgspec.Raw, origins: Mapping[str, Origin]) -> None:
        """Add the answers that a row has, and where they are from."""
        if not origins:
            return
        self._body += b'%b"%d":' % (b"," if self._body else b"{", row)
        self._begins.append(len(self._body))
        self._lengths.append(len(data))
        self._body += data
        self.reused.by_row[row] = {
            code: self._numbers.setdefault(origin, len(self._numbers))
            for code, origin in origins.items()
        }
        self.reused.origins[:] = self._numbers

    def chunk(self, planned: Chunk) -> CarriedChunk:
        """All of it, as an output of a job would be kept."""
        offsets = OffsetIndex(self._begins, self._lengths, self._not_ok)
        return CarriedChunk(
            planned.index,
            tally(self.ended + invalid_results(planned), planned.duplicate_counts_by_row()),
            self._waiting,
            None if self._waiting else offsets,
            packed_output(EncodedBody(bytes(self._body + b"}"))),
        )


class _Pieces(RecordPartitions):
    """Answers in a file without a name, found by chunk of the plan.

    Args:
        folder: Where the file is.
        chunks: How many there are in the plan.
    """

    def __init__(self, folder: Path, chunks: int) -> None:
        super().__init__(folder, BUCKETS)
        self._chunks = chunks
        self._content = open_nameless(folder)
        self._content_end = 0

    def close(self) -> None:
        """Give the disk back."""
        self._content.close()
        super().close()

    def put(self, chunk: int, answers: list[_Answer]) -> None:
        """Add answers for a chunk."""
        content = compress(_encode_answers(answers))
        write_pieces(self._content.fileno(), [content])
        record = _PIECE.pack(chunk, self._content_end, len(content))
        self.add([chunk * BUCKETS // self._chunks], [record])
        self._content_end += len(content)

    def by_chunk(self) -> Iterator[tuple[int, list[_Answer]]]:
        """The answers for each chunk of the plan, in order."""
        index = 0
        for bucket in range(BUCKETS):
            pieces = sorted(_PIECE.iter_unpack(b"".join(self.read(bucket))))
            for chunk, group in groupby(pieces, key=itemgetter(0)):
                yield from ((each, []) for each in range(index, chunk))
                yield chunk, [answer for piece in group for answer in self._read(*piece[1:])]
                index = chunk + 1
        yield from ((each, []) for each in range(index, self._chunks))

    def _read(self, begin: int, size: int) -> list[_Answer]:
        return _decode_answers(decompress(os.pread(self._content.fileno(), size, begin)))
