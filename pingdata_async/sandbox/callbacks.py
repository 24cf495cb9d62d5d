"""Tells whoever asked for it with ``callback_url`` that a job has ended.

The payload of the real API is not documented; this one is ``{"id": ..., "status": ...}``, with
the status that the job shows. It is sent once, best effort: who does not take it within five
seconds, redirects or refuses is not asked again. No token goes with it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import aiohttp
import msgspec

from pingdata_async.sandbox.jobs import Job
from pingdata_async.sandbox.stats import SandboxStats

_TIMEOUT: Final = aiohttp.ClientTimeout(total=5.0)
_AT_ONCE: Final = 8
# The jobs follow a clock that may be turned by hand: it has to be looked at.
_LOOK_S: Final = 0.05
_REFUSED: Final = 300


class Callbacks:
    """Posts them from one task, which is there only once a job has asked for it.

    Args:
        settle: Looks at the clock, and calls :meth:`ended` for every job that has ended.
        counts: Where it is counted what became of them.
    """

    def __init__(self, settle: Callable[[], object], counts: SandboxStats) -> None:
        self._settle = settle
        self._counts = counts
        self._expected = 0
        self._due: deque[tuple[str, dict[str, str]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def expect(self) -> None:
        """A job was accepted that wants to be called back."""
        self._expected += 1
        self.start()

    def ended(self, job: Job) -> None:
        """A job is in flight no more; nobody is told of one that was lost."""
        if job.callback_url is None:
            return
        self._expected -= 1
        if not job.is_lost:
            status = job.status(job.ended_at_s)
            self._due.append((job.callback_url, {"id": job.id, "status": status}))

    def start(self) -> None:
        """Go on with what is still to be told, if anything is."""
        if not (self._expected or self._due):
            return
        if self._task is None:
            self._wake = asyncio.Event()
            self._task = asyncio.create_task(self._run())
        self._wake.set()

    async def stop(self) -> None:
        """Leave nothing running; what is being sent is given up, the rest can go on later."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                if not (self._expected or self._due):
                    self._wake.clear()
                    await self._wake.wait()
                self._settle()
                while self._due:
                    await slots.acquire()
                    group.create_task(self._post(session, slots, *self._due.popleft()))
                await asyncio.sleep(_LOOK_S)

    async def _post(
        self,
        session: aiohttp.ClientSession,
        slots: asyncio.Semaphore,
        url: str,
        payload: dict[str, str],
    ) -> None:
        is_taken = False
        try:
            if url.lower().startswith(("http://", "https://")):
                headers = {"Content-Type": "application/json"}
                body = msgspec.json.encode(payload)
                async with session.post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    is_taken = response.status < _REFUSED
        except (aiohttp.ClientError, OSError, ValueError):  # time-outs are OSErrors
            pass
        finally:
            slots.release()
        self._counts.callbacks["delivered" if is_taken else "failed"] += 1
