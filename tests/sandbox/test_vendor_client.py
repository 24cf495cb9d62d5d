"""The vendor's own client, unchanged, against the sandbox."""

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from pingintel_api.pingdata.pingdata_api_client import PingDataAPIClient
from pingintel_api.pingdata.types import SOURCES as VENDOR_SOURCES

from pingdata_async.sandbox import SandboxServer
from pingdata_async.sandbox.answers import SOURCES
from tests.sandbox.caller import ADDRESS, addresses


class Vendor:
    """Makes the vendor's client, which has no close(), and closes its session."""

    def __init__(self) -> None:
        self.clients: list[PingDataAPIClient] = []

    def __call__(self, sandbox: SandboxServer) -> PingDataAPIClient:
        self.clients.append(PingDataAPIClient(api_url=sandbox.url, auth_token="any"))
        return self.clients[-1]


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    # It writes outputs to the current directory.
    monkeypatch.chdir(tmp_path)
    # It would ask a proxy of this machine for 127.0.0.1.
    monkeypatch.setenv("NO_PROXY", "*")
    maker = Vendor()
    yield maker
    for client in maker.clients:
        client.session.close()


@pytest.mark.parametrize("number", [3, 2000])
async def test_bulk_enhance_fetches_outputs(vendor: Vendor, tmp_path: Path, number: int) -> None:
    """A small job, and one that the client compresses: both end as a file with every id."""
    async with SandboxServer(locations_per_s=20_000, no_match_share=0) as sandbox:
        client = vendor(sandbox)
        answer = await anyio.to_thread.run_sync(
            lambda: client.bulk_enhance(
                locations=addresses(number),
                sources=["PG", "PH"],
                fetch_outputs=True,
                poll_seconds=0.05,
                verbose=0,
            )
        )
        assert answer["success"] is True
        [output] = answer["output_files"]
        written = anyio.Path(tmp_path / output["local_filepath"])
        body = await written.read_bytes()
        assert list(json.loads(body)) == [location["id"] for location in addresses(number)]
        assert sandbox.stats.locations_accepted == number

        again = await anyio.to_thread.run_sync(
            lambda: client.fetch_bulk_enhance_output(
                answer["id"], output["filename"], str(tmp_path / "again.json")
            )
        )
        assert again == body == await anyio.Path(tmp_path / "again.json").read_bytes()


async def test_enhance_answers_one_location(vendor: Vendor) -> None:
    """Every kind of query parameter that the client makes is understood."""
    async with SandboxServer(no_match_share=0) as sandbox:
        client = vendor(sandbox)
        answer = await anyio.to_thread.run_sync(
            lambda: client.enhance(
                sources=["PG", "PH"],
                timeout=5,
                include_raw_response=True,
                nocache=True,
                delegate_to="AMWNS",
                address=ADDRESS,
                latitude=38.8977,
                longitude=-77,
                const__num_stories=4,
                dtc_return_connected_coastlines=True,
                county=None,
            )
        )
        assert list(answer["location_data"]) == ["PG", "PH"]
        geocoded = answer["location_data"]["PG"]
        assert geocoded["formatted_address"] == f"{ADDRESS}, USA"
        assert (geocoded["latitude"], geocoded["longitude"]) == (38.8977, -77.0)
        assert geocoded["raw_response"] == {"worker_name": "sandbox"}
        assert geocoded["is_cache_hit"] is False
        assert answer["location_data"]["PH"]["bldg_num_stories"] == 4


async def test_usage_and_datasources(vendor: Vendor) -> None:
    """get_usage, list_datasources and get_datasource get what their types say."""
    async with SandboxServer() as sandbox:
        client = vendor(sandbox)
        await anyio.to_thread.run_sync(lambda: client.enhance(sources=["PG"], address=ADDRESS))
        usage = await anyio.to_thread.run_sync(lambda: client.get_usage(start="-1h"))
        assert usage["granularity"] == "5m"
        assert usage["totals"] == {"PG": 1, "total": 1}
        configs = (await anyio.to_thread.run_sync(client.list_datasources))["configs"]
        assert configs["PH"]["source_name"] == "Ping Hazard"
        config = await anyio.to_thread.run_sync(lambda: client.get_datasource(code="ph"))
        assert config["config"] == configs["PH"]


def test_all_sources_of_the_vendor_are_known() -> None:
    """The sandbox's list of codes and names is the vendor's."""
    theirs = tuple((source.value, source.description) for source in VENDOR_SOURCES)
    assert theirs == SOURCES
