"""The command `reconcile`: whether what is in doubt was charged."""

from __future__ import annotations

from pathlib import Path

import msgspec

import pingdata_async as ping
from pingdata_async.sandbox import FaultPlan, SandboxServer
from tests.support.commands import ADDRESSES, run, sandbox
from tests.support.runs import enhancer

__all__ = ["sandbox"]  # a fixture


IMPATIENT = ping.RetryPolicy(
    base_delay_s=0.01, max_delay_s=0.02, max_doubts_in_a_row=1000, in_doubt_retries=100
)


async def enhanced(sandbox: SandboxServer, output: Path, **faults: float) -> None:
    """A run some of whose submissions get no answer."""
    sandbox._api._injector.plan = FaultPlan(**faults)  # type: ignore[arg-type]
    async with ping.PingDataClient(api_url=sandbox.url, auth_token="right") as client:
        run = enhancer(client, sources=["PG", "PH"], retry_policy=IMPATIENT)
        await run.run(ADDRESSES, output)
    sandbox._api._injector.plan = FaultPlan()


async def test_may_have_been_charged_becomes_was_or_was_not(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Exit 3 and 0; 5 where something else used the account; the run is found by its output."""
    await enhanced(sandbox, tmp_path / "o.jsonl", lost_answer=0.6)
    words = [tmp_path / "o.jsonl", "-u", sandbox.url]
    done = await run("reconcile", *words)
    assert done.code == 3, done.err
    assert "What is in doubt was charged, if nothing else used the account" in done.out
    told = msgspec.json.decode((await run("reconcile", *words, "--json")).out)
    twice = sandbox.stats.locations_accepted - 100
    assert (told["verdict"], told["locations_in_doubt"]) == ("charged", twice)
    assert told["sources"]["PH"]["unexplained"] == twice > 0

    one = ["1 Main St, Boston, MA", "-s", "PG,PH", "-u", sandbox.url]
    assert (await run("enhance-one", *one)).code == 0
    done = await run("reconcile", *words)
    assert done.code == 5
    assert "cannot be told: something else used the account" in done.out


async def test_what_was_not_charged(sandbox: SandboxServer, tmp_path: Path) -> None:
    """Exit 0; so for a run of which nothing is in doubt; the API must be named, and known."""
    await enhanced(sandbox, tmp_path / "o.jsonl", drop=0.6)
    done = await run("reconcile", tmp_path / "o.jsonl", "-u", sandbox.url)
    assert done.code == 0, done.err
    assert "What is in doubt was not charged" in done.out
    assert sandbox.stats.locations_accepted == 100
    done = await run("reconcile", tmp_path / "o.jsonl")
    assert (done.code, done.out) == (2, "")
    assert f"name it again: -u {sandbox.url}" in done.err
    done = await run("reconcile", tmp_path / "o.jsonl", "-u", sandbox.url, token="wrong")
    assert (done.code, done.out) == (4, "")
    assert (await run("reconcile", tmp_path)).code == 2
