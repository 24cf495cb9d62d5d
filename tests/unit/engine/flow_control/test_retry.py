"""What an error means, and when a request is tried again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pingdata_async as ping
from pingdata_async.engine.flow_control.retry import (
    GiveUp,
    Health,
    RetryPolicy,
    Verdict,
    judge_read,
    judge_submission,
)
from pingdata_async.models import RequestKind


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e5), st.integers())
def test_a_delay_is_never_below_what_was_asked_for(
    attempt: int, retry_after_s: float | None, seed: int
) -> None:
    """Retry-After wins, and is exceeded by a second at most; otherwise the ceiling holds."""
    delay_s = RetryPolicy().delay_s(attempt, retry_after_s, random.Random(seed))
    if not retry_after_s:  # 0 asks for nothing
        assert 0.25 <= delay_s <= 30.0
    else:
        assert retry_after_s <= delay_s <= retry_after_s + 1.0


V = Verdict
REFUSED = ping.TransportError("", maybe_sent=False)
LOST = ping.TransportError("", maybe_sent=True)


@pytest.mark.parametrize(
    ("error", "after_post", "after_get"),
    [
        (REFUSED, V.RETRY, V.RETRY),
        (LOST, V.IN_DOUBT, V.RETRY),
        (ping.RateLimitError("", status_code=429), V.RETRY, V.RETRY),
        (ping.ServerError("", status_code=503), V.RETRY, V.RETRY),
        (ping.ServerError("", status_code=500), V.IN_DOUBT, V.RETRY),
        (ping.ServerError("", status_code=502), V.IN_DOUBT, V.RETRY),
        (ping.ServerError("", status_code=504), V.IN_DOUBT, V.RETRY),
        (ping.DecodeError(), V.IN_DOUBT, V.RETRY),
        (ping.NotFoundError("", status_code=404), V.STOP, V.UNKNOWN_JOB),
        (ping.RequestRejectedError("", status_code=400), V.REJECTED, V.RETRY),
        (ping.RequestRejectedError("", status_code=408), V.RETRY, V.RETRY),
        (ping.AuthenticationError("", status_code=401), V.NO_ACCESS, V.NO_ACCESS),
        (ping.AccessDeniedError("", status_code=403), V.NO_ACCESS, V.RETRY),
        (ping.QuotaExceededError("", status_code=403), V.STOP, V.RETRY),
        (ping.ClientClosedError(), V.STOP, V.STOP),
    ],
    ids=lambda value: str(getattr(value, "status_code", "")) or type(value).__name__,
)
def test_what_an_error_means_depends_on_what_was_asked(
    error: ping.PingDataError, after_post: Verdict, after_get: Verdict
) -> None:
    """A lost POST is in doubt, a lost GET is not."""
    assert (judge_submission(error), judge_read(error)) == (after_post, after_get)


def test_it_is_known_when_failures_end_a_run() -> None:
    """Sooner while the API has never answered; not at all once a request has passed."""
    health = Health(RetryPolicy(give_up_after_s=100.0, first_contact_s=60.0))
    poll = RequestKind.POLL
    assert health.gives_up_in_s(poll) is None
    health.judge(poll, 0.0, None, 0.0)
    health.judge(poll, 0.0, None, 20.0)
    assert health.gives_up_in_s(poll) == 40.0
    health.note_answer()
    assert health.gives_up_in_s(poll) == 80.0
    assert health.judge(poll, 0.0, None, 70.0) is GiveUp.NOTHING
    assert health.judge(poll, 0.0, None, 110.0) is GiveUp.RUN
    assert health.gives_up_in_s(poll) == 0.0
    health.note_success(poll, 111.0)
    assert health.gives_up_in_s(poll) is None
