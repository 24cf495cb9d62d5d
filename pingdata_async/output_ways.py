"""The ways to an output of a job: its url, a fresh one, and the documented paths."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import quote

from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    NotFoundError,
)
from pingdata_async.models import JobOutput, JobStatus
from pingdata_async.transport import Response, Transport

AskStatus = Callable[[str], Awaitable[JobStatus]]


@contextlib.asynccontextmanager
async def opened_output(
    transport: Transport, base_url: str, job_id: str, output: JobOutput, ask_status: AskStatus
) -> AsyncIterator[Response]:
    """Open an output, by its url first.

    Args:
        transport: What fetches it.
        base_url: Where the API is, without a trailing slash.
        job_id: The job that made it.
        output: The output, as the job's status told of it.
        ask_status: Asks about a job, for the url that the API gives now.

    Raises:
        NotFoundError: When every way is refused; it holds the first refusal.
        AuthenticationError: When the API itself refuses the token.
        APIStatusError: On any other error status.
        TransportError: When no answer arrived.
        DecodeError: When its url cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        first = transport.resolve(output.url)
        try:
            response = await stack.enter_async_context(transport.download(first))
        except (AuthenticationError, AccessDeniedError, NotFoundError) as refusal:
            refuses_token = isinstance(refusal, AuthenticationError)
            if refuses_token and transport.is_own(first):
                raise
            urls: list[str] = []
            if not refuses_token:
                fresh = await _fresh_urls(job_id, output, ask_status)
                urls += [transport.resolve(url) for url in fresh]
            name = output.filename or first.partition("?")[0].rpartition("/")[2]
            urls += _documented_urls(base_url, job_id, name)
            others = [url for url in dict.fromkeys(urls) if url != first]
            opened = await _open_first(stack, transport, others)
            if opened is None:
                raise _no_way(name, job_id, refusal) from refusal
            response = opened
        yield response


async def _open_first(
    stack: contextlib.AsyncExitStack, transport: Transport, urls: list[str]
) -> Response | None:
    """The first of the urls that is not refused; None where all are."""
    for url in urls:
        try:
            return await stack.enter_async_context(transport.download(url))
        except AuthenticationError:
            if transport.is_own(url):
                raise
        except (AccessDeniedError, NotFoundError):
            pass
    return None


async def _fresh_urls(job_id: str, output: JobOutput, ask_status: AskStatus) -> list[str]:
    """The url that the API gives now for an output; none where it does not know it."""
    try:
        outputs = (await ask_status(job_id)).outputs
    except NotFoundError:
        return []
    same = [fresh.url for fresh in outputs if fresh.filename == output.filename]
    return same[:1] or [fresh.url for fresh in outputs[:1]]


def _documented_urls(base_url: str, job_id: str, name: str) -> list[str]:
    if not name.strip("."):  # quoting leaves ".." as it is, and that is another path
        return []
    below = f"{quote(job_id, safe='')}/output/{quote(name, safe='')}"
    return [f"{base_url}/api/v1/{kind}/{below}" for kind in ("sov", "bulk_enhance")]


def _no_way(name: str, job_id: str, refusal: APIStatusError) -> NotFoundError:
    return NotFoundError(
        f"no way leads to output {name!r} of job {job_id}: {refusal}",
        status_code=refusal.status_code,
        api_message=refusal.api_message,
    )
