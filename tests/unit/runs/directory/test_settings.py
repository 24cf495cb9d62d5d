"""What is the same run, and what is another one."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import pingdata_async as ping
from pingdata_async.api.wire import JobOptions
from pingdata_async.events import ChunkFinished, Event, RequestSent, RunNotice
from pingdata_async.runs.directory.settings import RunSettings, api_origin, differences
from pingdata_async.sandbox import SandboxServer
from tests.support.runs import (
    ADDRESSES,
    assert_all_there,
    enhancer,
    hashes,
    is_journal,
    requests,
    sandbox_and_client,
    stopped_run,
    write_rows,
)

Call = Callable[[ping.BulkEnhancer], Awaitable[object]]

OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"sources": ["PG", "PH"]}, r"sources PG instead of PG,PH"),
    ({"source_timeout_s": 7}, r"timeout not given instead of 7"),
    ({"include_raw_response": True}, r"include_raw_response .* instead of true"),
    ({"check_cache": False}, r"check_cache .* instead of false"),
    ({"delegate_to": "acme"}, r'delegate_to not given instead of "acme"'),
]


@pytest.mark.parametrize("is_finished", [False, True])
async def test_other_settings_are_another_run(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    is_finished: bool,
) -> None:
    """It is said what differs; nothing is sent, nothing is changed. Likewise for `resume()`."""
    output = tmp_path / "out.jsonl"
    if is_finished:
        await enhancer(client, chunk_size=40).run(ADDRESSES, output)
    else:
        await stopped_run(client, output, ChunkFinished, 1, chunk_size=40)
    sent, before = requests(sandbox), hashes(tmp_path, is_journal)
    calls: list[Call] = [
        lambda bulk: bulk.run(ADDRESSES, output),
        lambda bulk: bulk.plan(ADDRESSES, output),
        lambda bulk: bulk.resume(f"{output}.run"),
        lambda bulk: bulk.retry(f"{output}.run"),
    ]
    for changes, says in OTHERS:
        for call in calls:
            with pytest.raises(ping.ConfigurationError, match=says):
                await call(enhancer(client, **changes))
    assert (requests(sandbox), hashes(tmp_path, is_journal)) == (sent, before)


async def test_another_input_is_another_run(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Another file, or one that was changed, if only by a byte, even of equal size."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    write_rows(source, 30)
    await stopped_run(client, output, ChunkFinished, 1, source=source, max_jobs=1)
    sent, before = requests(sandbox), hashes(tmp_path, is_journal)
    with pytest.raises(ping.ConfigurationError, match=r"another input: .*in\.csv with \d+ bytes"):
        await enhancer(client).run(ADDRESSES, output)
    assert (requests(sandbox), hashes(tmp_path, is_journal)) == (sent, before)
    content = source.read_bytes()
    source.write_bytes(content.replace(b"r7,", b"r8,"))
    os.utime(source, ns=(1, 1))
    with pytest.raises(ping.ConfigurationError, match="another input"):
        await enhancer(client).run(source, output)
    assert requests(sandbox) == sent
    source.write_bytes(content)
    os.utime(source, ns=(2, 2))  # touched, but equal
    assert (await enhancer(client).run(source, output)).rows == 30
    copy = tmp_path / "copy.csv"
    copy.write_bytes(content)
    assert (await enhancer(client).run(copy, output)).rows == 30
    assert sandbox.stats.jobs_accepted == 3


async def test_an_input_that_is_gone_is_not_needed(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Which is said; another name of something that is not there is a mistake all the same."""
    source, output = tmp_path / "in.csv", tmp_path / "out.jsonl"
    write_rows(source, 30)
    await stopped_run(client, output, ChunkFinished, 1, source=source, max_jobs=1)
    source.unlink()
    with pytest.raises(ping.InputError, match=r"resume .*out\.jsonl\.run"):
        await enhancer(client).run(tmp_path / "typo.csv", output)
    events: list[Event] = []
    assert (await enhancer(client, on_event=events.append).run(source, output)).rows == 30
    notices = [event.message for event in events if isinstance(event, RunNotice)]
    assert any("is gone" in message for message in notices)


async def test_what_changes_no_answer_may_differ(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """How many jobs, how large, the order of sources, and where the output goes."""
    output, run_dir = tmp_path / "out.jsonl", tmp_path / "kept"
    with pytest.raises(ping.ConfigurationError, match="cannot be both"):
        await enhancer(client).run(ADDRESSES, run_dir, run_dir=run_dir)
    bulk = enhancer(client, sources=["PG", "PH"])
    await bulk.plan(ADDRESSES, output, run_dir=run_dir)
    other = enhancer(client, sources=["PH", "PG"], chunk_size=7, max_jobs=2)
    summary = await other.run(ADDRESSES, tmp_path / "b.jsonl", run_dir=run_dir)
    assert_all_there(tmp_path / "b.jsonl")
    assert (summary.output, summary.jobs) == (str(tmp_path / "b.jsonl"), 10)
    assert sandbox.stats.peak_jobs_in_flight <= 2
    sent = requests(sandbox)
    await bulk.run(ADDRESSES, output, run_dir=run_dir)
    assert output.read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert requests(sandbox) == sent


async def test_another_api_is_another_run(client: ping.PingDataClient, tmp_path: Path) -> None:
    """By its origin: another port is another API."""
    output = tmp_path / "out.jsonl"
    await stopped_run(client, output, ChunkFinished, 1)
    async with sandbox_and_client() as (other, other_client):
        calls: list[Call] = [
            lambda bulk: bulk.run(ADDRESSES, output),
            lambda bulk: bulk.resume(f"{output}.run"),
        ]
        for call in calls:
            with pytest.raises(
                ping.ConfigurationError, match=f"the API {client.api_url} instead of {other.url}"
            ):
                await call(enhancer(other_client))
        assert requests(other) == 0


@pytest.fixture
def fast_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that a client starts has jobs that take no time."""
    made = partial(SandboxServer, locations_per_s=1e6, queue_delay_s=0.0)
    monkeypatch.setattr("pingdata_async.sandbox.SandboxServer", made)


@pytest.mark.usefixtures("fast_sandbox")
async def test_the_sandbox_is_one_api_whatever_its_port(tmp_path: Path) -> None:
    """It is started anew with each command; jobs of the last one went with it, complete or not."""
    output = tmp_path / "out.jsonl"
    for count in (2, None):
        async with ping.PingDataClient(environment="sandbox") as client:
            if count is not None:
                await stopped_run(client, output, ChunkFinished, count)
            else:
                policy = ping.RetryPolicy(late_after_s=0.1, forgotten_after_s=0.1)
                await enhancer(client, retry_policy=policy).run(ADDRESSES, output)
    assert_all_there(output)


@pytest.mark.usefixtures("fast_sandbox")
async def test_outputs_of_a_sandbox_that_is_gone_are_not_waited_for(tmp_path: Path) -> None:
    """Their jobs were complete, but the server has gone: what it made up is asked for anew."""
    output, stopped = tmp_path / "out.jsonl", anyio.CancelScope()

    def stop(event: Event) -> None:
        if isinstance(event, RequestSent) and event.kind == "fetch":
            stopped.cancel()

    for scope, on_event in ((stopped, stop), (anyio.CancelScope(), None)):
        async with ping.PingDataClient(environment="sandbox") as client:
            with scope:
                policy = ping.RetryPolicy(late_after_s=0.1, forgotten_after_s=0.1)
                bulk = enhancer(client, retry_policy=policy, on_event=on_event)
                await bulk.run(ADDRESSES, output)
    assert stopped.cancelled_caught
    assert_all_there(output)


class Stdin:
    """Standard input from a pipe that was filled before."""

    def __init__(self, content: bytes) -> None:
        self._reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)

    def fileno(self) -> int:
        return self._reading


async def test_standard_input_twice(
    client: ping.PingDataClient,
    sandbox: SandboxServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same bytes are the same input, wherever they come from."""
    output = tmp_path / "out.jsonl"
    write_rows(tmp_path / "in.csv", 40)
    content = (tmp_path / "in.csv").read_bytes()
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    stopped = await stopped_run(
        client, output, ChunkFinished, 1, source=Path("-"), max_jobs=1, chunk_size=10
    )
    assert stopped.scope.cancelled_caught
    monkeypatch.setattr(sys, "stdin", Stdin(content.replace(b"r7,", b"r8,")))
    with pytest.raises(ping.ConfigurationError, match="another input"):
        await enhancer(client).run("-", output)
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    assert (await enhancer(client).run("-", output)).rows == 40
    assert (await enhancer(client).run(tmp_path / "in.csv", output)).rows == 40
    assert sandbox.stats.jobs_accepted == 4


async def test_standard_input_that_is_empty_the_second_time(
    client: ping.PingDataClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called what it is, and the way to go on without it comes first, ready to be pasted."""
    output = tmp_path / "my out.jsonl"
    monkeypatch.setattr(sys, "stdin", Stdin(b"id,address\na,1 Main St\n"))
    await enhancer(client).plan("-", output)
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    with pytest.raises(ping.ConfigurationError) as caught:
        await enhancer(client).run("-", output)
    said = str(caught.value)
    assert "another input: standard input with 23 bytes, not standard input with 0." in said
    assert f"To go on with it: pingdata-async resume '{output}.run'. Or" in said
    monkeypatch.setattr(sys, "stdin", Stdin(b"id,address\na,1 Main St\n"))
    await enhancer(client).run("-", output)
    monkeypatch.setattr(sys, "stdin", Stdin(b"id,address\na,1 Main St\n"))
    with pytest.raises(ping.ConfigurationError, match=r"export '.*my out\.jsonl\.run' -o '.*b c"):
        await enhancer(client).run("-", tmp_path / "b c.jsonl")


async def test_the_same_beside_under_another_name(
    client: ping.PingDataClient, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Its answers are there for nothing: the commands are named, and nothing is left behind."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    await stopped_run(client, first, ChunkFinished, 2)
    sent, before = requests(sandbox), sorted(tmp_path.rglob("*"))
    with pytest.raises(ping.ConfigurationError) as caught:
        await enhancer(client).run(ADDRESSES, second)
    assert f"pingdata-async resume {first}.run" in str(caught.value)
    assert f"pingdata-async export {first}.run -o {second}" in str(caught.value)
    assert (requests(sandbox), sorted(tmp_path.rglob("*"))) == (sent, before)
    with pytest.raises(ping.ConfigurationError, match="the same input"):
        await enhancer(client).plan(ADDRESSES, second)
    # With other sources there is nothing to be had from it.
    await enhancer(client, sources=["PH"]).run(ADDRESSES, tmp_path / "c.jsonl")
    summary = await enhancer(client).run(ADDRESSES, second, pay_again=True)
    assert summary.jobs == 10
    # Now it is a run of its own: gone on with without being asked again.
    second.unlink()
    assert (await enhancer(client).run(ADDRESSES, second)).jobs == 10


async def test_a_broken_neighbour_is_none_of_our_business(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Folders that look like runs, and are none, or damaged."""
    for name in ("x.run", "y.run"):
        (tmp_path / name).mkdir()
    (tmp_path / "z.run").touch()
    (tmp_path / "x.run" / "journal.sqlite3").write_bytes(b"nonsense")
    (tmp_path / "y.run" / "journal.sqlite3").mkdir()
    await enhancer(client, chunk_size=40).run(ADDRESSES, tmp_path / "out.jsonl")


def settings(**changes: Any) -> RunSettings:
    usual: dict[str, Any] = {
        "sources": ("PG",),
        "options": JobOptions(),
        "environment": None,
        "api_url": "https://x.example",
        "api": "https://x.example",
        "chunk_size": 10,
        "max_jobs": 2,
        "source": "in.csv",
        "output": "/out.jsonl",
    }
    return RunSettings(**(usual | changes))


def test_differences() -> None:
    """A callback changes no answer; the way to name one API neither."""
    same = settings(
        options=JobOptions(callback_url="https://me.example"), environment="prod", max_jobs=9
    )
    assert differences(settings(), same) == []
    assert differences(settings(), settings(sources=(), api="sandbox")) == [
        "sources PG instead of none",
        "the API https://x.example instead of sandbox",
    ]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://X.example", "https://x.example"),
        ("https://x.example:443/api/", "https://x.example"),
        ("https://x.example:8443", "https://x.example:8443"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
    ],
)
def test_one_api_however_it_is_written(url: str, origin: str) -> None:
    assert api_origin(url) == origin
