"""Settings, validated when made, and where token and host are looked up."""

from __future__ import annotations

import configparser
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pingdata_async.checked_settings import check_amount, check_count
from pingdata_async.exceptions import ConfigurationError, MissingTokenError
from pingdata_async.secrecy import Secret

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

INI_PATH = "~/.pingintel.ini"
INI_SECTION = "pingdata"
TOKEN_NAME = "PING_DATA_AUTH_TOKEN"  # noqa: S105 - the variable's name, not a token
TOKEN_ALIAS = "PINGDATA_AUTH_TOKEN"  # noqa: S105 - the variable's name, not a token


TIMES = ("connect_timeout_s", "submit_timeout_s", "read_timeout_s")
# With all that is made of it, and the process itself, less than 200 MB.
MAX_BODY_BYTES = 64 * 1024 * 1024
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

    def __post_init__(self) -> None:
        check_base_url(self.base_url)
        check_numbers({name: getattr(self, name) for name in (*TIMES, *COUNTS)})
        if self.ca_bundle is not None and not os.path.exists(self.ca_bundle):  # noqa: PTH110
            # Path.exists() raises where the folder is somebody else's.
            raise ConfigurationError(
                f"CA bundle {self.ca_bundle} does not exist, or is out of reach"
            )


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
        ConfigurationError: For an unknown name or an unusable url.
    """
    if api_url is not None:
        url = api_url.strip().rstrip("/")
        check_base_url(url)
        return url
    name = environment or "prod"
    if name == "sandbox":
        raise ConfigurationError(
            'environment "sandbox" is for the command line; in Python start a '
            "pingdata_async.sandbox.SandboxServer and give its url as api_url"
        )
    if name not in ENVIRONMENTS:
        raise ConfigurationError(
            f"unknown environment {name!r}; there are {', '.join(ENVIRONMENTS)}"
        )
    return ENVIRONMENTS[name][0]


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
        explicit: A token given in so many words; wins.
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
        "no auth token was found. Looked for: auth_token or --auth-token-file; "
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
