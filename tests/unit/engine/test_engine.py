"""How chunks pass through the API: outputs, stuck jobs, stuck requests, slots."""

from __future__ import annotations

import msgspec
import pytest

from pingdata_async.engine.context import FinishedChunk
from pingdata_async.engine.flow_control.concurrency import ConcurrencyLimiter
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import JobAbandoned, JobSubmitted, RequestSent, UnexpectedAnswer
from pingdata_async.exceptions import AuthenticationError
from pingdata_async.models import JobOutput, Reason, RowStatus
from tests.simulation.faults import Fault, Moment, ScriptedFaults
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.queueing import SimulatedJob
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, addresses, run


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def answers(job: SimulatedJob) -> dict[str, dict[str, dict[str, bool]]]:
    return {
        wire_id: {code: {"is_success": True} for code in sources}
        for wire_id, sources in job.sources.items()
    }


async def test_locations_that_nobody_sent_are_ignored() -> None:
    """Foreign ids in an output do no harm and come out nowhere."""

    def outputs(job: SimulatedJob) -> list[bytes]:
        return [msgspec.json.encode({"999": {"PG": {}}, "x": None} | answers(job))]

    seen = await run(SimulatedAPI(outputs=outputs), 20)
    assert seen.rows == list(range(20))
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_an_output_of_somebody_else_is_asked_for_again_and_paid_for_once() -> None:
    """An output that holds none of the ids sent is no answer at all."""

    def outputs(job: SimulatedJob) -> list[bytes]:
        return [msgspec.json.encode({"999": {"PG": {}}} if job.number == 0 else answers(job))]

    api = SimulatedAPI(outputs=outputs)
    seen = await run(api, 20, max_jobs=1)
    assert (api.counts.jobs, api.counts.requests[Moment.FETCH]) == (2, 9)
    assert "none of those that were sent" in seen.of(JobAbandoned)[0].error
    assert [result.reason for result in seen.results] == [Reason.UNREADABLE] * 10 + [None] * 10


async def test_left_out_locations_and_sources_are_missing_and_told() -> None:
    """A row that is not in the output fails as missing; one without a source is partial."""

    def outputs(job: SimulatedJob) -> list[bytes]:
        body = answers(job)
        del body["3"]
        body["5"].pop("PH", None)
        return [msgspec.json.encode(body)]

    seen = await run(SimulatedAPI(outputs=outputs), 10, sources=("PG", "PH"))
    assert (seen.results[3].status, seen.results[3].reason) == (RowStatus.FAILED, Reason.MISSING)
    assert (seen.results[5].status, seen.results[5].reason) == (RowStatus.PARTIAL, Reason.MISSING)
    assert [result.row for result in seen.results if result.status is RowStatus.OK] == [
        0, 1, 2, 4, 6, 7, 8, 9,
    ]  # fmt: skip
    told = [seen.rows_of[event.chunk] for event in seen.of(UnexpectedAnswer)]
    assert told[0] == list(range(10))
    assert told[1:] == [[3, 5]] * 3  # asked again, and each time left out


async def test_several_outputs_are_joined() -> None:
    """Locations and sources spread over several files come together."""

    def outputs(job: SimulatedJob) -> list[bytes]:
        every = answers(job)
        by_source = [
            {wire_id: {code: data[code]} for wire_id, data in every.items()}
            for code in ("PG", "PH")
        ]
        return [msgspec.json.encode(part) for part in by_source]

    seen = await run(SimulatedAPI(outputs=outputs), 20, sources=("PG", "PH"))
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert set(seen.results[7].location_data) == {"PG", "PH"}


@pytest.mark.parametrize("indent", [-1, 0, 2])
async def test_the_spacing_of_an_output_does_not_matter(indent: int) -> None:
    """Compact, spaced or pretty-printed: the same results, and no line break in their data."""

    def outputs(job: SimulatedJob) -> list[bytes]:
        return [msgspec.json.format(msgspec.json.encode(answers(job)), indent=indent)]

    seen = await run(SimulatedAPI(outputs=outputs), 20)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert not any(b"\n" in bytes(result.data) for result in seen.results)


async def test_an_empty_output_leaves_every_row_missing() -> None:
    """An output without any location is an answer; it is asked again as often as may be."""
    api = SimulatedAPI(outputs=lambda _job: [b"{}"])
    seen = await run(api, 10)
    assert api.counts.jobs == 1 + 3
    assert [event.charged_before for event in seen.of(JobSubmitted)] == [False] + [True] * 3
    assert {result.reason for result in seen.results} == {Reason.MISSING}


async def test_rows_that_cannot_be_sent_come_out_among_the_others() -> None:
    """Also where a whole chunk of them makes no job at all."""
    api = SimulatedAPI()
    rows = [{"id": f"r{n}", "address": "" if 5 <= n < 25 else "1 Main St"} for n in range(40)]
    seen = await run(api, rows)
    assert seen.rows == list(range(40))
    assert [result.row for result in seen.results if result.reason is Reason.INVALID_INPUT] == list(
        range(5, 25)
    )
    assert [result.id for result in seen.results] == [f"r{n}" for n in range(40)]
    assert api.counts.submissions.keys() == {str(n) for n in range(40) if not 5 <= n < 25}


async def test_an_empty_input_sends_nothing() -> None:
    """No rows, no request."""
    api = SimulatedAPI()
    seen = await run(api, 0)
    assert not seen.chunks
    assert not api.counts.requests


async def test_one_stuck_job_holds_up_nobody() -> None:
    """Chunk 0 of 200 ends last by hours: the 199 others are delivered meanwhile."""
    api = SimulatedAPI(delays_s={0: 36_000.0}, latency_s=0.0)
    seen = await run(api, 2_000, max_jobs=8)
    assert seen.rows == list(range(2_000))
    assert [finished.chunk.index for _, finished in seen.chunks][-1] == 0
    times = [at for at, _ in seen.chunks]
    assert times[-1] - times[-2] > 30_000
    # Asking about it costs little: at most four questions a minute.
    assert api.counts.requests[Moment.POLL] < 36_000 / 15 + 2_000


async def test_polling_and_fetching_go_on_while_submitting_is_stuck() -> None:
    """Submissions that never return keep no accepted job from being delivered."""
    faults = ScriptedFaults({Moment.SUBMIT: [None] * 3}, always={Moment.SUBMIT: Fault.HANG})
    seen = Observed()
    with pytest.raises(TimeoutError):
        await run(SimulatedAPI(faults=faults), 200, observed=seen, max_jobs=8)
    assert seen.rows == list(range(30))


async def test_slots_are_free_again_after_a_run_that_failed() -> None:
    """Neither jobs that are abandoned nor waiting tasks keep a slot."""
    error = AuthenticationError("401", status_code=401)
    slots = ConcurrencyLimiter()
    for moment in (Moment.SUBMIT, Moment.POLL, Moment.FETCH):
        faults = ScriptedFaults({moment: [None, None]}, always={moment: error})
        with pytest.raises(AuthenticationError):
            await run(SimulatedAPI(faults=faults), 200, slots=slots.share(5))
        assert not slots._in_flight
        assert not slots._waiting


async def test_a_sink_that_fails_ends_the_run_as_itself() -> None:
    """A full disk, say, is what is raised, and nothing is sent afterwards."""

    class Full(Observed):
        async def deliver(self, finished: FinishedChunk) -> None:
            raise OSError(28, f"chunk {finished.chunk.index}")

    with pytest.raises(OSError, match="chunk"):
        await run(SimulatedAPI(), 100, observed=Full())


async def test_the_outputs_that_are_not_json_are_left_alone() -> None:
    """A job may name an xlsx beside its json: only the json is fetched."""

    class Named(SimulatedAPI):
        async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
            assert output.filename == "output-0.json"
            return await super().fetch_output(job_id, output)

    api = Named(outputs=lambda job: [msgspec.json.encode(answers(job))])
    seen = await run(api, 10)
    assert len([event for event in seen.of(RequestSent) if event.kind == "fetch"]) == 1


async def test_a_callback_is_asked_for_in_every_job() -> None:
    """The url is in each body as it was given; what the API sends there is not our business."""
    bodies: list[bytes] = []

    class Listening(SimulatedAPI):
        async def submit_body(self, body: bytes) -> str:
            bodies.append(body)
            return await super().submit_body(body)

    url = "https://example.com/hook?key=a%20b"
    async with SimulatedClient(Listening()) as client:
        enhancer = BulkEnhancer(client, ["PG"], chunk_size=10, callback_url=url)
        assert len(await enhancer.enhance(addresses(25))) == 25
    assert [msgspec.json.decode(body)["callback_url"] for body in bodies] == [url] * 3
