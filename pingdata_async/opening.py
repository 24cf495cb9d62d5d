"""Opening and closing a client: its settings, its connections, the tasks that live in it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import anyio
import anyio.to_thread

from pingdata_async.config import (
    MAX_BODY_BYTES,
    OTHER_HOSTS,
    ClientSettings,
    check_numbers,
    find_token,
    resolve_base_url,
)
from pingdata_async.exceptions import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    PingDataError,
)
from pingdata_async.secrecy import Secret
from pingdata_async.transport import Transport

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup


class OpenedClient:
    """What is open between `async with` and its end; the endpoints are in `PingDataClient`.

    Arguments and errors are described there.
    """

    def __init__(
        self,
        *,
        environment: str | None = None,
        api_url: str | None = None,
        auth_token: str | None = None,
        connect_timeout_s: float = 15.0,
        submit_timeout_s: float = 120.0,
        read_timeout_s: float = 60.0,
        max_connections: int = 64,
        max_body_bytes: int = MAX_BODY_BYTES,
        ca_bundle: str | Path | None = None,
    ) -> None:
        self._environment = environment
        self._api_url = api_url
        self._auth_token = None if auth_token is None else Secret(auth_token)
        self._options: dict[str, Any] = {
            "connect_timeout_s": connect_timeout_s,
            "submit_timeout_s": submit_timeout_s,
            "read_timeout_s": read_timeout_s,
            "max_connections": max_connections,
            "max_body_bytes": max_body_bytes,
        }
        check_numbers(self._options)
        if ca_bundle is not None:
            self._options["ca_bundle"] = Path(ca_bundle)
        self._settings: ClientSettings | None = None
        self._transport: Transport | None = None
        self._tasks: TaskGroup | None = None

    def __repr__(self) -> str:
        state = "open" if self._tasks is not None else "closed"
        host = self._settings.base_url if self._settings else self._api_url or self._environment
        return f"<PingDataClient {host or 'prod'} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a PingDataClient is neither pickled nor copied, as it holds the auth token and open "
            "connections: make one where it is used"
        )

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise ConfigurationError("this client is open already; it is opened once at a time")
        # Looking the token up reads a file: not in the event loop.
        self._settings = await anyio.to_thread.run_sync(self._find_settings)
        transport = Transport(self._settings)
        await transport.__aenter__()
        self._transport = transport
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        tasks, transport = self._tasks, self._transport
        self._tasks = self._transport = None
        if tasks is None or transport is None:
            return
        try:
            tasks.cancel_scope.cancel("the client is closed")
            # Without the error: the group would wrap it, and it is not the group's.
            await tasks.__aexit__(None, None, None)
        finally:
            # Only now: streams see a cancellation, other requests ClientClosedError.
            await transport.__aexit__(None, None, None)

    @property
    def base_url(self) -> str:
        """Where the API is, without a trailing slash."""
        return self._opened_settings().base_url

    @property
    def api_url(self) -> str:
        """Where the API will be looked for; needs no open client.

        Raises:
            ConfigurationError: For an unknown environment or an unusable url.
        """
        return resolve_base_url(self._api_url, self._environment)

    @property
    def environment(self) -> str | None:
        """The environment's name; None where only a url was given."""
        return self._environment or (None if self._api_url else "prod")

    @property
    def tasks(self) -> TaskGroup:
        """The task group that streams of this client live in; cancelled when it closes.

        What is started in it must handle its own errors: one that escapes would end the
        client's whole `async with` block.

        Raises:
            ClientClosedError: When the client is not open.
        """
        if self._tasks is None:
            raise ClientClosedError('the client is not open; use "async with PingDataClient()"')
        return self._tasks

    # -- inside --------------------------------------------------------------------------

    def _find_settings(self) -> ClientSettings:
        base_url = resolve_base_url(self._api_url, self._environment)
        given = None if self._auth_token is None else self._auth_token.reveal()
        token = find_token(given, self._environment)
        return ClientSettings(
            base_url=base_url, token=token, environment=self._environment, **self._options
        )

    def _opened_settings(self) -> ClientSettings:
        if self._settings is None:
            raise ClientClosedError('the client is not open; use "async with PingDataClient()"')
        return self._settings

    @contextlib.asynccontextmanager
    async def _call(self) -> AsyncIterator[Transport]:
        transport = self._transport
        if transport is None:
            raise ClientClosedError('the client is not open; use "async with PingDataClient()"')
        try:
            yield transport
        except AuthenticationError as error:
            raise AuthenticationError(
                f"{error}{self._other_host_hint()}",
                status_code=error.status_code,
                api_message=error.api_message,
                retry_after_s=error.retry_after_s,
            ) from error
        except PingDataError as error:
            # A request that was under way when the client was closed under it.
            if self._transport is not transport:
                raise ClientClosedError("the client was closed during a request") from error
            raise

    def _other_host_hint(self) -> str:
        """After a 401: tokens belong to one host, and the API is published under two names."""
        if self._api_url is not None:
            return ""
        other = OTHER_HOSTS.get(self._environment or "prod")
        if other is None:
            return ""
        return f". If the token is right, it may belong to {other}: try --api-url {other}"
