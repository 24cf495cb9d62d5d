"""Ours, by its public face alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import pingdata_async as ping
from benchmarks.throughput.checks import (
    check_output,
    check_repeating,
    check_served,
    check_table,
)
from benchmarks.throughput.contender import (
    CHUNK_SIZE,
    MAX_JOBS,
    SOURCES,
    Contender,
    Part,
    need,
)
from benchmarks.throughput.data import read_csv
from benchmarks.throughput.serving import Served

# Jobs are done at once here: what is measured is work, not waiting.
SCHEDULE = ping.PollSchedule(min_interval_s=0.001)


class _Ours(Contender):
    """A client and an enhancer."""

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        client = await self._stack.enter_async_context(
            ping.PingDataClient(api_url=self.url, auth_token="any")
        )
        self._enhancer = ping.BulkEnhancer(
            client,
            SOURCES,
            chunk_size=CHUNK_SIZE,
            max_jobs=MAX_JOBS,
            poll_schedule=SCHEDULE,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


class Durable(_Ours):
    """From CSV to JSONL with every guarantee on."""

    async def run(self, part: Part) -> None:
        self._summary = await self._enhancer.run(part.source, part.output)

    def check(self, part: Part, served: Served) -> None:
        self._check_summary(part)
        check_output(part.output, part.source, served)

    def _check_summary(self, part: Part) -> None:
        summary = self._summary
        need(summary.rows == part.rows, f"{summary.rows} rows of {part.rows}")
        need(summary.no_answer == 0, f"{summary.no_answer} rows have no answer")


class DurableTable(Durable):
    """From CSV to a flat table, in the format that the ending names.

    Args:
        url: Of the API.
        ending: Such as ".parquet".
    """

    def __init__(self, url: str, ending: str) -> None:
        super().__init__(url)
        self._ending = ending

    async def run(self, part: Part) -> None:
        self._summary = await self._enhancer.run(part.source, self._output(part))

    def check(self, part: Part, served: Served) -> None:
        self._check_summary(part)
        check_table(self._output(part), part.source, served)

    def _output(self, part: Part) -> Path:
        return part.output.with_suffix(self._ending)


class Repeating(Durable):
    """The same where rows are at the address of others."""

    def check(self, part: Part, served: Served) -> None:
        self._check_summary(part)
        check_repeating(part.output, part.source, served)


class Stream(_Ours):
    """From rows in memory to results in memory, of which only the status is looked at."""

    async def run(self, part: Part) -> None:
        seen, not_ok = bytearray(part.rows), 0
        async for result in self._enhancer.stream(self._locations(part)):
            seen[result.row] += 1
            if result.status is not ping.RowStatus.OK:
                not_ok += 1
        self._seen, self._not_ok = seen, not_ok

    def check(self, part: Part, served: Served) -> None:
        check_served(served, part.rows)
        need(self._seen == b"\1" * part.rows, "not every row came once")
        need(self._not_ok == served.not_ok, f"{self._not_ok} rows not ok, not {served.not_ok}")

    def _locations(self, part: Part) -> Iterable[ping.Location | Mapping[str, Any]]:
        return read_csv(part.source)


class StreamOfLocations(Stream):
    """The same of `Location` objects that were there before."""

    def prepare(self, part: Part) -> None:
        self._kept = [
            ping.Location(
                id=row["id"],
                address_line_1=row["address_line_1"],
                address_line_2=row["address_line_2"] or None,
                city=row["city"],
                state=row["state"],
                postal_code=row["postal_code"],
                latitude=float(row["latitude"]),
                longitude=float(row["longitude"]),
            )
            for row in read_csv(part.source)
        ]

    def _locations(self, part: Part) -> Iterable[ping.Location | Mapping[str, Any]]:
        del part
        return self._kept
