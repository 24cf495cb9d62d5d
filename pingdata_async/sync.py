"""Synchronous wrappers of `BulkEnhancer` and `enhance_table()`.

    from pingdata_async import sync

    results = sync.enhance(["600 Dexter Avenue, Montgomery, AL"], sources=["PG", "PH"])

Each call blocks until it is done. It runs in the event loop of another thread, which all calls that
run at the same time share, so it works where a loop is running already, as in a notebook. Ctrl-C
ends a call as a cancellation ends the awaited one.

With `show_progress=True` a call shows how far it is, in the cell of a notebook or on a terminal.

Calls at the same time that are given the same client share its limits.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import wait
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from anyio.from_thread import BlockingPortalProvider

from pingdata_async import dataframe
from pingdata_async.api.client import PingDataClient
from pingdata_async.engine.stream import Locations
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.events import EventEmitter, check_listener
from pingdata_async.models import EnhancedLocations, RunSummary
from pingdata_async.options import CallOptions, EnhancerOptions, ResumeOptions, RunOptions
from pingdata_async.progress import RunProgress
from pingdata_async.tables.readers.open import AnyInput
from pingdata_async.tables.rows import ReadOptions

T = TypeVar("T")

DRAW_INTERVAL_S = 0.5

_portals = BlockingPortalProvider("asyncio")


def _forget_threads() -> None:
    """After a fork: the thread of the parent's loop is not in the child."""
    global _portals  # noqa: PLW0603 - one for the process
    _portals = BlockingPortalProvider("asyncio")


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_threads)


class _ShowOptions(TypedDict, total=False):
    show_progress: bool


class SyncCallOptions(_ShowOptions, CallOptions, EnhancerOptions, total=False):
    """Options of `enhance()`: those of `BulkEnhancer.enhance()` and of `BulkEnhancer`."""


class SyncRunOptions(_ShowOptions, RunOptions, EnhancerOptions, total=False):
    """Options of `run()`: those of `BulkEnhancer.run()` and of `BulkEnhancer`."""


class SyncResumeOptions(_ShowOptions, ResumeOptions, EnhancerOptions, total=False):
    """Options of `resume()`: those of `BulkEnhancer.resume()` and of `BulkEnhancer`."""

    discard_run: bool


def enhance(
    locations: Locations,
    sources: Iterable[str] | str = (),
    *,
    client: PingDataClient | None = None,
    **options: Unpack[SyncCallOptions],
) -> EnhancedLocations:
    """Enhance all locations and return the results in input order.

    Args:
        locations: As of `BulkEnhancer.enhance()`; it is iterated in the other thread.
        sources: Source codes such as PG and PH; a location's own `sources` take precedence.
        client: An existing client, opened for this call; None for one with default settings.
        **options: Whatever else `BulkEnhancer.enhance()` and `BulkEnhancer` take.

    Raises:
        PingDataError: As `BulkEnhancer.enhance()`.
    """
    of_enhancer, others, shown = _parted(options)
    others.setdefault("flush_after_s", None)  # there is no other call to share jobs with
    if shown is not None and isinstance(locations, Sized):
        shown.rows = len(locations)

    async def work(opened: PingDataClient) -> EnhancedLocations:
        return await BulkEnhancer(opened, sources, **of_enhancer).enhance(locations, **others)

    return _call(work, client, shown)


def enhance_table(
    table: T,
    sources: Iterable[str] | str,
    *,
    client: PingDataClient | None = None,
    reading: ReadOptions | None = None,
    columns: Sequence[str] = (),
    show_progress: bool = False,
    **options: Unpack[EnhancerOptions],
) -> T:
    """Enhance every row of a data frame in memory; see `pingdata_async.enhance_table()`.

    Args:
        table: A pyarrow, pandas or polars object.
        sources: Source codes such as PG and PH.
        client: An existing client, opened for this call; None for one with default settings.
        reading: As of `pingdata_async.enhance_table()`.
        columns: Likewise.
        show_progress: Whether to show how far it is.
        **options: Whatever else `BulkEnhancer` takes.

    Raises:
        PingDataError: As `pingdata_async.enhance_table()`.
    """
    shown = RunProgress() if show_progress else None
    if shown is not None:
        shown.rows = len(table) if isinstance(table, Sized) else 0
        check_listener(options.get("on_event"))
        options["on_event"] = EventEmitter(options.get("on_event"), shown)

    async def work(opened: PingDataClient) -> T:
        return await dataframe.enhance_table(
            table, sources, client=opened, reading=reading, columns=columns, **options
        )

    return _call(work, client, shown)


def run(
    source: AnyInput,
    output: str | Path,
    sources: Iterable[str] | str = (),
    *,
    client: PingDataClient | None = None,
    **options: Unpack[SyncRunOptions],
) -> RunSummary:
    """Enhance a table of any size into a file; see `BulkEnhancer.run()`.

    Args:
        source: As of `BulkEnhancer.run()`.
        output: Likewise.
        sources: Source codes such as PG and PH.
        client: An existing client, opened for this call; None for one with default settings.
        **options: Whatever else `BulkEnhancer.run()` and `BulkEnhancer` take.

    Raises:
        PingDataError: As `BulkEnhancer.run()`.
    """
    of_enhancer, others, shown = _parted(options)

    async def work(opened: PingDataClient) -> RunSummary:
        return await BulkEnhancer(opened, sources, **of_enhancer).run(source, output, **others)

    return _call(work, client, shown)


def resume(
    run_dir: str | Path,
    sources: Iterable[str] | str = (),
    *,
    client: PingDataClient | None = None,
    **options: Unpack[SyncResumeOptions],
) -> RunSummary:
    """Resume a run that stopped; see `BulkEnhancer.resume()`.

    Args:
        run_dir: The run directory.
        sources: Those of the run.
        client: An existing client, opened for this call; None for one with default settings.
        **options: Whatever else `BulkEnhancer.resume()` and `BulkEnhancer` take.

    Raises:
        PingDataError: As `BulkEnhancer.resume()`.
    """
    of_enhancer, others, shown = _parted(options)

    async def work(opened: PingDataClient) -> RunSummary:
        return await BulkEnhancer(opened, sources, **of_enhancer).resume(run_dir, **others)

    return _call(work, client, shown)


def _call(
    work: Callable[[PingDataClient], Awaitable[T]],
    client: PingDataClient | None,
    shown: RunProgress | None = None,
) -> T:
    async def opened_for_it() -> T:
        async with client or PingDataClient() as opened:
            return await work(opened)

    drawing = contextlib.nullcontext(None) if shown is None else _drawing()
    with _portals as portal, drawing as draw:
        future = portal.start_task_soon(opened_for_it)
        try:
            # Drawn in this thread: a notebook would not know the cell of another one's output.
            while shown is not None and draw is not None:
                done, _ = wait([future], timeout=DRAW_INTERVAL_S)
                if done:
                    draw(shown.last_line(has_failed=future.exception() is not None))
                    break
                draw("\n".join([f"{shown.phase}: {shown.lines()[0]}", *shown.lines()[1:]]))
            return future.result()
        except BaseException:  # Ctrl-C, while calls of other threads keep the loop alive
            future.cancel()
            raise


@contextlib.contextmanager
def _drawing() -> Iterator[Callable[[str], None] | None]:
    """What shows lines in place of the last ones; None where neither notebook nor terminal is."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and hasattr(ipython.get_ipython(), "kernel"):
        handle = ipython.display.display({"text/plain": ""}, raw=True, display_id=True)
        yield lambda lines: handle.update({"text/plain": lines}, raw=True)
        return
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    # Only now: rich is slow to load.
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as display:
        yield lambda lines: display.update(Text(lines), refresh=True)


def _parted(options: Any) -> tuple[Any, Any, RunProgress | None]:
    """The options of the enhancer and of the call, and what counts its progress if it is shown."""
    others = dict(options)
    shown = RunProgress() if others.pop("show_progress", False) else None
    own = {name: others.pop(name) for name in EnhancerOptions.__annotations__ if name in others}
    return own, others | ({} if shown is None else {"on_event": shown}), shown
