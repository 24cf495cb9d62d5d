"""Answers that mean harm: an error of ours each time, in little memory, and the client goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest

from pingdata_async import (
    DecodeError,
    JobOutput,
    NotFoundError,
    OutputUnavailableError,
    PingDataClient,
    PingDataError,
    RateLimitError,
)
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.servers import (
    Answer,
    LocalApi,
    RawServer,
    always,
    by_path,
    client_of,
    raw_server,
    read_request,
)

OUTPUT = JobOutput("/o.json")
GZIP = {"Content-Encoding": "gzip"}
DEEP = b"[" * 100_000 + b"]" * 100_000


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Fails when more than 48 MB are in use at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


@contextlib.asynccontextmanager
async def finished_job(
    faults: FaultPlan, **options: object
) -> AsyncIterator[tuple[PingDataClient, str, JobOutput]]:
    """A client with room for one connection, and a job of it that has an output."""
    async with (
        SandboxServer(faults=faults, queue_delay_s=0.0, locations_per_s=1e9) as server,
        client_of(server.url, max_connections=1, **options) as client,
    ):
        job_id = await client.submit([{"id": "0", "address": "1 Main St"}], sources=["PG"])
        while not (status := await client.status(job_id)).outputs:
            pass
        yield client, job_id, status.outputs[0]


async def every_call(client: PingDataClient) -> list[Exception]:
    """What each kind of call makes of the answers; all must fail."""
    errors: list[Exception] = []
    for call in (
        client.status("J"),
        client.submit([{"id": "0"}], sources=["PG"]),
        client.enhance("1 Main St", sources=["PG"]),
        client.fetch_output("J", OUTPUT),
    ):
        with pytest.raises(PingDataError) as caught:
            await call
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600
        errors.append(caught.value)
    return errors


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    blanks = bytes(1 << 20).replace(b"\0", b" ")
    return b"".join(packer.compress(blanks) for _ in range(size >> 20)) + packer.flush()


async def test_bomb_of_the_sandbox() -> None:
    """2 MB that become 2 GiB are stopped at once; the next request finds a free connection."""
    async with finished_job(FaultPlan(bomb=1)) as (client, job_id, output):
        with little_memory():
            for _ in range(3):
                with pytest.raises(DecodeError, match="compression bomb"):
                    await client.fetch_output(job_id, output)
        assert (await client.status(job_id)).is_finished


async def test_bomb_in_every_answer() -> None:
    """Bombs with a Content-Length, in one piece, in answers of every kind."""
    answer = always(body=bomb(1 << 26), headers=GZIP)
    async with LocalApi(answer) as api, client_of(api.url, max_connections=1) as client:
        with little_memory():
            errors = await every_call(client)
    assert all(isinstance(error, DecodeError) for error in errors)
    assert "larger than 16777216 bytes" in str(errors[0])
    assert "compression bomb" in str(errors[3])


async def test_bomb_in_an_error() -> None:
    """An error whose message is a bomb counts by its status; nobody waits for the rest."""
    answer = always(body=bomb(1 << 26), headers={**GZIP, "Retry-After": "7"}, status=429)
    async with LocalApi(answer) as api, client_of(api.url, max_connections=1) as client:
        with little_memory():
            errors = await every_call(client)
    for error in errors:
        assert isinstance(error, RateLimitError)
        assert error.retry_after_s == 7


async def test_gzipped_error_message() -> None:
    """The message of an error is read through its compression."""
    body = gzip.compress(b'{"message": "slow down"}')
    answer = always(body=body, headers=GZIP, status=429)
    async with LocalApi(answer) as api, client_of(api.url) as client:
        for error in await every_call(client):
            assert "429: slow down" in str(error)


async def test_endless_output_of_the_sandbox() -> None:
    """A download without end stops at the limit, and its connection is closed."""
    options = {"max_body_bytes": 3 << 20}
    async with finished_job(FaultPlan(endless=1), **options) as (client, job_id, output):
        with little_memory(), pytest.raises(DecodeError, match="larger than 3145728 bytes"):
            await client.fetch_output(job_id, output)
        assert (await client.status(job_id)).is_finished


async def test_an_error_that_is_kept_keeps_no_body() -> None:
    """What was read before the limit is let go, though the error lives on."""
    options = {"max_body_bytes": 40 << 20}
    async with finished_job(FaultPlan(endless=1), **options) as (client, job_id, output):
        tracemalloc.start()
        try:
            with pytest.raises(DecodeError) as caught:
                await client.fetch_output(job_id, output)
            assert tracemalloc.get_traced_memory()[0] < 4 << 20
            assert tracemalloc.get_traced_memory()[1] > 30 << 20
        finally:
            tracemalloc.stop()
        assert caught.value.__traceback__ is not None


@contextlib.asynccontextmanager
async def endless(head: bytes, block: bytes) -> AsyncIterator[RawServer]:
    """A server whose answers repeat a block until the other side is gone."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        chunk = b"%x\r\n%s\r\n" % (len(block), block)
        writer.write(b"HTTP/1.1 " + head + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(chunk)
            await writer.drain()

    async with raw_server(script) as server:
        yield server


def flushed(data: bytes) -> bytes:
    """Bare deflate of the data without its end, which can be repeated."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


ENDLESS = {
    "blanks": (b"200 OK", b" " * 65536),
    "gzip of nothing": (b"200 OK\r\nContent-Encoding: gzip", gzip.compress(b"") * 3000),
    "deflate of one stream": (b"200 OK\r\nContent-Encoding: deflate", flushed(bytes(1 << 20))),
    "deflate of nothing": (b"200 OK\r\nContent-Encoding: deflate", flushed(b"") * 9000),
}


@pytest.mark.parametrize(("head", "block"), ENDLESS.values(), ids=ENDLESS)
async def test_endless_answers(head: bytes, block: bytes) -> None:
    """Answers of every kind end at a limit, which counts what comes and what it becomes."""
    async with endless(head, block) as server:
        options = {"max_connections": 1, "max_body_bytes": 20 << 20}
        async with client_of(server.url, **options) as client:
            errors = await every_call(client)
    assert all(isinstance(error, DecodeError) for error in errors)
    # What is no output is small.
    for error, limit in zip(errors, [16 << 20] * 3 + [20 << 20], strict=True):
        assert re.search(f"larger than {limit} bytes|bomb|pieces of next to nothing", str(error))


@pytest.mark.parametrize(("head", "block"), ENDLESS.values(), ids=ENDLESS)
async def test_endless_errors(head: bytes, block: bytes) -> None:
    """An error status counts, though its body has no end."""
    async with (
        endless(head.replace(b"200 OK", b"429 Slow down"), block) as server,
        client_of(server.url, max_connections=1) as client,
    ):
        errors = await every_call(client)
    assert all(isinstance(error, RateLimitError) for error in errors)


async def test_a_smaller_limit_counts_everywhere() -> None:
    """`max_body_bytes` below the limit of calls holds for calls, too."""
    answer = always(body=b" " * 2000)
    async with LocalApi(answer) as api, client_of(api.url, max_body_bytes=1000) as client:
        for error in await every_call(client):
            assert "larger than 1000 bytes" in str(error)


async def test_a_gzip_stream_without_its_end() -> None:
    """What HTTP says is whole is not taken for whole when its compression says otherwise."""
    whole = b'{"0": {}}'
    cut = gzip.compress(whole)[:-8]
    assert zlib.decompressobj(31).decompress(cut) == whole
    async with LocalApi(always(body=cut, headers=GZIP)) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError, match="cut off"):
            await client.fetch_output("J", OUTPUT)


async def test_encodings_that_nobody_asked_for() -> None:
    """Twice gzip, or another compression, is refused by name."""
    for encoding in ("gzip, gzip", "br", "zstd", "compress"):
        answer = always(body=b"\0", headers={"Content-Encoding": encoding})
        async with LocalApi(answer) as api, client_of(api.url) as client:
            for error in await every_call(client):
                assert f"unknown encoding ({encoding})" in str(error)


HOSTILE_JSON = {
    "deep": DEEP,
    "deep inside": b'{"id":%s,"request":{"status":%s},"location_data":%s}' % (DEEP, DEEP, DEEP),
    "deep and unknown": b'{"new":%s,"id":"J","request":{"status":"QUEUED"}}' % DEEP,
    "deep objects": b'{"request":' * 100_000 + b"}" * 100_000,
    "deep and cut": b"[" * 1_000_000,
    "invalid UTF-8": b'{"id":"J\xff","request":{"status":"\xc0\x80"},"location_data":{"P":"\xff"}}',
    "lone surrogate": b'{"id":"\\ud800","request":{"status":"\\udc00"},"location_data":"\\ud800"}',
    "huge numbers": b'{"id":%s,"request":{"status":1e999},"location_data":}' % (b"9" * 9999),
    "not JSON": b"\x00\x01\x02",
    "UTF-16": '{"id": "J"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
async def test_hostile_json(body: bytes) -> None:
    """Nesting without measure, texts that are none: a DecodeError, for calls of every kind."""
    async with LocalApi(always(body=body)) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError):
            await client.status("J")
        with pytest.raises(DecodeError):
            await client.submit([{"id": "0"}], sources=["PG"])
        with pytest.raises(DecodeError):
            await client.enhance("1 Main St", sources=["PG"])


@pytest.mark.parametrize("body", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
async def test_hostile_json_of_an_error(body: bytes) -> None:
    """In the body of an error the same changes nothing."""
    async with LocalApi(always(body=body, status=429)) as api, client_of(api.url) as client:
        for error in await every_call(client):
            assert isinstance(error, RateLimitError)


@pytest.mark.parametrize("job_id", ["x" * 513, "a\\nb", "\\u001b[2J", "\\u0000", "\\u202e", "  "])
async def test_job_ids_that_are_none(job_id: str) -> None:
    """An id that cannot be shown or is endless is no id: the job is in doubt."""
    answer = always(body=b'{"id": "%s"}' % job_id.encode())
    async with LocalApi(answer) as api, client_of(api.url) as client:
        with pytest.raises(DecodeError, match="holds no job id"):
            await client.submit([{"id": "0"}], sources=["PG"])


@pytest.mark.parametrize(
    "url",
    ["ftp://127.0.0.1/o", "file:///etc/passwd", "data:,{}", "http://example.com/o", "ws://a/o"],
)
async def test_outputs_elsewhere_than_on_the_web(url: str) -> None:
    """A file, ftp or data url, or http to another machine, is refused in so many words."""
    said = "neither https nor on this machine; not fetched"
    async with LocalApi(by_path({})) as api, client_of(api.url) as client:
        with pytest.raises(OutputUnavailableError, match=said):
            await client.fetch_output("J", JobOutput(url))
    assert all(seen.path.startswith("/api/v1/") for seen in api.seen)


async def test_odd_filenames_change_no_path() -> None:
    """Where the url is gone, a name such as ../../x is asked for below the job's outputs only."""
    names = ["../../limits", "..", ".", "/etc/passwd", "a\\..\\b", "%2e%2e/x", "?x=1", "#", "\0\n"]
    for name in names:
        async with LocalApi(by_path({})) as api, client_of(api.url) as client:
            with pytest.raises(NotFoundError):
                await client.fetch_output("../J", JobOutput("/gone.json", name))
        for seen in api.seen[1:]:
            parts = seen.target.split("/")
            assert ".." not in parts
            assert parts[1:3] == ["api", "v1"]
            assert parts[4] == "..%2FJ"
            assert parts[5:6] in ([], ["output"])
            assert len(parts) in {5, 7}


async def test_odd_filenames_of_the_sandbox() -> None:
    """An output is found by its url, whatever it calls itself."""
    async with finished_job(FaultPlan(odd_filename=1)) as (client, job_id, output):
        assert output.filename != f"bulk_enhance_{job_id}.json"
        assert (await client.fetch_output(job_id, output)).startswith(b'{"0": ')


def shrinking(size: int) -> Answer:
    """A download that is some 300 times larger than it looks: no bomb yet."""
    rows = (b"%08d" % index + b"x" * 2000 for index in range(size // 2008))
    body = gzip.compress(b"".join(rows))
    assert 200 < size / len(body) < 400
    return always(body=body, headers=GZIP)


async def test_others_have_their_turn_while_much_is_inflated() -> None:
    """A small answer that becomes 64 MB does not hold up the event loop until it has."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with (
        LocalApi(shrinking(64 << 20)) as api,
        client_of(api.url) as client,
        client.stream_output("J", OUTPUT) as response,
    ):
        blocks = response.iter_blocks()
        await anext(blocks)
        other = asyncio.create_task(take_turns())
        total = sum([len(block) async for block in blocks])
        other.cancel()
    assert total > 60 << 20
    assert turns > 10
