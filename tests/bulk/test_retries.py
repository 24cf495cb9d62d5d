"""What is tried again, when, how often, and what ends a run."""

from __future__ import annotations

import itertools

import anyio
import pytest

from pingdata_async.bulk.retrying import RetryPolicy
from pingdata_async.events import (
    ChunkFinished,
    JobAbandoned,
    JobSubmitted,
    RequestRetried,
    RequestSent,
    SubmissionInDoubt,
)
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.models import Reason, RowStatus
from tests.bulk.harness import Observed, run
from tests.simulation.faults import Fault, Moment, ScriptedFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop

REQUESTS = (Moment.SUBMIT, Moment.POLL, Moment.FETCH)
REJECTED = RequestRejectedError("400: no", status_code=400)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def api_with(
    *faults: Fault | PingDataError | None, at: Moment, always: Fault | PingDataError | None = None
) -> SimulatedAPI:
    return SimulatedAPI(
        faults=ScriptedFaults({at: faults}, always={} if always is None else {at: always})
    )


@pytest.mark.parametrize("moment", REQUESTS)
async def test_a_retry_after_is_waited_for_and_not_much_longer(moment: Moment) -> None:
    """Nobody sends before the time that a Retry-After named, whatever the request."""
    api = api_with(Fault.RATE_LIMIT, Fault.RATE_LIMIT, at=moment)
    seen = await run(api, 10)
    kind = moment.name.lower()
    refused = seen.times(RequestRetried, kind=kind)
    sent = [at for at in seen.times(RequestSent, kind=kind) if at > refused[0]]
    assert len(refused) == 2
    for at in refused:
        assert 5.0 <= min(later for later in sent if later > at) - at <= 6.0
    assert [result.status for result in seen.results] == [RowStatus.OK] * 10


@pytest.mark.parametrize("moment", REQUESTS)
@pytest.mark.parametrize(
    "fault", [Fault.BARE_RATE_LIMIT, Fault.UNAVAILABLE, Fault.REFUSED], ids=lambda f: f.name
)
async def test_without_one_the_wait_doubles_up_to_a_ceiling(moment: Moment, fault: Fault) -> None:
    """Back-off is exponential with jitter, between half of a delay and the whole of it."""
    policy = RetryPolicy(first_contact_s=900)
    seen = await run(api_with(*[fault] * 9, at=moment), 10, policy=policy)
    delays = [event.delay_s for event in seen.of(RequestRetried)]
    assert len(delays) == 9
    for number, delay_s in enumerate(delays):
        ceiling = min(30.0, 0.5 * 2**number)
        assert ceiling / 2 <= delay_s <= ceiling
    times = seen.times(RequestRetried)
    assert all(
        b - a >= delay for (a, b), delay in zip(itertools.pairwise(times), delays, strict=False)
    )
    assert seen.rows == list(range(10))


async def test_requests_in_a_row_are_counted_anew_after_a_success() -> None:
    """A job that was asked about once more without trouble starts again at the shortest wait."""
    faults = [Fault.ERROR, Fault.ERROR, None, Fault.ERROR]
    api = SimulatedAPI(faults=ScriptedFaults({Moment.POLL: faults}), delays_s={0: 60.0})
    seen = await run(api, 10)
    assert [event.attempt for event in seen.of(RequestRetried)] == [1, 2, 1]


@pytest.mark.parametrize(
    "fault",
    [Fault.DROP, Fault.DROP_AFTER, Fault.ERROR, Fault.ERROR_AFTER, Fault.GARBAGE],
    ids=lambda fault: fault.name,
)
async def test_a_submission_in_doubt_is_sent_again_three_times_at_most(fault: Fault) -> None:
    """The chunk then fails as in doubt, every doubt is told, and the others go on."""
    api = api_with(*[None] * 2, *[fault] * 4, at=Moment.SUBMIT)
    seen = await run(api, 30, max_jobs=1)
    assert [result.reason for result in seen.results] == [None] * 20 + [Reason.IN_DOUBT] * 10
    doubts = seen.of(SubmissionInDoubt)
    assert len(doubts) == 4
    assert [doubt.charged_before for doubt in doubts] == [False, True, True, True]
    assert {doubt.locations for doubt in doubts} == {10}
    assert seen.of(ChunkFinished)[-1].job_id is None


async def test_a_doubt_that_ends_well_is_counted_as_charged_before() -> None:
    """The accepted job says that its locations may be charged a second time."""
    seen = await run(api_with(*[Fault.DROP] * 3, at=Moment.SUBMIT), 10)
    assert len(seen.of(SubmissionInDoubt)) == 3
    assert [event.charged_before for event in seen.of(JobSubmitted)] == [True]
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_what_surely_was_not_sent_is_not_in_doubt() -> None:
    """A refused connection, a 429 and a 503 leave no doubt, however often they come."""
    faults = [Fault.REFUSED, Fault.RATE_LIMIT, Fault.BARE_RATE_LIMIT, Fault.UNAVAILABLE] * 2
    seen = await run(api_with(*faults, at=Moment.SUBMIT), 10)
    assert not seen.of(SubmissionInDoubt)
    assert [event.charged_before for event in seen.of(JobSubmitted)] == [False]


@pytest.mark.parametrize(
    "fate",
    [Fault.FAILED_JOB, Fault.FAILED_RESULT, Fault.NO_OUTPUT, Fault.FORGOTTEN],
    ids=lambda fault: fault.name,
)
async def test_a_lost_job_is_submitted_again_and_then_given_up(fate: Fault) -> None:
    """A chunk gets `job_attempts` jobs; then its rows fail, and the run goes on."""
    api = api_with(*[fate] * 3, at=Moment.JOB)
    seen = await run(api, 20, max_jobs=1)
    assert api.counts.jobs == 4
    assert [result.reason for result in seen.results] == [Reason.JOB_FAILED] * 10 + [None] * 10
    assert [event.will_resubmit for event in seen.of(JobAbandoned)] == [True, True, False]
    submitted = [event.charged_before for event in seen.of(JobSubmitted)]
    assert submitted == [False, True, True, False]


async def test_the_message_of_a_failed_job_reaches_the_rows() -> None:
    """Who reads the output learns what the API said."""
    seen = await run(api_with(always=Fault.FAILED_JOB, at=Moment.JOB), 10)
    assert all("out of luck" in str(result.error) for result in seen.results)


@pytest.mark.parametrize("fate", [Fault.LATE, Fault.LATE_OUTPUT], ids=lambda fault: fault.name)
async def test_what_is_only_late_is_waited_for(fate: Fault) -> None:
    """A job unknown at first, or without its output at first, is not paid for twice."""
    api = api_with(fate, at=Moment.JOB)
    seen = await run(api, 10)
    assert api.counts.jobs == 1
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_a_broken_output_is_fetched_again_before_its_job_counts_as_failed() -> None:
    """Downloading costs nothing, another job does: eight tries come before that."""
    api = api_with(*[Fault.CORRUPT] * 8, at=Moment.FETCH)
    seen = await run(api, 10)
    assert (api.counts.jobs, api.counts.requests[Moment.FETCH]) == (2, 9)
    api = api_with(*[Fault.CORRUPT] * 7, at=Moment.FETCH)
    await run(api, 10)
    assert api.counts.jobs == 1
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_a_refusal_of_the_first_submission_ends_the_run() -> None:
    """Before any job was accepted it is the request that is wrong, not its rows."""
    seen = Observed()
    with pytest.raises(RequestRejectedError, match="400: no"):
        await run(api_with(REJECTED, at=Moment.SUBMIT), 20, observed=seen, max_jobs=1)
    assert not seen.chunks
    assert len(seen.of(RequestSent)) == 1


async def test_a_later_refusal_fails_its_chunk_alone() -> None:
    """Its rows carry the API's own words; it is not sent again."""
    api = api_with(None, REJECTED, at=Moment.SUBMIT)
    seen = await run(api, 30, max_jobs=1)
    reasons = [result.reason for result in seen.results]
    assert reasons == [None] * 10 + [Reason.REJECTED] * 10 + [None] * 10
    assert seen.results[10].error == "400: no"
    assert api.counts.requests[Moment.SUBMIT] == 3


STOPS = [
    AuthenticationError("401", status_code=401),
    AccessDeniedError("403", status_code=403),
    QuotaExceededError("402", status_code=402),
    UnexpectedRedirectError("redirected"),
]


@pytest.mark.parametrize("moment", REQUESTS)
@pytest.mark.parametrize("error", STOPS, ids=lambda error: type(error).__name__)
async def test_what_no_request_can_pass_ends_the_run_at_once(
    moment: Moment, error: PingDataError
) -> None:
    """A refused token or a spent quota is not tried again, and nothing is sent after it."""
    api = api_with(None, error, at=moment, always=error)
    seen = Observed()
    with pytest.raises(type(error)) as caught:
        await run(api, 100, observed=seen, max_jobs=2)
    assert caught.value is error
    assert not seen.of(RequestRetried)
    sent = api.counts.requests.total()
    await anyio.sleep(1_000)
    assert api.counts.requests.total() == sent


async def test_no_such_path_at_submission_ends_the_run() -> None:
    """A 404 to a POST means a wrong address, not a forgotten job."""
    with pytest.raises(NotFoundError):
        await run(api_with(NotFoundError("404", status_code=404), at=Moment.SUBMIT), 10)


@pytest.mark.parametrize("moment", REQUESTS)
async def test_a_run_gives_up_on_an_api_that_stays_down(moment: Moment) -> None:
    """After `give_up_after_s` of nothing but failures its error is raised, not much later."""
    api = api_with(always=Fault.UNAVAILABLE, at=moment)
    began = anyio.current_time()
    with pytest.raises(ServerError):
        await run(api, 10, policy=RetryPolicy(give_up_after_s=300))
    assert 300 <= anyio.current_time() - began <= 340


async def test_an_address_that_never_answered_is_given_up_sooner() -> None:
    """Before the first answer the address is probably wrong: a minute is enough."""
    began = anyio.current_time()
    with pytest.raises(TransportError):
        await run(api_with(always=Fault.REFUSED, at=Moment.SUBMIT), 10)
    assert 60 <= anyio.current_time() - began <= 95


async def test_a_retry_after_beyond_all_patience_ends_the_run_at_once() -> None:
    """Waiting until tomorrow is not what anyone expects of a run."""
    error = RateLimitError("429", status_code=429, retry_after_s=86_400.0)
    began = anyio.current_time()
    with pytest.raises(APIStatusError):
        await run(api_with(error, at=Moment.SUBMIT), 10)
    assert anyio.current_time() - began < 1
