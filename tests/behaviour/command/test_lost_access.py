"""The real command against a server that refuses the token that it has accepted before."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.behaviour.command.test_outputs_out_of_reach import says
from tests.support.raw_api import RawApi, answer, enhance, well
from tests.support.servers import raw_server
from tests.support.sweeps import sampled

REFUSED = says(answer(json.dumps({"message": "Invalid token."}).encode(), status=b"401 No"))
FORBIDDEN = says(answer(json.dumps({"message": "Not yours."}).encode(), status=b"403 No"))
QUICK = {"base_delay_s": 0.02}


@pytest.mark.parametrize("kind", sampled(["output", "submission", "status"], 1))
async def test_a_token_that_is_refused_for_a_while(kind: str, tmp_path: Path) -> None:
    """It is asked again, and the run ends as if nothing had been."""
    first = well if kind == "submission" else REFUSED
    api = RawApi()
    api._writers[kind] = (first, REFUSED, REFUSED, well)
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, "--chunk-size", "2", policy=QUICK)
    assert (done.code, done.statuses) == (0, ["ok"] * 6), done.err
    assert "3 jobs, 6 locations charged" in done.err


@pytest.mark.parametrize("kind", sampled(["submission", "output", "status"], 1))
async def test_a_token_that_is_refused_for_good(kind: str, tmp_path: Path) -> None:
    """The run stops with exit code 4 and one line, and goes on when the token is right again."""
    api = RawApi()
    api._writers[kind] = (well, REFUSED)
    async with raw_server(api) as server:
        words = ("--chunk-size", "2")
        done = await enhance(server.url, tmp_path, *words, policy=QUICK | {"late_after_s": 0.1})
        assert (done.code, done.rows) == (4, []), done.err
        assert "answered 401: Invalid token." in done.err
        assert "Traceback" not in done.err
        api._writers[kind] = (well,)
        done = await enhance(server.url, tmp_path, *words)
    assert (done.code, done.statuses) == (0, ["ok"] * 6), done.err
    assert "3 jobs, 6 locations charged" in done.err


async def test_a_token_that_may_not_see_the_jobs_of_an_earlier_one(tmp_path: Path) -> None:
    """They are kept and named; all else is done, and they are fetched when they may be."""

    async def of_new_jobs(writer: asyncio.StreamWriter, body: bytes) -> None:
        await (FORBIDDEN if b"/job-0/" in body else well)(writer, body)

    words = ("--chunk-size", "2", "--max-jobs", 1)
    policy = QUICK | {"late_after_s": 0.1}
    api = RawApi(write_submission=(well, REFUSED), write_status=(REFUSED,))
    async with raw_server(api) as server:
        assert (await enhance(server.url, tmp_path, *words, policy=policy)).code == 4
        api._writers |= {"submission": (well,), "status": (of_new_jobs,)}
        done = await enhance(server.url, tmp_path, *words, policy=policy)
        assert done.code == 5, done.err
        assert "the outputs of 1 paid job with 2 locations cannot be fetched now" in done.err
        assert "answered 403: Not yours." in done.err
        assert "Stopped: 4 of 6 rows finished" in done.err
        api._writers["status"] = (well,)
        done = await enhance(server.url, tmp_path, *words)
    assert (done.code, done.statuses) == (0, ["ok"] * 6), done.err
    assert "3 jobs, 6 locations charged" in done.err
