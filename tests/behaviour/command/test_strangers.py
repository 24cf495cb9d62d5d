"""The command, where other people can write, or a run directory came from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pingdata_async.sandbox import SandboxServer
from tests.support.commands import ADDRESSES, run, sandbox
from tests.support.servers import LocalApi, always
from tests.support.sweeps import sampled
from tests.unit.runs.test_run_strangers import change_settings

__all__ = ["sandbox"]  # a fixture


async def test_planted_links_are_exit_2(sandbox: SandboxServer, tmp_path: Path) -> None:
    """In one line, before anything is sent; what the links lead to stays as it is."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"precious")
    words = [ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    assert (await run("plan", *words)).code == 0
    run_dir = tmp_path / "o.jsonl.run"
    for name, target in (("lock", "file"), ("plan.part", "file"), ("spool", ".")):
        place = run_dir / name
        place.unlink(missing_ok=True)
        place.symlink_to(victim / target)
        done = await run("enhance", *words)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"{name} is a link" in done.err
        place.unlink()
    assert [path.read_bytes() for path in victim.iterdir()] == [b"precious"]
    assert not sandbox.stats.jobs_accepted


async def test_a_folder_for_all_is_exit_2_with_what_mends_it(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Somebody made the folder first, so that they can write in it: the run does not begin."""
    run_dir = tmp_path / "o.jsonl.run"
    run_dir.mkdir()
    run_dir.chmod(0o777)
    words = [ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    done = await run("enhance", *words)
    assert done.code == 2
    assert f"chmod 700 {run_dir}" in done.err
    assert not list(run_dir.iterdir())
    assert not sandbox.stats.jobs_accepted


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_run_of_somebody_else_is_said_to_be_one(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """One line and exit 2, whatever is asked of it."""
    words = [ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    assert (await run("plan", *words)).code == 0
    run_dir = tmp_path / "o.jsonl.run"
    os.chown(run_dir, 54321, 54321)
    for command in (
        ["status", run_dir],
        ["export", run_dir, "-o", tmp_path / "e.jsonl"],
        ["enhance", *words],
    ):
        done = await run(*command)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert "belongs to another user (uid 54321)" in done.err


async def test_a_token_goes_to_no_host_that_only_a_journal_names(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """A run directory came from elsewhere; its host is asked nothing until the user names it."""
    words = [ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    assert (await run("plan", *words)).code == 0
    run_dir = tmp_path / "o.jsonl.run"
    async with LocalApi(always({}, status=402)) as thief:
        for environment in (None, "prod"):
            change_settings(run_dir, api_url=thief.url, api=thief.url, environment=environment)
            for command in ("resume", "retry"):
                done = await run(command, run_dir)
                assert done.code == 2
                assert f"name it again: -u {thief.url}" in done.err
                if command == "resume":  # to retry nothing is no stop
                    assert f"  pingdata-async resume {run_dir} -u {thief.url}\n" in done.err
        assert not thief.seen
        assert (await run("resume", run_dir, "-u", thief.url)).code == 5
        assert thief.seen


async def test_a_journal_steers_no_terminal(sandbox: SandboxServer, tmp_path: Path) -> None:
    """What it names is shown with its control characters escaped, and a line stays a line."""
    words = [ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    assert (await run("plan", *words)).code == 0
    run_dir = tmp_path / "o.jsonl.run"
    steering = "\x1b]0;owned\x07 \x9b2J\nall done"
    change_settings(run_dir, source=steering, sources=(steering,), api=steering)
    shown = r"\x1b]0;owned\x07 \x9b2J\nall done"
    done = await run("status", run_dir)
    assert f"{shown} -> {tmp_path}/o.jsonl, sources {shown}, {shown}\n" in done.out
    change_settings(run_dir, output=f"/tmp/{steering}.jsonl")
    done = await run("resume", run_dir)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "\x1b" not in done.err
    done = await run("resume", run_dir, "-o", tmp_path / "p.jsonl", "-u", sandbox.url)
    assert done.code == 2
    assert f"the API {shown} instead of" in done.err


async def test_no_receiver_that_only_a_journal_names_is_told_of_jobs(
    sandbox: SandboxServer, tmp_path: Path
) -> None:
    """Nothing is sent until the user names it again, or none; the shown command does."""
    words = [ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    assert (await run("plan", *words)).code == 0
    run_dir = tmp_path / "o.jsonl.run"
    spy = f"{sandbox.url}/hook?key=1"
    options = {"include_raw_response": False, "check_cache": True, "callback_url": spy}
    change_settings(run_dir, options=options)
    done = await run("resume", run_dir, "-u", sandbox.url)
    assert done.code == 2
    assert f"name it again: --callback-url '{spy}'\n" in done.err
    assert f" --api-url {sandbox.url} --callback-url '{spy}'\n" in done.err
    assert not sandbox.stats.jobs_accepted
    assert (await run("resume", run_dir, "-u", sandbox.url, "--callback-url", "")).code == 0
    assert not sandbox.stats.callbacks
    assert (await run("resume", run_dir)).code == 0  # nothing is left to be sent


@pytest.mark.parametrize(
    "options",
    sampled([{"on_event": 5}, {"sources": []}, {"callback_url": 5}, {"timeout": "soon"}], 2),
)
async def test_options_that_no_run_keeps_are_refused(
    options: dict[str, object], sandbox: SandboxServer, tmp_path: Path
) -> None:
    """In one line, not as a slip of ours."""
    words = [ADDRESSES, "-o", tmp_path / "o.jsonl", "-s", "PG", "-u", sandbox.url]
    assert (await run("plan", *words)).code == 0
    change_settings(tmp_path / "o.jsonl.run", options=options)
    done = await run("resume", tmp_path / "o.jsonl.run", "-u", sandbox.url)
    assert (done.code, done.err.count("\n")) == (5, 1)
    assert "its settings cannot be read" in done.err
