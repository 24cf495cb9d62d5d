"""Connections of one API host: sessions, certificates, proxies, and how long an answer may take.

The HTTP library's own time-outs end neither a body that it stumbled over nor one that comes at a
byte a second: `Patience` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import platform
import random
import re
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import anyio
from yarl import URL

from pingdata_async._version import __version__
from pingdata_async.api.config import ClientSettings
from pingdata_async.exceptions import (
    APIStatusError,
    ClientClosedError,
    ConfigurationError,
    RateLimitError,
    ServerError,
    TransportError,
    UnexpectedRedirectError,
)
from pingdata_async.util.encoding import ACCEPTED
from pingdata_async.util.loop import loop_time
from pingdata_async.util.redaction import Secret

T = TypeVar("T")

logger = logging.getLogger("pingdata_async")

USER_AGENT = (
    f"pingdata-async/{__version__} python/{platform.python_version()} aiohttp/{aiohttp.__version__}"
)


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = re.compile(
    r"authorization|accept-encoding|connection|content-.*|expect|host|proxy-.*|transfer-encoding",
    re.IGNORECASE,
)
_SECRET_HEADERS = re.compile("auth|cookie|key|pass|secret|token", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class HTTPOptions:
    """How a client's requests travel: `PingDataClient(http=HTTPOptions(...))`.

    Attributes:
        proxy: The url of an HTTP proxy, perhaps with user name and password, for all that goes by
            https; None for what HTTPS_PROXY and NO_PROXY say.
        ssl_context: Whom to trust, and perhaps a certificate of your own; None for `ca_bundle`.
        headers: Sent with each request to the API's own origin, for a gateway in front of it, say;
            never to the host of an output or along with a redirect.
        trace_configs: Hooks for every request and answer, as aiohttp has them. They see the token.
            One that raises is logged, and the request goes on.

    Raises:
        ConfigurationError: For a proxy that cannot be used, or a header that the client sets itself
            or that cannot be sent.
    """

    proxy: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trace_configs: Sequence[aiohttp.TraceConfig] = ()

    def __post_init__(self) -> None:
        headers: dict[Any, Any] = dict(self.headers)  # from programs without types, too
        for name, value in headers.items():
            if (
                not isinstance(name, str)
                or not _HEADER_NAME.fullmatch(name)
                or _OWN_HEADERS.fullmatch(name)
            ):
                raise ConfigurationError(f"the header {name!r} cannot be set")
            if not isinstance(value, str) or not value.isascii() or not value.isprintable():
                raise ConfigurationError(f"the value of the header {name} cannot be sent")
        secrets = tuple(
            Secret(value) for name, value in headers.items() if _SECRET_HEADERS.search(name)
        )
        object.__setattr__(self, "headers", MappingProxyType(headers))
        object.__setattr__(self, "_secrets", secrets)  # masked for as long as these exist
        if self.proxy is not None:
            if not isinstance(self.proxy, str):
                raise ConfigurationError("proxy must be a url as a text")
            try:
                object.__setattr__(self, "proxy", _usable_proxy(self.proxy, "given", "no proxy"))
            except TransportError as error:
                raise ConfigurationError(str(error)) from None


class PendingReads:
    """Everything that is awaited from the network.

    Closing aiohttp's sessions does not end all of it: not making a connection, and not
    reading a body, which would then hang for good, its time-out dropped.
    """

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing is waited for any more."""
        return self._closed

    def close(self) -> None:
        """End every wait, now and from now on."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel("the client is closed")

    @contextlib.contextmanager
    def within(self, seconds: float = math.inf) -> Iterator[None]:
        """Hold this while awaiting the network, but never while a caller's code runs.

        Raises:
            ClientClosedError: When the transport is closed, before it or meanwhile.
            TimeoutError: When it takes longer.
        """
        with anyio.CancelScope(deadline=loop_time() + seconds) as scope:
            if not self._closed:
                self._scopes.add(scope)
                try:
                    yield
                finally:
                    self._scopes.discard(scope)
                return
        if not self._closed:
            raise TimeoutError
        raise ClientClosedError("the client was closed during a request")


class _Harmless(aiohttp.TraceConfig):
    """A user's hooks, none of which can fail a request: that may have been paid for."""

    def __init__(self, config: aiohttp.TraceConfig) -> None:
        super().__init__()
        self.trace_config_ctx = config.trace_config_ctx  # type: ignore[method-assign]  # the user's
        for name in dir(config):
            if name.startswith("on_"):
                getattr(self, name).extend(map(_harmless, getattr(config, name)))


def _harmless(hook: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def called(*args: object) -> None:
        try:
            await hook(*args)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this request: something that the hook awaited. A task group would take it for its
            # own cancellation, and a worker of a run would end without an error.
            logger.exception("a hook of trace_configs was cancelled")
        except Exception:
            logger.exception("a hook of trace_configs failed")

    return called


def open_session(
    tls: ssl.SSLContext, *, reuse: bool, trace_configs: Iterable[aiohttp.TraceConfig] = ()
) -> aiohttp.ClientSession:
    """A session without cookies, redirects' headers or anything read from the machine.

    Args:
        tls: Whom to trust.
        reuse: Whether idle connections are kept for further requests.
        trace_configs: Further hooks.
    """
    connector = aiohttp.TCPConnector(limit=0, ssl=tls, force_close=not reuse)
    # Called just before a request's head is written, but not for a CONNECT to a proxy: from
    # here on the API may have had the request, before it surely had not.
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_note_begin)
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": ACCEPTED, "Accept": "*/*"},
        auto_decompress=False,  # `util/encoding.py` does it, within bounds
        trace_configs=[trace, *map(_Harmless, trace_configs)],
        trust_env=False,  # it would read ~/.netrc too; proxies are looked up in `proxy_for`
    )
    if not reuse:
        # aiohttp sends a GET again by itself when the connection drops. Where every request
        # is paid for, none is sent that nobody knows of; there is no public way to say so.
        session._retry_connection = False  # noqa: SLF001
    return session


def hooks_of(settings: ClientSettings) -> list[aiohttp.TraceConfig]:
    """Those of telemetry, which are called first and so in any case, and the user's."""
    hooks = []
    telemetry = settings.telemetry
    if telemetry is not None:
        watching = aiohttp.TraceConfig()
        watching.on_request_start.append(telemetry.on_request_start)
        watching.on_request_end.append(telemetry.on_request_end)
        watching.on_request_exception.append(telemetry.on_request_exception)
        hooks.append(watching)
    if settings.http is not None:
        hooks += settings.http.trace_configs
    return hooks


async def _note_begin(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    context.trace_request_ctx.began = True


def tls_context(settings: ClientSettings) -> ssl.SSLContext:
    """Whom to trust, as given or read; blocks while it reads the certificates.

    Raises:
        ConfigurationError: When they cannot be read.
    """
    bundle = settings.ca_bundle
    if settings.http is not None and settings.http.ssl_context is not None:
        return settings.http.ssl_context
    try:
        if bundle is None:
            return ssl.create_default_context()
        if bundle.is_dir():
            return ssl.create_default_context(capath=str(bundle))
        return ssl.create_default_context(cafile=str(bundle))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"CA bundle {bundle} cannot be read: {error}") from error


def proxy_for(url: str, http: HTTPOptions | None = None) -> str | None:
    """The proxy that is given, or that HTTPS_PROXY and NO_PROXY name for a url; None for none.

    Plain http is only ever spoken to this machine, and a proxy would see the token: it
    never goes through one.

    Raises:
        TransportError: When the variable does not hold a usable url, or one of a SOCKS proxy.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return None
    if http is not None and http.proxy is not None:
        return http.proxy
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    host = parts.netloc.rpartition("@")[2]
    bypass = urllib.request.proxy_bypass_environment(host, proxies)  # type: ignore[attr-defined]  # typeshed lacks it
    if not proxy or bypass:
        return None
    return _usable_proxy(proxy, "in HTTPS_PROXY or ALL_PROXY", f"NO_PROXY={parts.hostname}")


def _usable_proxy(proxy: str, where: str, without: str) -> str:
    """The url of a proxy, whose password is masked from now on.

    Args:
        proxy: As it was given.
        where: By what, for messages.
        without: What to set to do without it.

    Raises:
        TransportError: When it is no url of an HTTP proxy.
    """
    if proxy.casefold().startswith("socks"):
        raise TransportError(
            f"the proxy {where} is a SOCKS proxy, which is not supported: name an HTTP proxy "
            f"there, or set {without} to go without one",
            maybe_sent=False,
        )
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    with contextlib.suppress(ValueError):
        if URL(proxy).scheme in {"http", "https"} and URL(proxy).host and URL(proxy).port:
            _credentials_of(proxy)
            return proxy
    # Not quoted, nor chained: it may hold a password.
    raise TransportError(
        f"the proxy url {where} cannot be read; characters such as / and # in its user name or "
        "password have to be percent-encoded",
        maybe_sent=False,
    )


@functools.lru_cache(maxsize=16)  # which keeps them alive, and so known
def _credentials_of(proxy: str) -> tuple[Secret, ...]:
    """What is secret of a proxy's url, so that it is masked wherever it turns up."""
    url = URL(proxy)
    user, password = url.user or "", url.password or ""
    written = URL(proxy, encoded=True)
    return (
        Secret(password),
        Secret(f"{user}:{password}"),  # as in its header, there in base64
        Secret(f"{written.raw_user or ''}:{written.raw_password or ''}"),
    )


MIN_BYTES_PER_S = 1000  # a fifth of what a telephone modem brings
SILENCES_PER_WINDOW = 2

# A server that always sends just enough to go on would hold a connection for days.
WHOLE_BYTES_PER_S = 50_000  # on average, of the largest body that is taken
WHOLE_AT_LEAST_S = 600.0


def download_s(max_bytes: int) -> float:
    """The longest time that a download of at most `max_bytes` may take."""
    return WHOLE_AT_LEAST_S + max_bytes / WHOLE_BYTES_PER_S


class Patience:
    """How long one answer may still take.

    Only time spent waiting for the network counts: a slow reader is not punished.

    Args:
        silence_s: The longest wait for the next byte.
        total_s: The longest wait for the whole answer, which has to come at `MIN_BYTES_PER_S`.
    """

    def __init__(self, silence_s: float, total_s: float) -> None:
        self._silence_s = silence_s
        self._total_s = total_s
        self._window_s = SILENCES_PER_WINDOW * silence_s
        self._waited_s = 0.0
        self._began_s = 0.0  # the present window, in seconds waited
        self._in_window_bytes = 0

    @property
    def left_s(self) -> float:
        """How long the next piece may be waited for."""
        return max(0.0, min(self._silence_s, self._total_s - self._waited_s))

    def note(self, size_bytes: int, waited_s: float) -> None:
        """Record that a piece has come.

        Args:
            size_bytes: Its size.
            waited_s: How long it was waited for.

        Raises:
            TimeoutError: When too little comes to go on with; it says how little.
        """
        self._waited_s += waited_s
        self._in_window_bytes += size_bytes
        seconds = self._waited_s - self._began_s
        if seconds < self._window_s:
            return
        if self._in_window_bytes < MIN_BYTES_PER_S * seconds:
            raise TimeoutError(f"no more than {self._in_window_bytes} bytes in {seconds:,.1f} s")
        self._began_s, self._in_window_bytes = self._waited_s, 0

    def ended(self) -> TimeoutError:
        """The error where `left_s` have passed without a byte; it says so."""
        if self._total_s - self._waited_s < self._silence_s:
            return TimeoutError(f"it was not whole within {self._total_s:,.1f} s")
        return TimeoutError(f"not a byte came for {self._silence_s:,.1f} s")


FIRST_PAUSE_S = 0.2  # before a question is asked again
LONGEST_PAUSE_S = 30.0  # named by the API, that is waited for


async def repeated(ask: Callable[[], Awaitable[T]], retries: int) -> T:
    """The answer to a question that costs nothing, asked again after what may pass.

    No sooner than the API says; if that is later than in `LONGEST_PAUSE_S`, the error is raised.

    Args:
        ask: Asks once.
        retries: How often it is asked again.
    """
    pause_s = FIRST_PAUSE_S
    for left in range(retries, 0, -1):
        try:
            return await ask()
        except UnexpectedRedirectError:
            raise
        except (TransportError, RateLimitError, ServerError) as error:
            named_s = (error.retry_after_s or 0.0) if isinstance(error, APIStatusError) else 0.0
            if named_s > LONGEST_PAUSE_S:
                raise
            logger.info("asking again (%d times left): %s", left, error)
        jitter = random.uniform(1.0, 1.5)  # noqa: S311 - not all clients at once
        await anyio.sleep(named_s + pause_s * jitter)
        pause_s *= 2
    return await ask()
