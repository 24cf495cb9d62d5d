"""A sandbox on a free port, a client on it, and a look at what is left behind."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator

import pytest

import pingdata_async as ping
from pingdata_async.sandbox import SandboxServer
from tests.support.engine_harness import until


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxServer]:
    async with SandboxServer(locations_per_s=math.inf, queue_delay_s=0.003) as server:
        yield server


@pytest.fixture
async def client(sandbox: SandboxServer) -> AsyncIterator[ping.PingDataClient]:
    async with ping.PingDataClient(api_url=sandbox.url, auth_token="t") as client:
        yield client


@pytest.fixture
def enhancer(client: ping.PingDataClient) -> ping.BulkEnhancer:
    return make_enhancer(client)


def make_enhancer(client: ping.PingDataClient, *, late_after_s: float = 60.0) -> ping.BulkEnhancer:
    return ping.BulkEnhancer(
        client,
        ["PG"],
        chunk_size=10,
        max_jobs=4,
        poll_schedule=ping.PollSchedule(min_interval_s=0.005, max_interval_s=0.05),
        retry_policy=ping.RetryPolicy(
            base_delay_s=0.01, first_contact_s=0.05, late_after_s=late_after_s
        ),
    )


def client_tasks() -> set[asyncio.Task[object]]:
    """Tasks of this loop but for this one, and those of the sandbox and the test runner."""
    return {
        task
        for task in asyncio.all_tasks() - {asyncio.current_task()}
        if not getattr(task.get_coro(), "__qualname__", "").startswith(
            ("RequestHandler", "TestRunner")
        )
    }


class Traces:
    """What was there before, to be compared with what is there after."""

    def __init__(self, sandbox: SandboxServer) -> None:
        self._sandbox = sandbox
        self._before = client_tasks()

    async def are_gone(self, enhancer: ping.BulkEnhancer | None = None) -> None:
        """No task, no request under way, no slot taken, no warning; and all works again."""
        await until(lambda: client_tasks() <= self._before)
        await until(self._is_idle)
        # Warnings of finalizers are errors: pytest is told to make them so.
        gc.collect()
        if enhancer is not None:
            slots = enhancer._share.limiter
            assert not slots._in_flight
            assert not slots._waiting
            results = await enhancer.enhance([f"{n} Main Street" for n in range(45)])
            assert [result.row for result in results] == list(range(45))

    def _is_idle(self) -> bool:
        server = self._sandbox._runners[0].server
        assert server is not None
        return all(handler._current_request is None for handler in server.connections)


@pytest.fixture
async def traces(client: ping.PingDataClient, sandbox: SandboxServer) -> Traces:
    del client  # but let it be open before the first look
    return Traces(sandbox)
