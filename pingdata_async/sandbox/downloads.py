"""Job outputs, generated while they are downloaded."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Final, Literal

import msgspec
from aiohttp import web

from pingdata_async.sandbox.answers import answer_location
from pingdata_async.sandbox.faults import (
    Entry,
    OutputFault,
    SourceFault,
    bomb_body,
    corrupted_entries,
    cut_body,
    endless_body,
    trouble,
)
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


def _entries(job: Job, left_out: set[int], spacing: Spacing, share: float) -> Iterator[Entry]:
    """The locations of an output, worked out one by one."""
    for index, (location_id, fields, sources) in enumerate(job.locations()):
        if index in left_out:
            continue
        answers = answer_location(fields, sources, job.options, share)
        for source in sources if job.gaps.sources else ():
            fault = job.gaps.sources.get((index, source))
            if fault is SourceFault.MISSING:
                del answers[source]
            elif fault is not None:
                answers[source] = trouble(answers[source], fault)
        yield Entry(location_id, encode(answers, spacing))


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
    left_out = left_out | job.gaps.locations
    entries = _entries(job, left_out, settings.spacing, settings.no_match_share)
    middle = (job.num_locations - len(left_out)) // 2

    def sent() -> set[str]:
        return {location.id for location in job.locations()}

    def other_data() -> bytes:
        fields = {"address": "1 Nowhere Lane, Nobody, NE 68001"}
        sources = job.locations()[0].sources
        answers = answer_location(fields, sources, job.options, settings.no_match_share)
        return encode(answers, settings.spacing)

    entries = corrupted_entries(entries, middle, fault, sent, other_data)
    body = _body(entries, settings.spacing)
    if fault in {OutputFault.CUT, OutputFault.HOLE, OutputFault.SHORT}:
        # Piece 0 is the opening brace.
        return cut_body(body, 1 + middle, fault)
    return endless_body(body) if fault is OutputFault.ENDLESS else body


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
    """Send a job's output, corrupted by ``fault``.

    Args:
        request: The download.
        job: Whose output it is.
        settings: The look of it.
        fault: None for none.
        left_out: The indexes of locations that this download lacks.

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
        # The client went away; that is its right.
        return response, False
    return response, True
