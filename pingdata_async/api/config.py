"""Environments, token, urls and settings of a client; loads no HTTP library.

Settings are validated when they are made. Urls that the API names are joined, compared, and
refused where no request may be sent. `Pacer` decides when a request is sent.
"""

from __future__ import annotations

import configparser
import functools
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast
from urllib.parse import unquote, urljoin, urlsplit

from yarl import URL

from pingdata_async.exceptions import ConfigurationError, DecodeError, MissingTokenError
from pingdata_async.models import RequestKind
from pingdata_async.util.encoding import MAX_BODY_BYTES
from pingdata_async.util.redaction import Secret
from pingdata_async.util.text import shown_url
from pingdata_async.util.validation import check_amount, check_count

if TYPE_CHECKING:
    from pingdata_async.api.connections import HTTPOptions
    from pingdata_async.telemetry import CallTelemetry, Telemetry

ENVIRONMENTS: Mapping[str, tuple[str, str]] = {
    # name: (base url, the "space" in names of token variables)
    "prod": ("https://data-api.sovfixer.com", "PRD"),
    "prodeu": ("https://api.eu.pingintel.com", "PRDEU"),
    "staging": ("https://data-api-staging.sovfixer.com", "STG"),
    "dev": ("https://api-dev.pingintel.com", "DEV"),
}
"""Hosts of the published OpenAPI document; where it names none, the vendor client's."""

OTHER_HOSTS: Mapping[str, str] = {
    "prod": "https://api.pingintel.com",
    "staging": "https://api-staging.pingintel.com",
}
"""Hosts that the vendor's own client uses for the same environments."""

Environment = Literal["prod", "prodeu", "staging", "dev", "sandbox"]
"""An API by its name; the sandbox is an imitation that a client starts inside the process."""

SANDBOX: Final = "sandbox"
ENVIRONMENT_NAME: Final = "PINGDATA_ASYNC_ENVIRONMENT"
API_URL_NAME: Final = "PINGDATA_ASYNC_API_URL"

INI_PATH = "~/.pingintel.ini"
INI_SECTION = "pingdata"
TOKEN_NAME = "PING_DATA_AUTH_TOKEN"  # noqa: S105 - the variable's name, not a token
TOKEN_ALIAS = "PINGDATA_AUTH_TOKEN"  # noqa: S105 - the variable's name, not a token


TIMES = ("connect_timeout_s", "submit_timeout_s", "read_timeout_s")
COUNTS = ("max_connections", "max_body_bytes")


def check_numbers(settings: Mapping[str, object]) -> None:
    """Refuse numbers with which a client cannot work.

    Raises:
        ConfigurationError: With the setting's name.
    """
    for name in TIMES:
        check_amount(name, settings[name])
    for name in COUNTS:
        check_count(name, settings[name])


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """How to reach the API.

    Attributes:
        base_url: Scheme, host and perhaps a path, without the trailing slash. Plain http
            is taken only for loopback hosts: the token would be readable on the way.
        token: The auth token.
        environment: The name it goes by, None where only a url was given.
        connect_timeout_s: For a connection to be made, proxy and TLS included.
        submit_timeout_s: Without a byte of the answer to a submission.
        read_timeout_s: Without a byte of any other answer. One that comes at less than 1,000 bytes
            a second for twice that long is given up, too, and a download after three hours (ten
            minutes, and a second for each 50,000 of `max_body_bytes`).
        max_connections: Open at once; more requests wait for one of them, and say so in
            the log.
        max_body_bytes: The largest answer that is taken into memory, decompressed.
        ca_bundle: PEM file or folder of certificates to trust instead of the system's.
        http: How requests travel; None for as usual.
        telemetry: Told of each request; None for nobody.
    """

    base_url: str
    token: Secret
    environment: str | None = None
    connect_timeout_s: float = 15.0
    submit_timeout_s: float = 120.0
    read_timeout_s: float = 60.0
    max_connections: int = 64
    max_body_bytes: int = MAX_BODY_BYTES
    ca_bundle: Path | None = field(default_factory=lambda: find_ca_bundle(os.environ))
    http: HTTPOptions | None = None
    telemetry: Telemetry | None = None

    def __post_init__(self) -> None:
        check_base_url(self.base_url)
        check_numbers({name: getattr(self, name) for name in (*TIMES, *COUNTS)})
        if self.ca_bundle is not None and not os.path.exists(self.ca_bundle):  # noqa: PTH110
            # Path.exists() raises where the folder is somebody else's.
            raise ConfigurationError(
                f"CA bundle {self.ca_bundle} does not exist, or is out of reach"
            )


def telemetry_of(given: Telemetry | bool) -> Telemetry | None:
    """What a client tells of its calls and requests; loads nothing where that is nobody."""
    if given is True:
        from pingdata_async.telemetry import global_telemetry  # noqa: PLC0415 - seldom used

        return global_telemetry()
    return given or None


def watched(telemetry: Telemetry | None, name: str, run_id: str) -> CallTelemetry | None:
    """The telemetry of a call, to be entered and told of its events; None for none."""
    return None if telemetry is None else telemetry.call(name, run_id)


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address means this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(url: str) -> None:
    """Refuse a base url that is not http(s), or would show the token on the way.

    Raises:
        ConfigurationError: With what is wrong and what to give instead.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"API url {url!r} cannot be read: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise ConfigurationError(
            f"API url {url!r} must begin with https:// and name a host, "
            f"for example {ENVIRONMENTS['prod'][0]}"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("an API url must not hold a user name or password")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"API url {url!r} must not have a query or fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"API url {url!r} is plain http, which would show the token to the network; "
            "use https (http is taken only for this machine)"
        )


def resolve_base_url(api_url: str | None, environment: str | None) -> str:
    """The base url for an explicit url, else for a named environment (None means prod).

    Raises:
        ConfigurationError: For an unknown name, an unusable url, or the sandbox with a url.
    """
    if api_url is not None:
        if environment == SANDBOX:
            raise ConfigurationError(
                f"give the environment sandbox or the API url {api_url.strip()}, not both (nor by "
                f"{ENVIRONMENT_NAME} and {API_URL_NAME})"
            )
        url = api_url.strip().rstrip("/")
        check_base_url(url)
        return url
    name = environment or "prod"
    if name == SANDBOX:
        raise ConfigurationError("the sandbox has no url before it is started")
    if name not in ENVIRONMENTS:
        raise ConfigurationError(
            f"unknown environment {name!r}; there are {', '.join([*ENVIRONMENTS, SANDBOX])}"
        )
    return ENVIRONMENTS[name][0]


def find_api(
    environment: Environment | None,
    api_url: str | None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Environment | None, str | None]:
    """Environment and url as they are given, or else as the command's variables name them.

    Args:
        environment: As given; None for not at all.
        api_url: Likewise.
        environ: The environment variables; None means those of the process.
    """
    if environment is not None or api_url is not None:
        return environment, api_url
    environ = os.environ if environ is None else environ
    named = environ.get(ENVIRONMENT_NAME, "").strip().lower() or None
    return cast(Environment | None, named), environ.get(API_URL_NAME, "").strip() or None


def is_published(api_url: str) -> bool:
    """Whether a url is that of the API itself, by one of its published names."""
    urls = [url for url, _ in ENVIRONMENTS.values()] + list(OTHER_HOSTS.values())
    return api_url.strip().rstrip("/") in urls


def find_token(
    explicit: str | None,
    environment: str | None,
    *,
    environ: Mapping[str, str] | None = None,
    ini_path: Path | None = None,
) -> Secret:
    """Look the auth token up where the vendor's own client does, in its order.

    Args:
        explicit: A token given directly; it wins.
        environment: Whose token; None means prod.
        environ: The environment variables; None means those of the process.
        ini_path: The ini file; None means `~/.pingintel.ini`.

    Raises:
        MissingTokenError: With every place that was looked in.
        ConfigurationError: If the ini file cannot be read, or the token cannot be sent.
    """
    environ = os.environ if environ is None else environ
    ini_path = Path(INI_PATH).expanduser() if ini_path is None else ini_path
    space = ENVIRONMENTS.get(environment or "prod", ("", ""))[1]
    names = ([f"{TOKEN_NAME}_{space}"] if space else []) + [TOKEN_NAME, TOKEN_ALIAS]
    if explicit is not None:
        return _checked_token(explicit, "the auth token given")
    for name in names:
        if environ.get(name, "").strip():
            return _checked_token(environ[name], f"the variable {name}")
    section = _read_ini(ini_path)
    for name in names:
        if section.get(name.lower(), "").strip():  # configparser folds the case of keys
            return _checked_token(section[name.lower()], f"{name} in {ini_path}")
    raise MissingTokenError(
        "no auth token was found; the environment sandbox needs none (--environment sandbox). "
        "Looked for: auth_token or --auth-token-file; "
        f"the variables {', '.join(names)}; and in {INI_PATH}, section [{INI_SECTION}], "
        f"the keys {', '.join(names)}"
    )


def _checked_token(text: str, where: str) -> Secret:
    token = text.strip()
    if token.startswith("Token "):
        token = token.removeprefix("Token ").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"{where} is empty or holds characters that no HTTP header can carry"
        )
    return Secret(token)


def _read_ini(path: Path) -> Mapping[str, str]:
    # No interpolation: a "%" in a token is a "%".
    parser = configparser.ConfigParser(interpolation=None)
    try:
        # Opened here: `read()` passes over a file that it may not open.
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
        return dict(parser[INI_SECTION]) if parser.has_section(INI_SECTION) else {}
    except FileNotFoundError:
        return {}
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        # The error's own text may quote the line, and the line may be the token.
        raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}") from None


def find_ca_bundle(environ: Mapping[str, str]) -> Path | None:
    """The certificates named by SSL_CERT_FILE, else REQUESTS_CA_BUNDLE; None for the system's."""
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        if environ.get(name):
            return Path(environ[name])
    return None


Origin = tuple[str, str | None, int | None]
"""Scheme, host and port."""


def joined(base: str, url: str) -> str:
    """An absolute url from one that may be relative.

    Raises:
        DecodeError: When it cannot be read as a url.
    """
    try:
        return urljoin(base, url)
    except ValueError as error:
        raise DecodeError(f"the url {shown_url(url)} cannot be read") from error


def download_url(url: str) -> URL:
    """The url of an output, fit to be asked for.

    Raises:
        DecodeError: When it is neither https nor on this machine.
    """
    try:
        parsed = _as_given(url)
        scheme, host, _ = parsed.scheme, parsed.host, parsed.port  # taken apart only now
    except ValueError as error:
        raise DecodeError(f"the output url {shown_url(url)} cannot be read: {error}") from error
    if host and (scheme == "https" or (scheme == "http" and is_loopback(host))):
        return parsed
    raise DecodeError(
        f"the output url {shown_url(url)} is neither https nor on this machine; not fetched"
    )


def origin(url: str) -> Origin:
    """Scheme, host and port; what cannot be read has an origin of its own."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", None, None)
    return (parts.scheme, parts.hostname, port)


def holds_user(url: str) -> bool:
    """Whether a url names a user, perhaps with a password."""
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:
        return False


def is_output_path(path: str) -> bool:
    """Whether a path of the API's own origin is one of an output, which may be shown the token.

    That is `/api/v1/sov/{id}/output/{filename}` and the like, below any prefix.
    """
    segments = _segments(path)
    if segments is None:
        return False
    at = next((place for place, name in enumerate(segments) if name in _OUTPUT), 0)
    is_charged = any(name.startswith(_CHARGED) for name in segments[:at])
    return 1 < at < len(segments) - 1 and not is_charged


def is_other_endpoint(path: str) -> bool:
    """Whether a path of the API's own origin is, or may become, another one of the API.

    `/api/v1/enhance` is charged for, and no server may lead us there.
    """
    segments = _segments(path)
    return segments is None or ("api" in segments and not is_output_path(path))


_OUTPUT = frozenset({"output", "outputs"})
_CHARGED = "enhance"
_QUOTED_AT_MOST = 3  # times: each proxy on the way may undo one


@functools.lru_cache(maxsize=16)  # of one path, each question about it asks
def _segments(path: str) -> list[str] | None:
    """The parts of a path, as any server may read it; None where they may become another path."""
    for _ in range(_QUOTED_AT_MOST):
        path = unquote(path)
    segments = [name.partition(";")[0].casefold() for name in re.split(r"[/\\]", path)]
    # A "%" may stay that quotes nothing, as in "100%.json". "%u002e" is a dot to some servers.
    is_plain = unquote(path) == path and "%u" not in path.casefold() and path.isprintable()
    return segments if is_plain and not {".", ".."}.intersection(segments) else None


def _as_given(url: str) -> URL:
    # A signed url must arrive byte for byte: requoting it breaks the signature.
    return URL(url, encoded=url.isascii() and not re.search(r"[\s\"<>]", url))


Connection = Callable[[], AbstractAsyncContextManager[None]]
"""Waits for a free connection when entered, and frees it when left."""


class Pacer(Protocol):
    """Decides when each request may be sent.

    One call of a client can send several: a download that is redirected, or whose url has
    expired, asks for each of them anew.
    """

    def sending(
        self, kind: RequestKind, origin: Origin | None, connection: Connection
    ) -> AbstractAsyncContextManager[None]:
        """To be held from before a request is sent until its answer is read.

        It is entered when the request may be sent, with the connection at hand; permission is
        asked for last, as a pause may begin while a connection is waited for. What is raised
        inside is what the request came to.

        Args:
            kind: The kind of the request.
            origin: Where it goes; None for the API itself.
            connection: What it is sent on.
        """
        ...
