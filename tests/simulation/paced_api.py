"""What stands between an engine and a simulated API: asks before each request, as a client does."""

from __future__ import annotations

import contextlib
from typing import Protocol

from pingdata_async.api.client import PingDataClient
from pingdata_async.api.config import Origin, Pacer, origin
from pingdata_async.models import JobOutput, JobStatus, RequestKind
from pingdata_async.util.encoding import EncodedBody, too_large


class Endpoints(Protocol):
    """What a simulated API answers to."""

    async def submit_body(self, body: bytes) -> str:
        """Accept a job."""
        ...

    async def status(self, job_id: str) -> JobStatus:
        """Say how far a job is."""
        ...

    async def fetch_body(self, job_id: str, output: JobOutput) -> EncodedBody:
        """Give an output."""
        ...


class PacedAPI:
    """A `BulkAPI` whose requests go to a simulated API; connections are not scarce."""

    def __init__(self, api: Endpoints) -> None:
        self._api = api

    async def submit_body(self, body: bytes, *, pacer: Pacer | None = None) -> str:
        async with _permission(RequestKind.SUBMIT, pacer):
            return await self._api.submit_body(body)

    async def status(self, job_id: str, *, pacer: Pacer | None = None) -> JobStatus:
        async with _permission(RequestKind.POLL, pacer):
            return await self._api.status(job_id)

    async def fetch_body(
        self,
        job_id: str,
        output: JobOutput,
        *,
        pacer: Pacer | None = None,
        max_bytes: int | None = None,
    ) -> EncodedBody:
        async with _permission(RequestKind.FETCH, pacer, _origin_of(output)):
            body = await self._api.fetch_body(job_id, output)
        if max_bytes is not None and len(body.raw) > max_bytes:
            raise too_large("an output", max_bytes)
        return body


class SimulatedClient(PacedAPI, PingDataClient):
    """A `PingDataClient` whose bulk endpoints are simulated; opens no connection."""

    def __init__(self, api: Endpoints) -> None:
        PacedAPI.__init__(self, api)
        PingDataClient.__init__(self, api_url="http://127.0.0.1:9", auth_token="simulated")


def _permission(
    kind: RequestKind, pacer: Pacer | None, origin: Origin | None = None
) -> contextlib.AbstractAsyncContextManager[None]:
    if pacer is None:
        return contextlib.nullcontext()
    return pacer.sending(kind, origin, contextlib.nullcontext)


def _origin_of(output: JobOutput) -> Origin | None:
    return origin(output.url) if "://" in output.url else None
