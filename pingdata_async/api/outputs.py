"""A job's output: the urls that may lead to it, and the file that it is written to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import quote

import anyio

from pingdata_async.api.config import Pacer, holds_user
from pingdata_async.api.transport import Response, Transport
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    DecodeError,
    NotFoundError,
    OutputUnavailableError,
    PauseTooLongError,
    PingDataError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.util.files import sync_file, sync_folder

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncBufferedIOBase

# -- Where it is -----------------------------------------------------------------------------


class AskStatus(Protocol):
    """Asks about a job."""

    async def __call__(self, job_id: str, *, pacer: Pacer | None) -> JobStatus:
        """What the API says of it now."""
        ...


BUFFER_BYTES = 1024 * 1024
NOT_FOUND = 404
_PASSING = TransportError | ServerError | RateLimitError | PauseTooLongError


@contextlib.asynccontextmanager
async def open_output(
    transport: Transport,
    base_url: str,
    job_id: str,
    output: JobOutput,
    ask_status: AskStatus,
    *,
    pacer: Pacer | None,
) -> AsyncIterator[Response]:
    """Open an output, by its url first.

    Args:
        transport: What fetches it.
        base_url: Where the API is, without a trailing slash.
        job_id: The job that made it.
        output: The output, as the job's status told of it.
        ask_status: Asks about a job, for the url that the API gives now.
        pacer: Decides when each request is sent; None for at once.

    Raises:
        OutputUnavailableError: When every way is refused; it holds the first refusal, and what
            the API says of the job.
        AuthenticationError: When the API itself refuses the token.
        APIStatusError: On any other error status.
        TransportError: When no answer arrived.
    """
    async with contextlib.AsyncExitStack() as stack:
        ways = _Ways(transport, stack, pacer)
        response = await ways.open(output.url)
        if response is None:
            said, is_unknown = await _asked(job_id, ask_status, pacer)
            urls = [] if said is None else _fresh_urls(said, output)
            name = output.filename or output.url.partition("?")[0].rpartition("/")[2]
            urls += _documented_urls(base_url, job_id, name)
            response = await ways.open_first(urls)
            if response is None:
                error = ways.error(name, job_id)
                if isinstance(error, OutputUnavailableError):
                    error.job_status, error.is_job_unknown = said, is_unknown
                raise error from ways.failures[0]
        yield response


class _Ways:
    """Tries one url after the other, and remembers why those before were of no use."""

    def __init__(
        self, transport: Transport, stack: contextlib.AsyncExitStack, pacer: Pacer | None
    ) -> None:
        self._transport = transport
        self._stack = stack
        self._pacer = pacer
        self._tried: set[str] = set()
        self.failures: list[PingDataError] = []

    async def open(self, url: str) -> Response | None:
        """What is there; None where another way may help. None too where it was tried before."""
        is_own = False
        try:
            url = self._transport.resolve(url)
            if url in self._tried:
                return None
            self._tried.add(url)
            is_own = self._transport.is_own(url)
            if is_own and holds_user(url):  # it would clash with the token
                raise DecodeError("its url holds a user's name; not fetched")
            return await self._stack.enter_async_context(self._transport.download(url, self._pacer))
        except PingDataError as error:
            if not _may_be_had_elsewhere(error, is_own=is_own):
                raise
            self.failures.append(error)
            return None

    async def open_first(self, urls: list[str]) -> Response | None:
        """The first of them that can be had; None where none can."""
        for url in urls:
            response = await self.open(url)
            if response is not None:
                return response
        return None

    def error(self, name: str, job_id: str) -> PingDataError:
        """Why there is no way: what may pass soon tells more than a refusal."""
        for failure in self.failures:
            if isinstance(failure, _PASSING):
                return failure
        first = self.failures[0]
        said = f"no way leads to output {name!r} of job {job_id}: {first}"
        if not isinstance(first, APIStatusError):
            return OutputUnavailableError(said, status_code=NOT_FOUND)
        return OutputUnavailableError(
            said,
            status_code=first.status_code,
            api_message=first.api_message,
            retry_after_s=first.retry_after_s,
        )


def _may_be_had_elsewhere(error: PingDataError, *, is_own: bool) -> bool:
    """Whether what is wrong may be wrong with this url alone; an API that is down is so at all."""
    if isinstance(error, _PASSING) and not isinstance(error, UnexpectedRedirectError):
        return not is_own
    return isinstance(
        error,
        AccessDeniedError
        | NotFoundError
        | RequestRejectedError  # as some storages say that a link has expired
        | DecodeError  # the url cannot be used
        | UnexpectedRedirectError,
    )


async def _asked(
    job_id: str, ask_status: AskStatus, pacer: Pacer | None
) -> tuple[JobStatus | None, bool]:
    """What the API says of a job, None where that is of no use; and if it does not know it."""
    try:
        return await ask_status(job_id, pacer=pacer), False
    except NotFoundError:
        return None, True
    except (AccessDeniedError, RequestRejectedError, DecodeError):
        return None, False


def _fresh_urls(said: JobStatus, output: JobOutput) -> list[str]:
    """The url that the API gives now for an output; none where it names none."""
    same = [fresh.url for fresh in said.outputs if fresh.filename == output.filename]
    return same[:1] or [fresh.url for fresh in said.outputs[:1]]


def _documented_urls(base_url: str, job_id: str, name: str) -> list[str]:
    if not name.strip("."):  # quoting leaves ".." as it is, and that is another path
        return []
    below = f"{quote(job_id, safe='')}/output/{quote(name, safe='')}"
    return [f"{base_url}/api/v1/{kind}/{below}" for kind in ("sov", "bulk_enhance")]


# -- The file --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def open_whole(to: str | Path) -> AsyncIterator[AsyncBufferedIOBase]:
    """Open a file for writing that replaces `to` when the block ends, whole and on the disk.

    Until then it has a temporary name beside it, which an error or a cancellation removes; what
    was under the name `to` stays as it was.

    Raises:
        OSError: When it cannot be written.
    """
    from aiofiles.threadpool import wrap  # noqa: PLC0415 - only those who download pay for it

    loop, part = asyncio.get_running_loop(), _part_of(to)
    # One thread: what tidies up after a cancellation waits there for what is still going on.
    executor = ThreadPoolExecutor(1, thread_name_prefix="pingdata-download")
    try:
        file = await loop.run_in_executor(executor, part.__enter__)
        yield wrap(file, loop=loop, executor=executor)
        await loop.run_in_executor(executor, part.__exit__, None, None, None)
    except BaseException as error:
        discarded = executor.submit(part.__exit__, type(error), error, None)
        with anyio.CancelScope(shield=True), contextlib.suppress(OSError):
            await asyncio.wrap_future(discarded)
        raise
    finally:
        executor.shutdown(wait=False)


@contextlib.contextmanager
def _part_of(to: str | Path) -> Iterator[BinaryIO]:
    """The file under its temporary name, which it loses at the end; blocks."""
    path = Path(os.path.realpath(to))  # behind a link, the file itself is replaced
    if path.is_dir():  # told before anything is downloaded
        raise IsADirectoryError(f"{path} is a folder, not a file")
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with part.open("xb", BUFFER_BYTES) as file:
            yield file
            file.flush()
            sync_file(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
