"""A sandbox that works at once, and a client of it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    async with SandboxServer(locations_per_s=math.inf, queue_delay_s=0.0) as server:
        yield server


@pytest.fixture
async def client(sandbox: SandboxServer) -> AsyncIterator[ping.PingDataClient]:
    async with ping.PingDataClient(api_url=sandbox.url, auth_token="t") as client:
        yield client
