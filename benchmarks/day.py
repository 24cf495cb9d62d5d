"""A day of 100 million locations, in simulated time, as a record.

    python -m benchmarks.day [CHUNKS]

brings 100,000 chunks of 1,000 rows through the real engine. The API takes about 1,200 locations
a second, more at night and fewer in the afternoon, when it also limits requests; for twenty
minutes in the morning it is out of order. Writes `results/day.json`, which `policies.py`
shows in its page. Takes minutes of CPU: every body is made, sent, read and checked, only that
all chunks share one set of rows, so that memory is what the engine needs.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio

from benchmarks.policies.trial import OURS, UNEVEN, Counting, make_engine, shared_chunks
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.exceptions import PingDataError
from tests.simulation.faults import Moment
from tests.simulation.limits import Gatekeeper, Limits, Outage
from tests.simulation.queueing import Work, ideal_s
from tests.simulation.records import Records, RequestRecord
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop

RESULTS = Path(__file__).parent / "results" / "day.json"
CHUNKS, ROWS = 100_000, 1_000
HOUR_S = 3600.0
JOB_S = 20.0
WORKERS = (28, 30, 30, 28, 26, 24, 24, 24, 22, 22, 20, 20, 20, 20, 18, 18, 20, 22, 24, 26, 28, 28)
WORK = Work(
    workers=WORKERS[0],
    locations_per_s=ROWS / JOB_S,
    sigma=0.4,
    changes=[(hour * HOUR_S, workers) for hour, workers in enumerate(WORKERS) if hour],
)
OUTAGE = Outage(begins_s=9 * HOUR_S, ends_s=9 * HOUR_S + 1200, retry_after_s=30.0)
PATIENT = RetryPolicy(give_up_after_s=HOUR_S)  # the outage is longer than it waits by default
LIMITED = (13 * HOUR_S, 17 * HOUR_S)
LIMITS = Limits(requests_per_s=5.0, burst=10.0, retry_after_s=2.0)
BODY = b"{%b}" % b",".join(b'"%d":{"PG":{"is_success":true}}' % row for row in range(ROWS))


class Sums(Records):
    """Records of which only sums are kept, or they would be larger than all else."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[Moment] = Counter()
        self.done = 0
        self.lag_s = self.work_s = 0.0

    @contextlib.contextmanager
    def request(self, moment: Moment, about: str = "") -> Iterator[RequestRecord]:
        self.sent[moment] += 1
        with super().request(moment, about) as record:
            yield record
        if moment is Moment.FETCH and (job := self.jobs.pop(about, None)) is not None:
            self.done += 1
            self.lag_s += job.lag_s
            self.work_s += job.job.ends_at - job.job.begins_at
        self.requests.clear()


class AfternoonGatekeeper(Gatekeeper):
    """Limits requests for a part of the day alone."""

    def __init__(self) -> None:
        super().__init__(LIMITS, ())
        self._always = Gatekeeper(Limits(), [OUTAGE])
        self._first_at = 0.0

    def begin(self, now: float) -> None:
        super().begin(now)
        self._always.begin(now)
        self._first_at = now

    def refusal(self, moment: Moment, now: float) -> PingDataError | None:
        if LIMITED[0] <= now - self._first_at < LIMITED[1]:
            return super().refusal(moment, now)
        return self._always.refusal(moment, now)


class DayAPI(SimulatedAPI):
    """An API with a day: its capacity, its outage, its afternoon; and one body for all."""

    def __init__(self, records: Sums) -> None:
        super().__init__(
            work=WORK,
            telling=UNEVEN,
            latency_s=0.2,
            outputs=lambda _job: [BODY],
            counts_locations=False,
            retention_s=60.0,
            records=records,
        )
        self._gatekeeper = AfternoonGatekeeper()


async def run(chunks: int) -> tuple[float, int, Sums]:
    """Seconds that it took, rows that came out well, and what was asked."""
    sums, store = Sums(), Counting()
    began = anyio.current_time()
    engine = make_engine(DayAPI(sums), OURS, store, policy=PATIENT)
    await engine.run(shared_chunks(chunks, ROWS))
    return anyio.current_time() - began, store.rows_ok, sums


def main(chunks: int) -> None:
    ideal = ideal_s(WORK, jobs=chunks, locations=ROWS, max_jobs=OURS.max_jobs, outages=[OUTAGE])
    cpu_s = time.process_time()
    before_mib = peak_mib()
    seconds, rows_ok, sums = anyio.run(run, chunks, backend_options={"loop_factory": VirtualLoop})
    cpu_s = time.process_time() - cpu_s
    requests = sums.sent.total()
    record: dict[str, Any] = {
        "locations": chunks * ROWS,
        "locations_ok": rows_ok,
        "jobs": sums.done,
        "simulated_s": round(seconds),
        "ideal_s": round(ideal),
        "of_ideal": round(ideal / seconds, 4),
        "locations_per_s": round(chunks * ROWS / seconds, 1),
        "requests": {moment.name: sums.sent[moment] for moment in Moment if sums.sent[moment]},
        "polls_a_job": round(sums.sent[Moment.POLL] / sums.done, 3),
        "lag_of_the_job": round(sums.lag_s / sums.work_s, 4),
        "refused_share": round(sums.refused.total() / requests, 5),
        "too_early": len(sums.breaches),
        "cpu_s": round(cpu_s),
        "peak_mib": round(peak_mib(), 1),
        "peak_mib_before": round(before_mib, 1),
    }
    record["text"] = text(record).rstrip("\n")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


def text(record: dict[str, Any]) -> str:
    """What the page of the bench says of it."""
    millions, hours = record["locations"] / 1e6, record["simulated_s"] / HOUR_S
    return f"""## A day of {millions:,.0f} million locations
A record, made once by `python -m benchmarks.day`: {record["jobs"]:,} jobs of {ROWS:,} locations,
about {JOB_S:.0f} s each, on {min(WORKERS)} to {max(WORKERS)} workers, as the day goes; out of
order for 20 minutes in the morning, limited to {LIMITS.requests_per_s:.0f} requests/s for four
hours in the afternoon.

- {record["locations_ok"]:,} locations came out in {hours:.2f} simulated hours,
  {record["locations_per_s"]:,.0f} a second: {record["of_ideal"]:.1%} of the pace of a client
  that loses no time.
- {record["polls_a_job"]:.2f} polls a job; its end was seen {record["lag_of_the_job"]:.1%} of
  its time late on average, the outage included.
- {record["refused_share"]:.2%} of the requests were refused, {record["too_early"]} sent before
  the time that a Retry-After named.
- It took {record["cpu_s"]:,} s of CPU, the API's own part included, and
  {record["peak_mib"]:.0f} MiB at most, of which {record["peak_mib_before"]:.0f} before it began.
"""


def peak_mib() -> float:
    """The most memory that this process ever had."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CHUNKS)
