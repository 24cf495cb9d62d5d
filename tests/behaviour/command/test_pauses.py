"""What the command does when the API, or the host of its outputs, asks for a pause."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from aiohttp import web

from pingdata_async import RunStatus, read_status
from tests.support.commands import ADDRESSES, Command, run
from tests.support.servers import LocalApi, always

CHUNK_SIZE = 10


class PausingApi:
    """A server that accepts a few jobs and then answers submissions with something else.

    Args:
        accepts: So many jobs.
        refusal: What the submissions after them are answered with; None for a job each.
        polls: Of each job, until it is done.
        outputs_at: Where outputs are; "" for the API itself.
    """

    def __init__(
        self,
        accepts: int,
        refusal: web.Response | None = None,
        *,
        polls: int = 2,
        outputs_at: str = "",
    ) -> None:
        self._accepts = accepts
        self._refusal = refusal
        self._polls = polls
        self._outputs_at = outputs_at
        self._numbers = itertools.count()
        self._jobs: dict[str, list[str]] = {}
        self.submissions = 0
        self.asked = Counter[str]()
        self.fetched: list[str] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        job_id = request.path.split("/")[4] if request.path.count("/") > 3 else ""
        if request.method == "POST":
            return await self._submitted(request)
        if request.path.endswith("/o.json"):
            self.fetched.append(job_id)
            return web.json_response(
                {wire_id: {"PG": {"is_success": True}} for wire_id in self._jobs[job_id]}
            )
        if job_id:
            return self._status(job_id)
        return web.json_response({}, status=404)

    async def _submitted(self, request: web.Request) -> web.StreamResponse:
        self.submissions += 1
        if len(self._jobs) >= self._accepts and self._refusal is not None:
            refusal = self._refusal
            return web.Response(status=refusal.status, text=refusal.text, headers=refusal.headers)
        body = json.loads(gzip.decompress(await request.read()))
        job_id = f"job-{next(self._numbers)}"
        self._jobs[job_id] = [location["id"] for location in body["locations"]]
        return web.json_response({"id": job_id, "message": "OK"})

    def _status(self, job_id: str) -> web.StreamResponse:
        self.asked[job_id] += 1
        is_done = self.asked[job_id] > self._polls
        payload: dict[str, Any] = {"request": {"status": "COMPLETE" if is_done else "IN_PROGRESS"}}
        if is_done:
            url = f"{self._outputs_at}/api/v1/sov/{job_id}/output/o.json"
            payload["result"] = {
                "status": "SUCCESS",
                "outputs": [{"url": url, "filename": "o.json"}],
            }
        return web.json_response(payload)


def refusal(status: int, retry_after: object) -> web.Response:
    headers = {"Retry-After": str(retry_after)}
    return web.Response(status=status, text='{"message": "not now"}', headers=headers)


async def enhanced(api: PausingApi, folder: Path, *options: object) -> tuple[Command, RunStatus]:
    """The 100 addresses in 10 chunks: how the command ended, and what its run holds."""
    output = folder / "out.jsonl"
    async with LocalApi(api) as server:
        done = await run(
            "enhance", ADDRESSES, "-o", output, "--sources", "PG", "--api-url", server.url,
            "--chunk-size", CHUNK_SIZE, "--no-preflight", *options,
        )  # fmt: skip
    return done, await anyio.to_thread.run_sync(read_status, Path(f"{output}.run"))


async def test_a_long_pause_for_submissions_leaves_no_paid_job_behind(tmp_path: Path) -> None:
    """Exit 5, and every job that was accepted is asked about and fetched before."""
    api = PausingApi(6, refusal(503, 5000))
    done, status = await enhanced(api, tmp_path, "--max-requests-per-second", 20)
    assert done.code == 5, done.err
    assert sorted(api.fetched) == [f"job-{n}" for n in range(6)]
    assert (status.settled, status.submissions_in_doubt) == (60, 0)


async def test_a_pause_of_the_storage_host_is_none_of_the_api(tmp_path: Path) -> None:
    """Jobs go on, outputs are had from the API itself, and every request is counted."""
    summary = tmp_path / "s.json"
    async with LocalApi(always(status=429, headers={"Retry-After": "5000"})) as storage:
        api = PausingApi(10, polls=0, outputs_at=storage.url)
        async with LocalApi(api) as server:
            done = await run(
                "enhance", ADDRESSES, "-o", tmp_path / "out.jsonl", "--sources", "PG",
                "--api-url", server.url, "--chunk-size", CHUNK_SIZE, "--no-preflight",
                "--summary", summary,
            )  # fmt: skip
            assert done.code == 0, done.err
            about_jobs = [seen for seen in server.seen if "/job-" in seen.path]
            told = msgspec.json.decode(summary.read_bytes())["requests"]
            assert told == api.submissions + len(about_jobs) + len(storage.seen)
    assert 1 <= len(storage.seen) <= 4  # those that were on their way together
    assert sorted(api.fetched) == sorted(f"job-{n}" for n in range(10))
