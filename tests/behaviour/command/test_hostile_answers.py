"""The real command against a server that speaks HTTP badly, on purpose or not."""

from __future__ import annotations

import asyncio
import codecs
import gzip
from pathlib import Path

import pytest

from tests.support.raw_api import (
    RawApi,
    answer,
    continue_for_ever,
    drip,
    enhance,
    malformed_chunk,
    well,
)
from tests.support.servers import raw_server
from tests.support.sweeps import sampled

PARSERS = {"C": {}, "Python": {"AIOHTTP_NO_EXTENSIONS": "1"}}


@pytest.mark.parametrize("environ", sampled(PARSERS.values(), 1), ids=PARSERS)
async def test_outputs_that_never_end(environ: dict[str, str], tmp_path: Path) -> None:
    """As many as there are fetchers: each is given up and fetched again, nothing paid twice."""
    endless = (malformed_chunk, drip, continue_for_ever, malformed_chunk)
    api = RawApi(write_output=(*endless, well))
    async with raw_server(api) as server:
        done = await enhance(
            server.url, tmp_path, "--chunk-size", 1, environ=environ,
            read_timeout_s=0.3, connect_timeout_s=0.3,
        )  # fmt: skip
    assert (done.code, done.statuses) == (0, ["ok"] * 6), done.err
    assert api.charged == 6
    assert api.counts["output"] == 10
    assert "Traceback" not in done.err


async def in_members(writer: asyncio.StreamWriter, body: bytes) -> None:
    """What it should be, and 30 MB of blanks, in a gzip of 30,000 members."""
    wire = gzip.compress(body) + gzip.compress(b" " * 1024) * 30_000
    writer.write(answer(wire, b"Content-Encoding: gzip"))


async def test_a_gzip_of_many_members(tmp_path: Path) -> None:
    """It is read like any other, in little memory."""
    api = RawApi(write_output=(in_members,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, rows=1, is_warm=False)
    assert (done.code, done.statuses) == (0, ["ok"]), done.err
    assert api.charged == 1
    assert done.peak_mb < 200


async def marked(writer: asyncio.StreamWriter, body: bytes) -> None:
    """What it should be, after a byte order mark."""
    writer.write(answer(codecs.BOM_UTF8 + body))


async def test_a_byte_order_mark_before_every_answer(tmp_path: Path) -> None:
    """It is skipped: each job is known, asked about, fetched and paid once."""
    each = (marked,)
    api = RawApi(write_submission=each, write_status=each, write_output=each)
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, "--chunk-size", 3)
    assert (done.code, done.statuses) == (0, ["ok"] * 6), done.err
    assert (api.charged, api.counts["submission"]) == (6, 2)


async def large(writer: asyncio.StreamWriter, body: bytes) -> None:
    """What it should be, and 40 MB of blanks."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    blanks = b"100000\r\n%b\r\n" % (b" " * (1 << 20))
    for part in (b"%x\r\n%b\r\n" % (len(body), body), *[blanks] * 40, b"0\r\n\r\n"):
        writer.write(part)
        await writer.drain()


async def test_large_outputs_side_by_side(tmp_path: Path) -> None:
    """One of them is held at a time, whatever they come to together; none is paid twice."""
    api = RawApi(write_output=(large,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, "--chunk-size", 1, rows=4, is_warm=False)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 4, 4), done.err
    assert done.peak_mb < 190


GARBLED = {
    "NUL": b"X: \x00",
    "cookies": b"\r\n".join(b"Set-Cookie: c%d=%d" % (n, n) for n in range(2000)),
    "one endless": b"X: " + b"y" * 100_000,
    "junk": b"\xff\xfe: \x01\x02",
}


@pytest.mark.parametrize(
    ("header", "parser"),
    sampled([*((header, "C") for header in GARBLED.values()), (GARBLED["cookies"], "Python")], 2),
    ids=[*GARBLED, "cookies, by Python"],
)
async def test_submissions_answered_with_a_garbled_head(
    header: bytes, parser: str, tmp_path: Path
) -> None:
    """Each made a job: the run stops after the second, says so, and can be taken up again."""

    async def garbled(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(answer(body, header))

    api = RawApi(write_submission=(garbled,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, "--chunk-size", 3, environ=PARSERS[parser])
    assert (done.code, done.statuses) == (5, []), done.err
    assert api.counts["submission"] == 2
    assert "in doubt" in done.err
    assert "Traceback" not in done.err


async def test_an_answer_that_is_too_large(tmp_path: Path) -> None:
    """Its rows fail in little memory, and say how it is had: `retry` fetches it, for nothing."""

    async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
        if '"0"' in body.decode():
            long = b'"is_success":true,"x":"%b"' % (b"x" * (17 << 20))
            packed = gzip.compress(body.replace(b'"is_success":true', long, 1), 1)
            writer.write(answer(packed, b"Content-Encoding: gzip"))
        else:
            writer.write(answer(body))

    api = RawApi(write_output=(write,))
    async with raw_server(api) as server:
        words = ("--chunk-size", "3", "--max-answer-mb", "16")
        done = await enhance(server.url, tmp_path, *words, is_warm=False)
        assert (done.code, done.statuses) == (3, ["failed"] * 3 + ["ok"] * 3), done.err
        assert "larger than 16777216 bytes; where that is right, " in done.rows[0]["error"]
        assert done.peak_mb < 200
        words = ("-u", server.url, "--max-answer-mb", "18")
        done = await enhance(server.url, tmp_path, *words, command="retry", is_warm=False)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err
    assert done.peak_mb < 250
