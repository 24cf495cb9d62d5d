"""The vendor's own client, with what it leaves to its user: the same work as ours.

CSV in, a thousand locations a job, ids checked, locations without an answer found, JSONL out in
input order. Nothing that survives a crash.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pingintel_api.pingdata.pingdata_api_client import PingDataAPIClient

from benchmarks.throughput.checks import check_output
from benchmarks.throughput.contender import CHUNK_SIZE, SOURCES, Contender, Part, chunks_of
from benchmarks.throughput.serving import Served

POLL_S = 0.01
Numbered = tuple[int, list[dict[str, Any]]]


class Vendor(Contender):
    """One client a thread.

    Args:
        url: Of the server.
        threads: At once; 1 for none beside the main one.
        writes_files: Whether it fetches as its `bulk_enhance(fetch_outputs=True)` does, through
            a file in the current directory; otherwise by its `fetch_bulk_enhance_output()`.
    """

    uses_loop = False

    def __init__(self, url: str, threads: int = 1, *, writes_files: bool = True) -> None:
        super().__init__(url)
        self._threads = threads
        self._writes_files = writes_files
        self._of_thread = threading.local()
        os.environ["NO_PROXY"] = "*"  # it would ask a proxy of this machine for 127.0.0.1

    async def run(self, part: Part) -> None:
        os.chdir(part.folder)  # where it leaves its files
        chunks = enumerate(chunks_of(part.source))
        with part.output.open("wb") as output:
            for lines in self._enhanced(chunks):
                output.write(lines)

    def check(self, part: Part, served: Served) -> None:
        check_output(part.output, part.source, served)

    def _enhanced(self, chunks: Iterable[Numbered]) -> Iterator[bytes]:
        """The lines of each chunk, in order."""
        if self._threads == 1:
            yield from map(self._enhance, chunks)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(self._enhance, chunks)

    def _enhance(self, numbered: Numbered) -> bytes:
        number, locations = numbered
        answers = self._fetched(locations)
        if set(answers) != {location["id"] for location in locations}:
            raise ValueError("the answer is about other locations")
        lines = [
            _line(location["id"], row, answers[location["id"]])
            for row, location in enumerate(locations, number * CHUNK_SIZE)
        ]
        return "".join(lines).encode()

    def _fetched(self, locations: list[dict[str, Any]]) -> dict[str, Any]:
        client = self._client()
        answer: dict[str, Any] = client.bulk_enhance(
            locations=locations,
            sources=list(SOURCES),
            poll_seconds=POLL_S,
            fetch_outputs=self._writes_files,
            verbose=0,
        )
        if not answer["success"]:
            raise ValueError("the job failed")
        if self._writes_files:
            path = Path(answer["output_files"][0]["local_filepath"])
            body = path.read_bytes()
            path.unlink()
        else:
            job = answer["id"]
            body = client.fetch_bulk_enhance_output(job, f"{job}.json")
        answers: dict[str, Any] = json.loads(body)
        return answers

    def _client(self) -> PingDataAPIClient:
        """This thread's own: `requests` does not promise that a session can be shared."""
        if not hasattr(self._of_thread, "client"):
            self._of_thread.client = PingDataAPIClient(api_url=self.url, auth_token="any")
        return self._of_thread.client


def _line(id_: str, row: int, answer: dict[str, Any]) -> str:
    """A row as ours has it."""
    failed = [source for source in SOURCES if answer.get(source, {}).get("is_success") is not True]
    line: dict[str, Any] = {"id": id_, "row": row, "status": "ok"}
    if failed:
        line["status"] = "failed" if len(failed) == len(SOURCES) else "partial"
        line["reason"] = "no_match"
        line["error"] = f"{failed[0]}: {answer.get(failed[0], {}).get('error_message')}"
    line["location_data"] = answer
    return json.dumps(line) + "\n"
