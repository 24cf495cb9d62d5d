"""Urls that the API names: joined, compared, and refused where nobody may be sent (pure)."""

from __future__ import annotations

import re
from urllib.parse import unquote, urljoin, urlsplit

from yarl import URL

from pingdata_async.config import is_loopback
from pingdata_async.exceptions import DecodeError
from pingdata_async.refusals import shown_url

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
