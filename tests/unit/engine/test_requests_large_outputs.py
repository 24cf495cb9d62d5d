"""Several outputs are held at a time, but of large ones only one."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from pingdata_async import BulkEnhancer
from pingdata_async.engine import engine as runner
from pingdata_async.engine import requests
from tests.support.raw_api import RawApi, Write, answer
from tests.support.servers import client_of, raw_server

LARGE_BODY_BYTES = 4096
LOCATIONS = [{"address": f"{number} Main St, Boston, MA"} for number in range(6)]


async def chunked(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Nobody knows how large it is before it has come."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in (body, b" " * LARGE_BODY_BYTES):
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
    writer.write(b"0\r\n\r\n")


async def counted(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Its size is in its head."""
    writer.write(answer(body + b" " * LARGE_BODY_BYTES))


async def packed(writer: asyncio.StreamWriter, body: bytes) -> None:
    """It is large only when unpacked, far more than it looks."""
    raw = gzip.compress(body + b" " * 4 * LARGE_BODY_BYTES) + gzip.compress(b"")
    assert len(raw) * 8 < LARGE_BODY_BYTES
    writer.write(answer(raw, b"Content-Encoding: gzip"))


@pytest.mark.parametrize(("write", "fetches"), [(chunked, 12), (counted, 12), (packed, 6)])
async def test_large_outputs_are_held_one_at_a_time(
    write: Write, fetches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered and paid once; the limit for all but one is that of small ones."""
    for module in (requests, runner):
        monkeypatch.setattr(module, "LARGE_BODY_BYTES", LARGE_BODY_BYTES)
    held = peak = 0
    check = requests.Requests.check

    async def counting(self: requests.Requests, task: object, fetched: object) -> object:
        nonlocal held, peak
        is_large = task.is_large  # type: ignore[attr-defined]  # whatever it is called with
        held += is_large
        peak = max(peak, held)
        try:
            await asyncio.sleep(0)
            return await check(self, task, fetched)  # type: ignore[arg-type]  # as it came
        finally:
            held -= is_large

    monkeypatch.setattr(requests.Requests, "check", counting)
    api = RawApi(write_output=(write,))
    async with raw_server(api) as server, client_of(server.url) as client:
        enhancer = BulkEnhancer(client, sources=["PG"], chunk_size=1)
        results = await enhancer.enhance(LOCATIONS)
    assert [result.status for result in results] == ["ok"] * 6
    assert (api.charged, api.counts["output"], peak) == (6, fetches, 1)
