"""Reading bodies: streamed, bounded, and never taken for whole when cut off."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest
from aiohttp import web

from pingdata_async import DecodeError, JobOutput, PingDataError, ServerError, TransportError
from tests.support.servers import LocalApi, RawServer, always, client_of, raw_server, says

OUTPUT = JobOutput("/o.json")
GZIP = {"Content-Encoding": "gzip"}


async def fetch(server: RawServer | LocalApi, **options: object) -> bytes:
    async with client_of(server.url, **options) as client:
        return await client.fetch_output("J", OUTPUT)


async def megabytes(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(b"x" * (1 << 20))
    return response


async def test_streamed_output_is_never_held_whole() -> None:
    """64 MB go through in blocks, in a few MB of memory."""
    async with LocalApi(megabytes) as api, client_of(api.url) as client:
        tracemalloc.start()
        try:
            total = 0
            async with client.stream_output("J", OUTPUT) as response:
                async for block in response.iter_blocks():
                    total += len(block)
                    assert len(block) <= 256 * 1024
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 16 << 20


async def test_streaming_waits_for_its_reader() -> None:
    """A reader that stops reading stops the server: nothing piles up on our side."""
    stopped = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        writer.transport.set_write_buffer_limits(high=0)
        while True:
            writer.write(b"x" * (1 << 20))
            try:
                async with asyncio.timeout(0.3):
                    await writer.drain()
            except TimeoutError:
                stopped.set()
                return

    async with (
        raw_server(script) as server,
        client_of(server.url) as client,
        client.stream_output("J", OUTPUT) as response,
    ):
        blocks = response.iter_blocks()
        await anext(blocks)
        async with asyncio.timeout(120):
            await stopped.wait()


async def test_stream_left_early() -> None:
    """Leaving a download in the middle closes its connection and frees its place."""
    async with LocalApi(megabytes) as api, client_of(api.url, max_connections=1) as client:
        for _ in range(3):
            async with client.stream_output("J", OUTPUT) as response:
                async for block in response.iter_blocks():
                    assert block
                    break
    assert len(api.seen) == 3


async def test_response_says_what_it_is() -> None:
    """A response names its request, without the query, and its media type."""
    async with (
        LocalApi(always({})) as api,
        client_of(api.url) as client,
        client.stream_output("J", JobOutput("/o.json?sig=1")) as response,
    ):
        assert response.what == f"GET {api.url}/o.json"
        assert response.content_type.startswith("application/json")


@pytest.mark.parametrize("size", [999, 1000])
async def test_body_within_the_limit(size: int) -> None:
    """A body of exactly the limit is taken."""
    async with LocalApi(always(body=b"x" * size)) as api:
        assert len(await fetch(api, max_body_bytes=1000)) == size


async def test_body_beyond_the_limit() -> None:
    """One byte more is an error that names the limit."""
    async with LocalApi(always(body=b"x" * 1001)) as api:
        with pytest.raises(DecodeError, match="larger than 1000 bytes"):
            await fetch(api, max_body_bytes=1000)


async def test_compression_bomb() -> None:
    """The limit counts what a body becomes, and stops before it became that."""
    bomb = gzip.compress(b"0" * (64 << 20))
    async with LocalApi(always(body=bomb, headers=GZIP)) as api:
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError, match="larger than"):
                await fetch(api, max_body_bytes=1 << 20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 24 << 20


async def test_gzipped_body() -> None:
    """A compressed answer arrives as what it was."""
    body = b'{"0": {"PG": {}}}' * 10_000
    async with LocalApi(always(body=gzip.compress(body), headers=GZIP)) as api:
        assert await fetch(api) == body


CUT = {
    "content length too long": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    "nothing at all of it": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    "chunked without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}",
    "not gzip": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\n{}",
}


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
async def test_cut_off_bodies(answer: bytes) -> None:
    """A body that ends before its end is an error, for calls and downloads alike."""
    async with raw_server(says(answer)) as server, client_of(server.url) as client:
        with pytest.raises(DecodeError) as download:
            await client.fetch_output("J", OUTPUT)
        with pytest.raises(DecodeError) as question:
            await client.status("J")
        with pytest.raises(DecodeError) as submission:
            await client.submit([{"id": "0"}], sources=["PG"])
    for caught in (download, question, submission):
        assert str(caught.value).isprintable()


async def test_cut_off_gzip() -> None:
    """A compressed answer that ends too early is an error, though HTTP says it is whole."""
    text = json.dumps({"request": {"status": "PENDING"}, "extra": list(range(999))})
    cut = gzip.compress(text.encode())[:-100]
    async with LocalApi(always(body=cut, headers=GZIP)) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError):
            await client.status("J")


async def test_chunks_that_are_none() -> None:
    """A chunked body that is not made of chunks is an error, seen with the head or after it."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}{}{}{}\r\n"
    async with raw_server(says(answer)) as server:
        with pytest.raises((DecodeError, TransportError)) as caught:
            await fetch(server)
        assert str(caught.value).isprintable()


async def test_gzip_with_a_wrong_checksum() -> None:
    """A compressed body that was damaged on the way is an error."""
    whole = gzip.compress(b'{"0": {}}' * 1000)
    damaged = whole[:-8] + zlib.crc32(b"other").to_bytes(4, "little") + whole[-4:]
    async with LocalApi(always(body=damaged, headers=GZIP)) as api:
        with pytest.raises(DecodeError):
            await fetch(api)


@pytest.mark.parametrize("encoding", ["br", "zstd", "bogus"])
async def test_encoding_that_was_not_asked_for(encoding: str) -> None:
    """A body in a compression that we did not ask for is never handed on as data."""
    answer = always(body=b"\x00\x01\x02", headers={"Content-Encoding": encoding})
    async with LocalApi(answer) as api, client_of(api.url) as client:
        with pytest.raises(PingDataError):
            await client.status("J")


async def test_body_that_stops_coming() -> None:
    """A body that comes to a halt is an error after the read time-out."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")
        await reader.read()

    async with raw_server(script) as server:
        with pytest.raises(DecodeError):
            await fetch(server, read_timeout_s=0.2)


async def test_error_body_in_pieces_is_read_whole() -> None:
    """The message of an error is found too where its body arrives in pieces."""
    body = b'{"id": "1", "message": "the daily quota is spent"}'

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(head + body[:20])
        await writer.drain()
        for _ in range(5):  # turns of the loop, in which the client takes it as a piece of its own
            await asyncio.sleep(0)
        writer.write(body[20:])
        await writer.drain()

    async with raw_server(script) as server:
        with pytest.raises(ServerError, match="500: the daily quota is spent"):
            await fetch(server)


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\n{",
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_error_with_an_unreadable_body(rest: bytes) -> None:
    """An error status counts, whatever its body is."""
    async with raw_server(says(b"HTTP/1.1 500 Oops\r\n" + rest)) as server:
        with pytest.raises(ServerError, match="answered 500"):
            await fetch(server)
