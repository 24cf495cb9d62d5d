"""Urls that the API names: joined, compared, and refused where nobody may be sent (pure)."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from yarl import URL

from pingdata_async.config import is_loopback
from pingdata_async.exceptions import DecodeError
from pingdata_async.refusals import shown_url


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


def origin(url: str) -> tuple[str, str | None, int | None]:
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


def _as_given(url: str) -> URL:
    # A signed url must arrive byte for byte: requoting it breaks the signature.
    return URL(url, encoded=url.isascii() and not re.search(r"[\s\"<>]", url))
