"""The keyword arguments of an enhancer, which `BulkEnhancer` explains, and of its methods."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from pingdata_async.engine.flow_control.polling import PollSchedule
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import Event, Progress
from pingdata_async.tables.formats import WriteOptions
from pingdata_async.tables.rows import ReadOptions


class EnhancerOptions(TypedDict, total=False):
    """Options of `BulkEnhancer`."""

    chunk_size: int
    max_jobs: int
    max_requests_per_second: float | None
    max_chunk_bytes: int
    source_timeout_s: float | None
    include_raw_response: bool
    check_cache: bool
    delegate_to: str | None
    callback_url: str | None
    poll_schedule: PollSchedule | None
    retry_policy: RetryPolicy | None
    on_event: Callable[[Event], None] | None
    rng: random.Random | None


class WatchOptions(TypedDict, total=False):
    """Options of every call that sends.

    Attributes:
        timeout_s: The longest time for the whole call, which then ends with `CallTimeoutError`, and
            abandons what is in flight as a cancellation does. Default None, for no limit.
        on_event: Called with every event of this call, besides the enhancer's. Default None.
        progress: Called with how many rows have an outcome, and with how many rows there are (None
            if unknown, as for a generator), each time that there are more. Default None.
    """

    timeout_s: float | None
    on_event: Callable[[Event], None] | None
    progress: Progress | None


class _Caps(TypedDict, total=False):
    max_locations: int | None
    budget: Mapping[str, int] | None


class CallOptions(WatchOptions, _Caps, total=False):
    """Options of `BulkEnhancer.enhance()` and `stream()`, besides those of `WatchOptions`.

    Attributes:
        max_locations: Stop before more locations than this are sent. Every attempt counts, and so
            does whatever may have been charged. Default None, for any number.
        budget: The same for single sources, by code. Default None.
    """


class _OutputOptions(TypedDict, total=False):
    overwrite: bool
    writing: WriteOptions | None


class _SendOptions(WatchOptions, _Caps, total=False):
    check_space: bool
    preflight: bool


class PlanOptions(_OutputOptions, total=False):
    """Options of `BulkEnhancer.plan()`.

    Attributes:
        run_dir: Keep the run in this folder. Default None, for `OUTPUT.run`.
        overwrite: Replace an existing output. Default False.
        restart: Set aside an existing run of this output and start a new one. Default False.
        pay_again: Start even if another run beside it has the same input, sources and options.
            Default False.
        dedupe: Send identical locations once, and give each of their rows the answer. Locations are
            identical if all that is sent is equal, address texts apart from case and white space;
            the first one is sent as it is spelled. A planned run keeps to its plan. Default True.
        reuse: Runs whose answers are not asked for, and paid for, again: run directories, and
            folders with such in them. Each source of a location that one of them has answered, with
            the same API, organisation and options, is answered by a copy of that. Default (), for
            none.
        max_age: Reuse no answer that is older than this. Default None, for any age.
        reading: How to read the input. Default None, to detect it.
        writing: How to write the output. Default None, to go by its name.
    """

    run_dir: str | Path | None
    restart: bool
    pay_again: bool
    dedupe: bool
    reuse: str | Path | Iterable[str | Path]
    max_age: dt.timedelta | None
    reading: ReadOptions | None


class DryRunOptions(PlanOptions, _Caps, total=False):
    """Options of `BulkEnhancer.dry_run()`: those of `PlanOptions`, and the caps of `RunOptions`."""


class RunOptions(PlanOptions, _SendOptions, total=False):
    """Options of `BulkEnhancer.run()`, besides those of `PlanOptions` and `WatchOptions`.

    Attributes:
        discard_run: Delete the run directory once every row has an answer. Default False.
        check_space: Refuse to start if the disk looks too small. Default True.
        preflight: Check the account's limits before sending. Default True.
        max_locations: Stop before the whole run sends more locations than this. Every attempt
            counts, and so does whatever may have been charged. The answers of jobs in flight are
            still fetched. Default None, for any number.
        budget: The same for single sources, by code. Default None.
    """

    discard_run: bool


class ResumeOptions(_OutputOptions, _SendOptions, total=False):
    """Options of `BulkEnhancer.resume()` and `retry()`, besides those of `WatchOptions`.

    Attributes:
        output: Write to this file. Default None, for the run's own output; if that is not beside
            the run directory, or is a link, name it.
        overwrite: Replace an output that the run did not write itself. Default False.
        max_locations, budget: As of `RunOptions`, including what was sent before. Default None, for
            as before.
        writing: How to write the output. Default None, for as before.
        check_space, preflight: As of `RunOptions`.
    """

    output: str | Path | None


def check_names(method: str, options: Mapping[str, object], known: type) -> None:
    """Refuse a keyword that a method does not have, as Python would."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")
