"""A real browser without a network: headless Chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import aiohttp
import anyio
import anyio.abc
import anyio.to_thread

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STARTS_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 60.0
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """A tab.

    Attributes:
        requests: The urls that it asked for, but for its own file.
        errors: What its console said, and what its scripts raised.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._socket = socket
        self._number = 0

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            with anyio.fail_after(ANSWERS_WITHIN_S):
                said = await self._socket.receive_json()
            if said.get("id") == self._number:
                assert "error" not in said, said["error"]
                return said["result"]
            self._note(said.get("method"), said.get("params"))

    def _note(self, method: str, params: Any) -> None:
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith("data:"):
                self.requests.append(url)
        elif method in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled"}:
            self.errors.append(str(params))
        elif method == "Log.entryAdded":
            self.errors.append(f"{params['entry']['text']} {params['entry'].get('url')}")

    async def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def show(
        self, path: Path, *, width: int = 1280, media: str = "", dark: bool = False
    ) -> None:
        """Open a file in a window of a width, and wait until its charts are drawn."""
        self.requests.clear()
        self.errors.clear()
        await self.resize(width)
        await self.media(media, dark=dark)
        await self.call("Page.navigate", url=path.as_uri())
        with anyio.fail_after(ANSWERS_WITHIN_S):
            while not await self.value("document.documentElement?.dataset?.drawn"):  # noqa: ASYNC110 - in another process
                await anyio.sleep(0.02)

    async def resize(self, width: int, height: int = 900) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    async def media(self, media: str = "", *, dark: bool = False) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    async def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def picture(self, clip: dict[str, float] | None = None, format: str = "png") -> bytes:  # noqa: A002 - the protocol's name
        """The whole page, or a part of it."""
        more: dict[str, Any] = {} if clip is None else {"clip": {**clip, "scale": 1}}
        found = await self.call(
            "Page.captureScreenshot", format=format, captureBeyondViewport=True, **more
        )
        return base64.b64decode(found["data"])


@contextlib.asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """A tab of a browser of its own, which ends with it."""
    assert CHROMIUM, "there is no Chromium"
    folder = Path(tempfile.mkdtemp(prefix="chromium"))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    environment = os.environ | {"HOME": str(folder)}
    try:
        async with await anyio.open_process(
            command, stdout=DEVNULL, stderr=DEVNULL, env=environment
        ) as process:
            try:
                url = await _page_url(folder / "DevToolsActivePort", process)
                async with (
                    aiohttp.ClientSession() as session,
                    session.ws_connect(url, max_msg_size=0) as socket,
                ):
                    page = Page(socket)
                    for domain in ("Page", "Network", "Runtime", "Log"):
                        await page.call(f"{domain}.enable")
                    await page.call(
                        "Network.emulateNetworkConditions",
                        offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
                    )  # fmt: skip
                    yield page
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _page_url(told: Path, process: anyio.abc.Process) -> str:
    """Where the tab is spoken to; the browser writes its port into a file."""
    with anyio.fail_after(STARTS_WITHIN_S):
        while not await anyio.to_thread.run_sync(told.exists) or not told.read_text().strip():
            assert process.returncode is None, "the browser ended"
            await anyio.sleep(0.02)
        port = told.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    for each in await answer.json(content_type=None):
                        if each["type"] == "page":
                            return str(each["webSocketDebuggerUrl"])
                await anyio.sleep(0.02)
