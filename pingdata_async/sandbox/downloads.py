"""Outputs, generated while they are downloaded."""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Final, Literal

import msgspec
from aiohttp import web

from pingdata_async.sandbox.answers import answer_location
from pingdata_async.sandbox.faults import OutputFault
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


def output_entries(job: Job, spacing: Spacing, no_match_share: float) -> Iterator[bytes]:
    """The body of an output, a location at a time; the braces are pieces of their own."""
    comma, colon = (b", ", b": ") if spacing == "spaced" else (b",", b":")
    yield b"{"
    separator = b""
    for location_id, fields, sources in job.locations():
        answers = answer_location(fields, sources, job.options, no_match_share)
        yield separator + _ENCODE(location_id) + colon + encode(answers, spacing)
        separator = comma
    yield b"}"


def _spoiled(entries: Iterator[bytes], num_locations: int, fault: OutputFault) -> Iterator[bytes]:
    """The body with half of the middle location; nothing after it unless a hole is asked for."""
    # Entry 0 is the opening brace.
    middle = 1 + num_locations // 2
    for index, entry in enumerate(entries):
        if index != middle:
            yield entry
            continue
        yield entry[: len(entry) // 2]
        if fault is not OutputFault.HOLE:
            return


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
    request: web.Request, job: Job, settings: SandboxSettings, fault: OutputFault | None
) -> tuple[web.StreamResponse, bool]:
    """Send a job's output, spoiled in the way of ``fault``.

    Returns:
        The response, and whether it was sent to its end.
    """
    response = web.StreamResponse()
    response.content_type = "application/json"
    zipper = None
    if _accepts_gzip(request):
        response.headers["Content-Encoding"] = "gzip"
        zipper = zlib.compressobj(_GZIP_LEVEL, wbits=31)
    entries = output_entries(job, settings.spacing, settings.no_match_share)
    if fault is not None:
        entries = _spoiled(entries, job.num_locations, fault)
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
