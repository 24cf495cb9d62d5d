"""The keyword arguments of an enhancer and its methods, for type checkers.

`BulkEnhancer` and its methods explain them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

from pingdata_async.engine.flow_control.polling import PollSchedule
from pingdata_async.engine.flow_control.retry import RetryPolicy
from pingdata_async.events import Event
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


class CallOptions(TypedDict, total=False):
    """Options of `BulkEnhancer.enhance()` and `stream()`, which `enhance()` explains."""

    max_locations: int | None
    budget: Mapping[str, int] | None
    on_event: Callable[[Event], None] | None


class _OutputOptions(TypedDict, total=False):
    overwrite: bool
    writing: WriteOptions | None


class _SendOptions(TypedDict, total=False):
    check_space: bool
    preflight: bool
    max_locations: int | None
    budget: Mapping[str, int] | None


class PlanOptions(_OutputOptions, total=False):
    """Options of `BulkEnhancer.plan()`, which `run()` explains."""

    run_dir: str | Path | None
    restart: bool
    pay_again: bool
    dedupe: bool
    reading: ReadOptions | None


class RunOptions(PlanOptions, _SendOptions, total=False):
    """Options of `BulkEnhancer.run()`, which explains them."""

    discard_run: bool


class ResumeOptions(_OutputOptions, _SendOptions, total=False):
    """Options of `BulkEnhancer.resume()` and `retry()`, which `resume()` explains."""

    output: str | Path | None


def check_names(method: str, options: Mapping[str, object], known: type) -> None:
    """Refuse a keyword that a method does not have, as Python would."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{method}() got an unexpected keyword argument {name!r}")
