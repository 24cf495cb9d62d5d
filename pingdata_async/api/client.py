"""PingDataClient: one method an endpoint of the Ping.Data API, and its opening and closing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack
from urllib.parse import quote

import anyio
import anyio.to_thread
import msgspec

from pingdata_async.api.account import (
    Limits,
    Moment,
    Usage,
    decode_datasource,
    decode_datasources,
    decode_limits,
    decode_usage,
    encode_usage_query,
)
from pingdata_async.api.client_task import NOT_OPEN, ClientTask
from pingdata_async.api.config import (
    OTHER_HOSTS,
    SANDBOX,
    ClientSettings,
    Environment,
    Pacer,
    check_numbers,
    find_api,
    find_token,
    resolve_base_url,
    telemetry_of,
)
from pingdata_async.api.connections import repeated
from pingdata_async.api.job import Job, as_sent, listed, submit_job
from pingdata_async.api.outputs import open_output, open_whole
from pingdata_async.api.transport import Response, Transport
from pingdata_async.api.wire import (
    JobKeywords,
    JobOptions,
    check_unicode,
    checked_query,
    decode_enhance,
    decode_status,
    decode_submission,
)
from pingdata_async.exceptions import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InputError,
    PingDataError,
)
from pingdata_async.locations.fields import AnyLocation, clean_sources
from pingdata_async.locations.normalize import normalize
from pingdata_async.models import DataSource, EnhancedLocation, JobOutput, JobStatus, Location
from pingdata_async.results.outcomes import judge_location
from pingdata_async.util.encoding import (
    MAX_BODY_BYTES,
    PACKING_IS_QUICK_BELOW_BYTES,
    EncodedBody,
    gzipped,
)
from pingdata_async.util.redaction import Secret
from pingdata_async.util.text import without_bom
from pingdata_async.util.validation import check_count

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from pingdata_async.api.connections import HTTPOptions
    from pingdata_async.telemetry import Telemetry

T = TypeVar("T")

GZIP_FROM_BYTES = 1400
"""A smaller body fits into one network packet as it is: nothing is gained."""


class PingDataClient:
    """A connection to the Ping.Data API, used with `async with`, or opened and closed by hand.

    Opening looks up token and host (argument, environment variables, `~/.pingintel.ini`,
    as the vendor's own client does) and opens the connections; closing ends every stream
    that still runs on it. It belongs to one event loop, in which any tasks may open, use and close
    it, several at once. It can be opened again.

    Args:
        environment: prod, prodeu, staging or dev; or sandbox, for an imitation of the API that
            opening starts inside the process, at no cost and without a token. None for the
            variables `PINGDATA_ASYNC_ENVIRONMENT` and `PINGDATA_ASYNC_API_URL`, unless `api_url` is
            given; without those, prod.
        api_url: The base url instead of an environment's; http only for this machine.
        auth_token: The token; None to look it up.
        connect_timeout_s: The longest wait for a connection.
        submit_timeout_s: The longest wait for the next byte of the answer to a submission.
        read_timeout_s: The longest wait for the next byte of any other answer. An answer that comes
            at less than 1,000 bytes a second for twice that long is given up, too, and a download
            after three hours (ten minutes, and a second for each 50,000 of `max_body_bytes`).
        max_connections: The most that are open at once.
        max_body_bytes: The largest answer taken into memory, decompressed.
        max_retries: How often a question that costs nothing (`status()`, `limits()`, `usage()`,
            `datasources()`, `datasource()`) is asked again after a 429, a 5xx or no answer.
        ca_bundle: PEM file or folder of certificates to trust; None for SSL_CERT_FILE, then
            REQUESTS_CA_BUNDLE, then the system's.
        http: A proxy, a TLS context, further headers, hooks; None for none of them.
        telemetry: True for OpenTelemetry's global providers (extra `otel`); or a `Telemetry`.

    Raises:
        ConfigurationError: For a number out of range, or a `ca_bundle` beside an `ssl_context`; on
            opening, for any other unusable setting.
        MissingTokenError: On opening, when there is no token.
    """

    def __init__(
        self,
        *,
        environment: Environment | None = None,
        api_url: str | None = None,
        auth_token: str | None = None,
        connect_timeout_s: float = 15.0,
        submit_timeout_s: float = 120.0,
        read_timeout_s: float = 60.0,
        max_connections: int = 64,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_retries: int = 2,
        ca_bundle: str | Path | None = None,
        http: HTTPOptions | None = None,
        telemetry: Telemetry | bool = False,
    ) -> None:
        self._environment, self._api_url = find_api(environment, api_url)
        self._auth_token = None if auth_token is None else Secret(auth_token)
        self._options: dict[str, Any] = {
            "connect_timeout_s": connect_timeout_s,
            "submit_timeout_s": submit_timeout_s,
            "read_timeout_s": read_timeout_s,
            "max_connections": max_connections,
            "max_body_bytes": max_body_bytes,
        }
        check_numbers(self._options)
        check_count("max_retries", max_retries, at_least=0)
        self._max_retries = max_retries
        self.telemetry: Telemetry | None = telemetry_of(telemetry)
        self._options |= {"http": http, "telemetry": self.telemetry}
        if http is not None and http.ssl_context is not None:
            if ca_bundle is not None:
                raise ConfigurationError("give a ca_bundle or an ssl_context, not both")
            self._options["ca_bundle"] = None
        elif ca_bundle is not None:
            self._options["ca_bundle"] = Path(ca_bundle)
        self._task: ClientTask | None = None
        self._users = 0  # blocks, even if the client was closed and opened again under them

    def __repr__(self) -> str:
        is_open = self._task is not None and self._task.is_open
        state = "open" if is_open else "closed"
        host = self.base_url if is_open else self._api_url or self._environment
        return f"<PingDataClient {host or 'prod'} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a PingDataClient is neither pickled nor copied, as it holds the auth token and open "
            "connections: make one where it is used"
        )

    async def open(self) -> Self:
        """Open the client, unless it is open; `aclose()` closes it.

        Raises:
            ConfigurationError: For an unusable setting.
            MissingTokenError: When there is no token.
            ClientClosedError: When it is open in another event loop.
        """
        task = await self._enter()
        task.is_held = True
        self._users -= 1
        return self

    async def aclose(self) -> None:
        """Close the client, whoever uses it: streams and requests end with `ClientClosedError`.

        Returns when nothing of it is left. Harmless when it is closed already. A cancellation
        does not stop it.

        Raises:
            ClientClosedError: When it was opened in another event loop.
        """
        if self._task is not None:
            await self._close(self._task)

    async def __aenter__(self) -> Self:
        await self._enter()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close the client, unless others have opened it as well."""
        await self._leave()

    async def _enter(self) -> ClientTask:
        while (task := self._task) is not None and task.is_closing:
            await self._close(task)
        if task is None:
            starts_sandbox = self._environment == SANDBOX and self._api_url is None
            task = self._task = ClientTask(self._find_settings, starts_sandbox=starts_sandbox)
        self._users += 1
        try:
            await task.opened()
        except BaseException:
            await self._leave()
            raise
        return task

    async def _leave(self) -> None:
        self._users -= 1
        task = self._task
        if task is not None and self._users <= 0 and not task.is_held:
            await self._close(task)

    async def _close(self, task: ClientTask) -> None:
        await task.aclose()
        if self._task is task:
            self._task = None

    @property
    def base_url(self) -> str:
        """Where the API is, without a trailing slash."""
        return self._opened().settings.base_url

    @property
    def api_url(self) -> str:
        """Where the API will be looked for; needs no open client.

        Raises:
            ConfigurationError: For an unknown environment or an unusable url.
        """
        return resolve_base_url(self._api_url, self._environment)

    @property
    def environment(self) -> Environment | None:
        """The environment's name; None where only a url was given."""
        return self._environment or (None if self._api_url else "prod")

    @property
    def tasks(self) -> TaskGroup:
        """The task group that streams of this client live in; cancelled when it closes.

        What is started in it must handle its own errors: one that escapes closes the client.

        Raises:
            ClientClosedError: When the client is not open, or open in another event loop.
        """
        return self._opened().tasks

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

        The locations are sent as they are, whatever the names of their fields, so each needs an
        `id` that is unique in the job. Every accepted call is charged. Cancelling it leaves in
        doubt whether it was accepted.

        Args:
            locations: What to enhance, as one job.
            sources: Source codes such as PG and PH; a location's own `sources` win.
            source_timeout_s: The API's own `timeout` for each fetch from a source.
            include_raw_response: Whether answers hold what the source itself said.
            check_cache: False to have everything fetched afresh.
            delegate_to: Short name of the organisation to act for; needs a permission.
            callback_url: POSTed to by the API when the job is done.

        Raises:
            InputError: When they are no list of locations, or cannot be sent as JSON.
            TransportError: With `maybe_sent` True, a job may have been made.
            APIStatusError: As the API refuses; 5xx but 503 leave it in doubt.
            DecodeError: A success without a job id: a job was probably made.
        """
        options = JobOptions(
            source_timeout_s=source_timeout_s,
            include_raw_response=include_raw_response,
            check_cache=check_cache,
            delegate_to=delegate_to,
            callback_url=callback_url,
        ).encode(sources)
        given = listed(locations)
        try:
            encoded = msgspec.json.encode(given)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"the locations cannot be sent as JSON: {error}") from error
        return await self.submit_body(b'{"locations":' + encoded + b"," + options[1:])

    async def submit_job(
        self,
        locations: Sequence[AnyLocation],
        *,
        sources: Sequence[str] | str = (),
        **options: Unpack[JobKeywords],
    ) -> Job:
        """Submit one bulk job by hand: `status()`, `wait()` and `results()` are the job's.

        Locations are checked and sent as `BulkEnhancer` does it, under ids of ours; those that
        cannot be sent are failed results. Charged, and cancelled, as `submit()`.

        Args:
            locations: `Location`s, mappings or plain addresses, for one job.
            sources: Source codes; a location's own `sources` win.
            **options: The other arguments of `submit()`.

        Raises:
            InputError: When none can be sent, they are too much for one job, or nothing names a
                source.
            PingDataError: As `submit()`.
        """
        return await submit_job(self, locations, sources, JobOptions(**options))

    def job(self, job_id: str, *, sources: Sequence[str] | str = ()) -> Job:
        """A job that was submitted before, here or elsewhere; asks nothing yet.

        Args:
            job_id: The API's id.
            sources: The sources that were asked for; () for whatever each answer holds.
        """
        return Job(self, job_id, tuple(clean_sources(sources)))

    async def submit_body(self, body: bytes, *, pacer: Pacer | None = None) -> str:
        """Submit a job whose JSON body is already encoded; otherwise as `submit()`.

        Args:
            body: The JSON.
            pacer: Decides when the request is sent; None for at once.
        """
        headers = {"Content-Type": "application/json"}
        if len(body) >= GZIP_FROM_BYTES:
            headers["Content-Encoding"] = "gzip"
            body = await _gzipped(body)
        with self._call() as transport:
            return await transport.post(
                "/api/v1/bulk_enhance", body, headers, decode_submission, pacer
            )

    async def status(self, job_id: str, *, pacer: Pacer | None = None) -> JobStatus:
        """Ask about a job (`GET /api/v1/bulk_enhance/{id}`). Safe to repeat and to cancel.

        Args:
            job_id: As `submit()` returned it.
            pacer: Decides when the request is sent; None for at once.

        Raises:
            NotFoundError: When the API does not know the job.
            TransportError: When no answer arrived.
            APIStatusError: On any other error status.
            DecodeError: When the answer is not a job's status.
        """
        path = f"/api/v1/bulk_enhance/{quote(job_id, safe='')}"
        return await self._ask(path, decode_status, pacer=pacer)

    @contextlib.asynccontextmanager
    async def stream_output(
        self, job_id: str, output: JobOutput, *, pacer: Pacer | None = None
    ) -> AsyncIterator[Response]:
        """Open an output for download; read it with `iter_blocks()` or `read()`.

        The url is used as the API gave it, with the token only on the API's own origin. Where it
        is refused, has expired or cannot be used, and where another origin cannot be reached or
        is out of order, the job's status is asked for a fresh one, and last of all the
        documented paths on the API's own origin are tried. Safe to repeat; cancelling closes the
        connection.

        Args:
            job_id: The job that made it.
            output: As `status()` told of it.
            pacer: Decides when each request is sent; None for at once.

        Raises:
            OutputUnavailableError: When no way leads to it. That says nothing of the job.
            APIStatusError: On any other error status.
            TransportError: When no answer arrived.
        """
        with self._call() as transport:
            async with open_output(
                transport, self.base_url, job_id, output, self.status, pacer=pacer
            ) as response:
                yield response

    async def fetch_output(self, job_id: str, output: JobOutput) -> bytes:
        """The whole output in memory, up to `max_body_bytes`; as `stream_output()` otherwise.

        Raises:
            DecodeError: When it is larger than that.
        """
        async with self.stream_output(job_id, output) as response:
            return without_bom(await response.read())

    async def fetch_body(
        self,
        job_id: str,
        output: JobOutput,
        *,
        pacer: Pacer | None = None,
        max_bytes: int | None = None,
    ) -> EncodedBody:
        """The whole output as it comes over the wire; as `fetch_output()` otherwise.

        `EncodedBody.content()` decompresses it, and raises where it is damaged, too large, or in
        an encoding that nobody asked for.

        Args:
            job_id: The job that made it.
            output: Which of its outputs.
            pacer: As of the other calls.
            max_bytes: The most that is taken as it comes; None for `max_body_bytes`.
        """
        async with self.stream_output(job_id, output, pacer=pacer) as response:
            return await response.read_raw(max_bytes)

    async def download_output(
        self, job_id: str, output: JobOutput, to: str | Path, *, pacer: Pacer | None = None
    ) -> int:
        """Write an output to a file, decompressed, block by block; as `stream_output()` otherwise.

        Memory stays flat. The file takes the name `to` when it is whole and on the disk, and
        replaces one that is there; until then it is written beside it under a temporary name,
        which an error or a cancellation removes.

        Args:
            job_id: The job that made it.
            output: As `status()` told of it.
            to: The file. Its folder must exist.
            pacer: As of the other calls.

        Returns:
            Its size in bytes.

        Raises:
            OSError: When the file cannot be written.
            DecodeError: When the output is cut off, damaged, or larger than `max_body_bytes`.
        """
        size_bytes = 0
        async with (
            open_whole(to) as file,
            self.stream_output(job_id, output, pacer=pacer) as response,
        ):
            async for block in response.iter_blocks():
                size_bytes += await file.write(block)
        return size_bytes

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
            InputError: When there is nothing to look up, it cannot be sent, or a name is no field.
            TransportError: When no answer arrived; it may have been charged.
            APIStatusError: On an error status.
            DecodeError: When the answer cannot be read.
        """
        if location is not None and fields:
            raise InputError("give a location or its fields one by one, not both")
        normalized = normalize(as_sent(location if location is not None else fields))
        asked = normalized.sources or clean_sources(sources)
        if not asked:
            raise InputError("no sources: name one, such as PG")
        options = JobOptions(
            source_timeout_s=source_timeout_s,
            include_raw_response=include_raw_response,
            check_cache=check_cache,
            delegate_to=delegate_to,
        )
        query = options.query(normalized.fields, asked)
        timeout_s = self._opened().settings.read_timeout_s + (source_timeout_s or 0.0)
        with self._call() as transport:
            data = await transport.get(
                "/api/v1/enhance", decode_enhance, query, timeout_s, is_paid=True
            )
        return judge_location(row=0, user_id=normalized.id or "0", data=data, sources=asked)

    # -- the account ---------------------------------------------------------------------

    async def datasources(self, *, delegate_to: str | None = None) -> dict[str, DataSource]:
        """The sources that the account may ask, by code (`GET /api/v1/datasources`).

        Args:
            delegate_to: Short name of the organisation to act for; needs a permission.

        Raises:
            TransportError: When no answer arrived.
            APIStatusError: On an error status.
            DecodeError: When the answer cannot be read.
        """
        query = checked_query([("delegate_to", delegate_to)] if delegate_to else [])
        return await self._ask("/api/v1/datasources", decode_datasources, query)

    async def datasource(self, code: str, *, delegate_to: str | None = None) -> DataSource:
        """One source by its code, in upper or lower case (`GET /api/v1/datasources/{code}`).

        Args:
            code: Such as PG.
            delegate_to: Short name of the organisation to act for; needs a permission.

        Raises:
            NotFoundError: When the API does not know it.
            PingDataError: As `datasources()`.
        """
        query = checked_query([("delegate_to", delegate_to)] if delegate_to else [])
        check_unicode("code", code)
        path = f"/api/v1/datasources/{quote(code, safe='')}"
        return await self._ask(path, decode_datasource, query)

    async def limits(self) -> Limits:
        """What the account may still ask (`GET /api/v1/limits`).

        Raises:
            PingDataError: As `datasources()`.
        """
        return await self._ask("/api/v1/limits", decode_limits)

    async def usage(
        self,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        username: str | None = None,
        org_short_name: str | None = None,
        delegate_to: str | None = None,
    ) -> Usage:
        """The credits used within a time, by source (`GET /api/v1/usage`).

        A time is a text that the API reads ("-5m", "-1h", "-30d" or ISO 8601, UTC), a datetime
        (without a zone: UTC), a date (its first or last second, UTC) or a timedelta (so long ago,
        in whole minutes).

        Args:
            start: None for the API's own, 30 days ago.
            end: None for now.
            username: Whose usage; None for yours. Another's is shown to staff only.
            org_short_name: Of which organisation, instead of a user; for staff only.
            delegate_to: Short name of the organisation to act for; needs a permission.

        Raises:
            ConfigurationError: For a time that is none, or a user and an organisation at once.
            PingDataError: As `datasources()`.
        """
        query = encode_usage_query(
            start=start,
            end=end,
            username=username,
            org_short_name=org_short_name,
            delegate_to=delegate_to,
        )
        return await self._ask("/api/v1/usage", decode_usage, query)

    # -- inside --------------------------------------------------------------------------

    def _find_settings(self, sandbox_url: str | None) -> ClientSettings:
        base_url = sandbox_url or resolve_base_url(self._api_url, self._environment)
        given = None if self._auth_token is None else self._auth_token.reveal()
        if sandbox_url is not None:
            given = "any"  # a real token has no business there
        token = find_token(given, self._environment)
        return ClientSettings(
            base_url=base_url, token=token, environment=self._environment, **self._options
        )

    def _opened(self) -> ClientTask:
        if self._task is None:
            raise ClientClosedError(NOT_OPEN)
        return self._task

    @contextlib.contextmanager
    def _call(self) -> Iterator[Transport]:
        task = self._opened()
        transport = task.transport
        try:
            yield transport
        except AuthenticationError as error:
            raise error.reworded(f"{error}{self._other_host_hint()}") from error
        except PingDataError as error:
            # A request that was under way when the client was closed under it.
            if task.is_closing:
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

    async def _ask(
        self,
        path: str,
        decode: Callable[[bytes, str], T],
        query: list[tuple[str, str]] | None = None,
        *,
        pacer: Pacer | None = None,
    ) -> T:
        async def ask() -> T:
            with self._call() as transport:
                return await transport.get(path, decode, query, pacer=pacer)

        return await (ask() if pacer is not None else repeated(ask, self._max_retries))


async def _gzipped(body: bytes) -> bytes:
    if len(body) < PACKING_IS_QUICK_BELOW_BYTES:
        return gzipped(body)
    return await anyio.to_thread.run_sync(gzipped, body)
