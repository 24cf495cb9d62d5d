"""Permission is asked for each request, right before it is sent, of its own origin."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
import pytest
from aiohttp import web

from pingdata_async import JobOutput
from pingdata_async.api.config import Connection, Origin, origin
from pingdata_async.exceptions import APIStatusError, RateLimitError
from tests.support.engine_harness import until
from tests.support.servers import LocalApi, always, by_path, client_of, redirect

JOB = "/api/v1/bulk_enhance/J"
STATUS = {
    "request": {"status": "COMPLETE"},
    "result": {"status": "SUCCESS", "outputs": [{"url": "/fresh", "filename": "o.json"}]},
}


@dataclass
class Recorder:
    """A pacer that lets everything go, and keeps what it was asked and told."""

    asked: list[tuple[str, Origin | None]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    before: anyio.Event | None = None

    @contextlib.asynccontextmanager
    async def sending(
        self, kind: str, origin: Origin | None, connection: Connection
    ) -> AsyncIterator[None]:
        async with connection():
            self.asked.append((kind, origin))
            if self.before is not None:
                await self.before.wait()
            try:
                yield
            except APIStatusError as error:
                self.told.append(error.status_code)
                raise
            self.told.append(200)


@pytest.mark.anyio
async def test_each_request_of_a_download_is_asked_for_and_told_of() -> None:
    """The url that has moved and expired, the status for a fresh one, and that one."""
    async with LocalApi(by_path({"/gone": always(status=404)})) as storage:
        api = LocalApi(
            by_path(
                {
                    "/moved": redirect(f"{storage.url}/gone"),
                    JOB: always(STATUS),
                    "/fresh": always({}),
                }
            )
        )
        async with api, client_of(api.url) as client:
            pacer = Recorder()
            await client.fetch_body("J", JobOutput("/moved", "o.json"), pacer=pacer)
        assert len(pacer.asked) == len(api.seen) + len(storage.seen) == 4
        assert pacer.asked == [
            ("fetch", None),
            ("fetch", origin(storage.url)),
            ("poll", None),
            ("fetch", None),
        ]
        assert pacer.told == [200, 404, 200, 200]


@pytest.mark.anyio
async def test_a_submission_is_asked_for_and_its_refusal_told() -> None:
    """What the pacer hears is the error that the caller gets."""
    async with LocalApi(always(status=429)) as api, client_of(api.url) as client:
        pacer = Recorder()
        with pytest.raises(RateLimitError):
            await client.submit_body(b"{}", pacer=pacer)
        assert (pacer.asked, pacer.told) == ([("submit", None)], [429])


@pytest.mark.anyio
async def test_nothing_is_sent_before_permission_is_given_or_without_it() -> None:
    """With the connection at hand, and cancelled before that: the server sees nothing."""
    async with LocalApi(always({"id": "J"})) as api, client_of(api.url) as client:
        pacer = Recorder(before=anyio.Event())
        with anyio.move_on_after(0.05):
            await client.submit_body(b"{}", pacer=pacer)
        assert (len(pacer.asked), api.seen, pacer.told) == (1, [], [])


@pytest.mark.anyio
async def test_permission_is_asked_for_when_there_is_a_connection() -> None:
    """Whoever queues for one has not been let out yet."""
    let_go = anyio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        await let_go.wait()
        return web.json_response(STATUS)

    async with LocalApi(slow) as api, client_of(api.url, max_connections=1) as client:
        pacer = Recorder()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.status, "first")
            await until(lambda: bool(api.seen))
            with anyio.move_on_after(0.05):
                await client.status("second", pacer=pacer)
            assert not pacer.asked
            let_go.set()
        await client.status("second", pacer=pacer)
        assert pacer.asked == [("poll", None)]
