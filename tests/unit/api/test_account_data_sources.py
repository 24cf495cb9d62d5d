"""The API's data sources."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import pingdata_async as ping
from pingdata_async.api.account import decode_datasource, decode_datasources
from pingdata_async.models import DataSource
from pingdata_async.sandbox import SandboxServer

CONFIG: dict[str, Any] = {
    "source_name": "Ping Hazard",
    "source_code": "PH",
    "required_attrs": ["latitude", "longitude"],
    "supported_countries": ["US"],
    "output_fields": {"elevation": {"type": "float", "description": "In feet"}, "zone": None},
    "base_output_fields": {"is_success": {"type": "boolean"}},
}


async def test_the_sources_and_one_of_them() -> None:
    """What the sandbox serves is read, in either way, and a code may be in lower case."""
    async with (
        SandboxServer() as server,
        ping.PingDataClient(api_url=server.url, auth_token="t") as client,
    ):
        sources = await client.datasources()
        hazard = await client.datasource("ph")
        with pytest.raises(ping.NotFoundError):
            await client.datasource("no such")
    assert sources["PH"] == hazard
    assert hazard.required_attrs == ("latitude", "longitude")
    assert hazard.supported_countries == ("US",)
    assert hazard.excluded_us_states is None
    assert hazard.output_fields["is_success"] == "boolean"
    assert "fema_flood_zone" in hazard.output_fields


def test_every_form_is_taken() -> None:
    """An object of configurations or a list of them; what is odd in one is "not said"."""
    as_object = decode_datasources(msgspec.json.encode({"configs": {"PH": CONFIG}}), "GET x")
    as_list = decode_datasources(msgspec.json.encode({"configs": [CONFIG, 5]}), "GET x")
    assert as_object == as_list
    assert as_object["PH"].output_fields == {
        "is_success": "boolean",
        "elevation": "float",
        "zone": "",
    }
    odd = {"required_attrs": "address", "supported_countries": 5, "output_fields": [{"name": "a"}]}
    odd["source_code"] = "X"
    found = decode_datasource(msgspec.json.encode({"config": odd}), "GET x")
    assert found == DataSource(
        code="X", required_attrs=("address",), output_fields={"a": ""}, as_sent=odd
    )


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"configs":7}', b'{"config":7}', b"\xff"])
def test_what_is_no_answer(body: bytes) -> None:
    """Is told as such, and not a traceback."""
    for decode in (decode_datasource, decode_datasources):
        with pytest.raises(ping.DecodeError, match="GET x"):
            decode(body, "GET x")
