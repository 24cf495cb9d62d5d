"""A client where it lives: in test fixtures, web applications, notebooks, scripts, another loop.

Threads are in `test_sync.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import fastapi
import nbclient
import nbformat
import pytest
import uvloop
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import pingdata_async as ping
from tests.support.asgi import browsing

ADDRESS = "600 Dexter Avenue, Montgomery, AL 36130"


def python(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in which the sandbox is the usual API."""
    variables = {"PINGDATA_ASYNC_ENVIRONMENT": "sandbox", **variables}
    return subprocess.run(
        [sys.executable, "-W", "error", *words],
        check=False,
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


def test_pytest_asyncio(tmp_path: Path) -> None:
    """A plain fixture opens and closes the client, though its two halves may be two tasks."""
    (tmp_path / "test_mine.py").write_text(
        dedent(f"""
        import pytest_asyncio
        import pingdata_async as ping

        @pytest_asyncio.fixture
        async def enhancer():
            async with ping.PingDataClient() as client:
                yield ping.BulkEnhancer(client, ["PG"])

        async def test_one(enhancer):
            assert (await enhancer.enhance(["{ADDRESS}"]))[0].status == "ok"
        """)
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = python(
        *("-m", "pytest", "-q", "-p", "pytest_asyncio.plugin"),
        *("-o", "asyncio_default_fixture_loop_scope=function"),
        cwd=tmp_path,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.fixture
async def opened() -> AsyncIterator[ping.PingDataClient]:
    client = await ping.PingDataClient(environment="sandbox").open()
    yield client
    await client.aclose()


async def test_pytest_anyio(opened: ping.PingDataClient) -> None:
    """A fixture of anyio's plugin opens and closes it by hand."""
    assert (await opened.enhance(ADDRESS, sources=["PG"])).status == "ok"


@contextlib.asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[dict[str, ping.BulkEnhancer]]:
    async with ping.PingDataClient(environment="sandbox") as client:
        yield {"enhancer": ping.BulkEnhancer(client, ["PG"])}


async def test_fastapi() -> None:
    """The client lives as long as the application, and results become JSON."""
    app = fastapi.FastAPI(lifespan=lifespan)

    @app.post("/enhance")
    async def enhance(request: fastapi.Request, addresses: list[str]) -> list[dict[str, Any]]:
        return [each.to_dict() for each in await request.state.enhancer.enhance(addresses)]

    async with browsing(app) as browser:
        for _ in range(2):
            (row,) = (await browser.post("/enhance", json=[ADDRESS])).json()
            assert row["status"] == "ok"
            assert row["location_data"]["PG"]["latitude"]


async def test_starlette() -> None:
    """Likewise."""

    async def enhance(request: Request) -> JSONResponse:
        results = await request.state.enhancer.enhance(await request.json())
        return JSONResponse([each["PG"].latitude for each in results])

    app = Starlette(lifespan=lifespan, routes=[Route("/enhance", enhance, methods=["POST"])])
    async with browsing(app) as browser:
        assert (await browser.post("/enhance", json=[ADDRESS])).json()[0]


async def test_aiohttp_web() -> None:
    """It is opened on startup, closed on cleanup, and used by handlers between these."""
    key = web.AppKey("client", ping.PingDataClient)
    client = ping.PingDataClient(environment="sandbox")

    async def start(app: web.Application) -> None:
        app[key] = await client.open()

    async def stop(app: web.Application) -> None:
        await app[key].aclose()

    async def enhance(request: web.Request) -> web.Response:
        enhancer = ping.BulkEnhancer(request.app[key], ["PG"])
        results = await enhancer.enhance(await request.json())
        return web.json_response([each["PG"].latitude for each in results])

    app = web.Application()
    app.on_startup.append(start)
    app.on_cleanup.append(stop)
    app.router.add_post("/enhance", enhance)
    async with TestClient(TestServer(app)) as browser:
        answer = await browser.post("/enhance", json=[ADDRESS])
        assert (await answer.json())[0]
    assert "closed" in repr(client)


def test_a_script(tmp_path: Path) -> None:
    """`asyncio.run()` leaves nothing behind that Python warns of."""
    (tmp_path / "script.py").write_text(
        dedent(f"""
        import asyncio
        import pingdata_async as ping

        async def main():
            async with ping.PingDataClient() as client:
                async for result in ping.BulkEnhancer(client, ["PG"]).stream(["{ADDRESS}"] * 3):
                    print(result.status)
                    break

        asyncio.run(main(), debug=False)
        """)
    )
    done = python("-X", "dev", "script.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


def test_uvloop() -> None:
    """On another event loop, jobs and downloads work as on asyncio's."""

    async def main() -> tuple[str, str]:
        async with ping.PingDataClient(environment="sandbox") as client:
            (result,) = await ping.BulkEnhancer(client, ["PG"]).enhance([ADDRESS])
            return result.status, type(asyncio.get_running_loop()).__module__

    assert uvloop.run(main()) == ("ok", "uvloop")


@pytest.mark.large  # a kernel takes seconds to start
def test_jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells await, or call `sync` while the notebook's own loop runs; results show themselves."""
    monkeypatch.setenv("PINGDATA_ASYNC_ENVIRONMENT", "sandbox")
    monkeypatch.setenv("HOME", str(tmp_path))
    cells = [
        "import pingdata_async as ping\nfrom pingdata_async import sync",
        "client = await ping.PingDataClient().open()",
        f"results = await ping.BulkEnhancer(client, ['PG']).enhance(['{ADDRESS}'])\nresults",
        "await client.aclose()",
        f"sync.enhance(['{ADDRESS}'], 'PG')[0].status",
    ]
    code: Any = nbformat.v4  # it has no types
    notebook = code.new_notebook(cells=[code.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = [notebook.cells[number].outputs[-1].data["text/plain"] for number in (2, 4)]
    assert "EnhancedLocation" in shown[0]
    assert "ok" in shown[1]
