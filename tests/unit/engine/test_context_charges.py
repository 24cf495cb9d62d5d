"""What a run in memory is charged, and may be charged twice, is counted and said."""

from __future__ import annotations

import logging
import pickle

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.events import JobSubmitted
from pingdata_async.locations.fields import AnyLocation
from pingdata_async.models import Reason
from tests.simulation.faults import Fault, Moment, ScriptedFaults, SeededFaults
from tests.simulation.paced_api import SimulatedClient
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, addresses


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


async def test_a_list_of_results_tells_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    """It equals a list, goes through pickle, and has a summary; nothing odd, no warning."""
    locations: list[AnyLocation] = [*addresses(24), {"id": "nothing"}]
    async with SimulatedClient(SimulatedAPI()) as client:
        results = await ping.BulkEnhancer(client, ["PG", "PH"], chunk_size=10).enhance(locations)
    assert results == list(results)
    summary = results.summary
    assert (summary.rows, summary.ok, summary.failed, summary.no_answer) == (25, 24, 1, 1)
    assert summary.reasons == {"invalid_input": 1}
    assert (summary.jobs, summary.locations_charged) == (3, 24)
    assert summary.charged_by_source == {"PG": 24, "PH": 24}
    assert summary.requests >= 9
    assert summary.seconds > 0
    assert summary.locations_possibly_charged_again == summary.locations_in_doubt == 0
    copy = pickle.loads(pickle.dumps(results))
    assert (copy, copy.summary) == (results, summary)
    assert not caplog.records


async def test_doubtful_and_repeated_payments_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """A submission whose answer was lost, and the job that it is sent again as."""
    faults = ScriptedFaults({Moment.SUBMIT: [None, Fault.DROP_AFTER]})
    async with SimulatedClient(SimulatedAPI(faults=faults)) as client:
        results = await ping.BulkEnhancer(client, "PG", chunk_size=10, max_jobs=1).enhance(
            addresses(30)
        )
    summary = results.summary
    assert (summary.rows, summary.ok) == (30, 30)
    assert (summary.jobs, summary.locations_charged) == (3, 30)
    assert (summary.submissions_in_doubt, summary.locations_in_doubt) == (1, 10)
    assert summary.locations_possibly_charged_again == 10
    doubt, again = (record for record in caplog.records if record.name == "pingdata_async")
    assert doubt.levelno == again.levelno == logging.WARNING
    assert doubt.getMessage().startswith("SubmissionInDoubt(run_id='")
    assert isinstance(vars(again)["event"], JobSubmitted)
    assert vars(again)["event"].charged_before


async def test_every_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Once each, at its level, and as it is; whoever wants none of it pays nothing for it."""
    heard = Observed()
    caplog.set_level(logging.DEBUG, "pingdata_async")
    async with SimulatedClient(SimulatedAPI()) as client:
        await ping.BulkEnhancer(client, "PG", on_event=heard.hear).enhance(addresses(3))
    logged = [vars(record)["event"] for record in caplog.records if "event" in vars(record)]
    assert logged == [event for _, event in heard.events]
    levels = {type(vars(record).get("event")): record.levelname for record in caplog.records}
    assert levels[ping.RequestSent] == levels[ping.JobPolled] == "DEBUG"
    assert levels[ping.JobSubmitted] == levels[ping.ChunkFinished] == "INFO"
    assert logged[0].run_id in caplog.records[0].getMessage()


async def test_counts_agree_with_the_api() -> None:
    """Whatever goes wrong, no charge is missing from the summary of a stream."""
    faults = SeededFaults(7, 0.1, {Moment.SUBMIT: [Fault.DROP_AFTER, Fault.ERROR]})
    api = SimulatedAPI(faults=faults)
    seen = Observed()
    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, on_event=seen.hear)
        stream = enhancer.stream(addresses(600))
        reasons = [result.reason async for result in stream]
    assert len(reasons) == 600
    summary, submitted = stream.summary, seen.of(JobSubmitted)
    assert summary.jobs == len(submitted)
    # The enhancer's waits have no seed, so nobody knows whom a fault meets: one may meet four.
    answered = reasons.count(None)
    assert reasons.count(Reason.IN_DOUBT) == 600 - answered
    assert summary.locations_charged == sum(event.locations for event in submitted) == answered
    charged = sum(api.counts.submissions.values())
    assert summary.locations_charged < charged
    assert charged <= summary.locations_charged + summary.locations_in_doubt
    assert summary.locations_possibly_charged_again >= charged - 600


async def test_whoever_leaves_is_told_what_is_under_way(caplog: pytest.LogCaptureFixture) -> None:
    """Of a submission that was not answered when the stream was left nobody knows."""
    async with SimulatedClient(SimulatedAPI(latency_s=60.0)) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, max_jobs=1)
        async with enhancer.stream(addresses(50)) as stream:
            await anyio.sleep(5)
            assert stream.summary.locations_in_doubt == 10
    assert (stream.summary.submissions_in_doubt, stream.summary.locations_in_doubt) == (1, 10)
    assert stream.summary.locations_charged == 0
    [record] = caplog.records
    assert isinstance(vars(record)["event"], ping.SubmissionInDoubt)
    assert "under way when the run was ended" in record.getMessage()


async def test_an_error_tells_what_it_took() -> None:
    """Also where nothing was answered: that is when it matters most."""
    faults = ScriptedFaults({Moment.SUBMIT: [Fault.DROP_AFTER] * 100})
    policy = ping.RetryPolicy(max_doubts_in_a_row=2)
    async with SimulatedClient(SimulatedAPI(faults=faults)) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, max_jobs=1, retry_policy=policy)
        with pytest.raises(ping.SubmissionInDoubtError) as caught:
            await enhancer.enhance(addresses(50))
    assert not caught.value.results
    assert caught.value.summary is not None
    assert caught.value.summary.locations_in_doubt == 20


async def test_jobs_left_at_work_are_named() -> None:
    """They are paid for: their ids are in the summary, and an error names them."""
    error = ping.AuthenticationError("401", status_code=401)
    faults = ScriptedFaults({Moment.POLL: [None] * 12}, always={Moment.POLL: error})
    api = SimulatedAPI(faults=faults, locations_per_s=5.0)
    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10, max_jobs=4)
        with pytest.raises(ping.AuthenticationError) as caught:
            await enhancer.enhance(addresses(200))
    summary = caught.value.summary
    assert summary is not None
    left = summary.unfinished_jobs
    assert len(left) == summary.jobs - summary.rows // 10 > 0
    assert set(left) < {f"job-{number}" for number in range(20)}
    [note] = caught.value.__notes__
    assert note.startswith(f"{len(left)} paid jobs left unfinished: {left[0]}, ")


async def test_no_job_is_named_that_gave_its_answers() -> None:
    """Nor one that failed, and was sent again."""
    faults = ScriptedFaults({Moment.JOB: [Fault.FAILED_JOB, None, Fault.FORGOTTEN]})
    async with SimulatedClient(SimulatedAPI(faults=faults)) as client:
        enhancer = ping.BulkEnhancer(client, "PG", chunk_size=10)
        results = await enhancer.enhance(addresses(50))
    assert len(results) == 50
    assert results.summary.jobs > 5
    assert results.summary.unfinished_jobs == []


async def test_a_budget_for_one_call() -> None:
    """It caps the locations sent, in all or to a source; the error has the answers so far."""
    api, seen = SimulatedAPI(), Observed()
    async with SimulatedClient(api) as client:
        enhancer = ping.BulkEnhancer(client, ["PG", "PH"], chunk_size=10)
        for options in ({"max_locations": 25}, {"budget": {"ph": 25}}):
            with pytest.raises(ping.BudgetSpentError, match="25 ") as caught:
                await enhancer.enhance(addresses(100), on_event=seen.hear, **options)
            assert len(caught.value.results) == 25
            assert caught.value.summary is not None
            assert caught.value.summary.locations_charged == 25
        assert sum(api.counts.submissions.values()) == 50
        assert sum(event.locations for event in seen.of(JobSubmitted)) == 50
        assert len(await enhancer.enhance(addresses(30), max_locations=30)) == 30
        stream = enhancer.stream(addresses(30), max_locations=20)
        with pytest.raises(ping.BudgetSpentError):
            [result async for result in stream]
        assert stream.summary.rows == 20


async def test_options_of_a_call_that_cannot_be() -> None:
    """They are refused at once."""
    async with SimulatedClient(SimulatedAPI()) as client:
        enhancer = ping.BulkEnhancer(client, "PG")
        with pytest.raises(ping.ConfigurationError, match="max_locations"):
            enhancer.stream(addresses(3), max_locations=-1)
        with pytest.raises(ping.ConfigurationError, match="budget"):
            await enhancer.enhance(addresses(3), budget={"PG": "many"})  # type: ignore[dict-item]  # the test
        with pytest.raises(TypeError, match="max_location"):
            await enhancer.enhance(addresses(3), max_location=3)  # type: ignore[call-arg]  # the test
