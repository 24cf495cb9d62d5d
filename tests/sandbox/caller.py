"""A bare caller of the sandbox over a real socket, and a clock that tests turn by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from pingdata_async.sandbox import SandboxServer

ADDRESS = "1600 Pennsylvania Ave NW, Washington, DC 20500"


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        message = self.json["message"]
        assert isinstance(message, str)
        return message


@dataclass
class Caller:
    session: aiohttp.ClientSession
    sandbox: SandboxServer

    async def get(self, path: str, **options: Any) -> Answer:
        return await self._ask("GET", path, **options)

    async def post(self, data: object, **options: Any) -> Answer:
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        return await self._ask("POST", "/api/v1/bulk_enhance", data=data, **options)

    async def _ask(self, method: str, path: str, **options: Any) -> Answer:
        url = path if path.startswith("http") else self.sandbox.url + path
        async with self.session.request(method, url, **options) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def submit(self, locations: list[dict[str, Any]], *sources: str) -> str:
        answer = await self.post({"locations": locations, "sources": sources or ["PG"]})
        assert answer.status == 201, answer.body
        assert answer.json["message"] == "OK"
        job_id = answer.json["id"]
        assert isinstance(job_id, str)
        return job_id

    async def status(self, job_id: str) -> Any:
        answer = await self.get(f"/api/v1/bulk_enhance/{job_id}")
        assert answer.status == 200, answer.body
        return answer.json

    async def finished(self, clock: Clock, number: int = 50) -> Any:
        """The status of a job of PG and PH, long after its end."""
        job_id = await self.submit(addresses(number), "PG", "PH")
        clock.advance(100)
        return await self.status(job_id)

    async def finished_url(self, clock: Clock, number: int = 50) -> str:
        """Where the output of such a job is."""
        url = (await self.finished(clock, number))["result"]["outputs"][0]["url"]
        assert isinstance(url, str)
        return url


@asynccontextmanager
async def calling(sandbox: SandboxServer, token: str | None = "any") -> AsyncIterator[Caller]:
    headers = {} if token is None else {"Authorization": f"Token {token}"}
    async with sandbox, aiohttp.ClientSession(headers=headers) as session:
        yield Caller(session, sandbox)


def addresses(number: int) -> list[dict[str, Any]]:
    return [
        {"id": f"row-{index}", "address": f"{index + 1} Main Street, Springfield, IL 62701"}
        for index in range(number)
    ]
