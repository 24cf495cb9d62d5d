"""What each stage of ours costs within a run: the CPU of the threads that are at work in it.

Each stage has its own function, around which the thread's CPU clock is read. Time in a stage
within another one counts for the inner one alone. What belongs to no stage is the event loop
with HTTP, where it was the main thread's; or else handing work to threads, and their end.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

# In the order in which a row passes them. The functions are those that do nothing else.
STAGES = {
    "plan the input": ("runs.planning.plan_writer:_write_plan",),
    "read planned chunks": ("runs.directory.plan:Plan.read",),
    "encode requests": ("engine.requests:encode_body",),
    "compress requests": ("api.client:gzipped",),
    "inflate answers": ("util.encoding:EncodedBody.content",),
    "find each row's answer": ("engine.requests:validate_output",),
    "keep answers": (
        "runs.directory.spool:Spool.append",
        "runs.directory.spool:Spool.sync",
        "runs.run:packed_output",
    ),
    "journal": ("runs.journal.journal:GroupWriter._write_once",),
    "render lines": ("runs.export.jsonl:render",),
    "read kept answers": ("runs.directory.spool:Spool.read",),
    "write the output": ("runs.export.output:_PartFile.writelines",),
}
LOOP, BESIDE = "event loop and HTTP", "threads beside"


class _OfThread(threading.local):
    stage: str | None = None
    since_s: float = 0.0


class StageClocks:
    """Adds up what is spent in stages.

    Attributes:
        spent_s: By stage, the CPU of all threads.
    """

    def __init__(self) -> None:
        self.spent_s: defaultdict[str, float] = defaultdict(float)
        self._in_main_s = 0.0
        self._main_s = 0.0
        self._of_thread = _OfThread()
        self._adding = threading.Lock()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Read the clocks in the block, which belongs to the main thread."""
        with contextlib.ExitStack() as patches:
            for stage, paths in STAGES.items():
                for owner, name in map(_found, paths):
                    timed = self.timed(stage, getattr(owner, name))
                    patches.enter_context(patch.object(owner, name, timed))
            began_s = time.thread_time()
            try:
                yield
            finally:
                self._main_s += time.thread_time() - began_s

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its CPU counted."""

        @functools.wraps(function)
        def counted(*args: Any, **words: Any) -> Any:
            outer = self._switch(stage)
            try:
                return function(*args, **words)
            finally:
                self._switch(outer)

        return counted

    def all_s(self, cpu_s: float) -> dict[str, float]:
        """What each stage took, and what the rest of so much CPU was."""
        beside_s = cpu_s - self._main_s - (sum(self.spent_s.values()) - self._in_main_s)
        return {
            **{stage: self.spent_s[stage] for stage in STAGES},
            LOOP: self._main_s - self._in_main_s,
            BESIDE: beside_s,
        }

    def _switch(self, stage: str | None) -> str | None:
        """Go on in another stage; says in which one it was."""
        now_s = time.thread_time()
        mine = self._of_thread
        before, spent_s = mine.stage, now_s - mine.since_s
        if before is not None:
            with self._adding:
                self.spent_s[before] += spent_s
                if threading.current_thread() is threading.main_thread():
                    self._in_main_s += spent_s
        mine.stage, mine.since_s = stage, now_s
        return before


def _found(path: str) -> tuple[Any, str]:
    """Whose attribute a function is, and its name."""
    module, _, names = path.partition(":")
    owner: Any = importlib.import_module(f"pingdata_async.{module}")
    *outer, name = names.split(".")
    for each in outer:
        owner = getattr(owner, each)
    return owner, name
