"""A UTF-8 byte order mark before JSON is skipped, wherever the API writes one."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Callable

import msgspec
import pytest

from pingdata_async import JobOutput, PingDataClient, ServerError
from pingdata_async.locations.chunk import Chunk
from pingdata_async.results.validation import validate_output
from pingdata_async.util.encoding import EncodedBody
from tests.support.chunks import body_of
from tests.support.servers import LocalApi, always, by_path, client_of

OUTPUT = JobOutput("/api/v1/sov/J/output/o.json")


def marked(payload: object) -> bytes:
    return codecs.BOM_UTF8 + json.dumps(payload).encode()


async def test_every_endpoint() -> None:
    """Submission, status, output, the single location and the account."""
    answers = {
        "/api/v1/bulk_enhance": {"id": "J"},
        "/api/v1/bulk_enhance/J": {"request": {"status": "PENDING"}},
        OUTPUT.url: {"0": {"PG": {}}},
        "/api/v1/enhance": {"location_data": {"PG": {"is_success": True}}},
        "/api/v1/limits": {"sources": {}},
        "/api/v1/usage": {"totals": {}},
        "/api/v1/datasources": {"configs": {}},
        "/api/v1/datasources/PG": {"config": {"source_code": "PG"}},
    }
    served = by_path({path: always(body=marked(said)) for path, said in answers.items()})
    async with LocalApi(served) as api, client_of(api.url) as client:
        assert await client.submit([{"id": "0"}], sources=["PG"]) == "J"
        assert (await client.status("J")).status == "PENDING"
        assert msgspec.json.decode(await client.fetch_output("J", OUTPUT)) == {"0": {"PG": {}}}
        assert (await client.fetch_body("J", OUTPUT)).content().startswith(b"{")
        assert (await client.enhance("1 Main St", sources=["PG"]))["PG"].is_success
        await everything_of_the_account(client)


async def everything_of_the_account(client: PingDataClient) -> None:
    await client.limits()
    await client.usage()
    await client.datasources()
    await client.datasource("PG")


async def test_the_message_of_an_error() -> None:
    """It is read as JSON, too."""
    body = marked({"message": "the disk is full"})
    async with LocalApi(always(body=body, status=500)) as api, client_of(api.url) as client:
        with pytest.raises(ServerError, match=r"answered 500: the disk is full$"):
            await client.status("J")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_output_is_read_in_one_pass(pack: Callable[[bytes], bytes]) -> None:
    """The places of its answers are those in what is handed on; the spool keeps it as it came."""
    body = codecs.BOM_UTF8 + b'{"0":{"PG":{"is_success":true}},"1":{"PG":{"is_success":true}}}'
    raw = EncodedBody(pack(body), "gzip" if pack is gzip.compress else "")
    chunk = Chunk(0, [0, 1], ["a", "b"], body_of([0, 1]))
    checked = validate_output(chunk, [raw], ("PG",), 0, with_results=False)
    assert checked.offset_index is not None
    content = checked.body.content()
    assert [content[checked.offset_index.span(place)] for place in (0, 1)] == [
        b'{"PG":{"is_success":true}}'
    ] * 2
