"""The real command against a server whose outputs cannot be had, or cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.raw_api import RawApi, Write, answer, enhance, well
from tests.support.servers import raw_server, read_request
from tests.support.sweeps import sampled

IMPATIENT = ("--give-up-after", "1", "--chunk-size", "3")
FORBIDDEN = answer(b"<Error>AccessDenied</Error>", status=b"403 Forbidden")


def says(whole: bytes) -> Write:
    """The same bytes each time, whatever was asked."""

    async def write(writer: asyncio.StreamWriter, _body: bytes) -> None:
        writer.write(whole)

    return write


def in_an_unknown_encoding(body: bytes) -> bytes:
    return answer(body, b"Content-Encoding: br")


def as_text(body: bytes) -> bytes:
    return answer(b"oh, " + body)


def only_of_the_first_rows(spoil: Callable[[bytes], bytes]) -> Write:
    """An output is spoilt where it holds row 0."""

    async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(spoil(body) if '"0"' in body.decode() else answer(body))

    return write


@pytest.mark.parametrize(
    "refusal",
    sampled([FORBIDDEN, answer(b"", status=b"401 Unauthorized")], 1),
    ids=["403", "401 of another origin"],
)
async def test_outputs_that_are_refused(refusal: bytes, tmp_path: Path) -> None:
    """The run stops, says which job it is, and keeps all; given again, it pays for nothing."""
    storage_api = RawApi(write_output=(only_of_the_first_rows(lambda _body: refusal),))
    async with raw_server(storage_api) as storage:
        api = RawApi(
            write_output=(says(answer(b"", status=b"404 Not Found")),),
            output_url=storage.url + "/api/v1/sov/{job}/output/o.json?sig=1",
        )
        storage_api._jobs = api._jobs
        async with raw_server(api) as server:
            done = await enhance(
                server.url, tmp_path, *IMPATIENT,
                policy={"late_after_s": 0.2, "forgotten_after_s": 0.1},
            )  # fmt: skip
            assert (done.code, done.rows, api.charged) == (5, [], 6), done.err
            assert "no way leads to output 'o.json' of job job-" in done.err
            assert "Traceback" not in done.err
            storage_api._writers["output"] = (well,)
            done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


@pytest.mark.parametrize(
    "url",
    sampled(
        [
            "http://user:password@127.0.0.1:1/{job}/output/o.json",
            "http://10.0.0.1/api/v1/sov/{job}/output/o.json",
            "http://[",
        ],
        1,
    ),
)
async def test_urls_that_are_of_no_use(url: str, tmp_path: Path) -> None:
    """The documented paths lead to the output all the same."""
    api = RawApi(output_url=url)
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err
    assert {target for target in api.targets if "/output/" in target} == {
        f"/api/v1/sov/job-{number}/output/o.json" for number in range(2)
    }


@pytest.mark.parametrize("spoil", sampled([in_an_unknown_encoding, as_text], 1))
async def test_an_output_that_can_never_be_read(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """Its rows fail, with the job and what came; `retry` fetches it again, and pays nothing."""
    api = RawApi(write_output=(only_of_the_first_rows(spoil),))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
        assert (done.code, done.statuses) == (3, ["failed"] * 3 + ["ok"] * 3), done.err
        assert [row.get("reason") for row in done.rows[:3]] == ["unreadable"] * 3
        assert "the output of job job-" in done.rows[0]["error"]
        where = Path(done.rows[0]["error"].rpartition("kept in ")[2])
        whole = where.read_bytes()
        assert set(json.loads(whole.removeprefix(b"oh, "))) == {"0", "1", "2"}
        assert api.charged == 6
        api._writers["output"] = (well,)
        done = await enhance(server.url, tmp_path, "-u", server.url, command="retry")
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


@pytest.mark.parametrize("spoil", sampled([as_text, in_an_unknown_encoding], 1))
async def test_outputs_none_of_which_can_be_read(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    """No row fails: the run stops with the job and what came, and goes on without paying."""

    async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(spoil(body))

    api = RawApi(write_output=(write,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
        assert (done.code, done.rows, api.charged) == (5, [], 6), done.err
        assert "the output of job job-" in done.err
        assert sorted((tmp_path / "out.jsonl.run" / "spool").rglob("*.unreadable-0"))
        api._writers["output"] = (well,)
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


async def test_outputs_none_of_which_can_ever_be_read(tmp_path: Path) -> None:
    """What stopped the run once fails its rows the next time; asking again pays for nothing."""

    async def write(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(as_text(body))

    api = RawApi(write_output=(write,))
    async with raw_server(api) as server:
        assert (await enhance(server.url, tmp_path, *IMPATIENT)).code == 5
        done = await enhance(server.url, tmp_path, *IMPATIENT)
        assert (done.code, done.statuses) == (3, ["failed"] * 6), done.err
        assert {row["reason"] for row in done.rows} == {"unreadable"}
        again = ("-u", server.url, "--give-up-after", "1")
        done = await enhance(server.url, tmp_path, *again, command="retry")
        assert (done.code, done.statuses, api.charged) == (3, ["failed"] * 6, 6), done.err
        api._writers["output"] = (well,)
        done = await enhance(server.url, tmp_path, "-u", server.url, command="retry")
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


async def test_a_job_that_the_api_forgets(tmp_path: Path) -> None:
    """Status and output unknown for as long as patience lasts: then it is sent again, once."""
    gone = says(answer(b"{}", status=b"404 Not Found"))
    api = RawApi(write_status=(*[gone] * 3, well))

    async def status(writer: asyncio.StreamWriter, body: bytes) -> None:
        await (gone if b"job-0/" in body else well)(writer, body)

    api._writers["status"] = (status,)
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 9), done.err


@pytest.mark.parametrize("count", sampled(["9" * 5000, "9" * 400, "1e400"], 1))
async def test_counts_that_are_none(count: str, tmp_path: Path) -> None:
    """They are not known, and that is all."""

    async def status(writer: asyncio.StreamWriter, body: bytes) -> None:
        says = body.replace(b'"COMPLETE"', f'"COMPLETE","num_completed":{count}'.encode(), 1)
        dates = b'"requested_at":"99999-01-01T00:00:00Z","completed_at":1e400,'
        writer.write(answer(says.replace(b'"status"', dates + b'"status"', 1)))

    api = RawApi(write_status=(status,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, *IMPATIENT)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


async def test_a_portal_in_the_place_of_the_api(tmp_path: Path) -> None:
    """HTML in answer to submissions: each may have been taken, so there are few."""
    portal = says(answer(b"<html><title>Sign in</title></html>", b"Content-Type: text/html"))
    api = RawApi(write_submission=(portal,))
    async with raw_server(api) as server:
        done = await enhance(server.url, tmp_path, "--chunk-size", 1, rows=20)
    assert (done.code, api.counts["submission"]) == (5, 3), done.err
    assert "an HTML page" in done.err


# -- jobs that were complete, and are unknown when the run is gone on with ---------------------

GONE = says(answer(b"{}", status=b"404 Not Found"))
UNWELL = says(answer(b"", status=b"503 Service Unavailable"))
SOON = {"late_after_s": 0.2, "forgotten_after_s": 0.1}


async def stopped_when_complete(api: RawApi, url: str, tmp_path: Path) -> Path:
    """A run that was told of its outputs, and could not fetch them; the API forgets its jobs."""
    wells, api._writers["output"] = api._writers["output"], (UNWELL,)
    done = await enhance(url, tmp_path, *IMPATIENT, policy=SOON)
    assert (done.code, done.rows, api.charged) == (5, [], 6), done.err
    api._writers |= {"output": wells, "status": (GONE,)}
    return tmp_path / "out.jsonl.run" / "journal.sqlite3"


@pytest.mark.parametrize(
    "path", sampled(["files/{job}/output/o.json", "sov/{job}/output/o.json"], 1)
)
async def test_a_job_that_is_forgotten_before_its_output(path: str, tmp_path: Path) -> None:
    """The output is fetched from where the API said it is, and nothing is paid again."""
    api = RawApi(output_url=f"/api/v1/{path}")
    async with raw_server(api) as server:
        await stopped_when_complete(api, server.url, tmp_path)
        done = await enhance(server.url, tmp_path, *IMPATIENT, policy=SOON)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err


async def test_a_job_that_is_forgotten_with_its_output(tmp_path: Path) -> None:
    """It was complete, so it is kept each time; only `retry` pays for another one, and says so."""
    api = RawApi()
    async with raw_server(api) as server:
        await stopped_when_complete(api, server.url, tmp_path)
        api._writers["output"] = (GONE,)
        for _ in range(2):
            done = await enhance(server.url, tmp_path, *IMPATIENT, policy=SOON)
            assert (done.code, done.rows, api.charged) == (5, [], 6), done.err
            assert "the API called job job-" in done.err
            assert "unless by the `retry` of a run" in done.err
        first_jobs = set(api._jobs)

        async def status(writer: asyncio.StreamWriter, body: bytes) -> None:
            is_old = any(f"/{job}/".encode() in body for job in first_jobs)
            await (GONE if is_old else well)(writer, body)

        async def output(writer: asyncio.StreamWriter, body: bytes) -> None:
            is_old = any(f"/{job}/" in api.targets[-1] for job in first_jobs)
            await (GONE if is_old else well)(writer, body)

        api._writers |= {"output": (output,), "status": (status,)}
        words = ("-u", server.url, "--give-up-after", "1")
        done = await enhance(server.url, tmp_path, *words, command="retry", policy=SOON)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 12), done.err
    assert "its rows are sent again" in done.err


@pytest.mark.parametrize("target", ["/steal/{job}/output/o.json", "/api/v1/enhance?sources=PG"])
async def test_a_journal_that_names_a_place_for_the_token(target: str, tmp_path: Path) -> None:
    """Another host is asked as a stranger, and no other endpoint of the API is asked at all."""
    heads: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_request(reader))
        writer.write(answer(b"", status=b"404 Not Found"))
        await writer.drain()

    api = RawApi()
    async with raw_server(listen) as stranger, raw_server(api) as server:
        journal = await stopped_when_complete(api, server.url, tmp_path)
        is_foreign = target.startswith("/steal")
        url = (stranger.url if is_foreign else server.url) + target
        planted = json.dumps([{"url": url, "filename": "o.json", "description": ""}])
        with contextlib.closing(sqlite3.connect(journal)) as connection, connection:
            assert connection.execute("UPDATE chunks SET outputs = ?", (planted,)).rowcount == 2
        done = await enhance(server.url, tmp_path, *IMPATIENT, policy=SOON)
    assert (done.code, done.statuses, api.charged) == (0, ["ok"] * 6, 6), done.err
    assert len(heads) == 2 * is_foreign
    assert not any(b"authorization" in head.lower() or b"right" in head for head in heads)
    assert not any("/api/v1/enhance" in each for each in api.targets)
