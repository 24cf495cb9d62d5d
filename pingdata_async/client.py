"""PingDataClient: one method an endpoint of the Ping.Data API."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.bodies import OutputBody
from pingdata_async.config import (
    OTHER_HOSTS,
    ClientSettings,
    find_token,
    resolve_base_url,
)
from pingdata_async.data_sources import DataSource, decode_datasource, decode_datasources
from pingdata_async.deflate import PACKING_IS_QUICK_BELOW_BYTES, gzipped
from pingdata_async.exceptions import (
    AccessDeniedError,
    APIStatusError,
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InputError,
    NotFoundError,
    PingDataError,
)
from pingdata_async.locations import clean_sources, prepare
from pingdata_async.models import EnhancedLocation, JobOutput, JobStatus, Location
from pingdata_async.outcomes import judge_location
from pingdata_async.transport import Response, Transport
from pingdata_async.wire import decode_enhance, decode_status, decode_submission, encode_options

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

GZIP_FROM_BYTES = 1400
"""A smaller body fits into one network packet as it is: nothing is gained."""


class PingDataClient:
    """A connection to the Ping.Data API, used with `async with`.

    Opening looks up token and host (argument, environment variables, `~/.pingintel.ini`,
    as the vendor's own client does) and opens the connections; closing ends every stream
    that still runs on it. It belongs to one event loop, and many tasks may use it at once.

    Args:
        environment: prod (None means that), prodeu, staging or dev.
        api_url: The base url instead of an environment's; http only for this machine.
        auth_token: The token; None to look it up.
        connect_timeout_s: For a connection to be made.
        submit_timeout_s: Without a byte of the answer to a submission.
        read_timeout_s: Without a byte of any other answer.
        max_connections: Open at once.
        max_body_bytes: The largest answer taken into memory, decompressed.
        ca_bundle: PEM file or folder of certificates to trust; None for SSL_CERT_FILE, then
            REQUESTS_CA_BUNDLE, then the system's.

    Raises:
        ConfigurationError: On opening, for a setting that cannot work.
        MissingTokenError: On opening, when there is no token.
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
        max_body_bytes: int = 512 * 1024 * 1024,
        ca_bundle: str | Path | None = None,
    ) -> None:
        self._environment = environment
        self._api_url = api_url
        self._auth_token = auth_token
        self._options: dict[str, Any] = {
            "connect_timeout_s": connect_timeout_s,
            "submit_timeout_s": submit_timeout_s,
            "read_timeout_s": read_timeout_s,
            "max_connections": max_connections,
            "max_body_bytes": max_body_bytes,
        }
        if ca_bundle is not None:
            self._options["ca_bundle"] = Path(ca_bundle)
        self._settings: ClientSettings | None = None
        self._transport: Transport | None = None
        self._tasks: TaskGroup | None = None

    def __repr__(self) -> str:
        state = "open" if self._tasks is not None else "closed"
        host = self._settings.base_url if self._settings else self._api_url or self._environment
        return f"<PingDataClient {host or 'prod'} {state}>"

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

    # -- bulk jobs -----------------------------------------------------------------------

    async def submit(
        self,
        locations: Sequence[Location | Mapping[str, Any]],
        *,
        sources: Sequence[str],
        source_timeout_s: float | None = None,
        include_raw_response: bool = False,
        check_cache: bool = True,
        delegate_to: str | None = None,
        callback_url: str | None = None,
    ) -> str:
        """Submit one bulk job (`POST /api/v1/bulk_enhance`) and return its id.

        The locations are sent as they are, so each needs an `id` that is unique in the job.
        Every accepted call is charged. Cancelling it leaves in doubt whether it was accepted.

        Args:
            locations: What to enhance, as one job.
            sources: Source codes such as PG and PH; a location's own `sources` win.
            source_timeout_s: The API's own `timeout` for each fetch from a source.
            include_raw_response: Whether answers hold what the source itself said.
            check_cache: False to have everything fetched afresh.
            delegate_to: Short name of the organisation to act for; needs a permission.
            callback_url: POSTed to by the API when the job is done.

        Raises:
            InputError: When the locations cannot be sent as JSON.
            TransportError: With `maybe_sent` True, a job may have been made.
            APIStatusError: As the API refuses; 5xx but 503 leave it in doubt.
            DecodeError: A success without a job id: a job was probably made.
        """
        options = encode_options(
            sources=sources,
            source_timeout_s=source_timeout_s,
            include_raw_response=include_raw_response,
            check_cache=check_cache,
            delegate_to=delegate_to,
            callback_url=callback_url,
        )
        try:
            encoded = msgspec.json.encode(list(locations))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"the locations cannot be sent as JSON: {error}") from error
        return await self.submit_body(b'{"locations":' + encoded + b"," + options[1:])

    async def submit_body(self, body: bytes) -> str:
        """Submit a job whose JSON body is already encoded; otherwise as `submit()`."""
        headers = {"Content-Type": "application/json"}
        if len(body) >= GZIP_FROM_BYTES:
            headers["Content-Encoding"] = "gzip"
            body = await _gzipped(body)
        async with (
            self._call() as transport,
            transport.post("/api/v1/bulk_enhance", body, headers) as response,
        ):
            return await response.decoded(decode_submission)

    async def status(self, job_id: str) -> JobStatus:
        """Ask about a job (`GET /api/v1/bulk_enhance/{id}`). Safe to repeat and to cancel.

        Raises:
            NotFoundError: When the API does not know the job.
            TransportError: When no answer arrived.
            APIStatusError: On any other error status.
            DecodeError: When the answer is not a job's status.
        """
        async with (
            self._call() as transport,
            transport.get(f"/api/v1/bulk_enhance/{quote(job_id, safe='')}") as response,
        ):
            return await response.decoded(decode_status)

    @contextlib.asynccontextmanager
    async def stream_output(self, job_id: str, output: JobOutput) -> AsyncIterator[Response]:
        """Open an output for download; read it with `iter_blocks()` or `read()`.

        The url is used as the API gave it, with the token only on the API's own origin. One
        that has expired (403, 404, 410) is asked for again through the job's status; where
        another origin asks for credentials, and last of all, the documented paths on the
        API's own origin are tried. Safe to repeat; cancelling closes the connection.

        Raises:
            NotFoundError: When no way leads to it.
            APIStatusError: On any other error status.
            TransportError: When no answer arrived.
            DecodeError: When its url cannot be used.
        """
        async with self._call() as transport, contextlib.AsyncExitStack() as stack:
            first = transport.resolve(output.url)
            try:
                response = await stack.enter_async_context(transport.download(first))
            except (AuthenticationError, AccessDeniedError, NotFoundError) as error:
                if isinstance(error, AuthenticationError) and transport.is_own(first):
                    raise
                response = await self._open_elsewhere(stack, transport, job_id, output, error)
            yield response

    async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
        """The whole output in memory, up to `max_body_bytes`; as `stream_output()` otherwise.

        Raises:
            DecodeError: When it is larger than that.
        """
        async with self.stream_output(job_id, output) as response:
            return await response.read()

    async def fetch_body(self, job_id: str, output: JobOutput) -> OutputBody:
        """The whole output as it comes over the wire; as `fetch_output()` otherwise.

        `OutputBody.content()` decompresses it, and raises where it is damaged or too large.
        """
        async with self.stream_output(job_id, output) as response:
            return await response.read_wire()

    async def _open_elsewhere(
        self,
        stack: contextlib.AsyncExitStack,
        transport: Transport,
        job_id: str,
        output: JobOutput,
        refusal: APIStatusError,
    ) -> Response:
        """Open an output whose url was refused by another way.

        Raises:
            NotFoundError: When every way is refused; it holds the first refusal.
            AuthenticationError: When the API itself refuses the token.
        """
        refused = transport.resolve(output.url)
        urls: list[str] = []
        if not isinstance(refusal, AuthenticationError):
            urls += [transport.resolve(url) for url in await self._fresh_urls(job_id, output)]
        name = output.filename or refused.partition("?")[0].rpartition("/")[2]
        if name.strip("."):  # quoting leaves ".." as it is, and that is another path
            below = f"{quote(job_id, safe='')}/output/{quote(name, safe='')}"
            urls += [f"{self.base_url}/api/v1/{kind}/{below}" for kind in ("sov", "bulk_enhance")]
        for url in dict.fromkeys(urls):
            if url == refused:
                continue
            try:
                return await stack.enter_async_context(transport.download(url))
            except AuthenticationError:
                if transport.is_own(url):
                    raise
            except (AccessDeniedError, NotFoundError):
                pass
        raise NotFoundError(
            f"no way leads to output {name!r} of job {job_id}: {refusal}",
            status_code=refusal.status_code,
            api_message=refusal.api_message,
        ) from refusal

    async def _fresh_urls(self, job_id: str, output: JobOutput) -> list[str]:
        """The url that the API gives now for an output; none where it does not know it."""
        try:
            outputs = (await self.status(job_id)).outputs
        except NotFoundError:
            return []
        same = [fresh.url for fresh in outputs if fresh.filename == output.filename]
        return same[:1] or [fresh.url for fresh in outputs[:1]]

    # -- one location --------------------------------------------------------------------

    async def enhance(
        self,
        location: Location | Mapping[str, Any] | str | None = None,
        *,
        sources: Sequence[str],
        source_timeout_s: float | None = None,
        include_raw_response: bool = False,
        check_cache: bool = True,
        delegate_to: str | None = None,
        **fields: Any,
    ) -> EnhancedLocation:
        """Enhance one location at once (`GET /api/v1/enhance`). Charged when it is answered.

        Args:
            location: A `Location`, a mapping with its fields, or a plain address.
            sources: Source codes such as PG and PH.
            source_timeout_s: The API's own `timeout`; the HTTP time-out is made longer to fit.
            include_raw_response: Whether answers hold what the source itself said.
            check_cache: False to have everything fetched afresh.
            delegate_to: Short name of the organisation to act for; needs a permission.
            fields: The location's fields one by one: `enhance(address="...", sources=["PG"])`.

        Raises:
            InputError: When there is nothing to look up, or it cannot be sent.
            TransportError: When no answer arrived; it may have been charged.
            APIStatusError: On an error status.
            DecodeError: When the answer cannot be read.
        """
        if location is not None and fields:
            raise InputError("give a location or its fields one by one, not both")
        prepared = prepare(location if location is not None else fields)
        prepared.encoded()  # refuses what cannot be sent
        asked = prepared.sources or clean_sources(sources)
        if not asked:
            raise InputError("no sources: name one, such as PG")
        query = _query(prepared.fields)
        query += [("sources", code) for code in asked]
        query.append(("include_raw_response", _query_text(include_raw_response)))
        if source_timeout_s is not None:
            query.append(("timeout", _query_text(source_timeout_s)))
        if not check_cache:
            query.append(("check_cache", "false"))
        if delegate_to:
            query.append(("delegate_to", delegate_to))
        timeout_s = self._opened_settings().read_timeout_s + (source_timeout_s or 0.0)
        async with (
            self._call() as transport,
            transport.get("/api/v1/enhance", query, timeout_s, is_paid=True) as response,
        ):
            data = await response.decoded(decode_enhance)
        return judge_location(row=0, user_id=prepared.id or "0", data=data, sources=asked)

    # -- the account ---------------------------------------------------------------------

    async def datasources(self) -> dict[str, DataSource]:
        """The sources that the account may ask, by code (`GET /api/v1/datasources`).

        Raises:
            TransportError: When no answer arrived.
            APIStatusError: On an error status.
            DecodeError: When the answer cannot be read.
        """
        async with (
            self._call() as transport,
            transport.get("/api/v1/datasources") as response,
        ):
            return await response.decoded(decode_datasources)

    async def datasource(self, code: str) -> DataSource:
        """One source by its code, in upper or lower case (`GET /api/v1/datasources/{code}`).

        Raises:
            NotFoundError: When the API does not know it.
            TransportError: When no answer arrived.
            APIStatusError: On any other error status.
            DecodeError: When the answer cannot be read.
        """
        async with (
            self._call() as transport,
            transport.get(f"/api/v1/datasources/{quote(code, safe='')}") as response,
        ):
            return await response.decoded(decode_datasource)

    # -- inside --------------------------------------------------------------------------

    def _find_settings(self) -> ClientSettings:
        base_url = resolve_base_url(self._api_url, self._environment)
        token = find_token(self._auth_token, self._environment)
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
        except (PingDataError, RuntimeError) as error:
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


async def _gzipped(body: bytes) -> bytes:
    if len(body) < PACKING_IS_QUICK_BELOW_BYTES:
        return gzipped(body)
    return await anyio.to_thread.run_sync(gzipped, body)


def _query(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _query_text(value)) for name, value in fields.items() if name != "sources"]


def _query_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
