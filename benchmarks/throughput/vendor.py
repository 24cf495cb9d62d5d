"""The vendor's own client, with what it leaves to its user: the same work as ours.

    python -m benchmarks.throughput.vendor INPUT OUTPUT URL [THREADS]

CSV in, a thousand locations a job, ids checked, locations without an answer found, JSONL out in
input order, its own default polling. Nothing survives a crash.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pingintel_api.pingdata.pingdata_api_client import PingDataAPIClient

from benchmarks.throughput.contenders import CHUNK_SIZE, SOURCES
from benchmarks.throughput.data import chunks_of

Chunk = list[dict[str, Any]]


class Vendor:
    """Enhances chunks, with a client of each thread's own.

    `requests` does not promise that a session can be shared.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._of_thread = threading.local()

    def enhance(self, chunk: Chunk, first_row: int) -> bytes:
        """The lines of a chunk."""
        answers = self._answers(chunk)
        if set(answers) != {location["id"] for location in chunk}:
            raise ValueError("the answer is about other locations")
        lines = [
            _line(location["id"], row, answers[location["id"]])
            for row, location in enumerate(chunk, first_row)
        ]
        return "".join(lines).encode()

    def _answers(self, chunk: Chunk) -> dict[str, Any]:
        if not hasattr(self._of_thread, "client"):
            self._of_thread.client = PingDataAPIClient(api_url=self._url, auth_token="any")
        answer = self._of_thread.client.bulk_enhance(
            locations=chunk, sources=list(SOURCES), fetch_outputs=True, verbose=0
        )
        if not answer["success"]:
            raise ValueError("the job failed")
        path = Path(answer["output_files"][0]["local_filepath"])
        body = path.read_bytes()
        path.unlink()
        answers: dict[str, Any] = json.loads(body)
        return answers


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


def enhanced(vendor: Vendor, chunks: Iterable[Chunk], threads: int) -> Iterator[bytes]:
    """The lines of each chunk, in order."""
    rows = itertools.count(0, CHUNK_SIZE)
    if threads == 1:
        yield from map(vendor.enhance, chunks, rows)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(vendor.enhance, chunks, rows)


def main(source: str, output: str, url: str, threads: str = "1") -> None:
    with Path(output).open("wb") as file:
        file.writelines(enhanced(Vendor(url), chunks_of(Path(source)), int(threads)))


if __name__ == "__main__":
    main(*sys.argv[1:])
