"""Runs that die on purpose: at the n-th event, or at the n-th step on or off the disk.

    python -m tests.survival.launcher

reads orders from standard input, a line of JSON each, carries out each in a forked process of
its own (which has everything imported already), and writes one line for each: how it ended.
Nothing in the package knows of it: it listens to events, and stands around the store, the
journal's commits and what gets onto the disk.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import msgspec

import pingdata_async as ping
from pingdata_async.engine.context import FinishedChunk
from pingdata_async.events import Event, RequestSent
from pingdata_async.runs import run
from pingdata_async.runs.directory import directory as run_directory
from pingdata_async.runs.directory import spool
from pingdata_async.runs.export import output as output_files
from pingdata_async.runs.journal import journal
from pingdata_async.runs.journal import schema as journal_schema
from pingdata_async.runs.timeline import Timeline
from pingdata_async.util import files as filesystem

STORE_STEPS = (
    "submitting",
    "refused",
    "submitted",
    "doubted",
    "completed",
    "job_lost",
    "split",
    "batched",
    "deliver",
)
DISK_STEPS = (
    "sync_content",
    "sync_file",
    "sync_folder",
    "write_at",
    "write_pieces",
    "write_whole",
)
FAST = ping.RetryPolicy(base_delay_s=0.01, max_delay_s=0.05, give_up_after_s=20.0)
FAST_POLLS = ping.PollSchedule(min_interval_s=0.005, max_interval_s=0.05)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and when to die.

    Attributes:
        moment: At which kind of moment; None: at none.
        number: At which of them, from 1.
        resume: Go on with the run by its directory alone, instead of by giving the input again.
        report: Where a run that comes to its end says what it did.
    """

    url: str
    source: str
    output: str
    report: str
    sources: str = "PG,PH"
    chunk_size: int = 10
    max_jobs: int = 2
    moment: str | None = None
    number: int = 1
    resume: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did: how often each kind of moment came, and each request's kind and chunk."""

    summary: ping.RunSummary
    moments: dict[str, int]
    requests: list[tuple[str, int, str | None]]


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended: its exit code, or minus the signal."""

    code: int
    error: str = ""


class Executioner:
    """Counts moments, and kills the process at one of them."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._turn = threading.Lock()  # some moments are in threads
        self.seen: Counter[str] = Counter()
        self.requests: list[tuple[str, int, str | None]] = []

    def note(self, moment: str) -> None:
        with self._turn:
            self.seen[moment] += 1
            if (moment, self.seen[moment]) == (self._order.moment, self._order.number):
                os.kill(os.getpid(), signal.SIGKILL)

    def on_event(self, event: Event) -> None:
        kind = type(event).__name__
        if isinstance(event, RequestSent):
            self.requests.append((event.kind, event.chunk, event.job_id))
            kind += f"({event.kind})"
        self.note(kind)

    # -- standing around what is not told ------------------------------------------------

    def watch(self) -> None:
        note = self.note

        class WatchedStore(run.DurableStore):
            def __init__(
                self,
                kept_in: journal.Journal,
                bodies: spool.Spool,
                output: run.EarlyOutput,
                timeline: Timeline,
            ) -> None:
                super().__init__(kept_in, bodies, output, timeline)
                for name in STORE_STEPS:
                    setattr(self, name, _around_async(note, f"store.{name}", getattr(self, name)))

            async def deliver(self, finished: FinishedChunk) -> None:
                await super().deliver(finished)

        _put(run, "DurableStore", WatchedStore)
        for module in (filesystem, spool, output_files, run_directory):
            for name in DISK_STEPS:
                if hasattr(module, name):
                    label = f"{module.__name__.rpartition('.')[2]}.{name}"
                    _put(module, name, _around(note, label, getattr(module, name)))
        create = _around(note, "create_journal", journal_schema.create_journal)
        _put(journal, "create_journal", create)
        writer = journal.GroupWriter
        _put(writer, "_write_once", _around(note, "commit", writer._write_once))
        carry_out = _around(note, "operation", journal._carry_out)
        _put(journal, "_carry_out", carry_out)


def _put(owner: ModuleType | type, name: str, value: object) -> None:
    setattr(owner, name, value)


def _around(note: Callable[[str], None], label: str, act: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        note(f"before {label}")
        result = act(*args, **kwargs)
        note(f"after {label}")
        return result

    return watched


def _around_async(
    note: Callable[[str], None], label: str, act: Callable[..., Any]
) -> Callable[..., Any]:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        note(f"before {label}")
        result = await act(*args, **kwargs)
        note(f"after {label}")
        return result

    return watched


async def carry_out(order: Order) -> None:
    """Run it to its end, or to the moment of the order."""
    executioner = Executioner(order)
    executioner.watch()
    async with ping.PingDataClient(api_url=order.url, auth_token="any") as client:
        enhancer = ping.BulkEnhancer(
            client,
            order.sources,
            chunk_size=order.chunk_size,
            max_jobs=order.max_jobs,
            poll_schedule=FAST_POLLS,
            retry_policy=FAST,
            on_event=executioner.on_event,
        )
        if order.resume:
            summary = await enhancer.resume(f"{order.output}.run")
        else:
            summary = await enhancer.run(order.source, order.output)
    report = Report(summary=summary, moments=dict(executioner.seen), requests=executioner.requests)
    await anyio.Path(order.report).write_bytes(msgspec.json.encode(report))


def in_a_process_of_its_own(order: Order) -> int:
    """Carry it out in a fork; the exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        anyio.run(carry_out, order)
        code = 0
    except BaseException:  # noqa: BLE001 - said to whoever gave the order
        Path(order.report).write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(code)


def main() -> None:
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        code = in_a_process_of_its_own(order)
        said = Path(order.report).read_text(encoding="utf-8") if code == 1 else ""
        sys.stdout.buffer.write(msgspec.json.encode(End(code=code, error=said)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
