"""An open client for a command's options."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio

from pingdata_async.cli.options import MB, Connection, read_token_file
from pingdata_async.cli.signals import run_until_signal
from pingdata_async.client import PingDataClient
from pingdata_async.config import MAX_BODY_BYTES
from pingdata_async.exceptions import (
    APIStatusError,
    ClientClosedError,
    ConfigurationError,
    MissingTokenError,
    PingDataError,
)
from pingdata_async.refusals import saying_when

T = TypeVar("T")


@contextlib.asynccontextmanager
async def open_client(
    *,
    environment: str | None,
    api_url: str | None,
    auth_token_file: Path | None,
    ca_bundle: Path | None,
    max_answer_mb: int | None = None,
) -> AsyncIterator[PingDataClient]:
    """A client for the API that the options name; for the sandbox, starts it too.

    Raises:
        ConfigurationError: When the options do not go together.
        MissingTokenError: When there is no token.
    """
    max_body_bytes = MAX_BODY_BYTES if max_answer_mb is None else max_answer_mb * MB
    if environment == "sandbox":
        if api_url is not None:
            raise ConfigurationError("give --environment sandbox or --api-url, not both")
        # Only now: no other command pays for loading a web server.
        from pingdata_async.sandbox import SandboxServer  # noqa: PLC0415

        async with (
            SandboxServer() as server,
            PingDataClient(
                environment="sandbox",
                api_url=server.url,
                auth_token="any",  # noqa: S106 - the sandbox takes any
                max_body_bytes=max_body_bytes,
            ) as client,
        ):
            yield client
        return
    async with PingDataClient(
        environment=environment,
        api_url=api_url,
        auth_token=read_token_file(auth_token_file),
        ca_bundle=ca_bundle,
        max_body_bytes=max_body_bytes,
    ) as client:
        yield client


async def with_client(connection: Connection, work: Callable[[PingDataClient], Awaitable[T]]) -> T:
    """Do something with an open client; raises as `open_client()`, and as the work."""
    async with open_client(
        environment=connection.environment,
        api_url=connection.api_url,
        auth_token_file=connection.auth_token_file,
        ca_bundle=connection.ca_bundle,
        max_answer_mb=connection.max_answer_mb,
    ) as client:
        return await work(client)


async def with_client_if_needed(
    connection: Connection, work: Callable[[PingDataClient], Awaitable[T]]
) -> T:
    """Do something that may not need the API: that there is no token is an error only if it does.

    Raises:
        PingDataError: As `open_client()`, and as the work.
    """
    try:
        return await with_client(connection, work)
    except MissingTokenError as error:
        missing = error
    return await with_closed_client(connection, missing, work)


async def with_closed_client(
    connection: Connection,
    why: PingDataError,
    work: Callable[[PingDataClient], Awaitable[T]],
) -> T:
    """Do something that may not need the API, without it; raises why there is none if it does."""
    try:
        return await work(_closed_client(connection))
    except ClientClosedError:
        raise why from None


async def with_or_without_token(
    connection: Connection, work: Callable[[PingDataClient], Awaitable[T]]
) -> T:
    """Do something with an open client; with a closed one where there is no token.

    Raises:
        PingDataError: As `open_client()` but for the token, and as the work.
    """
    try:
        return await with_client(connection, work)
    except MissingTokenError:
        pass
    return await work(_closed_client(connection))


def _closed_client(connection: Connection) -> PingDataClient:
    return PingDataClient(environment=connection.environment, api_url=connection.api_url)


def ask(connection: Connection, question: Callable[[PingDataClient], Awaitable[T]]) -> T:
    """Open a client, ask it one thing, and return the answer.

    Raises:
        PingDataError: As `open_client()`, and as whatever is asked.
        InterruptedBySignalError: When a signal ended it.
    """
    try:
        return anyio.run(run_until_signal, lambda: with_client(connection, question))
    except APIStatusError as error:
        raise saying_when(error) from error
