"""An API over bare sockets, whose answers can be any bytes; and the real command against it."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio

from tests.support import warm_commands
from tests.support.probes import PEAK_MB
from tests.support.servers import read_request

Write = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]

# The command, with a client that loses patience sooner than users' do.
IMPATIENT = (
    PEAK_MB
    + """
from pingdata_async import PingDataClient, RetryPolicy
PingDataClient.__init__.__kwdefaults__.update({settings})
RetryPolicy.__init__.__kwdefaults__.update({policy})
from pingdata_async.__main__ import main
try:
    main()
finally:
    Path({peak!r}).write_text(str(peak_mb()))
"""
)


def answer(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer, after which the connection is closed."""
    head = [b"HTTP/1.1 " + status, b"Connection: close", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, *headers, b"", body])


def as_json(payload: object) -> bytes:
    return answer(json.dumps(payload).encode(), b"Content-Type: application/json")


async def well(writer: asyncio.StreamWriter, body: bytes) -> None:
    """An answer as it should be."""
    writer.write(answer(body))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def malformed_chunk(writer: asyncio.StreamWriter, body: bytes) -> None:
    """One good chunk, then a header that is none; the connection stays open."""
    half = len(body) // 2
    writer.write(CHUNKED + b"%x\r\n%b\r\n" % (half, body[:half]))
    await writer.drain()
    await asyncio.sleep(0.05)  # so that the head is taken by itself
    writer.write(b"zz;\r\n" + body[half:])
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Nearly all, and then a byte now and again."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + body)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def continue_for_ever(writer: asyncio.StreamWriter, _body: bytes) -> None:
    """No answer at all, but the promise of one without end."""
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


class RawApi:
    """Jobs that are complete at once; what goes wrong is up to whoever writes the answers.

    Args:
        write_output: Writes the n-th answer to a request for an output, given what it should be;
            the last one all that follow.
        write_submission: Likewise, of submissions.
        output_url: The url of a job's output, of which `{job}` is the id.
    """

    def __init__(
        self,
        *,
        write_output: tuple[Write, ...] = (well,),
        write_submission: tuple[Write, ...] = (well,),
        write_status: tuple[Write, ...] = (well,),
        output_url: str = "/api/v1/sov/{job}/output/o.json",
    ) -> None:
        self._writers = {
            "output": write_output,
            "submission": write_submission,
            "status": write_status,
        }
        self._output_url = output_url
        self._jobs: dict[str, list[str]] = {}
        self.targets: list[str] = []
        self.counts = dict.fromkeys(self._writers, 0)

    @property
    def charged(self) -> int:
        """Locations of all jobs."""
        return sum(map(len, self._jobs.values()))

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, body = (await read_request(reader)).partition(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.targets.append(target)
        path = target.partition("?")[0]
        job = path.removeprefix("/api/v1/bulk_enhance/")
        if method == "POST":
            if b"content-encoding: gzip" in head.lower():
                body = gzip.decompress(body)
            job = f"job-{len(self._jobs)}"
            self._jobs[job] = [each["id"] for each in json.loads(body)["locations"]]
            await self._write("submission", writer, {"id": job, "message": "OK"})
        elif "/output/" in path:
            job = path.split("/")[-3]
            found = {"PG": {"is_success": True, "latitude": 1.5}}
            await self._write("output", writer, dict.fromkeys(self._jobs[job], found))
        elif job in self._jobs:
            outputs = [{"url": self._output_url.format(job=job), "filename": "o.json"}]
            result = {"status": "SUCCESS", "outputs": outputs}
            await self._write(
                "status", writer, {"request": {"status": "COMPLETE"}, "result": result}
            )
        else:
            writer.write(answer(b"{}", status=b"404 Not Found"))
        await writer.drain()

    async def _write(self, kind: str, writer: asyncio.StreamWriter, payload: object) -> None:
        writers = self._writers[kind]
        write = writers[min(self.counts[kind], len(writers) - 1)]
        self.counts[kind] += 1
        await write(writer, json.dumps(payload, separators=(",", ":")).encode())


class Done:
    """How a command ended."""

    def __init__(self, code: int, err: str, output: Path, peak_mb: int) -> None:
        self.code, self.err, self.peak_mb = code, err, peak_mb
        text = output.read_text() if output.exists() else ""
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]

    @property
    def statuses(self) -> list[str]:
        return [row["status"] for row in self.rows]


async def enhance(
    url: str,
    folder: Path,
    *options: object,
    rows: int = 6,
    environ: Mapping[str, str] | None = None,
    command: str = "enhance",
    policy: Mapping[str, object] | None = None,
    is_warm: bool = True,
    **settings: object,
) -> Done:
    """`pingdata-async enhance` of some addresses, in a process of its own.

    Args:
        url: Where the API is.
        folder: For input and output.
        options: Further words of the command.
        rows: How many addresses.
        environ: Further variables.
        command: `enhance`, or what is to be done with the run of an earlier one.
        policy: How often things are tried, other than by default.
        is_warm: Fork a process that has imported more than it needs: not to measure its memory.
        settings: Of the client, other than their defaults.
    """
    source, output = folder / "in.csv", folder / "out.jsonl"
    source.write_text("address\n" + "".join(f"{n} Main St, Boston, MA\n" for n in range(rows)))
    peak = folder / "peak"
    code = IMPATIENT.format(settings=repr(settings), policy=repr(policy or {}), peak=str(peak))
    words = ("enhance", source, "-o", output, "-s", "PG", "-u", url, *options)
    if command != "enhance":
        words = (command, f"{output}.run", *options)
    given = [str(word) for word in words]
    environ = {**os.environ, "PING_DATA_AUTH_TOKEN": "right", **(environ or {})}
    with anyio.fail_after(600):  # of a busy machine
        if is_warm and warm_commands.can_run(environ):
            exit_code, _, err = await warm_commands.run(given, environ, code=code)
        else:
            process = await anyio.run_process(
                [sys.executable, "-W", "error", "-c", code, *given], check=False, env=environ
            )
            exit_code, err = process.returncode, process.stderr
    return Done(exit_code, err.decode(), output, int(peak.read_text()))
