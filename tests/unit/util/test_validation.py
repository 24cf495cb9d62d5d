"""Numbers and listeners that cannot work are refused when they are given, in one sentence."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import pingdata_async as ping
from pingdata_async.events import Event

NO_AMOUNTS: list[Any] = [math.nan, math.inf, -math.inf, -1, -0.5, True, "2", [1], 10**400]
NO_COUNTS: list[Any] = [*NO_AMOUNTS, 2.5, 2.0]
CLIENT = ping.PingDataClient(api_url="http://127.0.0.1:9", auth_token="t")


def numbers_of(made: Callable[..., Any]) -> list[tuple[Callable[..., Any], str, Any]]:
    """The numbers that something is made with, and its defaults."""
    if dataclasses.is_dataclass(made):
        fields = [
            (field.name, str(field.type), field.default) for field in dataclasses.fields(made)
        ]
    else:
        parameters = inspect.signature(made).parameters.values()
        fields = [(each.name, str(each.annotation), each.default) for each in parameters]
    return [(made, name, kind) for name, kind, _ in fields if kind.startswith(("int", "float"))]


enhancer = functools.partial(ping.BulkEnhancer, CLIENT, "PG")
NUMBERS = [
    *numbers_of(ping.PingDataClient),
    *numbers_of(ping.RetryPolicy),
    *numbers_of(ping.PollSchedule),
    *((enhancer, name, kind) for _, name, kind in numbers_of(ping.BulkEnhancer)),
]


def test_the_numbers_of_everything_public_are_looked_at() -> None:
    """The list below is made of signatures, and is not empty by mistake."""
    assert len(numbers_of(ping.PingDataClient)) == 6
    assert len(numbers_of(ping.BulkEnhancer)) == 5
    assert len(numbers_of(ping.PollSchedule)) == 3
    assert len(numbers_of(ping.RetryPolicy)) >= 18


@pytest.mark.parametrize(
    ("make", "name", "kind"), NUMBERS, ids=[f"{name}" for _, name, _ in NUMBERS]
)
def test_a_number_that_cannot_be(make: Callable[..., Any], name: str, kind: str) -> None:
    """Endless, negative, in words, half a thing: each names the setting and what was given."""
    for value in NO_COUNTS if kind.startswith("int") else NO_AMOUNTS:
        with pytest.raises(ping.ConfigurationError, match=f"^{name} must be ") as caught:
            make(**{name: value})
        assert str(caught.value).endswith((f", not {value!r}", " must be at most 9007199254740992"))


@pytest.mark.parametrize("name", ["late_after_s", "forgotten_after_s", "linger_s"])
def test_no_patience_is_patience_too(name: str) -> None:
    """Where a time may be nothing, 0 is taken."""
    nothing: dict[str, Any] = {name: 0}
    assert getattr(ping.RetryPolicy(**nothing), name) == 0


@pytest.mark.parametrize("name", ["include_raw_response", "check_cache"])
def test_no_is_not_yes(name: str) -> None:
    """A text is neither True nor False."""
    no: dict[str, Any] = {name: "no"}
    with pytest.raises(ping.ConfigurationError, match=f"{name} must be True or False, not 'no'"):
        enhancer(**no)


async def test_the_numbers_of_calls(tmp_path: Path) -> None:
    """Nothing is opened for them, sent, or written."""
    output = tmp_path / "out.jsonl"
    for value in NO_AMOUNTS:
        with pytest.raises(ping.ConfigurationError, match="source_timeout_s must be "):
            await CLIENT.submit([], sources=["PG"], source_timeout_s=value)
        with pytest.raises(ping.ConfigurationError, match="source_timeout_s must be "):
            await CLIENT.enhance("1 Main St", sources=["PG"], source_timeout_s=value)
    for value in [*NO_COUNTS, 0]:
        with pytest.raises(ping.ConfigurationError, match="max_locations must be "):
            await enhancer().run("in.csv", output, max_locations=value)
        with pytest.raises(ping.ConfigurationError, match="budget of PG must be "):
            await enhancer().dry_run("in.csv", output, budget={"PG": value})
    budgets: list[Any] = [[("PG", 1)], {" ": 1}, {1: 1}, 5]
    for budget in budgets:
        with pytest.raises(ping.ConfigurationError, match="by source code"):
            await enhancer().run("in.csv", output, budget=budget)
    assert not list(tmp_path.glob("out*"))


async def asynchronous(event: Event) -> None:
    raise NotImplementedError(event)


async def generating(event: Event) -> AsyncIterator[Event]:
    yield event


class Asynchronous:
    async def __call__(self, event: Event) -> None:
        await asynchronous(event)

    async def method(self, event: Event) -> None:
        await asynchronous(event)


@pytest.mark.parametrize(
    "listener",
    [
        asynchronous,
        generating,
        Asynchronous(),
        Asynchronous().method,
        functools.partial(asynchronous),
        functools.partial(functools.partial(Asynchronous())),
    ],
    ids=["function", "generator", "object", "method", "partial", "partial of object"],
)
def test_a_listener_that_would_be_awaited(listener: Any) -> None:
    """Nobody awaits it, so it would never hear anything."""
    with pytest.raises(ping.ConfigurationError, match="on_event must be a plain function"):
        enhancer(on_event=listener)


@pytest.mark.parametrize("listener", ["print", 5, functools.partial])
def test_listeners_that_are_none_or_good(listener: Any) -> None:
    """What cannot be called is refused; what can, also a class, is taken."""
    if callable(listener):
        enhancer(on_event=listener)
        return
    with pytest.raises(ping.ConfigurationError, match="on_event must be a function, not"):
        enhancer(on_event=listener)
