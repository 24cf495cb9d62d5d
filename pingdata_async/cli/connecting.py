"""An open client for a command's options."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pingdata_async.cli.options import read_token_file
from pingdata_async.client import PingDataClient
from pingdata_async.exceptions import ConfigurationError


@contextlib.asynccontextmanager
async def open_client(
    *,
    environment: str | None,
    api_url: str | None,
    auth_token_file: Path | None,
    ca_bundle: Path | None,
) -> AsyncIterator[PingDataClient]:
    """A client for the API that the options name; for the sandbox, starts it too.

    Raises:
        ConfigurationError: When the options do not go together.
        MissingTokenError: When there is no token.
    """
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
            ) as client,
        ):
            yield client
        return
    async with PingDataClient(
        environment=environment,
        api_url=api_url,
        auth_token=read_token_file(auth_token_file),
        ca_bundle=ca_bundle,
    ) as client:
        yield client
