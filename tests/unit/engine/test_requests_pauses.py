"""What the API says of when to come back, heeded by every request of a run."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Mapping

import anyio
import pytest

from pingdata_async.engine.flow_control.rate_limiter import RateLimiter
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import (
    JobAbandoned,
    JobSubmitted,
    PauseAsked,
    RequestRetried,
    RequestSent,
    SubmissionInDoubt,
)
from pingdata_async.exceptions import (
    PauseTooLongError,
    PingDataError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)
from pingdata_async.locations.chunk import Chunk
from pingdata_async.models import RowStatus
from tests.simulation.faults import Moment, ScriptedFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, run
from tests.support.sweeps import sampled

pytestmark = pytest.mark.anyio

REQUESTS = [Moment.SUBMIT, Moment.POLL, Moment.FETCH]
UNDER_WAY_S = 0.1  # requests that were sent before a refusal arrived


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def in_the_middle(error: PingDataError, moment: Moment) -> SimulatedAPI:
    return SimulatedAPI(faults=ScriptedFaults({moment: [None] * 5 + [error]}))


def unavailable(retry_after_s: float | None) -> ServerError:
    return ServerError("503", status_code=503, retry_after_s=retry_after_s)


@pytest.mark.parametrize("moment", REQUESTS)
async def test_a_503_with_a_time_holds_back_its_kind(moment: Moment) -> None:
    """No request of its kind is sent before that time; the other kinds go on."""
    seen = await run(in_the_middle(unavailable(20.0), moment), 300, max_jobs=8)
    (refused,) = seen.times(RequestRetried, status_code=503)

    def sent(kind: str) -> list[float]:
        return [at for at in seen.times(RequestSent, kind=kind) if at > refused + UNDER_WAY_S]

    kinds = {each.name.lower() for each in REQUESTS}
    held = moment.name.lower()
    assert min(sent(held)) - refused >= 20.0
    # (Without polls no job is seen to be done, and so nothing else is to be sent.)
    others = [min(sent(kind), default=math.inf) for kind in kinds - {held}]
    assert min(others) - refused < 19.0 or moment is Moment.POLL
    assert {result.status for result in seen.results} == {RowStatus.OK}


async def test_after_a_503_requests_do_not_all_return_at_once() -> None:
    """Those that were held back leave one after the other."""
    seen = await run(in_the_middle(unavailable(20.0), Moment.SUBMIT), 300, max_jobs=8)
    (refused,) = seen.times(RequestRetried, status_code=503)
    back = [at for at in seen.times(RequestSent, kind="submit") if at > refused + UNDER_WAY_S]
    assert len(set(back[:4])) == 4


async def test_a_pause_of_days_ends_the_run_at_once_and_sends_nothing_more() -> None:
    """What is too long to be waited for is said, and no request breaks it, not even a poll."""
    error = RateLimitError("429", status_code=429, retry_after_s=172_800.0)
    seen = Observed(is_durable=True)
    began = anyio.current_time()
    with pytest.raises(RateLimitError, match="429; it can go on in 172,800 seconds"):
        await run(in_the_middle(error, Moment.SUBMIT), 300, max_jobs=4, observed=seen)
    assert anyio.current_time() - began < 5.0
    assert len(seen.of(JobSubmitted)) > len(seen.chunks)  # for a resumed run to ask about


async def test_a_pause_within_the_longest_is_waited_for() -> None:
    """Five minutes are waited for by default, and not where less is allowed."""
    error = RateLimitError("429", status_code=429, retry_after_s=300.0)
    assert len((await run(in_the_middle(error, Moment.POLL), 100)).rows) == 100
    with pytest.raises(RateLimitError):
        await run(in_the_middle(error, Moment.POLL), 100, policy=RetryPolicy(max_wait_s=200.0))


@pytest.mark.parametrize(("pause_s", "words"), [(9.0, 0), (120.0, 1)])
async def test_a_long_pause_is_said_once(pause_s: float, words: int) -> None:
    """Whoever watches knows why nothing happens; a short one is not worth a word."""
    error = RateLimitError("429", status_code=429, retry_after_s=pause_s)
    api = SimulatedAPI(faults=ScriptedFaults({Moment.SUBMIT: [None] * 3 + [error] * 4}))
    said = (await run(api, 200, max_jobs=8)).of(PauseAsked)
    assert len(said) == words
    assert all(pause_s <= event.pause_s <= pause_s + 1.0 for event in said)


@pytest.mark.parametrize("retry_after_s", [None, 1.0, 50_000.0])
async def test_a_spent_quota_is_no_request_to_slow_down(retry_after_s: float | None) -> None:
    """Nothing more is submitted, what is paid for is brought home, and it is said when."""
    error = QuotaExceededError(
        "429: daily quota exceeded",
        status_code=429,
        retry_after_s=retry_after_s,
        available_at=dt.datetime(2026, 11, 25, tzinfo=dt.UTC),
    )
    api = in_the_middle(error, Moment.SUBMIT)
    seen = Observed()
    with pytest.raises(QuotaExceededError, match="it can go on at 2026-11-25 00:00 UTC"):
        await run(api, 300, max_jobs=4, observed=seen)
    assert 50 <= len(seen.rows) == 10 * api.counts.jobs < 150


@pytest.mark.parametrize("limit", [2.0, 20.0])
async def test_no_more_requests_a_second_than_the_user_allows(limit: float) -> None:
    """Submissions, polls and downloads together stay below it, and it is made use of."""
    seen = await run(SimulatedAPI(), 300, max_jobs=8, max_requests_per_s=limit)
    sent = seen.times(RequestSent)
    span = int(limit) + 1
    gaps = [later - at for at, later in zip(sent, sent[span:], strict=False)]
    assert min(gaps) >= 1.0 - 1e-6
    assert len(sent) <= 30 * 5  # of 30 jobs: polls are saved


class _SlowBooks(Observed):
    """Takes a while to note an intent, and something happens meanwhile."""

    meanwhile: Callable[[], None] | None = None

    async def submitting(
        self, chunk: Chunk, *, charged_before: bool, asked: Mapping[str, int]
    ) -> None:
        await super().submitting(chunk, charged_before=charged_before, asked=asked)
        if chunk.index == 3 and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await anyio.sleep(1.0)
            meanwhile()


async def test_a_submission_whose_turn_came_just_before_a_pause_is_not_sent() -> None:
    """It is put back, as if it had never been meant to be sent; nothing is in doubt."""
    rate_limiter = RateLimiter()
    seen = _SlowBooks()
    paused: list[float] = []

    def pause() -> None:
        paused.append(anyio.current_time())
        rate_limiter.on_rate_limit(lambda _times: 30.0)

    seen.meanwhile = pause
    await run(SimulatedAPI(), 100, observed=seen, rate_limiter=rate_limiter)
    assert ("refused", 3) in seen.told
    later = [at for at in seen.times(RequestSent) if at > paused[0]]
    assert min(later) >= paused[0] + 30.0
    assert seen.rows == list(range(100))


@pytest.mark.parametrize("moment", REQUESTS)
@pytest.mark.parametrize("retry_after_s", sampled([60.0, 1.0, 590.0], 1))
@pytest.mark.parametrize("max_jobs", [1, 64])
async def test_refused_for_ever_is_not_for_ever(
    moment: Moment, retry_after_s: float, max_jobs: int
) -> None:
    """However many jobs share the pauses, a run gives up about as soon as it says."""
    error = RateLimitError("429", status_code=429, retry_after_s=retry_after_s)
    api = SimulatedAPI(faults=ScriptedFaults({moment: [None] * 2}, always={moment: error}))
    began = anyio.current_time()
    with pytest.raises(RateLimitError):
        await run(api, 700, max_jobs=max_jobs)
    assert 900.0 <= anyio.current_time() - began <= 900.0 + 3 * 600.0


@pytest.mark.parametrize("moment", [Moment.POLL, Moment.FETCH])
async def test_pauses_alone_make_no_job_lost(moment: Moment) -> None:
    """A job whose questions are refused again and again for its API's sake is not paid again."""
    error = RateLimitError("429", status_code=429, retry_after_s=400.0)
    faults = [None, *[error, None, None, None] * 12]
    api = SimulatedAPI(faults=ScriptedFaults({moment: faults}), retention_s=1e9)
    seen = await run(api, 100, max_jobs=2)
    assert api.counts.jobs == 10
    assert not seen.of(JobAbandoned)


async def test_a_run_that_stops_waits_for_no_submission() -> None:
    """Submissions that were held back by a pause are left, and the run ends with its jobs."""
    quota = QuotaExceededError("402", status_code=402)
    faults = [None] * 4 + [unavailable(590.0), quota]
    api = SimulatedAPI(faults=ScriptedFaults({Moment.SUBMIT: faults}))
    began = anyio.current_time()
    with pytest.raises((QuotaExceededError, ServerError)):
        await run(api, 300, max_jobs=8, observed=Observed(is_durable=True))
    assert anyio.current_time() - began <= 60.0


async def test_a_pause_that_is_too_long_for_one_run_is_so_for_the_next() -> None:
    """Who begins on the same client while it lasts is told so, and does not hang."""
    error = RateLimitError("429", status_code=429, retry_after_s=86_400.0)
    rate_limiter = RateLimiter()
    with pytest.raises(RateLimitError):
        await run(in_the_middle(error, Moment.SUBMIT), 300, rate_limiter=rate_limiter)
    began = anyio.current_time()
    with pytest.raises(PauseTooLongError):
        await run(SimulatedAPI(), 300, rate_limiter=rate_limiter)
    assert anyio.current_time() - began <= 1.0


# -- what is in flight -------------------------------------------------------------------


@pytest.mark.parametrize("is_durable", [False, True])
async def test_a_pause_too_long_for_submissions_brings_home_what_is_in_flight(
    is_durable: bool,
) -> None:
    """Those that wait for their turn are given up, and nothing else is."""
    faults = ScriptedFaults({Moment.SUBMIT: [None] * 6}, always={Moment.SUBMIT: unavailable(5e3)})
    api = SimulatedAPI(faults=faults, delays_s=dict.fromkeys(range(6), 60.0))
    seen = Observed(is_durable=is_durable)
    with pytest.raises(ServerError, match="it can go on in 5,000 seconds"):
        await run(api, 300, max_jobs=64, max_requests_per_s=10.0, observed=seen)
    assert api.counts.jobs == 6
    assert len(seen.rows) == 60
    assert not seen.of(SubmissionInDoubt)


@pytest.mark.parametrize("moment", [Moment.POLL, Moment.FETCH])
async def test_a_pause_too_long_for_questions_ends_only_what_it_is_about(moment: Moment) -> None:
    """Jobs that cannot be asked about are left, and what can be fetched is."""
    faults = ScriptedFaults({moment: [None] * 9}, always={moment: unavailable(5e3)})
    api = SimulatedAPI(faults=faults)
    seen = Observed(is_durable=True)
    began = anyio.current_time()
    with pytest.raises(ServerError, match="503"):
        await run(api, 300, max_jobs=8, observed=seen)
    assert anyio.current_time() - began < 60.0
    states = Counter(seen.states.values())
    assert states["complete"] == 0 or moment is Moment.FETCH
    assert states["submitted"] == 0 or moment is Moment.POLL
    assert states["delivered"] > 0
    assert states["submitting"] == 0


async def test_a_pause_as_long_as_max_wait_is_waited_for() -> None:
    """Who allows for 600 seconds means it, whatever we add so that not all come at once."""
    for error in (unavailable(600.0), RateLimitError("429", status_code=429, retry_after_s=600.0)):
        for moment in REQUESTS:
            seen = await run(in_the_middle(error, moment), 300, max_jobs=8)
            assert len(seen.rows) == 300


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_submission_in_doubt_that_names_a_time_is_not_sent_again_before_it(
    status: int,
) -> None:
    """Nor is any other: each may be charged for, and lost as well."""
    error = ServerError(str(status), status_code=status, retry_after_s=45.0)
    api = in_the_middle(error, Moment.SUBMIT)
    seen = await run(api, 300, max_jobs=8)
    (lost,) = seen.times(SubmissionInDoubt)
    later = [at for at in seen.times(RequestSent, kind="submit") if at > lost + UNDER_WAY_S]
    assert min(later) >= lost + 45.0
    assert len(seen.rows) == 300


async def test_a_submission_in_doubt_that_names_too_long_a_time_stops_the_run() -> None:
    """It is neither waited for nor sent again; what is in flight comes home."""
    error = ServerError("502", status_code=502, retry_after_s=5_000.0)
    api = in_the_middle(error, Moment.SUBMIT)
    seen = Observed(is_durable=True)
    with pytest.raises(ServerError, match="it can go on in 5,000 seconds"):
        await run(api, 300, max_jobs=4, observed=seen)
    assert len(seen.of(SubmissionInDoubt)) == 1
    assert len(seen.rows) == 10 * api.counts.jobs


@pytest.mark.parametrize("after_s", [0.5, 3.3, 7.0])
@pytest.mark.parametrize("is_durable", [False, True])
async def test_what_waits_for_its_turn_when_the_run_is_cancelled_is_not_in_doubt(
    after_s: float, is_durable: bool
) -> None:
    """It was never sent, and no intent is left behind; with one request a second, others were."""
    seen = Observed(is_durable=is_durable)
    api = SimulatedAPI(latency_s=0.01)
    with anyio.move_on_after(after_s):
        await run(api, 300, max_jobs=16, max_requests_per_s=1.0, observed=seen)
    assert api.counts.jobs == len(seen.of(JobSubmitted)) > 0
    assert not seen.of(SubmissionInDoubt)
    assert "submitting" not in seen.states.values()
