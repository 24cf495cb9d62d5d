"""The sandbox as a server on a socket."""

import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from aiohttp import web

from pingdata_async.sandbox.api import SandboxAPI
from pingdata_async.sandbox.settings import SandboxSettings
from pingdata_async.sandbox.stats import SandboxStats
from pingdata_async.sandbox.whole_numbers import check_whole

# Whoever leaves the sandbox does not wait for its clients; aiohttp's default is a minute.
_SHUTDOWN_TIMEOUT_S = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class SandboxServer(SandboxSettings):
    """An imitation of the Ping.Data API on a local port.

    Use it as ``async with SandboxServer() as sandbox:``. Leaving the block closes every
    connection and cancels what is being answered; the counts stay readable. The same object can
    be entered again: it still knows its jobs.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0: any free one.
        ssl_context: Serve https with it; None: http.

    Raises:
        ValueError: A setting is out of its range.
    """

    host: str = "127.0.0.1"
    port: int = 0
    ssl_context: ssl.SSLContext | None = None
    _api: SandboxAPI = field(init=False, repr=False)
    # A list because the settings around it are frozen: empty while the server is stopped.
    _runners: list[web.AppRunner] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_api", SandboxAPI(self))

    async def __aenter__(self) -> Self:
        if self._runners:
            raise RuntimeError("this sandbox is running already")
        # Bodies are unpacked by the handler, which can say what is wrong with them.
        runner = web.AppRunner(
            self._api.make_app(),
            access_log=None,
            auto_decompress=False,
            shutdown_timeout=_SHUTDOWN_TIMEOUT_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port, ssl_context=self.ssl_context).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runners.append(runner)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runners.pop().cleanup()

    @property
    def url(self) -> str:
        """The base url, without a slash at its end.

        Raises:
            RuntimeError: The server is not running.
        """
        if not self._runners:
            raise RuntimeError("the sandbox has a url only while it runs")
        host, port, *_ = cast("tuple[str, int]", self._runners[0].addresses[0])
        scheme = "https" if self.ssl_context else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def stats(self) -> SandboxStats:
        """What was asked of this sandbox so far."""
        return self._api.stats()

    def set_workers(self, workers: int) -> None:
        """Let that many jobs be worked on at once from now on.

        More workers take waiting jobs at once; of fewer, each ends the job that it has.

        Raises:
            ValueError: Fewer than one, or no whole number.
        """
        check_whole("workers", workers)
        self._api.set_workers(workers)
