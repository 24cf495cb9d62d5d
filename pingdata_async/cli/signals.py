"""Stops cleanly on a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from pingdata_async.cli.base import InterruptedBySignalError, say

T = TypeVar("T")


def _stop_signals() -> list[signal.Signals]:
    """The signals that end a command, but for those it was started to ignore (nohup)."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one is not everywhere
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]


async def run_until_signal(work: Callable[[], Awaitable[T]]) -> T:
    """Do the work; SIGINT, SIGTERM or SIGHUP cancels it, a second one ends the process at once.

    Raises:
        InterruptedBySignalError: When a signal ended it.
    """
    received: list[int] = []
    results: list[T] = []
    errors: list[Exception] = []
    with anyio.open_signal_receiver(*_stop_signals()) as signals:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                async for number in signals:
                    if received:
                        os._exit(128 + number)
                    received.append(number)
                    say("Stopping; press Ctrl-C again to stop at once.")
                    work_scope.cancel()

            with anyio.CancelScope() as work_scope:
                tasks.start_soon(watch)
                try:
                    results.append(await work())
                except Exception as error:  # noqa: BLE001 - the group would wrap it
                    errors.append(error)
            tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if results:
        return results[0]
    raise InterruptedBySignalError(received[0])
