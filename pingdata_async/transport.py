"""HTTP as this package needs it; this and `connections.py` alone touch aiohttp.

It knows origins, tokens, time-outs, proxies and certificates, and turns every foreign
error into one of ours; `client.py` knows the endpoints.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urljoin

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
from yarl import URL

from pingdata_async.bodies import OutputBody, too_large
from pingdata_async.config import ClientSettings, Secret
from pingdata_async.connections import Waits, open_session, proxy_for, tls_context
from pingdata_async.exceptions import (
    AccessDeniedError,
    AuthenticationError,
    DecodeError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.inflating import Inflater
from pingdata_async.refusals import error_message, one_line, shown_url, status_error
from pingdata_async.urls import download_url, joined, origin

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

logger = logging.getLogger("pingdata_async")

MAX_DOWNLOAD_REDIRECTS = 5
ERROR_BODY_BYTES = 64 * 1024  # of an error answer, what is read for its message
ERROR_WIRE_BYTES = 1024 * 1024  # likewise as it comes: compressed nothing has no end either
CALL_ANSWER_BYTES = 16 * 1024 * 1024  # of what is no output; such answers are small
READ_BLOCK_BYTES = 256 * 1024
READ_COMPRESSED_BYTES = 64 * 1024  # less, since each becomes many times that
PAUSE_EVERY_BYTES = 4 * 1024 * 1024  # some 10 ms of inflating; then others have their turn
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


class Response:
    """A successful answer whose body has not been read yet."""

    def __init__(
        self,
        raw: aiohttp.ClientResponse,
        settings: ClientSettings,
        waits: Waits,
        *,
        max_bytes: int | None = None,
    ) -> None:
        self._raw = raw
        self._waits = waits
        self._max_body_bytes = min(settings.max_body_bytes, max_bytes or settings.max_body_bytes)
        self._token = settings.token

    @property
    def what(self) -> str:
        """The request in a few words, for messages; without the query, which can hold secrets."""
        return f"{self._raw.method} {shown_url(str(self._raw.url))}"

    @property
    def content_type(self) -> str:
        """The media type the server named; "" if none."""
        return self._raw.headers.get("Content-Type", "")

    async def iter_blocks(self) -> AsyncIterator[bytes]:
        """The body, decompressed, in blocks of up to 256 KiB.

        Raises:
            DecodeError: When it is cut off or damaged, larger than the settings allow (as it
                comes or decompressed), or a compression bomb.
        """
        inflater = _inflater(self._raw, self.what)
        pause_at = PAUSE_EVERY_BYTES
        while data := await self._next_bytes(inflater):
            for block in inflater.feed(data):
                if max(inflater.bytes_in, inflater.bytes_out) > self._max_body_bytes:
                    raise self._too_large()
                yield block
                if inflater.bytes_out >= pause_at:
                    # What has arrived is read without waiting, and little can become much.
                    pause_at = inflater.bytes_out + PAUSE_EVERY_BYTES
                    await anyio.lowlevel.checkpoint()
            # Compressed nothing never becomes a block.
            if inflater.bytes_in > self._max_body_bytes:
                raise self._too_large()
        inflater.finish()

    async def read_wire(self) -> OutputBody:
        """The whole body as it comes, to be decompressed in another place.

        Raises:
            DecodeError: When it is cut off, larger than the settings allow, or in an encoding
                that was not asked for.
        """
        _inflater(self._raw, self.what)  # refuses what nobody could read later
        blocks = []
        size_bytes = 0
        with _translated_body(self.what), self._waits.ended_by_closing():
            while block := await self._raw.content.readany():
                size_bytes += len(block)
                if size_bytes > self._max_body_bytes:
                    raise self._too_large()
                blocks.append(block)
        return OutputBody(b"".join(blocks), _encoding(self._raw), self.what, self._max_body_bytes)

    async def _next_bytes(self, inflater: Inflater) -> bytes:
        size = READ_BLOCK_BYTES if inflater.is_plain else READ_COMPRESSED_BYTES
        with _translated_body(self.what), self._waits.ended_by_closing():
            return await self._raw.content.read(size)

    def _too_large(self) -> DecodeError:
        return too_large(self.what, self._max_body_bytes)

    async def read(self) -> bytes:
        """The whole body; raises as `iter_blocks()` does."""
        return b"".join([block async for block in self.iter_blocks()])

    async def decoded(self, decode: Callable[[bytes, str], T]) -> T:
        """What `decode(body, what)` makes of the whole body; raises as it and `read()` do."""
        body = await self.read()
        try:
            return decode(body, self.what)
        except DecodeError:
            masked = _masked(body, self._token)
            if masked == body:
                raise
        # A proxy's page can hold our own request, and the error quotes the page.
        return decode(masked, self.what)


class Transport:
    """Sessions of one API host, opened and closed with `async with`."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._origin = origin(settings.base_url)
        self._connections = anyio.CapacityLimiter(settings.max_connections)
        self._stack = contextlib.AsyncExitStack()
        self._waits = Waits()

    async def __aenter__(self) -> Self:
        tls = await anyio.to_thread.run_sync(tls_context, self._settings)
        # Submissions never take an idle connection: one that the server just closed would
        # lose the POST half-way and leave in doubt whether it made a paid job.
        self._submitting = await self._stack.enter_async_context(open_session(tls, reuse=False))
        self._asking = await self._stack.enter_async_context(open_session(tls, reuse=True))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waits.close()
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()
            # asyncio closes TLS transports one turn of the loop later.
            await anyio.lowlevel.checkpoint()

    def resolve(self, url: str) -> str:
        """An absolute url for one that may be relative to the base.

        Raises:
            DecodeError: When it cannot be read as a url.
        """
        return joined(self._settings.base_url + "/", url)

    def is_own(self, url: str) -> bool:
        """Whether a url is on the API's own origin, the only one that is shown the token."""
        return origin(url) == self._origin

    @contextlib.asynccontextmanager
    async def post(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[Response]:
        """POST to the API on a fresh connection. Never sent twice, whatever happens.

        Raises:
            TransportError: `maybe_sent` says whether the API may have had it.
            APIStatusError: On an error status.
        """
        url = URL(self._settings.base_url + path, encoded=True)
        async with (
            self._slot(),
            self._answered(
                self._submitting,
                "POST",
                url,
                read_timeout_s=self._settings.submit_timeout_s,
                total_timeout_s=2 * self._settings.submit_timeout_s,
                # Not the bytes as such: aiohttp would write them in one go, and warn of it.
                data=io.BytesIO(body),
                headers=dict(headers),
            ) as raw,
        ):
            await self._refuse_errors(raw)
            yield Response(raw, self._settings, self._waits, max_bytes=CALL_ANSWER_BYTES)

    @contextlib.asynccontextmanager
    async def get(
        self,
        path: str,
        params: list[tuple[str, str]] | None = None,
        timeout_s: float | None = None,
        *,
        is_paid: bool = False,
    ) -> AsyncIterator[Response]:
        """GET from the API; a redirect is an error. Raises as `post()` does.

        Args:
            path: Below the base url.
            params: The query.
            timeout_s: Without a byte of the answer; None for the settings' own. All of the
                answer may take twice that, so that one that drips ends too.
            is_paid: Never sent twice, whatever happens.
        """
        url = URL(self._settings.base_url + path, encoded=True)
        if params:
            url = url.with_query(params)
        timeout_s = timeout_s or self._settings.read_timeout_s
        async with (
            self._slot(),
            self._answered(
                self._submitting if is_paid else self._asking,
                "GET",
                url,
                read_timeout_s=timeout_s,
                total_timeout_s=2 * timeout_s,
                headers={},
            ) as raw,
        ):
            await self._refuse_errors(raw)
            yield Response(raw, self._settings, self._waits, max_bytes=CALL_ANSWER_BYTES)

    @contextlib.asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[Response]:
        """GET a file wherever it is, following a few redirects; the token stays at home.

        Raises:
            TransportError: When no answer arrived.
            DecodeError: For a url that cannot be used: neither https nor on this machine, or
                redirected without end.
            APIStatusError: On an error status.
        """
        hop = url
        async with self._slot(), contextlib.AsyncExitStack() as stack:
            for _ in range(MAX_DOWNLOAD_REDIRECTS + 1):
                raw = await stack.enter_async_context(self._get_once(download_url(hop)))
                target = raw.headers.get("Location", "")
                if raw.status in REDIRECT_STATUSES and target:
                    hop = joined(hop, target)
                    raw.release()
                    continue
                with self._not_about_our_token(hop):
                    await self._refuse_errors(raw)
                yield Response(raw, self._settings, self._waits)
                return
        raise DecodeError(f"GET {shown_url(url)}: more than {MAX_DOWNLOAD_REDIRECTS} redirects")

    @contextlib.contextmanager
    def _not_about_our_token(self, url: str) -> Iterator[None]:
        """A 401 of whoever was not shown the token is a refusal as any other."""
        try:
            yield
        except AuthenticationError as error:
            if self.is_own(url):
                raise
            raise AccessDeniedError(
                str(error), status_code=error.status_code, api_message=error.api_message
            ) from error

    @contextlib.asynccontextmanager
    async def _get_once(self, url: URL) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._answered(
            self._asking,
            "GET",
            url,
            read_timeout_s=self._settings.read_timeout_s,
            total_timeout_s=None,  # a large output may take its time
            headers={},
        ) as raw:
            yield raw

    @contextlib.asynccontextmanager
    async def _answered(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: URL,
        *,
        read_timeout_s: float,
        total_timeout_s: float | None,
        headers: dict[str, str],
        data: io.BytesIO | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request; the answer's head has arrived when this is entered."""
        text = str(url)
        timeout = _timeout(total_timeout_s, self._settings.connect_timeout_s, read_timeout_s)
        progress = SimpleNamespace(began=False)  # as `open_session` notes it
        with (
            _translated(f"{method} {shown_url(text)}", progress, self._settings.token),
            self._waits.ended_by_closing(),
        ):
            raw = await session.request(
                method,
                url,
                data=data,
                headers=self._token_header(text) | headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=proxy_for(text),
                trace_request_ctx=progress,
            )
        try:
            yield raw
        finally:
            # Closed, not drained, where something is left: it is of no use to anyone.
            if raw.content.at_eof():
                raw.release()
            else:
                raw.close()

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """One of the connections; waiting for it is not charged to any time-out."""
        if self._connections.available_tokens <= 0:
            logger.info("all %d connections are busy", self._settings.max_connections)
        # Borrowed by a fresh object: one task may hold several.
        borrower = object()
        try:
            self._connections.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            with self._waits.ended_by_closing():
                await self._connections.acquire_on_behalf_of(borrower)
        try:
            yield
        finally:
            self._connections.release_on_behalf_of(borrower)

    def _token_header(self, url: str) -> dict[str, str]:
        if not self.is_own(url):
            return {}
        return {"Authorization": f"Token {self._settings.token.reveal()}"}

    async def _refuse_errors(self, raw: aiohttp.ClientResponse) -> None:
        if raw.status < 300:  # noqa: PLR2004 - the 2xx
            return
        what = f"{raw.method} {shown_url(str(raw.url))}"
        if raw.status in REDIRECT_STATUSES:
            target = raw.headers.get("Location", "?")
            with contextlib.suppress(ValueError):
                target = urljoin(str(raw.url), target)
            raise UnexpectedRedirectError(
                f"{what} was redirected ({raw.status}) to {shown_url(target)}; the token does "
                "not follow. If that is the API's new address, give it with --api-url"
            )
        body = bytearray()
        # The status alone says enough where the message cannot be read.
        with contextlib.suppress(DecodeError, aiohttp.ClientError, TimeoutError, OSError):
            inflater = _inflater(raw, what)
            while len(body) < ERROR_BODY_BYTES and inflater.bytes_in < ERROR_WIRE_BYTES:
                with self._waits.ended_by_closing():
                    data = await raw.content.read(READ_COMPRESSED_BYTES)
                if not data:
                    break
                for block in inflater.feed(data):
                    body += block
                    if len(body) >= ERROR_BODY_BYTES:
                        break
        said = error_message(_masked(bytes(body[:ERROR_BODY_BYTES]), self._settings.token))
        raise status_error(raw.status, what, said, raw.headers)


@functools.lru_cache(maxsize=16)  # there are three or four of them, and each takes a while to make
def _timeout(total_s: float | None, connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    # `connect` rather than `sock_connect`, which leaves out a proxy's answer to CONNECT; it
    # counts waiting for the pool too, but that is unlimited here (see `_slot`).
    # `total`: not aiohttp's default of 300 s.
    return aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_read=read_s)


def _inflater(raw: aiohttp.ClientResponse, what: str) -> Inflater:
    return Inflater(_encoding(raw), what)


def _encoding(raw: aiohttp.ClientResponse) -> str:
    return ", ".join(raw.headers.getall("Content-Encoding", []))


@contextlib.contextmanager
def _translated(what: str, progress: SimpleNamespace, token: Secret) -> Iterator[None]:
    """Turn what aiohttp raises into a TransportError that says whether it was sent."""
    try:
        yield
    except aiohttp.ClientHttpProxyError as error:
        # Its own text can hold the proxy's url, and that a password.
        raise TransportError(
            f"{what}: the proxy refused with {error.status} {one_line(error.message)}",
            maybe_sent=False,
        ) from None
    except aiohttp.InvalidURL as error:
        raise TransportError(f"{what}: not a usable url", maybe_sent=False) from error
    except (aiohttp.ClientResponseError, ValueError) as error:
        # Not chained: they can hold our request, token and all, or the proxy's password.
        sentence = _sentence(what, error, token)
        raise TransportError(sentence, maybe_sent=progress.began) from None
    except (aiohttp.ClientError, OSError) as error:
        sentence = _sentence(what, error, token)
        raise TransportError(sentence, maybe_sent=progress.began) from error


@contextlib.contextmanager
def _translated_body(what: str) -> Iterator[None]:
    """Turn what aiohttp raises once the answer's head has arrived into a DecodeError."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        detail = one_line(str(error)) or type(error).__name__
        raise DecodeError(f"{what}: the answer was cut off ({detail})") from error


def _sentence(what: str, error: BaseException, token: Secret) -> str:
    detail = _masked(one_line(str(error)).encode(), token).decode() or type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        detail = "no connection in time"
    elif isinstance(error, TimeoutError):
        detail = "no answer in time"
    elif isinstance(
        error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError
    ):
        detail += "; behind a proxy that inspects TLS, give its certificate with --ca-bundle"
    elif isinstance(error, aiohttp.ClientConnectorError):
        said = one_line(error.os_error.strerror or str(error.os_error))
        detail = f"cannot connect to {error.host}:{error.port} ({said})"
    return f"{what}: {detail}"


def _masked(body: bytes, token: Secret) -> bytes:
    """A body without the token, which an error page may hold; too short a one is no secret."""
    key = token.reveal().encode()
    return body.replace(key, b"***") if len(key) >= 8 else body  # noqa: PLR2004 - see above
