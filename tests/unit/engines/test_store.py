"""Objects that are written once, on files and in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import obstore
import pytest
from msgspec.structs import replace
from obstore.store import LocalStore, MemoryStore

from pingdata_async import ConfigurationError, Reason, RunError
from pingdata_async.engines.protocol import Record, State
from pingdata_async.engines.store import MOST_ERROR_CHARACTERS, AnswerHead, SharedStore
from pingdata_async.results.outcomes import Tally
from pingdata_async.results.validation import Failure
from pingdata_async.util.encoding import EncodedBody
from tests.support.chunks import chunk_of
from tests.support.partitions import partition, settled

MakeStore = Callable[[], SharedStore]


@pytest.fixture(params=["file", "memory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStore:
    if request.param == "memory":
        return SharedStore(MemoryStore())
    return SharedStore.open(f"file://{tmp_path}/a%20run")


async def test_of_many_writers_one_wins(shared: SharedStore) -> None:
    """Whatever the number, and each of the others knows that it has lost."""
    winners: list[int] = []

    async def write(writer: int) -> None:
        if await shared.put_new("chunks/d/1", b"%d" % writer):
            winners.append(writer)

    for _ in range(5):
        async with anyio.create_task_group() as writers:
            for writer in range(8):
                writers.start_soon(write, writer)
    [winner] = set(winners)
    assert await shared._get("chunks/d/1") is not None
    assert (await shared._get("chunks/d/1") or [b""])[0] == b"%d" % winner


async def test_what_others_have_put_there_is_left_alone(shared: SharedStore) -> None:
    """File managers and consoles leave files and markers of folders."""
    await shared.append("d" * 64, 1, Record(state=State.SUBMITTING, by="a", locations=2))
    for path in ("chunks/.DS_Store", f"chunks/{'d' * 64}/.DS_Store", "chunks/a/b/c"):
        await shared.put_new(path, b"x")
    [chunk] = await anyio.to_thread.run_sync(lambda: list(shared.chunks()))
    assert (chunk.state, chunk.locations) == (State.SUBMITTING, 2)


async def test_a_long_error_is_found_again(shared: SharedStore) -> None:
    """In any script: what the API has said about a row must not stop every later attempt."""
    failure = Failure(Reason.REJECTED, "\U0001f3e0" * MOST_ERROR_CHARACTERS)
    head = AnswerHead(locations=1, counts=Tally(rows=1), failure=failure)
    assert await shared.keep_answer("d", head, chunk_of([0]), None)
    found = await shared.answer_head("d")
    assert found is not None
    assert found.failure == failure


async def test_a_put_that_its_own_client_repeats_is_won(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first was lost, and the second is refused: it is there all the same."""
    put = obstore.put_async

    async def put_twice(*args: Any, **options: Any) -> Any:
        await put(*args, **options)
        return await put(*args, **options)

    monkeypatch.setattr(obstore, "put_async", put_twice)
    assert await shared.put_new("key", b"mine")
    assert not await shared.put_new("key", b"another")


async def test_a_store_that_ignores_the_condition_is_refused(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some imitations of S3 do, without a word."""
    await shared.probe()
    put = obstore.put_async

    async def put_anyway(*args: Any, mode: str) -> Any:
        assert mode == "create"
        return await put(*args)

    monkeypatch.setattr(obstore, "put_async", put_anyway)
    with pytest.raises(ConfigurationError, match="lets a key be written twice"):
        await shared.probe()


async def test_another_run_is_refused_with_what_differs(shared: SharedStore) -> None:
    """What changes neither chunks nor answers makes no difference."""
    spec = await anyio.to_thread.run_sync(
        lambda: settled(partition(1), "http://127.0.0.1:1", tasks=2)
    )
    manifest = spec.manifest
    assert shared.manifest() is None
    await shared.take(manifest)
    assert shared.manifest() == manifest
    await shared.take(replace(manifest, settings=replace(manifest.settings, max_jobs=99)))
    settings = replace(manifest.settings, sources=("PH",), chunk_size=7)
    with pytest.raises(ConfigurationError) as caught:
        await shared.take(replace(manifest, settings=settings, tasks=3, key=("a",)))
    assert str(caught.value) == (
        f"the store {shared._name} is of a run with sources PG instead of PH; chunk_size 10 "
        'instead of 7; tasks 2 instead of 3; key ["policy"] instead of ["a"]: give this one a '
        "store of its own"
    )


async def test_the_age_of_a_record_is_by_the_clock_of_the_store(
    shared: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of this machine may be wrong by any time."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    await shared.probe()
    await shared.append("d", 1, Record(state=State.REFUSED, by="a"))
    log, age_s = await shared.log("d")
    assert [record.by for record in log] == ["a"]
    assert -1.0 < age_s < 600.0


async def test_what_is_in_a_store_can_be_read_from_outside(shared: SharedStore) -> None:
    """Chunks by state, what they cost, and the outcomes of those that are done."""
    spec = await anyio.to_thread.run_sync(lambda: settled(partition(1), "http://127.0.0.1:1"))
    await shared.take(spec.manifest)
    claim = Record(state=State.SUBMITTING, by="a", locations=2, task="7")
    job = Record(state=State.SUBMITTED, by="b", job_id="j1")
    doubt = Record(state=State.DOUBT, by="c", error="lost", task="7")
    for digest, log in {"ok": [claim, job], "bad": [claim, doubt], "open": [claim, doubt]}.items():
        for number, record in enumerate(log, 1):
            assert await shared.append(digest, number, record)
    chunk = chunk_of([5, 6])
    body = b'{"5":{"PG":{"is_success":true}},"6":{"PG":{"is_success":true}}}'
    head = AnswerHead(task="7", job_id="j1", locations=2, counts=Tally(rows=2, ok=2))
    assert await shared.keep_answer("ok", head, chunk, EncodedBody(body))
    assert not await shared.keep_answer("ok", replace(head, task="8"), chunk, EncodedBody(body))
    failed = replace(head, job_id="", failure=Failure(Reason.IN_DOUBT, "lost"), records=2)
    await shared.keep_answer("bad", failed, chunk_of([1, 2]), None)

    summaries = await anyio.to_thread.run_sync(lambda: list(shared.chunks()))
    answers = await anyio.to_thread.run_sync(lambda: list(shared.answers()))
    chunks = {each.digest: each for each in summaries}
    assert {digest: each.state for digest, each in chunks.items()} == {
        "ok": "answered",
        "bad": "failed",
        "open": "doubt",
    }
    assert (chunks["ok"].cost.charged, chunks["open"].cost.in_doubt) == (2, 2)
    assert (chunks["open"].task, chunks["open"].error) == ("7", "lost")
    outcomes = {
        result.row: (result.status, result.reason)
        for answer in answers
        for result in answer.results
    }
    assert outcomes == {
        5: ("ok", None),
        6: ("ok", None),
        1: ("failed", "in_doubt"),
        2: ("failed", "in_doubt"),
    }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("/mnt/run", "the store /mnt/run is no url: one of file, s3, gs, az, as file:///mnt/run"),
        ("ftp://host/run", "the store ftp://host/run cannot be opened"),
        (
            "s3://bucket/run",
            "the store s3://bucket/run cannot be opened: Configuration key",
        ),
    ],
)
def test_a_url_that_is_no_store_is_refused(url: str, said: str) -> None:
    """In one line, and without the insides of the library."""
    with pytest.raises(ConfigurationError) as caught:
        SharedStore.open(url, bogus="1")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


async def test_damaged_objects_are_named(shared: SharedStore) -> None:
    """They are no reason to pay again, nor for a traceback."""
    await shared.put_new("chunks/d/1", b"{")
    await shared.put_new("chunks/d/answer", b"{")
    await shared.put_new("manifest", b"{")
    with pytest.raises(RunError, match=r"chunk d in .* cannot be read"):
        await shared.log("d")
    with pytest.raises(RunError, match=r"the answer of chunk d in .* cannot be read"):
        await shared.answer_head("d")
    with pytest.raises(RunError, match="the answer of chunk e is gone"):
        await shared.answer("e")
    with pytest.raises(RunError, match=r"the manifest in .* cannot be read"):
        shared.manifest()


async def test_a_storage_that_fails_is_an_error_in_one_line(tmp_path: Path) -> None:
    """Of a run, not of a row."""
    shared = SharedStore(LocalStore(tmp_path), "file://here")
    (tmp_path / "chunks").write_bytes(b"a file where a folder should be")
    with pytest.raises(RunError, match="the store file://here cannot be written: ") as caught:
        await shared.put_new("chunks/d/1", b"x")
    assert "\n" not in str(caught.value)
