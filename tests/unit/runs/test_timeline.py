"""How a run goes over time."""

from __future__ import annotations

from pingdata_async.events import ChunkFinished, JobSubmitted, PauseAsked, RequestRetried
from pingdata_async.models import RequestKind
from pingdata_async.runs.timeline import MAX_MOMENTS, Timeline, moments_of


def test_a_long_run_is_told_in_a_few_hundred_moments() -> None:
    """The first and the last are among them, and a later process goes on behind them."""
    now = [1000.0]
    timeline = Timeline(clock=lambda: now[0])
    timeline.begin([])
    for job in range(5000):
        now[0] += 1.0
        timeline(JobSubmitted(chunk=job, job_id=f"{job}", locations=1, charged_before=False))
        timeline(
            ChunkFinished(
                chunk=job, job_id=f"{job}", rows=2, ok=2, partial=0, failed=0, no_answer=0,
                reasons={},
            )
        )  # fmt: skip
    kept = timeline.moments()
    assert len(kept) <= MAX_MOMENTS + 1
    assert (kept[0].at, kept[-1].at, kept[-1].rows) == (1001.0, 6000.0, 10_000)
    later = Timeline(clock=lambda: now[0])
    later.begin(kept)
    later(
        RequestRetried(
            kind=RequestKind.SUBMIT, chunk=0, job_id=None, attempt=1, error="429", delay_s=1.0,
            status_code=429,
        )
    )  # fmt: skip
    later(PauseAsked(kind=RequestKind.SUBMIT, pause_s=10.0))
    later(PauseAsked(kind=RequestKind.POLL, pause_s=10.0))  # the same one
    now[0] += 60.0
    last = later.moments()[-1]
    assert (last.process, last.refused, last.paused_s) == (1, 1, 10.0)


def test_moments_that_cannot_be_read_are_none() -> None:
    """Nothing depends on them."""
    assert moments_of(None) == moments_of([["x"]]) == moments_of("?") == []
