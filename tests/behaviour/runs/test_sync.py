"""The same without `await`: from scripts, threads, and where an event loop is running."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import nbclient
import nbformat
import pyarrow as pa
import pytest
from blockbuster import BlockBuster

import pingdata_async as ping
from pingdata_async import sync
from tests.support.runs import FAST_POLLS, read_addresses

ADDRESSES = ["600 Dexter Avenue, Montgomery, AL", "1 Main St, Boston, MA", "Carson City, NV"]


def sandbox_client() -> ping.PingDataClient:
    return ping.PingDataClient(environment="sandbox")


def test_from_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results in input order, with a summary; no thread is left."""
    monkeypatch.setenv("PINGDATA_ASYNC_ENVIRONMENT", "sandbox")
    before = set(threading.enumerate())
    results = sync.enhance(ADDRESSES, "PG", chunk_size=2, poll_schedule=FAST_POLLS)
    assert [result.row for result in results] == [0, 1, 2]
    assert results.summary.locations_charged == 3
    for thread in set(threading.enumerate()) - before:
        thread.join(60)  # its end may be a moment away
        assert not thread.is_alive()


async def test_where_an_event_loop_is_running(blockbuster: BlockBuster) -> None:
    """As in a notebook, whose loop waits meanwhile."""
    blockbuster.deactivate()
    assert len(sync.enhance(ADDRESSES, "PG", client=sandbox_client())) == 3
    assert asyncio.get_running_loop().is_running()


def test_from_many_threads() -> None:
    """A client that all of them share is open as long as one of them needs it."""
    client = sandbox_client()
    with ThreadPoolExecutor(4) as pool:
        every = list(pool.map(lambda _: sync.enhance(ADDRESSES, "PG", client=client), range(8)))
    assert [len(results) for results in every] == [3] * 8
    assert "closed" in repr(client)


def test_a_table() -> None:
    """A data frame comes back with the answers beside it."""
    table = pa.table({"address": ADDRESSES})
    found = sync.enhance_table(table, "PG", client=sandbox_client(), columns=["pg_latitude"])
    assert found.column_names == ["address", "pg_latitude"]
    assert found.num_rows == 3


def test_a_run_and_its_resumption(tmp_path: Path) -> None:
    """From file to file; options go to the enhancer or the run, whosever they are."""
    output = tmp_path / "out.jsonl"
    client = sandbox_client()
    with pytest.raises(ping.BudgetSpentError):
        sync.run(
            read_addresses()[:30], output, "PG", client=client, chunk_size=10, max_locations=10
        )
    summary = sync.resume(
        tmp_path / "out.jsonl.run", "PG", client=client, chunk_size=10, max_locations=100
    )
    assert (summary.rows, summary.locations_charged) == (30, 30)
    assert len(output.read_bytes().splitlines()) == 30


def test_an_error_is_what_it_would_be() -> None:
    """Of our own, with the results so far."""
    with pytest.raises(ping.BudgetSpentError) as spent:
        sync.enhance(ADDRESSES, "PG", client=sandbox_client(), chunk_size=1, max_locations=2)
    assert len(spent.value.results) == 2
    with pytest.raises(ping.InputError, match="postal_code"):
        sync.enhance([{"zip": "1"}], "PG", client=sandbox_client())
    with pytest.raises(TypeError, match="chunk_sise"):
        sync.run([], "o.jsonl", "PG", client=sandbox_client(), chunk_sise=3)  # type: ignore[call-arg]  # the test


def test_ctrl_c_ends_a_call() -> None:
    """Though it waits for another thread; the process ends with its usual traceback."""
    script = dedent(
        """
        import signal
        import pingdata_async as ping
        from pingdata_async import sync

        # A job in the background of a shell ignores it.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def rows():
            yield "600 Dexter Avenue, Montgomery, AL"
            print("begun", flush=True)
            while True:
                yield "1 Main St, Boston, MA"

        sync.enhance(rows(), "PG", client=ping.PingDataClient(environment="sandbox"))
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode != 0


def test_ctrl_c_ends_its_call_while_another_thread_has_one() -> None:
    """What the interrupted call would have sent is not paid for in the background."""
    script = dedent(
        """
        import signal, threading
        import pingdata_async as ping
        from pingdata_async import sync

        signal.signal(signal.SIGINT, signal.default_int_handler)
        client = ping.PingDataClient(environment="sandbox")
        closed = threading.Event()

        def rows():
            try:
                yield "600 Dexter Avenue, Montgomery, AL"
                print("begun", flush=True)
                while True:
                    yield "1 Main St, Boston, MA"
            finally:
                closed.set()

        async def others():
            import anyio.to_thread
            yield "1 Side St, Boston, MA"
            print("ended" if await anyio.to_thread.run_sync(closed.wait, 60) else "went on")

        other = threading.Thread(target=lambda: sync.enhance(others(), "PG", client=client))
        other.start()
        try:
            sync.enhance(rows(), "PG", client=client)
        except KeyboardInterrupt:
            other.join()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=120)
    assert said == "ended\n"
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_in_a_child_of_a_fork() -> None:
    """The thread of a call that runs in the parent is not there: the child has its own."""
    script = dedent(
        """
        import os, threading, warnings
        import anyio.to_thread
        import pingdata_async as ping
        from pingdata_async import sync

        warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads
        client = ping.PingDataClient(environment="sandbox")
        begun, forked = threading.Event(), threading.Event()

        async def rows():
            yield "600 Dexter Avenue, Montgomery, AL"
            begun.set()
            await anyio.to_thread.run_sync(forked.wait)

        other = threading.Thread(target=lambda: sync.enhance(rows(), "PG", client=client))
        other.start()
        begun.wait()
        if (child := os.fork()) == 0:
            mine = ping.PingDataClient(environment="sandbox")
            os._exit(len(sync.enhance(["Carson City, NV"] * 3, "PG", client=mine)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        forked.set()
        other.join()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert done.stdout == "3\n"


class Terminal(io.StringIO):
    """What a terminal gets."""

    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the lines before, and taken away at the end; a pipe gets nothing."""
    monkeypatch.setenv("TERM", "xterm")
    shown: dict[type[io.StringIO], list[str]] = {}
    for kind in (Terminal, io.StringIO):
        stream = kind()
        monkeypatch.setattr("sys.stderr", stream)
        results = sync.enhance(ADDRESSES, ["PG"], client=sandbox_client(), show_progress=True)
        assert len(results) == len(ADDRESSES)
        by_rows = stream.getvalue()
        table = pa.table({"address": ADDRESSES})
        events: list[ping.Event] = []
        client = sandbox_client()
        sync.enhance_table(table, "PG", client=client, show_progress=True, on_event=events.append)
        assert any(isinstance(event, ping.ChunkFinished) for event in events)
        shown[kind] = [by_rows, stream.getvalue().removeprefix(by_rows)]
    assert all("Finished: 3 of 3 rows in " in each for each in shown[Terminal])
    assert all(each.endswith("\x1b[2K") for each in shown[Terminal])
    assert shown[io.StringIO] == ["", ""]


@pytest.mark.large
def test_progress_is_shown_in_the_cell_of_a_notebook(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A real kernel, where a loop is running already; its last state stays in the cell."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "source": NOTEBOOK}
    notebook = nbformat.from_dict(  # type: ignore[no-untyped-call] # it has no types
        {"cells": [cell], "metadata": {}, "nbformat": 4}
    )
    nbclient.NotebookClient(notebook, timeout=300).execute()
    [display] = [each for each in notebook.cells[0].outputs if each.output_type == "display_data"]
    [last] = display.data["text/plain"].splitlines()
    assert last.startswith("Finished: 2 of 2 rows in ")


NOTEBOOK = """
import pingdata_async as ping
from pingdata_async import sync

client = ping.PingDataClient(environment="sandbox")
addresses = ["1 Main St, Boston, MA", "Carson City, NV"]
sync.enhance(addresses, ["PG"], client=client, show_progress=True)
"""
