"""A server of the bulk endpoints that is much faster than its clients.

    python -m benchmarks.throughput.server [--encoding identity] [--spacing spaced] [--job-s 1.0]

prints its url, and serves until its standard input ends. Answers are joined from templates:
which one a location gets depends on its id alone. It keeps nothing of a job whose output has
been fetched, and counts what it has served, so that nobody wins by losing rows.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import itertools
import json
import random
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from isal import isal_zlib

from benchmarks.throughput.data import ADDRESSES
from benchmarks.throughput.measure import STATS_PATH, Served
from pingdata_async.sandbox.answers import Options, answer_location

ENCODINGS = ("auto", "identity")
GZIP_WBITS = 31
MAX_BODY_BYTES = 64 * 1024 * 1024

# -- answers ------------------------------------------------------------------------------

SEED = 7
COUNT = 400
NO_MATCHES = COUNT // 100  # one in a hundred has a source that knows nothing of it
FOREIGN = COUNT // 50  # one in fifty is not ASCII
SPACINGS = ("compact", "spaced")
_STREETS = ("Peñasco Boulevard", "Rue Évangéline", "Cañón Perdido Street", "Öland Avenue")
_CITIES = ("Española", "Nuñez Crossing", "La Cañada Flintridge", "Lindström")
_PERILS = ("hail", "tornado", "straight_line_wind", "wildfire", "flood", "winter_storm")


def make_templates(spacing: str = "compact") -> tuple[list[bytes], list[bool]]:
    """Each answer as JSON, and whether every source in it succeeded.

    Args:
        spacing: "compact" as most web frameworks write JSON, in UTF-8; "spaced" as Python's own
            json.dumps does, with escapes.
    """
    rng = random.Random(SEED)
    with ADDRESSES.open(encoding="utf-8", newline="") as file:
        addresses = list(csv.DictReader(file))
    answers = [_answer(number, addresses[number % len(addresses)], rng) for number in range(COUNT)]
    rng.shuffle(answers)
    are_ok = [all(source["is_success"] for source in each.values()) for each in answers]
    if spacing == "spaced":
        return [json.dumps(each).encode() for each in answers], are_ok
    encoded = [json.dumps(each, ensure_ascii=False, separators=(",", ":")) for each in answers]
    return [each.encode() for each in encoded], are_ok


def _answer(number: int, address: dict[str, str], rng: random.Random) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: address[name] for name in ("address_line_1", "city", "state", "postal_code")
    }
    fields["latitude"] = round(float(address["latitude"]) + rng.random() / 20, 6)
    fields["longitude"] = round(float(address["longitude"]) - rng.random() / 20, 6)
    if NO_MATCHES <= number < NO_MATCHES + FOREIGN:
        fields["address_line_1"] = f"{rng.randrange(1, 9999)} {rng.choice(_STREETS)}"
        fields["city"] = rng.choice(_CITIES)
    answer = answer_location(fields, ("PG", "PH"), Options(), no_match_share=0.0)
    answer["PH"].update(_more(fields, rng))
    if number < NO_MATCHES:
        nothing = answer_location(fields, ("PG", "PH"), Options(), no_match_share=1.0)
        answer["PH"] = nothing["PH"]
        if number % 2:
            answer["PG"] = nothing["PG"]
    return answer


def _more(fields: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """What a hazard source says beyond the sandbox's: so much that a location has 3.7 KB."""
    return {
        "historic_events": [
            {
                "peril": rng.choice(_PERILS),
                "date": f"{rng.randrange(1980, 2025)}-{rng.randrange(1, 13):02d}-15",
                "magnitude": round(rng.uniform(0.5, 9.0), 2),
                "distance_miles": round(rng.uniform(0.1, 40.0), 3),
            }
            for _ in range(10)
        ],
        "footprint": [
            [
                round(fields["latitude"] + rng.uniform(-2e-4, 2e-4), 6),
                round(fields["longitude"] + rng.uniform(-2e-4, 2e-4), 6),
            ]
            for _ in range(8)
        ],
        "footprint_id": f"{rng.getrandbits(128):032x}",
    }


# -- endpoints ----------------------------------------------------------------------------


class _Location(msgspec.Struct):
    id: msgspec.Raw


class _Submission(msgspec.Struct):
    locations: list[_Location]


@dataclass
class _Job:
    ids: list[bytes]
    done_at: float


@dataclass
class FastAPI:
    """The endpoints.

    Attributes:
        encoding: "auto" to compress for who asks for it, "identity" never to.
        spacing: How JSON is written; see `make_templates()`.
        job_s: Seconds until a job is complete.
    """

    encoding: str = "auto"
    spacing: str = "compact"
    job_s: float = 0.0
    served: Served = field(default_factory=Served)

    def __post_init__(self) -> None:
        self._templates, self._are_ok = make_templates(self.spacing)
        self._comma, self._colon = (b",", b":") if self.spacing == "compact" else (b", ", b": ")
        self._jobs: dict[str, _Job] = {}
        self._numbers = itertools.count(1)
        self._decode: Callable[[bytes], _Submission] = msgspec.json.Decoder(_Submission).decode

    def make_app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/api/v1/bulk_enhance", self._submit)
        app.router.add_get("/api/v1/bulk_enhance/{id}", self._status)
        for folder in ("sov", "bulk_enhance"):
            app.router.add_get(f"/api/v1/{folder}/{{id}}/output/{{filename}}", self._output)
        app.router.add_get(STATS_PATH, self._stats)
        return app

    async def _submit(self, request: web.Request) -> web.Response:
        served = self.served
        served.requests += 1
        body = await request.read()  # decompressed by aiohttp where it has to be
        served.submitted_bytes += request.content_length or len(body)
        number = f"job-{next(self._numbers):07d}"
        ids = [bytes(location.id) for location in self._decode(body).locations]
        self._jobs[number] = _Job(ids, time.monotonic() + self.job_s)
        served.peak_jobs = max(served.peak_jobs, len(self._jobs))
        return _json({"id": number, "message": "OK"}, status=201)

    async def _status(self, request: web.Request) -> web.Response:
        self.served.requests += 1
        number = request.match_info["id"]
        job = self._jobs.get(number)
        if job is None:
            return _json({"message": "no such job"}, status=404)
        is_done = time.monotonic() >= job.done_at
        told = {
            "requested_at": None,
            "progress_started_at": None,
            "completed_at": None,
            "num_requested": len(job.ids),
            "num_completed": len(job.ids) if is_done else 0,
            "num_problems": 0,
            "num_canceled": 0,
        }
        if not is_done:
            return _json({"request": {"status": "IN_PROGRESS"} | told})
        filename = f"{number}.json"
        output = {
            "url": f"{request.scheme}://{request.host}/api/v1/sov/{number}/output/{filename}",
            "filename": filename,
            "description": "Enhanced locations",
        }
        result = {
            "status": "SUCCESS",
            "message": "OK",
            "total_processing_time": self.job_s,
            "outputs": [output],
            "sources": [],
        }
        return _json({"request": {"status": "COMPLETE"} | told, "result": result})

    async def _output(self, request: web.Request) -> web.Response:
        served = self.served
        served.requests += 1
        job = self._jobs.pop(request.match_info["id"], None)
        if job is None:
            return _json({"message": "no such job"}, status=404)
        body = self.answers(job.ids)
        served.jobs += 1
        served.locations += len(job.ids)
        served.plain_bytes += len(body)
        headers = {}
        if self.encoding == "auto" and "gzip" in request.headers.get("Accept-Encoding", ""):
            body = isal_zlib.compress(body, 1, GZIP_WBITS)
            headers["Content-Encoding"] = "gzip"
        served.wire_bytes += len(body)
        return web.Response(body=body, headers=headers, content_type="application/json")

    async def _stats(self, _request: web.Request) -> web.Response:
        return _json(asdict(self.served))

    def answers(self, ids: list[bytes]) -> bytes:
        """The output for these ids, in their order."""
        templates, are_ok = self._templates, self._are_ok
        picks = [zlib.crc32(each) % len(templates) for each in ids]
        self.served.not_ok += sum(not are_ok[pick] for pick in picks)
        parts = [
            each + self._colon + templates[pick] for each, pick in zip(ids, picks, strict=True)
        ]
        return b"{" + self._comma.join(parts) + b"}"


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json"
    )


async def serve(api: FastAPI) -> None:
    """Serve on a free port of this machine until standard input ends."""
    runner = web.AppRunner(api.make_app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    try:
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoding", choices=ENCODINGS, default="auto")
    parser.add_argument("--spacing", choices=SPACINGS, default="compact")
    parser.add_argument("--job-s", type=float, default=0.0)
    asyncio.run(serve(FastAPI(**vars(parser.parse_args()))))
