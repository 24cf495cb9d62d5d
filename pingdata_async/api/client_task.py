"""ClientTask: the task in which the connections and the streams of an open client live.

A task group and its cancel scope belong to the task that entered them. If that were the task that
opens the client, the same task would have to close it, and clients would have to be closed in the
reverse order: test fixtures and web frameworks do neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from pingdata_async.api.config import ClientSettings
from pingdata_async.api.transport import Transport
from pingdata_async.exceptions import ClientClosedError

NOT_OPEN = 'the client is not open; use "async with PingDataClient()", or await its open()'


class ClientTask:
    """Opens everything, and closes it again when it is asked to.

    Args:
        find_settings: Gives the settings, with the url of the sandbox that was started, if any.
            Called in a thread, as it reads files.
        starts_sandbox: Whether to start one.

    Attributes:
        is_held: Whether `open()` opened the client, so that only `aclose()` closes it.
        is_closing: Whether it is of no use any more.
    """

    def __init__(
        self, find_settings: Callable[[str | None], ClientSettings], *, starts_sandbox: bool
    ) -> None:
        self._find_settings = find_settings
        self._starts_sandbox = starts_sandbox
        self.is_held = False
        self.is_closing = False
        self._loop = asyncio.get_running_loop()
        self._settled = anyio.Event()  # open, or failed to open
        self._closing = anyio.Event()
        self._ended = anyio.Event()
        self._error: BaseException | None = None
        self._settings: ClientSettings | None = None
        self._transport: Transport | None = None
        self._tasks: TaskGroup | None = None
        # A plain asyncio task: no scope in which the client is opened may cancel it.
        self._task = asyncio.create_task(self._live(), name="pingdata_async client")

    async def opened(self) -> None:
        """Wait until everything is open.

        Raises:
            PingDataError: When it cannot be opened.
        """
        self.check_loop()
        await self._settled.wait()
        if self._error is not None:
            raise self._error
        if self._transport is None:  # the event loop is being closed
            raise ClientClosedError(NOT_OPEN)

    async def aclose(self) -> None:
        """End all streams and close all connections; returns when that is done.

        Raises:
            BaseExceptionGroup: Errors that were not handled in the task group.
        """
        if not self._ended.is_set():
            self.check_loop()
            self.is_closing = True
            self._closing.set()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
        if self._tasks is not None and self._error is not None:
            error, self._error = self._error, None  # once is enough
            raise error

    def check_loop(self) -> None:
        """Refuse to be used from another event loop than that of the task.

        Raises:
            ClientClosedError: When it is another one.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise ClientClosedError(
                "the client was opened in another event loop; open one in each loop that needs one"
            )

    @property
    def is_open(self) -> bool:
        """Whether calls can be made."""
        return self._transport is not None and not self.is_closing

    @property
    def settings(self) -> ClientSettings:
        """The settings that were found; also outside of the event loop.

        Raises:
            ClientClosedError: When it is not open.
        """
        if self._settings is None or not self.is_open:
            raise ClientClosedError(NOT_OPEN)
        return self._settings

    @property
    def transport(self) -> Transport:
        """The connections.

        Raises:
            ClientClosedError: When it is not open, or open in another event loop.
        """
        self._check_open()
        assert self._transport is not None  # noqa: S101 - for type checkers
        return self._transport

    @property
    def tasks(self) -> TaskGroup:
        """The task group of the streams; raises as `transport`."""
        self._check_open()
        assert self._tasks is not None  # noqa: S101 - for type checkers
        return self._tasks

    def _check_open(self) -> None:
        if not self.is_open:
            raise ClientClosedError(NOT_OPEN)
        self.check_loop()

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                url = await _start_sandbox(stack) if self._starts_sandbox else None
                self._settings = await anyio.to_thread.run_sync(self._find_settings, url)
                transport = await stack.enter_async_context(Transport(self._settings))
                try:
                    async with anyio.create_task_group() as tasks:
                        self._transport, self._tasks = transport, tasks
                        self._settled.set()
                        await self._closing.wait()
                        # Streams see a cancellation, other requests ClientClosedError.
                        tasks.cancel_scope.cancel("the client is closed")
                finally:
                    self.is_closing = True
        except Exception as error:  # noqa: BLE001 - raised where it is opened or closed
            self._error = error
        finally:
            self.is_closing = True
            self._settled.set()
            self._ended.set()


async def _start_sandbox(stack: AsyncExitStack) -> str:
    from pingdata_async.sandbox import SandboxServer  # noqa: PLC0415 - loads a web server

    server = await stack.enter_async_context(SandboxServer())
    return server.url
