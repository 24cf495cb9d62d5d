"""A client whose bulk endpoints are simulated, for what needs a client rather than an API."""

from __future__ import annotations

from pingdata_async.bodies import OutputBody
from pingdata_async.client import PingDataClient
from pingdata_async.models import JobOutput, JobStatus
from tests.simulation.simulated_api import SimulatedAPI


class SimulatedClient(PingDataClient):
    """A `PingDataClient` that asks a `SimulatedAPI`; opens no connection."""

    def __init__(self, api: SimulatedAPI) -> None:
        super().__init__(api_url="http://127.0.0.1:9", auth_token="simulated")
        self.api = api

    async def submit_body(self, body: bytes) -> str:
        return await self.api.submit_body(body)

    async def status(self, job_id: str) -> JobStatus:
        return await self.api.status(job_id)

    async def fetch_body(self, job_id: str, output: JobOutput) -> OutputBody:
        return await self.api.fetch_body(job_id, output)
