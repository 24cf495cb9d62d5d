"""Submissions whose answer was lost: counted, sent again so often, or held."""

from __future__ import annotations

import anyio
import pytest

from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import ChunkHeld, SubmissionInDoubt
from pingdata_async.exceptions import DecodeError, PingDataError, SubmissionInDoubtError
from pingdata_async.models import Reason, RowStatus
from tests.simulation.faults import Fault, Moment, ScriptedFaults, SeededFaults
from tests.simulation.simulated_api import SimulatedAPI
from tests.simulation.virtual_loop import VirtualLoop
from tests.support.engine_harness import Observed, check_bookkeeping, run
from tests.support.sweeps import sampled


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.mark.parametrize("attempts", [0, 1, 3])
async def test_as_often_as_the_policy_says(attempts: int) -> None:
    """One chunk is lost again and again: sent `in_doubt_retries` times more, then it fails."""
    faults = ScriptedFaults({Moment.SUBMIT: [None, None, *[Fault.DROP_AFTER] * (attempts + 1)]})
    api = SimulatedAPI(faults=faults)
    seen = await run(api, 50, max_jobs=1, policy=RetryPolicy(in_doubt_retries=attempts))
    assert len(seen.of(SubmissionInDoubt)) == 1 + attempts
    lost = [result.row for result in seen.results if result.reason is Reason.IN_DOUBT]
    assert lost == list(range(20, 30))
    check_bookkeeping(seen, api, 50)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("max_jobs", [1, 4])
async def test_held_chunks_are_left_alone(max_jobs: int, durable: bool) -> None:
    """Nothing in doubt is sent again, the others go on, and in the end the run says so."""
    faults = SeededFaults(2, 0.15, {Moment.SUBMIT: [Fault.DROP_AFTER, Fault.ERROR]})
    api = SimulatedAPI(faults=faults)
    seen = Observed(is_durable=durable)
    policy = RetryPolicy(hold_in_doubt=True)
    with pytest.raises(SubmissionInDoubtError) as caught:
        await run(api, 500, max_jobs=max_jobs, policy=policy, observed=seen)
    held = seen.of(ChunkHeld)
    assert 3 < len(held) < 30
    assert str(caught.value).startswith(f"{len(held)} submissions with {10 * len(held)} locations")
    assert len(seen.rows) == 500 - 10 * len(held)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert set(api.counts.submissions.values()) == {1}
    sent = [chunk for what, chunk in seen.told if what == "submitting"]
    assert len(sent) == len(set(sent)) == 50
    check_bookkeeping(seen, api)


class _DownForAWhile(SimulatedAPI):
    """Every POST is answered with 500 for some time, without a job being made."""

    down_from_s = 2.0
    down_for_s = 300.0

    async def submit_body(self, body: bytes) -> str:
        began = 1_000.0 + self.down_from_s
        if began <= anyio.current_time() < began + self.down_for_s:
            self._faults = ScriptedFaults(always={Moment.SUBMIT: Fault.ERROR})
        else:
            self._faults = ScriptedFaults()
        return await super().submit_body(body)


@pytest.mark.parametrize("max_jobs", sampled([4, 1, 64], 1))
@pytest.mark.parametrize("down_from_s", sampled([2.0, 0.0], 1))
@pytest.mark.parametrize("down_for_s", [5.0, 300.0])
def test_an_api_that_is_down_leaves_few_doubts(
    down_for_s: float, down_from_s: float, max_jobs: int
) -> None:
    """A short trouble is survived, a long one stops the run; never hundreds of doubts."""

    async def main() -> None:
        api = _DownForAWhile(workers=64, locations_per_s=40.0)
        api.down_from_s, api.down_for_s = down_from_s, down_for_s
        seen = Observed(is_durable=True)
        try:
            await run(api, 6_000, max_jobs=max_jobs, observed=seen)
        except PingDataError:
            assert down_for_s > 60
            check_bookkeeping(seen, api)
        else:
            check_bookkeeping(seen, api, 6_000)
        assert len(seen.of(SubmissionInDoubt)) <= 10 + 8
        assert {result.reason for result in seen.results} <= {None, Reason.IN_DOUBT}

    anyio.run(main, backend_options={"loop_factory": VirtualLoop})


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.GARBAGE], ids=lambda f: f.name)
@pytest.mark.parametrize("max_jobs", [1, 8, 64])
async def test_answers_that_are_all_lost_stop_the_run(max_jobs: int, fault: Fault) -> None:
    """Each lost answer may be a paid job: few are risked, and the rest is not sent."""
    api = SimulatedAPI(faults=ScriptedFaults(always={Moment.SUBMIT: fault}))
    seen = Observed()
    with pytest.raises(SubmissionInDoubtError, match="each may be charged"):
        await run(api, 10_000, max_jobs=max_jobs, observed=seen)
    assert api.counts.jobs <= 10
    assert not seen.chunks
    check_bookkeeping(seen, api)


@pytest.mark.parametrize("max_jobs", [1, 8])
async def test_pages_in_the_place_of_answers_stop_the_run_sooner(max_jobs: int) -> None:
    """HTML after each submission is not the API: three are enough to see that."""
    page = DecodeError("but an HTML page", is_page=True)
    api = SimulatedAPI(faults=ScriptedFaults(always={Moment.SUBMIT: page}))
    seen, began = Observed(), anyio.current_time()
    with pytest.raises(SubmissionInDoubtError, match="HTML page"):
        await run(api, 10_000, max_jobs=max_jobs, observed=seen)
    assert len(seen.of(SubmissionInDoubt)) == 3
    assert anyio.current_time() - began < 5


async def test_pages_now_and_again_are_survived() -> None:
    """Between submissions that are accepted, they are doubts as any other."""
    page = DecodeError("but an HTML page", is_page=True)
    script = [page, None] * 6
    api = SimulatedAPI(faults=ScriptedFaults({Moment.SUBMIT: script}))
    seen = await run(api, 100, max_jobs=1)
    assert {result.status for result in seen.results} == {RowStatus.OK}
    assert len(seen.of(SubmissionInDoubt)) == 6


@pytest.mark.parametrize("give_up_after_s", [3.0, 20.0])
async def test_doubts_do_not_outlive_patience(give_up_after_s: float) -> None:
    """Where nothing but failures came for so long, the run stops, in doubt or not."""
    policy = RetryPolicy(
        give_up_after_s=give_up_after_s, in_doubt_retries=100, max_doubts_in_a_row=100
    )
    api = SimulatedAPI(faults=ScriptedFaults(always={Moment.SUBMIT: Fault.DROP}))
    seen, began = Observed(), anyio.current_time()
    with pytest.raises(SubmissionInDoubtError):
        await run(api, 100, policy=policy, observed=seen)
    assert give_up_after_s < anyio.current_time() - began < 2.5 * give_up_after_s
    assert not seen.results


@pytest.mark.parametrize("max_jobs", [1, 8])
async def test_holding_does_not_lose_one_chunk_after_the_other(max_jobs: int) -> None:
    """Where every answer is lost, few submissions are risked and held, not all of the input."""
    api = SimulatedAPI(faults=ScriptedFaults(always={Moment.SUBMIT: Fault.DROP_AFTER}))
    policy = RetryPolicy(hold_in_doubt=True)
    with pytest.raises(SubmissionInDoubtError):
        await run(api, 10_000, max_jobs=max_jobs, policy=policy, observed=(seen := Observed()))
    assert api.counts.jobs == len(seen.of(ChunkHeld)) <= 10


async def test_a_doubt_is_told_before_it_is_sent_again() -> None:
    """What a store knows is enough to count what may be paid twice, whenever it ends."""
    api = SimulatedAPI(faults=ScriptedFaults({Moment.SUBMIT: [Fault.DROP_AFTER, Fault.ERROR]}))
    seen = await run(api, 10)
    assert [what for what, _ in seen.told] == [
        "submitting", "doubted", "submitting", "doubted", "submitting", "submitted",
        "completed", "deliver",
    ]  # fmt: skip
