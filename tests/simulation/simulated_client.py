"""A client whose bulk endpoints are simulated, for what needs a client rather than an API."""

from __future__ import annotations

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import Pacer
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.util.encoding import EncodedBody
from tests.simulation.paced_api import PacedAPI
from tests.simulation.simulated_api import SimulatedAPI


class SimulatedClient(PingDataClient):
    """A `PingDataClient` that asks a `SimulatedAPI`; opens no connection."""

    def __init__(self, api: SimulatedAPI) -> None:
        super().__init__(api_url="http://127.0.0.1:9", auth_token="simulated")
        self.api = api

    async def submit_body(self, body: bytes, *, pacer: Pacer | None = None) -> str:
        return await PacedAPI(self.api).submit_body(body, pacer=pacer)

    async def status(self, job_id: str, *, pacer: Pacer | None = None) -> JobStatus:
        return await PacedAPI(self.api).status(job_id, pacer=pacer)

    async def fetch_body(
        self,
        job_id: str,
        output: JobOutput,
        *,
        pacer: Pacer | None = None,
        max_bytes: int | None = None,
    ) -> EncodedBody:
        return await PacedAPI(self.api).fetch_body(job_id, output, pacer=pacer, max_bytes=max_bytes)
