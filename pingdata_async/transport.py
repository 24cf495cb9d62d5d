"""HTTP as this package needs it: the one place that touches aiohttp.

It knows origins, tokens, time-outs, proxies and certificates, and turns every foreign
error into one of ours; `client.py` knows the endpoints.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
import anyio
import anyio.lowlevel
import anyio.to_thread
from yarl import URL

from pingdata_async._version import __version__
from pingdata_async.config import ClientSettings, is_loopback
from pingdata_async.exceptions import (
    ConfigurationError,
    DecodeError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.refusals import error_message, shown_url, status_error

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger("pingdata_async")

USER_AGENT = (
    f"pingdata-async/{__version__} python/{platform.python_version()} aiohttp/{aiohttp.__version__}"
)
MAX_DOWNLOAD_REDIRECTS = 5
ERROR_BODY_BYTES = 64 * 1024  # of an error answer, what is read for its message
READ_BLOCK_BYTES = 256 * 1024
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})


class Response:
    """A successful answer whose body has not been read yet."""

    def __init__(self, raw: aiohttp.ClientResponse, max_body_bytes: int) -> None:
        self._raw = raw
        self._max_body_bytes = max_body_bytes

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
            DecodeError: When it is cut off, or larger than the settings allow.
        """
        total = 0
        with _translated_body(self.what):
            async for block in self._raw.content.iter_chunked(READ_BLOCK_BYTES):
                total += len(block)
                if total > self._max_body_bytes:
                    raise DecodeError(
                        f"{self.what}: the answer is larger than {self._max_body_bytes} bytes"
                    )
                yield block

    async def read(self) -> bytes:
        """The whole body; raises as `iter_blocks()` does."""
        return b"".join([block async for block in self.iter_blocks()])


class Transport:
    """Sessions of one API host, opened and closed with `async with`."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._origin = _origin(settings.base_url)
        self._connections = anyio.CapacityLimiter(settings.max_connections)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        tls = await anyio.to_thread.run_sync(_tls_context, self._settings)
        # Submissions never take an idle connection: one that the server just closed would
        # lose the POST half-way and leave in doubt whether it made a paid job.
        self._submitting = await self._stack.enter_async_context(_session(tls, reuse=False))
        self._asking = await self._stack.enter_async_context(_session(tls, reuse=True))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()
            # asyncio closes TLS transports one turn of the loop later.
            await anyio.lowlevel.checkpoint()

    def resolve(self, url: str) -> str:
        """An absolute url for one that may be relative to the base."""
        return urljoin(self._settings.base_url + "/", url)

    def is_own(self, url: str) -> bool:
        """Whether a url is on the API's own origin, the only one that is shown the token."""
        return _origin(url) == self._origin

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
                data=body,
                headers=dict(headers),
            ) as raw,
        ):
            await self._refuse_errors(raw)
            yield Response(raw, self._settings.max_body_bytes)

    @contextlib.asynccontextmanager
    async def get(
        self, path: str, params: list[tuple[str, str]] | None = None, timeout_s: float | None = None
    ) -> AsyncIterator[Response]:
        """GET from the API; a redirect is an error. Raises as `post()` does."""
        url = URL(self._settings.base_url + path, encoded=True)
        if params:
            url = url.with_query(params)
        async with self._slot(), self._get_once(url, timeout_s) as raw:
            await self._refuse_errors(raw)
            yield Response(raw, self._settings.max_body_bytes)

    @contextlib.asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[Response]:
        """GET a file wherever it is, following a few redirects; the token stays at home.

        Raises:
            TransportError: Also for a url that is neither https nor on this machine.
            APIStatusError: On an error status.
        """
        hop = url
        async with self._slot(), contextlib.AsyncExitStack() as stack:
            for _ in range(MAX_DOWNLOAD_REDIRECTS + 1):
                _check_download_url(hop)
                raw = await stack.enter_async_context(self._get_once(_as_given(hop), None))
                target = raw.headers.get("Location", "")
                if raw.status in REDIRECT_STATUSES and target:
                    hop = urljoin(hop, target)
                    raw.release()
                    continue
                await self._refuse_errors(raw)
                yield Response(raw, self._settings.max_body_bytes)
                return
        raise TransportError(
            f"GET {shown_url(url)}: more than {MAX_DOWNLOAD_REDIRECTS} redirects", maybe_sent=True
        )

    @contextlib.asynccontextmanager
    async def _get_once(
        self, url: URL, timeout_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        read_timeout_s = timeout_s or self._settings.read_timeout_s
        async with self._answered(
            self._asking, "GET", url, read_timeout_s=read_timeout_s, headers={}
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
        headers: dict[str, str],
        data: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send one request; the answer's head has arrived when this is entered."""
        text = str(url)
        # No total: aiohttp's default of 300 s would cut a long download. Its `connect`
        # would count waiting for the pool too, which is unlimited here (see `_slot`).
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._settings.connect_timeout_s, sock_read=read_timeout_s
        )
        with _translated(f"{method} {shown_url(text)}"):
            raw = await session.request(
                method,
                url,
                data=data,
                headers=self._token_header(text) | headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=_proxy_for(text),
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
            target = shown_url(urljoin(str(raw.url), raw.headers.get("Location", "?")))
            raise UnexpectedRedirectError(
                f"{what} was redirected ({raw.status}) to {target}; the token does not follow. "
                "If that is the API's new address, give it with --api-url"
            )
        body = b""
        # The status alone says enough where the message cannot be read.
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            body = await raw.content.read(ERROR_BODY_BYTES)
        raise status_error(raw.status, what, error_message(body), raw.headers)


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what aiohttp raises into a TransportError that says whether it was sent."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise TransportError(_sentence(what, error), maybe_sent=False) from error
    except aiohttp.ClientHttpProxyError as error:
        # Its own text can hold the proxy's url, and that a password.
        raise TransportError(
            f"{what}: the proxy refused with {error.status} {error.message}", maybe_sent=False
        ) from None
    except aiohttp.InvalidURL as error:
        raise TransportError(f"{what}: not a usable url", maybe_sent=False) from error
    except TimeoutError as error:
        raise TransportError(f"{what}: no answer in time", maybe_sent=True) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise TransportError(_sentence(what, error), maybe_sent=True) from error


@contextlib.contextmanager
def _translated_body(what: str) -> Iterator[None]:
    """Turn what aiohttp raises once the answer's head has arrived into a DecodeError."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        detail = str(error) or type(error).__name__
        raise DecodeError(f"{what}: the answer was cut off ({detail})") from error


def _sentence(what: str, error: BaseException) -> str:
    detail = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        detail = "no connection in time"
    elif isinstance(
        error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError
    ):
        detail += "; behind a proxy that inspects TLS, give its certificate with --ca-bundle"
    return f"{what}: {detail}"


def _session(tls: ssl.SSLContext, *, reuse: bool) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, ssl=tls, force_close=not reuse)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", "Accept": "*/*"},
        trust_env=False,  # it would read ~/.netrc too; proxies are looked up in `_proxy_for`
    )


def _tls_context(settings: ClientSettings) -> ssl.SSLContext:
    bundle = settings.ca_bundle
    try:
        if bundle is None:
            return ssl.create_default_context()
        if bundle.is_dir():
            return ssl.create_default_context(capath=str(bundle))
        return ssl.create_default_context(cafile=str(bundle))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"CA bundle {bundle} cannot be read: {error}") from error


def _proxy_for(url: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for a url, None for none.

    Plain http is only ever spoken to this machine, and a proxy would see the token: it
    never goes through one.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    host = parts.netloc.rpartition("@")[2]
    bypass = urllib.request.proxy_bypass_environment(host, proxies)  # type: ignore[attr-defined]  # typeshed lacks it
    if not proxy or bypass:
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _check_download_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)):
        return
    raise TransportError(
        f"the output url {shown_url(url)} is neither https nor on this machine; not fetched",
        maybe_sent=False,
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", None, None)
    return (parts.scheme, parts.hostname, port)


def _as_given(url: str) -> URL:
    # A signed url must arrive byte for byte: requoting it breaks the signature.
    return URL(url, encoded=url.isascii() and not re.search(r"[\s\"<>]", url))
