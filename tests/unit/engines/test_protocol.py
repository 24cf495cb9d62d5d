"""What the log of a chunk says, and what follows."""

from __future__ import annotations

import pytest

from pingdata_async.engines.protocol import (
    Claim,
    Cost,
    Doubt,
    Follow,
    Poll,
    Record,
    State,
    Step,
    Wait,
    cost_of,
    digest_of,
    is_own_doubt,
    may_follow,
    next_step,
)
from pingdata_async.locations.chunk import Chunk, RowHistory
from tests.support.chunks import chunk_of

RECORDS = {
    "?": Record(state=State.SUBMITTING, by="a", locations=10),
    "+": Record(state=State.SUBMITTED, by="b", job_id="j1"),
    "-": Record(state=State.REFUSED, by="c"),
    "d": Record(state=State.DOUBT, by="d", error="lost"),
    "x": Record(state=State.ABANDONED, by="e", error="failed"),
    "/": Record(state=State.SPLIT, by="f", sizes=(4, 6), because_jobs_failed=True),
}


def log_of(signs: str) -> list[Record]:
    return [RECORDS[sign] for sign in signs]


@pytest.mark.parametrize(
    ("signs", "age_s", "step"),
    [
        ("", 0.0, Claim()),
        ("?", 0.0, Wait(2.0)),
        ("?", 99.0, Wait(1.0)),
        ("?", 100.0, Doubt()),
        ("?", -5.0, Wait(2.0)),  # of a store whose clock went back
        ("?-", 0.0, Claim()),
        ("?d", 0.0, Claim()),
        ("?d?", 100.0, Doubt()),
        ("?+", 1e9, Poll("j1")),
        ("?d+", 0.0, Poll("j1")),
        ("?+x", 0.0, Claim()),
        ("?+x/", 0.0, Follow((4, 6), because_jobs_failed=True)),
    ],
)
def test_what_an_attempt_does_next(signs: str, age_s: float, step: Step) -> None:
    """Only the age of a claim counts, and nothing else's."""
    log = log_of(signs)
    assert next_step(log, age_s=age_s, doubt_after_s=100.0, look_every_s=2.0) == step


@pytest.mark.parametrize(
    ("signs", "cost"),
    [
        ("", Cost()),
        ("?", Cost()),
        ("?-?+", Cost(jobs=1, charged=10)),
        ("?d?+", Cost(jobs=1, charged=10, doubts=1, in_doubt=10)),
        ("?d+", Cost(jobs=1, charged=10)),  # told after all
        ("?d-?+", Cost(jobs=1, charged=10)),
        ("?+x?+x/", Cost(jobs=2, charged=20, failed_jobs=2)),
        ("?d?d", Cost(doubts=2, in_doubt=20)),
    ],
)
def test_what_a_chunk_may_have_cost(signs: str, cost: Cost) -> None:
    """A doubt counts until the one who was doubted tells what became of it."""
    assert cost_of(log_of(signs)) == cost


def test_who_was_doubted_may_still_tell() -> None:
    """But not once another attempt has gone on."""
    assert is_own_doubt(log_of("?d"), "a")
    assert not is_own_doubt(log_of("?d"), "z")
    assert not is_own_doubt(log_of("?d?"), "a")
    assert may_follow(log_of("?d"), State.SUBMITTED)
    assert not may_follow(log_of("?+"), State.SUBMITTED)
    assert not may_follow(log_of("?"), State.SPLIT)
    assert not may_follow(log_of("/"), State.SUBMITTING)


def test_the_same_question_has_the_same_digest() -> None:
    """Whatever its chunk's number; another API, option, row, location or time asked differs."""
    chunk = chunk_of(range(3))

    def changed(**fields: object) -> str:
        return digest_of("api", b"{}", Chunk(**({**_fields(chunk), **fields})))  # type: ignore[arg-type]  # its own fields

    same = changed()
    assert same == changed(index=9) == digest_of("api", b"{}", chunk)
    asked = [RowHistory(0, times_asked=times) for times in (0, 1, 0)]
    others = {
        digest_of("other", b"{}", chunk),
        digest_of("api", b'{"a":1}', chunk),
        changed(rows=[0, 1, 3]),
        changed(body=chunk.body + b" "),
        changed(earlier=asked),
    }
    assert len(others | {same}) == 6


def _fields(chunk: Chunk) -> dict[str, object]:
    return {name: getattr(chunk, name) for name in Chunk.__struct_fields__}
