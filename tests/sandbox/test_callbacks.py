"""callback_url: who asked for it is told of a job's end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pingdata_async.sandbox import FaultPlan, SandboxServer
from pingdata_async.sandbox import server as callbacks
from pingdata_async.sandbox.server import LeaklessSite
from tests.sandbox.caller import Caller, Clock, addresses, calling
from tests.support.probes import until


@dataclass
class Receiver:
    url: str = ""
    status: int = 200
    got: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    headers: list[dict[str, str]] = field(default_factory=list)
    # Those that are being answered wait for it.
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    most_waiting: int = 0

    async def receive(self, request: web.Request) -> web.Response:
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            self.headers.append(dict(request.headers))
            await self.got.put(await request.json())
            await self.may_answer.wait()
        finally:
            self.waiting -= 1
        return web.Response(status=self.status, headers={"Location": self.url})


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    receiver.may_answer.set()
    app = web.Application()
    app.router.add_post("/done", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await LeaklessSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/done"
        yield receiver
    finally:
        await runner.cleanup()


async def submit(caller: Caller, url: str) -> str:
    data = {"locations": addresses(1), "sources": ["PG"], "callback_url": url}
    answer = await caller.post(data)
    assert answer.status == 201
    job_id = answer.json["id"]
    assert isinstance(job_id, str)
    return job_id


async def test_the_end_of_a_job_is_posted_once(clock: Clock) -> None:
    """Not before it has ended, by the sandbox's clock; with its id and status, without a token."""
    async with receiving() as receiver, calling(SandboxServer(clock=clock, job_s=10)) as caller:
        first = await submit(caller, receiver.url)
        clock.advance(9)
        await caller.status(first)
        assert receiver.got.empty()
        clock.advance(2)
        assert await asyncio.wait_for(receiver.got.get(), 60) == {"id": first, "status": "COMPLETE"}
        assert "Authorization" not in receiver.headers[0]
        second = await submit(caller, receiver.url)
        clock.advance(100)
        assert (await asyncio.wait_for(receiver.got.get(), 60))["id"] == second
        await until(lambda: caller.sandbox.stats.callbacks == {"delivered": 2})
        assert receiver.got.empty()


async def test_failed_jobs_are_told_and_lost_ones_are_not(clock: Clock) -> None:
    """FAILED where the status says so; nobody calls for a job that is forgotten."""
    plan = FaultPlan(poison_job="Main", lost_job=1)
    async with receiving() as receiver, calling(SandboxServer(clock=clock, faults=plan)) as caller:
        statuses = {}
        for _ in range(10):
            job_id = await submit(caller, receiver.url)
            clock.advance(100)
            statuses[job_id] = (await caller.status(job_id))["request"]["status"]
        await until(lambda: caller.sandbox.stats.callbacks.total() == 10)
        told = [receiver.got.get_nowait() for _ in range(10)]
        assert {entry["id"]: entry["status"] for entry in told} == statuses
        assert set(statuses.values()) == {"COMPLETE", "FAILED"}
    lost = SandboxServer(clock=clock, faults=FaultPlan(lost_job=1), seed=1)
    async with receiving() as receiver, calling(lost) as caller:
        for _ in range(20):
            await submit(caller, receiver.url)
        clock.advance(100)
        await until(lambda: lost.stats.callbacks.total() == lost.stats.jobs_done > 0)
        assert lost.stats.jobs_done < 20


@pytest.mark.parametrize("status", [307, 404, 500])
async def test_a_refusal_is_counted_and_forgotten(clock: Clock, status: int) -> None:
    """It is not tried again, and a redirect is not followed."""
    async with receiving() as receiver, calling(SandboxServer(clock=clock)) as caller:
        receiver.status = status
        await submit(caller, receiver.url)
        clock.advance(100)
        await until(lambda: caller.sandbox.stats.callbacks == {"failed": 1})
        assert len(receiver.headers) == 1


@pytest.mark.parametrize(
    "url",
    ["", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "http://[", "http://127.0.0.1:1/"],
)
async def test_what_cannot_be_called_is_no_harm(clock: Clock, url: str) -> None:
    """The job is done all the same, and so are later callbacks."""
    async with receiving() as receiver, calling(SandboxServer(clock=clock)) as caller:
        for at in (url, receiver.url):
            job_id = await submit(caller, at)
            clock.advance(100)
            assert (await caller.status(job_id))["request"]["status"] == "COMPLETE"
        await until(lambda: caller.sandbox.stats.callbacks == {"failed": 1, "delivered": 1})


async def test_few_are_called_at_once(clock: Clock) -> None:
    """A slow receiver of many jobs has eight connections, and gets them all in the end."""
    async with receiving() as receiver, calling(SandboxServer(clock=clock)) as caller:
        receiver.may_answer.clear()
        for _ in range(20):
            await submit(caller, receiver.url)
        clock.advance(1000)
        await until(lambda: receiver.waiting == 8)
        receiver.may_answer.set()
        await until(lambda: caller.sandbox.stats.callbacks == {"delivered": 20})
        assert receiver.most_waiting == 8


async def test_nothing_is_left_behind(clock: Clock) -> None:
    """Stopping does not wait for a slow receiver, nor for a job to end."""
    before = asyncio.all_tasks()
    async with receiving() as receiver, asyncio.timeout(60):
        receiver.may_answer.clear()
        async with calling(SandboxServer(clock=clock)) as caller:
            for _ in range(9):
                await submit(caller, receiver.url)
            clock.advance(1000)
            await until(lambda: receiver.waiting == 8)
            await submit(caller, receiver.url)
        receiver.may_answer.set()
        await until(lambda: not receiver.waiting)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_who_does_not_answer_is_given_up(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the time-out, which is five seconds, the callback has failed."""
    assert callbacks._CALLBACK_TIMEOUT.total == 5
    monkeypatch.setattr(callbacks, "_CALLBACK_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    async with receiving() as receiver, calling(SandboxServer(clock=clock)) as caller:
        receiver.may_answer.clear()
        await submit(caller, receiver.url)
        clock.advance(100)
        await until(lambda: caller.sandbox.stats.callbacks == {"failed": 1})


async def test_without_a_callback_there_is_no_task(clock: Clock) -> None:
    """Who does not use it does not pay for it."""
    async with calling(SandboxServer(clock=clock)) as caller:
        await caller.submit(addresses(1))
        assert not caller.sandbox._api._callbacks
