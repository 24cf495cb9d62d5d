"""Real servers on free ports: an API that writes down what it sees, raw sockets, a proxy."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import anyio
import trustme
from aiohttp import web

from pingdata_async import PingDataClient
from pingdata_async.sandbox.server import LeaklessSite, stop_accepting

TOKEN = "tok-SECRET-0123456789"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def client_of(url: str, **options: Any) -> PingDataClient:
    usual: dict[str, Any] = {"auth_token": TOKEN, "max_retries": 0}
    return PingDataClient(api_url=url, **(usual | options))


@dataclass(frozen=True)
class Seen:
    method: str
    target: str  # path and query, byte for byte
    headers: Mapping[str, str]
    body: bytes
    connection: object

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


@dataclass
class LocalApi:
    """An http(s) server on 127.0.0.1 that answers as told, and keeps what it was asked."""

    answer: Answer
    tls: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    at_once: int = 0
    peak: int = 0
    _runners: list[web.AppRunner] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        # Bodies are kept as they came.
        runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.05)
        await runner.setup()
        await LeaklessSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        self._runners.append(runner)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runners.pop().cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")
        body = await request.read()
        self.seen.append(Seen(request.method, request.raw_path, request.headers, body, peer))
        self.at_once += 1
        self.peak = max(self.peak, self.at_once)
        try:
            return await self.answer(request)
        finally:
            self.at_once -= 1

    @property
    def port(self) -> int:
        port = self._runners[0].addresses[0][1]
        assert isinstance(port, int)
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len({seen.connection for seen in self.seen})


def always(payload: object = None, *, status: int = 200, **options: Any) -> Answer:
    """The same answer to everything: JSON, or with text= or body= whatever is given."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        if "text" in options or "body" in options:
            return web.Response(status=status, **options)
        return web.json_response(payload, status=status, **options)

    return answer


def by_path(answers: Mapping[str, Answer]) -> Answer:
    """An answer by the request's path; 404 for any other."""

    async def answer(request: web.Request) -> web.StreamResponse:
        chosen = answers.get(request.path)
        if chosen is None:
            return web.json_response({"message": f"nothing at {request.path}"}, status=404)
        return await chosen(request)

    return answer


def redirect(target: str, status: int = 302) -> Answer:
    return always(status=status, text="", headers={"Location": target})


async def never(_request: web.Request) -> web.StreamResponse:
    """Reads the request and says nothing."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def drop(request: web.Request) -> web.StreamResponse:
    """Reads the request and hangs up."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@dataclass
class RawServer:
    """A socket whose script writes whatever bytes it likes."""

    port: int
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.asynccontextmanager
async def raw_server(script: Script) -> AsyncIterator[RawServer]:
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        running.connections += 1
        try:
            await script(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the other side hung up, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    running = RawServer(server.sockets[0].getsockname()[1])
    try:
        yield running
    finally:
        await stop_accepting(server)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """A request's head and body, as they came."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head


def says(answer: bytes) -> Script:
    """Reads one request, writes these bytes, hangs up."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()

    return script


@dataclass
class ConnectProxy:
    """A CONNECT proxy that leads every name to one local port."""

    leads_to: int
    credentials: str | None = None
    refuses_with: str | None = None
    targets: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_request(reader)
        self.heads.append(head)
        self.targets.append(head.split(b" ")[1].decode())
        if self.refuses_with is not None:
            writer.write(f"HTTP/1.1 {self.refuses_with}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        if self.credentials is not None:
            wanted = b"Basic " + base64.b64encode(self.credentials.encode())
            if wanted not in head:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                return
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_pump, reader, inner_writer)
                tasks.start_soon(_pump, inner_reader, writer)
        finally:
            inner_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(1 << 16):
            writer.write(block)
            await writer.drain()
        writer.close()


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def _is_of_a_server(task: asyncio.Task[Any]) -> bool:
    name = getattr(task.get_coro(), "__qualname__", "")
    return name.startswith(("RequestHandler.", "raw_server."))


@contextlib.contextmanager
def leaves_no_task() -> Iterator[None]:
    """Fails when more tasks run at the end than at the beginning."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not _is_of_a_server(task)}
    assert not left, f"left running: {left}"
