"""HTTP by aiohttp: sessions, redirects, bodies, errors.

It knows origins, tokens, time-outs, proxies and certificates, and turns every foreign
error into one of ours; `client.py` knows the endpoints.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import SimpleNamespace, TracebackType
from typing import Self, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
from yarl import URL

from pingdata_async.api.config import (
    ClientSettings,
    Origin,
    Pacer,
    download_url,
    is_other_endpoint,
    is_output_path,
    joined,
    origin,
)
from pingdata_async.api.connections import (
    SILENCES_PER_WINDOW,
    Patience,
    PendingReads,
    download_s,
    hooks_of,
    open_session,
    proxy_for,
    tls_context,
)
from pingdata_async.api.wire import error_message, status_error
from pingdata_async.exceptions import (
    AccessDeniedError,
    AuthenticationError,
    ConfigurationError,
    DecodeError,
    PingDataError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.models import RequestKind
from pingdata_async.util.encoding import EncodedBody, Inflater, too_large
from pingdata_async.util.files import AsyncClosing
from pingdata_async.util.loop import loop_time
from pingdata_async.util.redaction import may_be_shown
from pingdata_async.util.text import one_line, shown_url

T = TypeVar("T")

logger = logging.getLogger("pingdata_async")

MAX_DOWNLOAD_REDIRECTS = 5
ERROR_BODY_BYTES = 64 * 1024  # of an error answer, what is read for its message
ERROR_BODY_S = 10.0  # and how long reading it may take
ERROR_WIRE_BYTES = 1024 * 1024  # and as it comes: an empty gzip stream may never end
CALL_ANSWER_BYTES = 16 * 1024 * 1024  # of what is no output; such answers are small
LOOK_AFTER_S = 1.0  # without a byte: perhaps the connection is gone
READ_BLOCK_BYTES = 256 * 1024
READ_COMPRESSED_BYTES = 64 * 1024  # less, since each becomes many times that
PAUSE_EVERY_BYTES = 4 * 1024 * 1024  # some 10 ms of inflating; then others have their turn
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


class Answer:
    """An answer whose head has arrived, and whose body comes a piece at a time.

    Args:
        raw: The answer.
        waits: What closing the transport ends.
        patience: How long its body may take.
    """

    def __init__(
        self, raw: aiohttp.ClientResponse, waits: PendingReads, patience: Patience
    ) -> None:
        self.raw = raw
        self._waits = waits
        self._patience = patience

    @functools.cached_property
    def what(self) -> str:
        """The request in a few words."""
        return f"{self.raw.method} {shown_url(str(self.raw.url))}"

    @property
    def encoding(self) -> str:
        """The Content-Encoding, "" where there is none."""
        return ", ".join(self.raw.headers.getall("Content-Encoding", []))

    def inflater(self) -> Inflater:
        """What undoes the encoding; raises DecodeError for one that was not asked for."""
        return Inflater(self.encoding, self.what)

    async def next_bytes(self, max_bytes: int | None = None) -> bytes:
        """The next bytes of the body, as they came; nothing at its end.

        Args:
            max_bytes: No more than that; None for all that is there.

        Raises:
            DecodeError: When the body is cut off, stops coming, or cannot be taken apart.
        """
        patience, content = self._patience, self.raw.content
        with _Translated(self._cut_off):
            # Most of a body is there before it is asked for: without a wait, no limit is needed.
            if not self._waits.is_closed:
                data = content.read_nowait(-1 if max_bytes is None else max_bytes)
                if data or content.at_eof():
                    patience.note(len(data), 0.0)
                    return data
            began = loop_time()
            data = await self._read(max_bytes, began + patience.left_s)
            patience.note(len(data), loop_time() - began)
        return data

    async def _read(self, max_bytes: int | None, until: float) -> bytes:
        content = self.raw.content
        while True:
            left_s = until - loop_time()
            try:
                with self._waits.within(min(left_s, LOOK_AFTER_S)):
                    return await (
                        content.readany() if max_bytes is None else content.read(max_bytes)
                    )
            except TimeoutError as error:
                if left_s <= LOOK_AFTER_S or content.exception() is not None:
                    raise self._patience.ended() from error
            self._check_connection()

    def _check_connection(self) -> None:
        """See whether anything can still come.

        Where aiohttp cannot take a body apart, it closes the connection, and tells nobody who
        reads.
        """
        connection = self.raw.connection
        if connection is None:
            return
        if connection.transport is None or connection.transport.is_closing():
            raise aiohttp.ClientPayloadError("it could not be taken apart")

    def be_brief(self) -> None:
        """Allow for little time from now on: what still comes is not worth more."""
        self._patience = Patience(ERROR_BODY_S, ERROR_BODY_S)

    def _cut_off(self, error: Exception) -> DecodeError:
        return DecodeError(f"{self.what}: the answer was cut off ({_detail(error)})")


class Response:
    """A successful answer whose body has not been read yet."""

    def __init__(
        self,
        answer: Answer,
        settings: ClientSettings,
        *,
        max_bytes: int | None = None,
    ) -> None:
        self._answer = answer
        self._max_body_bytes = min(settings.max_body_bytes, max_bytes or settings.max_body_bytes)

    @property
    def what(self) -> str:
        """The request in a few words, for messages; without the query, which can hold secrets."""
        return self._answer.what

    @property
    def content_type(self) -> str:
        """The media type the server named; "" if none."""
        return self._answer.raw.headers.get("Content-Type", "")

    async def iter_blocks(self) -> AsyncIterator[bytes]:
        """The body, decompressed, in blocks of up to 256 KiB.

        Raises:
            DecodeError: When it is cut off, stops coming or is damaged, is larger than the
                settings allow (as it comes or decompressed), or a compression bomb.
        """
        inflater = self._answer.inflater()
        size_bytes = READ_BLOCK_BYTES if inflater.is_plain else READ_COMPRESSED_BYTES
        pause_at = PAUSE_EVERY_BYTES
        while data := await self._answer.next_bytes(size_bytes):
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

    async def read_raw(self, max_bytes: int | None = None) -> EncodedBody:
        """The whole body as it comes, to be decompressed in another place.

        Args:
            max_bytes: The most that is taken; None for what the settings allow.

        Raises:
            DecodeError: When it is cut off or stops coming, or is larger than that.
        """
        limit = min(max_bytes or self._max_body_bytes, self._max_body_bytes)
        if (self._answer.raw.content_length or 0) > limit:
            raise too_large(self.what, limit)
        # Unlike a list, it never holds everything twice; nor anything after an error.
        with io.BytesIO() as raw:
            while block := await self._answer.next_bytes():
                if raw.tell() + len(block) > limit:
                    raise too_large(self.what, limit)
                raw.write(block)
            encoding, most = self._answer.encoding, self._max_body_bytes
            return EncodedBody(raw.getvalue(), encoding, self.what, most)

    def _too_large(self) -> DecodeError:
        return too_large(self.what, self._max_body_bytes)

    async def read(self) -> bytes:
        """The whole body; raises as `iter_blocks()` does."""
        if self._answer.inflater().is_plain:
            return (await self.read_raw()).raw
        return b"".join([block async for block in self.iter_blocks()])


class Transport(AsyncClosing):
    """Sessions of one API host, opened and closed with `async with`."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._origin = origin(settings.base_url)
        self._proxy: str | None = None  # of the API itself
        self._connections = anyio.CapacityLimiter(settings.max_connections)
        self._stack = contextlib.AsyncExitStack()
        self._waits = PendingReads()

    async def __aenter__(self) -> Self:
        try:
            self._proxy = proxy_for(self._settings.base_url, self._settings.http)
        except TransportError as error:  # the same for every request: better said at once
            raise ConfigurationError(str(error)) from None
        tls = await anyio.to_thread.run_sync(tls_context, self._settings)
        # Submissions never take an idle connection: one that the server just closed would
        # lose the POST half-way and leave in doubt whether it made a paid job.
        hooks = hooks_of(self._settings)
        self._submitting, self._asking = [
            await self._stack.enter_async_context(
                open_session(tls, reuse=reuse, trace_configs=hooks)
            )
            for reuse in (False, True)
        ]
        return self

    async def aclose(self) -> None:
        """Close all connections."""
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
        """Whether a url is on the API's own origin, the only one that may be shown the token."""
        return origin(url) == self._origin

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        decode: Callable[[bytes, str], T],
        pacer: Pacer | None = None,
    ) -> T:
        """POST to the API on a fresh connection. Never sent twice, whatever happens.

        Args:
            path: Below the base url.
            body: As it is sent.
            headers: That go with it.
            decode: Makes something of the answer's body; the second argument is for messages.
            pacer: Decides when it is sent; None for at once.

        Raises:
            TransportError: `maybe_sent` says whether the API may have had it.
            APIStatusError: On an error status.
            DecodeError: When the answer cannot be read.
        """
        url = URL(self._settings.base_url + path, encoded=True)
        async with (
            self._let_out(RequestKind.SUBMIT, None, pacer),
            self._answered(
                self._submitting,
                "POST",
                url,
                silence_s=self._settings.submit_timeout_s,
                is_small=True,
                # Not bytes: aiohttp would write them in one go, and warn about it.
                data=io.BytesIO(body),
                headers=self._own_headers() | dict(headers),
            ) as answer,
        ):
            return await self._decoded(answer, decode)

    async def get(
        self,
        path: str,
        decode: Callable[[bytes, str], T],
        params: list[tuple[str, str]] | None = None,
        timeout_s: float | None = None,
        *,
        is_paid: bool = False,
        pacer: Pacer | None = None,
    ) -> T:
        """GET from the API; a redirect is an error. Raises as `post()` does.

        Args:
            path: Below the base url.
            decode: As for `post()`.
            params: The query.
            timeout_s: Without a byte of the answer; None for the settings' own. Its head may take
                twice that once there is a connection, and its body as well.
            is_paid: Never sent twice, whatever happens.
            pacer: Decides when it is sent, as a poll; None for at once.
        """
        url = URL(self._settings.base_url + path, encoded=True)
        if params:
            url = url.with_query(params)
        async with (
            self._let_out(RequestKind.POLL, None, pacer),
            self._answered(
                self._submitting if is_paid else self._asking,
                "GET",
                url,
                silence_s=timeout_s or self._settings.read_timeout_s,
                is_small=True,
                headers=self._own_headers(),
            ) as answer,
        ):
            return await self._decoded(answer, decode)

    async def _decoded(self, answer: Answer, decode: Callable[[bytes, str], T]) -> T:
        """What `decode` makes of a successful answer."""
        await self._refuse_errors(answer)
        response = Response(answer, self._settings, max_bytes=CALL_ANSWER_BYTES)
        return decode(await response.read(), answer.what)

    @contextlib.asynccontextmanager
    async def download(self, url: str, pacer: Pacer | None = None) -> AsyncIterator[Response]:
        """GET a file wherever it is, following a few redirects.

        The token is shown to paths of outputs on the API's own origin alone, and to none once
        another host has had a say in where to go.

        Args:
            url: Where it is.
            pacer: Decides when each request for it is sent; None for at once.

        Raises:
            TransportError: When no answer arrived.
            DecodeError: For a url that cannot be used: neither https nor on this machine, another
                endpoint of the API, or redirected without end.
            APIStatusError: On an error status.
        """
        hop = url
        all_own = True
        for _ in range(MAX_DOWNLOAD_REDIRECTS + 1):
            parsed = download_url(hop)
            is_own = self.is_own(str(parsed))
            path = self._below_base(parsed.raw_path)
            if is_own and is_other_endpoint(path):
                raise DecodeError(
                    f"the output url {shown_url(hop)} leads to another endpoint of the API; "
                    "not fetched"
                )
            all_own = all_own and is_own
            shows_token = all_own and is_output_path(path)
            async with (
                self._let_out(RequestKind.FETCH, None if is_own else origin(str(parsed)), pacer),
                self._answered(
                    self._asking,
                    "GET",
                    parsed,
                    silence_s=self._settings.read_timeout_s,
                    is_small=False,
                    is_own=is_own,
                    headers=self._own_headers(shows_token=shows_token) if all_own else {},
                ) as answer,
            ):
                target = answer.raw.headers.get("Location", "")
                if answer.raw.status in REDIRECT_STATUSES and target:
                    hop = joined(hop, target)
                    answer.raw.release()
                    continue
                with _not_about_our_token() if not shows_token else contextlib.nullcontext():
                    await self._refuse_errors(answer)
                yield Response(answer, self._settings)
                return
        raise DecodeError(f"GET {shown_url(url)}: more than {MAX_DOWNLOAD_REDIRECTS} redirects")

    def _below_base(self, path: str) -> str:
        """A path without that of the base url, whose words say nothing of what is asked for."""
        base = urlsplit(self._settings.base_url).path
        return path.removeprefix(base) if path.startswith(f"{base}/") else path

    @contextlib.asynccontextmanager
    async def _answered(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: URL,
        *,
        silence_s: float,
        is_small: bool,
        headers: dict[str, str],
        data: io.BytesIO | None = None,
        is_own: bool = True,
    ) -> AsyncIterator[Answer]:
        """Send one request; the answer's head has arrived when this is entered.

        Args:
            session: What sends it.
            method: GET or POST.
            url: Where to.
            silence_s: How long without a byte.
            is_small: Whether all of the answer's body must come within twice that.
            headers: Those for the API alone among them, if it goes there.
            data: The body.
            is_own: Whether it goes to the API's own origin.
        """
        connect_s = self._settings.connect_timeout_s
        enough_s = SILENCES_PER_WINDOW * silence_s
        progress = SimpleNamespace(began=False)  # as `open_session` notes it

        def lost(error: Exception) -> TransportError:
            return TransportError(
                f"{method} {shown_url(str(url))}: {_detail(error)}",
                maybe_sent=progress.began,
                is_garbled=progress.began and isinstance(error, aiohttp.ClientResponseError),
            )

        with (
            _Translated(lost),
            # Answers of "100 Continue" can have no end.
            self._waits.within(connect_s + enough_s),
        ):
            raw = await session.request(
                method,
                url,
                data=data,
                headers=headers,
                timeout=_timeout(connect_s, silence_s),
                allow_redirects=False,
                proxy=self._proxy if is_own else proxy_for(str(url), self._settings.http),
                trace_request_ctx=progress,
            )
        try:
            whole_s = enough_s if is_small else download_s(self._settings.max_body_bytes)
            yield Answer(raw, self._waits, Patience(silence_s, whole_s))
        finally:
            # Closed, not drained, where something is left: it is of no use to anyone.
            if raw.content.at_eof():
                raw.release()
            else:
                raw.close()

    def _let_out(
        self, kind: RequestKind, other: Origin | None, pacer: Pacer | None
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """A connection, and leave to send a request on it to the API, or to another origin."""
        return self._slot() if pacer is None else pacer.sending(kind, other, self._slot)

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
            with self._waits.within():
                await self._connections.acquire_on_behalf_of(borrower)
        try:
            yield
        finally:
            self._connections.release_on_behalf_of(borrower)

    def _own_headers(self, *, shows_token: bool = True) -> dict[str, str]:
        """What goes to the API's own origin alone."""
        headers = {} if self._settings.http is None else dict(self._settings.http.headers)
        if shows_token:
            headers["Authorization"] = f"Token {self._settings.token.reveal()}"
        return headers

    async def _refuse_errors(self, answer: Answer) -> None:
        raw, what = answer.raw, answer.what
        if raw.status < 300:  # noqa: PLR2004 - the 2xx
            return
        if raw.status in REDIRECT_STATUSES:
            target = raw.headers.get("Location", "?")
            with contextlib.suppress(ValueError):
                target = urljoin(str(raw.url), target)
            raise UnexpectedRedirectError(
                f"{what} was redirected ({raw.status}) to {shown_url(target)}; the token does "
                "not follow. If that is the API's new address, give it with --api-url"
            )
        body = bytearray()
        answer.be_brief()
        # The status alone says enough where the message cannot be read.
        with contextlib.suppress(DecodeError):
            inflater = answer.inflater()
            while len(body) < ERROR_BODY_BYTES and inflater.bytes_in < ERROR_WIRE_BYTES:
                data = await answer.next_bytes(READ_COMPRESSED_BYTES)
                if not data:
                    break
                for block in inflater.feed(data):
                    body += block
                    if len(body) >= ERROR_BODY_BYTES:
                        break
        said = error_message(bytes(body[:ERROR_BODY_BYTES]))
        raise status_error(raw.status, what, said, raw.headers)


@contextlib.contextmanager
def _not_about_our_token() -> Iterator[None]:
    """A 401 from a host that was not shown the token is an ordinary refusal."""
    try:
        yield
    except AuthenticationError as error:
        raise AccessDeniedError(
            str(error), status_code=error.status_code, api_message=error.api_message
        ) from error


@functools.lru_cache(maxsize=16)  # there are three or four of them, and each takes a while to make
def _timeout(connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    # `connect` rather than `sock_connect`, which leaves out a proxy's answer to CONNECT; it
    # counts waiting for the pool too, but that is unlimited here (see `_slot`).
    # `total`: not aiohttp's default of 300 s; there are limits of our own.
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s)


class _Translated:
    """Turns whatever comes out of aiohttp into an error of ours; the one place that does.

    That is more than its own errors: its parsers let out those of the parts they are made of, and
    uvloop has a RuntimeError for a connection that is gone.

    Args:
        as_ours: Makes ours of what was raised.
    """

    def __init__(self, as_ours: Callable[[Exception], PingDataError]) -> None:
        self._as_ours = as_ours

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, PingDataError):
            # Not chained, if it holds our request, token and all, or the proxy's password.
            raise self._as_ours(error) from error if may_be_shown(error) else None


def _detail(error: Exception) -> str:
    """What happened, in some words."""
    match error:
        case aiohttp.ClientHttpProxyError():
            # Its own text can hold the proxy's url, and that a password.
            return f"the proxy refused with {error.status} {one_line(error.message)}"
        case aiohttp.InvalidURL():
            return "not a usable url"
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case aiohttp.ServerTimeoutError():
            return "no answer in time"
        case TimeoutError():
            return one_line(str(error)) or "no answer in time"
    said = one_line(str(error)) or type(error).__name__
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return (
                f"{said}; behind a proxy that inspects TLS, give its certificate with --ca-bundle"
            )
        case aiohttp.ClientConnectorError():
            why = one_line(error.os_error.strerror or str(error.os_error))
            return f"cannot connect to {error.host}:{error.port} ({why})"
    return said
