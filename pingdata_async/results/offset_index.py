"""The fast path: where each row's answer stands in an output (pure).

The usual output holds exactly the rows that were sent, each with exactly the sources that were
asked for, in one spacing throughout. It is read once, without making Python objects of what the
sources say: msgspec finds the length of each source's object, and as nothing else can be in
between, the places follow from the lengths. Whether a source succeeded is the first thing that its
object says.

An output of any other form takes the slow path (`validation.py`). So does each row that fails the
cheap test of success: every source's object begins with the flag, the flag is nowhere else in the
row, and no key is escaped (of a key that is there twice, a JSON reader takes the last).

`benchmarks/README.md` says what that is worth: two passes of msgspec over a body are the
dearest thing that a run does.
"""

from __future__ import annotations

import codecs
import functools
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate, repeat
from operator import add, attrgetter
from typing import Any

import msgspec

from pingdata_async.locations.chunk import Chunk, shown_id
from pingdata_async.models import NO_DATA, EnhancedLocation, Reason, RowStatus
from pingdata_async.results.outcomes import judge_location

UTF8_BLOCK_BYTES = 16 * 1024
_utf8 = codecs.getincrementaldecoder("utf-8")
_BLANKS = b" \t\r\n"
_FLAG = b'"is_success"'
_ESCAPED_LETTER = re.compile(rb"\\u00[567]")  # one of those that the flag is made of
_LINE_BREAKS = (b"\n", b"\r")  # between two members they would break a line of JSONL


class NotOk(msgspec.Struct, frozen=True, array_like=True):
    """A row that is not ok.

    Attributes:
        place: Its place in the chunk.
        status: partial or failed.
        reason: Why.
        error: The same as a sentence.
    """

    place: int
    status: RowStatus
    reason: Reason
    error: str


class OffsetIndex(msgspec.Struct, frozen=True, array_like=True):
    """Where in an output the answer to each row of a chunk stands, and how those ended.

    Attributes:
        begins: By place in the chunk, where the API's object for that row begins.
        lengths: How many bytes each of them has.
        not_ok: The rows that are not ok, in the order of their places; all others are.
    """

    begins: list[int]
    lengths: list[int]
    not_ok: list[NotOk] = []

    def span(self, place: int) -> slice:
        """Where the answer to a row is."""
        begin = self.begins[place]
        return slice(begin, begin + self.lengths[place])

    def fits(self, chunk: Chunk, content: bytes) -> bool:
        """Whether it is the index of this content; one from the disk is believed only then.

        Each answer is an object behind the key of its row, nothing else is in between, and what
        is said of rows that are not ok is of rows that there are.
        """
        places = [each.place for each in self.not_ok]
        is_whole = len(chunk.rows) == len(self.begins) == len(self.lengths) > 0
        if not is_whole or not set(places) <= set(range(len(chunk.rows))):
            return False
        if any(each.status is RowStatus.OK for each in self.not_ok):
            return False
        content = content.rstrip(_BLANKS)
        in_order = sorted(zip(self.begins, self.lengths, map(str, chunk.rows), strict=True))
        blank = _blank(content, in_order[0][2])
        if blank is None or any(line_break in content for line_break in _LINE_BREAKS):
            return False
        at, before = 0, "{"
        colon, comma = f'":{blank.decode()}', f",{blank.decode()}"
        for begin, length, wire_id in in_order:
            key = f'{before}"{wire_id}{colon}{{'.encode()
            if not content.startswith(key, at) or begin != at + len(key) - 1 or length < len("{}"):
                return False
            at = begin + length
            if not content.startswith(b"}", at - 1):
                return False
            before = comma
        return content[at:] == b"}" and _is_utf8(content)

    def results(self, chunk: Chunk, content: bytes | memoryview) -> list[EnhancedLocation]:
        """The outcome of each row, in the order of the chunk.

        Args:
            chunk: The chunk that was sent.
            content: What came back. No outcome keeps it alive; of a view, all of them do, and
                nothing is copied.
        """
        results = [
            EnhancedLocation(
                shown_id(row, own_id),
                row,
                RowStatus.OK,
                None,
                None,
                msgspec.Raw(content[begin : begin + length]),
            )
            for row, own_id, begin, length in zip(
                chunk.rows, chunk.ids, self.begins, self.lengths, strict=True
            )
        ]
        for each in self.not_ok:
            results[each.place] = msgspec.structs.replace(
                results[each.place], status=each.status, reason=each.reason, error=each.error
            )
        return results


def index_output(chunk: Chunk, content: bytes, sources: tuple[str, ...]) -> OffsetIndex | None:
    """Find the answer to each row; None where the output needs the slow path.

    Args:
        chunk: The chunk that was sent.
        content: What came back.
        sources: The sources that were asked for, the same for every row.
    """
    content = content.rstrip(_BLANKS)  # some writers end their files with a line break
    if not (sources and chunk.rows) or any(each in content for each in _LINE_BREAKS):
        return None
    try:
        reading = _reading_for(sources)
        answers = reading.decode_all(content)
        _check_utf8(content)  # msgspec does not look into what it leaves undecoded
    except (msgspec.MsgspecError, ValueError, RecursionError):  # also for codes that are none
        return None
    wire_ids, wanted = list(answers), list(map(str, chunk.rows))
    order = None
    if wire_ids != wanted:
        order = _order(wire_ids, wanted)
        if order is None:
            return None
    places = reading.places(content, wire_ids, list(answers.values()))
    if places is None:
        return None
    if order is not None:
        places = places.in_order(order)
    not_ok = _judged(chunk, content, places, reading)
    return None if not_ok is None else OffsetIndex(places.begins, places.lengths, not_ok)


def _check_utf8(content: bytes) -> None:
    """Raise UnicodeDecodeError where it is not UTF-8.

    Decoding all of it, of which hardly anything is not ASCII, would take as long as splitting it.
    """
    if content.isascii():
        return
    decoder = _utf8()
    for begin in range(0, len(content), UTF8_BLOCK_BYTES):
        block = content[begin : begin + UTF8_BLOCK_BYTES]
        if not block.isascii() or decoder.getstate()[0]:
            decoder.decode(block)
    decoder.decode(b"", final=True)


def _is_utf8(content: bytes) -> bool:
    try:
        _check_utf8(content)
    except UnicodeDecodeError:
        return False
    return True


def _order(wire_ids: list[str], wanted: list[str]) -> list[int] | None:
    """The place in an output of each id that was sent; None where it holds other ids."""
    at = {wire_id: place for place, wire_id in enumerate(wire_ids)}
    if len(wire_ids) != len(wanted) or not all(map(at.__contains__, wanted)):
        return None
    return [at[wire_id] for wire_id in wanted]


class _Places(msgspec.Struct, frozen=True):
    """Where the answers stand, in the order of the output or of the chunk.

    Attributes:
        doubtful: Those that may not be ok, or may not stand there at all.
    """

    begins: list[int]
    lengths: list[int]
    doubtful: list[int]

    def in_order(self, order: list[int]) -> _Places:
        """The answers at these places, in this order."""
        doubtful = set(self.doubtful)
        return _Places(
            [self.begins[place] for place in order],
            [self.lengths[place] for place in order],
            [to for to, place in enumerate(order) if place in doubtful] if doubtful else [],
        )


class _Reading:
    """Reads outputs in which each location holds these sources.

    Args:
        sources: Their codes.
    """

    def __init__(self, sources: tuple[str, ...]) -> None:
        names = [f"source_{number}" for number in range(len(sources))]
        # Neither a dict for each location, nor anything that the garbage collector looks at.
        location: Any = msgspec.defstruct(
            "_Location",
            [(name, msgspec.Raw) for name in names],
            rename=dict(zip(names, sources, strict=True)),
            gc=False,
        )
        self.sources = sources
        self.decode_all: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(
            dict[str, location]
        ).decode
        self.decode_one: Callable[[bytes], Any] = msgspec.json.Decoder(location).decode
        self._source_of: Mapping[bytes, Callable[[Any], msgspec.Raw]] = {
            msgspec.json.encode(code) + b":": attrgetter(name)
            for code, name in zip(sources, names, strict=True)
        }

    def places(self, content: bytes, wire_ids: list[str], locations: list[Any]) -> _Places | None:
        """Where the answers stand; None where anything else is in between.

        Args:
            content: The output.
            wire_ids: Its ids, all of them decimal numbers.
            locations: What was decoded of each.
        """
        blank = _blank(content, wire_ids[0])
        keys = None if blank is None else self._keys(content, wire_ids[0], locations[0], blank)
        if blank is None or keys is None:
            return None
        sizes = {key: list(map(len, map(self._source_of[key], locations))) for key in keys}
        comma = len(",") + len(blank)
        around = len("{}") + sum(len(key) + len(blank) for key in keys) + comma * (len(keys) - 1)
        lengths = [around] * len(locations)
        for column in sizes.values():
            lengths = list(map(add, lengths, column))
        before = len('"":') + len(blank)
        steps = map(add, map(add, lengths, map(len, wire_ids[1:])), repeat(before + comma))
        begins = list(accumulate(steps, initial=len("{") + before + len(wire_ids[0])))
        if content[begins[-1] + lengths[-1] - 1 :] != b"}}":
            return None
        # Without blanks it is just as long as what has to be in it, so nothing else can be.
        if blank and not _are_closed(content, begins, lengths):
            return None
        doubtful = _doubtful(content, begins, sizes, blank)
        doubtful |= _repeating(content, begins, lengths, len(keys))
        return _Places(begins, lengths, sorted(doubtful))

    def _keys(self, content: bytes, wire_id: str, first: Any, blank: bytes) -> list[bytes] | None:
        """The sources in the order in which the first location has them."""
        keys: list[bytes] = []
        at = len('{"":{') + len(wire_id) + len(blank)
        while len(keys) < len(self._source_of):
            here = [key for key in self._source_of if content.startswith(key + blank, at)]
            if not here or here[0] in keys:
                return None
            key = here[0]
            keys.append(key)
            at += len(key) + len(blank) + len(self._source_of[key](first)) + len(",") + len(blank)
        return keys


@functools.lru_cache(maxsize=16)
def _reading_for(sources: tuple[str, ...]) -> _Reading:
    return _Reading(sources)


def _are_closed(content: bytes, begins: list[int], lengths: list[int]) -> bool:
    """Whether each location but the last one ends where it should."""
    closings = map(add, map(add, begins[:-1], lengths), repeat(-1))
    return all(map(content.startswith, repeat(b"},"), closings))


def _blank(content: bytes, first_id: str) -> bytes | None:
    """What follows each colon and comma; None where that is neither nothing nor one space."""
    begin = b'{"%b":' % first_id.encode()
    return next((blank for blank in (b"", b" ") if content.startswith(begin + blank + b'{"')), None)


def _doubtful(
    content: bytes, begins: list[int], sizes: Mapping[bytes, list[int]], blank: bytes
) -> set[int]:
    """The places where not every source's object stands where it should, and begins well.

    A row of which each does is where it should be as a whole: its next one's begin, or the end
    of the output, shows where it ends.
    """
    doubtful: set[int] = set()
    at = begins
    before = b"{"
    for key, column in sizes.items():
        well = b'%b%b%b{"is_success":%btrue' % (before, key, blank, blank)
        is_well = list(map(content.startswith, repeat(well), at))
        bad = is_well.count(False)
        place = -1
        for _ in range(bad):  # they are few, and found faster one by one
            place = is_well.index(False, place + 1)
            doubtful.add(place)
        step = len(before) + len(key) + len(blank)
        at = [place + step + size for place, size in zip(at, column, strict=True)]
        before = b"," + blank
    return doubtful


def _repeating(content: bytes, begins: list[int], lengths: list[int], flags_each: int) -> set[int]:
    """The places where the flag may stand more often than once for each source."""
    repeating: set[int] = set()
    if content.count(_FLAG) != flags_each * len(begins):
        counts = map(content.count, repeat(_FLAG), begins, map(add, begins, lengths))
        repeating.update(place for place, flags in enumerate(counts) if flags != flags_each)
    # Its letters can be escaped, which no writer does. An expression is slow at looking for that,
    # so it sees no more than the rest of each row that has an escape at all.
    at = content.find(b"\\")
    while at >= 0:
        place = bisect_right(begins, at) - 1
        end = begins[place] + lengths[place]
        if _ESCAPED_LETTER.search(content, at, end):
            repeating.add(place)
        at = content.find(b"\\", max(at + 1, end))
    return repeating


def _judged(chunk: Chunk, content: bytes, places: _Places, reading: _Reading) -> list[NotOk] | None:
    """Which of the doubtful rows are not ok; None where one does not even stand there."""
    not_ok: list[NotOk] = []
    for place in places.doubtful:
        begin, row = places.begins[place], chunk.rows[place]
        data = content[begin : begin + places.lengths[place]]
        # Neither is part of what is decoded where a place is wrong by a space.
        if not data.startswith(b"{") or not data.endswith(b"}"):
            return None
        try:
            reading.decode_one(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        result = judge_location(
            row=row, user_id="", data=msgspec.Raw(data), sources=reading.sources
        )
        if result.data is NO_DATA:
            return None
        if result.reason is not None and result.error is not None:
            not_ok.append(NotOk(place, result.status, result.reason, result.error))
    return not_ok
