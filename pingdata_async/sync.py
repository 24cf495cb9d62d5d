"""The same without `await`: for scripts, notebooks and threads.

    from pingdata_async import sync

    results = sync.enhance(["600 Dexter Avenue, Montgomery, AL"], sources=["PG", "PH"])

Each call blocks until it is done. It runs in the event loop of another thread, which all calls that
run at the same time share, so it works where a loop is running already, as in a notebook. Ctrl-C
ends a call as a cancellation ends the awaited one.

Each function takes a `client`, which it opens for as long as it runs; calls at the same time
share the limits of one that is given to them. None for one with the usual settings.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, Unpack

from anyio.from_thread import BlockingPortalProvider

from pingdata_async import dataframe
from pingdata_async.api.client import PingDataClient
from pingdata_async.engine.stream import Locations
from pingdata_async.enhancer import BulkEnhancer
from pingdata_async.models import EnhancedLocations, RunSummary
from pingdata_async.options import CallOptions, EnhancerOptions, ResumeOptions, RunOptions
from pingdata_async.tables.readers.open import AnyInput
from pingdata_async.tables.rows import ReadOptions

T = TypeVar("T")

_portals = BlockingPortalProvider("asyncio")


def _forget_threads() -> None:
    """After a fork: the thread of the parent's loop is not in the child."""
    global _portals  # noqa: PLW0603 - one for the process
    _portals = BlockingPortalProvider("asyncio")


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_threads)


class SyncCallOptions(CallOptions, EnhancerOptions, total=False):
    """Options of `enhance()`: those of `BulkEnhancer.enhance()` and of `BulkEnhancer`."""


class SyncRunOptions(RunOptions, EnhancerOptions, total=False):
    """Options of `run()`: those of `BulkEnhancer.run()` and of `BulkEnhancer`."""


class SyncResumeOptions(ResumeOptions, EnhancerOptions, total=False):
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
        client: See above.
        **options: Whatever else `BulkEnhancer.enhance()` and `BulkEnhancer` take.

    Raises:
        PingDataError: As `BulkEnhancer.enhance()`.
    """
    of_enhancer, others = _parted(options)
    others.setdefault("flush_after_s", None)  # there is no other call to share jobs with

    async def work(opened: PingDataClient) -> EnhancedLocations:
        return await BulkEnhancer(opened, sources, **of_enhancer).enhance(locations, **others)

    return _call(work, client)


def enhance_table(
    table: T,
    sources: Iterable[str] | str,
    *,
    client: PingDataClient | None = None,
    reading: ReadOptions | None = None,
    columns: Sequence[str] = (),
    **options: Unpack[EnhancerOptions],
) -> T:
    """Enhance every row of a data frame in memory; see `pingdata_async.enhance_table()`.

    Args:
        table: A pyarrow, pandas or polars object.
        sources: Source codes such as PG and PH.
        client: See above.
        reading: As of `pingdata_async.enhance_table()`.
        columns: Likewise.
        **options: Whatever else `BulkEnhancer` takes.

    Raises:
        PingDataError: As `pingdata_async.enhance_table()`.
    """

    async def work(opened: PingDataClient) -> T:
        return await dataframe.enhance_table(
            table, sources, client=opened, reading=reading, columns=columns, **options
        )

    return _call(work, client)


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
        client: See above.
        **options: Whatever else `BulkEnhancer.run()` and `BulkEnhancer` take.

    Raises:
        PingDataError: As `BulkEnhancer.run()`.
    """
    of_enhancer, others = _parted(options)

    async def work(opened: PingDataClient) -> RunSummary:
        return await BulkEnhancer(opened, sources, **of_enhancer).run(source, output, **others)

    return _call(work, client)


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
        client: See above.
        **options: Whatever else `BulkEnhancer.resume()` and `BulkEnhancer` take.

    Raises:
        PingDataError: As `BulkEnhancer.resume()`.
    """
    of_enhancer, others = _parted(options)

    async def work(opened: PingDataClient) -> RunSummary:
        return await BulkEnhancer(opened, sources, **of_enhancer).resume(run_dir, **others)

    return _call(work, client)


def _call(work: Callable[[PingDataClient], Awaitable[T]], client: PingDataClient | None) -> T:
    async def opened_for_it() -> T:
        async with client or PingDataClient() as opened:
            return await work(opened)

    with _portals as portal:
        future = portal.start_task_soon(opened_for_it)
        try:
            return future.result()
        except BaseException:  # Ctrl-C, while calls of other threads keep the loop alive
            future.cancel()
            raise


def _parted(options: Any) -> tuple[Any, Any]:
    """The options of the enhancer, and the others."""
    names = EnhancerOptions.__annotations__
    own = {name: value for name, value in options.items() if name in names}
    return own, {name: value for name, value in options.items() if name not in names}
