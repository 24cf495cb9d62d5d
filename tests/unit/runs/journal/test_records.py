"""The states of a chunk."""

from __future__ import annotations

import pytest

from pingdata_async.runs.journal.records import (
    LEGAL_CHANGES,
    UNTOUCHED,
    ChunkState,
    Resumption,
    code_of,
    is_legal,
    on_resume,
    state_of,
)


def test_every_state_has_its_changes() -> None:
    """No state is forgotten in the table."""
    assert set(LEGAL_CHANGES) == set(ChunkState)


def test_every_state_can_be_reached_and_left_for_an_end() -> None:
    """From planned each state can be reached, and from each an end."""

    def reachable(state: ChunkState) -> set[ChunkState]:
        found, todo = {state}, [state]
        while todo:
            for after in LEGAL_CHANGES[todo.pop()] - found:
                found.add(after)
                todo.append(after)
        return found

    assert reachable(ChunkState.PLANNED) == set(ChunkState)
    for state in ChunkState:
        assert any(not LEGAL_CHANGES[after] for after in reachable(state))


def test_an_answer_is_never_taken_without_an_intent() -> None:
    """A chunk is submitted only after the intent, and spooled only after its job was done."""
    before = {state: [s for s in ChunkState if is_legal(s, state)] for state in ChunkState}
    assert before[ChunkState.SUBMITTED] == [ChunkState.SUBMITTING]
    assert before[ChunkState.COMPLETE] == [ChunkState.SUBMITTED]
    assert before[ChunkState.SPOOLED] == [ChunkState.COMPLETE]


@pytest.mark.parametrize(
    ("state", "resumption"),
    [
        (ChunkState.PLANNED, Resumption.SEND),
        (ChunkState.SUBMITTING, Resumption.DOUBT),
        (ChunkState.SUBMITTED, Resumption.POLL),
        (ChunkState.COMPLETE, Resumption.POLL),
        (ChunkState.SPOOLED, Resumption.NOTHING),
        (ChunkState.FAILED, Resumption.NOTHING),
        (ChunkState.SPLIT, Resumption.NOTHING),
    ],
)
def test_what_a_resumed_run_does(state: ChunkState, resumption: Resumption) -> None:
    """What is paid for is polled, what is at an end is left alone."""
    assert on_resume(state) is resumption
    assert (resumption is Resumption.NOTHING) == (not LEGAL_CHANGES[state])


def test_a_state_fits_into_a_byte() -> None:
    """Every state has a code of its own, and an untouched chunk is planned."""
    assert [state_of(code_of(state)) for state in ChunkState] == list(ChunkState)
    assert all(UNTOUCHED < code_of(state) < 256 for state in ChunkState)
    assert state_of(UNTOUCHED) is ChunkState.PLANNED
