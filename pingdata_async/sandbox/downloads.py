"""Job outputs, generated and corrupted while they are downloaded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from itertools import repeat
from typing import Any, Final, Literal, NamedTuple

import msgspec
from aiohttp import web

from pingdata_async.sandbox.answers import answer_location
from pingdata_async.sandbox.faults import OutputFault, SourceFault
from pingdata_async.sandbox.jobs import Job
from pingdata_async.sandbox.settings import SandboxSettings

Spacing = Literal["spaced", "compact"]

_PIECE_BYTES: Final = 64 * 1024
_GZIP_LEVEL: Final = 1
_ENCODE: Final = msgspec.json.encode


def encode(data: object, spacing: Spacing) -> bytes:
    """JSON of that look."""
    text = _ENCODE(data)
    # An indentation of 0 is msgspec's way to ask for one line with blanks.
    return msgspec.json.format(text, indent=0) if spacing == "spaced" else text


class Entry(NamedTuple):
    """A location of an output: its id, and its answers as JSON."""

    location_id: str
    data: bytes


def _answers(
    job: Job, fields: dict[str, Any], sources: tuple[str, ...], settings: SandboxSettings
) -> dict[str, dict[str, Any]]:
    options, share = job.order.options, settings.no_match_share
    return answer_location(fields, sources, options, share, settings.edition)


def _entries(job: Job, settings: SandboxSettings, left_out: set[int]) -> Iterator[Entry]:
    """The locations of an output, worked out one by one."""
    for index, (location_id, fields, sources) in enumerate(job.locations()):
        if index in left_out:
            continue
        answers = _answers(job, fields, sources, settings)
        for source in sources if job.order.gaps.sources else ():
            fault = job.order.gaps.sources.get((index, source))
            if fault is SourceFault.MISSING:
                del answers[source]
            elif fault is not None:
                answers[source] = _trouble(answers[source], fault)
        yield Entry(location_id, encode(answers, settings.spacing))


def _body(entries: Iterator[Entry], spacing: Spacing) -> Iterator[bytes]:
    """The body of an output, a location at a time; the braces are pieces of their own."""
    comma, colon = (b", ", b": ") if spacing == "spaced" else (b",", b":")
    yield b"{"
    separator = b""
    for entry in entries:
        yield separator + _ENCODE(entry.location_id) + colon + entry.data
        separator = comma
    yield b"}"


def _output(
    job: Job, settings: SandboxSettings, fault: OutputFault | None, left_out: set[int]
) -> Iterator[bytes]:
    """The body of an output, corrupted by ``fault``."""
    left_out = left_out | job.order.gaps.locations
    middle = (job.num_locations - len(left_out)) // 2
    entries = _corrupted_entries(job, settings, middle, fault, left_out)
    body = _body(entries, settings.spacing)
    if fault in {OutputFault.CUT, OutputFault.HOLE, OutputFault.SHORT}:
        # Piece 0 is the opening brace.
        return _cut_body(body, 1 + middle, fault)
    return _endless_body(body) if fault is OutputFault.ENDLESS else body


def _pieces(entries: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces."""
    buffer = bytearray()
    for entry in entries:
        buffer += entry
        if len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _accepts_gzip(request: web.Request) -> bool:
    for coding in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, _, weight = coding.replace(" ", "").partition(";q=")
        if name in {"gzip", "*"}:
            return weight.rstrip("0").rstrip(".") not in {"0", ""} or not weight
    return False


async def send_output(
    request: web.Request,
    job: Job,
    settings: SandboxSettings,
    fault: OutputFault | None,
    left_out: set[int],
) -> tuple[web.StreamResponse, bool]:
    """Send a job's output, corrupted by ``fault``, without the locations of some indexes.

    Returns:
        The response, and whether it was sent to its end.
    """
    response = web.StreamResponse()
    response.content_type = "application/json"
    zipper = None
    if fault is OutputFault.BOMB:
        response.headers["Content-Encoding"] = "gzip"
        entries = bomb_body()
    else:
        entries = _output(job, settings, fault, left_out)
        # What has no end is large on its way, too.
        if _accepts_gzip(request) and fault is not OutputFault.ENDLESS:
            response.headers["Content-Encoding"] = "gzip"
            zipper = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    try:
        await response.prepare(request)
        for piece in _pieces(entries):
            if body := zipper.compress(piece) if zipper else piece:
                await response.write(body)
            # write() waits only when the client is slow.
            await asyncio.sleep(0)
        if fault is OutputFault.CUT:
            if zipper:
                await response.write(zipper.flush(zlib.Z_SYNC_FLUSH))
            if request.transport is not None:
                request.transport.abort()
            return response, False
        if zipper:
            await response.write(zipper.flush())
        await response.write_eof()
    except ConnectionError:
        # The client may leave.
        return response, False
    return response, True


# -- Corrupted outputs -----------------------------------------------------------------------

DEPTH: Final = 100_000
BOMB_BYTES: Final = 2 * 1024**3
ENDLESS_BYTES: Final = 8 * 1024**3

_BLOCK_BYTES: Final = 1024 * 1024
_BLANKS: Final = b" " * (64 * 1024)
_GZIP_HEAD: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_PASSING: Final[dict[SourceFault, tuple[int, str]]] = {
    SourceFault.TIMED_OUT: (504, "Timed out after 30.0 seconds"),
    SourceFault.THROTTLED: (429, "Too Many Requests"),
    SourceFault.BROKEN: (500, "Internal Server Error"),
    SourceFault.UNAVAILABLE: (503, "Service Unavailable"),
}


def _trouble(answer: dict[str, Any], fault: SourceFault) -> dict[str, Any]:
    """A source's answer, turned into a failure that may pass."""
    status, message = _PASSING[fault]
    kept = {name: answer[name] for name in ("fetch_time", "persist_for", "worker_name")}
    return dict.fromkeys(answer) | kept | {
        "is_success": False,
        "is_cache_hit": False,
        "error_message": message,
        "status_code": status,
    }  # fmt: skip


def _corrupted_entries(
    job: Job, settings: SandboxSettings, middle: int, fault: OutputFault | None, left_out: set[int]
) -> Iterator[Entry]:
    """The locations of an output, the middle one corrupted by a fault."""

    def unsent_id(location_id: str) -> str:  # though as a number it would be the same
        sent = {location.id for location in job.locations()}
        while location_id in sent:
            location_id = "0" + location_id
        return location_id

    def other_data() -> bytes:
        fields = {"address": "1 Nowhere Lane, Nobody, NE 68001"}
        sources = job.locations()[0].sources
        answers = _answers(job, fields, sources, settings)
        return encode(answers, settings.spacing)

    for index, entry in enumerate(_entries(job, settings, left_out)):
        if index != middle:
            yield entry
        elif fault is OutputFault.RENAMED_ID:
            yield Entry(unsent_id(entry.location_id), entry.data)
        elif fault is OutputFault.FOREIGN_ID:
            yield entry
            yield Entry(unsent_id(entry.location_id), other_data())
        elif fault is OutputFault.REPEATED_ID:
            yield entry
            yield Entry(entry.location_id, other_data())
        elif fault is OutputFault.INVALID_UTF8:
            yield Entry(entry.location_id, _with(entry.data, b'"caf\xe9": {"note": "\xff\xc0"}'))
        elif fault is OutputFault.DEEP_NESTING:
            nested = b'"nested": ' + b"[" * DEPTH + b"]" * DEPTH
            yield Entry(entry.location_id, _with(entry.data, nested))
        else:
            yield entry


def _with(data: bytes, member: bytes) -> bytes:
    """A JSON object with one more member."""
    separator = b"" if data == b"{}" else b", "
    return data[:-1] + separator + member + b"}"


def _cut_body(pieces: Iterator[bytes], middle: int, fault: OutputFault) -> Iterator[bytes]:
    """The body with half of a middle piece; nothing after it unless a hole is asked for."""
    for index, piece in enumerate(pieces):
        if index != middle:
            yield piece
            continue
        yield piece[: len(piece) // 2]
        if fault is not OutputFault.HOLE:
            return


def _endless_body(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The body, but before its last brace come more blanks than anybody waits for."""
    for piece in pieces:
        if piece == b"}":
            yield from repeat(_BLANKS, ENDLESS_BYTES // len(_BLANKS))
        yield piece


def bomb_body() -> Iterator[bytes]:
    """A gzip stream of a brace, 2 GiB of blanks and another brace, made as it is sent."""
    packer = zlib.compressobj(9, wbits=-15)
    opening = packer.compress(b"{") + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block refers to nothing before it: the same bytes serve every time.
    blanks = b" " * _BLOCK_BYTES
    packed = packer.compress(blanks) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(b"{")
    yield _GZIP_HEAD + opening
    for _ in range(BOMB_BYTES // _BLOCK_BYTES):
        checksum = zlib.crc32(blanks, checksum)
        yield packed
    checksum = zlib.crc32(b"}", checksum)
    size = (BOMB_BYTES + 2) % 2**32
    yield packer.compress(b"}") + packer.flush()
    yield checksum.to_bytes(4, "little") + size.to_bytes(4, "little")
