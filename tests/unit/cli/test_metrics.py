"""Metrics for Prometheus, as its own parser reads them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from pingdata_async.cli.main import cli
from pingdata_async.cli.metrics import CONTENT_TYPE, serve_metrics
from pingdata_async.exceptions import ConfigurationError
from pingdata_async.sandbox import SandboxServer
from tests.support.commands import Command, run
from tests.support.ports import free_port
from tests.support.runs import lines, write_rows

LATER_S = 3600.0


async def scraped(url: str) -> dict[str, Any]:
    """The values by name and labels, `name{label=value}`."""
    async with httpx.AsyncClient(verify=False) as http:
        answer = await http.get(url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_the_format() -> None:
    """Counters are totals, buckets add up, and labels may hold anything."""
    async with serve_metrics("0") as (telemetry, url):
        telemetry.locations_charged.add(2, {"source": 'a "\\\n'})
        telemetry.locations_charged.add(3, {"source": 'a "\\\n'})
        for seconds in (0.1, 0.2, 4000.0, 9999.0):
            telemetry.queue_time.record(seconds)
        found = await scraped(url)
        async with httpx.AsyncClient(verify=False) as http:
            assert (await http.get(url.removesuffix("/metrics"))).status_code == 404
    assert found['pingdata_locations_charged_total a "\\\n'] == 5
    assert found["pingdata_queue_duration_seconds_bucket 0.1"] == 1
    assert found["pingdata_queue_duration_seconds_bucket 0.5"] == 2
    assert found["pingdata_queue_duration_seconds_bucket 7200"] == 3
    assert found["pingdata_queue_duration_seconds_bucket +Inf"] == 4
    assert found["pingdata_queue_duration_seconds_count"] == 4
    assert found["pingdata_queue_duration_seconds_sum"] == pytest.approx(13999.3)
    assert found["pingdata_rows_total ok"] == 0
    assert found["pingdata_jobs_in_flight"] == 0


async def test_a_run_is_scraped(tmp_path: Path) -> None:
    """While it goes on, and no longer; its numbers are those of the run."""
    rows, now = 4, [0.0]
    write_rows(tmp_path / "in.csv", rows)
    url = f"http://127.0.0.1:{(port := free_port())}/metrics"
    ended: list[Command] = []

    async def work(api_url: str) -> None:
        ended.append(
            await run(
                "enhance", tmp_path / "in.csv", "-o", tmp_path / "out.jsonl", "--sources", "PG,PH",
                "--chunk-size", 2, "--api-url", api_url, "--metrics-port", port,
            )
        )  # fmt: skip

    async with (
        SandboxServer(clock=lambda: now[0], queue_delay_s=0.0) as sandbox,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(work, sandbox.url)
        found: dict[str, Any] = {}
        while found.get("pingdata_jobs_in_flight") != 2:
            await anyio.sleep(0.1)
            try:
                found = await scraped(url)
            except httpx.ConnectError:  # it has not begun
                assert not ended
        assert found["pingdata_locations_charged_total PG"] == rows
        assert found["pingdata_locations_charged_total PH"] == rows
        assert found["pingdata_rows_total ok"] == 0
        now[0] += LATER_S
    (command,) = ended
    assert command.code == 0, command.err
    assert f"Metrics: {url}" in command.err
    assert len(lines(tmp_path / "out.jsonl")) == rows
    with pytest.raises(httpx.ConnectError):
        await scraped(url)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".test", "a\0b"])
async def test_a_host_that_cannot_be_a_name(host: str) -> None:
    """It is refused as one that does not exist."""
    with pytest.raises(ConfigurationError, match="metrics cannot be served at"):
        async with serve_metrics(f"{host}:0"):
            pass


HOSTILE = (
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000,
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
    b"\x16\x03\x01\x00",
)


async def test_strangers_at_the_port(caplog: pytest.LogCaptureFixture) -> None:
    """They are not worth a message, and nothing of theirs outlives a run, even a cancelled one."""
    before = asyncio.all_tasks()
    with anyio.CancelScope() as scope:
        async with contextlib.AsyncExitStack() as connections, serve_metrics("0") as (_, url):
            for sent in HOSTILE:
                stream = await anyio.connect_tcp("127.0.0.1", int(url.split(":")[2].split("/")[0]))
                await connections.enter_async_context(stream)
                await stream.send(sent)
            await scraped(url)
            scope.cancel()
    assert asyncio.all_tasks() == before
    assert not [each for each in caplog.records if each.name.startswith("aiohttp")]


async def test_a_port_in_use(tmp_path: Path) -> None:
    """One line, and nothing is planned, sent or paid."""
    write_rows(tmp_path / "in.csv", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = await run(
            "enhance", tmp_path / "in.csv", "-o", tmp_path / "out.jsonl", "--sources", "PG",
            "--environment", "sandbox", "--metrics-port", port,
        )  # fmt: skip
    assert command.code == 2
    (line,) = command.err.splitlines()
    assert line.startswith(f"Error: metrics cannot be served at 127.0.0.1:{port}")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize("text", ["http", "70000", "localhost:", "-1", "9" * 5000])
def test_what_is_no_port(text: str) -> None:
    """It is refused as usage."""
    words = ["resume", "out.run", f"--metrics-port={text}"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert "neither a port nor HOST:PORT" in done.stderr
