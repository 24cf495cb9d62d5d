"""Job: a bulk job by hand, from its submission to its results; read_output() parses an output.

`BulkEnhancer` does all this for many jobs at once, and more safely: a job by hand is for one that
another program submitted, or whose answers are fetched another day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.api.wire import JobOptions
from pingdata_async.exceptions import (
    DecodeError,
    InputError,
    JobFailedError,
    JobTimeoutError,
    RateLimitError,
    ServerError,
    TransportError,
)
from pingdata_async.locations.chunk import Chunk, encode_body
from pingdata_async.locations.chunk_builder import ChunkBuilder, checked_sources
from pingdata_async.locations.fields import (
    AnyLocation,
    check_any_source,
    check_iterable,
    check_names,
    clean_sources,
)
from pingdata_async.locations.postal_codes import restore_leading_zeros_of
from pingdata_async.models import EnhancedLocation, JobStatus, Location, Reason
from pingdata_async.results.outcomes import judge_location, unanswered
from pingdata_async.results.validation import (
    detached,
    merge_bodies,
    on_one_line,
    repeated_ids,
    sources_of,
    split_body,
    validate_output,
)
from pingdata_async.util.encoding import EncodedBody
from pingdata_async.util.text import shown_path

if TYPE_CHECKING:
    from pingdata_async.api.client import PingDataClient

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
PAUSE_GROWTH = 1.5
FAILURES_IN_A_ROW = 10
"""Failed polls in a row after which `Job.wait()` raises."""

ANSWERS_WITHOUT_OUTPUT = 10
"""Polls of a complete job that name no output, after which `Job.results()` raises."""


class Job:
    """A bulk job; made by `PingDataClient.submit_job()` and `PingDataClient.job()`.

    Args:
        client: The client that asks about it; it must be open when that happens.
        job_id: The API's id.
        sources: The sources that were asked for; () for whatever each answer holds.
        chunk: What was sent; None if this is unknown.

    Attributes:
        id: The API's id of the job.
    """

    def __init__(
        self,
        client: PingDataClient,
        job_id: str,
        sources: tuple[str, ...] = (),
        chunk: Chunk | None = None,
    ) -> None:
        self.id = job_id
        self._client = client
        self._sources = sources
        self._chunk = chunk

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    async def status(self) -> JobStatus:
        """Poll once; as `PingDataClient.status()`."""
        return await self._client.status(self.id)

    async def wait(self, *, timeout_s: float | None = None) -> JobStatus:
        """Poll until the job is complete, at growing intervals. A cancellation leaves it running.

        A failed poll is retried, not before `Retry-After`; ten failures in a row raise.

        Args:
            timeout_s: The longest wait; None for as long as it takes.

        Raises:
            JobFailedError: When the job ended without success.
            JobTimeoutError: When it is not done in time; it goes on, and can be waited for again.
            PingDataError: When the polls fail.
        """
        pause_s, failures = FIRST_PAUSE_S, 0
        with anyio.move_on_after(timeout_s):
            while True:
                asked_to_wait_s = 0.0
                try:
                    status = await self.status()
                except (TransportError, ServerError, RateLimitError) as error:
                    failures += 1
                    if failures == FAILURES_IN_A_ROW:
                        raise
                    asked_to_wait_s = getattr(error, "retry_after_s", None) or 0.0
                else:
                    failures = 0
                    if status.is_failed:
                        why = status.message or f"it ended as {status.status}"
                        raise JobFailedError(f"job {self.id} failed: {why}", job_id=self.id)
                    if status.is_finished:
                        return status
                await anyio.sleep(max(pause_s, asked_to_wait_s))
                pause_s = min(pause_s * PAUSE_GROWTH, LONGEST_PAUSE_S)
        raise JobTimeoutError(
            f"job {self.id} is not done after {timeout_s:g} s; it goes on, and wait() or "
            "results() can be called again",
            job_id=self.id,
        )

    async def results(self, *, timeout_s: float | None = None) -> list[EnhancedLocation]:
        """Wait until the job is complete, and fetch its answers. Nothing is charged for that.

        A job of `submit_job()` gives a result for each location, in their order. Another one gives
        those in its output, under the ids that they were sent with.

        Args:
            timeout_s: As of `wait()`.

        Raises:
            DecodeError: When the output cannot be read, or is not of these locations.
            OutputUnavailableError: When the API names no url that leads to the output.
            PingDataError: As `wait()`.
        """
        status = await self.wait(timeout_s=timeout_s)
        answers = 1
        while not status.outputs:  # some come a little after the end
            if answers == ANSWERS_WITHOUT_OUTPUT:
                raise DecodeError(f"job {self.id} is complete, but names no output; try later")
            await anyio.sleep(FIRST_PAUSE_S)
            status = await self.status()
            answers += 1
        bodies = [await self._client.fetch_body(self.id, output) for output in status.outputs]
        return await anyio.to_thread.run_sync(self._read, bodies)

    def _read(self, bodies: Sequence[EncodedBody]) -> list[EnhancedLocation]:
        if self._chunk is None:
            content = merge_bodies([body.content() for body in bodies])
            return read_output(content, sources=self._sources)
        return detached(validate_output(self._chunk, bodies, self._sources, 0).results)


async def submit_job(
    client: PingDataClient,
    locations: Sequence[AnyLocation],
    sources: Sequence[str] | str,
    options: JobOptions,
) -> Job:
    """Submit one job; see `PingDataClient.submit_job()`."""
    check_iterable(locations)
    given, codes = list(map(as_sent, locations)), checked_sources(sources)
    if not codes:
        check_any_source(given)
    chunk = await anyio.to_thread.run_sync(_as_one_chunk, given, codes)
    body = encode_body(chunk, options.encode(codes))
    return Job(client, await client.submit_body(body), codes, chunk)


def listed(locations: Iterable[object]) -> list[object]:
    """What is given for locations; a text would give its letters, a data frame its columns."""
    if not isinstance(locations, Iterable):
        raise InputError(
            f"give a list of locations, not what is of type {type(locations).__name__}"
        )
    given = list(locations)
    for place, location in enumerate(given):
        if not isinstance(location, Location | Mapping):
            raise InputError(
                f"location {place} is of type {type(location).__name__}: "
                "give a list of Location objects or mappings"
            )
    return given


def as_sent(location: AnyLocation) -> AnyLocation:
    """A location without slips that would cost its price for a worse answer, or for none."""
    if isinstance(location, Mapping):
        check_names(location)
        fields = dict(location)
    elif isinstance(location, Location):
        fields = msgspec.structs.asdict(location)
    else:
        return location
    restore_leading_zeros_of([fields])
    return fields


def _as_one_chunk(locations: Sequence[AnyLocation], sources: tuple[str, ...]) -> Chunk:
    builder = ChunkBuilder(chunk_size=max(1, len(locations)), sources=sources)
    chunks = builder.add_batch(0, locations)
    rest = builder.rest()
    chunks += [] if rest is None else [rest]
    if len(chunks) > 1:
        raise InputError("the locations are too much for one job; BulkEnhancer makes several")
    if not chunks or not chunks[0].rows:
        why = f": {chunks[0].invalid[0].error}" if chunks else ""
        raise InputError(f"there is no location that can be sent{why}")
    return chunks[0]


def read_output(
    output: bytes | str | Path,
    ids: Sequence[str] | None = None,
    sources: Sequence[str] | str = (),
) -> list[EnhancedLocation]:
    """Parse a bulk job's output that you already have (bytes or file).

    Args:
        output: Its content, or the path of a file with it.
        ids: The ids that the locations were sent with, in the order of the results; one that is
            not in the output is a failed row. None for those of the output, in its order.
        sources: The sources that were asked for; () for whatever each answer holds.

    Raises:
        DecodeError: When this is no output.
        InputError: When `ids` is one text.
        OSError: When the file cannot be read.
    """
    if isinstance(ids, str):
        raise InputError("give a list of ids, not one text")
    what = "the output" if isinstance(output, bytes) else f"the output {shown_path(output)}"
    raw = output if isinstance(output, bytes) else Path(output).read_bytes()
    content = on_one_line(EncodedBody(raw, what=what).content())
    answers = split_body(content)
    if answers and all(_sources_in(data) is None for data in answers.values()):
        raise DecodeError(f"{what}: location {next(iter(answers))} is no object of sources")
    repeated = repeated_ids(content, answers)
    asked = tuple(clean_sources(sources))
    results: list[EnhancedLocation] = []
    for row, wire_id in enumerate(answers if ids is None else ids):
        data = answers.get(wire_id)
        if data is None:
            error = "the output leaves this location out"
        elif wire_id in repeated:
            error = "the output holds this location more than once, and differently"
        elif wanted := asked or _sources_in(data):
            results.append(judge_location(row=row, user_id=wire_id, data=data, sources=wanted))
            continue
        else:
            error = "the output holds no source's answer for this location"
        results.append(unanswered(row=row, user_id=wire_id, reason=Reason.MISSING, error=error))
    return detached(results)


def _sources_in(data: msgspec.Raw) -> tuple[str, ...] | None:
    """The sources that a location has answers of; None where it is no object."""
    try:
        return tuple(sources_of(data))
    except msgspec.MsgspecError:
        return None
