"""A dry run tells, and changes nothing; what was set aside is not paid for again unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

import pingdata_async as ping
from pingdata_async.events import ChunkFinished
from pingdata_async.sandbox import SandboxServer
from tests.support.runs import ADDRESSES, enhancer, hashes, stopped_run, write_rows
from tests.support.sweeps import sampled


def every_entry(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("how_far", sampled(["stopped", "finished", "nothing", "planned"], 2))
async def test_a_dry_run_changes_nothing(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, how_far: str, restart: bool
) -> None:
    """However far the run is that is there, and whether it would be begun anew."""
    output, bulk = tmp_path / "out.jsonl", enhancer(client, chunk_size=40)
    if how_far == "planned":
        await bulk.plan(ADDRESSES, output)
    elif how_far == "stopped":
        await stopped_run(client, output, ChunkFinished, chunk_size=40)
    elif how_far == "finished":
        await bulk.run(ADDRESSES, output)
    before, entries = hashes(tmp_path), every_entry(tmp_path)
    sent = sandbox.stats.locations_accepted
    told = await bulk.dry_run(ADDRESSES, output, restart=restart, overwrite=True)
    assert (hashes(tmp_path), every_entry(tmp_path)) == (before, entries)
    assert told.locations == (100 if restart else 100 - sent)
    is_there = how_far != "nothing" and not restart
    assert told.run_dir == (f"{output}.run" if is_there else None)
    assert any("would be set aside" in note for note in told.notes) == (
        restart and how_far != "nothing"
    )


async def test_a_dry_run_refuses_what_a_run_would(
    client: ping.PingDataClient, tmp_path: Path
) -> None:
    """Another input or other sources under the same name, and the same beside it."""
    output, other = tmp_path / "out.jsonl", tmp_path / "other.jsonl"
    bulk = enhancer(client, chunk_size=100)
    await bulk.run(ADDRESSES, output)
    write_rows(tmp_path / "in.csv", 10)
    with pytest.raises(ping.ConfigurationError, match="another input"):
        await bulk.dry_run(tmp_path / "in.csv", output)
    with pytest.raises(ping.ConfigurationError, match="sources PG instead of PH"):
        await enhancer(client, sources=["PH"]).dry_run(ADDRESSES, output)
    with pytest.raises(ping.ConfigurationError, match="holds the same input"):
        await bulk.dry_run(ADDRESSES, other)
    assert (await bulk.dry_run(ADDRESSES, other, pay_again=True)).locations == 100
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes").touch()
    with pytest.raises(ping.ConfigurationError, match="not a run directory"):
        await bulk.dry_run(ADDRESSES, other, run_dir=tmp_path / "work")


@pytest.mark.parametrize("run_dir", [None, "work"])
async def test_what_was_set_aside_is_not_paid_for_again(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path, run_dir: str | None
) -> None:
    """Planned anew in place of a paid run, the next run is refused; asked for, it is done."""
    output = tmp_path / "out.jsonl"
    place = None if run_dir is None else tmp_path / run_dir
    bulk = enhancer(client, chunk_size=100)
    await bulk.run(ADDRESSES, output, run_dir=place)
    await bulk.plan(ADDRESSES, output, run_dir=place, restart=True, overwrite=True)
    with pytest.raises(ping.ConfigurationError, match=r"old-1 holds the same input"):
        await bulk.run(ADDRESSES, output, run_dir=place, overwrite=True)
    with pytest.raises(ping.ConfigurationError, match=r"old-1 holds the same input"):
        await bulk.run(ADDRESSES, tmp_path / "other.jsonl")
    assert sandbox.stats.locations_accepted == 100
    await bulk.run(ADDRESSES, output, run_dir=place, restart=True, overwrite=True)
    assert sandbox.stats.locations_accepted == 200


async def test_a_run_in_a_folder_of_any_name_is_beside(
    sandbox: SandboxServer, client: ping.PingDataClient, tmp_path: Path
) -> None:
    """`run_dir` gives a run another name, and its answers are there all the same."""
    bulk = enhancer(client, chunk_size=100)
    await bulk.run(ADDRESSES, tmp_path / "a.jsonl", run_dir=tmp_path / "work")
    with pytest.raises(ping.ConfigurationError, match="work holds the same input"):
        await bulk.run(ADDRESSES, tmp_path / "b.jsonl")
    assert sandbox.stats.locations_accepted == 100
